"""What notebooks read of a results folder, against what the workflow wrote there."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from report_fixtures import FIGURE, TABLE, measure, plan_of

from obc.notebook.coloured_tables import ColouredTable, ColouredVerdicts, background, square
from obc.notebook.read_results import (
    ResultsMissing,
    ap_against_iou,
    figures,
    find_results,
    project_folder,
    read_long,
    read_plan,
    read_table,
    read_verdicts,
    table_paths,
)
from obc.report.figures import style
from obc.report.tables.paper_tables import write, write_long

REFERENCE = Path("results/reference")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Results of one seed of two: a row is measured, one has no AP_S, the third was not run."""
    plan = plan_of(tmp_path, {"table9": TABLE, "figure9": FIGURE}, seeds=[0, 1])
    for seed in (0, 1):
        measure(plan, "table9", 0, {"AP": 41.0 + seed, "AP_S": 9.0}, seed)
    measure(plan, "table9", 1, {"AP": 44.0, "AP_S": None})
    write(plan, list(plan.tables), plan.results / "partial" / "tables", strict=False)
    write_long(plan, plan.results / "partial" / "tables" / "all.csv", strict=False)
    return plan.results


def markdown_tables(path: Path) -> list[dict[tuple[str, ...], list[str]]]:
    """The tables of a Markdown file: by the labels of a row its numbers, without the bold print."""
    tables = []
    text = path.read_text(encoding="utf-8").replace("**", "").replace("\\*", "*")
    for block in text.split("\n\n"):
        if not block.startswith("|"):
            continue
        head, _, *rows = (
            [cell.strip() for cell in line.split("|")[1:-1]] for line in block.strip().splitlines()
        )
        labels = sum(not name.startswith("AP") for name in head)
        tables.append({tuple(row[:labels]): row[labels:] for row in rows})
    return tables


def both(ours: str, papers: str) -> str:
    """`55.9 (45.0, +10.9)`, of what the two tables have; `papers` is `45.0 (+10.9)`."""
    papers = papers.removesuffix(")").replace(" (", ", ").replace("not published", "")
    return f"{ours} ({papers})".strip() if papers else ours


@pytest.mark.parametrize("name", ["table1", "table2", "table3", "table4", "table5", "figure5"])
def test_the_cells_are_those_of_the_tables_that_were_written(name: str) -> None:
    path = table_paths(REFERENCE / "mini")[name]
    cells = ColouredTable(read_table(path)).cells.values.tolist()
    ours, papers = (*markdown_tables(path.with_suffix(".md")), {})[:2]
    assert len(cells) == len({**ours, **papers})
    for row in cells:
        count = next(at for at in range(len(row)) if tuple(row[:at]) in {**ours, **papers})
        labels = tuple(row[:count])
        nothing = [""] * (len(row) - count)
        pairs = zip(ours.get(labels, nothing), papers.get(labels, nothing), strict=True)
        assert row[count:] == [both(*pair) for pair in pairs], labels


def test_a_number_that_is_not_there_says_why(results: Path) -> None:
    table = read_table(table_paths(results)["table9"])
    assert table.text["AP"].tolist() == ["41.5 ± 0.7", "44.0 [some seeds not run]", "not run", ""]
    assert table.text["AP_S"].tolist()[1] == "no such objects, not run"


def test_the_caption_says_the_scale_and_that_nothing_is_comparable(results: Path) -> None:
    caption = read_table(table_paths(results)["table9"]).caption
    assert "SMOKE scale" in caption
    assert "Not comparable with the paper's numbers." in caption


def test_a_complete_table_takes_the_place_of_the_partial_one(results: Path) -> None:
    assert table_paths(results)["table9"].parent == results / "partial/tables"
    (results / "tables").mkdir()
    for kind in ("csv", "md"):
        text = (results / f"partial/tables/table9.{kind}").read_text()
        (results / f"tables/table9.{kind}").write_text(text)
    assert table_paths(results)["table9"].parent == results / "tables"


def test_other_csv_files_are_no_tables(results: Path) -> None:
    (results / "tables").mkdir()
    for kind in ("csv", "md"):
        (results / f"tables/diagnosis.{kind}").write_text("row,error\n0,1.5\n")
    assert set(table_paths(results)) == {"table9", "figure9"}


# --- colours -----------------------------------------------------------------------------------


def test_higher_is_blue_lower_orange_and_the_stronger_the_more_they_differ() -> None:
    assert background(10.0) == background(25.0) == "background-color: #0072B296"
    assert background(-5.0) == "background-color: #E69F004B"
    assert background(float("nan")) == ""
    assert [square(x) for x in (1.0, 0.4, -0.9, -1.0, float("nan"))] == ["🟦", "⬜", "⬜", "🟧", ""]


def test_each_coloured_cell_is_coloured_by_its_own_difference(results: Path) -> None:
    view = ColouredTable(read_table(table_paths(results)["table9"]))
    assert view.table.difference["AP"].tolist()[:2] == [1.5, -1.0]
    assert "#0072B216" in view._repr_html_()  # 1.5 of 10 points: 0.15 * 150 = 22 = 0x16
    assert "#E69F000F" in view._repr_html_()  # 0.1 * 150 = 15
    assert "🟦 41.5 ± 0.7 (40.0, +1.5)" in view._repr_markdown_()
    assert "🟧 44.0" in view._repr_markdown_()


# --- verdicts, figures, the long table ---------------------------------------------------------


def test_every_claim_is_listed_with_its_verdict() -> None:
    verdicts = read_verdicts(REFERENCE / "mini")
    content = json.loads((REFERENCE / "mini/claims.json").read_text())
    page = (REFERENCE / "mini/claims.md").read_text()
    claims = [claim for topic in content["topics"] for claim in topic["claims"]]
    assert verdicts["Verdict"].tolist() == [claim["verdict"] for claim in claims]
    # As claims.md, the page for people, prints the first claim.
    line = next(line for line in page.splitlines() if claims[0]["statement"] in line)
    first = verdicts.iloc[0]
    assert f"| {first['Paper']} " in line
    assert f"| {first['Ours']} " in line
    assert "#E69F00" in ColouredVerdicts(verdicts)._repr_html_()


def test_no_verdicts_are_no_lines(results: Path) -> None:
    assert read_verdicts(results).empty


def test_figures_come_with_their_caption_where_there_is_one(tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    for name in ("a", "b"):
        (tmp_path / f"figures/{name}.svg").write_text("<svg/>")
    (tmp_path / "captions").mkdir()
    (tmp_path / "captions/a.rst").write_text("What a shows.\n")
    found = figures(tmp_path, tmp_path / "captions")
    assert [(figure.name, figure.caption) for figure in found] == [
        ("a", "What a shows."),
        ("b", ""),
    ]
    with style.figure(tmp_path / "figures", "a", "Heading", "Seed 0.") as drawing:
        drawing.add_subplot()
    assert figures(tmp_path, tmp_path / "captions")[0].caption == "What a shows.\n\nSeed 0."


def test_a_figure_is_a_png_only_where_there_is_no_svg(tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    for name in ("both.svg", "both.png", "photographs.png"):
        (tmp_path / "figures" / name).touch()
    found = figures(tmp_path, tmp_path)
    assert [figure.path.name for figure in found] == ["both.svg", "photographs.png"]


def test_ap_against_iou_is_the_long_table_s(results: Path) -> None:
    method = "obc-a3-n20-k1"
    long = pd.DataFrame(
        [
            ("table1", 0, f"voc-faster-r50-{method}-b877ba38", "argmax", seed, metric, value, 9.0)
            for seed, metric, value in [
                (0, "AP50", 60.0), (1, "AP50", 62.0), (0, "AP90", 5.0), (0, "AP", 40.0),
                (0, "AP_S", 1.0),
            ]
        ],
        columns=["table", "row", "run_id", "decode", "seed", "metric", "value", "paper"],
    ).assign(status="ok")  # fmt: skip
    points = ap_against_iou(long, "table1")
    assert points["iou"].tolist() == [0.5, 0.9]
    assert points["ours"].tolist() == [61.0, 5.0]
    assert points["sd"].round(2).tolist()[0] == 1.41
    assert set(points["method"]) == {f"{method}, argmax"}
    assert ap_against_iou(read_long(results), "figure9").empty


# --- nothing there -----------------------------------------------------------------------------


def test_absent_results_say_what_to_run_first(tmp_path: Path) -> None:
    with pytest.raises(ResultsMissing, match="make reproduce SCALE=mini`") as raised:
        find_results("mini-pilot", tmp_path)
    assert raised.value._render_traceback_() == [str(raised.value)]  # a notebook shows only that


def test_absent_results_name_those_that_are_there(results: Path) -> None:
    assert find_results(results.name, results.parent) == results
    with pytest.raises(ResultsMissing, match="Results there are of: smoke"):
        find_results("mini", results.parent)


def test_reference_results_have_no_plan_and_say_so() -> None:
    with pytest.raises(ResultsMissing, match="make reproduce SCALE=mini"):
        read_plan(REFERENCE / "mini")


def test_the_project_is_found_from_a_folder_inside_of_it(tmp_path: Path) -> None:
    assert project_folder(Path("config/scales")) == Path.cwd()
    with pytest.raises(ResultsMissing, match="not inside the project"):
        project_folder(tmp_path)

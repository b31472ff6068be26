"""Rendered tables: the right number in the right cell, bold, words, stamps and escapes."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_fixtures import FIGURE, TABLE, fail, measure, plan_of

from obc.analysis.collect import COLUMNS, IncompleteError, collect
from obc.config.plan import Plan
from obc.report.escape import escape_latex
from obc.report.tables.paper_tables import render, write, write_long


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return plan_of(tmp_path, {"table7": TABLE})


def rendered(plan: Plan, name: str = "table7") -> dict[str, str]:
    return render(plan, plan.tables[name], collect(plan))


def markdown_tables(text: str) -> list[list[list[str]]]:
    """The cells of each table of a page: our numbers first, then the paper's; headers first."""
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    lines = [[re.split(r"(?<!\\)\|", line)[1:-1] for line in one.splitlines()] for one in tables]
    return [[[cell.strip() for cell in line] for line in (one[0], *one[2:])] for one in lines]


def column(plan: Plan, metric: str, which: int) -> list[str]:
    header, *rows = markdown_tables(rendered(plan)["md"])[which]
    return [row[header.index(metric)] for row in rows]


def ours(plan: Plan, metric: str = "AP") -> list[str]:
    return column(plan, metric, 0)


def papers(plan: Plan, metric: str = "AP") -> list[str]:
    return column(plan, metric, 1)


# --- numbers -----------------------------------------------------------------------------------


def test_ours_and_the_papers_are_two_tables_the_difference_beside_the_papers(plan: Plan) -> None:
    measure(plan, "table7", 0, {"AP": 35.26, "AP_S": 10.0})
    measure(plan, "table7", 1, {"AP": 51.0, "AP_S": 9.0})
    assert ours(plan)[:2] == ["35.3", "**51.0**"]
    # 35.26 prints as 35.3, and 35.3 - 40.0 = -4.7.
    assert papers(plan)[:2] == ["40.0 (−4.7)", "45.0 (+6.0)"]


def test_a_method_is_one_row_of_each_table(plan: Plan) -> None:
    of_ours, of_papers = markdown_tables(rendered(plan)["md"])
    names = [row.label for row in plan.tables["table7"].rows]
    assert len(of_papers[1:]) == len(names) == 4
    assert [row[0] for row in of_ours[1:]] == [row[0] for row in of_papers[1:4]]


def test_a_table_of_which_the_paper_prints_nothing_is_ours_alone(tmp_path: Path) -> None:
    without_cited, _ = re.sub(r"paper: .*", "paper: null", TABLE).split("  - label: Known")
    plan = plan_of(tmp_path, {"table7": without_cited})
    text = rendered(plan)["md"]
    assert len(markdown_tables(text)) == 1
    assert "The paper's, in percent" not in text


def test_a_difference_that_rounds_to_nothing_has_no_minus(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {"table7": TABLE.replace("40.0", "40.02")})
    measure(plan, "table7", 0, {"AP": 39.99, "AP_S": 1.0})
    assert papers(plan)[0] == "40.0 (+0.0)"


def test_a_number_that_the_paper_does_not_print_is_called_so(plan: Plan) -> None:
    measure(plan, "table7", 1, {"AP": 1.0, "AP_S": 9.0})
    assert papers(plan, "AP_S")[1] == "not published"


def test_a_row_from_the_literature_is_in_the_papers_table_only(plan: Plan) -> None:
    assert len(ours(plan)) == 3
    assert markdown_tables(rendered(plan)["md"])[1][4] == [
        "Known elsewhere (literature)", "", "", "30.0", "not published",
    ]  # fmt: skip


def test_cells_without_a_number_say_why(plan: Plan) -> None:
    fail(plan, "table7", 1)
    measure(plan, "table7", 0, {"AP": 1.0, "AP_S": None})
    assert ours(plan)[1:3] == ["failed", "not run"]
    assert ours(plan, "AP_S")[0] == "no such objects"


def test_several_seeds_are_mean_and_deviation(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {"table7": TABLE}, seeds=[0, 1])
    measure(plan, "table7", 0, {"AP": 41.0, "AP_S": 1.0}, seed=0)
    measure(plan, "table7", 0, {"AP": 43.0, "AP_S": 1.0}, seed=1)
    # Mean 42; sqrt(((-1)^2 + 1^2) / (2 - 1)) = 1.414.
    assert ours(plan)[0] == "42.0 ± 1.4"
    assert papers(plan)[0] == "40.0 (+2.0)"


def test_an_incomplete_mean_says_how_many_seeds_it_has_and_why(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {"table7": TABLE}, seeds=[0, 1, 2])
    measure(plan, "table7", 0, {"AP": 41.0, "AP_S": 1.0}, seed=0)
    measure(plan, "table7", 0, {"AP": 43.0, "AP_S": 1.0}, seed=1)
    fail(plan, "table7", 0, seed=2)
    assert ours(plan)[0] == "42.0 ± 1.4 [2 of 3 seeds, failed]"


def test_a_single_seed_of_several_has_no_deviation(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {"table7": TABLE}, seeds=[0, 1])
    measure(plan, "table7", 0, {"AP": 41.0, "AP_S": 1.0}, seed=1)
    assert ours(plan)[0] == "41.0 [1 of 2 seeds, not run]"


# --- bold --------------------------------------------------------------------------------------


def test_bold_are_our_best_and_the_papers_best_of_a_block(plan: Plan) -> None:
    for row, value in enumerate((48.0, 46.0, 47.0)):
        measure(plan, "table7", row, {"AP": value, "AP_S": 1.0})
    assert ours(plan) == ["**48.0**", "46.0", "47.0"]
    assert papers(plan)[:3] == ["40.0 (+8.0)", "45.0 (+1.0)", "**47.5** (−0.5)"]


def test_blocks_do_not_compete(tmp_path: Path) -> None:
    blocks = TABLE.replace("box: {loss: l2}", "box: {loss: l2}\n    block: first")
    blocks = blocks.replace("beta: 1.0}\n", "beta: 1.0}\n    block: first\n")
    plan = plan_of(tmp_path, {"table7": blocks})
    for row, value in enumerate((48.0, 46.0, 90.0)):
        measure(plan, "table7", row, {"AP": value, "AP_S": 1.0})
    # The third row is alone in its block: nothing to be better than.
    assert ours(plan) == ["**48.0**", "46.0", "90.0"]
    assert papers(plan)[:3] == ["40.0 (+8.0)", "**45.0** (+1.0)", "47.5 (+42.5)"]


def test_what_prints_as_equal_is_bold_together(plan: Plan) -> None:
    for row, value in enumerate((48.04, 47.96, 47.0)):
        measure(plan, "table7", row, {"AP": value, "AP_S": 1.0})
    assert ours(plan) == ["**48.0**", "**48.0**", "47.0"]


def test_an_incomplete_mean_does_not_compete(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {"table7": TABLE}, seeds=[0, 1])
    measure(plan, "table7", 0, {"AP": 99.0, "AP_S": 1.0}, seed=0)
    for row, value in ((1, 40.0), (2, 41.0)):
        for seed in (0, 1):
            measure(plan, "table7", row, {"AP": value, "AP_S": 1.0}, seed)
    found = ours(plan)
    assert found[0].startswith("99.0 [1 of 2") and found[2].startswith("**41.0 ± 0.0**")


# Rows, from the paper's print of Tables 1 and 3.
PAPER_BOLD = {
    "table1": {"AP": [4], "AP50": [0], "AP60": [0], "AP70": [4], "AP80": [4], "AP90": [4]},
    "table3": {"AP": [1], "AP50": [0], "AP60": [0], "AP70": [1], "AP80": [1], "AP90": [1]},
}


@pytest.mark.parametrize("name", PAPER_BOLD)
def test_the_papers_numbers_are_bold_where_the_paper_prints_them_bold(
    tmp_path: Path, name: str
) -> None:
    plan = plan_of(
        tmp_path, {name: Path(f"config/experiments/{name}.yaml").read_text(encoding="utf-8")}
    )
    _, (header, *rows) = markdown_tables(rendered(plan, name)["md"])
    bold = {
        metric: [index for index, row in enumerate(rows) if "**" in row[header.index(metric)]]
        for metric in plan.tables[name].metrics
    }
    assert bold == PAPER_BOLD[name]


# --- stamps ------------------------------------------------------------------------------------


@pytest.mark.parametrize("extension", ["md", "tex"])
def test_a_caption_stamps_scale_data_protocol_and_seed(plan: Plan, extension: str) -> None:
    text = rendered(plan)[extension]
    # LaTeX numbers tables itself.
    number = {
        "md": "Table 7. Losses (section 4.1).",
        "tex": "Losses (section 4.1). Ours, and below",
    }
    for stamp in (
        number[extension],
        "SMOKE scale: Does the plumbing work?",
        "Not comparable with the paper's numbers.",
        "Data: embedded shapes in VOC layout, 48 training and 16 validation images",
        "Protocol: modern. Seed: 0.",
    ):
        assert stamp in text


def test_the_paper_scale_on_published_data_is_comparable(tmp_path: Path) -> None:
    text = rendered(plan_of(tmp_path, {"table7": TABLE}, scale="paper", seeds=[1, 2]))["md"]
    assert "Not comparable" not in text
    assert "Paper scale. Data: PASCAL VOC, trained on VOC2007/trainval + VOC2012/trainval" in text
    assert "Protocol: paper_v1. Seeds: 1, 2." in text


def test_the_paper_scale_on_other_data_is_not_comparable(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {"table7": TABLE}, scale="paper")
    own = plan.scale.data["voc"].model_copy(update={"expected_train_images": None})
    scale = plan.scale.model_copy(update={"data": {**plan.scale.data, "voc": own}})
    identities = {**plan.identities, "voc": {"kind": "voc", "fingerprint": "0123456789abcdef"}}
    text = rendered(plan.model_copy(update={"scale": scale, "identities": identities}))["md"]
    assert "Not comparable with the paper's numbers." in text
    assert "own folder data/VOCdevkit in VOC layout" in text


def test_published_data_without_counts_are_no_own_folder(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {"table1": TABLE}, scale="photos")
    text = rendered(plan, "table1")["md"]
    assert "Data: PASCAL VOC, trained on VOC2007/trainval, evaluated on VOC2007/test" in text


def test_a_coco_table_says_that_the_paper_used_test_dev(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {"table7": TABLE.replace("voc", "coco")}, scale="paper")
    assert "The paper reports test-dev" in rendered(plan)["md"]
    assert "we evaluate on val2017." in rendered(plan)["md"]


def test_the_notes_of_the_plan_are_footnotes(plan: Plan) -> None:
    noted = plan.model_copy(update={"notes": ("left out: table5",)})
    assert "- Left out: table5." in rendered(noted)["md"]
    assert "Left out: table5." in rendered(noted)["tex"]


# --- the formats -------------------------------------------------------------------------------


def test_csv_has_a_column_per_number_and_says_where_there_is_none(plan: Plan) -> None:
    measure(plan, "table7", 0, {"AP": 35.26, "AP_S": None})
    text = rendered(plan)["csv"]
    table = pd.read_csv(io.StringIO(text), na_values="n/a", keep_default_na=False)
    assert table["AP_missing"].tolist() == ["", "not run", "not run", ""]
    assert table["AP_S_missing"].tolist() == ["no such objects", "not run", "not run", ""]
    first, second, last = (table.iloc[row] for row in (0, 1, 3))
    assert (first["AP"], first["AP_paper"]) == (35.26, 40.0)
    assert first["AP_diff"] == pytest.approx(-4.74)
    assert (first["decode"], first["seeds"], first["scale"]) == ("regression", 0, "smoke")
    assert first["status"] == "ok, undefined (AP_S)"
    assert first["run_id"] == plan.run_of(plan.tables["table7"].rows[0]).run_id
    assert second["status"] == "not run" and pd.isna(second["AP"])
    assert last["status"] == "cited" and last["AP_paper"] == 30.0
    assert text.splitlines()[2].split(",")[4:8] == ["n/a", "n/a", "45", "n/a"]


def test_label_columns_are_the_union_over_the_rows(plan: Plan) -> None:
    _, (_, *rows) = markdown_tables(rendered(plan)["md"])
    assert [row[1:3] for row in rows] == [["ResNet_50 & co", ""], ["", ""], ["", "✓"], ["", ""]]


def test_markdown_escapes_what_would_break_a_cell(plan: Plan) -> None:
    (_, *rows), _ = markdown_tables(rendered(plan)["md"])
    labels = [row[0] for row in rows]
    assert labels[:2] == [r"L2 \| squared", r"Smooth L1 (β = 1.0)\*"]


def test_latex_escapes_text_and_symbols(plan: Plan) -> None:
    for row in range(3):
        measure(plan, "table7", row, {"AP": 35.0, "AP_S": 1.0})
    text = rendered(plan)["tex"]
    assert r"Smooth L1 ($\beta$" in text
    assert r"ResNet\_50 \& co" in text
    assert r"L2 $|$ squared" in text
    assert r"$\surd$" in text and r"AP$_{S}$" in text
    assert text.isascii()


def latex_bodies(text: str) -> list[list[str]]:
    """The lines of each body, between its header and its end."""
    return [
        found.strip().splitlines()
        for found in re.findall(
            r"\\toprule\n[^\n]*\\\\\n\\midrule\n(.*?)\\bottomrule", text, re.DOTALL
        )
    ]


def test_a_method_is_one_line_of_latex(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {"table7": TABLE}, seeds=[0, 1])
    for row in range(3):
        measure(plan, "table7", row, {"AP": 35.0, "AP_S": 1.0}, seed=0)
    measure(plan, "table7", 1, {"AP": 36.0, "AP_S": 2.0}, seed=1)
    of_ours, of_papers = latex_bodies(rendered(plan)["tex"])
    some = "[1 of 2 seeds, not run]"
    assert of_ours == [
        rf"L2 $|$ squared & ResNet\_50 \& co &  & 35.0 {some} & 1.0 {some} \\",
        r"Smooth L1 ($\beta$ = 1.0)* &  &  & 35.5 $\pm$ 0.7 & 1.5 $\pm$ 0.7 \\",
        rf"Bins &  & $\surd$ & 35.0 {some} & 1.0 {some} \\",
    ]
    assert (
        of_papers[0] == r"L2 $|$ squared & ResNet\_50 \& co &  & 40.0 ($-$5.0) & 10.0 ($-$9.0) \\"
    )
    assert of_papers[2].endswith(r"& \textbf{47.5} ($-$12.5) & \textbf{12.0} ($-$11.0) \\")
    assert of_papers[3] == (
        r"\midrule Known elsewhere (literature) &  &  & 30.0 & not published \\"
    )


# Of LaTeX packages, the commands that the tables could use.
PACKAGES = {
    "booktabs": {r"\toprule", r"\midrule", r"\bottomrule", r"\cmidrule", r"\addlinespace"},
    "graphicx": {r"\resizebox", r"\scalebox", r"\includegraphics", r"\rotatebox"},
    "multirow": {r"\multirow"},
    "makecell": {r"\makecell", r"\thead"},
    "amssymb": {r"\checkmark"},
    "xcolor": {r"\textcolor", r"\rowcolor", r"\definecolor"},
    "threeparttable": {r"\tnote"},
    "array": {r"\newcolumntype"},
}


@pytest.mark.parametrize("name", ["table7", "figure5"])
def test_latex_says_which_packages_it_needs_and_what_for(tmp_path: Path, name: str) -> None:
    plan = plan_of(tmp_path, {"table7": TABLE, "figure5": FIGURE})
    text = rendered(plan, name)["tex"]
    comment = [line for line in text.splitlines() if line.startswith("%")]
    body = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    commands = set(re.findall(r"\\[a-z]+", body))
    used = {package: commands & its for package, its in PACKAGES.items() if commands & its}
    said = {
        found[1]: set(re.findall(r"\\[a-z]+", found[2]))
        for line in comment
        if (found := re.fullmatch(r"% \\usepackage\{(\w+)\} % (.*)", line))
    }
    assert said == used
    assert text.startswith("% Needs in the preamble:\n")


def test_latex_has_a_rule_between_blocks_and_balanced_environments(plan: Plan) -> None:
    text = rendered(plan)["tex"]
    assert r"\midrule Known" in text
    assert text.count(r"\begin{") == text.count(r"\end{")
    # Two label columns beside Method and two metrics: four separators a line.
    assert {line.count(" & ") for body in latex_bodies(text) for line in body} == {4}


@given(st.text(alphabet="ab&%$#_{}~^\\<>|β×±✓", max_size=20))
def test_latex_escape_leaves_no_special_character_bare(text: str) -> None:
    escaped = escape_latex(text)
    commands = r"\\text(backslash|asciitilde|asciicircum)\{\}|\$\\?[a-z<>|]+\$|\\[&%$#_{}]"
    assert re.fullmatch(r"[ab]*", re.sub(commands, "", escaped))


# --- files -------------------------------------------------------------------------------------


def test_write_leaves_three_files_a_table_and_nothing_else(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {"table7": TABLE, "figure5": FIGURE})
    write(plan, ["table7", "figure5"], tmp_path / "out", strict=False)
    names = {"csv", "md", "tex"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"{table}.{name}" for table in ("table7", "figure5") for name in names
    }


def test_strict_writes_nothing_and_names_the_log_of_what_failed(plan: Plan, tmp_path: Path) -> None:
    log = fail(plan, "table7", 0)
    with pytest.raises(IncompleteError, match=re.escape(f"log: {log}")):
        write(plan, ["table7"], tmp_path / "out", strict=True)
    assert not (tmp_path / "out").exists()


def test_strict_asks_only_for_the_named_tables(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {"table7": TABLE, "figure5": FIGURE})
    for row in range(3):
        measure(plan, "table7", row, {"AP": 35.0, "AP_S": 1.0})
    write(plan, ["table7"], tmp_path / "out", strict=True)
    with pytest.raises(IncompleteError):
        write_long(plan, tmp_path / "out" / "all.csv", strict=True)


def test_the_long_file_has_every_table_and_the_documented_columns(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {"table7": TABLE, "figure5": FIGURE})
    write_long(plan, tmp_path / "all.csv", strict=False)
    long = pd.read_csv(tmp_path / "all.csv")
    assert tuple(long.columns) == COLUMNS
    assert set(long["table"]) == {"table7", "figure5"}
    assert set(long["status"]) == {"not run", "cited"}

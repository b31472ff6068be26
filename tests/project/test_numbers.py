"""Numbers of the pages: each is found in the page and compared with what it was taken from.

The pages' sentences may be worded in any way. A test looks for numbers, commands and names only.
"""

from __future__ import annotations

import csv
import math
import re
import statistics
from functools import cache

import pytest
import torch
import yaml
from conftest import PROJECT

from obc.bins import OffsetBins
from obc.cli.main import main
from obc.config.load_plan import load_plan
from obc.operations.costs import DEVICES

DOCS = PROJECT / "docs"
REFERENCE = PROJECT / "results/reference"
NOTES = "docs/reproduction-notes.md"
SCALES = sorted(path.stem for path in (PROJECT / "config/scales").glob("*.yaml"))


@cache
def page(path: str) -> str:
    return (PROJECT / path).read_text(encoding="utf-8")


def section(path: str, heading: str) -> str:
    """What stands below one heading, up to the next of the same rank."""
    return page(path).split(f"\n## {heading}\n")[1].split("\n## ")[0]


def table_rows(text: str, header: str | None = None) -> list[list[str]]:
    """Cells of the rows of the table whose header contains a text, without bold."""
    lines = text.replace("**", "").splitlines()
    start = next(
        i for i, line in enumerate(lines) if line.startswith("|") and (header or "|") in line
    )
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return rows


def measured(results: str, table: str = "table1") -> list[dict[str, str]]:
    with (REFERENCE / results / f"tables/{table}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def values(cell: str) -> list[float]:
    """The numbers of `55.9 ± 0.2 / 84.5`, without standard deviations."""
    return [float(part.split("±")[0]) for part in cell.split("/")]


def written(row: dict[str, str], metrics: tuple[str, ...], column: str = "{}") -> list[float]:
    return [round(float(row[column.format(metric)]), 1) for metric in metrics]


def assert_shown_beside_the_paper(shown: list[list[str]], rows: list[dict[str, str]]) -> None:
    """Each row shown has in its second cell our numbers and in its third the paper's."""
    metrics = ("AP", "AP50", "AP80", "AP90")
    assert len(shown) == len(rows)
    for cells, row in zip(shown, rows, strict=True):
        assert values(cells[1]) == written(row, metrics)
        assert values(cells[2]) == written(row, metrics, "{}_paper")


# --- what the reference results say -------------------------------------------------------------


def test_the_notes_have_the_numbers_of_the_photographs_and_the_papers() -> None:
    shown = table_rows(section(NOTES, "On photographs"), "photographs")
    rows = measured("photos-voc2012-animals")
    assert_shown_beside_the_paper(shown, rows)


def test_the_notes_have_the_numbers_of_tables_1_to_3_once_more() -> None:
    heading = "Tables 1-3 once more, five seeds of every row"
    shown = table_rows(section(NOTES, heading), "once more")
    tables = [measured("mini-tables-1-3", f"table{number}") for number in (1, 2, 3)]
    rows = [*tables[0], *(tables[1][i] for i in (0, 2, 3)), tables[2][2]]
    assert_shown_beside_the_paper(shown, rows)


def test_the_notes_have_the_other_rows_of_tables_2_and_3_on_photographs() -> None:
    shown = table_rows(section(NOTES, "On photographs"), "here, one seed")
    tables = (measured("photos-voc2012-animals", name) for name in ("table2", "table3"))
    rows = [row for table in tables for row in table if row["AP_sd"] == "n/a"]
    assert_shown_beside_the_paper(shown, rows)


def test_the_notes_have_the_numbers_of_fewer_photographs() -> None:
    shown = table_rows(section(NOTES, "On photographs"), "training images")
    metrics = ("AP", "AP80", "AP90")
    for cells, percent in zip(shown, (25, 50), strict=False):
        table = measured(f"photos-amount-{percent}/partial")
        regression, full = table[0], table[4]
        assert f"({percent} %)" in cells[0]
        assert values(cells[1]) == written(regression, metrics)
        assert values(cells[2]) == written(full, metrics)
        gains = [float(full[metric]) - float(regression[metric]) for metric in metrics]
        assert values(cells[3]) == [round(gain, 1) for gain in gains]


def test_the_notes_have_the_numbers_of_the_second_stage_and_the_papers() -> None:
    shown = {
        row[0]: row
        for row in table_rows(
            section(NOTES, "The second stage: which reading, and what it gives"),
            "test scenes | paper",
        )
    }
    table1 = measured("second-stage/partial")
    rows = {
        "regression (smooth L1)": table1[0],
        "K = 1, argmax": table1[1],
        "K = 1, expectation": table1[2],
        "K = 2, argmax": table1[3],
        "K = 2, expectation": table1[4],
        "K = 3, expectation": measured("second-stage/partial", "table3")[2],
    }
    metrics = ("AP", "AP50", "AP80", "AP90")
    for label, row in rows.items():
        assert values(shown[label][2]) == written(row, metrics), label
        assert values(shown[label][3]) == written(row, metrics, "{}_paper"), label


def test_the_examples_have_the_reference_s_numbers_and_the_papers() -> None:
    text = page("examples/README.md")
    ours = [
        [
            f"{float(row[m]):.1f} ± {float(row[f'{m}_sd']):.1f}"
            for m in ("AP", "AP50", "AP80", "AP90")
        ]
        for row in (measured("mini")[i] for i in (0, 2, 4))
    ]
    assert [row[1:] for row in table_rows(text, "| method |")] == ours
    table5 = yaml.safe_load(page("config/experiments/table5.yaml"))["rows"]
    published = [
        [row["paper"][0] for row in table5 if (row.get("detector"), row.get("backbone")) == spec]
        for spec in (("faster_rcnn", "r50"), ("cascade_rcnn", "r50"))
    ]
    shown = table_rows(text, "with OBC")
    assert [[float(cell) for cell in row[2:]] for row in shown] == published


def test_the_baseline_of_quick_is_the_mean_of_its_seeds() -> None:
    ((*seeds, mean),) = (
        [float(cell) for cell in row[1:]]
        for row in table_rows(section(NOTES, "How quick's length was chosen"), "seed 0")
    )
    assert round(statistics.fmean(seeds), 1) == mean


# --- what `obc plan` says -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def planned() -> dict[tuple[str, ...], str]:
    """What commands printed, so that none is planned twice."""
    return {}


def plan_line(
    capsys: pytest.CaptureFixture[str], planned: dict[tuple[str, ...], str], name: str, *words: str
) -> list[str]:
    """Cells of the line of one table in what `obc plan` prints."""
    if words not in planned:
        assert main(["plan", *words]) == 0
        planned[words] = capsys.readouterr().out
    (line,) = re.findall(rf"^{name} .*$", planned[words], re.MULTILINE)
    return re.split(r"\s{2,}", line)


def test_the_hours_of_each_gpu_are_those_of_obc_plan(
    capsys: pytest.CaptureFixture[str], planned: dict[tuple[str, ...], str]
) -> None:
    rows = table_rows(page("docs/gpu-quickstart.md"), "| GPU |")
    assert {row[0].strip("`") for row in rows} == DEVICES.keys() - {"cpu"}
    for name, table1, everything in rows:
        words = ("--scale", "paper", "--gpu", name.strip("`"))
        assert table1 == plan_line(capsys, planned, "table1", *words)[5], name
        assert everything == plan_line(capsys, planned, "together", *words)[4], name


def test_the_quick_start_on_a_gpu_names_the_room_that_obc_plan_and_obc_fetch_name(
    capsys: pytest.CaptureFixture[str], planned: dict[tuple[str, ...], str]
) -> None:
    text = page("docs/gpu-quickstart.md")
    words = ("--scale", "paper", "--table", "1", "--gpu", "h100")
    assert plan_line(capsys, planned, "table1", *words)[-1] in text
    assert re.search(r"up to ([\d.]+ GB) of checkpoints", planned[words])[1] in text
    catalogue = yaml.safe_load(page("config/datasets.yaml"))
    names = re.search(r"^obc fetch ([\w ]+?) +#", text, re.MULTILINE)[1].split()
    size = sum(file["bytes"] for name in names for file in catalogue[name]["files"])
    assert f"{size / 1e9:.1f} GB" in text


def test_the_page_about_scales_has_the_hours_of_obc_plan(
    capsys: pytest.CaptureFixture[str], planned: dict[tuple[str, ...], str]
) -> None:
    rows = {row[1].split("`")[1]: row for row in table_rows(page("docs/scales.md"), "| I ask |")}
    assert sorted(rows) == SCALES
    gpu = ("--scale", "paper", "--gpu", "h100")
    for name, cell in (("together", 4), ("table1", 5)):
        assert plan_line(capsys, planned, name, *gpu)[cell] in rows["paper"][3]


def test_the_time_of_mini_is_from_the_shortest_to_the_longest_that_was_measured() -> None:
    timed = section("docs/performance.md", "Scale mini with 14 epochs")
    (row,) = re.findall(r"^\| scale mini as a whole \|.*$", timed, re.MULTILINE)
    times = [int(m) + int(s) / 60 for m, s in re.findall(r"(\d+):(\d\d) min", row)]
    assert len(times) == 2
    for path in ("docs/scales.md", "docs/quickstart.md", "README.md"):
        assert f"{round(min(times))} to {round(max(times))} min" in page(path), path


def test_the_table_shown_of_obc_plan_is_what_it_prints(
    capsys: pytest.CaptureFixture[str], planned: dict[tuple[str, ...], str]
) -> None:
    shown = re.findall(r"^(table1|table3|together) (.*)$", page("docs/operations.md"), re.MULTILINE)
    words = ("--scale", "paper", "--table", "1", "3", "--gpu", "h100")
    for name, cells in shown:
        assert cells.split() == " ".join(plan_line(capsys, planned, name, *words)[1:]).split()
    assert len(shown) == 3


def test_evaluations_and_trainings_of_the_papers_tables_are_as_many_as_the_plan_has() -> None:
    plan = load_plan({"scale": "paper"})
    both = {
        (one.run.run_id, one.decode) for name in plan.paper_tables for one in plan.evaluations(name)
    }
    shown = re.findall(r"(\d+) evaluations of (\d+) trainings", page("docs/workflow.md"))
    assert shown == [(str(len(both)), str(len(plan.paper_runs)))]


def test_run_ids_of_the_pages_are_of_a_plan() -> None:
    plans = [load_plan({"scale": scale}) for scale in SCALES]
    known = {run_id for plan in plans for run_id in (*plan.runs, *plan.trainings)}
    pages = [path for path in DOCS.glob("*.md") if path.name != "tables-notebook.md"]
    named = {
        run_id
        for path in pages
        for run_id in re.findall(r"\b(?:voc|coco|init)-[a-z0-9-]+-[0-9a-f]{8}\b", path.read_text())
    }
    assert named and named <= known


# --- times, scales, words -----------------------------------------------------------------------


def test_the_time_of_quick_is_the_one_that_was_measured() -> None:
    times = section("docs/performance.md", "The first minutes").split("set-up")[1]
    minutes = [int(m) + int(s) / 60 for m, s in re.findall(r"(\d+):(\d\d)", times)[1:3]]
    said = f"{math.floor(min(minutes))} to {math.ceil(max(minutes))} minutes"
    for path in ("docs/scales.md", "docs/quickstart.md", "README.md"):
        assert said in page(path), path


def test_the_small_scales_differ_as_the_page_says() -> None:
    quick, mini = (yaml.safe_load(page(f"config/scales/{name}.yaml")) for name in ("quick", "mini"))
    shown = {row[0]: row[1:] for row in table_rows(page("docs/scales.md"), "| `quick` | `mini` |")}
    images = [
        f"{one['schedule']['epochs']} x {one['data']['voc']['train_images']}"
        for one in (quick, mini)
    ]
    assert shown["training images a run on the VOC stand-in"] == images
    validation = [str(one["data"]["voc"]["val_images"]) for one in (quick, mini)]
    assert shown["test images of the VOC stand-in"] == validation
    same = ("networks", "sizes", "initialisation", "own_data")
    assert all(quick[key] == mini[key] for key in same)
    assert quick["data"]["voc"]["seed"] == mini["data"]["voc"]["seed"]
    assert (quick["judges"], mini.get("judges", True)) == ("direction", True)
    assert (quick["seeds"], mini["seeds"]["table1"]) == ({"default": [0]}, [0, 1])


def test_the_glossary_has_the_bins_that_the_code_makes() -> None:
    glossary = page("docs/glossary.md")
    bins = OffsetBins(max_offset=3.0, num_bins=20, num_stages=2)
    shown = {row[0]: row[1] for row in table_rows(glossary.split("## Of the paper")[1])}
    assert f"{2 * bins.max_offset / bins.num_inner:.1f} wide" in shown["n"]
    assert f"{bins.num_logits} logits" in shown["overflow bin"]
    assert torch.isclose(bins.ranges[1], torch.tensor(0.15)) and "0.15" in shown["stage, K"]


def test_the_glossary_explains_every_word_of_the_architecture() -> None:
    words = [row[0] for row in table_rows(section("docs/architecture.md", "The words"))]
    explained = {
        term.strip()
        for row in table_rows(page("docs/glossary.md").split("## Of this project")[1])
        for term in row[0].split(",")
    }
    assert len(words) == 12 and not [word for word in words if word not in explained]

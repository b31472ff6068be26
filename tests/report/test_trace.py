"""Every number leads back to its metrics file and its training; a number that does not is found."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from report_fixtures import FIGURE, TABLE, fail, measure, plan_of, run_folder, trained

from obc.cli.main import main
from obc.config.plan import Plan
from obc.io.files import file_sha256
from obc.io.typed_yaml import ConfigError
from obc.report.provenance import measurements as provenance
from obc.report.provenance.measurements import Provenance, trace_back
from obc.report.provenance.trace import NumberMismatch, compare, find_row, trace
from obc.report.tables import paper_tables as tables

TWINS = """
title: Twins
section: "4.1"
dataset: voc
metrics: [AP, AP90]
common: {detector: faster_rcnn, backbone: r50}
rows:
  - {label: Bins, key: plain, box: {loss: offset_bin}, decode: argmax}
  - {label: Bins, key: expected, columns: {Expectation: "✓"}, box: {loss: offset_bin}}
  - {label: Losses, columns: {Loss: l2}, box: {loss: l2}}
  - {label: Losses, columns: {Loss: smooth}, box: {loss: smooth_l1}}
"""


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """Two seeds; a table with a failed run, an undefined number and a citation; a figure."""
    plan = plan_of(
        tmp_path_factory.mktemp("trace"), {"table7": TABLE, "figure9": FIGURE}, seeds=[0, 1]
    )
    for seed in (0, 1):
        measure(plan, "table7", 0, {"AP": 30.123456789 + seed, "AP_S": None}, seed)
        measure(plan, "table7", 2, {"AP": 50.0 + seed, "AP_S": 7.5}, seed)
        measure(plan, "figure9", 1, {"AP": 40.0 + seed, "AP_S": 7.5}, seed)
    fail(plan, "table7", 1)
    tables.write(plan, plan.tables, plan.results / "tables", strict=False)
    provenance.write(plan, plan.results / "provenance.json")
    return plan


@contextmanager
def spoilt(path: Path) -> Iterator[None]:
    """Leave a file afterwards as it was."""
    before = path.read_bytes()
    yield
    path.write_bytes(before)


def written(plan: Plan) -> Provenance:
    return Provenance.model_validate_json((plan.results / "provenance.json").read_text())


# --- every number ------------------------------------------------------------------------------


def test_every_number_of_every_table_is_the_mean_of_what_its_metrics_files_say(plan: Plan) -> None:
    found, walked = written(plan), 0
    for name, table in plan.tables.items():
        with (plan.results / "tables" / f"{name}.csv").open(newline="") as file:
            lines = list(csv.DictReader(file))
        for index, line in enumerate(lines):
            for metric in table.metrics:
                sources = [
                    m for m in found.measurements
                    if (m.table, m.row, m.metric) == (name, index, metric) and m.value is not None
                ]  # fmt: skip
                if line[metric] == "n/a":
                    assert sources == []
                    continue
                values = [
                    json.loads(Path(m.metrics_file).read_text(encoding="utf-8"))["metrics"][metric]
                    for m in sources
                ]
                assert [m.value for m in sources] == values
                assert float(line[metric]) == pytest.approx(sum(values) / len(values), rel=1e-9)
                walked += 1
    # Rows 0 and 2 of the table: AP, AP, AP_S; in the figure the run of row 2, and that of row 1.
    assert walked == 3 + 2


def test_a_metrics_file_is_named_with_its_hash(plan: Plan) -> None:
    for measurement in written(plan).measurements:
        if measurement.metrics_file is not None:
            path = Path(measurement.metrics_file)
            assert measurement.metrics_sha256 == file_sha256(path)
            assert path.parent == plan.run_folder(measurement.run_id, measurement.seed).path


def test_a_number_that_is_not_there_has_its_reason(plan: Plan) -> None:
    states = {(m.row, m.metric, m.seed): m.status for m in written(plan).measurements
              if m.table == "table7" and m.value is None}  # fmt: skip
    assert states[0, "AP_S", 0] == "undefined"
    assert (states[1, "AP", 0], states[1, "AP", 1]) == ("failed", "not run")
    assert states[3, "AP", None] == "cited"


def test_the_comparison_counts_numbers_that_agree(plan: Plan) -> None:
    assert compare(plan) == {"table7": 3, "figure9": 2}


def test_a_number_edited_in_a_table_is_found(plan: Plan) -> None:
    path = plan.results / "tables/table7.csv"
    with spoilt(path):
        path.write_text(path.read_text().replace("50.5", "51.5"))
        with pytest.raises(
            NumberMismatch, match=r"Bins .*, AP is 51\.5, its metrics files say 50\.5"
        ):
            compare(plan)


def test_metrics_that_changed_behind_a_table_are_found(plan: Plan) -> None:
    with spoilt(run_folder(plan, "table7", 2) / "metrics.expectation.json"):
        measure(plan, "table7", 2, {"AP": 60.0, "AP_S": 7.5})
        with pytest.raises(NumberMismatch, match=r"provenance\.json.*has changed since"):
            compare(plan)


# --- every run ---------------------------------------------------------------------------------


def test_a_run_says_what_it_was_made_with_and_what_is_not_known(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {"table7": TABLE})
    trained(
        plan, "table7", 0, seconds=12.5, packages={"torch": "2"}, log="x",
        code={"commit": "c0ffee", "clean": False, "training_code": "old"},
    )  # fmt: skip
    folder = run_folder(plan, "table7", 0)
    (folder / "train.benchmark.tsv").write_text("s\tmax_rss\n13.1\t600.5\n")
    run = trace_back(plan).run(folder.parent.name, 0)
    assert (run.seconds, run.packages, run.weights_sha256) == (12.5, {"torch": "2"}, "weights")
    assert run.code["clean"] is False
    assert run.data_sha256 == "data"
    assert run.benchmark == {"s": "13.1", "max_rss": "600.5"}
    assert any("code than the present one" in text for text in run.differs)
    assert {"hardware", "started", "peak_memory_mib", "log"} <= set(run.missing)
    assert run.resolved == plan.runs[run.run_id].resolved


def test_a_failed_run_and_one_that_never_ran_say_so(plan: Plan) -> None:
    run_id = run_folder(plan, "table7", 1).parent.name
    found = written(plan)
    assert (found.run(run_id, 0).status, found.run(run_id, 1).status) == ("failed", "not run")
    assert found.run(run_id, 0).error == "NonFiniteLoss: iteration 12"


def test_starting_weights_are_among_the_runs(plan: Plan) -> None:
    (start,) = plan.initial_runs
    assert written(plan).run(start, 0).status == "not run"


# --- one cell ----------------------------------------------------------------------------------


def test_a_cell_is_printed_with_every_seed_and_its_file(plan: Plan) -> None:
    text = trace(plan, "table7", "2", "AP")
    for seed, value in ((0, "50"), (1, "51")):
        path = run_folder(plan, "table7", 2, seed) / "metrics.expectation.json"
        assert f"seed {seed}: {value}\n" in text
        assert f"{path}\n" in text and file_sha256(path) in text
    assert "ours: 50.5000, sd 0.7071 (2 of 2 seeds); paper: 47.5" in text
    assert "Not comparable with the paper's numbers." in text
    assert "not recorded" in text


def test_a_cell_of_the_literature_has_no_run(plan: Plan) -> None:
    assert "from the literature" in trace(plan, "table7", "Known elsewhere", "AP")


def test_a_row_is_named_by_index_key_or_label(tmp_path: Path) -> None:
    table = plan_of(tmp_path, {"twins": TWINS}).tables["twins"]
    assert [find_row(table, name) for name in ("1", "expected", "Bins (Expectation ✓)")] == [1] * 3
    # Two rows are called Bins; one of them has nothing to add to that.
    assert find_row(table, "Bins") == 0


def test_the_rows_of_the_same_label_are_listed_with_the_one_that_was_meant(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {"twins": TWINS})
    assert "row 1: Bins (Expectation ✓)" in trace(plan, "twins", "Bins", "AP90")


def test_an_ambiguous_label_lists_what_tells_the_rows_apart(tmp_path: Path) -> None:
    table = plan_of(tmp_path, {"twins": TWINS}).tables["twins"]
    with pytest.raises(ConfigError) as error:
        find_row(table, "Losses")
    message = str(error.value)
    assert "Losses (Loss l2)" in message and "Losses (Loss smooth)" in message
    assert "Bins" not in message


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        (("table8", "2", "AP"), "no table of this plan; allowed: figure9, table7"),
        (("table7", "Nobody", "AP"), "no row of table7"),
        (("table7", "2", "AP90"), "allowed: AP, AP_S"),
    ],
)
def test_a_cell_that_is_not_there_is_refused(
    plan: Plan, cell: tuple[str, str, str], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        trace(plan, *cell)


def test_the_command_prints_a_cell_and_compares_all(
    plan: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    file = plan.results / "plan.json"
    plan.save(file)
    assert main(["trace", str(file), "table7", "--row", "Bins", "--metric", "AP"]) == 0
    assert "seed 1: 51" in capsys.readouterr().out
    assert main(["trace", str(file)]) == 0
    assert "5 numbers of 2 tables" in capsys.readouterr().out
    assert main(["trace", str(file), "table7", "--row", "Bins"]) == 1
    assert "--metric METRIC" in capsys.readouterr().err

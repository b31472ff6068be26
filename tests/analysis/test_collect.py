"""What collect finds in the run folders, and what it refuses."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest
from report_fixtures import TABLE, fail, measure, plan_of, run_folder, trained

from obc.analysis.collect import (
    COLUMNS,
    IncompleteError,
    MetricsFileError,
    collect,
    require_complete,
    summarise,
)
from obc.config.plan import Plan
from obc.config.run_folder import RunFolder
from obc.io.typed_yaml import ConfigError
from obc.runs.lock import training_lock


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return plan_of(tmp_path, {"loss_table": TABLE})


def status_of(plan: Plan, row: int) -> set[str]:
    frame = collect(plan)
    return set(frame[frame["row"] == row]["status"])


def test_there_is_one_line_per_row_seed_and_metric_in_order(tmp_path: Path) -> None:
    frame = collect(plan_of(tmp_path, {"loss_table": TABLE}, seeds=[0, 3]))
    assert tuple(frame.columns) == COLUMNS
    # Three trained rows with two seeds and two metrics, one cited row without a seed.
    assert len(frame) == 3 * 2 * 2 + 2
    first = frame.head(4)[["row", "seed", "metric"]]
    assert first.values.tolist() == [[0, 0, "AP"], [0, 0, "AP_S"], [0, 3, "AP"], [0, 3, "AP_S"]]


def test_a_measured_value_lands_beside_the_papers(plan: Plan) -> None:
    measure(plan, "loss_table", 2, {"AP": 46.25, "AP_S": 11.0, "AP50": 70.0})
    frame = collect(plan).query("row == 2")
    assert frame["value"].tolist() == [46.25, 11.0]
    assert frame["paper"].tolist() == [47.5, 12.0]
    assert set(frame["status"]) == {"ok"}
    assert set(frame["run_id"]) == {plan.run_of(plan.tables["loss_table"].rows[2]).run_id}
    assert set(frame["decode"]) == {"expectation"}


def test_a_cited_row_has_the_papers_numbers_only(plan: Plan) -> None:
    cited = collect(plan).query("row == 3")
    assert set(cited["status"]) == {"cited"}
    assert cited[["run_id", "decode", "seed", "value"]].isna().all(axis=None)
    assert cited["paper"].iloc[0] == 30.0 and math.isnan(cited["paper"].iloc[1])


def test_a_null_metric_is_undefined_and_its_neighbours_are_not(plan: Plan) -> None:
    measure(plan, "loss_table", 0, {"AP": 0.0, "AP_S": None})
    frame = collect(plan).query("row == 0")
    assert frame["status"].tolist() == ["ok", "undefined"]
    assert frame["value"].iloc[0] == 0.0 and math.isnan(frame["value"].iloc[1])


def test_a_run_without_a_folder_is_not_run(plan: Plan) -> None:
    assert status_of(plan, 0) == {"not run"}


def test_a_run_whose_lock_is_held_is_running(plan: Plan) -> None:
    with training_lock(RunFolder(run_folder(plan, "loss_table", 0))):
        assert status_of(plan, 0) == {"running"}


def test_a_run_with_a_failure_note_is_failed(plan: Plan) -> None:
    fail(plan, "loss_table", 0)
    assert status_of(plan, 0) == {"failed"}


def test_a_trained_run_without_a_metrics_file_is_not_evaluated(plan: Plan) -> None:
    for name in ("run.json", "final.pth"):
        (run_folder(plan, "loss_table", 0) / name).touch()
    assert status_of(plan, 0) == {"not evaluated"}


def test_only_the_named_tables_are_read(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {"loss_table": TABLE, "again": TABLE})
    assert set(collect(plan, ["again"])["table"]) == {"again"}


def test_an_unknown_table_is_refused_with_the_known_ones(plan: Plan) -> None:
    with pytest.raises(ConfigError, match="'lozzes' is no table of this plan; allowed: loss_table"):
        collect(plan, ["lozzes"])


@pytest.mark.parametrize("text", ["", '{"scale": "smoke"', "[1, 2]", "\x00", '{"metrics": {}}'])
def test_a_damaged_metrics_file_is_an_error_that_names_it(plan: Plan, text: str) -> None:
    path = measure(plan, "loss_table", 0, {})
    path.write_text(text)
    with pytest.raises(MetricsFileError) as error:
        collect(plan)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("scale", "mini"),
        ("run_id", "voc-another"),
        ("seed", 1),
        ("decode", "argmax"),
        ("difficult", "ignore"),
    ],
)
def test_a_metrics_file_of_something_else_is_an_error(
    plan: Plan, field: str, value: object
) -> None:
    path = measure(plan, "loss_table", 0, {"AP": 1.0, "AP_S": 1.0}, change={field: value})
    with pytest.raises(MetricsFileError, match=f"{field} is {value!r}, asked for") as error:
        collect(plan)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("value", [-0.1, 100.1, float("nan"), float("inf"), "45.0", True])
def test_a_value_that_is_no_percentage_is_an_error(plan: Plan, value: object) -> None:
    measure(plan, "loss_table", 0, {"AP": value, "AP_S": 1.0})
    with pytest.raises(MetricsFileError, match=r"metrics\.AP"):
        collect(plan)


def test_a_metrics_file_without_a_metric_of_the_table_is_an_error(plan: Plan) -> None:
    measure(plan, "loss_table", 0, {"AP": 1.0})
    with pytest.raises(MetricsFileError, match="has no AP_S"):
        collect(plan)


# --- complete or not ---------------------------------------------------------------------------


def test_complete_are_measured_undefined_and_cited_cells(plan: Plan) -> None:
    for row in range(3):
        measure(plan, "loss_table", row, {"AP": 1.0, "AP_S": None})
    require_complete(plan, collect(plan))


def test_incomplete_names_the_error_and_the_log_of_each_failed_run(plan: Plan) -> None:
    measure(plan, "loss_table", 0, {"AP": 1.0, "AP_S": 1.0})
    logs = [fail(plan, "loss_table", row) for row in (1, 2)]
    with pytest.raises(IncompleteError, match=r"2 evaluation\(s\) without a number") as error:
        require_complete(plan, collect(plan))
    for log in logs:
        assert f"failed: {log.parent}" in str(error.value)
        assert f"log: {log}" in str(error.value)
    assert "NonFiniteLoss: iteration 12" in str(error.value)


def test_incomplete_names_the_folder_of_a_run_that_never_started(plan: Plan) -> None:
    with pytest.raises(IncompleteError, match="not run") as error:
        require_complete(plan, collect(plan))
    assert str(plan.run_folder(plan.run_of(plan.tables["loss_table"].rows[0]).run_id, 0)) in str(
        error.value
    )


# --- seeds -------------------------------------------------------------------------------------


def test_seeds_are_joined_to_mean_and_sample_deviation(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {"loss_table": TABLE}, seeds=[0, 1, 2])
    for seed, value in enumerate((40.0, 42.0, 47.0)):
        measure(plan, "loss_table", 0, {"AP": value, "AP_S": None}, seed)
    cell = summarise(collect(plan)).loc[("loss_table", 0, "AP")]
    # Mean (40 + 42 + 47) / 3 = 43; deviations -3, -1, 4; sqrt((9 + 1 + 16) / (3 - 1)) = sqrt(13).
    assert cell["mean"] == pytest.approx(43.0)
    assert cell["sd"] == pytest.approx(math.sqrt(13))
    assert (cell["measured"], cell["planned"], cell["status"]) == (3, 3, "ok")


def test_missing_seeds_are_counted_and_named(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {"loss_table": TABLE}, seeds=[0, 1, 2])
    measure(plan, "loss_table", 0, {"AP": 40.0, "AP_S": None}, seed=0)
    fail(plan, "loss_table", 0, seed=1)
    cell = summarise(collect(plan)).loc[("loss_table", 0, "AP")]
    assert (cell["mean"], cell["measured"], cell["planned"]) == (40.0, 1, 3)
    assert cell["status"] == "ok, failed, not run"
    assert pd.isna(cell["sd"])


def test_metrics_of_a_run_that_is_not_trained_are_no_result(plan: Plan) -> None:
    measure(plan, "loss_table", 0, {"AP": 50.0, "AP_S": 20.0})
    folder = run_folder(plan, "loss_table", 0)
    (folder / "run.json").unlink()
    fail(plan, "loss_table", 0)
    assert set(collect(plan).query("row == 0")["status"]) == {"failed"}


def test_metrics_of_other_weights_are_an_error(plan: Plan) -> None:
    measure(plan, "loss_table", 0, {"AP": 50.0, "AP_S": 20.0})
    trained(plan, "loss_table", 0, weights_sha256="newer")
    with pytest.raises(MetricsFileError, match="weights_sha256 is 'weights', asked for 'newer'"):
        collect(plan)

"""Evaluations of a table's rows: which are there, what they hold, what is missing."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest
from evaluation_fixtures import detect, index, near, plan_with_table, shapes
from report_fixtures import fail

from obc.analysis.evaluations import (
    evaluations,
    lines_of,
    load,
    measured,
    missing_rows,
    over_seeds,
    require_same,
)
from obc.datasets.errors import DatasetError
from obc.evaluation.detections_file import DetectionsFileError


def test_each_evaluation_is_there_once_with_the_rows_that_show_it(tmp_path: Path) -> None:
    plan = plan_with_table(tmp_path, seeds=[0, 1])
    truth = shapes()
    index(plan, truth)
    for row, seed in ((0, 0), (0, 1), (2, 1)):
        detect(plan, row, truth, near(truth, 0.1), seed)
    frame = measured(plan, ["table1"])
    found = evaluations(plan, frame)
    assert [(each.decode, each.seed) for each in found] == [
        ("regression", 0), ("regression", 1), ("expectation", 1),
    ]  # fmt: skip
    assert [lines_of(each, frame)["row"].unique().tolist() for each in found] == [[0], [0], [2]]


def test_an_evaluation_holds_the_ground_truth_and_the_detections(tmp_path: Path) -> None:
    plan, truth = plan_with_table(tmp_path), shapes()
    index(plan, truth)
    detections = near(truth, 0.1)
    detect(plan, 0, truth, detections)
    (evaluation,) = evaluations(plan, measured(plan, ["table1"]))
    assert load(evaluation) == (truth, detections)


def test_difficult_objects_are_ignored_where_the_metrics_ignored_them(tmp_path: Path) -> None:
    plan, truth = plan_with_table(tmp_path), shapes()
    truth["annotations"][0]["difficult"] = 1
    index(plan, truth)
    detect(plan, 0, truth, near(truth, 0.1))
    (evaluation,) = evaluations(plan, measured(plan, ["table1"]))
    assert load(evaluation)[0] == truth
    ignoring = evaluation.__class__(**{**vars(evaluation), "difficult_ignored": True})
    areas = [each["area"] for each in load(ignoring)[0]["annotations"]]
    assert areas[0] > 1e10 and max(areas[1:]) < 1e10


def test_metrics_without_their_detections_are_an_evaluation_to_be_made(tmp_path: Path) -> None:
    plan, truth = plan_with_table(tmp_path), shapes()
    index(plan, truth)
    detect(plan, 0, truth, near(truth, 0.1)).unlink()
    frame = measured(plan, ["table1"])
    assert set(frame[frame["row"] == 0]["status"]) == {"not evaluated"}
    assert frame["value"].isna().all() and evaluations(plan, frame) == ()


def test_detections_of_other_metrics_are_refused(tmp_path: Path) -> None:
    plan, truth = plan_with_table(tmp_path), shapes()
    index(plan, truth)
    detect(plan, 0, truth, near(truth, 0.1))
    frame = measured(plan, ["table1"])
    (evaluation,) = evaluations(plan, frame)
    ap = frame["value"].iloc[0]
    require_same(evaluation, frame, {"AP": ap, "AP55": 1.0})
    with pytest.raises(DetectionsFileError, match="remove both to have them measured again"):
        require_same(evaluation, frame, {"AP": ap + 0.1})


def test_a_missing_index_names_the_step_that_makes_it(tmp_path: Path) -> None:
    plan, truth = plan_with_table(tmp_path), shapes()
    detect(plan, 0, truth, near(truth, 0.1))
    with pytest.raises(DatasetError, match=r"`obc index .*plan\.json voc` makes it"):
        evaluations(plan, measured(plan, ["table1"]))


def test_rows_without_all_numbers_are_named_by_reason(tmp_path: Path) -> None:
    plan, truth = plan_with_table(tmp_path, seeds=[0, 1]), shapes()
    assert missing_rows(plan.tables["table1"], measured(plan, ["table1"])) == (
        "not run: Regression, Bins, Bins (Expectation ✓)"
    )
    detect(plan, 0, truth, near(truth, 0.1), seed=0)
    fail(plan, "table1", 1, seed=0)
    assert missing_rows(plan.tables["table1"], measured(plan, ["table1"])) == (
        "some seeds not run: Regression; failed, not run: Bins, Bins (Expectation ✓)"
    )


def test_seeds_are_joined_to_mean_and_sample_deviation() -> None:
    frame = pd.DataFrame({"row": [1, 1, 0], "seed": [0, 1, 0], "AP": [41.0, 43.0, 7.0]})
    joined = over_seeds(frame, ["row"], ["AP"])
    assert list(joined.columns) == ["row", "AP", "AP_sd", "seeds"]
    assert joined.iloc[0].tolist() == [1, 42.0, pytest.approx(math.sqrt(2)), 2]
    assert joined.iloc[1, :2].tolist() == [0, 7.0] and math.isnan(joined["AP_sd"][1])

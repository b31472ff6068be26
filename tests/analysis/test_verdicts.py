"""Judged claims: intervals over images and trainings, what is missing, and the page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from claim_fixtures import NOISE, ROWS, TABLE, evaluated, judged, plan_with, resampler
from report_fixtures import measure, plan_of, run_folder

from obc.analysis.collect import IncompleteError
from obc.analysis.verdicts import judge
from obc.datasets.errors import DatasetError
from obc.evaluation.detections_file import DetectionsFileError, save_detections
from obc.evaluation.metrics import average_precision
from obc.io.typed_yaml import ConfigError
from obc.report.tables.claims import markdown, report

# --- intervals ---------------------------------------------------------------------------------


def test_images_that_move_both_sides_alike_leave_the_difference_certain(tmp_path: Path) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2]]")
    evaluated(plan, l1=[45.0], l2=[44.5])
    (found,) = judged(plan)
    assert (found.low, found.difference, found.high) == pytest.approx((0.5, 0.5, 0.5))
    assert found.verdict == "reproduced"


def test_images_that_move_the_sides_apart_widen_the_interval(tmp_path: Path) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2]]")
    evaluated(plan, l1=[45.0], l2=[44.5])
    (found,) = judged(plan, shared=False)
    # l1 + noise - (l2 - noise): twice the noise; one seed, so the normal quantile.
    assert found.standard_error == pytest.approx(2 * NOISE.std(ddof=1))
    assert found.high - found.low == pytest.approx(2 * 1.959964 * 2 * NOISE.std(ddof=1))
    assert found.verdict == "within noise"
    assert found.seed_degrees == 0


def test_one_contradiction_among_many_comparisons_needs_a_wider_interval(tmp_path: Path) -> None:
    error = 2 * NOISE.std(ddof=1)
    alone = "kind: higher, pairs: [[l1, l2]]"
    among = "kind: higher, pairs: [[l1, l2], [bins, l2]]"
    plan = plan_with(tmp_path, alone, among)
    # 2.1 standard errors below: outside of 95 % (1.960), inside of 97.5 % (2.241).
    evaluated(plan, l2=[45.0], l1=[45.0 - 2.1 * error], bins=[60.0])
    single, first, _ = judged(plan, shared=False)
    assert (single.low, single.high) == (first.low, first.high)
    assert (single.verdict, first.verdict) == ("not reproduced", "within noise")


@pytest.mark.parametrize(("l1", "place"), [(44.0, "above"), (45.0, "inside"), (46.0, "below")])
def test_the_papers_difference_is_placed_by_our_interval(
    tmp_path: Path, l1: float, place: str
) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2]]")
    evaluated(plan, l1=[l1], l2=[40.0])
    assert judged(plan)[0].paper_position == place


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"l1": [45.0], "bins": [47.0]}, "reproduced"),
        ({"l1": [45.0], "bins": [40.0]}, "within noise"),
        ({"l1": [39.0], "bins": [40.0]}, "not reproduced"),
        ({"l1": [39.0]}, "not run"),
    ],
)
def test_a_claim_is_as_good_as_its_worst_comparison(
    tmp_path: Path, values: dict[str, list[float]], expected: str
) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2], [bins, l2]]")
    evaluated(plan, l2=[40.0], **values)
    (topic,) = judge(plan, strict=False, resample=resampler())
    assert topic.claims[0].verdict == expected


def test_each_evaluation_is_resampled_once_for_all_claims(tmp_path: Path) -> None:
    plan = plan_with(
        tmp_path, "kind: higher, pairs: [[l1, l2]]", "kind: higher, pairs: [[bins, l2]]"
    )
    evaluated(plan, l1=[45.0], l2=[40.0], bins=[50.0])
    asked = []
    judge(plan, resample=lambda evaluation: asked.append(evaluation) or resampler()(evaluation))
    assert len(asked) == len(set(asked)) == 3


# --- what is missing ---------------------------------------------------------------------------


def test_missing_detections_are_an_evaluation_to_be_made(tmp_path: Path) -> None:
    plan = plan_with(
        tmp_path, "kind: higher, pairs: [[l1, l2]]", "kind: higher, pairs: [[bins, l2]]"
    )
    evaluated(plan, l1=[45.0], l2=[40.0], bins=[50.0])
    lost = run_folder(plan, "table7", ROWS["l1"]) / "detections.regression.npz"
    lost.unlink()
    with pytest.raises(IncompleteError, match=f"not evaluated: {lost.parent}"):
        judged(plan)
    first, second = judged(plan, strict=False)
    assert (first.verdict, first.reason) == ("not run", "1 of 2 evaluations missing")
    assert second.verdict == "reproduced"


def test_rows_that_no_claim_names_may_be_missing(tmp_path: Path) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2]]")
    evaluated(plan, l1=[45.0], l2=[40.0])
    assert judged(plan)[0].verdict == "reproduced"


def test_a_missing_seed_is_not_averaged_away(tmp_path: Path) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2]]", seeds=(0, 1))
    evaluated(plan, l1=[45.0, 46.0], l2=[40.0])
    assert judged(plan, strict=False)[0].reason == "1 of 4 evaluations missing"


def test_numbers_from_the_literature_compare_at_the_papers_scale_only(tmp_path: Path) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, known]]")
    evaluated(plan, l1=[45.0])
    (found,) = judged(plan)
    assert found.verdict == "not run"
    assert "only the paper's own setting" in found.reason


def test_numbers_from_the_literature_have_no_noise(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("obc.analysis.verdicts.is_comparable", lambda plan, table: True)
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, known]]", seeds=(0, 1))
    evaluated(plan, l1=[44.0, 46.0])
    (found,) = judged(plan)
    # 45 - 30; s^2 = 2 and a mean of two.
    assert found.difference == pytest.approx(15.0)
    assert found.standard_error == pytest.approx(np.hypot(1.0, NOISE.std(ddof=1)))


def test_resamples_without_objects_are_noise_and_not_a_missing_run(tmp_path: Path) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2]]")
    evaluated(plan, l1=[45.0], l2=[45.0])
    empty = {"AP": np.r_[45.0, np.nan, NOISE], "AP90": np.r_[10.0, np.nan, NOISE]}
    topics = judge(plan, resample=lambda evaluation: empty)
    (found,) = topics[0].claims[0].contrasts
    assert (found.verdict, found.difference, found.low) == ("within noise", 0.0, None)
    text = markdown(report(plan, topics, []))
    assert "+0.0, too few test images with objects: some resamples have none" in text


@pytest.mark.parametrize("name", ["val.json", "manifest.json"])
def test_evaluations_without_the_index_of_their_data_name_the_step_that_makes_it(
    tmp_path: Path, name: str
) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2]]")
    evaluated(plan, l1=[45.0], l2=[45.0])
    (plan.index_folder("voc") / name).unlink()
    with pytest.raises(DatasetError, match=rf"{name}: not found.*`obc index .*plan\.json voc`"):
        judged(plan)


def test_detections_of_another_evaluation_are_refused(tmp_path: Path) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2]]")
    evaluated(plan, l1=[45.0], l2=[40.0])
    other = {"AP": np.full(101, 44.0), "AP90": np.full(101, 10.0)}
    with pytest.raises(DetectionsFileError, match=r"npz: its AP is 44\.000.* says 4\d\.000"):
        judge(plan, resample=lambda evaluation: other)


def test_a_plan_without_claims_says_where_they_belong(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config/claims\.yaml"):
        judge(plan_of(tmp_path, {"table7": TABLE}))


# --- with the real bootstrap -------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_real_detections_give_the_difference_of_the_metrics_files(
    tmp_path: Path, workers: int
) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2], [bins, l1]]")
    random = np.random.default_rng(1)
    boxes = random.uniform(20, 40, (30, 4))
    truth = {
        "images": [{"id": i, "width": 99, "height": 99, "file_name": f"{i}"} for i in range(10)],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [
            {"id": i + 1, "image_id": i % 10, "category_id": 1, "bbox": [*box], "iscrowd": 0,
             "area": box[2] * box[3]}
            for i, box in enumerate(boxes)
        ],
    }  # fmt: skip
    index = plan.index_folder("voc").path
    index.mkdir(parents=True)
    (index / "val.json").write_text(json.dumps(truth))
    (index / "manifest.json").touch()
    measured = {}
    for key, error in (("l2", 6.0), ("l1", 2.0), ("bins", 2.0)):
        shifts = np.random.default_rng(2).normal(scale=error, size=boxes.shape)
        detections = [
            {"image_id": i % 10, "category_id": 1, "bbox": [*box], "score": 0.9 - i / 100}
            for i, box in enumerate(boxes + shifts)
        ]
        measured[key], _ = average_precision(truth, detections)
        path = measure(plan, "table7", ROWS[key], measured[key])
        save_detections(path.with_name(f"detections{path.name[7:-5]}.npz"), detections)
    (topic,) = judge(plan, workers=workers)
    better, same = topic.claims[0].contrasts
    assert better.difference == pytest.approx(measured["l1"]["AP"] - measured["l2"]["AP"])
    assert better.low < better.difference < better.high
    assert (same.low, same.difference, same.high) == (0.0, 0.0, 0.0)

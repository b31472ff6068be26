"""Average precision: against pycocotools, and where there is nothing to average."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from coco_reference import reference
from detection_scenes import ground_truth, jittered

from obc.evaluation.metrics import IOU_THRESHOLDS, average_precision, difficult_ignored


@pytest.mark.parametrize("seed", range(5))
def test_every_metric_equals_pycocotools(seed: int) -> None:
    truth = ground_truth(seed)
    detections = jittered(truth, seed)
    ours, per_class = average_precision(truth, detections)
    precision = reference(truth, detections).eval["precision"][..., -1]  # (T, R, classes, areas)

    def mean(values: np.ndarray) -> float:
        return 100 * values[values > -1].mean()

    expected = {"AP": mean(precision[..., 0])}
    for iou in (50, 60, 70, 75, 80, 90):
        expected[f"AP{iou}"] = mean(precision[(iou - 50) // 5, :, :, 0])
    for area, name in enumerate(("AP_S", "AP_M", "AP_L"), start=1):
        expected[name] = mean(precision[..., area])
    assert ours == pytest.approx(expected, abs=1e-6)
    for k, name in enumerate(per_class):
        assert per_class[name]["AP"] == pytest.approx(mean(precision[:, :, k, 0]), abs=1e-6)


def test_thresholds_are_half_to_095() -> None:
    assert [round(float(iou), 2) for iou in IOU_THRESHOLDS] == [
        0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95,
    ]  # fmt: skip


def one_object(**extra: object) -> dict[str, Any]:
    annotation = {
        "id": 1,
        "image_id": 0,
        "category_id": 1,
        "bbox": [10, 10, 20, 20],
        "area": 400,
        "iscrowd": 0,
    }
    return {
        "images": [{"id": 0, "width": 100, "height": 100}],
        "annotations": [annotation | extra],
        "categories": [{"id": 1, "name": "thing"}],
    }


def test_a_perfect_detection_scores_100_everywhere_it_is_defined() -> None:
    detection = {"image_id": 0, "category_id": 1, "bbox": [10, 10, 20, 20], "score": 0.9}
    metrics, per_class = average_precision(one_object(), [detection])
    assert metrics["AP"] == metrics["AP90"] == metrics["AP_S"] == pytest.approx(100)
    assert metrics["AP_M"] is None and metrics["AP_L"] is None
    assert per_class["thing"]["AP"] == pytest.approx(100)


def test_area_ranges_follow_the_given_sides() -> None:
    detection = {"image_id": 0, "category_id": 1, "bbox": [10, 10, 20, 20], "score": 0.9}
    metrics, _ = average_precision(one_object(), [detection], area_sides=(5, 15))
    assert metrics["AP_S"] is None and metrics["AP_L"] == pytest.approx(100)


def test_no_detection_at_all_scores_zero() -> None:
    metrics, _ = average_precision(one_object(), [])
    assert metrics["AP"] == 0


def test_ignored_difficult_objects_are_neither_required_nor_punished() -> None:
    truth = one_object(difficult=1)
    easy = truth["annotations"][0] | {"id": 2, "bbox": [50, 50, 20, 20], "difficult": 0}
    truth["annotations"].append(easy)
    on_easy = {"image_id": 0, "category_id": 1, "bbox": [50, 50, 20, 20], "score": 0.5}
    on_difficult = {"image_id": 0, "category_id": 1, "bbox": [10, 10, 20, 20], "score": 0.9}
    for detections in ([on_easy], [on_easy, on_difficult]):
        metrics, _ = average_precision(difficult_ignored(truth), detections)
        assert metrics["AP"] == pytest.approx(100)
    # Counted as ground truth, missing it costs half of the recall: 51 of 101 recall points remain.
    metrics, _ = average_precision(truth, [on_easy])
    assert metrics["AP"] == pytest.approx(100 * 51 / 101)


def test_what_is_evaluated_is_left_as_it_was() -> None:
    truth = {
        "images": [{"id": 1, "width": 100, "height": 100}],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 1,
                "bbox": [10, 10, 40, 40],
                "area": 1600,
                "iscrowd": 0,
            }
        ],
    }
    found = [{"image_id": 1, "category_id": 1, "bbox": [10, 10, 40, 40], "score": 0.9}]
    before = copy.deepcopy((truth, found))
    metrics, _ = average_precision(truth, found)
    assert metrics["AP"] == pytest.approx(100)
    assert (truth, found) == before

"""Which detections are which objects, and the evaluator's precision-recall curves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from detection_scenes import objects_and_detections, scene

from obc.evaluation.matching import DetectionsError, match, precision_at_recalls, true_positives
from obc.evaluation.metrics import IOU_THRESHOLDS, average_precision, difficult_ignored


def iou(one: list[float], other: list[float]) -> float:
    """Of two boxes (x, y, w, h)."""
    sides = [
        min(one[axis] + one[axis + 2], other[axis] + other[axis + 2]) - max(one[axis], other[axis])
        for axis in (0, 1)
    ]
    shared = max(sides[0], 0) * max(sides[1], 0)
    return shared / (one[2] * one[3] + other[2] * other[3] - shared)


def on(objects: list[list[float]], found: list[tuple[list[float], float]]) -> Any:
    """One image, one class: boxes of objects; boxes and scores of detections."""
    truth, _ = objects_and_detections(1, [])
    common = {"image_id": 0, "category_id": 1}
    truth["annotations"] = [
        {**common, "id": 10 + index, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
        for index, box in enumerate(objects)
    ]
    return truth, [{**common, "bbox": box, "score": score} for box, score in found]


def test_a_detection_gets_the_object_that_it_overlaps_most() -> None:
    truth, detections = on([[0, 0, 10, 10], [40, 0, 10, 10]], [([41, 0, 10, 10], 0.9)])
    found = true_positives(truth, detections)
    assert (found.detections.tolist(), found.objects.tolist()) == ([0], [1])
    # Nine of eleven columns are shared.
    assert found.ious == pytest.approx([9 / 11])


def test_an_object_is_found_once_by_the_best_score() -> None:
    truth, detections = on([[0, 0, 10, 10]], [([0, 0, 10, 10], 0.5), ([1, 0, 10, 10], 0.9)])
    found = true_positives(truth, detections)
    assert found.detections.tolist() == [1]


def test_an_overlap_below_the_threshold_is_no_true_positive() -> None:
    truth, detections = on([[0, 0, 10, 10]], [([3, 0, 10, 10], 0.9)])
    assert len(true_positives(truth, detections, 0.5).ious) == 1  # 7 / 13
    assert len(true_positives(truth, detections, 0.6).ious) == 0


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("index", [0, 5, 8])
def test_as_many_detections_are_true_positives_as_the_matching_has(
    index: int, ignored: bool
) -> None:
    truth, detections = scene(seed=0)
    if ignored:
        truth = difficult_ignored(truth)
    found = true_positives(truth, detections, IOU_THRESHOLDS[index])
    matches = match(truth, detections)
    assert len(found.ious) == sum(each.hits[index].sum() for each in matches.classes)
    assert len(found.ious) == len(set(found.objects)) == len(set(found.detections)) > 0


def test_true_positives_are_of_the_objects_image_and_class_and_iou() -> None:
    truth, detections = scene(seed=1)
    found = true_positives(truth, detections, 0.5)
    for index, object_index, overlap in zip(
        found.detections, found.objects, found.ious, strict=True
    ):
        detection, annotation = detections[index], truth["annotations"][object_index]
        assert detection["image_id"] == annotation["image_id"]
        assert detection["category_id"] == annotation["category_id"]
        assert (
            overlap == pytest.approx(iou(detection["bbox"], annotation["bbox"])) and overlap >= 0.5
        )


def test_crowds_and_ignored_objects_are_not_found() -> None:
    truth, detections = scene(seed=0)
    truth = difficult_ignored(truth)
    objects = [truth["annotations"][index] for index in true_positives(truth, detections).objects]
    assert objects and not any(each["iscrowd"] or each["area"] > 1e10 for each in objects)


def test_without_detections_nothing_is_found() -> None:
    truth, _ = scene(seed=0)
    assert true_positives(truth, []).ious.shape == (0,)


def test_the_mean_of_the_curves_is_the_evaluators_ap() -> None:
    truth, detections = scene(seed=2)
    precision = precision_at_recalls(truth, detections)
    assert precision.shape == (10, 101, 4)
    metrics, _ = average_precision(truth, detections)
    assert 100 * np.nanmean(precision) == pytest.approx(metrics["AP"], abs=1e-9)
    assert 100 * np.nanmean(precision[8]) == pytest.approx(metrics["AP90"], abs=1e-9)


def test_a_class_without_objects_has_no_curve() -> None:
    truth, detections = scene(seed=0)
    assert np.isnan(precision_at_recalls(truth, detections)).all(axis=(0, 1)).tolist() == [
        False, False, False, True,
    ]  # fmt: skip


def test_a_curve_is_the_best_precision_at_a_recall_or_above() -> None:
    # By falling score: true, false, true; the third object is not found.
    truth, detections = objects_and_detections(3, [(0, 0.9, True), (1, 0.8, False), (1, 0.7, True)])
    curve = precision_at_recalls(truth, detections)[0, :, 0]
    assert curve[:34].tolist() == [1.0] * 34  # recall up to 1/3
    assert curve[34:67] == pytest.approx(2 / 3)
    assert (curve[67:] == 0).all()


def test_without_detections_precision_is_zero() -> None:
    truth, _ = objects_and_detections(2, [])
    assert (precision_at_recalls(truth, []) == 0).all()


def test_detections_of_another_data_set_are_refused() -> None:
    truth, detections = objects_and_detections(2, [(0, 0.9, True)])
    for function in (true_positives, precision_at_recalls):
        with pytest.raises(DetectionsError, match="image_id 99: not among the"):
            function(truth, [detections[0] | {"image_id": 99}])

"""COCO-style average precision of a set of detections, in percent as the paper prints it.

Computed by faster-coco-eval, the C++ counterpart of pycocotools (tests compare the two).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from obc.config.table import METRICS
from obc.datasets.settings import Difficult

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
_AT_IOU = {"AP50": 0.5, "AP60": 0.6, "AP70": 0.7, "AP75": 0.75, "AP80": 0.8, "AP90": 0.9}
_AREAS = {"AP_S": 1, "AP_M": 2, "AP_L": 3}
COCO_AREA_SIDES = (32.0, 96.0)


def average_precision(
    ground_truth: dict[str, Any],
    detections: list[dict[str, Any]],
    area_sides: tuple[float, float] = COCO_AREA_SIDES,
) -> tuple[dict[str, float | None], dict[str, dict[str, float | None]]]:
    """AP over IoU .5:.95, at single thresholds, and by object size.

    Args:
        ground_truth: COCO-format dict (images, annotations, categories).
        detections: COCO-format results: image_id, category_id, bbox (x, y, w, h), score.
        area_sides: sides in pixels of the squares that separate small, medium and large objects.

    Returns:
        The metrics over all classes, and per class name. A metric is None if the ground truth has
        no object for it.
    """
    names = {category["id"]: category["name"] for category in ground_truth["categories"]}
    precision, category_ids = _precision(ground_truth, detections, area_sides)
    per_class = {
        names[category_id]: _summary(precision[:, :, k : k + 1])
        for k, category_id in enumerate(category_ids)
    }
    return _summary(precision), per_class


def counts_difficult(difficult: Difficult) -> bool:
    """Whether objects marked difficult have to be found in the evaluation."""
    return difficult != "ignore"


def difficult_ignored(ground_truth: dict[str, Any]) -> dict[str, Any]:
    """The ground truth with difficult objects ignored: a miss or a detection of one is no error.

    COCO ignores objects outside the area range, so a difficult object gets an area beyond all
    ranges. Its box and IoU stay the same (COCO computes another IoU for a crowd).
    """
    annotations = [
        {**annotation, "area": 1e11} if annotation.get("difficult") else annotation
        for annotation in ground_truth["annotations"]
    ]
    return {**ground_truth, "annotations": annotations}


def _precision(
    ground_truth: dict[str, Any], detections: list[dict[str, Any]], area_sides: tuple[float, float]
) -> tuple[np.ndarray, list[int]]:
    """Precision (T thresholds, R recalls, C classes, A areas) at 100 detections an image."""
    if not detections:
        detections = [_impossible_detection(ground_truth)]
    # The evaluator writes into objects and detections. A deep copy would take as long as it does.
    objects = [dict(annotation) for annotation in ground_truth["annotations"]]
    truth = COCO({**ground_truth, "annotations": objects})
    results = truth.loadRes([dict(detection) for detection in detections])
    evaluation = COCOeval_faster(truth, results, iouType="bbox")
    small, large = (side**2 for side in area_sides)
    evaluation.params.iouThrs = IOU_THRESHOLDS
    evaluation.params.areaRng = [[0, 1e10], [0, small], [small, large], [large, 1e10]]
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation.eval["precision"][..., -1], list(evaluation.params.catIds)


def _impossible_detection(ground_truth: dict[str, Any]) -> dict[str, Any]:
    """A detection that matches nothing; the evaluator does not accept an empty list."""
    return {
        "image_id": ground_truth["images"][0]["id"],
        "category_id": ground_truth["categories"][0]["id"],
        "bbox": [-10.0, -10.0, 1.0, 1.0],
        "score": 0.0,
    }


def _summary(precision: np.ndarray) -> dict[str, float | None]:
    everything = precision[..., 0]
    values = {"AP": _mean(everything)}
    values |= {
        name: _mean(everything[np.isclose(IOU_THRESHOLDS, iou)]) for name, iou in _AT_IOU.items()
    }
    values |= {name: _mean(precision[..., area]) for name, area in _AREAS.items()}
    return {name: values[name] for name in METRICS}


def _mean(precision: np.ndarray) -> float | None:
    """Mean of the defined values in percent (-1 marks classes without ground truth)."""
    defined = precision[precision > -1]
    return float(100.0 * defined.mean()) if defined.size else None

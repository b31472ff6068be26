"""pycocotools, the reference that our metrics are held against."""

from __future__ import annotations

from typing import Any

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def reference(truth: dict[str, Any], detections: list[dict[str, Any]]) -> COCOeval:
    """pycocotools' evaluation of COCO-format detections, accumulated."""
    ground_truth = COCO()
    ground_truth.dataset = truth
    ground_truth.createIndex()
    evaluation = COCOeval(ground_truth, ground_truth.loadRes(detections), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation

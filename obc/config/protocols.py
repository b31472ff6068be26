"""The two training protocols: all differences between MMDetection of 2020 and of today.

`modern` is MMDetection 3.x as it comes. `paper_v1` is MMDetection 1.0 (January 2020), the paper's.
It takes boxes in whole pixels; `obc.detector.whole_pixels` has the pieces that do.
docs/protocols.md shows the two protocols side by side. Tests hold both against the configs that
MMDetection ships, and `paper_v1` against a table of version 1.0's own values, key by key.
"""

from __future__ import annotations

from typing import Any, Literal

Protocol = Literal["paper_v1", "modern"]
# The box coder of 1.x, in which a box from 0 to 9 is 10 pixels wide. A box head whose coder this is
# works so with offset bins too.
LEGACY_CODER = "WholePixelDeltaCoder"
_OVERLAPS = {"type": "WholePixelOverlaps2D"}
# Dotted path into MMDetection's base config of the model: other value. Where the path meets a list,
# the heads and stages of a cascade, it goes on in each entry.
MODEL_EDITS: dict[Protocol, dict[str, Any]] = {
    "modern": {},
    "paper_v1": {
        "rpn_head.anchor_generator.type": "LegacyAnchorGenerator",
        "rpn_head.anchor_generator.center_offset": 0.5,
        "rpn_head.bbox_coder.type": LEGACY_CODER,
        "rpn_head.loss_bbox": {"type": "SmoothL1Loss", "beta": 1.0 / 9.0, "loss_weight": 1.0},
        "roi_head.bbox_roi_extractor.type": "WholePixelRoIExtractor",
        "roi_head.bbox_roi_extractor.roi_layer.sampling_ratio": 2,
        "roi_head.bbox_roi_extractor.roi_layer.aligned": False,
        "roi_head.bbox_head.bbox_coder.type": LEGACY_CODER,
        "train_cfg.rpn_proposal.max_per_img": 2000,
        "train_cfg.rcnn.assigner.match_low_quality": True,
        # Not in legacy_1.x, but in the configs of 1.x: no anchors that cross the image's border.
        "train_cfg.rpn.allowed_border": 0,
        "train_cfg.rpn.assigner.iou_calculator": _OVERLAPS,
        "train_cfg.rcnn.assigner.iou_calculator": _OVERLAPS,
        "train_cfg.rpn_proposal.nms.offset": 1,
        "test_cfg.rpn.nms.offset": 1,
        "test_cfg.rcnn.nms.offset": 1,
        # A box of one whole pixel has x1 = x2: 0 would throw it away, 1.x kept it.
        "train_cfg.rpn_proposal.min_bbox_size": -1,
        "test_cfg.rpn.min_bbox_size": -1,
    },
}
# Transforms of MMDetection's data pipeline that are replaced by others with the same arguments.
TRANSFORMS: dict[Protocol, dict[str, str]] = {
    "modern": {},
    "paper_v1": {
        "LoadAnnotations": "WholePixelAnnotations",
        "Resize": "WholePixelResize",
        "RandomFlip": "WholePixelFlip",
    },
}
# What is added to x2 - x1 and y2 - y1 of a predicted box for the width and height of a detection.
LAST_PIXEL: dict[Protocol, int] = {"modern": 0, "paper_v1": 1}
# What a schedule of a scale file that leaves these keys out has. Not in legacy_1.x either: every
# config of 1.x clips gradients and starts its warm-up from a third.
SCHEDULE: dict[Protocol, dict[str, float | None]] = {
    "modern": {"warmup_ratio": 0.001, "grad_clip": None},
    "paper_v1": {"warmup_ratio": 1.0 / 3.0, "grad_clip": 35.0},
}

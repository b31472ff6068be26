"""The two training protocols: all differences between MMDetection of 2020 and of today.

`modern` is MMDetection 3.x without changes. `paper_v1` imitates MMDetection 1.0 (January 2020),
which the paper used. Its boxes are in whole pixels; `obc.detector.whole_pixels` implements that.
docs/protocols.md shows the two protocols side by side. Tests compare both with the configs that
MMDetection ships, and `paper_v1` key by key with a table of version 1.0's values.
"""

from __future__ import annotations

from typing import Any, Literal

Protocol = Literal["paper_v1", "modern"]
# The box coder of 1.x, in which a box from 0 to 9 is 10 pixels wide. Coders that replace it,
# e.g. the coder of offset bins, keep this convention.
LEGACY_CODER = "WholePixelDeltaCoder"
_OVERLAPS = {"type": "WholePixelOverlaps2D"}
# Dotted paths into MMDetection's base config of the model, and the values to set. At a list (the
# heads and stages of a cascade) a path continues in each entry.
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
        # Configs of 1.x leave out anchors across the border; MMDetection's legacy_1.x lacks this.
        "train_cfg.rpn.allowed_border": 0,
        "train_cfg.rpn.assigner.iou_calculator": _OVERLAPS,
        "train_cfg.rcnn.assigner.iou_calculator": _OVERLAPS,
        "train_cfg.rpn_proposal.nms.offset": 1,
        "test_cfg.rpn.nms.offset": 1,
        "test_cfg.rcnn.nms.offset": 1,
        # A box of one whole pixel has x1 = x2: with 0 it would be dropped, 1.x kept it.
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
# Pixels to add to x2 - x1 and y2 - y1 of a predicted box for a detection's width and height.
LAST_PIXEL: dict[Protocol, int] = {"modern": 0, "paper_v1": 1}
# Values for keys that a schedule in a scale file leaves out. Every config of 1.x clips gradients
# and warms up from a third of the learning rate; MMDetection's legacy_1.x lacks this too.
SCHEDULE: dict[Protocol, dict[str, float | None]] = {
    "modern": {"warmup_ratio": 0.001, "grad_clip": None},
    "paper_v1": {"warmup_ratio": 1.0 / 3.0, "grad_clip": 35.0},
}

"""The two training protocols: everything in which MMDetection of 2019 and of today differ.

`modern` is MMDetection 3.x as it comes. `paper_v1` is MMDetection as of 2019 (1.x), which the paper
used; today's ships most of that as `configs/legacy_1.x`. docs/protocols.md shows the two side by
side; a test holds both against MMDetection's own configs, key by key.
"""

from __future__ import annotations

from typing import Any, Literal

Protocol = Literal["paper_v1", "modern"]

# The box coder of 1.x, in which a box from 0 to 9 is 10 pixels wide. A box head whose coder this is
# works so with offset bins too.
LEGACY_CODER = "LegacyDeltaXYWHBBoxCoder"

# Dotted path into MMDetection's base config of the model: other value. Where the path meets a list,
# the heads and stages of a cascade, it goes on in each entry.
MODEL_EDITS: dict[Protocol, dict[str, Any]] = {
    "modern": {},
    "paper_v1": {
        "rpn_head.anchor_generator.type": "LegacyAnchorGenerator",
        "rpn_head.anchor_generator.center_offset": 0.5,
        "rpn_head.bbox_coder.type": LEGACY_CODER,
        "rpn_head.loss_bbox": {"type": "SmoothL1Loss", "beta": 1.0 / 9.0, "loss_weight": 1.0},
        "roi_head.bbox_roi_extractor.roi_layer.sampling_ratio": 2,
        "roi_head.bbox_roi_extractor.roi_layer.aligned": False,
        "roi_head.bbox_head.bbox_coder.type": LEGACY_CODER,
        "train_cfg.rpn_proposal.max_per_img": 2000,
        "train_cfg.rcnn.assigner.match_low_quality": True,
        # Not in legacy_1.x, but in the configs of 1.x: no anchors that cross the image's border.
        "train_cfg.rpn.allowed_border": 0,
    },
}

# What a schedule of a scale file that leaves these keys out has. Not in legacy_1.x either: every
# config of 1.x clips gradients and starts its warm-up from a third.
SCHEDULE: dict[Protocol, dict[str, float | None]] = {
    "modern": {"warmup_ratio": 0.001, "grad_clip": None},
    "paper_v1": {"warmup_ratio": 1.0 / 3.0, "grad_clip": 35.0},
}

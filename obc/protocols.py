"""The two training protocols, each as the list of edits it makes to MMDetection's base config.

`modern` is MMDetection 3.x as it comes, with smooth L1 in the box head where the paper says so.
`paper_v1` is MMDetection as of 2019, which the paper used; today's MMDetection ships that as
`configs/legacy_1.x`, and these are the same edits.
"""

from __future__ import annotations

from typing import Any

from obc.scale import Protocol

# Keys are dotted paths into the model config; lists of heads are edited by obc.detector.
MODEL_EDITS: dict[Protocol, dict[str, Any]] = {
    "modern": {},
    "paper_v1": {
        "rpn_head.anchor_generator.type": "LegacyAnchorGenerator",
        "rpn_head.anchor_generator.center_offset": 0.5,
        "rpn_head.bbox_coder.type": "LegacyDeltaXYWHBBoxCoder",
        "rpn_head.loss_bbox": {"type": "SmoothL1Loss", "beta": 1.0 / 9.0, "loss_weight": 1.0},
        "roi_head.bbox_roi_extractor.roi_layer.sampling_ratio": 2,
        "roi_head.bbox_roi_extractor.roi_layer.aligned": False,
        "train_cfg.rpn_proposal.max_per_img": 2000,
    },
}

LEGACY_CODER: dict[Protocol, bool] = {"modern": False, "paper_v1": True}
MATCH_LOW_QUALITY: dict[Protocol, bool] = {"modern": False, "paper_v1": True}

"""Refuses a `DeltaHead` in RoI heads of MMDetection that need a prediction of four deltas.

They would fail after some iterations, or train on a meaningless number. Importing this module
installs the check.
"""

from __future__ import annotations

from mmdet.models.losses import SmoothL1Loss
from mmdet.models.roi_heads import (
    DoubleHeadRoIHead,
    DynamicRoIHead,
    MultiInstanceRoIHead,
    PISARoIHead,
)
from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook

from obc.head.delta_head import DeltaHead

REFUSED = {
    DoubleHeadRoIHead: "it gives its box head two features, one of them for the boxes",
    MultiInstanceRoIHead: "it needs a box head that predicts two objects for each RoI",
    PISARoIHead: "its sampler (ScoreHLRSampler), ISR and CARL take a prediction for four deltas",
}
ADAPTS_BETA = "it adapts the beta of a SmoothL1Loss of deltas"


class UnfitRoIHead(TypeError):
    """The RoI head does not work with a box head that predicts anything but four deltas."""


def check_roi_head(roi_head: nn.Module, name: str, bbox_head: nn.Module | None) -> None:
    """Raise UnfitRoIHead if a RoI head that needs deltas gets a ``DeltaHead`` as `bbox_head`.

    PyTorch calls this whenever a module is registered as a submodule of another module.

    Args:
        roi_head: the parent module.
        name: attribute name of the submodule.
        bbox_head: the submodule.
    """
    if name != "bbox_head" or not isinstance(bbox_head, DeltaHead):
        return
    reasons = [why for refused, why in REFUSED.items() if isinstance(roi_head, refused)]
    if isinstance(roi_head, DynamicRoIHead) and not isinstance(bbox_head.loss_bbox, SmoothL1Loss):
        reasons.append(ADAPTS_BETA)
    if reasons:
        raise UnfitRoIHead(
            f"roi_head type {type(roi_head).__name__} with bbox_head type "
            f"{type(bbox_head).__name__}: {reasons[0]}; allowed are StandardRoIHead, "
            "CascadeRoIHead, OBCRoIHead and those that docs/head.md lists"
        )


register_module_module_registration_hook(check_roi_head)

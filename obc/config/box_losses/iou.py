"""Box regression with a loss of the decoded box: IoU and generalised IoU."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, PositiveFloat

from obc.config.box_losses.layers import HeadShape
from obc.config.box_losses.registry import Regression, register_box


@register_box
class BoxIoU(Regression):
    """Box regression with a loss of the decoded box, weighted as in MMDetection's configs."""

    loss: Literal["iou", "giou"]
    loss_weight: PositiveFloat = Field(10.0, description="of the box loss")

    def loss_config(self) -> dict[str, Any]:
        """MMDetection's IoULoss or GIoULoss."""
        names = {"iou": "IoULoss", "giou": "GIoULoss"}
        return dict(type=names[self.loss], loss_weight=self.loss_weight)

    def head(self, deltas: dict[str, Any], shape: HeadShape) -> dict[str, Any]:
        """The detector's own head with a loss that compares decoded boxes."""
        return super().head(deltas, shape) | dict(reg_decoded_bbox=True)

"""Offsets as the expectation of a distribution (generalised focal loss)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field, PositiveFloat

from obc.config.box_losses.layers import HeadShape, Layer, linear
from obc.config.box_losses.registry import BoxLoss, register_box


@register_box
class Distribution(BoxLoss):
    """Offsets as the mean of a distribution over points (GFL); see `obc.detector.other_heads`."""

    loss: Literal["dfl"]
    max_offset: PositiveFloat = Field(3.0, description="the points are from -a to a")
    num_intervals: int = Field(20, ge=1, le=1000, strict=True, description="between the points")
    loss_weight: PositiveFloat = Field(1.0, description="of the box loss")

    def head(self, deltas: dict[str, Any], shape: HeadShape) -> dict[str, Any]:
        """A DistributionHead with its coder and loss."""
        points = dict(max_offset=self.max_offset, num_intervals=self.num_intervals)
        return dict(
            type="DistributionHead",
            reg_class_agnostic=True,
            bbox_coder=dict(type="IntegralBBoxCoder", **points, **deltas),
            loss_bbox=dict(type="DistributionFocalLoss", loss_weight=self.loss_weight),
        )

    def layers(self, shape: HeadShape, rois: int) -> Iterator[Layer]:
        """The second shared layer, and a logit for each point of each coordinate."""
        yield linear(shape.width, shape.width, rois)
        yield linear(shape.width, 4 * (self.num_intervals + 1), rois)

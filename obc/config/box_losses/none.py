"""No box loss."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from obc.config.box_losses.layers import HeadShape, Layer, linear
from obc.config.box_losses.registry import BoxLoss, Decode, register_box


@register_box
class NoBox(BoxLoss):
    """No box loss: the box head only classifies. For starting weights that favour no method."""

    loss: Literal["none"]

    @property
    def slug(self) -> str:
        """`weights`, because the run trains starting weights."""
        return "weights"

    @property
    def decodes(self) -> tuple[Decode, ...]:
        """None: there is no box to decode."""
        return ()

    def head(self, deltas: dict[str, Any], shape: HeadShape) -> dict[str, Any]:
        """The detector's own head without its box branch."""
        return dict(with_reg=False)

    def layers(self, shape: HeadShape, rois: int) -> Iterator[Layer]:
        """The second shared layer."""
        yield linear(shape.width, shape.width, rois)

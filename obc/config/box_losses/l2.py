"""Box regression with the squared error."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, PositiveFloat

from obc.config.box_losses.registry import Regression, register_box


@register_box
class L2(Regression):
    """Box regression with the squared error (MMDetection's MSELoss times a factor)."""

    loss: Literal["l2"]
    factor: PositiveFloat = Field(
        0.5, description="of the squared error: 1/2, as of smooth L1's quadratic part, or 1"
    )

    def loss_config(self) -> dict[str, Any]:
        """MMDetection's MSELoss."""
        return dict(type="MSELoss", loss_weight=self.factor * self.loss_weight)

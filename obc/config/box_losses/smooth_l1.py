"""Box regression with smooth L1, the paper's baseline."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, PositiveFloat

from obc.config.box_losses.registry import Regression, register_box


@register_box
class SmoothL1(Regression):
    """Box regression with smooth L1 (equation 3)."""

    loss: Literal["smooth_l1"]
    beta: PositiveFloat = Field(1.0, description="where the quadratic part ends (equation 3)")

    @property
    def slug(self) -> str:
        """The name of the method with beta."""
        return f"smoothl1-b{self.beta:g}"

    def loss_config(self) -> dict[str, Any]:
        """MMDetection's SmoothL1Loss."""
        return dict(type="SmoothL1Loss", beta=self.beta, loss_weight=self.loss_weight)

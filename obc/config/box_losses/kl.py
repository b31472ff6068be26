"""Box regression with uncertainty (KL loss)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from obc.config.box_losses.layers import HeadShape
from obc.config.box_losses.registry import Regression, register_box


@register_box
class Variance(Regression):
    """Box regression that also predicts a variance (KL loss); see `obc.detector.other_heads`."""

    loss: Literal["kl"]
    numbers_per_box: ClassVar[int] = 8

    def loss_config(self) -> dict[str, Any]:
        """The loss of the offsets; VarianceHead weights it by the predicted variance."""
        return dict(type="SmoothL1Loss", beta=1.0, loss_weight=self.loss_weight)

    def head(self, deltas: dict[str, Any], shape: HeadShape) -> dict[str, Any]:
        """A VarianceHead with its coder."""
        return super().head(deltas, shape) | dict(
            type="VarianceHead", bbox_coder=dict(type="VarianceBBoxCoder", **deltas)
        )

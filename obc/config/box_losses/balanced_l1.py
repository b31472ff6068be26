"""Box regression with the loss of Libra R-CNN."""

from __future__ import annotations

from typing import Any, Literal

from obc.config.box_losses.registry import Regression, register_box


@register_box
class BalancedL1(Regression):
    """Box regression with the balanced L1 loss and the alpha, gamma and beta of Libra R-CNN."""

    loss: Literal["balanced_l1"]

    def loss_config(self) -> dict[str, Any]:
        """MMDetection's BalancedL1Loss."""
        return dict(type="BalancedL1Loss", loss_weight=self.loss_weight)

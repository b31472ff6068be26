"""Box heads of other papers (GFL, KL loss), for comparison in the same detector.

These are two heads that MMDetection lacks, small, with the losses of their papers. The heads that
MMDetection has (SABL, IoU losses, balanced L1) are configured in `obc.config.box_losses`.

Shape shorthand: P positive RoIs, N boxes, m intervals.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.models.losses import DistributionFocalLoss, SmoothL1Loss
from mmdet.models.losses.utils import weight_reduce_loss
from mmdet.registry import MODELS, TASK_UTILS
from torch import Tensor

from obc.head.coders import DecodedDeltaCoder
from obc.head.delta_head import DeltaHead, require_type

# --- distributions: GFL's idea -----------------------------------------------------------------


@TASK_UTILS.register_module()
class IntegralBBoxCoder(DecodedDeltaCoder):
    """Decodes an offset as the mean of a distribution over m + 1 points from -a to a.

    This is the integral of Generalized Focal Loss (arXiv 2006.04388, equation 6), applied to a
    delta of section 3.1 instead of a distance from an anchor point to a side.

    Args:
        max_offset: a, positive and finite, in units of the normalised delta.
        num_intervals: m, at least 1.
        **kwargs: the arguments of ``DecodedDeltaCoder``.

    Raises:
        ValueError: an argument is outside the range given above.
    """

    def __init__(self, max_offset: float = 3.0, num_intervals: int = 20, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not (math.isfinite(max_offset) and max_offset > 0):
            raise ValueError(f"max_offset={max_offset!r} must be positive and finite")
        if num_intervals < 1:
            raise ValueError(f"num_intervals={num_intervals!r} must be at least 1")
        self.max_offset = max_offset
        self.num_intervals = num_intervals

    @property
    def encode_size(self) -> int:
        """4 * (m + 1), in the order coordinate, point."""
        return 4 * (self.num_intervals + 1)

    def logits(self, predictions: Tensor) -> Tensor:
        """View predictions (N, 4 * (m + 1)) as logits (N, 4, m + 1)."""
        return predictions.unflatten(-1, (4, self.num_intervals + 1))

    def positions(self, offsets: Tensor) -> Tensor:
        """Positions of offsets among the points, as fractional indices in [0, m)."""
        positions = (offsets / self.max_offset + 1) * (self.num_intervals / 2)
        # The loss also reads the point after an offset, and the last point has none after it.
        return positions.clamp(0, self.num_intervals - 1e-4)

    def deltas(self, predictions: Tensor) -> Tensor:
        """Normalised deltas (N, 4) of logits (N, 4 * (m + 1)), float32."""
        points = torch.linspace(
            -self.max_offset, self.max_offset, self.num_intervals + 1, device=predictions.device
        )
        return (self.logits(predictions).softmax(-1, dtype=torch.float32) * points).sum(-1)


@MODELS.register_module()
class DistributionHead(DeltaHead):
    """Learns the distribution that ``IntegralBBoxCoder`` decodes, by distribution focal loss.

    Args:
        bbox_coder: config of an ``IntegralBBoxCoder``; None for its defaults.
        loss_bbox: config of a ``DistributionFocalLoss``; None for weight 1.
        **kwargs: the other arguments of ``DeltaHead``.

    Raises:
        TypeError: ``bbox_coder`` or ``loss_bbox`` builds another type than named above.
    """

    def __init__(
        self,
        *,
        bbox_coder: dict[str, Any] | None = None,
        loss_bbox: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            bbox_coder=bbox_coder or {"type": "IntegralBBoxCoder"},
            loss_bbox=loss_bbox or {"type": "DistributionFocalLoss", "loss_weight": 1.0},
            **kwargs,
        )
        require_type("DistributionHead", "bbox_coder", self.bbox_coder, IntegralBBoxCoder)
        require_type("DistributionHead", "loss_bbox", self.loss_bbox, DistributionFocalLoss)

    def box_loss(
        self,
        predictions: Tensor,
        offsets: Tensor,
        weights: Tensor,
        num_sampled: int,
        reduction_override: str | None,
    ) -> Tensor:
        """Cross entropy of the two points around an offset, weighted by how near it is to each."""
        return self.loss_bbox(
            self.bbox_coder.logits(predictions).flatten(0, 1),
            self.bbox_coder.positions(offsets).flatten(),
            weight=weights.flatten(),
            avg_factor=num_sampled,
            reduction_override=reduction_override,
        )


# --- variances: KL loss ------------------------------------------------------------------------


@TASK_UTILS.register_module()
class VarianceBBoxCoder(DecodedDeltaCoder):
    """Decodes the mean of a normal distribution from four means and four log variances."""

    @property
    def encode_size(self) -> int:
        """8: four means and four log variances."""
        return 8

    def split(self, predictions: Tensor) -> tuple[Tensor, Tensor]:
        """Means (N, 4) and log variances (N, 4), float32, of predictions (N, 8)."""
        means, log_variances = predictions.float().unflatten(-1, (2, 4)).unbind(-2)
        return means, log_variances

    def deltas(self, predictions: Tensor) -> Tensor:
        """Normalised deltas (N, 4) of predictions (N, 8): the means, float32."""
        return self.split(predictions)[0]


@MODELS.register_module()
class VarianceHead(DeltaHead):
    """Regresses offsets and their variances (KL loss, arXiv 1809.08545, equations 9 and 10).

    Differences from that paper: its offsets are of the four sides, here they are the deltas of
    equation 1; its variance voting after NMS is another method and left out.

    Args:
        bbox_coder: config of a ``VarianceBBoxCoder``; None for its defaults.
        loss_bbox: config of a ``SmoothL1Loss``, the distance to the mean; None for beta 1.
        reg_class_agnostic: False, as in MMDetection's regression: each class has its own offsets.
        **kwargs: the other arguments of ``DeltaHead``.

    Raises:
        TypeError: ``bbox_coder`` or ``loss_bbox`` builds another type than named above.
    """

    def __init__(
        self,
        *,
        bbox_coder: dict[str, Any] | None = None,
        loss_bbox: dict[str, Any] | None = None,
        reg_class_agnostic: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            bbox_coder=bbox_coder or {"type": "VarianceBBoxCoder"},
            loss_bbox=loss_bbox or {"type": "SmoothL1Loss", "beta": 1.0, "loss_weight": 1.0},
            reg_class_agnostic=reg_class_agnostic,
            **kwargs,
        )
        require_type("VarianceHead", "bbox_coder", self.bbox_coder, VarianceBBoxCoder)
        require_type("VarianceHead", "loss_bbox", self.loss_bbox, SmoothL1Loss)

    def box_loss(
        self,
        predictions: Tensor,
        offsets: Tensor,
        weights: Tensor,
        num_sampled: int,
        reduction_override: str | None,
    ) -> Tensor:
        """The distance to the mean, divided by the variance, plus half the log variance."""
        means, log_variances = self.bbox_coder.split(predictions)
        distances = F.smooth_l1_loss(means, offsets, reduction="none", beta=self.loss_bbox.beta)
        return self.loss_bbox.loss_weight * weight_reduce_loss(
            (-log_variances).exp() * distances + log_variances / 2,
            weights,
            reduction_override or self.loss_bbox.reduction,
            num_sampled,
        )

"""The offset bin classification head (section 3.2) for MMDetection's two-stage detectors.

Shape shorthand: N RoIs of a batch, P positive ones, C classes, K stages, n logits a stage.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from mmdet.models.losses import CrossEntropyLoss
from mmdet.registry import MODELS, TASK_UTILS
from mmengine.model import BaseModule
from torch import Tensor, nn

from obc.bins import IGNORED, OffsetBins, check_choice
from obc.coder import OffsetBinBBoxCoder
from obc.delta_head import DeltaHead, require_type

Residual = Literal["gt_bin", "pred"]
StageFcs = Literal[0, 2]
BinNorm = Literal["sampled", "positive"]
CoordReduction = Literal["sum", "mean"]


@MODELS.register_module()
class OBCHead(DeltaHead):
    """``Shared2FCBBoxHead`` whose box branch classifies offsets into bins (section 3.2).

    ``bbox_pred`` is one tensor of logits, (N, 4 * K * n), or (N, C * 4 * K * n) when
    class-specific, that ``OffsetBinBBoxCoder`` decodes; so the head works in Faster R-CNN and
    Cascade R-CNN as any other box head.

    Args:
        residual: what stage k > 1 learns to predict: the offset from the centre of the ground
            truth's bin in the stage before ("gt_bin"), or from the sum of the expectations that
            the stages before predict ("pred").
        stage_fcs: layers of its own that each stage after the first has on the shared feature
            before its logits: 0 (one linear layer for all stages) or 2.
        bin_norm: divide the bin loss by all sampled RoIs of the batch, as MMDetection does
            ("sampled"), or by the positive ones ("positive").
        coord_reduction: sum the bin loss over the four coordinates (equation 7) or take their
            mean. Stages are always summed.
        reg_class_agnostic: one set of logits for all classes (s in R^4n, section 3.2.2).
        bbox_coder: config of an ``OffsetBinBBoxCoder``; None for its defaults.
        loss_bbox: config of a softmax ``CrossEntropyLoss``; its ``loss_weight`` is the lambda of
            equation 9. None for weight 1.
        **kwargs: the other arguments of ``Shared2FCBBoxHead``.

    Raises:
        ValueError: an unknown option, ``reg_decoded_bbox=True``, ``reg_predictor_cfg`` together
            with ``stage_fcs``, or a sigmoid or mask cross entropy.
        TypeError: ``bbox_coder`` or ``loss_bbox`` builds something else than named above.
    """

    def __init__(
        self,
        *,
        residual: Residual = "gt_bin",
        stage_fcs: StageFcs = 0,
        bin_norm: BinNorm = "sampled",
        coord_reduction: CoordReduction = "sum",
        reg_class_agnostic: bool = True,
        bbox_coder: dict[str, Any] | None = None,
        loss_bbox: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        check_choice("residual", residual, Residual)
        check_choice("stage_fcs", stage_fcs, StageFcs)
        check_choice("bin_norm", bin_norm, BinNorm)
        check_choice("coord_reduction", coord_reduction, CoordReduction)
        bbox_coder = bbox_coder or {"type": "OffsetBinBBoxCoder"}
        if stage_fcs:
            if "reg_predictor_cfg" in kwargs:
                raise ValueError(
                    f"reg_predictor_cfg={kwargs['reg_predictor_cfg']!r} and "
                    f"stage_fcs={stage_fcs} both choose the box predictor; give one of them"
                )
            kwargs["reg_predictor_cfg"] = _stage_predictor_cfg(_bins_of(bbox_coder), stage_fcs)
        super().__init__(
            reg_class_agnostic=reg_class_agnostic,
            bbox_coder=bbox_coder,
            loss_bbox=loss_bbox or {"type": "CrossEntropyLoss", "loss_weight": 1.0},
            **kwargs,
        )
        _check_coder(self.bbox_coder)
        _check_bin_loss(self.loss_bbox)
        self.residual = residual
        self.bin_norm = bin_norm
        self.coord_reduction = coord_reduction

    def box_loss(
        self,
        predictions: Tensor,
        offsets: Tensor,
        weights: Tensor,
        num_sampled: int,
        reduction_override: str | None,
    ) -> Tensor:
        """Bin loss (equation 7) of the positive RoIs, one cross entropy over all their logits."""
        logits = self.bbox_coder.stage_logits(predictions)
        labels = self._bin_labels(offsets, logits)
        return self.loss_bbox(
            logits.flatten(0, 2),
            labels.flatten(),
            weight=weights[..., None].expand_as(labels).flatten(),
            avg_factor=self._bin_avg_factor(num_sampled, weights),
            reduction_override=reduction_override,
            ignore_index=IGNORED,
        )

    def _bin_labels(self, offsets: Tensor, logits: Tensor) -> Tensor:
        """Labels (P, 4, K) of offsets (P, 4)."""
        bins = self.bbox_coder.bins
        if self.residual == "gt_bin":
            return bins.encode(offsets)
        return bins.encode_against(offsets, bins.decode_stages(logits.detach()))

    def _bin_avg_factor(self, num_sampled: int, weights: Tensor) -> int | Tensor:
        """What the sum of all cross entropies is divided by."""
        num_rois = num_sampled if self.bin_norm == "sampled" else (weights > 0).any(dim=1).sum()
        return num_rois * (4 if self.coord_reduction == "mean" else 1)


@MODELS.register_module()
class StageBinPredictor(BaseModule):
    """Bin logits of every stage, where each stage after the first has layers of its own.

    The paper does not say what features its later stages see (Figure 3).

    Args:
        in_features: width of the shared feature.
        out_features: width of the prediction, a multiple of K * n.
        num_stages: K.
        num_logits: n.
        num_fcs: layers, each with a ReLU, of every stage after the first.
    """

    def __init__(
        self, in_features: int, out_features: int, num_stages: int, num_logits: int, num_fcs: int
    ) -> None:
        super().__init__(
            init_cfg=[
                {"type": "Xavier", "distribution": "uniform", "override": {"name": "stage_fcs"}},
                {"type": "Normal", "std": 0.001, "override": {"name": "stage_logits"}},
            ]
        )
        self.num_logits = num_logits
        self.stage_fcs = nn.ModuleList(
            nn.Sequential(*_fc_layers(in_features, num_fcs if stage else 0))
            for stage in range(num_stages)
        )
        self.stage_logits = nn.ModuleList(
            nn.Linear(in_features, out_features // num_stages) for _ in range(num_stages)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Predictions (N, out_features) of features (N, in_features); stages before bins."""
        by_stage = [
            linear(fcs(features)).unflatten(1, (-1, self.num_logits))
            for fcs, linear in zip(self.stage_fcs, self.stage_logits, strict=True)
        ]
        return torch.stack(by_stage, dim=2).flatten(1)


def _fc_layers(width: int, num_fcs: int) -> list[nn.Module]:
    return [layer for _ in range(num_fcs) for layer in (nn.Linear(width, width), nn.ReLU())]


def _stage_predictor_cfg(bins: OffsetBins, num_fcs: int) -> dict[str, Any]:
    return {
        "type": "StageBinPredictor",
        "num_stages": bins.num_stages,
        "num_logits": bins.num_logits,
        "num_fcs": num_fcs,
    }


def _bins_of(bbox_coder: dict[str, Any]) -> OffsetBins:
    """The bins of a coder's config: the parent builds the coder too late for its predictor."""
    coder = TASK_UTILS.build(bbox_coder)
    _check_coder(coder)
    return coder.bins


def _check_coder(coder: object) -> None:
    require_type("OBCHead", "bbox_coder", coder, OffsetBinBBoxCoder)


def _check_bin_loss(loss: object) -> None:
    require_type("OBCHead", "loss_bbox", loss, CrossEntropyLoss)
    if loss.use_sigmoid or loss.use_mask:
        raise ValueError(
            f"loss_bbox has use_sigmoid={loss.use_sigmoid}, use_mask={loss.use_mask}; the bins "
            "of a coordinate exclude each other, so both must be False (equation 6)"
        )

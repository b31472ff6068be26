"""The offset bin classification head (section 3.2) for MMDetection's two-stage detectors.

Shape shorthand: N RoIs of a batch, P of them positive, R any number of RoIs, C classes, K stages,
n logits per stage, F channels of an RoI feature of S x S.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import torch
from mmdet.models.losses import CrossEntropyLoss
from mmdet.registry import MODELS, TASK_UTILS
from mmengine.model import BaseModule, ModuleList
from torch import Tensor, nn

import obc.head.refused_roi_heads  # noqa: F401
from obc.bins import IGNORED, OffsetBins, check_choice, floats
from obc.head.coders import OffsetBinBBoxCoder
from obc.head.delta_head import DeltaHead, require_type

StageFeatures = Literal["refined", "proposal", "shared"]
Residual = Literal["pred", "gt_bin", "argmax_bin"]
StageFcs = Literal[0, 2]
BinNorm = Literal["sampled", "positive"]
CoordReduction = Literal["sum", "mean"]
ClassScores = Literal["first", "mean"]


@MODELS.register_module()
class OBCHead(DeltaHead):
    """``Shared2FCBBoxHead`` whose box branch classifies offsets into bins (section 3.2).

    ``bbox_pred`` is one tensor of logits, (N, 4 * K * n), or (N, C * 4 * K * n) when
    class-specific, that ``OffsetBinBBoxCoder`` decodes. A head with one stage, or whose stages
    share a feature, works in Faster R-CNN and Cascade R-CNN as any other box head. Later stages
    with separate RoI features need the RoI head ``OBCRoIHead``: ``forward`` then predicts only the
    logits of stage 1, and ``stage_predictions`` predicts the logits of a later stage.

    Args:
        stage_features: input of stage k > 1: RoI features extracted again at the box that the
            earlier stages predict ("refined"), the RoI feature of the proposal ("proposal"), or
            the feature of stage 1 after the shared layers ("shared").
        stage_fcs: number of separate fully connected layers that each later stage has before its
            logits, 0 or 2. With 0 a later stage uses the head's shared layers.
        residual: target of stage k > 1: the residual after the expectations of the earlier stages
            ("pred"), the residual after their most probable bins ("argmax_bin"), or the offset
            from the centre of the ground truth's bin in the stage before ("gt_bin").
        stage_loss_weights: weight of each stage's loss, K of them; None for 1 each.
        class_scores: class logits of stage 1 ("first"), or their mean over the stages ("mean"):
            then each later stage classifies too.
        bin_norm: divide the bin loss by the number of sampled RoIs of the batch, as MMDetection
            does ("sampled"), or by the number of positive RoIs ("positive").
        coord_reduction: sum the bin loss over the four coordinates (equation 7) or take their
            mean. Stages are summed either way.
        reg_class_agnostic: one set of logits for all classes (s in R^4n, section 3.2.2).
        bbox_coder: config of an ``OffsetBinBBoxCoder``; None for its defaults.
        loss_bbox: config of a softmax ``CrossEntropyLoss``; its ``loss_weight`` is the lambda of
            equation 9. None for weight 1.
        **kwargs: the other arguments of ``Shared2FCBBoxHead``.

    Raises:
        ValueError: an unknown option, options that exclude each other (the message names them),
            ``reg_decoded_bbox=True``, or a sigmoid or mask cross entropy.
        TypeError: ``bbox_coder`` or ``loss_bbox`` builds another type than named above, or
            ``stage_loss_weights`` are not numbers.
    """

    def __init__(
        self,
        *,
        stage_features: StageFeatures = "refined",
        stage_fcs: StageFcs = 2,
        residual: Residual = "pred",
        stage_loss_weights: Sequence[float] | None = None,
        class_scores: ClassScores = "first",
        bin_norm: BinNorm = "sampled",
        coord_reduction: CoordReduction = "sum",
        reg_class_agnostic: bool = True,
        bbox_coder: dict[str, Any] | None = None,
        loss_bbox: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        check_choice("stage_features", stage_features, StageFeatures)
        check_choice("stage_fcs", stage_fcs, StageFcs)
        check_choice("residual", residual, Residual)
        check_choice("class_scores", class_scores, ClassScores)
        check_choice("bin_norm", bin_norm, BinNorm)
        check_choice("coord_reduction", coord_reduction, CoordReduction)
        bbox_coder = bbox_coder or {"type": "OffsetBinBBoxCoder"}
        bins = _bins_of(bbox_coder)
        if stage_features == "shared" and stage_fcs and bins.num_stages > 1:
            if "reg_predictor_cfg" in kwargs:
                raise ValueError(
                    f"reg_predictor_cfg={kwargs['reg_predictor_cfg']!r} and "
                    f"stage_fcs={stage_fcs} both choose the box predictor; give one of them"
                )
            kwargs["reg_predictor_cfg"] = _stage_predictor_cfg(bins, stage_fcs)
        super().__init__(
            reg_class_agnostic=reg_class_agnostic,
            bbox_coder=bbox_coder,
            loss_bbox=loss_bbox or {"type": "CrossEntropyLoss", "loss_weight": 1.0},
            **kwargs,
        )
        _check_coder(self.bbox_coder)
        _check_bin_loss(self.loss_bbox)
        self.stage_features = stage_features
        self.residual = residual
        self.stage_loss_weights = (
            None if stage_loss_weights is None else floats("stage_loss_weights", stage_loss_weights)
        )
        self.class_scores = class_scores
        self.bin_norm = bin_norm
        self.coord_reduction = coord_reduction
        self._check_stages()
        # `init_weights` initialises the modules in MMEngine's list, but not those in torch's.
        self.later_stages = ModuleList()
        if self.looks_again:
            self._separate_stages(stage_fcs)

    @property
    def looks_again(self) -> bool:
        """Whether later stages have separate RoI features, which ``OBCRoIHead`` extracts."""
        return self.bbox_coder.bins.num_stages > 1 and self.stage_features != "shared"

    def _check_stages(self) -> None:
        """Raise ValueError if options of the later stages exclude each other."""
        stages, weights = self.bbox_coder.bins.num_stages, self.stage_loss_weights
        if weights is not None and (len(weights) != stages or min(weights) <= 0):
            raise ValueError(
                f"stage_loss_weights={weights} must be {stages} positive numbers, one a stage"
            )
        if stages == 1:
            return
        if self.residual == "gt_bin" and self.bbox_coder.composition != "sum":
            raise ValueError(
                "residual='gt_bin' measures in units of the proposal and needs a coder with "
                f"composition='sum', not {self.bbox_coder.composition!r}"
            )
        if self.class_scores == "mean" and self.stage_features == "shared":
            raise ValueError(
                "class_scores='mean' with stage_features='shared': stages that share a feature "
                "have one class score; only 'first' is allowed"
            )

    def _separate_stages(self, stage_fcs: StageFcs) -> None:
        """Reduce the predictor to the logits of stage 1, and build each later stage's layers."""
        bins = self.bbox_coder.bins
        predictions = 4 * bins.num_logits * (1 if self.reg_class_agnostic else self.num_classes)
        predictor = {**self.reg_predictor_cfg, "in_features": self.reg_last_dim}
        self.fc_reg = MODELS.build({**predictor, "out_features": predictions})
        area = 1 if self.with_avg_pool else self.roi_feat_area
        widths = [self.in_channels * area] + [self.fc_out_channels] * stage_fcs
        for _ in range(bins.num_stages - 1):
            self.later_stages.append(
                LaterStage(
                    widths if stage_fcs else [self.reg_last_dim],
                    predictions,
                    self.fc_cls.out_features if self.class_scores == "mean" else None,
                )
            )

    def stage_predictions(self, stage: int, features: Tensor) -> tuple[Tensor, Tensor | None]:
        """Predict the logits of a later stage from its RoI features.

        Args:
            stage: index of the stage, from 1 (the second stage) to K - 1.
            features: RoI features (R, F, S, S).

        Returns:
            Bin logits (R, 4 * n), or (R, C * 4 * n) when class-specific, and class logits
            (R, C + 1), or None if ``class_scores`` is "first".
        """
        layers = self.later_stages[stage - 1]
        if self.with_avg_pool:
            features = self.avg_pool(features)
        features = features.flatten(1)
        if not layers.fcs:
            for shared in self.shared_fcs:
                features = self.relu(shared(features))
        return layers(features)

    def stage_of_class(self, predictions: Tensor, classes: Tensor | None) -> Tensor:
        """Logits (R, 4, n) of one stage, float32, for the given class of each RoI.

        Args:
            predictions: of one stage, (R, 4 * n) or (R, C * 4 * n), any floating type.
            classes: class of each RoI, (R,); not read if the head is class-agnostic.
        """
        num_logits = self.bbox_coder.bins.num_logits
        if self.reg_class_agnostic:
            return predictions.float().unflatten(1, (4, num_logits))
        by_class = predictions.float().unflatten(1, (self.num_classes, 4, num_logits))
        rows = torch.arange(len(predictions), device=predictions.device)
        return by_class[rows, classes.clamp(0, self.num_classes - 1)]  # type: ignore[union-attr]

    def join_stages(self, stages: Sequence[Tensor]) -> Tensor:
        """Join each stage's predictions, (R, 4 * n) or (R, C * 4 * n), in the coder's order.

        Returns:
            Predictions (R, 4 * K * n) or (R, C * 4 * K * n).
        """
        num_logits = self.bbox_coder.bins.num_logits
        return torch.stack([each.unflatten(1, (-1, num_logits)) for each in stages], 2).flatten(1)

    def loss(
        self, cls_score: Tensor | None, bbox_pred: Tensor | None, *args: Any, **kwargs: Any
    ) -> dict[str, Tensor]:
        """Losses as in ``DeltaHead``; only the class loss without `bbox_pred`, as samplers call it.

        Raises:
            TypeError: later stages need separate RoI features, which the RoI head does not extract.
        """
        if self.looks_again and bbox_pred is not None:
            raise TypeError(
                f"stage_features={self.stage_features!r} with num_stages="
                f"{self.bbox_coder.bins.num_stages}: later stages see RoI features of their own, "
                "which only the roi_head type OBCRoIHead extracts; name it, or give "
                "stage_features='shared'"
            )
        return super().loss(cls_score, bbox_pred, *args, **kwargs)

    def box_loss(
        self,
        predictions: Tensor,
        offsets: Tensor,
        weights: Tensor,
        num_sampled: int,
        reduction_override: str | None,
    ) -> Tensor:
        """Bin loss (equation 7) of the positive RoIs: one cross entropy over all their logits."""
        logits = self.bbox_coder.stage_logits(predictions)
        labels = self._bin_labels(offsets, logits)
        return self.loss_bbox(
            logits.flatten(0, 2),
            labels.flatten(),
            weight=self._stage_weights(weights).flatten(),
            avg_factor=self._bin_avg_factor(num_sampled, weights),
            reduction_override=reduction_override,
            ignore_index=IGNORED,
        )

    def _bin_labels(self, offsets: Tensor, logits: Tensor) -> Tensor:
        """Labels (P, 4, K) of offsets (P, 4)."""
        bins = self.bbox_coder.bins
        if self.residual == "gt_bin":
            return bins.encode(offsets)
        mode = "argmax" if self.residual == "argmax_bin" else "expectation"
        predicted = bins.decode_stages(logits.detach(), mode)
        return bins.labels(self.bbox_coder.residuals(offsets, predicted))

    def _stage_weights(self, weights: Tensor) -> Tensor:
        """Loss weights (P, 4, K) of all stages, from box weights (P, 4)."""
        by_stage = self.stage_loss_weights or (1.0,) * self.bbox_coder.bins.num_stages
        return torch.stack([weights * weight for weight in by_stage], dim=-1)

    def _bin_avg_factor(self, num_sampled: int, weights: Tensor) -> int | Tensor:
        """Divisor of the sum of all cross entropies."""
        num_rois = num_sampled if self.bin_norm == "sampled" else (weights > 0).any(dim=1).sum()
        return num_rois * (4 if self.coord_reduction == "mean" else 1)


class LaterStage(BaseModule):
    """The layers of one later stage: fully connected layers, then bin logits and class logits.

    Args:
        widths: width of the input, then of each fully connected layer.
        num_predictions: number of bin logits of a RoI, 4 * n or C * 4 * n.
        num_class_scores: number of class logits of a RoI; None for a stage that does not classify.
    """

    def __init__(
        self, widths: Sequence[int], num_predictions: int, num_class_scores: int | None
    ) -> None:
        overrides = [
            {"type": "Xavier", "distribution": "uniform", "override": {"name": "fcs"}},
            {"type": "Normal", "std": 0.001, "override": {"name": "fc_reg"}},
        ]
        if num_class_scores is not None:
            overrides.append({"type": "Normal", "std": 0.01, "override": {"name": "fc_cls"}})
        super().__init__(init_cfg=overrides)
        self.fcs = nn.Sequential()
        for width, following in pairwise(widths):
            self.fcs.extend((nn.Linear(width, following), nn.ReLU()))
        self.fc_reg = nn.Linear(widths[-1], num_predictions)
        self.fc_cls = num_class_scores and nn.Linear(widths[-1], num_class_scores)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor | None]:
        """Bin logits (R, num_predictions) and class logits of features (R, widths[0])."""
        features = self.fcs(features)
        return self.fc_reg(features), self.fc_cls and self.fc_cls(features)  # type: ignore[return-value]


@MODELS.register_module()
class StageBinPredictor(BaseModule):
    """Predicts bin logits of all stages from the shared feature, by separate layers per stage.

    Args:
        in_features: width of the shared feature.
        out_features: width of the prediction, a multiple of K * n.
        num_stages: K.
        num_logits: n.
        num_fcs: fully connected layers, each with a ReLU, of every stage after the first.
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
        """Predictions (N, out_features) of features (N, in_features), in the coder's order."""
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
    """The bins of a coder's config; the predictor needs them before the parent builds the coder."""
    coder = TASK_UTILS.build(bbox_coder)
    _check_coder(coder)
    return coder.bins


def _check_coder(coder: object) -> None:
    require_type("OBCHead", "bbox_coder", coder, OffsetBinBBoxCoder)


def _check_bin_loss(loss: object) -> None:
    require_type("OBCHead", "loss_bbox", loss, CrossEntropyLoss)
    if loss.use_sigmoid or loss.use_mask:  # type: ignore[attr-defined]
        raise ValueError(
            f"loss_bbox has use_sigmoid={loss.use_sigmoid}, use_mask={loss.use_mask}; the bins "  # type: ignore[attr-defined]
            "of a coordinate exclude each other, so both must be False (equation 6)"
        )

"""A box head for MMDetection whose targets are four deltas, however wide its predictions are.

MMDetection's own heads make box targets as wide as predictions; a head that classifies an offset,
or predicts a distribution of it, needs the offset itself. What such a head adds is `box_loss`.

Shape shorthand: N RoIs of a batch, P positive ones, C classes, E the width of a box prediction (the
coder's ``encode_size``).
"""

from __future__ import annotations

from typing import Any

import torch
from mmdet.models.roi_heads.bbox_heads import Shared2FCBBoxHead
from mmdet.models.task_modules.samplers import SamplingResult
from mmdet.structures.bbox import get_box_tensor
from torch import Tensor


class DeltaHead(Shared2FCBBoxHead):
    """``Shared2FCBBoxHead`` with four-wide box targets and a box loss of the positive RoIs' own.

    ``bbox_pred`` is one tensor, (N, E), or (N, C * E) when class-specific, that the coder decodes;
    so the head works in Faster R-CNN and Cascade R-CNN as any other box head.

    Args:
        reg_class_agnostic: one box prediction for all classes.
        **kwargs: the other arguments of ``Shared2FCBBoxHead``.

    Raises:
        ValueError: ``reg_decoded_bbox=True``; the losses here are of deltas.
    """

    def __init__(self, *, reg_class_agnostic: bool = True, **kwargs: Any) -> None:
        if kwargs.get("reg_decoded_bbox"):
            raise ValueError(
                f"reg_decoded_bbox=True: {type(self).__name__} learns from deltas, not boxes"
            )
        super().__init__(reg_class_agnostic=reg_class_agnostic, **kwargs)

    def box_loss(
        self,
        predictions: Tensor,
        offsets: Tensor,
        weights: Tensor,
        num_sampled: int,
        reduction_override: str | None,
    ) -> Tensor:
        """The box loss of the positive RoIs.

        Args:
            predictions: of their own class when class-specific, (P, E), float32.
            offsets: normalised deltas to their objects, (P, 4).
            weights: (P, 4).
            num_sampled: N.
            reduction_override: a reduction in place of the loss's own.
        """
        raise NotImplementedError

    def _get_targets_single(
        self,
        pos_priors: Tensor,
        neg_priors: Tensor,
        pos_gt_bboxes: Tensor,
        pos_gt_labels: Tensor,
        cfg: Any,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Targets of one image's sampled RoIs, positives first.

        Unlike the parent's, box targets are deltas, four wide, not as wide as a prediction.
        """
        pos_priors = get_box_tensor(pos_priors)
        num_pos, num_sampled = len(pos_priors), len(pos_priors) + len(neg_priors)
        labels = pos_gt_labels.new_full((num_sampled,), self.num_classes)
        labels[:num_pos] = pos_gt_labels
        label_weights = pos_priors.new_ones(num_sampled)
        if cfg.pos_weight > 0:
            label_weights[:num_pos] = cfg.pos_weight
        bbox_targets = pos_priors.new_zeros(num_sampled, 4)
        bbox_targets[:num_pos] = self.bbox_coder.encode(pos_priors, pos_gt_bboxes)
        bbox_weights = pos_priors.new_zeros(num_sampled, 4)
        bbox_weights[:num_pos] = 1
        return labels, label_weights, bbox_targets, bbox_weights

    def loss_and_target(
        self,
        cls_score: Tensor | None,
        bbox_pred: Tensor | None,
        rois: Tensor,
        sampling_results: list[SamplingResult],
        rcnn_train_cfg: Any,
        concat: bool = True,
        reduction_override: str | None = None,
    ) -> dict[str, Any]:
        """Losses and targets of a batch, as the parent's; ``loss`` says what the losses are."""
        targets = self.get_targets(sampling_results, rcnn_train_cfg, concat=concat)
        losses = self.loss(
            cls_score,
            bbox_pred,
            rois,
            *targets,
            reduction_override=reduction_override,
            pos_inds=_positive_rows(sampling_results, rois.device),
        )
        return {"loss_bbox": losses, "bbox_targets": targets}

    def loss(
        self,
        cls_score: Tensor | None,
        bbox_pred: Tensor | None,
        rois: Tensor,
        labels: Tensor,
        label_weights: Tensor,
        bbox_targets: Tensor,
        bbox_weights: Tensor,
        reduction_override: str | None = None,
        pos_inds: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Classification loss of all RoIs and ``box_loss`` of the positive ones.

        Args:
            cls_score: class logits (N, C + 1).
            bbox_pred: box predictions (N, E) or (N, C * E).
            rois: (N, 5), image index and box.
            labels: (N,), background is C.
            label_weights: (N,).
            bbox_targets: normalised deltas (N, 4).
            bbox_weights: (N, 4).
            reduction_override: a reduction in place of the losses' own.
            pos_inds: rows of the positive RoIs (P,), read from ``labels`` when not given, for
                which a GPU has to wait.

        Returns:
            ``loss_cls`` and ``acc`` as the parent's, and ``loss_bbox``.
        """
        losses = super().loss(
            cls_score, None, rois, labels, label_weights, None, None, reduction_override
        )
        if bbox_pred is None:
            return losses
        if pos_inds is None:
            pos_inds = ((labels >= 0) & (labels < self.num_classes)).nonzero().squeeze(1)
        losses["loss_bbox"] = self.box_loss(
            self._positive_predictions(bbox_pred, labels, pos_inds),
            bbox_targets[pos_inds],
            bbox_weights[pos_inds],
            len(labels),
            reduction_override,
        )
        return losses

    def _positive_predictions(self, bbox_pred: Tensor, labels: Tensor, pos_inds: Tensor) -> Tensor:
        """Predictions (P, E) of the positive RoIs, each for its own class, float32."""
        if self.reg_class_agnostic:
            return bbox_pred[pos_inds].float()
        by_class = bbox_pred.unflatten(1, (self.num_classes, self.bbox_coder.encode_size))
        return by_class[pos_inds, labels[pos_inds]].float()


def _positive_rows(sampling_results: list[SamplingResult], device: torch.device) -> Tensor:
    """Rows of the positive RoIs of a batch; each image has its positives first.

    Their counts are shapes, known on the host: nothing here makes a GPU wait.
    """
    rows, first = [], 0
    for result in sampling_results:
        num_pos, num_neg = len(result.pos_priors), len(result.neg_priors)
        rows.append(torch.arange(first, first + num_pos, device=device))
        first += num_pos + num_neg
    return torch.cat(rows)

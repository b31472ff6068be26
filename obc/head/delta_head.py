"""A box head for MMDetection whose box targets are four deltas, however wide its predictions are.

MMDetection's own heads make box targets as wide as predictions. A head that classifies an offset,
or predicts a distribution of it, needs the offset itself. Such a head implements `box_loss`.

Shape shorthand: N RoIs of a batch, P of them positive, C classes, E the width of a box prediction
(the coder's ``encode_size``).
"""

from __future__ import annotations

from typing import Any

import torch
from mmdet.models.roi_heads.bbox_heads import Shared2FCBBoxHead
from mmdet.models.task_modules.samplers import SamplingResult
from mmdet.structures.bbox import get_box_tensor
from torch import Tensor


class DeltaHead(Shared2FCBBoxHead):
    """``Shared2FCBBoxHead`` whose box targets are the four deltas, however wide its predictions.

    Subclasses implement ``box_loss`` for the positive RoIs. ``bbox_pred`` is one tensor, (N, E), or
    (N, C * E) when class-specific, that the coder decodes; so the head works in Faster R-CNN and
    Cascade R-CNN as any other box head.

    Args:
        reg_class_agnostic: one box prediction for all classes.
        **kwargs: the other arguments of ``Shared2FCBBoxHead``.

    Raises:
        ValueError: ``reg_decoded_bbox=True``, because the losses here compare deltas, not boxes; or
            a setting of convolutions, which this head does not have.
    """

    def __init__(self, *, reg_class_agnostic: bool = True, **kwargs: Any) -> None:
        if kwargs.get("reg_decoded_bbox"):
            raise ValueError(
                f"reg_decoded_bbox=True: {type(self).__name__} learns from deltas, not boxes"
            )
        for name in ("conv_out_channels", "conv_cfg", "norm_cfg"):
            if kwargs.get(name) is not None:
                raise ValueError(
                    f"{name}={kwargs[name]!r}: {type(self).__name__} has two fully connected "
                    "layers and no convolutions (a config that inherits a head with convolutions "
                    "has to replace it, with _delete_=True)"
                )
            kwargs.pop(name, None)
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
            predictions: (P, E), float32, for the true class of each RoI when class-specific.
            offsets: normalised deltas from the RoIs to their objects, (P, 4).
            weights: (P, 4). Rows of negative RoIs have weight 0 (and zero predictions and offsets).
            num_sampled: N.
            reduction_override: a reduction that replaces the loss's own.
        """
        raise NotImplementedError

    def get_targets(
        self, sampling_results: list[SamplingResult], rcnn_train_cfg: Any, concat: bool = True
    ) -> tuple[Tensor, ...] | tuple[list[Tensor], ...]:
        """Targets of the sampled RoIs of a batch, encoded for all images at once.

        Unlike the parent's, box targets are the four deltas, not as wide as a prediction.

        Args:
            sampling_results: one for each image.
            rcnn_train_cfg: its ``pos_weight`` is the class weight of positive RoIs; a value of 0
                or less means 1.
            concat: return one tensor for the batch instead of a list with one for each image.

        Returns:
            Labels (N,), label weights (N,), box targets (N, 4) and box weights (N, 4).
        """
        sizes = [len(result.pos_priors) + len(result.neg_priors) for result in sampling_results]
        priors = torch.cat([get_box_tensor(result.pos_priors) for result in sampling_results])
        gt_boxes = torch.cat([get_box_tensor(result.pos_gt_bboxes) for result in sampling_results])
        gt_labels = torch.cat([result.pos_gt_labels for result in sampling_results])
        deltas = self.bbox_coder.encode(priors, gt_boxes)
        rows = positive_rows(sampling_results, priors.device)
        pos_weight = rcnn_train_cfg.pos_weight if rcnn_train_cfg.pos_weight > 0 else 1.0
        num_rois = sum(sizes)
        targets = (
            gt_labels.new_full((num_rois,), self.num_classes).index_copy_(0, rows, gt_labels),
            deltas.new_ones(num_rois).index_fill_(0, rows, pos_weight),
            deltas.new_zeros(num_rois, 4).index_copy_(0, rows, deltas),
            deltas.new_zeros(num_rois, 4).index_fill_(0, rows, 1.0),
        )
        return targets if concat else tuple(list(target.split(sizes)) for target in targets)

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
        """Losses (see ``loss``) and targets of a batch, in the parent's format."""
        targets = self.get_targets(sampling_results, rcnn_train_cfg, concat=concat)
        losses = self.loss(  # type: ignore[misc]
            cls_score,
            bbox_pred,
            rois,
            *targets,
            reduction_override=reduction_override,
            pos_inds=positive_rows(sampling_results, rois.device),
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
            reduction_override: a reduction that replaces the losses' own.
            pos_inds: rows of the positive RoIs (P,). If None, only the device knows them, and
                reading them would make the host wait for a GPU: ``box_loss`` then gets all RoIs,
                the negative RoIs with zeros and weight 0.

        Returns:
            ``loss_cls`` and ``acc`` as the parent's, and ``loss_bbox``. No call here waits for a
            GPU.
        """
        losses = self.class_losses(cls_score, labels, label_weights, reduction_override)
        if bbox_pred is None:
            return losses
        rows = torch.arange(len(labels), device=labels.device) if pos_inds is None else pos_inds
        predictions = self.own_predictions(bbox_pred, labels, rows)
        offsets, weights = (part.index_select(0, rows) for part in (bbox_targets, bbox_weights))
        if pos_inds is None:
            negative = ((labels < 0) | (labels >= self.num_classes))[:, None]
            predictions = predictions.masked_fill(negative, 0)
            offsets, weights = offsets.masked_fill(negative, 0), weights.masked_fill(negative, 0)
        losses["loss_bbox"] = self.box_loss(
            predictions, offsets, weights, len(labels), reduction_override
        )
        return losses

    def class_losses(
        self,
        cls_score: Tensor | None,
        labels: Tensor,
        label_weights: Tensor,
        reduction_override: str | None = None,
    ) -> dict[str, Tensor]:
        """``loss_cls`` and ``acc`` of class logits (N, C + 1) for labels (N,) with weights (N,).

        The parent reads the average factor on the host, which waits for a GPU; this method does
        not.
        """
        if cls_score is None or cls_score.numel() == 0:
            return {}
        losses = self.loss_cls(
            cls_score,
            labels,
            label_weights,
            avg_factor=(label_weights > 0).sum().clamp(min=1),
            reduction_override=reduction_override,
        )
        if not isinstance(losses, dict):
            losses = {"loss_cls": losses}
        if self.custom_activation:
            return {**losses, **self.loss_cls.get_accuracy(cls_score, labels)}
        right = cls_score.max(dim=1).indices == labels
        return {**losses, "acc": right.float().sum(0, keepdim=True) * (100 / len(labels))}

    def own_predictions(self, bbox_pred: Tensor, labels: Tensor, rows: Tensor) -> Tensor:
        """Predictions (R, E) of the RoIs in these rows (R,), each for its true class, float32."""
        if self.reg_class_agnostic:
            return bbox_pred.index_select(0, rows).float()
        by_class = bbox_pred.unflatten(1, (self.num_classes, self.bbox_coder.encode_size))
        return by_class[rows, labels[rows].clamp(0, self.num_classes - 1)].float()


def require_type(head: str, part: str, built: object, wanted: type) -> None:
    """Raise TypeError unless a head's part has the wanted type; configs often inherit another."""
    if not isinstance(built, wanted):
        article = "an" if wanted.__name__[0] in "AEIOU" else "a"
        raise TypeError(
            f"{part} builds a {type(built).__name__}; {head} needs {article} {wanted.__name__} "
            f"(a config that inherits another head's {part} has to replace it)"
        )


def positive_rows(sampling_results: list[SamplingResult], device: torch.device) -> Tensor:
    """Rows of the positive RoIs of a batch; within an image the positive RoIs come first.

    The counts are tensor shapes, which the host knows, so no call here waits for a GPU.
    """
    rows, first = [], 0
    for result in sampling_results:
        num_pos, num_neg = len(result.pos_priors), len(result.neg_priors)
        rows.append(torch.arange(first, first + num_pos, device=device))
        first += num_pos + num_neg
    return torch.cat(rows)

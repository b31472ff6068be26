"""The RoI head whose later stages extract RoI features again (hierarchical focusing, 3.2.4).

Shape shorthand: N RoIs of a batch, R some of them, P of them positive, C classes, K stages,
n logits per stage.
"""

from __future__ import annotations

from typing import Any

import torch
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.models.task_modules.samplers import SamplingResult
from mmdet.registry import MODELS
from mmdet.structures.bbox import bbox2roi
from torch import Tensor

from obc.bins import DecodeMode
from obc.head.delta_head import positive_rows, require_type
from obc.head.obc_head import OBCHead


@MODELS.register_module()
class OBCRoIHead(StandardRoIHead):
    """``StandardRoIHead`` for an ``OBCHead`` whose later stages have separate RoI features.

    With refined features, stage k > 1 gets the RoI feature at the box that the earlier stages
    predict; no gradient flows through that box. The box is decoded by expectation in training and
    by the coder's ``decode_mode`` in a test. Boxes are clipped to the image only at the end. Later
    stages learn from the positive RoIs of stage 1; RoIs are not assigned or sampled again. A
    class-specific head uses the box of a positive RoI's true class in training, and of the most
    probable class in a test. Mask branch, shared head and test-time augmentation are the parent's.

    Args:
        **kwargs: the arguments of ``StandardRoIHead``.

    Raises:
        TypeError: ``bbox_head`` does not build an ``OBCHead``.
    """

    def init_bbox_head(self, bbox_roi_extractor: Any, bbox_head: Any) -> None:
        """Build the extractor and the head, which must be an ``OBCHead``."""
        super().init_bbox_head(bbox_roi_extractor, bbox_head)
        require_type("OBCRoIHead", "bbox_head", self.bbox_head, OBCHead)

    def _bbox_forward(self, x: tuple[Tensor, ...], rois: Tensor) -> dict[str, Tensor]:
        """Class logits (N, C + 1) and predictions of all stages, for a test of RoIs (N, 5)."""
        first = super()._bbox_forward(x, rois)
        head = self.bbox_head
        if not head.looks_again:
            return first
        stages, _, class_logits = self._look_again(
            x, rois, first, self._likeliest_classes(first["cls_score"]), head.bbox_coder.decode_mode
        )
        mean = torch.stack([first["cls_score"], *class_logits]).mean(0)
        return {**first, "bbox_pred": head.join_stages(stages), "cls_score": mean}

    def bbox_loss(
        self, x: tuple[Tensor, ...], sampling_results: list[SamplingResult]
    ) -> dict[str, Any]:
        """Losses of all stages, and stage 1's class logits, predictions and RoI features.

        The host knows the number of positive RoIs, so no call here waits for a GPU, except
        MMDetection's RoI extractor, which waits once for each feature level and stage.
        """
        head = self.bbox_head
        if not head.looks_again:
            return super().bbox_loss(x, sampling_results)
        rois = bbox2roi([result.priors for result in sampling_results])
        first = super()._bbox_forward(x, rois)
        labels, label_weights, offsets, weights = head.get_targets(sampling_results, self.train_cfg)
        positive = positive_rows(sampling_results, rois.device)
        # If later stages classify, they also process the negative RoIs, each at the box of its most
        # probable class.
        everything = head.class_scores == "mean"
        rows = torch.arange(len(rois), device=rois.device) if everything else positive
        background = labels == head.num_classes
        classes = torch.where(background, self._likeliest_classes(first["cls_score"]), labels)
        _, logits, class_logits = self._look_again(
            x,
            rois.index_select(0, rows),
            {key: first[key].index_select(0, rows) for key in ("bbox_pred", "bbox_feats")},
            classes.index_select(0, rows),
            "expectation",
        )
        losses = head.class_losses(first["cls_score"], labels, label_weights)
        losses["loss_bbox"] = head.box_loss(
            (logits.index_select(0, positive) if everything else logits).flatten(1),
            offsets.index_select(0, positive),
            weights.index_select(0, positive),
            len(labels),
            None,
        )
        for stage, each in enumerate(class_logits, start=1):
            weight = head.stage_loss_weights[stage] if head.stage_loss_weights else 1.0
            for name, value in head.class_losses(each, labels, label_weights).items():
                if "loss" in name:  # the others are accuracies
                    losses[f"stage{stage + 1}.{name}"] = value * weight
        return {**first, "loss_bbox": losses}

    def _look_again(
        self,
        x: tuple[Tensor, ...],
        rois: Tensor,
        first: dict[str, Tensor],
        classes: Tensor,
        mode: DecodeMode,
    ) -> tuple[list[Tensor], Tensor, list[Tensor]]:
        """Run the later stages on some RoIs.

        Args:
            x: feature maps.
            rois: (R, 5), image index and box.
            first: of stage 1, ``bbox_pred`` (R, 4 * n) or (R, C * 4 * n) and ``bbox_feats``.
            classes: class (R,) whose predicted box is used for each RoI.
            mode: how the earlier stages are decoded to get that box.

        Returns:
            Predictions of each of the K stages, (R, 4 * n) or (R, C * 4 * n); the logits for
            ``classes`` of all stages, (R, 4, K, n), float32; and class logits of the later stages,
            an empty list if ``class_scores`` is "first".
        """
        head, coder = self.bbox_head, self.bbox_head.bbox_coder
        predictions = [first["bbox_pred"]]
        own = [head.stage_of_class(first["bbox_pred"], classes)]
        class_logits = []
        for stage in range(1, coder.bins.num_stages):
            features = first["bbox_feats"]
            if head.stage_features == "refined":
                logits = torch.stack(own, dim=2).detach()
                offsets = coder.compose(coder.bins.decode_stages(logits, mode))
                boxes = coder.delta_coder.decode(
                    rois[:, 1:], offsets, wh_ratio_clip=coder.wh_ratio_clip
                )
                features = self._region_features(x, torch.cat([rois[:, :1], boxes], dim=1))
            prediction, scores = head.stage_predictions(stage, features)
            predictions.append(prediction)
            own.append(head.stage_of_class(prediction, classes))
            if scores is not None:
                class_logits.append(scores)
        return predictions, torch.stack(own, dim=2), class_logits

    def _region_features(self, x: tuple[Tensor, ...], rois: Tensor) -> Tensor:
        features = self.bbox_roi_extractor(x[: self.bbox_roi_extractor.num_inputs], rois)
        return self.shared_head(features) if self.with_shared_head else features

    def _likeliest_classes(self, class_logits: Tensor) -> Tensor:
        """Most probable class (N,), without the background, of class logits (N, C + 1)."""
        head = self.bbox_head
        if head.custom_activation:
            class_logits = head.loss_cls.get_activation(class_logits)
        return class_logits[:, : head.num_classes].argmax(dim=1)

"""MMDetection's RPN for batches of images of one size: targets and proposals of all images at once.

``RPNHead`` works image by image. On small images its many small operations take a third of a
training step on a CPU. Losses, sampling and results equal the stock head's, because random numbers
are drawn in the same order. A batch of images of several sizes takes the stock head's code path.

Shape shorthand: B images, A anchors of an image on all levels, G the largest number of objects in
an image, K proposals of an image before NMS.
"""

from __future__ import annotations

from typing import Any

import torch
from mmcv.ops import nms
from mmdet.models.dense_heads import RPNHead
from mmdet.models.task_modules.assigners import MaxIoUAssigner
from mmdet.models.task_modules.prior_generators import anchor_inside_flags
from mmdet.models.task_modules.samplers import RandomSampler
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor


def assign_anchors(assigner: MaxIoUAssigner, anchors: Tensor, objects: list[Tensor]) -> Tensor:
    """Assign each anchor of each image to an object, as ``MaxIoUAssigner`` does.

    Args:
        assigner: gives the thresholds.
        anchors: (A, 4), the same for every image.
        objects: boxes (G_i, 4) of each image's objects.

    Returns:
        (B, A): 1 + the object's index; 0 for a negative, -1 for an anchor that is not used.
    """
    most = max(1, *map(len, objects))
    boxes = anchors.new_zeros(len(objects), most, 4)
    missing = torch.ones(len(objects), most, dtype=torch.bool, device=anchors.device)
    for image, of_image in enumerate(objects):
        boxes[image, : len(of_image)] = of_image
        missing[image, : len(of_image)] = False
    overlaps = assigner.iou_calculator(boxes, anchors.expand(len(objects), -1, -1))
    overlaps = overlaps.masked_fill(missing[..., None], -1.0)
    best, nearest = overlaps.max(dim=1)
    assigned = torch.full_like(nearest, -1)
    assigned[best < assigner.neg_iou_thr] = 0
    assigned = torch.where(best >= assigner.pos_iou_thr, nearest + 1, assigned)
    if assigner.match_low_quality:
        closest = overlaps.amax(dim=2, keepdim=True)
        low_quality = (overlaps == closest) & (closest >= assigner.min_pos_iou)
        for index in range(most):  # the last of several objects gets the anchor
            assigned = torch.where(low_quality[:, index], index + 1, assigned)
    return assigned


def sample_anchors(sampler: RandomSampler, assigned: Tensor) -> tuple[Tensor, Tensor]:
    """Anchors of one image that the loss uses, as ``RandomSampler`` draws them.

    Args:
        sampler: gives the number of anchors and the fraction of positive anchors.
        assigned: (A,), as ``assign_anchors`` returns it.

    Returns:
        Indices of positive and of negative anchors.
    """
    positives = _choose(assigned > 0, int(sampler.num * sampler.pos_fraction))
    negatives = _choose(assigned == 0, sampler.num - len(positives))
    return positives, negatives


def _choose(mask: Tensor, most: int) -> Tensor:
    chosen = mask.nonzero().squeeze(1)
    if len(chosen) <= most:
        return chosen
    return chosen[torch.randperm(len(chosen))[:most].to(chosen.device)]


@MODELS.register_module()
class BatchedRPNHead(RPNHead):
    """``RPNHead`` with the same weights, losses and proposals, in fewer and larger operations.

    NMS of any type but hard NMS within each level takes the stock head's code path.

    Raises:
        ValueError: assigner, sampler or their options are not those of the base configs
            (``MaxIoUAssigner``, ``RandomSampler``).
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._kept_anchors: tuple[Any, list[Tensor]] = (None, [])
        if self.train_cfg is None:
            return
        assigner, sampler = self.assigner, self.sampler
        plain = (
            type(assigner) is MaxIoUAssigner
            and isinstance(assigner.neg_iou_thr, float)
            and assigner.gt_max_assign_all
            and assigner.ignore_iof_thr < 0
            and assigner.perm_repeat_gt_cfg is None
            and type(sampler) is RandomSampler
            and sampler.neg_pos_ub < 0
            and not sampler.add_gt_as_proposals
            and self.train_cfg["pos_weight"] <= 0
            and not self.reg_decoded_bbox
        )
        if not plain:
            raise ValueError(f"BatchedRPNHead has no batched form of {self.train_cfg}; use RPNHead")

    def loss_by_feat(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        batch_gt_instances: list[InstanceData],
        batch_img_metas: list[dict[str, Any]],
        batch_gt_instances_ignore: list[InstanceData] | None = None,
    ) -> dict[str, list[Tensor]]:
        """The same losses as the stock head's, one for each level."""
        if not _fills_its_batch(batch_img_metas):
            return super().loss_by_feat(
                cls_scores,
                bbox_preds,
                batch_gt_instances,
                batch_img_metas,
                batch_gt_instances_ignore,
            )
        levels = self._anchors(cls_scores)
        objects = [instances.bboxes for instances in batch_gt_instances]
        targets, average_factor = self._targets(
            torch.cat(levels), objects, batch_img_metas[0]["img_shape"]
        )
        counts = [len(level) for level in levels]
        losses = [
            self.loss_by_feat_single(scores, deltas, level, *of_level, avg_factor=average_factor)
            for scores, deltas, level, *of_level in zip(
                cls_scores,
                bbox_preds,
                levels,
                *(target.split(counts, dim=1) for target in targets),
                strict=True,
            )
        ]
        classification, box = map(list, zip(*losses, strict=True))
        return dict(loss_rpn_cls=classification, loss_rpn_bbox=box)

    def _targets(
        self, anchors: Tensor, objects: list[Tensor], image_shape: tuple[int, int]
    ) -> tuple[list[Tensor], int]:
        """Labels and their weights (B, A), deltas and their weights (B, A, 4); average factor.

        Anchors that cross the image's border by more than ``allowed_border`` are not used.
        """
        images = len(objects)
        everywhere = torch.ones(len(anchors), dtype=torch.bool, device=anchors.device)
        inside = (
            anchor_inside_flags(
                anchors, everywhere, image_shape[:2], self.train_cfg["allowed_border"]
            )
            .nonzero()
            .squeeze(1)
        )
        assigned = assign_anchors(self.assigner, anchors[inside], objects)
        labels = torch.full(
            (images, len(anchors)), self.num_classes, dtype=torch.long, device=anchors.device
        )
        label_weights = anchors.new_zeros(labels.shape)
        deltas = anchors.new_zeros(*labels.shape, 4)
        delta_weights = torch.zeros_like(deltas)
        average_factor, positives, boxes = 0, [], []
        for image, of_image in enumerate(assigned):
            positive, negative = sample_anchors(self.sampler, of_image)
            average_factor += max(1, len(positive)) + max(1, len(negative))
            label_weights[image, inside[positive]] = 1.0
            label_weights[image, inside[negative]] = 1.0
            positives.append(inside[positive] + image * len(anchors))
            boxes.append(objects[image][of_image[positive] - 1])
        positive = torch.cat(positives)
        labels.view(-1)[positive] = 0
        delta_weights.view(-1, 4)[positive] = 1.0
        deltas.view(-1, 4)[positive] = self.bbox_coder.encode(
            anchors[positive % len(anchors)], torch.cat(boxes)
        )
        return [labels, label_weights, deltas, delta_weights], average_factor

    def predict_by_feat(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        score_factors: list[Tensor] | None = None,
        batch_img_metas: list[dict[str, Any]] | None = None,
        cfg: ConfigDict | None = None,
        rescale: bool = False,
        with_nms: bool = True,
    ) -> list[InstanceData]:
        """The same proposals of each image as the stock head's, best first."""
        metas = batch_img_metas or []
        chosen = self.test_cfg if cfg is None else cfg
        if rescale or chosen.nms.type != "nms" or not _fills_its_batch(metas):
            return super().predict_by_feat(
                cls_scores, bbox_preds, score_factors, metas, cfg, rescale, with_nms
            )
        best = chosen.get("nms_pre", -1)
        scores, deltas, anchors = [], [], []
        for level, level_anchors in enumerate(self._anchors(cls_scores)):
            of_level, order = self._ranked(cls_scores[level].detach(), best)
            moves = bbox_preds[level].detach().permute(0, 2, 3, 1).reshape(len(metas), -1, 4)
            scores.append(of_level)
            if order is None:
                deltas.append(moves)
                anchors.append(level_anchors.expand(len(metas), -1, -1))
            else:
                deltas.append(moves.gather(1, order[..., None].expand(-1, -1, 4)))
                anchors.append(level_anchors[order])
        boxes = self.bbox_coder.decode(
            torch.cat(anchors, 1).view(-1, 4),
            torch.cat(deltas, 1).view(-1, 4),
            max_shape=metas[0]["img_shape"],
        ).view(len(metas), -1, 4)
        counts = [of_level.shape[1] for of_level in scores]
        return _suppressed(boxes, torch.cat(scores, 1), counts, chosen)

    def _ranked(self, logits: Tensor, best: int) -> tuple[Tensor, Tensor | None]:
        """Scores (B, K) of a level's best anchors and their indices; None: all, not sorted."""
        rows = logits.permute(0, 2, 3, 1).reshape(len(logits), -1)
        # Image by image, as the stock head: where a row ends decides which values the vector unit
        # computes, and so how their last bits are rounded.
        scores = torch.stack([of_image.sigmoid() for of_image in rows])
        if not 0 < best < scores.shape[1]:
            return scores, None
        ranked, order = scores.sort(dim=1, descending=True)
        return ranked[:, :best], order[:, :best]

    def _anchors(self, cls_scores: list[Tensor]) -> list[Tensor]:
        """Anchors of each level, the same for all images; cached for the next batch."""
        sizes = [scores.shape[-2:] for scores in cls_scores]
        kind = (tuple(sizes), cls_scores[0].dtype, cls_scores[0].device)
        if self._kept_anchors[0] != kind:
            self._kept_anchors = (kind, self.prior_generator.grid_priors(sizes, *kind[1:]))
        return self._kept_anchors[1]


def _fills_its_batch(metas: list[dict[str, Any]]) -> bool:
    """Whether the images of a batch have one size, so that none of them is padded."""
    return len({(*meta["img_shape"], *meta["batch_input_shape"]) for meta in metas}) == 1 and (
        tuple(metas[0]["pad_shape"]) == tuple(metas[0]["batch_input_shape"])
    )


def _suppressed(
    boxes: Tensor, scores: Tensor, counts: list[int], cfg: ConfigDict
) -> list[InstanceData]:
    """The proposals of each image after NMS within each level, best first.

    Args:
        boxes: (B, K, 4), level by level.
        scores: (B, K).
        counts: number of boxes on each level.
        cfg: NMS threshold, smallest box size, largest number of proposals.
    """
    smallest = cfg.get("min_bbox_size", -1)
    large = (boxes[..., 2:] - boxes[..., :2] > smallest).all(-1)
    everything = smallest < 0 or bool(large.all())
    levels = torch.arange(len(counts), dtype=boxes.dtype, device=boxes.device)
    levels = levels.repeat_interleave(torch.tensor(counts, device=boxes.device))[:, None]
    proposals = []
    for image, (of_image, of_scores) in enumerate(zip(boxes, scores, strict=True)):
        its_levels = levels
        if not everything:
            rows = large[image]
            of_image, of_scores, its_levels = of_image[rows], of_scores[rows], levels[rows]
        if len(of_image):
            # Levels are moved apart, so that boxes of two levels never overlap.
            apart = of_image + its_levels * (of_image.max() + 1)
            keep = nms(apart, of_scores, cfg.nms.iou_threshold)[1][: cfg.max_per_img]
            of_image, of_scores = of_image[keep], of_scores[keep]
        labels = of_scores.new_zeros(len(of_scores), dtype=torch.long)
        proposals.append(InstanceData(bboxes=of_image, scores=of_scores, labels=labels))
    return proposals

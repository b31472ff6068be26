"""Small OBC heads, and what their loss takes: samples, logits, targets."""

from __future__ import annotations

import torch
from mmdet.models.task_modules.assigners import AssignResult
from mmdet.models.task_modules.samplers import SamplingResult
from mmengine import ConfigDict
from torch import Tensor

from obc.head.obc_head import OBCHead

TRAIN_CFG = ConfigDict(pos_weight=-1)
# Later stages on the feature of stage 1: what this head does without OBCRoIHead.
SHARED = {"stage_features": "shared", "stage_fcs": 0}


def make_head(
    num_classes: int = 3, bins: dict | None = None, composition: str = "refine", **arguments
) -> OBCHead:
    return OBCHead(
        in_channels=4,
        roi_feat_size=2,
        fc_out_channels=8,
        num_classes=num_classes,
        bbox_coder={
            "type": "OffsetBinBBoxCoder",
            "bins": bins or {},
            "composition": composition,
        },
        **arguments,
    )


def loss_inputs(head: OBCHead, labels: list[int], seed: int = 0) -> dict[str, Tensor]:
    """Arguments of ``loss`` for RoIs of these classes, random logits and offsets."""
    generator = torch.Generator().manual_seed(seed)
    num_rois = len(labels)
    width = head.fc_reg(torch.zeros(1, 8)).shape[1]
    return {
        "cls_score": torch.randn(num_rois, head.num_classes + 1, generator=generator),
        "bbox_pred": torch.randn(num_rois, width, generator=generator).requires_grad_(),
        "rois": torch.zeros(num_rois, 5),
        "labels": torch.tensor(labels, dtype=torch.long),
        "label_weights": torch.ones(num_rois),
        "bbox_targets": torch.randn(num_rois, 4, generator=generator),
        "bbox_weights": torch.ones(num_rois, 4),
    }


def sampled(positives: list[list[float]], negatives: list[list[float]]) -> SamplingResult:
    """One image's sample: each positive belongs to a ground truth box of class 1 beside it."""
    priors = torch.tensor(positives + negatives).view(-1, 4)
    gt_boxes = torch.tensor(positives).view(-1, 4) + 2
    num_pos, num_priors = len(positives), len(priors)
    gt_inds = torch.zeros(num_priors, dtype=torch.long)
    gt_inds[:num_pos] = torch.arange(num_pos) + 1
    assigned = AssignResult(
        num_pos, gt_inds, torch.ones(num_priors), torch.ones(num_priors, dtype=torch.long)
    )
    rows = torch.arange(num_priors)
    flags = torch.zeros(num_priors, dtype=torch.uint8)
    return SamplingResult(rows[:num_pos], rows[num_pos:], priors, gt_boxes, assigned, flags)


BATCH = [
    ([[0.0, 0, 20, 20], [10, 10, 50, 30]], [[40.0, 40, 60, 60]]),
    ([], [[1.0, 1, 9, 9]]),
    ([[5.0, 5, 35, 45]], []),
]


def stages_on_one_feature(num_stages: int = 2, num_bins: int = 20, **arguments) -> OBCHead:
    """What this head does by itself: later stages that share a feature, and ignore what leaves."""
    bins = {"num_bins": num_bins, "num_stages": num_stages, "later_out_of_range": "ignore"}
    return make_head(bins=bins, **{**SHARED, "composition": "sum", **arguments})


def step(head: OBCHead, images: list[tuple[list, list]]) -> dict[str, Tensor]:
    """Losses of a batch, after the gradients of all layers have been found finite."""
    samples = [sampled(*image) for image in images]
    num_rois = sum(len(positives) + len(negatives) for positives, negatives in images)
    cls_score, bbox_pred = head(torch.ones(num_rois, 4, 2, 2))
    rois = torch.zeros(num_rois, 5)
    losses = head.loss_and_target(cls_score, bbox_pred, rois, samples, TRAIN_CFG)["loss_bbox"]
    sum(value for name, value in losses.items() if "loss" in name).backward()
    for parameter in head.parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all()
    return losses


BOX, POINT, LINE = [0.0, 0, 20, 20], [5.0, 5, 5, 5], [5.0, 5, 5, 25]
FAR, HUGE = [1e6, 1e6, 1e6 + 1, 1e6 + 1], [-1e30, -1e30, 1e30, 1e30]

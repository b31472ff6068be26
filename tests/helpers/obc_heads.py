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

"""MMDetection's base models made tiny, random images for them, and the sum of their losses."""

from __future__ import annotations

from pathlib import Path

import mmdet
import torch
from mmdet.structures import DetDataSample
from mmengine import Config
from mmengine.structures import InstanceData
from torch import Tensor

import obc.head.roi_head  # noqa: F401  registers both heads and the coder

BASE_CONFIGS = Path(mmdet.__file__).parent / ".mim" / "configs" / "_base_" / "models"
SIZE = 64


def tiny_model_config(name: str) -> Config:
    """MMDetection's base model, made as small as its parts allow."""
    model = Config.fromfile(BASE_CONFIGS / name).model
    model.backbone.update(depth=18, base_channels=8, init_cfg=None)
    model.neck.update(in_channels=[8, 16, 32, 64], out_channels=16)
    model.rpn_head.update(in_channels=16, feat_channels=16)
    model.roi_head.bbox_roi_extractor.out_channels = 16
    for proposals in (model.train_cfg.rpn_proposal, model.test_cfg.rpn):
        proposals.update(nms_pre=50, max_per_img=20)
    model.test_cfg.rcnn.score_thr = 0.0
    return model


def sample(boxes: list[list[float]]) -> DetDataSample:
    """Annotation of one image, every box of class 1."""
    annotation = InstanceData(
        bboxes=torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        labels=torch.ones(len(boxes), dtype=torch.long),
    )
    shape = (SIZE, SIZE)
    metainfo = {"img_shape": shape, "ori_shape": shape, "pad_shape": shape, "scale_factor": (1, 1)}
    return DetDataSample(gt_instances=annotation, metainfo={**metainfo, "batch_input_shape": shape})


def images(num_images: int) -> Tensor:
    return torch.randn(num_images, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def total(losses: dict) -> Tensor:
    terms = [value for name, value in losses.items() if "loss" in name]
    return sum(sum(term) if isinstance(term, list) else term for term in terms)

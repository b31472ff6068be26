"""Batched forms of what MMDetection computes image by image, for small images on a CPU.

The results equal the stock classes' to the last bit; a test compares them.
"""

from __future__ import annotations

from typing import Any

import torch
from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.models.detectors import CascadeRCNN, FasterRCNN
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor

import obc.detector.batched_rpn  # noqa: F401
from obc.detector.frozen_stages import KeptMaps

# For each class of MMDetection the class that computes the same for a whole batch.
BATCHED = {
    "FasterRCNN": "BatchedFasterRCNN",
    "CascadeRCNN": "BatchedCascadeRCNN",
    "RPNHead": "BatchedRPNHead",
    "DetDataPreprocessor": "BatchedDataPreprocessor",
}


def compute_in_batches(model: ConfigDict, keep_frozen: bool = False) -> None:
    """Replace MMDetection's classes in a detector's config by the batched classes, in place.

    Args:
        model: config of the detector.
        keep_frozen: let the detector keep its frozen stages' feature maps of training images.
    """
    _rename(model, BATCHED)
    if keep_frozen:
        model.keep_frozen = True


def compute_image_by_image(model: ConfigDict) -> None:
    """Undo `compute_in_batches`: MMDetection's classes, with the same weights and results."""
    _rename(model, {batched: stock for stock, batched in BATCHED.items()})
    model.pop("keep_frozen", None)


def _rename(model: ConfigDict, names: dict[str, str]) -> None:
    for part in (model, model.rpn_head, model.data_preprocessor):
        part.type = names.get(part.type, part.type)


@MODELS.register_module()
class BatchedDataPreprocessor(DetDataPreprocessor):
    """``DetDataPreprocessor`` that normalises images of one size together."""

    def cast_data(self, data: Any) -> Any:
        """Move a batch to the device; on a CPU return it unchanged."""
        return data if self.device.type == "cpu" else super().cast_data(data)

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Images (B, 3, H, W), normalised, and their data samples."""
        images = data["inputs"]
        if not isinstance(images, Tensor) and len({image.shape for image in images}) == 1:
            data = {**data, "inputs": torch.stack(list(images))}
        return super().forward(data, training)


class _TwoStages:
    """MMDetection's two-stage loss without a deep copy of every object of a batch.

    Args:
        keep_frozen: keep the feature maps of the backbone's frozen stages for each training image.
    """

    def __init__(self, *args: Any, keep_frozen: bool = False, **options: Any) -> None:
        super().__init__(*args, **options)
        self._kept_maps = KeptMaps() if keep_frozen else None

    def loss(
        self, batch_inputs: Tensor, batch_data_samples: list[DetDataSample]
    ) -> dict[str, Tensor | list[Tensor]]:
        """Losses of the RPN and of the RoI head."""
        if self._kept_maps is None:
            features = self.extract_feat(batch_inputs)
        else:
            maps = self._kept_maps.backbone_maps(self.backbone, batch_inputs, batch_data_samples)
            features = self.neck(maps)
        losses, proposals = self.rpn_head.loss_and_predict(
            features,
            [_without_classes(sample) for sample in batch_data_samples],
            proposal_cfg=self.train_cfg.get("rpn_proposal", self.test_cfg.rpn),
        )
        return {**losses, **self.roi_head.loss(features, proposals, batch_data_samples)}


@MODELS.register_module()
class BatchedFasterRCNN(_TwoStages, FasterRCNN):
    """``FasterRCNN`` with the same losses, without a deep copy of a batch's objects."""


@MODELS.register_module()
class BatchedCascadeRCNN(_TwoStages, CascadeRCNN):
    """``CascadeRCNN`` with the same losses, without a deep copy of a batch's objects."""


def _without_classes(sample: DetDataSample) -> DetDataSample:
    """The sample with every object in class 0, for the RPN."""
    changed = DetDataSample(metainfo=sample.metainfo)
    objects = sample.gt_instances
    changed.gt_instances = InstanceData(
        bboxes=objects.bboxes, labels=torch.zeros_like(objects.labels)
    )
    if "ignored_instances" in sample:
        changed.ignored_instances = sample.ignored_instances
    return changed

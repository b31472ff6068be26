"""The `config.py` of a finished run: its training config, which MMDetection can also detect with.

`final.pth` is a plain state dict, so that it loads with `weights_only=True`. MMDetection's
`DetInferencer` and `init_detector` read class names only from the checkpoint, and use COCO's names
if it has none. So the detectors here store the names of their classes. The boxes that these
detectors predict are edges in pixels, as everywhere in MMDetection 3, even if the model computes in
whole pixels (`detector.whole_pixels`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.detectors import CascadeRCNN, FasterRCNN
from mmdet.registry import MODELS
from mmengine.config import Config

from obc.config.protocols import LAST_PIXEL, Protocol
from obc.detector.batched import compute_image_by_image
from obc.detector.model_config import BASE_CONFIGS


class NamedClasses:
    """Mixin for a detector whose `dataset_meta` has the classes that it was trained on.

    Args:
        classes: names of the classes, in the order of the labels.
        last_pixel: 1 if the model's boxes are in whole pixels, else 0.
    """

    def __init__(
        self, *args: Any, classes: Sequence[str], last_pixel: int = 0, **settings: Any
    ) -> None:
        super().__init__(*args, **settings)
        self._classes = tuple(classes)
        self._last_pixel = last_pixel
        self.dataset_meta = {}

    @property
    def dataset_meta(self) -> dict[str, Any]:
        """The classes, and other metadata that was assigned."""
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, meta: dict[str, Any]) -> None:
        self._dataset_meta = {**meta, "classes": self._classes}

    def predict(self, *args: Any, **settings: Any) -> Any:
        """Predict as the detector, with boxes as edges: right >= left, bottom >= top."""
        samples = super().predict(*args, **settings)
        for sample in samples if self._last_pixel else ():
            boxes = sample.pred_instances.bboxes
            boxes[:, 2:] = torch.maximum(boxes[:, 2:] + self._last_pixel, boxes[:, :2])
        return samples


@MODELS.register_module()
class NamedFasterRCNN(NamedClasses, FasterRCNN):
    """MMDetection's Faster R-CNN with the names of its classes."""


@MODELS.register_module()
class NamedCascadeRCNN(NamedClasses, CascadeRCNN):
    """MMDetection's Cascade R-CNN with the names of its classes."""


NAMED = {"FasterRCNN": "NamedFasterRCNN", "CascadeRCNN": "NamedCascadeRCNN"}


def written_config(trained: Config, classes: Sequence[str], protocol: Protocol) -> Config:
    """The config of a training, for its folder.

    The model uses MMDetection's own classes, with the same weights under the same names, even if
    the training used the batched classes. It contains the class names. The visualizer is
    MMDetection's own, with which `DetInferencer` draws.

    Args:
        trained: config that the model was trained with; it is not changed.
        classes: names in the order of the labels.
        protocol: of the run.
    """
    config = Config(trained.to_dict())
    config.custom_imports.imports = [*config.custom_imports.imports, __name__]
    compute_image_by_image(config.model)
    config.model.type = NAMED[config.model.type]
    config.model.update(classes=list(classes), last_pixel=LAST_PIXEL[protocol])
    config.visualizer = Config.fromfile(BASE_CONFIGS / "_base_/default_runtime.py").visualizer
    return config

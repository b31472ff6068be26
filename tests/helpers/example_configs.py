"""The configs of examples/, made narrow for a few classes and proposals."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from conftest import PROJECT
from mmengine.config import Config

import obc.head.roi_head  # noqa: F401  conftest imports obc first: custom_imports does nothing then
from obc.datasets.settings import ShapesData

EXAMPLES = {path.stem: path for path in sorted((PROJECT / "examples").glob("*.py"))}
FASTER, CASCADE, MASK, LIBRA = (
    f"{name}-rcnn_r50_fpn_obc_1x_coco" for name in ("faster", "cascade", "mask", "libra-faster")
)
DETECTORS = (FASTER, CASCADE, MASK, LIBRA)
LOOKING_AGAIN = (FASTER, MASK, LIBRA)  # with an OBCRoIHead
CLASS_SPECIFIC, SOFT_NMS, TTA = (
    f"faster-rcnn_r50_fpn_obc-{name}_1x_coco" for name in ("class-specific", "soft-nms", "tta")
)
SHAPES = ShapesData(
    kind="shapes", layout="coco", seed=0, image_size=64, train_images=4, val_images=2,
    num_classes=3, objects=(2, 4), object_size=(0.2, 0.5),
)  # fmt: skip


def small_model(example: str) -> dict[str, Any]:
    """What makes the model of an example narrow, for a few classes and proposals."""
    model = model_of(example)
    options: dict[str, Any] = {
        "model.backbone.init_cfg": None,
        "model.backbone.depth": 18,
        "model.backbone.base_channels": 8,
        "model.rpn_head.in_channels": 16,
        "model.rpn_head.feat_channels": 16,
        "model.roi_head.bbox_roi_extractor.out_channels": 16,
        "model.train_cfg.rpn_proposal.max_per_img": 50,
        "model.test_cfg.rpn.max_per_img": 50,
        "model.test_cfg.rcnn.score_thr": 0.0,
    }
    necks = ["neck.0", "neck.1"] if isinstance(model.neck, list) else ["neck"]
    options[f"model.{necks[0]}.in_channels"] = [8, 16, 32, 64]
    options[f"model.{necks[0]}.out_channels"] = 16
    if len(necks) == 2:
        options[f"model.{necks[1]}.in_channels"] = 16
    heads = model.roi_head.bbox_head
    names = (
        [f"bbox_head.{i}" for i in range(len(heads))] if isinstance(heads, list) else ["bbox_head"]
    )
    for name in names:
        options[f"model.roi_head.{name}.in_channels"] = 16
        options[f"model.roi_head.{name}.fc_out_channels"] = 32
        options[f"model.roi_head.{name}.num_classes"] = SHAPES.num_classes
    if "mask_head" in model.roi_head:
        options["model.roi_head.mask_roi_extractor.out_channels"] = 16
        options["model.roi_head.mask_head.in_channels"] = 16
        options["model.roi_head.mask_head.conv_out_channels"] = 16
        options["model.roi_head.mask_head.num_classes"] = SHAPES.num_classes
    return options


@cache
def read_config(path: Path) -> Config:
    """A config, to be copied before it is changed.

    MMEngine reads the list of all of MMDetection's configs each time that one is based on another.
    """
    return Config.fromfile(path)


def model_of(example: str) -> Any:
    return read_config(EXAMPLES[example]).model

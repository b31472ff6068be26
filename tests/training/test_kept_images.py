"""Kept images are the items that MMDetection's data set would load again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmdet.datasets import CocoDataset
from mmdet.utils import register_all_modules

from obc.training.kept_images import KeptCocoDataset, NotOnlyFlipped

PIPELINE = [
    {"type": "LoadImageFromFile"},
    {"type": "LoadAnnotations", "with_bbox": True},
    {"type": "Resize", "scale": (40, 40), "keep_ratio": True},
    {"type": "RandomFlip", "prob": 0.5},
    {"type": "PackDetInputs"},
]


@pytest.fixture()
def options(tmp_path: Path) -> dict[str, Any]:
    """Three images of noise with an object each."""
    register_all_modules(init_default_scope=True)
    generator = np.random.default_rng(0)
    images, annotations = [], []
    for number in range(3):
        cv2.imwrite(
            str(tmp_path / f"{number}.png"), generator.integers(0, 256, (40, 50, 3), np.uint8)
        )
        images.append({"id": number, "file_name": f"{number}.png", "width": 50, "height": 40})
        annotations.append(
            {
                "id": number + 1,
                "image_id": number,
                "category_id": 1,
                "bbox": [5 + number, 6, 20, 12],
                "area": 240,
                "iscrowd": 0,
            }
        )
    index = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "noise"}],
    }
    (tmp_path / "index.json").write_text(json.dumps(index))
    return {
        "ann_file": str(tmp_path / "index.json"),
        "data_prefix": {"img": str(tmp_path)},
        "metainfo": {"classes": ("noise",)},
        "pipeline": PIPELINE,
    }


def items(data: CocoDataset) -> list[dict[str, Any]]:
    """Every image at twelve epochs, each item by a draw of its own."""
    found = []
    for epoch in range(12):
        for index in range(3):
            np.random.seed(100 * epoch + index)
            found.append((data[index], np.random.rand()))
    return found


def test_items_and_draws_are_those_of_the_stock_data_set(options: dict[str, Any]) -> None:
    kept, stock = items(KeptCocoDataset(**options)), items(CocoDataset(**options))
    flips = set()
    for (here, draw), (there, stock_draw) in zip(kept, stock, strict=True):
        assert draw == stock_draw
        assert torch.equal(here["inputs"], there["inputs"])
        boxes, expected = (item["data_samples"].gt_instances.bboxes for item in (here, there))
        assert torch.equal(boxes.tensor, expected.tensor)
        assert here["data_samples"].metainfo == there["data_samples"].metainfo
        flips.add(here["data_samples"].flip)
    assert flips == {True, False}


def test_an_image_is_read_twice_at_most(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = KeptCocoDataset(**options)
    read = []
    load = data.pipeline.transforms[0].transform
    monkeypatch.setattr(
        data.pipeline.transforms[0],
        "transform",
        lambda results: read.append(results["img_path"]) or load(results),
    )
    items(data)
    assert len(read) == 2 * 3


def test_a_pipeline_that_draws_more_than_a_flip_is_refused(options: dict[str, Any]) -> None:
    pipeline = [*PIPELINE[:3], {"type": "PhotoMetricDistortion"}, *PIPELINE[3:]]
    with pytest.raises(NotOnlyFlipped, match=r"PhotoMetricDistortion.*keep_images: false"):
        KeptCocoDataset(**{**options, "pipeline": pipeline})

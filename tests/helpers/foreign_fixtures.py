"""Small COCO folders as other people write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from obc.datasets.index import index_dataset
from obc.datasets.settings import CocoData

Content = dict[str, Any]
BOXES = ([4, 5, 20, 12], [30, 20, 24, 30])  # x, y, width, height


def content(first_image: int = 1, images: int = 3, size: tuple[int, int] = (60, 56)) -> Content:
    """A COCO file of images of `size`, each with an object of two categories, BOXES."""
    numbers = range(first_image, first_image + images)
    return {
        "images": [
            {"id": number, "file_name": f"{number}.png", "width": size[0], "height": size[1]}
            for number in numbers
        ],
        "annotations": [
            {"id": 2 * number + position, "image_id": number, "category_id": position + 1,
             "bbox": [*box], "area": box[2] * box[3], "iscrowd": 0}
            for number in numbers
            for position, box in enumerate(BOXES)
        ],
        "categories": [{"id": 1, "name": "bolt"}, {"id": 2, "name": "nut"}],
    }  # fmt: skip


def write(root: Path, train: Content, val: Content) -> CocoData:
    """Write a COCO folder; every image is noise of its own, as large as its entry says."""
    for split, described in (("train2017", train), ("val2017", val)):
        (root / split).mkdir(parents=True)
        for position, image in enumerate(described["images"]):
            generator = np.random.default_rng([position, len(split)])
            pixels = generator.integers(0, 255, (image["height"], image["width"], 3), np.uint8)
            Image.fromarray(pixels).save(root / split / image["file_name"])
        write_annotations(root, split, described)
    return CocoData(kind="coco", root=root)


def write_annotations(root: Path, split: str, described: Any) -> None:
    """Write the annotation file of one split."""
    path = root / f"annotations/instances_{split}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(described), encoding="utf-8")


def index(data: CocoData) -> tuple[dict[str, Any], Content, Content]:
    """Index a folder; return its manifest and the two index files."""
    out = data.root.parent / "index"
    manifest = index_dataset(data, data.root, out)
    train, val = (
        json.loads((out / f"{split}.json").read_text(encoding="utf-8"))
        for split in ("train", "val")
    )
    return manifest, train, val

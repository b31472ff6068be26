"""Folders in VOC's layout, written for a test, and what the reader makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from obc.datasets import voc
from obc.datasets.settings import VocData

CAT = ("cat", (11, 6, 30, 25), 0)


def xml(objects, width=50, height=40) -> str:
    written = "".join(
        f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>"
        f"<xmin>{box[0]}</xmin><ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax>"
        "</bndbox><part><name>head</name></part></object>"
        for name, box, difficult in objects
    )
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    return f"<annotation>{size}{written}</annotation>"


def make_year(folder: Path, splits: dict[str, dict[str, list]]) -> Path:
    """Write a VOC year folder: split -> image id -> objects (name, box, difficult)."""
    for name in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (folder / name).mkdir(parents=True)
    for split, images in splits.items():
        (folder / f"ImageSets/Main/{split}.txt").write_text("\n".join(images) + "\n")
        for image_id, objects in images.items():
            noise = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
            Image.fromarray(noise).save(folder / f"JPEGImages/{image_id}.jpg")
            (folder / f"Annotations/{image_id}.xml").write_text(xml(objects))
    return folder


def one_image(tmp_path: Path, objects: list) -> Path:
    return make_year(tmp_path / "VOC2007", {"train": {"000001": objects}})


def read(root: Path, splits=("train",), limit=None, workers=1, **options):
    data = VocData(kind="voc", root=root, **options)
    return voc.index(data, root, splits, limit, workers)

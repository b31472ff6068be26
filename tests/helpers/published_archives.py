"""Archives in the real layouts, of one image a split, and a datasets file that names them."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import yaml
from local_server import Server
from PIL import Image

BOX = (
    "<annotation><size><width>50</width><height>40</height></size><object><name>cat</name>"
    "<difficult>0</difficult><bndbox><xmin>5</xmin><ymin>5</ymin><xmax>20</xmax><ymax>20</ymax>"
    "</bndbox></object></annotation>"
)


def jpeg(grey: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((40, 50, 3), grey, np.uint8)).save(buffer, "jpeg")
    return buffer.getvalue()


def voc_tar(split: str, image_id: str) -> bytes:
    """A tar of one image in VOC 2007's layout."""
    year = "VOCdevkit/VOC2007"
    files = {
        f"{year}/ImageSets/Main/{split}.txt": f"{image_id}\n".encode(),
        f"{year}/Annotations/{image_id}.xml": BOX.encode(),
        f"{year}/JPEGImages/{image_id}.jpg": jpeg(),
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def coco_zips() -> dict[str, bytes]:
    """Archives of one training and one validation image in COCO 2017's layout."""
    zips: dict[str, dict[str, bytes]] = {"annotations.zip": {}}
    for split, image_id in (("train2017", 9), ("val2017", 139)):
        name = f"{image_id:012d}.jpg"
        content = {
            "images": [{"id": image_id, "file_name": name, "width": 50, "height": 40}],
            "annotations": [
                {"id": image_id, "image_id": image_id, "category_id": 17,
                 "bbox": [5, 5, 15, 15], "area": 225, "iscrowd": 0}
            ],
            "categories": [{"id": 17, "name": "cat"}],
        }  # fmt: skip
        document = json.dumps(content).encode()
        zips["annotations.zip"][f"annotations/instances_{split}.json"] = document
        zips[f"{split}.zip"] = {f"{split}/{name}": jpeg(grey=image_id)}
    archives = {}
    for archive, files in zips.items():
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as file:
            for name, content in files.items():
                file.writestr(name, content)
        archives[archive] = buffer.getvalue()
    return archives


def published_files() -> dict[str, bytes]:
    """What a server has by path: both VOC tars, COCO's zips, a weights file."""
    return {
        "/trainval.tar": voc_tar("trainval", "000005"),
        "/test.tar": voc_tar("test", "000001"),
        "/tiny-12345678.pth": b"weights",
        **{f"/{name}": content for name, content in coco_zips().items()},
    }


def write_datasets(path: Path, server: Server) -> None:
    """Write a datasets file with the real entries' form and the server's URLs."""

    def files(*names: str) -> list[dict]:
        return [
            {
                "urls": [f"{server.url}/{name}"],
                "bytes": len(server.files[f"/{name}"]),
                "checksum": f"md5:{hashlib.md5(server.files[f'/{name}']).hexdigest()}",
            }
            for name in names
        ]

    def entry(target: str, *names: str, **unpacked: object) -> dict:
        common = {"title": "a test", "licence": "none", "target": f"data/{target}"}
        return {**common, "files": files(*names), **unpacked}

    splits = ["ImageSets/Main/trainval.txt", "ImageSets/Main/test.txt"]
    entries = {
        "voc2007": entry(
            "VOCdevkit/VOC2007", "trainval.tar", "test.tar",
            folder="VOCdevkit/VOC2007", shows=splits,
        ),
        "annotations": entry(
            "coco/annotations", "annotations.zip",
            folder="annotations", shows=["instances_train2017.json"],
        ),
        **{
            split: entry(
                f"coco/{split}", f"{split}.zip", folder=split, shows=[f"{number:012d}.jpg"]
            )
            for split, number in (("train2017", 9), ("val2017", 139))
        },
        "tiny": entry("weights/tiny-12345678.pth", "tiny-12345678.pth"),
    }  # fmt: skip
    path.write_text(yaml.safe_dump(entries), encoding="utf-8")

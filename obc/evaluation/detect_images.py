"""Detect with a trained run in images that belong to no data set, and draw the detections."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import cv2
import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.visualization import DetLocalVisualizer
from mmengine.structures import InstanceData

from obc.config.plan import Plan
from obc.config.run import Decode
from obc.datasets.errors import DatasetError
from obc.evaluation.coco_export import published_ids
from obc.evaluation.evaluate import detect_in
from obc.io.files import write_json

DETECTIONS = "detections.json"


def detect_images(
    plan: Plan,
    run_id: str,
    seed: int,
    decode: Decode,
    images: Sequence[Path],
    folder: Path,
    shown_score: float,
    terminal: TextIO,
) -> list[Path]:
    """Write each image with the boxes found in it, and all boxes in COCO's format.

    Args:
        run_id: id of the run, which must be trained.
        decode: see `evaluate`.
        images: files that OpenCV reads.
        folder: gets a PNG for each image, see `drawn_paths`, and `detections.json`, a COCO data
            set whose annotations have a `score`.
        shown_score: score in [0, 1] from which a box is drawn; the JSON file has all boxes.

    Returns:
        The drawn images.

    Raises:
        DatasetError: a file is not an image that OpenCV reads, or a drawing would replace it.
        WeightsError: see `evaluate`.
        NotIndexed: the run's data set, whose index names the classes, has not been indexed.
    """
    drawn = drawn_paths(images, folder)
    files = plan.run(run_id, seed).index.files()
    categories = files.ground_truth()["categories"]
    entries = [_entry(number, path) for number, path in enumerate(images, 1)]
    with tempfile.TemporaryDirectory() as temporary:
        index = Path(temporary) / "images.json"
        write_json(index, {"images": entries, "annotations": [], "categories": categories})
        detections, _ = detect_in(
            replace(files, root=Path.cwd(), val=index), plan, run_id, seed, decode, terminal
        )
    for entry, path in zip(entries, drawn, strict=True):
        found = [one for one in detections if one["image_id"] == entry["id"]]
        _draw(Path(entry["file_name"]), path, found, categories, shown_score)
    published = published_ids(categories)
    annotations = [
        {
            "id": number,
            **one,
            "category_id": published[one["category_id"]],
            "area": one["bbox"][2] * one["bbox"][3],
            "iscrowd": 0,
        }
        for number, one in enumerate(detections, 1)
    ]
    named = [{"id": published[one["id"]], "name": one["name"]} for one in categories]
    content = {"images": entries, "annotations": annotations, "categories": named}
    write_json(folder / DETECTIONS, content)
    return drawn


def _entry(number: int, path: Path) -> dict[str, Any]:
    """Index entry of an image."""
    height, width = _read(path).shape[:2]
    return {"id": number, "file_name": str(path.absolute()), "width": width, "height": height}


def _read(path: Path) -> np.ndarray:
    """An image as MMDetection loads it: (height, width, 3) in BGR."""
    try:
        image = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:  # an empty file
        image = None
    if image is None:
        raise DatasetError(f"{path}: not an image that OpenCV reads; save it as JPEG or PNG")
    return image


def drawn_paths(images: Sequence[Path], folder: Path) -> list[Path]:
    """Path of a PNG for each image: `<image's name>.png`.

    The images' numbers are appended to names that several images have: `<image's name>-1.png`.

    Raises:
        DatasetError: a path is that of one of the images.
    """
    count = Counter(image.stem for image in images)
    drawn = []
    for number, image in enumerate(images, 1):
        name = image.stem
        if count[name] > 1:
            while name in count:
                name += f"-{number}"
        drawn.append(folder / f"{name}.png")
    inputs = {_file_id(image) for image in images}
    for image, path in zip(images, drawn, strict=True):
        if path.exists() and _file_id(path) in inputs:
            raise DatasetError(
                f"{path}: is one of the images, and the drawing of {image} would replace it; "
                "choose another folder with --out"
            )
    return drawn


def _file_id(path: Path) -> tuple[int, int]:
    """What all names of a file, links included, have in common."""
    status = path.stat()
    return status.st_dev, status.st_ino


def _draw(
    image: Path,
    drawn: Path,
    found: Sequence[dict[str, Any]],
    categories: Sequence[dict[str, Any]],
    shown_score: float,
) -> None:
    """Draw boxes with class and score on an image, as MMDetection's inferencer does."""
    labels = {one["id"]: label for label, one in enumerate(categories)}
    boxes = torch.tensor([one["bbox"] for one in found], dtype=torch.float32).reshape(-1, 4)
    boxes[:, 2:] = boxes[:, :2] + boxes[:, 2:].clamp(min=0)
    sample = DetDataSample(
        pred_instances=InstanceData(
            bboxes=boxes,
            scores=torch.tensor([one["score"] for one in found], dtype=torch.float32),
            labels=torch.tensor([labels[one["category_id"]] for one in found], dtype=torch.int64),
        )
    )
    visualizer = DetLocalVisualizer()
    visualizer.dataset_meta = {"classes": [one["name"] for one in categories], "palette": "random"}
    visualizer.add_datasample(
        drawn.stem,
        np.ascontiguousarray(_read(image)[..., ::-1]),
        sample,
        draw_gt=False,
        pred_score_thr=shown_score,
        out_file=str(drawn),
    )

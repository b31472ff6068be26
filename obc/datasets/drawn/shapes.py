"""The embedded data set: scenes drawn by the project, written as real VOC or real COCO folders.

The same settings always give the same scenes, with any number of processes: each image has its own
random stream, seeded by (seed, split, index).
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from obc.datasets.drawn.outlines import CLASSES
from obc.datasets.drawn.scenes import FULLY_ANNOTATED, SceneObject, SceneSpec, draw_scene
from obc.datasets.parallel import parallel_map
from obc.datasets.settings import ShapesData
from obc.io.files import atomic_folder, write_text

VOC_YEAR = "VOC2007"
COCO_SPLITS = {"train": "train2017", "val": "val2017"}
_SPLIT_SEEDS = {"train": 0, "val": 1}
_JPEG_QUALITY = 95


def class_names(data: ShapesData) -> tuple[str, ...]:
    """Return the names of the classes that `data` draws, in label order."""
    return CLASSES[: data.num_classes]


def generate(data: ShapesData, root: Path, workers: int = 1) -> None:
    """Draw the data set that `data` describes and write it to folder `root`, whole or not at all.

    VOC layout: `root/VOC2007/{Annotations,ImageSets/Main,JPEGImages}`. COCO layout:
    `root/annotations/instances_{train,val}2017.json` and `root/{train,val}2017`. An existing folder
    is replaced. Raises OSError when it cannot be written.
    """
    write = {"voc": _write_voc, "coco": _write_coco}[data.layout]
    with atomic_folder(root) as folder:
        write(data, folder, workers)


def scene(data: ShapesData, split: str, index: int) -> tuple[np.ndarray, list[SceneObject]]:
    """Return image `index` of `split` ("train" or "val"), (S, S, 3) uint8, and its objects."""
    rng = np.random.default_rng(np.random.SeedSequence([data.seed, _SPLIT_SEEDS[split], index]))
    spec = SceneSpec(
        image_size=data.image_size,
        num_classes=data.num_classes,
        objects=data.objects,
        object_size=data.object_size,
        contrast=data.contrast,
        with_difficult=data.layout == "voc",
        with_crowds=data.layout == "coco",
    )
    return draw_scene(spec, rng)


def _split_sizes(data: ShapesData) -> dict[str, int]:
    return {"train": data.train_images, "val": data.val_images}


def _save(image: np.ndarray, path: Path) -> None:
    Image.fromarray(image).save(path, quality=_JPEG_QUALITY)


# ---------------------------------------------------------------- VOC layout


def _write_voc(data: ShapesData, root: Path, workers: int) -> None:
    folder = root / VOC_YEAR
    for name in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (folder / name).mkdir(parents=True)
    scenes = [(split, index) for split, n in _split_sizes(data).items() for index in range(n)]
    parallel_map(
        partial(_write_voc_image, data, folder), scenes, workers, "drawing the VOC-layout shapes"
    )
    ids = {
        split: [_voc_id(data, split, index) for index in range(n)]
        for split, n in _split_sizes(data).items()
    }
    for split, lines in {**ids, "trainval": ids["train"] + ids["val"]}.items():
        write_text(folder / "ImageSets/Main" / f"{split}.txt", "\n".join(lines) + "\n")


def _voc_id(data: ShapesData, split: str, index: int) -> str:
    return f"{index + 1 + (data.train_images if split == 'val' else 0):06d}"


def _write_voc_image(data: ShapesData, folder: Path, which: tuple[str, int]) -> None:
    image, objects = scene(data, *which)
    image_id = _voc_id(data, *which)
    _save(image, folder / "JPEGImages" / f"{image_id}.jpg")
    xml = _voc_xml(image_id, data.image_size, objects)
    (folder / "Annotations" / f"{image_id}.xml").write_text(xml, encoding="utf-8")


def _voc_xml(image_id: str, size: int, objects: list[SceneObject]) -> str:
    """Return a VOC 2007 annotation; its coordinates are 1-based and inclusive."""
    return (
        f"<annotation>\n\t<folder>{VOC_YEAR}</folder>\n\t<filename>{image_id}.jpg</filename>\n"
        "\t<source>\n\t\t<database>OBC shapes</database>\n\t</source>\n"
        f"\t<size>\n\t\t<width>{size}</width>\n\t\t<height>{size}</height>\n"
        "\t\t<depth>3</depth>\n\t</size>\n\t<segmented>0</segmented>\n"
        + "".join(map(_voc_object, objects))
        + "</annotation>\n"
    )


def _voc_object(drawn: SceneObject) -> str:
    x1, y1, x2, y2 = drawn.box
    return (
        f"\t<object>\n\t\t<name>{CLASSES[drawn.label]}</name>\n\t\t<pose>Unspecified</pose>\n"
        f"\t\t<truncated>{int(drawn.truncated)}</truncated>\n"
        f"\t\t<difficult>{int(drawn.visible < FULLY_ANNOTATED)}</difficult>\n"
        f"\t\t<bndbox>\n\t\t\t<xmin>{x1 + 1:.3f}</xmin>\n\t\t\t<ymin>{y1 + 1:.3f}</ymin>\n"
        f"\t\t\t<xmax>{x2:.3f}</xmax>\n\t\t\t<ymax>{y2:.3f}</ymax>\n\t\t</bndbox>\n\t</object>\n"
    )


# ---------------------------------------------------------------- COCO layout


def _write_coco(data: ShapesData, root: Path, workers: int) -> None:
    (root / "annotations").mkdir()
    categories = [
        {"supercategory": "shape", "id": _category_id(label), "name": name}
        for label, name in enumerate(class_names(data))
    ]
    for split, images in _split_sizes(data).items():
        folder = root / COCO_SPLITS[split]
        folder.mkdir()
        drawn = parallel_map(
            partial(_write_coco_image, data, folder, split),
            range(images),
            workers,
            f"drawing the COCO-layout shapes, {split}",
        )
        annotations = [annotation for _, found in drawn for annotation in found]
        for annotation_id, annotation in enumerate(annotations, 1):
            annotation["id"] = annotation_id
        content = {
            "info": {"description": "OBC shapes", "version": str(data.version)},
            "licenses": [],
            "images": [image for image, _ in drawn],
            "annotations": annotations,
            "categories": categories,
        }
        write_text(
            root / "annotations" / f"instances_{COCO_SPLITS[split]}.json",
            json.dumps(content, separators=(",", ":"), allow_nan=False),
        )


def _category_id(label: int) -> int:
    # With gaps, as in COCO: 1 2 3 5 6 7 9 ...
    return label + 1 + label // 3


def _write_coco_image(
    data: ShapesData, folder: Path, split: str, index: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    image, objects = scene(data, split, index)
    # Odd for train and even for val, with gaps: no image is in both splits.
    image_id = 6 * index + 1 + _SPLIT_SEEDS[split]
    name = f"{image_id:012d}.jpg"
    _save(image, folder / name)
    size = data.image_size
    entry = {"file_name": name, "height": size, "width": size, "id": image_id}
    return entry, [_coco_annotation(image_id, drawn) for drawn in objects]


def _coco_annotation(image_id: int, drawn: SceneObject) -> dict[str, Any]:
    x1, y1, x2, y2 = drawn.box
    return {
        "segmentation": _run_lengths(drawn.mask)
        if drawn.mask is not None
        else [np.round(outline.ravel(), 2).tolist() for outline in drawn.outlines],
        "area": round(drawn.area, 3),
        "iscrowd": int(drawn.crowd),
        "image_id": image_id,
        "bbox": [round(value, 3) for value in (x1, y1, x2 - x1, y2 - y1)],
        "category_id": _category_id(drawn.label),
    }


def _run_lengths(mask: np.ndarray) -> dict[str, list[int]]:
    """Return COCO's uncompressed run lengths of a mask (H, W): by columns, zeros first."""
    flat = np.concatenate([[False], mask.ravel(order="F")])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff(np.concatenate([[0], edges, [mask.size]]))
    return {"counts": counts.tolist(), "size": list(mask.shape)}

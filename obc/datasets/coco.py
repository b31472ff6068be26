"""Reading and checking a data set in COCO layout.

That is `annotations/instances_<split>.json` beside the folder `<split>` of its images.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from obc.datasets.errors import DatasetError, raise_problems
from obc.datasets.images import ImageCheck, check_image
from obc.datasets.parallel import parallel_map
from obc.scale import CocoData

_REQUIRED = {
    "images": ("id", "file_name", "width", "height"),
    "annotations": ("id", "image_id", "category_id", "bbox", "area", "iscrowd"),
    "categories": ("id", "name"),
}
_MAX_OVERHANG = 2.0  # pixels a box may reach over its image: COCO's polygons do, clipped

Entry = dict[str, Any]


def annotation_file(root: Path, split: str) -> Path:
    """Return the annotation file of `split`; raise DatasetError when `root` is no COCO folder."""
    path = root / "annotations" / f"instances_{split}.json"
    wanted = "coco_root must be a folder with annotations/instances_<split>.json and <split>/"
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder; {wanted}")
    if not (root / "annotations").is_dir():
        found = ", ".join(sorted(child.name for child in root.iterdir())[:8]) or "nothing"
        raise DatasetError(f"{root}: not a COCO folder; {wanted}; found: {found}")
    if not path.is_file():
        known = ", ".join(sorted(p.name for p in path.parent.glob("instances_*.json"))) or "none"
        raise DatasetError(f"{path}: annotation file is missing; files there: {known}")
    if not (root / split).is_dir():
        raise DatasetError(f"{root / split}: image folder of split {split!r} is missing; {wanted}")
    return path


def index(
    data: CocoData, root: Path, split: str, limit: int | None = None, workers: int = 1
) -> tuple[Entry, dict[str, int]]:
    """Return (COCO-format dict, counts) of `split`, every annotation and image file checked.

    Image entries carry `bytes`, the file's size, and `file_name` relative to `root`. Crowd boxes
    and areas are kept as they are, segmentations are left out. Boxes without area, of which COCO
    has a few, are skipped and boxes up to two pixels over the border clipped; both are counted.
    `limit` takes that many images, chosen by the hash of their ids, in file order. Raises
    DatasetError with all problems of the data set.
    """
    path = annotation_file(root, split)
    content = _load(path)
    raise_problems(path, list(_structure_problems(content)))
    images = _subset(content["images"], limit)
    chosen = {image["id"]: image for image in images}
    wanted = [one for one in content["annotations"] if one["image_id"] in chosen]
    unusable = [problem for one in wanted if (problem := _box_problem(one, chosen))]
    label = f"checking {root} {split}"
    checks = parallel_map(partial(_check, root / split), images, workers, label)
    raise_problems(path, unusable + [check.problem for check in checks if check.problem])
    boxes = [one for one in wanted if _has_area(one)]
    annotations = [_kept(one, chosen[one["image_id"]]) for one in boxes]
    return _assemble(split, content["categories"], images, checks, annotations), {
        "listed": len(content["images"]),
        "images": len(images),
        "boxes": len(boxes),
        "difficult": 0,
        "crowd": sum(one["iscrowd"] for one in boxes),
        "clipped": sum(_reaches_over(one["bbox"], chosen[one["image_id"]]) for one in boxes),
        "skipped": len(wanted) - len(boxes),
        "other_classes": 0,
        "without_objects": len(chosen.keys() - {one["image_id"] for one in boxes}),
    }


def _load(path: Path) -> Any:
    if path.stat().st_size == 0:
        raise DatasetError(f"{path}: annotation file is empty; restore it")
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:  # also what json raises for bytes that are no UTF-8
        raise DatasetError(f"{path}: not readable as JSON ({error}); restore it") from error


def _subset(images: list[Entry], limit: int | None) -> list[Entry]:
    if limit is None or limit >= len(images):
        return images
    ranked = sorted(images, key=lambda one: hashlib.sha256(str(one["id"]).encode()).digest())
    kept = {image["id"] for image in ranked[:limit]}
    return [image for image in images if image["id"] in kept]


def _check(folder: Path, image: Entry) -> ImageCheck:
    return check_image(folder / image["file_name"], image["width"], image["height"])


def _assemble(
    split: str,
    categories: list[Entry],
    images: list[Entry],
    checks: list[ImageCheck],
    annotations: list[Entry],
) -> Entry:
    return {
        "images": [
            {
                "id": image["id"],
                "file_name": f"{split}/{image['file_name']}",
                "width": image["width"],
                "height": image["height"],
                "bytes": check.bytes,
            }
            for image, check in zip(images, checks, strict=True)
        ],
        "annotations": annotations,
        "categories": [{"id": one["id"], "name": one["name"]} for one in categories],
    }


# ---------------------------------------------------------------- problems of the JSON itself


def _structure_problems(content: Any) -> Iterator[str]:
    """Yield what keeps `content` from being a COCO detection file."""
    if not isinstance(content, dict):
        yield f"top level is {type(content).__name__}; it must be an object with {[*_REQUIRED]}"
        return
    incomplete = [problem for name in _REQUIRED for problem in _table_problems(content, name)]
    if incomplete:  # what refers to what can only be asked of complete tables
        yield from incomplete
        return
    yield from _reference_problems(content)


def _table_problems(content: Entry, name: str) -> Iterator[str]:
    rows = content.get(name)
    if not isinstance(rows, list):
        yield f"key {name!r} is missing or no list"
        return
    if not rows and name != "annotations":
        yield f"key {name!r} is an empty list"
    for position, row in enumerate(rows):
        missing = [key for key in _REQUIRED[name] if not isinstance(row, dict) or key not in row]
        if missing:
            yield f"{name}[{position}] lacks {', '.join(missing)}"
    if all(isinstance(row, dict) and "id" in row for row in rows):
        yield from _repeated(f"{name} id", (row["id"] for row in rows))


def _repeated(what: str, values: Iterable[Any]) -> Iterator[str]:
    for value, times in Counter(values).items():
        if times > 1:
            yield f"{what} {value!r} occurs {times} times; it must be unique"


def _reference_problems(content: Entry) -> Iterator[str]:
    images = {image["id"] for image in content["images"]}
    categories = {category["id"]: category["name"] for category in content["categories"]}
    yield from _repeated("image file", (image["file_name"] for image in content["images"]))
    yield from _repeated("category name", categories.values())
    for image in content["images"]:
        if not all(
            isinstance(image[side], int) and image[side] > 0 for side in ("width", "height")
        ):
            yield f"image {image['file_name']}: width and height must be positive whole numbers"
    for one in content["annotations"]:
        if one["image_id"] not in images:
            yield f"annotation {one['id']}: unknown image_id {one['image_id']!r}"
        if one["category_id"] not in categories:
            allowed = ", ".join(f"{key} ({name})" for key, name in categories.items())
            yield (
                f"annotation {one['id']}: unknown category_id {one['category_id']!r}; "
                f"allowed: {allowed}"
            )


# ---------------------------------------------------------------- boxes


def _has_area(annotation: Entry) -> bool:
    return annotation["bbox"][2] > 0 and annotation["bbox"][3] > 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _box_problem(annotation: Entry, images: dict[Any, Entry]) -> str | None:
    box, image = annotation["bbox"], images[annotation["image_id"]]
    where = f"annotation {annotation['id']} on {image['file_name']}: bbox {box}"
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        return f"{where} is not four numbers x, y, width, height"
    if not _is_number(annotation["area"]):
        return f"{where}: area {annotation['area']!r} is not a number"
    if not _has_area(annotation):
        return None
    x, y, width, height = box
    overhang = max(-x, -y, x + width - image["width"], y + height - image["height"])
    inside = _inside(box, image)
    if overhang > _MAX_OVERHANG or inside[2] <= 0 or inside[3] <= 0:
        return f"{where} reaches outside its {image['width']} x {image['height']} image"
    return None


def _inside(box: list[float], image: Entry) -> list[float]:
    x, y, width, height = box
    left, top = max(x, 0), max(y, 0)
    right, bottom = min(x + width, image["width"]), min(y + height, image["height"])
    return [left, top, right - left, bottom - top]


def _reaches_over(box: list[float], image: Entry) -> bool:
    x, y, width, height = box
    return x < 0 or y < 0 or x + width > image["width"] or y + height > image["height"]


def _kept(annotation: Entry, image: Entry) -> Entry:
    box = annotation["bbox"]
    # A box inside stays bit for bit as it is in the file.
    box = _inside(box, image) if _reaches_over(box, image) else box
    return {key: annotation[key] for key in _REQUIRED["annotations"]} | {"bbox": box}

"""Reading and checking a data set in COCO layout.

The layout is `annotations/instances_<split>.json` and the folder `<split>` of its images.
"""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any

from obc.datasets.coco_structure import REQUIRED, Entry, structure_problems
from obc.datasets.errors import DatasetError, raise_problems
from obc.datasets.images import ImageCheck, check_image
from obc.datasets.parallel import parallel_map
from obc.datasets.settings import CocoData

_MAX_OVERHANG = 2.0  # pixels a box may extend beyond its image, as some of COCO do; clipped


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
    """Check every annotation and image file of `split`; return (COCO-format dict, counts).

    Image entries carry `bytes`, the file's size, and `file_name` relative to `root`. Crowd boxes
    are kept, segmentations are left out. An area that is not positive or exceeds the box is
    replaced by the box's area. Boxes without area, of which COCO has a few, are skipped. Boxes that
    extend up to two pixels beyond the image are clipped. Objects marked `ignore` get `difficult`.
    Unless `data.difficult == "gt"` they also get `ignore`, so that MMDetection does not load them.
    All of these are counted. `limit` selects that many images by the hash of their ids and keeps
    the order of the file. Raises DatasetError with all problems of the data set.
    """
    path = annotation_file(root, split)
    content = _load(path)
    raise_problems(path, list(structure_problems(content)))
    images = _subset(content["images"], limit)
    chosen = {image["id"]: image for image in images}
    wanted = [one for one in content["annotations"] if one["image_id"] in chosen]
    unusable = [problem for one in wanted if (problem := _box_problem(one, chosen))]
    label = f"checking {root} {split}"
    checks = parallel_map(partial(_check, root / split), images, workers, label)
    raise_problems(path, unusable + [check.problem for check in checks if check.problem])
    boxes = [one for one in wanted if _has_area(one)]
    _refuse_fractions(path, boxes)
    annotations = [_kept(one, chosen[one["image_id"]], data.difficult != "gt") for one in boxes]
    return _assemble(split, content["categories"], images, checks, annotations), {
        "listed": len(content["images"]),
        "images": len(images),
        "boxes": len(boxes),
        "difficult": sum("difficult" in one for one in annotations),
        "crowd": sum(one["iscrowd"] for one in annotations),
        "clipped": sum(_reaches_over(one["bbox"], chosen[one["image_id"]]) for one in boxes),
        "skipped": len(wanted) - len(boxes),
        "area_from_box": sum(
            one["area"] != kept["area"] for one, kept in zip(boxes, annotations, strict=True)
        ),
        "other_classes": 0,
        "without_objects": len(chosen.keys() - {one["image_id"] for one in boxes}),
    }


def _load(path: Path) -> Any:
    if path.stat().st_size == 0:
        raise DatasetError(f"{path}: annotation file is empty; restore it")
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:  # ValueError: also for bytes that are not UTF-8
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


# ---------------------------------------------------------------- boxes


def _has_area(annotation: Entry) -> bool:
    return annotation["bbox"][2] > 0 and annotation["bbox"][3] > 0


def _refuse_fractions(path: Path, boxes: list[Entry]) -> None:
    """Raise DatasetError where most boxes lie within the first pixel: the unit is wrong."""
    within = [one for one in boxes if min(_corners(one)) >= 0 and max(_corners(one)) <= 1]
    if 2 * len(within) > len(boxes):
        first = within[0]
        raise DatasetError(
            f"{path}: {len(within)} of {len(boxes)} boxes lie within the first pixel of their "
            f"image, the first: annotation {first['id']}, bbox {first['bbox']}; boxes must be in "
            "pixels: multiply fractions of the image by its width and height"
        )


def _corners(annotation: Entry) -> tuple[float, float, float, float]:
    x, y, width, height = annotation["bbox"]
    return x, y, x + width, y + height


def _box_problem(annotation: Entry, images: dict[Any, Entry]) -> str | None:
    box, image = annotation["bbox"], images[annotation["image_id"]]
    where = f"annotation {annotation['id']} on {image['file_name']}: bbox {box}"
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


def _kept(annotation: Entry, image: Entry, leave_out: bool) -> Entry:
    """The annotation for the index; with `leave_out`, MMDetection does not load ignored objects."""
    box = annotation["bbox"]
    # A box inside the image keeps the exact numbers of the file.
    box = _inside(box, image) if _reaches_over(box, image) else box
    kept = {key: annotation[key] for key in REQUIRED["annotations"]} | {
        "bbox": box,
        "area": _area(annotation["area"], box),
        "iscrowd": int(annotation["iscrowd"]),
    }
    if annotation.get("ignore") and not annotation["iscrowd"]:
        kept |= {"difficult": 1, "ignore": 1} if leave_out else {"difficult": 1}
    return kept


def _area(stated: float, box: list[float]) -> float:
    """The stated area of an object's outline where it fits into the box; else the box's area.

    MMDetection drops objects without area, and the evaluator ignores them.
    """
    of_box = box[2] * box[3]
    return stated if 0 < stated <= of_box else of_box

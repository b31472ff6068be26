"""Check a data set and write its index: a pair of COCO-format files and a manifest.

All later steps read the index through `IndexFolder` and do not depend on the data set's layout.
"""

from __future__ import annotations

import hashlib
import json
from os import PathLike
from pathlib import Path
from typing import Any

from obc.datasets import coco, voc
from obc.datasets.errors import DatasetError, raise_problems
from obc.datasets.identity import text_digest
from obc.datasets.index_folder import IndexFolder, read_annotations
from obc.datasets.numbering import renumbered
from obc.datasets.settings import CocoData, ShapesData, VocData
from obc.datasets.shared_images import image_hashes, shared_images
from obc.datasets.trained_on import (
    LEAST_BOX_SIDE,
    LEAST_IMAGE_SIDE,
    count_trained_on,
    vanishing_images,
)
from obc.io.files import write_json, write_text


def index_dataset(
    data: ShapesData | VocData | CocoData,
    root: Path,
    out: PathLike[str],
    workers: int = 1,
    image_scale: tuple[int, int] | None = None,
    apart_from: IndexFolder | None = None,
) -> dict[str, Any]:
    """Check the data set in folder `root` and write the index into folder `out`.

    The index files are COCO detection files whose `file_name`s are relative to `root`. The manifest
    is written last: if it exists, all files do. Returns the manifest: `kind`, `root`, `classes`,
    `splits` (for each split counts and the `sha256` of its index) and `sha256`. The last one
    depends on the content and not on its location: on the index files, which have every image's
    size in bytes, and without published counts also on every image's content.

    `apart_from` is the index of the images for starting weights; its training images must not be in
    this data set.

    Raises DatasetError for anything that would make a number wrong: broken or missing files, boxes
    outside their image, unknown classes, a number of images other than the published one, an image
    in both splits or in `apart_from`, splits with different categories, an image that has no pixel
    left when resized.
    """
    layout, folder = on_disk(data, root), IndexFolder(Path(out))
    indexes, splits = {}, {}
    for split in ("train", "val"):
        indexes[split], splits[split] = _index_split(layout, root, split, workers)
        if not isinstance(data, ShapesData):  # ids of drawn data are valid already
            indexes[split] = renumbered(indexes[split])
        if image_scale is not None:
            _check_nothing_vanishes(root, indexes[split], split, image_scale)
    splits["train"] |= count_trained_on(indexes["train"])
    _check_something_is_left(root, layout, indexes["val"], splits["train"])
    _check_categories(root, indexes["train"], indexes["val"])
    hashes: dict[str, dict[str, str]] = {}
    counted = isinstance(data, ShapesData) or data.has_published_counts
    if counted and apart_from is None:
        shared = _shared_by_name(indexes["train"], indexes["val"])
    else:
        hashes = {name: image_hashes(root, index, workers) for name, index in indexes.items()}
        shared = shared_images(hashes["train"], hashes["val"])
    _check_disjoint(root, layout, shared, len(indexes["val"]["images"]))
    if apart_from is not None:
        _check_apart(root, layout, apart_from, hashes, workers)
    splits["val"]["shared_with_train"] = len(shared)
    for split, content in indexes.items():
        text = json.dumps(content, separators=(",", ":"), allow_nan=False) + "\n"
        write_text(folder.split(split), text)
        splits[split]["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    manifest = {
        "kind": data.kind,
        "root": str(root),
        "classes": [category["name"] for category in indexes["train"]["categories"]],
        "splits": splits,
        "sha256": text_digest(
            [
                *(splits[split]["sha256"] for split in ("train", "val")),
                *(f"{name} {digest}" for of in hashes.values() for name, digest in of.items()),
            ]
        ),
    }
    write_json(folder.manifest, manifest)
    return manifest


def on_disk(data: ShapesData | VocData | CocoData, root: Path) -> VocData | CocoData:
    """Return the settings to read `data` from `root`; drawn data get those of their layout."""
    if not isinstance(data, ShapesData):
        return data
    if data.layout == "coco":
        return CocoData(kind="coco", root=root)
    from obc.datasets.drawn.shapes import VOC_YEAR, class_names  # numpy and PIL, for drawing only

    return VocData(
        kind="voc",
        root=root,
        train=(f"{VOC_YEAR}/train",),
        val=(f"{VOC_YEAR}/val",),
        classes=class_names(data),
        difficult=data.difficult,
    )


def _index_split(
    data: VocData | CocoData, root: Path, split: str, workers: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    limit = getattr(data, f"max_{split}_images")
    expected = getattr(data, f"expected_{split}_images")
    if split == "val" and isinstance(data, VocData) and data.difficult == "train_without":
        # Difficult objects are to be found, so they must not be marked `ignore` in the index.
        data = data.model_copy(update={"difficult": "gt"})
    read = voc.index if isinstance(data, VocData) else coco.index
    content, counts = read(data, root, getattr(data, split), limit, workers)
    if expected is not None and counts["listed"] != expected:
        names = getattr(data, split)
        option = names if isinstance(names, str) else f"[{','.join(names)}]"
        raise DatasetError(
            f"{root}: split {split} ({names}) lists {counts['listed']} images, published are "
            f"{expected}; use the complete data set; if the folder has other data, name its "
            f"splits, e.g. {data.kind}_{split}={option}, and any number of images is allowed"
        )
    if not counts["boxes"]:
        raise DatasetError(
            f"{root}: split {split} ({getattr(data, split)}) has no object of the wanted classes "
            f"in its {counts['images']} images; nothing could be learned or measured"
        )
    return content, counts


def _check_nothing_vanishes(
    root: Path, index: dict[str, Any], split: str, image_scale: tuple[int, int]
) -> None:
    raise_problems(
        root,
        [
            f"{split}: {image} has no pixel left when its longer side is resized to "
            f"{max(image_scale)} pixels (sizes.image_scale); crop it or take it out of the split"
            for image in vanishing_images(index, image_scale, split)
        ],
    )


def _check_something_is_left(
    root: Path, data: VocData | CocoData, val: dict[str, Any], train: dict[str, int]
) -> None:
    if not train["trained_boxes"]:
        raise DatasetError(
            f"{root}: nothing to train on is left of {train['boxes']} objects in "
            f"{train['images']} images: {train['small_images']} images have a side below "
            f"{LEAST_IMAGE_SIDE} pixels, {train['small_boxes']} objects one below "
            f"{LEAST_BOX_SIDE} pixel, {train['ignored_boxes']} are marked to be left out, "
            f"{train['crowd']} are crowds; MMDetection takes none of these. Use larger images, or "
            "change the marks (difficult=gt reads marked objects like others)"
        )
    passed_over = ("iscrowd", "difficult") if data.difficult == "ignore" else ("iscrowd",)
    if all(any(one.get(mark) for mark in passed_over) for one in val["annotations"]):
        raise DatasetError(
            f"{root}: all {len(val['annotations'])} objects of the validation images are marked "
            f"{' or '.join(passed_over)}, so none is to be found and AP is undefined; add objects "
            "without these marks, or choose another reading (difficult=gt)"
        )


def _check_categories(root: Path, train: dict[str, Any], val: dict[str, Any]) -> None:
    if train["categories"] != val["categories"]:
        raise DatasetError(
            f"{root}: train and val have different categories: {train['categories']} and "
            f"{val['categories']}; they must be the same, in the same order"
        )


def _check_disjoint(
    root: Path, data: VocData | CocoData, shared: list[tuple[str, str]], images: int
) -> None:
    if not shared or data.allow_shared_images:
        return
    train, val = shared[0]
    raise DatasetError(
        f"{root}: {len(shared)} image(s) are in both train and val, of {images} in val; the first: "
        f"{val} {'is listed in both' if train == val else f'has the content of {train}'}; evaluate "
        "on images that were not trained on, or set allow_shared_images=true, which every table "
        "then says"
    )


def _check_apart(
    root: Path,
    data: VocData | CocoData,
    apart_from: IndexFolder,
    hashes: dict[str, dict[str, str]],
    workers: int,
) -> None:
    """Check that no image for the starting weights is in a split, by the images' content.

    Images in validation are the user's choice where `data` allows them in training too.
    """
    files = apart_from.files()
    initial = image_hashes(files.root, read_annotations(files.train), workers)
    for split in ("train",) if data.allow_shared_images else ("train", "val"):
        shared = shared_images(initial, hashes[split])
        if shared:
            examples = ", ".join(
                theirs if ours == theirs else f"{theirs} (content of {ours})"
                for ours, theirs in shared[:3]
            )
            raise DatasetError(
                f"{root}: {len(shared)} of {len(hashes[split])} {split} images are also among the "
                f"{len(initial)} images for the starting weights (voc_init or coco_init), e.g. "
                f"{examples}; name splits for the starting weights that have none of these images"
            )


def _shared_by_name(train: dict[str, Any], val: dict[str, Any]) -> list[tuple[str, str]]:
    names = {image["file_name"] for image in train["images"]}
    return [(one, one) for one in sorted(i["file_name"] for i in val["images"]) if one in names]

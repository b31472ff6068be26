"""Ids of an index: numbers from 1, independent of the data set's own ids.

For COCO's evaluators an annotation id of 0 means "no match". Ids beyond 64 bits, floats and texts
make them fail or match nothing.
"""

from __future__ import annotations

from typing import Any

Entry = dict[str, Any]
ORIGINAL = "original_id"


def renumbered(content: Entry) -> Entry:
    """Return a COCO-format dict whose ids are 1, 2, 3 ...; the old ids stay as `original_id`.

    Categories and annotations are numbered in their order in the file. Images are numbered in the
    order of their ids if all ids are numbers: evaluators go through images in that order, which
    decides between detections of equal score. An id that does not change gets no `original_id`.

    Args:
        content: images, annotations and categories with distinct ids and valid references.
    """
    ids = [image["id"] for image in content["images"]]
    in_order = sorted(ids) if not any(isinstance(one, str) for one in ids) else ids
    images = {old: new for new, old in enumerate(in_order, 1)}
    categories = {one["id"]: new for new, one in enumerate(content["categories"], 1)}
    return {
        "images": [_with_id(one, images[one["id"]]) for one in content["images"]],
        "annotations": [
            _with_id(one, new)
            | {"image_id": images[one["image_id"]], "category_id": categories[one["category_id"]]}
            for new, one in enumerate(content["annotations"], 1)
        ],
        "categories": [_with_id(one, categories[one["id"]]) for one in content["categories"]],
    }


def original_id(row: Entry) -> Any:
    """The id that an image, annotation or category of an index has in the data set."""
    return row.get(ORIGINAL, row["id"])


def _with_id(row: Entry, new: int) -> Entry:
    old = row["id"]
    same = type(old) is int and old == new
    return {**row, "id": new} | ({} if same else {ORIGINAL: old})

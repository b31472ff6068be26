"""What of an index MMDetection trains on: it leaves out images and objects without a word.

Its data set (`CocoDataset` with this suite's `filter_cfg`) drops images with a side below 32 pixels
and images without any annotation; of the rest it drops objects that are marked `ignore`, that are
less than a pixel wide or high, or that have no area. Crowds are loaded and not learned.
"""

from __future__ import annotations

from typing import Any

LEAST_IMAGE_SIDE = 32  # pixels
LEAST_BOX_SIDE = 1  # pixels


def count_trained_on(index: dict[str, Any]) -> dict[str, int]:
    """Return counts of a training index (COCO-format dict).

    Returns:
        small_images (a side below 32 pixels), small_boxes (a side below a pixel), ignored_boxes
        (marked `ignore`), trained_images and trained_boxes (what is left, without crowds).
    """
    annotated = {one["image_id"] for one in index["annotations"]}
    small = {
        image["id"]
        for image in index["images"]
        if min(image["width"], image["height"]) < LEAST_IMAGE_SIDE
    }
    small_boxes = [min(one["bbox"][2:]) < LEAST_BOX_SIDE for one in index["annotations"]]
    ignored = [bool(one.get("ignore")) for one in index["annotations"]]
    trained = [
        not (too_small or left_out or one["iscrowd"] or one["image_id"] in small)
        for one, too_small, left_out in zip(index["annotations"], small_boxes, ignored, strict=True)
    ]
    return {
        "small_images": len(small),
        "small_boxes": sum(small_boxes),
        "ignored_boxes": sum(ignored),
        "trained_images": len(annotated - small),
        "trained_boxes": sum(trained),
    }

"""Count the images and objects that MMDetection leaves out of a training.

MMDetection's `CocoDataset` with this suite's `filter_cfg` drops images with a side below 32 pixels
and images without any annotation. In the other images it drops objects that are marked `ignore`,
that are less than a pixel wide or high, or that have no area. Crowds are loaded but not learned.
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


def vanishing_images(index: dict[str, Any], scale: tuple[int, int], split: str) -> list[str]:
    """Return names, with sizes, of images of an index that have no pixel left when resized.

    Args:
        index: COCO-format dict.
        scale: longest and shortest side that images are resized to, keeping their shape.
        split: "train", which leaves small images out, or "val".
    """
    least = LEAST_IMAGE_SIDE if split == "train" else 1
    return [
        f"{image['file_name']} ({image['width']} x {image['height']})"
        for image in index["images"]
        if min(image["width"], image["height"]) >= least
        and min(resized(image["width"], image["height"], scale)) == 0
    ]


def resized(width: int, height: int, scale: tuple[int, int]) -> tuple[int, int]:
    """Width and height of an image after MMDetection's `Resize` to a scale, keeping its shape."""
    sides = sorted((width, height))
    factor = min(max(scale) / sides[1], min(scale) / sides[0])
    return int(width * factor + 0.5), int(height * factor + 0.5)

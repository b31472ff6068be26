"""Random ground truth, and detections around it."""

from __future__ import annotations

from typing import Any

import numpy as np

Truth = dict[str, Any]
Detections = list[dict[str, Any]]


def ground_truth(seed: int, images: int = 12, classes: int = 3) -> Truth:
    random = np.random.default_rng(seed)
    annotations = []
    for image_id in range(images):
        for _ in range(random.integers(1, 6)):
            width, height = random.uniform(5, 150, 2)
            x, y = random.uniform(0, 100, 2)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": int(random.integers(1, classes + 1)),
                    "bbox": [x, y, width, height],
                    "area": width * height,
                    "iscrowd": int(random.random() < 0.1),
                    "difficult": int(random.random() < 0.2),
                }
            )
    return {
        "images": [{"id": i, "width": 250, "height": 250} for i in range(images)],
        "annotations": annotations,
        "categories": [{"id": i, "name": f"class {i}"} for i in range(1, classes + 1)],
    }


def jittered(truth: Truth, seed: int) -> Detections:
    """Detections around the truth, good and bad, and some false ones."""
    random = np.random.default_rng(seed)
    detections = []
    for annotation in truth["annotations"]:
        for spread in (0.02, 0.1, 0.3):
            x, y, width, height = annotation["bbox"]
            dx, dy, dw, dh = random.normal(0, spread, 4)
            box = [x + dx * width, y + dy * height, width * np.exp(dw), height * np.exp(dh)]
            detections.append(
                {
                    "image_id": annotation["image_id"],
                    "category_id": annotation["category_id"],
                    "bbox": [float(value) for value in box],
                    "score": float(random.random()),
                }
            )
    return detections


def scene(seed: int) -> tuple[Truth, Detections]:
    """Crowds, difficult objects, an image and a class without objects but with detections.

    Class 3 has a single object, in image 0: many resamples are without the class.
    """
    truth = ground_truth(seed)
    for annotation in truth["annotations"]:
        annotation["category_id"] = min(annotation["category_id"], 2)
    truth["annotations"][0] |= {"category_id": 3, "iscrowd": 0, "difficult": 0}
    truth["images"].append({"id": 40, "width": 250, "height": 250})
    truth["categories"].append({"id": 7, "name": "class 7"})
    false = {"bbox": [1.0, 2.0, 30.0, 40.0], "score": 0.5}
    detections = jittered(truth, seed)
    detections += [{"image_id": 40, "category_id": 1, **false}]
    detections += [{"image_id": 3, "category_id": 7, **false}]
    return truth, detections


def objects_and_detections(
    images: int, detections: list[tuple[int, float, bool]]
) -> tuple[Truth, Detections]:
    """One class, one object an image; detections are (image, score, on the object)."""
    truth = {
        "images": [{"id": i, "width": 100, "height": 100} for i in range(images)],
        "annotations": [
            {"id": i + 1, "image_id": i, "category_id": 1, "bbox": [10, 10, 20, 20], "area": 400}
            | {"iscrowd": 0}
            for i in range(images)
        ],
        "categories": [{"id": 1, "name": "thing"}],
    }
    boxes = {True: [10, 10, 20, 20], False: [60, 60, 20, 20]}
    return truth, [
        {"image_id": image, "category_id": 1, "bbox": boxes[on_object], "score": score}
        for image, score, on_object in detections
    ]

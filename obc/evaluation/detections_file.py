"""The file with the detections of one evaluation, beside the metrics file.

It is kept so that a difference between two evaluations can be resampled over the test images
without running a detector again. D is the number of detections.

image_id     (D,) int64
category_id  (D,) int64
bbox         (D, 4) float64, x, y, width, height in pixels
score        (D,) float64
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from obc.io.errors import SuiteError
from obc.io.files import atomic_path

_FIELDS = {"image_id": np.int64, "category_id": np.int64, "bbox": np.float64, "score": np.float64}


class DetectionsFileError(SuiteError):
    """A detections file cannot be read; the message names it and the remedy."""


def save_detections(path: Path, detections: list[dict[str, Any]]) -> None:
    """Write COCO-format results (image_id, category_id, bbox, score) in the order given."""
    columns = {
        name: np.array([detection[name] for detection in detections], dtype)
        for name, dtype in _FIELDS.items()
    }
    columns["bbox"] = columns["bbox"].reshape(-1, 4)
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, **columns)


def load_detections(path: Path) -> list[dict[str, Any]]:
    """Read a file that `save_detections` wrote, as the same list of plain Python values.

    Raises:
        DetectionsFileError: the file is damaged or lacks an array.
    """
    try:
        with np.load(path) as file:
            columns = [file[name].tolist() for name in _FIELDS]
        return [dict(zip(_FIELDS, values, strict=True)) for values in zip(*columns, strict=True)]
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DetectionsFileError(
            f"{path}: not a detections file ({error}); remove it to have it measured again"
        ) from None

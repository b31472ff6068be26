"""Lossless packing of detections, which uses that a detector's boxes are single precision.

An evaluation keeps double precision numbers (`detections_file`), because a width is a difference of
two corners. The corners and the scores fit single precision. Packed detections are a `numpy.savez`
file of the arrays below. It is not compressed, because many files compress better as one archive.
D is the number of detections.

image_id     (D,) int64
category_id  (D,) int64
corners      (4, 4, D) uint8, byte by byte of x1, y1, x2, y2 as float32
score        (4, D) uint8, byte by byte of float32
last_pixel   () int64, 1 if boxes are in whole pixels, else 0: a width is x2 - x1 + last_pixel
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

Columns = dict[str, NDArray[Any]]


def pack(columns: Columns) -> bytes | None:
    """Pack the arrays of a detections file into fewer bytes.

    Args:
        columns: image_id, category_id, bbox (D, 4) and score, as in `detections_file`.

    Returns:
        Bytes from which `unpack` restores the same arrays, bit for bit; None if that is impossible.
    """
    for last_pixel in (0, 1):
        corners = columns["bbox"].copy()
        corners[:, 2:] += columns["bbox"][:, :2] - last_pixel
        packed = {
            "image_id": columns["image_id"],
            "category_id": columns["category_id"],
            "corners": np.stack([_bytes(column) for column in corners.T]),
            "score": _bytes(columns["score"]),
            "last_pixel": np.array(last_pixel),
        }
        if _equal(_columns(packed), columns):
            file = io.BytesIO()
            np.savez(file, **packed)
            return file.getvalue()
    return None


def unpack(packed: bytes) -> Columns:
    """Restore the arrays that `pack` was given."""
    with np.load(io.BytesIO(packed)) as file:
        return _columns(dict(file))


def _columns(packed: Columns) -> Columns:
    x1, y1, x2, y2 = map(_floats, packed["corners"])
    widths, heights = (
        second - first + packed["last_pixel"] for first, second in ((x1, x2), (y1, y2))
    )
    return {
        "image_id": packed["image_id"],
        "category_id": packed["category_id"],
        "bbox": np.stack([x1, y1, widths, heights], axis=-1),
        "score": _floats(packed["score"]),
    }


def _bytes(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Byte planes (4, D): similar bytes of successive numbers are adjacent, to compress better."""
    return values.astype("<f4").view(np.uint8).reshape(-1, 4).T


def _floats(planes: NDArray[np.uint8]) -> NDArray[np.float64]:
    return np.ascontiguousarray(planes.T).view("<f4").reshape(-1).astype(np.float64)


def _equal(first: Columns, second: Columns) -> bool:
    return all(np.array_equal(first[name], second[name]) for name in second)

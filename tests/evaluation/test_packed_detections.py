"""Detections in fewer bytes: nothing may be lost."""

from __future__ import annotations

import numpy as np
import pytest

from obc.evaluation.packed_detections import Columns, pack, unpack


def found_by_a_detector(last_pixel: int, count: int = 500) -> Columns:
    """Detections as an evaluation keeps them: corners and scores of single precision."""
    random = np.random.default_rng(0)
    first = random.uniform(0, 60, (count, 2)).astype(np.float32).astype(np.float64)
    second = random.uniform(61, 96, (count, 2)).astype(np.float32).astype(np.float64)
    return {
        "image_id": np.sort(random.integers(1, 60, count)),
        "category_id": random.integers(1, 4, count),
        "bbox": np.concatenate([first, second - first + last_pixel], axis=1),
        "score": random.uniform(0, 1, count).astype(np.float32).astype(np.float64),
    }


@pytest.mark.parametrize("last_pixel", [0, 1])
@pytest.mark.parametrize("count", [500, 0])
def test_what_is_unpacked_is_bit_for_bit_what_was_packed(last_pixel: int, count: int) -> None:
    columns = found_by_a_detector(last_pixel, count)
    packed = pack(columns)
    assert packed is not None
    again = unpack(packed)
    assert again.keys() == columns.keys()
    for name, column in columns.items():
        assert again[name].dtype == column.dtype
        assert again[name].shape == column.shape
        assert np.array_equal(again[name], column)


def test_numbers_that_single_precision_cannot_hold_are_not_packed() -> None:
    columns = found_by_a_detector(0)
    columns["score"][7] = 0.1
    assert pack(columns) is None

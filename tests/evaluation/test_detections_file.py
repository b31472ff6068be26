"""Detections on disk: what was saved comes back, and a damaged file is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from obc.evaluation.detections_file import DetectionsFileError, load_detections, save_detections

DETECTIONS = [
    {"image_id": 7, "category_id": 2, "bbox": [1.5, 0.1, 10.0, 1 / 3], "score": 0.25},
    {"image_id": 3, "category_id": 1, "bbox": [0.0, 2.0, 4.0, 8.0], "score": 0.75},
]


@pytest.mark.parametrize("detections", [DETECTIONS, []])
def test_saved_detections_come_back_in_their_order_to_the_last_bit(
    tmp_path: Path, detections: list[dict]
) -> None:
    save_detections(tmp_path / "detections.argmax.npz", detections)
    assert load_detections(tmp_path / "detections.argmax.npz") == detections


def test_the_same_detections_are_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        save_detections(tmp_path / name, DETECTIONS)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@pytest.mark.parametrize("keep", [0, 100, 400])
def test_a_damaged_file_is_named_with_the_remedy(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "detections.argmax.npz"
    save_detections(path, DETECTIONS)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DetectionsFileError, match=r"argmax\.npz: not a detections file.*remove it"):
        load_detections(path)

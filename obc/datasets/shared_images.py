"""Images that are in both training and validation, also under other names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from obc.datasets.parallel import parallel_map
from obc.io.files import file_sha256


def image_hashes(root: Path, index: dict[str, Any], workers: int) -> dict[str, str]:
    """Return the sha256 of each image file of an index (COCO-format dict) by its `file_name`."""
    names = [image["file_name"] for image in index["images"]]
    hashes = parallel_map(partial(_hash, root), names, workers, f"hashing images of {root}")
    return dict(zip(names, hashes, strict=True))


def _hash(root: Path, name: str) -> str:
    return file_sha256(root / name)


def shared_images(train: Mapping[str, str], val: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return pairs (name in train, name in val) of images with the same content, by name in val.

    A link, a copy and the same file under another name all have the same content.

    Args:
        train: hash of each training image's content by its name.
        val: hash of each validation image's content by its name.
    """
    by_hash = defaultdict(list)
    for name, digest in train.items():
        by_hash[digest].append(name)
    return [(min(by_hash[val[name]]), name) for name in sorted(val) if val[name] in by_hash]

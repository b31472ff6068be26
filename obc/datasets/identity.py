"""Digests of a user's folder: of its annotations, and of its place with its images.

Run ids depend on the annotations only, so that the same data set has the same run ids on every
machine. Place and images decide only which index belongs to the data. Both digests are of content:
a folder that was unpacked or copied anew to the same place is the same folder.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from obc.datasets import coco, voc
from obc.datasets.hashes import FileHashes
from obc.datasets.parallel import parallel_map
from obc.datasets.settings import CocoData, VocData

_NO_IMAGES = {"thumbs.db", "desktop.ini"}  # left by file managers; hidden files do not count either


def fingerprint(data: VocData | CocoData, root: Path, hashes: FileHashes | None = None) -> str:
    """Return 16 hex digits that change when an annotation or a split of the data set changes.

    Every annotation file is hashed whole; no image is opened. The digits do not depend on the
    location of the data set.

    Args:
        hashes: kept hashes of annotation files; new ones are saved. None: all files are read.

    Raises:
        DatasetError: `root` is not in the layout of `data`, or a file is missing.
    """
    kept = hashes or FileHashes(None)
    parts = (
        _voc_parts(data, root, kept) if isinstance(data, VocData) else _coco_parts(data, root, kept)
    )
    digits = text_digest(parts)[:16]
    kept.save()
    return digits


def location(data: VocData | CocoData, root: Path, hashes: FileHashes | None = None) -> str:
    """Return 16 hex digits that change when the place or one of its images changes.

    They depend on the resolved folder and on every image's name and content. Of a folder within the
    current folder only the relative path counts, so that a project with its data can be moved.

    Args:
        hashes: kept hashes of images; new ones are saved. None: all images are read.

    Raises:
        DatasetError: `root` is not in the layout of `data`, or an image cannot be read.
    """
    kept = hashes or FileHashes(None)
    images = list(_images(data, root))
    seen = parallel_map(partial(_seen, root, kept), images, 1, f"reading images of {root}")
    kept.save()
    return text_digest([place(root), *seen])[:16]


def place(root: Path) -> str:
    """The resolved path of a folder; relative if it is within the current folder."""
    resolved, here = root.resolve(), Path.cwd().resolve()
    return str(resolved.relative_to(here)) if resolved.is_relative_to(here) else str(resolved)


def text_digest(parts: Iterable[str]) -> str:
    """64 hex digits of a hash of lines of text."""
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()


def _voc_parts(data: VocData, root: Path, hashes: FileHashes) -> Iterator[str]:
    for part, names in (("train", data.train), ("val", data.val)):
        yield f"{part} {' '.join(names)}"
        for listed in voc.read_splits(root, names):
            yield f"{listed.image_id} {hashes.sha256(listed.annotation)}"


def _coco_parts(data: CocoData, root: Path, hashes: FileHashes) -> Iterator[str]:
    for part, split in (("train", data.train), ("val", data.val)):
        yield f"{part} {split} {hashes.sha256(coco.annotation_file(root, split))}"


def _images(data: VocData | CocoData, root: Path) -> Iterator[Path]:
    if isinstance(data, CocoData):
        for split in dict.fromkeys((data.train, data.val)):
            yield from sorted(_files(root / split))
        return
    named_otherwise = set()
    for listed in voc.read_splits(root, (*data.train, *data.val)):
        yield from listed.images
        if not listed.images:  # its annotation may name the file; annotations are not read here
            named_otherwise.add(listed.image.parent)
    for folder in sorted(named_otherwise):
        yield from sorted(_files(folder))


def _files(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder, followlinks=True):
        for name in names:
            if not name.startswith(".") and name.lower() not in _NO_IMAGES:
                yield Path(parent, name)


def _seen(root: Path, hashes: FileHashes, path: Path) -> str:
    name = path.relative_to(root)
    if not path.is_file():  # a broken link; indexing reports the missing file
        return f"{name} missing"
    return f"{name} {hashes.sha256(path)}"

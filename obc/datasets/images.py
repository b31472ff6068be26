"""Checks that image files exist, are whole, and have the size of the annotation when loaded.

Trainings and evaluations load images with OpenCV (MMDetection's `LoadImageFromFile`). Other readers
support other formats, and rotate other files by EXIF data. The checks therefore use OpenCV.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from PIL import Image, UnidentifiedImageError

_NEVER_DEEP = ("JPEG", "MPO", "WEBP", "BMP")  # formats that OpenCV reads with 8 bits a channel
_PNG_BIT_DEPTH = 24  # offset in the file
_DARK = 64  # of 255; 14-bit values stored in 16 bits are all darker


@dataclass(frozen=True)
class ImageCheck:
    """The result for one image file: its size in bytes, and its problem, if any."""

    bytes: int
    problem: str | None = None


class _Unusable(ValueError):
    """An image file cannot be trained on; the message says why."""


def check_image(path: Path, width: int, height: int) -> ImageCheck:
    """Check that `path` is a whole image that is loaded as `width` x `height` pixels."""
    try:
        if not path.is_file():
            return ImageCheck(
                0, f"{path}: image is missing; restore it or take it out of the split"
            )
        content = path.read_bytes()
    except OSError as error:  # a name that is too long, a folder that may not be read
        return ImageCheck(
            0, f"{path}: image cannot be opened ({error.strerror}); rename or restore it"
        )
    try:
        found = _loaded_size(content)
    except _Unusable as error:
        return ImageCheck(len(content), f"{path}: {error}")
    if found != (width, height):
        return ImageCheck(
            len(content),
            f"{path}: image is loaded with {found[0]} x {found[1]} pixels, its annotation says "
            f"{width} x {height}; {_why_another_size(content, (width, height))}",
        )
    return ImageCheck(len(content))


def _loaded_size(content: bytes) -> tuple[int, int]:
    """Width and height of an image as OpenCV loads it, after decoding the whole file.

    A JPEG without EXIF data is never rotated, so it is decoded at an eighth of its size, which
    takes half the time. PIL decodes JPEGs too, because OpenCV silently fills a truncated JPEG with
    grey.
    """
    cv2 = _opencv()
    image = _opened(content)
    if image.format == "JPEG" and "exif" not in image.info:
        size = image.size
        _require_whole(image)
        _loaded(content, image.format, cv2.IMREAD_REDUCED_COLOR_8)
        return size
    if image.format in ("JPEG", "MPO"):
        _require_whole(image)
    loaded = _loaded(content, image.format, cv2.IMREAD_COLOR)
    if not (
        image.format in _NEVER_DEEP or (image.format == "PNG" and content[_PNG_BIT_DEPTH] < 16)
    ):
        _require_full_range(content, loaded)
    return loaded.shape[1], loaded.shape[0]


@cache
def _opencv() -> ModuleType:
    """Import OpenCV, only when images are read; without threads, because processes are forked."""
    import cv2

    cv2.setNumThreads(0)
    return cv2


def _opened(content: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(content))
    except UnidentifiedImageError:
        raise _Unusable("not an image; restore the file") from None
    except Exception as error:  # whatever PIL's readers of broken headers raise
        raise _Unusable(f"image cannot be decoded ({error}); restore it") from error


def _require_whole(image: Image.Image) -> None:
    """Raise _Unusable unless PIL can read the file to its end, a JPEG at an eighth of its size."""
    try:
        image.draft("RGB", (max(image.width // 8, 1), max(image.height // 8, 1)))
        image.load()
    except Exception as error:  # whatever PIL's decoders of broken files raise
        raise _Unusable(f"image cannot be decoded ({error}); restore it") from error


def _loaded(content: bytes, kind: str | None, flag: int) -> Any:
    """The image as MMDetection loads it: (height, width, 3) of 8 bits."""
    loaded = _decoded(content, flag)
    if loaded is None:
        _require_whole(_opened(content))
        raise _Unusable(
            f"this {kind} file cannot be read by OpenCV, with which MMDetection loads images; "
            "save it as JPEG or PNG with 8 bits a channel"
        )
    if loaded.dtype != "uint8" or loaded.ndim != 3 or loaded.shape[2] != 3:
        raise _Unusable(
            f"this {kind} file is loaded as {loaded.dtype} of shape {loaded.shape}; allowed: three "
            "channels of 8 bits"
        )
    return loaded


def _decoded(content: bytes, flag: int) -> Any:
    import numpy as np

    cv2 = _opencv()
    try:
        return cv2.imdecode(np.frombuffer(content, np.uint8), flag)
    except cv2.error:
        return None


def _require_full_range(content: bytes, loaded: Any) -> None:
    """Refuse 16-bit images that are nearly black once OpenCV keeps only the upper 8 bits."""
    stored = _decoded(content, _opencv().IMREAD_UNCHANGED)
    if stored is None or stored.dtype.itemsize < 2:
        return
    if stored.max() > 0 and loaded.max() < _DARK:
        raise _Unusable(
            f"image has 16 bits a channel and values up to {stored.max()}, which are loaded as at "
            f"most {loaded.max()} of 255; stretch the values to 0..65535 or save 8 bits a channel"
        )


def _why_another_size(content: bytes, wanted: tuple[int, int]) -> str:
    with Image.open(io.BytesIO(content)) as image:
        if image.getexif() and wanted in (image.size, image.size[::-1]):
            return (
                "its EXIF data ask readers to turn it, and OpenCV, with which MMDetection loads "
                "images, does not do so with every format: save the image upright without "
                "EXIF data, or correct the annotation"
            )
    return "annotation and image do not belong together"

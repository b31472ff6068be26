"""Checks of image files: there, decodable to the end, and of the size that the annotation says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

_EXIF_ORIENTATION = 0x0112
_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap width and height


@dataclass(frozen=True)
class ImageCheck:
    """What was found of one image file: its size in bytes, and what is wrong, if anything."""

    bytes: int
    problem: str | None = None


def check_image(path: Path, width: int, height: int) -> ImageCheck:
    """Check that `path` is a whole image of `width` x `height` pixels, as a loader will see it."""
    try:
        if not path.is_file():
            return ImageCheck(
                0, f"{path}: image is missing; restore it or take it out of the split"
            )
        size_on_disk = path.stat().st_size
    except OSError as error:  # a name that is too long, a folder that may not be read
        return ImageCheck(
            0, f"{path}: image cannot be opened ({error.strerror}); rename or restore it"
        )
    try:
        found = _decoded_size(path)
    except UnidentifiedImageError:
        return ImageCheck(size_on_disk, f"{path}: not an image; restore the file")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:  # PIL's for broken files
        return ImageCheck(size_on_disk, f"{path}: image cannot be decoded ({error}); restore it")
    if found != (width, height):
        return ImageCheck(
            size_on_disk,
            f"{path}: image is {found[0]} x {found[1]} pixels, its annotation says "
            f"{width} x {height}; annotation and image do not belong together",
        )
    return ImageCheck(size_on_disk)


def _decoded_size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        width, height = image.size
        # Loaders turn an image as its EXIF data says.
        if image.getexif().get(_EXIF_ORIENTATION) in _SIDEWAYS:
            width, height = height, width
        # At an eighth of its size a JPEG is still read to its end, several times as fast.
        image.draft("RGB", (max(image.width // 8, 1), max(image.height // 8, 1)))
        image.load()
    return width, height

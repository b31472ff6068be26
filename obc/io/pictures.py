"""Pictures with fewer pixels."""

from __future__ import annotations

from PIL import Image


def narrowed(picture: Image.Image, width: int) -> Image.Image:
    """A picture at most so many pixels wide: itself, or an RGB copy of the same proportions."""
    if picture.width <= width:
        return picture
    height = max(1, round(picture.height * width / picture.width))
    return picture.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)

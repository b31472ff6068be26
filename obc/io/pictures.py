"""Downscaling of pictures."""

from __future__ import annotations

from PIL import Image


def narrowed(picture: Image.Image, width: int) -> Image.Image:
    """Return a picture at most `width` pixels wide: itself, or an RGB copy in proportion."""
    if picture.width <= width:
        return picture
    height = max(1, round(picture.height * width / picture.width))
    return picture.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)

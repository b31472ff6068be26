"""Pictures embedded in the page: small enough to commit the file, sharp enough to read."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image

from obc.io.pictures import narrowed

LIMIT = 128 * 2**10
"""Largest size of a picture in bytes. A larger SVG is mostly pixels; a scaled PNG is smaller."""
STEPS = ((1600, 85), (1200, 80), (800, 75))
"""Width in pixels (the page shows 800) and quality; the first pair within LIMIT is used."""
QUALITY = 85
GREY = (208, 208, 208)
"""Colour that replaces an image that may not be shown."""
_MIME = {"svg": "image/svg+xml", "webp": "image/webp"}


def figure_uri(svg: Path) -> str:
    """Return a figure as a data URI: its SVG, or its PNG scaled down if the SVG is too large."""
    png = svg.with_suffix(".png")
    if svg.stat().st_size <= LIMIT or not png.exists():
        return _data_uri("svg", svg.read_bytes())
    for width, quality in STEPS:
        content = _scaled(png, width, quality)
        if len(content) <= LIMIT:
            break
    return _data_uri("webp", content)


def image_uri(path: Path, width: int) -> str:
    """Return an image as a data URI, at most `width` pixels wide.

    Raises:
        OSError: the image cannot be read.
    """
    return _data_uri("webp", _scaled(path, width, QUALITY))


def grey_uri(width: int, height: int) -> str:
    """Return a grey picture of this size as a data URI, to replace a hidden image."""
    return _data_uri("webp", _webp(Image.new("RGB", (width, height), GREY), QUALITY))


def _scaled(path: Path, width: int, quality: int) -> bytes:
    with Image.open(path) as image:
        return _webp(narrowed(image.convert("RGB"), width), quality)


def _webp(picture: Image.Image, quality: int) -> bytes:
    content = io.BytesIO()
    picture.save(content, "WEBP", quality=quality)
    return content.getvalue()


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{_MIME[kind]};base64,{base64.b64encode(content).decode()}"

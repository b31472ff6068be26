"""Pictures inside of the page: small enough for a file that is committed, sharp enough to read."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image

from obc.io.pictures import narrowed

LIMIT = 128 * 2**10
"""Bytes of a picture. An SVG with more is mostly pixels, which a scaled picture has in less."""
STEPS = ((1600, 85), (1200, 80), (800, 75))
"""Pixels across (the page shows 800) and quality: the first that keeps a picture in LIMIT."""
QUALITY = 85
GREY = (208, 208, 208)
"""What stands in place of an image that may not be shown."""
_MIME = {"svg": "image/svg+xml", "webp": "image/webp"}


def figure_uri(svg: Path) -> str:
    """A figure as a data URI: its SVG, or its PNG scaled down where the SVG is large."""
    png = svg.with_suffix(".png")
    if svg.stat().st_size <= LIMIT or not png.exists():
        return _data_uri("svg", svg.read_bytes())
    for width, quality in STEPS:
        content = _scaled(png, width, quality)
        if len(content) <= LIMIT:
            break
    return _data_uri("webp", content)


def image_uri(path: Path, width: int) -> str:
    """An image as a data URI, at most so many pixels wide.

    Raises:
        OSError: it cannot be read.
    """
    return _data_uri("webp", _scaled(path, width, QUALITY))


def grey_uri(width: int, height: int) -> str:
    """A grey picture of so many pixels as a data URI, where an image may not be shown."""
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

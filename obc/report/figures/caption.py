"""Captions of figures: stored in the figures' files, and read back by pages that print them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from PIL import Image, UnidentifiedImageError

_TITLE = "{http://www.w3.org/2000/svg}title"  # not dc:title, which also has the program's name
_DESCRIPTION = "{http://purl.org/dc/elements/1.1/}description"


class Caption(NamedTuple):
    """Heading of a figure, and the text to print beside it; both may be empty."""

    heading: str
    text: str


def caption(*sentences: str, missing: str = "") -> str:
    """Join sentences into one text that ends with the missing numbers.

    Args:
        sentences: empty strings are left out.
        missing: e.g. `not run: a = 1`; empty if nothing is missing.
    """
    lacking = f"Without a number: {missing}." if missing else ""
    return " ".join(filter(None, [*sentences, lacking]))


def read_caption(path: Path) -> Caption:
    """Read the caption from a figure's file; it is empty if another program drew the figure."""
    try:
        return _of_png(path) if path.suffix == ".png" else _of_svg(path)
    except (ElementTree.ParseError, UnidentifiedImageError):
        return Caption("", "")


def _of_png(path: Path) -> Caption:
    with Image.open(path) as image:
        return Caption(image.info.get("Title", ""), image.info.get("Description", ""))


def _of_svg(path: Path) -> Caption:
    found = {_TITLE: "", _DESCRIPTION: ""}
    for _, element in ElementTree.iterparse(path):
        if element.tag in found:
            found[element.tag] = " ".join((element.text or "").split())
        elif element.tag.endswith("}metadata"):
            break  # the drawing follows, which can be long
    return Caption(found[_TITLE], found[_DESCRIPTION])

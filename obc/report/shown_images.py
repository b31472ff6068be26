"""Whether a written figure or page shows images of the data set, read from the file itself.

The plan decides what the next drawing shows. A file that was drawn before `show_images` was changed
still shows what it showed.
"""

from __future__ import annotations

import re
from pathlib import Path

from obc.report.captions import NOT_SHOWN
from obc.report.figures.caption import read_caption
from obc.report.pictures import grey_uri

# Figures that show images of the data set; all other figures show none.
OF_IMAGES = ("figure6", "stages")
# These figures, and the example images, in the template of the page.
_FIGURE = re.compile(rf'<figure id="figure-(?:{"|".join(OF_IMAGES)})">.*?</figure>', re.DOTALL)
_EXAMPLE = re.compile(r'viewBox="0 0 (\d+) (\d+)"><image href="([^"]*)"')


def shows_images(path: Path) -> bool:
    """Whether a figure (SVG or PNG) or a page (HTML) shows images of the data set.

    A figure of images shows none only if its caption states so. A page shows none if that holds for
    its figures and its example images are grey.
    """
    if path.suffix == ".html":
        return _page_shows_images(path.read_text(encoding="utf-8"))
    return path.stem in OF_IMAGES and NOT_SHOWN not in read_caption(path).text


def _page_shows_images(page: str) -> bool:
    examples = _EXAMPLE.findall(page)
    return (
        any(NOT_SHOWN not in figure for figure in _FIGURE.findall(page))
        or len(examples) != page.count("<image ")
        or any(uri != grey_uri(int(width), int(height)) for width, height, uri in examples)
    )

"""What a terminal can show."""

from __future__ import annotations

import os
from typing import TextIO


def can_redraw(stream: TextIO) -> bool:
    """Whether a stream is a terminal that can replace lines: not a file, a pipe or TERM=dumb."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"

"""Errors of data sets on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from obc.io.errors import SuiteError

_SHOWN = 10


class DatasetError(SuiteError):
    """A data set is not usable; the message names the file, what is wrong and the remedy."""


def raise_problems(source: Path, problems: Sequence[str]) -> None:
    """Raise one DatasetError that reports the `problems` found in `source`, if there are any."""
    if not problems:
        return
    shown = "".join(f"\n  {problem}" for problem in problems[:_SHOWN])
    more = f"\n  ... and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    raise DatasetError(f"{source}: {len(problems)} problem(s) in the data set:{shown}{more}")

"""Modules of a user that add to the suite when they are imported, e.g. box losses."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path


def import_plugins(names: Iterable[str]) -> None:
    """Import modules from the project's folder (the current one) or any other place on the path.

    Raises:
        ValueError: a module is not there, or fails; the message names it.
    """
    project = str(Path.cwd())
    for name in names:
        if project not in sys.path:
            sys.path.append(project)
        try:
            import_module(name)
        except Exception as error:  # what a module of the user raises can be anything
            raise ValueError(
                f"{name!r} cannot be imported ({type(error).__name__}: {error}), "
                f"allowed: a module in {project} or elsewhere on Python's path"
            ) from error

"""Import of a user's modules that extend the suite, e.g. by box losses."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path


def import_plugins(names: Iterable[str]) -> None:
    """Import modules from the project's folder (the current one) or from elsewhere on the path.

    Raises:
        ValueError: a module is missing or raises an exception; the message names it.
    """
    project = str(Path.cwd())
    for name in names:
        if project not in sys.path:
            sys.path.append(project)
        try:
            import_module(name)
        except Exception as error:  # a user's module can raise any exception
            raise ValueError(
                f"{name!r} cannot be imported ({type(error).__name__}: {error}), "
                f"allowed: a module in {project} or elsewhere on Python's path"
            ) from error

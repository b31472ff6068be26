"""A folder that knows the names of its files: the base of run folders and index folders."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Folder:
    """A path to a folder; subclasses name the files. It can be used as a path."""

    path: Path

    def __fspath__(self) -> str:
        """The path as text, for `open`, `Path` and similar functions."""
        return os.fspath(self.path)

    def __str__(self) -> str:
        """The path, as messages show it."""
        return str(self.path)

    def __truediv__(self, name: str) -> Path:
        """The path of a file that the class does not name."""
        return self.path / name

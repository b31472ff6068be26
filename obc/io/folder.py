"""A folder that knows the names of its files: what run folders and index folders have in common."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Folder:
    """A path to a folder; subclasses name the files. May be used wherever a path may."""

    path: Path

    def __fspath__(self) -> str:
        """The path as text, for `open`, `Path` and the like."""
        return os.fspath(self.path)

    def __str__(self) -> str:
        """The path, as messages show it."""
        return str(self.path)

    def __truediv__(self, name: str) -> Path:
        """The path of a file whose name only its writer knows."""
        return self.path / name

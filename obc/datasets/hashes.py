"""Content hashes of annotations and images, kept between calls so that a second look is quick.

A file is read again when its size, modification time, change time or inode has changed.
"""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

from obc.datasets.errors import DatasetError
from obc.io.files import write_text

# A file written this recently may be written again without a later modification time.
_SETTLED_NS = 2_000_000_000


class FileHashes:
    """Hashes of whole files, backed by a JSON file: absolute path to size, times, inode and hash.

    A JSON file that is damaged, or cannot be read or written, is ignored: files are then hashed
    again. If two processes save at once, the later one wins; that only costs time.

    Args:
        path: the JSON file; None: nothing is kept.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._kept = _read(path) if path is not None else {}
        self._changed = False

    def sha256(self, file: Path) -> str:
        """64 hex digits of the content of `file`.

        Raises:
            DatasetError: the file is missing or cannot be read.
        """
        try:
            status = file.stat()
            seen = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
            key = str(file.absolute())
            kept = self._kept.get(key)
            if isinstance(kept, list) and kept[:-1] == seen and isinstance(kept[-1], str):
                return kept[-1]
            with file.open("rb") as content:
                found = hashlib.file_digest(content, "sha256").hexdigest()
        except FileNotFoundError:
            raise DatasetError(
                f"{file}: annotation is missing; restore it or take the image out of the split"
            ) from None
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            raise DatasetError(f"{file}: cannot be read ({error}); make it readable") from None
        if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > _SETTLED_NS:
            self._kept[key] = [*seen, found]
            self._changed = True
        return found

    def save(self) -> None:
        """Write new hashes, if there are any and the folder of the JSON file exists."""
        if self._path is None or not self._changed or not self._path.parent.is_dir():
            return
        try:
            write_text(self._path, json.dumps(_read(self._path) | self._kept) + "\n")
        except OSError:  # no permission, or a full disk: the next call is slower
            return
        self._changed = False


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}

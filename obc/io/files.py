"""Writing files and folders so that a reader never sees half of one.

Everything is written under a temporary sibling name and renamed when complete: after a kill, a full
disk or an exception, the final name has its old content, or none.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from obc.io.errors import SuiteError


def _temporary_sibling(path: Path) -> Path:
    # Same folder, so that the rename stays within one file system; same suffix, because writers
    # such as matplotlib choose the format by it.
    return path.with_name(f".{path.stem}.{os.getpid()}-{uuid.uuid4().hex[:8]}{path.suffix}")


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path to write a file to; it becomes `path` when the block succeeds.

    The folder of `path` is created if it is missing. Raises FileNotFoundError when the block wrote
    no file. Any error of the block passes through and leaves `path` unchanged.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary_sibling(path)
    try:
        yield temporary
        _flush(temporary)
        temporary.replace(path)
        _flush(path.parent)  # otherwise a power loss may lose the rename
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(path: str | Path) -> None:
    """Delete the temporary files that killed processes left while they wrote `path`."""
    path = Path(path)
    for leftover in path.parent.glob(f".{path.stem}.*-*{path.suffix}"):
        leftover.unlink()


def _flush(path: Path) -> None:
    """Wait until a file's content, or a folder's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield an empty temporary folder to fill; it becomes `path` when the block succeeds.

    A folder that was there before is replaced as a whole. Any error of the block passes through
    and leaves `path` unchanged.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, replaced = _temporary_sibling(path), _temporary_sibling(path)
    temporary.mkdir()
    try:
        yield temporary
        if path.exists():  # a rename cannot replace a folder that is not empty
            path.rename(replaced)
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    shutil.rmtree(replaced, ignore_errors=True)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` (UTF-8) to `path` in one step."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as readable JSON to `path` in one step.

    Raises ValueError for NaN and infinity, which JSON does not have, and TypeError for a value
    that JSON cannot hold.
    """
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


class DamagedRecord(SuiteError):
    """A file that a step wrote is damaged, for example by a power loss."""


def read_json(path: Path) -> Any:
    """The JSON content of a file; None where the file is missing or damaged.

    For readers of runs that other processes are working on: a file may vanish at any time, and a
    power loss may leave half of a file.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def read_record(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None where the file is missing, damaged or holds no object."""
    content = read_json(path)
    return content if isinstance(content, dict) else None


def require_record(path: Path) -> dict[str, Any]:
    """The JSON object in an existing file.

    Raises:
        DamagedRecord: the file does not hold a JSON object.
    """
    record = read_record(path)
    if record is None:
        raise DamagedRecord(
            f"{path}: not the JSON object that was written there; remove the file, and snakemake "
            "makes it anew, with what depends on it"
        )
    return record


def file_sha256(path: Path) -> str:
    """64 hex digits of a hash of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""Writing files and folders so that a reader never sees half of one.

Everything is written under a temporary sibling name and renamed when complete: a kill, a full disk
or an exception leaves what was under the final name before, or nothing.
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

    The folder of `path` is made where it is missing. Raises FileNotFoundError when the block wrote
    no file; any error of the block passes through and leaves `path` as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary_sibling(path)
    try:
        yield temporary
        _flush(temporary)
        temporary.replace(path)
        _flush(path.parent)  # else the new name, or the deletion of an old file, may be lost alone
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(path: str | Path) -> None:
    """Delete the temporary files with which killed processes were writing `path`."""
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
    and leaves `path` as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, replaced = _temporary_sibling(path), _temporary_sibling(path)
    temporary.mkdir()
    try:
        yield temporary
        if path.exists():  # a folder that is not empty cannot be renamed onto
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
    """A file that a step wrote is not whole any more, as after a power loss."""


def read_json(path: Path) -> Any:
    """The JSON content of a file; None where there is no file or no whole one.

    For those who look at runs that others are working on: a file may vanish between two looks, and
    a power loss may leave half of one.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def read_record(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None as `read_json`."""
    content = read_json(path)
    return content if isinstance(content, dict) else None


def require_record(path: Path) -> dict[str, Any]:
    """The JSON object in a file that is there.

    Raises:
        DamagedRecord: it holds something else.
    """
    record = read_record(path)
    if record is None:
        raise DamagedRecord(
            f"{path}: not the JSON object that was written there; remove the file, and snakemake "
            "makes it anew, with what depends on it"
        )
    return record


def file_sha256(path: Path) -> str:
    """64 hex digits of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

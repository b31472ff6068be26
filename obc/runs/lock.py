"""The lock that keeps a second training out of a run's folder."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from obc.config.run_folder import RunFolder, WorkFolder
from obc.io.errors import SuiteError
from obc.io.locks import NoFileLocks, lock

HEARD_SECONDS = 300.0


class RunBusy(SuiteError):
    """Another process is training this run at this moment."""


@contextmanager
def training_lock(folder: RunFolder, patience: float = 0.0) -> Iterator[TextIO]:
    """Lock a run's folder against a second training; the system frees the lock of a dead process.

    Args:
        folder: the run's folder.
        patience: seconds to wait for a process that holds the lock, e.g. one that was told to stop
            and is saving a checkpoint.

    Yields:
        The lock, an open file. A process that inherits the file holds the lock too.

    Raises:
        RunBusy: another process holds the lock.
        NoFileLocks: the file system has no file locks.
    """
    path = folder.work.lock
    # Wait at least a second: `run_status` holds the lock for an instant when it tests it.
    deadline = time.monotonic() + max(patience, 1.0)
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8") as handle:
            if not _lock_until(handle, path, deadline):
                raise RunBusy(f"{folder}: another process is training this run; wait for it")
            if not _is_at(handle, path):
                continue  # its former holder is done and has removed the file
            # Otherwise processes that load images would keep the lock when the training is killed.
            os.register_at_fork(after_in_child=handle.close)
            yield handle
            return


def _is_at(handle: TextIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _lock_until(handle: TextIO, path: Path, deadline: float) -> bool:
    while not lock(handle, path):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def is_locked(folder: RunFolder) -> bool:
    """Whether a process is training the run, as far as this machine can tell."""
    path = folder.work.lock
    # A training that ends at this moment removes the lock and its notes.
    with suppress(FileNotFoundError), path.open(encoding="utf-8") as handle:
        try:
            return not lock(handle, path, shared=True)
        except NoFileLocks:  # the machine that trains may have file locks
            return _heard_from(folder.work)
    return False


def _heard_from(work: WorkFolder) -> bool:
    """Whether an unfinished training wrote a note recently, its only sign of life without locks."""
    if work.failed.exists() or work.interrupted.exists():
        return False
    notes = [note for note in (work.progress, work.sessions) if note.exists()]
    return any(time.time() - note.stat().st_mtime < HEARD_SECONDS for note in notes)

"""File locks that the system frees when a process ends, on file systems that have them."""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from obc.io.errors import SuiteError

# Errors of a file system that cannot lock files for this machine.
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
REMEDY = (
    "mount it with file locks (NFS: a running lock service, or the option local_lock=flock where "
    "one machine writes; Lustre: the option flock), or put the folder on another file system"
)


class NoFileLocks(SuiteError):
    """A file system has no file locks, so that two processes could write the same files."""


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Run the block while no other process runs one for the same lock file; keep the file.

    On a file system without locks the block runs without waiting.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as handle:
        with suppress(NoFileLocks):
            lock(handle, path, wait=True)
        yield


def lock(handle: IO, path: Path, *, wait: bool = False, shared: bool = False) -> bool:
    """Lock an open file against other processes.

    Args:
        handle: the open file; the lock is freed when it is closed or the process ends.
        path: path of the file, for the message.
        wait: whether to wait until other processes have freed the lock.
        shared: whether other processes may have a shared lock at the same time.

    Returns:
        Whether this process holds the lock now.

    Raises:
        NoFileLocks: the file system has no file locks.
    """
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(handle, kind if wait else kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        raise NoFileLocks(
            f"{path}: its file system has no file locks ({error.strerror}); {REMEDY}"
        ) from error
    return True

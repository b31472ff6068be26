"""The newest two checkpoints of an unfinished training, in its work folder.

A checkpoint is written under another name, flushed to the disk and renamed, so a kill leaves whole
checkpoints and at most one unfinished file under another name. Checksums detect files that a power
failure has damaged.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import torch

from obc.config.run_folder import WorkFolder
from obc.io.errors import SuiteError
from obc.io.files import atomic_path

KEPT = 2


class CheckpointNotWritten(SuiteError):
    """The disk did not take a checkpoint, most likely because it is full."""


def newest_checkpoint(work: Path) -> Path | None:
    """The checkpoint of the latest iteration."""
    return next(iter(WorkFolder(work).checkpoints()), None)


def write_checkpoint(work: Path, iteration: int, state: dict[str, Any]) -> Path:
    """Write a checkpoint, then delete all but the newest two.

    Args:
        state: tensors, numbers and containers of them, so that it can be read with
            `weights_only=True`.

    Raises:
        CheckpointNotWritten: with the needed and the free space; the earlier checkpoints stay.
    """
    path = WorkFolder(work).checkpoint(iteration)
    try:
        with atomic_path(path) as temporary:
            torch.save(state, temporary)
    except (OSError, RuntimeError) as error:  # RuntimeError: torch's own writer on a full disk
        needed, free = _tensor_bytes(state) / 2**20, shutil.disk_usage(work).free / 2**20
        raise CheckpointNotWritten(
            f"{path}: cannot be written ({str(error).splitlines()[0]}); it needs about "
            f"{needed:.0f} MiB, {free:.0f} MiB are free there. Free some, then start this training "
            f"again: it goes on from the checkpoint before, which is whole"
        ) from error
    for old in WorkFolder(work).checkpoints()[KEPT:]:
        old.unlink()
    return path


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read the state of a checkpoint into host memory, without running code from the file."""
    return torch.load(path, map_location="cpu", weights_only=True)


def drop_damaged(work: Path, terminal: TextIO) -> Path | None:
    """Delete damaged checkpoints, newest first, until one is whole; delete unfinished files too.

    Args:
        terminal: gets a warning for each damaged checkpoint.

    Returns:
        The newest whole checkpoint; None if there is none.
    """
    for unfinished in work.glob(".*.pth"):
        unfinished.unlink()
    for path in WorkFolder(work).checkpoints():
        damage = _damage(path)
        if damage is None:
            return path
        print(f"warning: {path}: damaged ({damage}); the one before is tried", file=terminal)
        path.unlink()
    return None


def _damage(path: Path) -> str | None:
    """Damage of a file that torch wrote, an archive with a checksum for each tensor; None if whole.

    Both checks are needed: torch does not verify the checksums when it reads the file, and the
    checksums do not cover the structure of the archive.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
        if broken is not None:
            return f"wrong checksum of {broken}"
        read_checkpoint(path)
    except Exception as error:  # flipped bits can call any decoder, each with its own errors
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return None


def _tensor_bytes(value: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in _tensors(value))


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _tensors(part)

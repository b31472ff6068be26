"""The checkpoints of a training that is not done, the newest two, in its work folder.

One is written beside its place, flushed to the disk and renamed, so a kill leaves whole files and
one unfinished one under another name. What a disk that lost its power makes of a file, its
checksums tell.
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
        state: tensors, numbers and containers of them, so that it can be read as nothing but data.

    Raises:
        CheckpointNotWritten: with the space that it needs and that there is; the earlier ones stay.
    """
    path = WorkFolder(work).checkpoint(iteration)
    try:
        with atomic_path(path) as temporary:
            torch.save(state, temporary)
    except (OSError, RuntimeError) as error:  # torch's own writer raises the latter on a full disk
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
    """What `write_checkpoint` was given, in host memory; runs no code that the file holds."""
    return torch.load(path, map_location="cpu", weights_only=True)


def drop_damaged(work: Path, terminal: TextIO) -> Path | None:
    """Delete the newest checkpoints as long as they are damaged, and what a kill left half written.

    Args:
        terminal: where each damaged one is named.

    Returns:
        The newest whole checkpoint.
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
    """What is wrong with a file that torch wrote: an archive with a checksum for each tensor.

    Reading it is not enough, as torch does not look at the checksums; neither are they, as they say
    nothing of the archive's own structure.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
        if broken is not None:
            return f"wrong checksum of {broken}"
        read_checkpoint(path)
    except Exception as error:  # flipped bits ask for any decoder, and each has errors of its own
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

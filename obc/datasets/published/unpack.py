"""Unpacking published archives into one folder that appears whole or not at all."""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
import time
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TextIO, TypeVar

from obc.datasets.published.download import disk_full_explained, require_space
from obc.io.errors import SuiteError

Member = TypeVar("Member", tarfile.TarInfo, zipfile.ZipInfo)
_PROGRESS_SECONDS = 10.0


class UnsafeArchive(SuiteError):
    """An archive has a member that would end up outside the folder it is unpacked to."""


class DamagedArchive(SuiteError):
    """An archive cannot be read to its end, or lacks a file that it should have."""


def unpack(
    archives: Sequence[Path],
    folder: PurePosixPath,
    target: Path,
    shows: Sequence[PurePosixPath],
    terminal: TextIO,
) -> None:
    """Unpack `folder` of all archives together; it becomes `target` in one step at the end.

    Args:
        archives: tar or zip files.
        folder: the folder in the archives that becomes the target, e.g. VOCdevkit/VOC2007.
        target: the destination; must not exist.
        shows: files without which `folder` is not complete.

    Raises:
        UnsafeArchive: a member's path or link leads out of the archive's folder, or is a device.
        DamagedArchive: an archive is broken, or a file of `shows` is not in any of them.
        DiskFull: the content does not fit; nothing is left behind.
    """
    # The name is not random, so that the next call finds and removes what a killed call left.
    temporary = target.with_name(f".{target.name}.unpacking")
    if temporary.exists():
        shutil.rmtree(temporary)
    temporary.mkdir(parents=True)
    try:
        with disk_full_explained(f"{target}: the disk is full; what was unpacked is removed"):
            for archive in archives:
                print(f"{archive.name}: unpacking", file=terminal)
                with _readable(archive):
                    extract = _extract_tar if tarfile.is_tarfile(archive) else _extract_zip
                    extract(archive, temporary, terminal)
        missing = [path for path in shows if not (temporary / folder / path).is_file()]
        if missing:
            names = ", ".join(archive.name for archive in archives)
            raise DamagedArchive(
                f"{names}: no {folder / missing[0]} in there; not the published archive, delete it"
            )
        os.sync()  # a power loss after the rename must not leave empty files under the real name
        (temporary / folder).rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _readable(archive: Path) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise DamagedArchive(
            f"{archive}: broken ({error}); delete it, then `obc fetch` gets it anew"
        ) from error


def _extract_tar(archive: Path, folder: Path, terminal: TextIO) -> None:
    with tarfile.open(archive) as tar:
        members = tar.getmembers()
        for member in members:
            _check_path(archive, member.name)
            # Like tarfile's filter "data", which Debian's Python 3.11 lacks.
            if not (member.isfile() or member.isdir()):
                raise UnsafeArchive(_unsafe(archive, f"{member.name!r} is a link or a device"))
        require_space({folder: sum(member.size for member in members)})
        for member in _counted(members, archive, terminal):
            tar.extract(member, folder, set_attrs=False)


def _extract_zip(archive: Path, folder: Path, terminal: TextIO) -> None:
    with zipfile.ZipFile(archive) as file:
        members = file.infolist()
        for member in members:
            _check_path(archive, member.filename)
            if stat.S_ISLNK(member.external_attr >> 16):
                raise UnsafeArchive(_unsafe(archive, f"{member.filename!r} is a link"))
        require_space({folder: sum(member.file_size for member in members)})
        for member in _counted(members, archive, terminal):
            file.extract(member, folder)


def _check_path(archive: Path, name: str) -> None:
    # Both libraries would silently change such a path to a safe one; the archive is not genuine.
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise UnsafeArchive(_unsafe(archive, f"{name!r} leads out of the folder"))


def _unsafe(archive: Path, what: str) -> str:
    return f"{archive}: {what}; not the published archive, nothing of it is used: delete it"


def _counted(members: Sequence[Member], archive: Path, terminal: TextIO) -> Iterator[Member]:
    """Yield the members, and print every few seconds how many are done."""
    printed = time.monotonic()
    for position, member in enumerate(members):
        yield member
        if time.monotonic() - printed >= _PROGRESS_SECONDS:
            printed = time.monotonic()
            print(f"{archive.name}: {position + 1} of {len(members)} files", file=terminal)

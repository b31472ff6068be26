"""`obc fetch`: download published data and weights to where the suite looks for them.

data/archives/             archives, downloaded or put there by hand
data/weights/              weights files
data/fetched/<name>.json   stamp of an entry of config/datasets.yaml, written when it is complete

An existing folder is used without changes; nothing is ever written into it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TextIO

from obc.datasets.errors import DatasetError
from obc.datasets.published.catalogue import Published, RemoteFile
from obc.datasets.published.download import (
    WAITS,
    begun,
    download,
    missing_bytes,
    readable_size,
    require_space,
)
from obc.datasets.published.unpack import unpack
from obc.io.files import write_json
from obc.io.locks import lock as take

ARCHIVES = Path("data/archives")
State = Literal["present", "partial", "missing"]


def state(published: Published, root: Path = Path()) -> State:
    """The state of an entry in the project's folder `root`.

    `partial`: there is a part of a download, an archive that is not unpacked, or a folder that
    lacks files.
    """
    if not published.missing(root):
        return "present"
    places = [root / published.target, *(place(published, file, root) for file in published.files)]
    return "partial" if any(map(begun, places)) else "missing"


def problem(published: Published, root: Path = Path()) -> str | None:
    """Describe a missing file of an entry, or a mismatch of weights; None if there is neither.

    Checksums are of the archives, not of unpacked data; `obc index` checks every image instead.
    """
    missing = published.missing(root)
    if missing:
        return f"lacks {missing[0]}"
    return published.files[0].mismatch(root / published.target) if not published.folder else None


def space_wanted(published: Published, root: Path = Path()) -> dict[Path, int]:
    """Bytes that fetching an entry still needs in each folder, as far as sizes are known."""
    wanted: Counter[Path] = Counter()
    for file in published.files:
        path = place(published, file, root)
        wanted[path.parent] += missing_bytes(file, path)
    if published.folder is not None:
        unpacked = published.unpacked_bytes or published.download_bytes
        wanted[(root / published.target).parent] += unpacked
    return dict(wanted)


def place(published: Published, file: RemoteFile, root: Path = Path()) -> Path:
    """The path of a file of an entry, for the download or for a copy by hand."""
    return root / (published.target if published.folder is None else ARCHIVES / file.name)


def fetch(
    published: Published, root: Path, terminal: TextIO, waits: Sequence[float] = WAITS
) -> Path:
    """Get one entry: download what is missing, check it, unpack it; return its stamp.

    A second process waits for the first and then finds the entry complete. A call after a kill
    continues the download.

    Args:
        waits: as in `download`.

    Raises:
        DownloadFailed, DiskFull, UnsafeArchive, DamagedArchive: see `download` and `unpack`.
        DatasetError: the target is an incomplete folder, or its parent a link; neither is changed.
    """
    target, written = root / published.target, root / published.stamp
    with _alone(written.with_suffix(".lock"), published.name, terminal):
        found = problem(published, root) is None
        if found and written.exists():
            return written
        if not found and published.folder is None:
            require_space(space_wanted(published, root))
            download(published.files[0], target, terminal, waits)
        elif not found:
            _refuse_other_folders(published, root)
            require_space(space_wanted(published, root))
            archives = [place(published, file, root) for file in published.files]
            for file, archive in zip(published.files, archives, strict=True):
                download(file, archive, terminal, waits)
            unpack(archives, published.folder, target, published.shows, terminal)
            kept = ", ".join(map(str, archives))
            print(f"{published.name}: unpacked; no longer needed: {kept}", file=terminal)
        write_json(
            written,
            {
                "name": published.name,
                "folder": str(target.resolve()),
                "from": "found there" if found else [file.urls[0] for file in published.files],
                "checksums": [file.checksum for file in published.files],
                "time": datetime.now(UTC).isoformat(timespec="seconds"),
            },
        )
    return written


def offline_list(entries: Iterable[Published]) -> Iterator[str]:
    """Instructions, line by line: what to download elsewhere, how to check it, where to put it.

    Files that are in place are checked, which takes about a minute for all of them, and are listed
    as `there`.
    """
    for published in entries:
        yield f"{published.name}: {published.title} [{state(published)}]"
        yield f"  licence  {published.licence}"
        for file in published.files if problem(published) else ():
            path = place(published, file)
            wrong = file.mismatch(path) if path.exists() else None
            if path.exists() and wrong is None:
                yield f"  there    {path}"
                continue
            if wrong is not None:
                yield f"  wrong    {path}: {wrong}"
            first, *mirrors = file.urls
            yield f"  from     {first}"
            yield from (f"  or       {url}" for url in mirrors)
            size = f"{file.bytes} bytes ({readable_size(file.bytes)})" if file.bytes else None
            yield f"  size     {size or 'not published'}"
            yield f"  check    {file.checksum or file.why}"
            yield f"  put it   {path}"


def _refuse_other_folders(published: Published, root: Path) -> None:
    """Raise DatasetError where the target exists or its parent is a link: others made them."""
    target = root / published.target
    if target.exists() or target.is_symlink():
        raise DatasetError(
            f"{target}: is there, but lacks {published.missing(root)[0]}; a folder that is there "
            f"is never changed: complete it, or move it away to have {published.name} fetched"
        )
    if target.parent.is_symlink():
        raise DatasetError(
            f"{target.parent}: is a link to {target.parent.resolve()}, which has no {target.name}; "
            f"a folder that is linked to is never written into: complete it yourself, or remove "
            f"the link to have {published.name} fetched"
        )


@contextmanager
def _alone(lock: Path, name: str, terminal: TextIO) -> Iterator[None]:
    """Lock an entry; the system frees the lock if the process dies."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w", encoding="utf-8") as handle:
        if not take(handle, lock):
            print(f"{name}: another process is fetching it; waiting", file=terminal)
            take(handle, lock, wait=True)
        yield

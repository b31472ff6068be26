"""Downloading one published file: resumed, retried, from its mirrors, and checked.

The received bytes are in `<name>.part`; `<name>.part.json` records their source. The file gets its
name only when it is complete and matches the published size and checksum. Where a checksum is
published, a mirror may continue the download of another source: a mismatch is detected at the end,
and the file is then downloaded again from one source alone.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import requests

from obc.datasets.published.catalogue import RemoteFile
from obc.io.errors import SuiteError
from obc.io.files import write_json

WAITS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # seconds before each retry
_TIMEOUTS = (20.0, 60.0)  # seconds to connect, and between received bytes
_CHUNK = 1 << 20
_PROGRESS_SECONDS = 10.0
_PASSING = {408, 429, 500, 502, 503, 504}


class DownloadFailed(SuiteError):
    """No source gave the file as published; the message has the reason for each source."""


class DiskFull(SuiteError):
    """A disk has too little space; the message names the place."""


class _Refused(Exception):
    """A source does not give the file, and a retry would not help."""


def download(
    remote: RemoteFile, path: Path, terminal: TextIO, waits: Sequence[float] = WAITS
) -> None:
    """Download a published file to `path`, unless it is there already and matches.

    Args:
        remote: URLs, size and checksum of the file.
        path: the destination; an existing file that does not match is renamed.
        waits: seconds before each retry of a URL; they start again when bytes arrived.

    Raises:
        DownloadFailed: no URL gave the file as published.
        DiskFull: the disk is full; the received bytes are kept.
    """
    if path.exists():
        problem = remote.mismatch(path)
        if problem is None:
            return
        aside = path.replace(path.with_name(f"{path.name}.wrong"))
        print(f"{path.name}: what lay there {problem}; set aside as {aside}", file=terminal)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _part(path)
    problems = []
    for url in remote.urls:
        try:
            with disk_full_explained(f"{part}: the disk is full; what has arrived is kept"):
                problem = _whole(url, part, remote, terminal, waits)
        except (_Refused, requests.RequestException) as error:
            problems.append(f"{url}: {error}")
            continue
        if problem is None:
            with part.open("rb") as file:
                os.fsync(file.fileno())
            part.replace(path)
            _source_note(part).unlink(missing_ok=True)
            return
        problems.append(f"{url}: what it sent {problem}; deleted")
    listed = "".join(f"\n  {problem}" for problem in problems)
    raise DownloadFailed(
        f"{path}: no source gave this file:{listed}\n"
        "  call again to go on; `obc fetch --list` says how to put it there by hand"
    )


def missing_bytes(remote: RemoteFile, path: Path) -> int:
    """Bytes still to download, as far as the published size is known."""
    if path.exists():
        return 0
    return max((remote.bytes or 0) - _size(_part(path)), 0)


def begun(path: Path) -> bool:
    """Whether the file, or a part of it, exists."""
    return path.exists() or _part(path).exists()


def require_space(wanted: Mapping[Path, int]) -> None:
    """Raise DiskFull unless the bytes `wanted` in all folders together fit on their disks."""
    for folder, size in by_disk(wanted).items():
        free = shutil.disk_usage(folder).free
        if size > free:
            raise DiskFull(
                f"{folder.absolute()}: needs {readable_size(size)}, free are "
                f"{readable_size(free)}; make room, or make `data` a link to a larger disk"
            )


def by_disk(wanted: Mapping[Path, int]) -> dict[Path, int]:
    """Sum the bytes `wanted` in folders by disk; the key is an existing folder of the disk."""
    found: dict[int, Path] = {}
    sums: Counter[Path] = Counter()
    for folder, size in wanted.items():
        existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        sums[found.setdefault(existing.stat().st_dev, existing)] += size
    return dict(sums)


@contextmanager
def disk_full_explained(kept: str) -> Iterator[None]:
    """Turn the system's 'no space left' into a DiskFull; `kept` is the message's beginning."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DiskFull(f"{kept}; make room and call again") from error


def readable_size(size: float) -> str:
    """A number of bytes for people."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


# --- one source --------------------------------------------------------------------------------


def _whole(
    url: str, part: Path, remote: RemoteFile, terminal: TextIO, waits: Sequence[float]
) -> str | None:
    """Receive all of a file; None if it is as published, else its mismatch, and it is deleted."""
    for last in (False, True):
        _attempt(url, part, remote, terminal, waits)
        print(f"{part.stem}: checking", file=terminal)
        problem = remote.mismatch(part)
        if problem is None:
            return None
        note = _read_note(part)
        _discard(part)
        if last or (note["url"] == url and not note["mixed"]):
            return problem
        print(f"{part.stem}: {problem}; begun anew from one source", file=terminal)


def _attempt(
    url: str, part: Path, remote: RemoteFile, terminal: TextIO, waits: Sequence[float]
) -> None:
    """Receive all of a file from one URL; `waits` start again after an attempt that got bytes."""
    left = list(waits)
    while True:
        before = _size(part)
        try:
            _receive(url, part, remote, terminal)
            return
        except requests.RequestException as error:
            if _size(part) > before:
                left = list(waits)
            if not left:
                raise
            wait = left.pop(0)
            print(f"{part.stem}: {error}; again in {wait:g} s", file=terminal)
            time.sleep(wait)


def _receive(url: str, part: Path, remote: RemoteFile, terminal: TextIO) -> None:
    """Send one request, for the rest of the file where server or checksum can verify it."""
    total, note = remote.bytes, _read_note(part)
    validator = note["validator"] if note["url"] == url else None
    start = _size(part) if validator or (note["url"] and remote.checksum) else 0
    if start and start == total:
        return
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    if start and validator:
        headers["If-Range"] = validator
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUTS) as response:
        if response.status_code == 416 and start:  # no byte after `start`: complete, or too long
            if response.headers.get("Content-Range") == f"bytes */{start}":
                return
            _discard(part)
            raise requests.ConnectionError("what had arrived is not of this file; begun anew")
        if response.status_code in _PASSING:
            raise requests.HTTPError(f"{response.status_code} {response.reason}")
        if response.status_code not in (200, 206):
            raise _Refused(f"{response.status_code} {response.reason}")
        goes_on = response.status_code == 206
        if goes_on and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            _discard(part)
            raise requests.ConnectionError("the server sent another part than asked; begun anew")
        start = start if goes_on else 0
        length = response.headers.get("Content-Length")
        if total and length and start + int(length) != total:
            raise _Refused(f"offers {start + int(length)} bytes, published are {total}")
        total = start + int(length) if length else total
        if not goes_on:
            _discard(part)
        if not (goes_on and validator):
            _note_source(url, part, response, mixed=goes_on)
        _write(response, part, start, total, terminal)


def _write(
    response: requests.Response, part: Path, start: int, total: int | None, terminal: TextIO
) -> None:
    done, begun_at, printed = start, time.monotonic(), time.monotonic()
    of_all = f" of {readable_size(total)}" if total else ""
    if start:
        print(f"{part.stem}: goes on after {readable_size(start)}{of_all}", file=terminal)
    with part.open("ab") as file:
        for chunk in response.iter_content(_CHUNK):
            file.write(chunk)
            done += len(chunk)
            now = time.monotonic()
            if now - printed >= _PROGRESS_SECONDS:
                printed = now
                rate = (done - start) / (now - begun_at)
                left = f", {(total - done) / rate / 60:.0f} min left" if total else ""
                print(f"{part.stem}: {readable_size(done)}{of_all}, {rate / 1e6:.1f} MB/s{left}",
                      file=terminal)  # fmt: skip


def _read_note(part: Path) -> dict[str, Any]:
    """Read the source of a partial download.

    Returns:
        url (the last source; None: not known), validator (its server's ETag or date of this version
        of the file), mixed (whether it has bytes that no server confirmed to be of one version).
    """
    try:
        return json.loads(_source_note(part).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {"url": None, "validator": None, "mixed": False}


def _note_source(url: str, part: Path, response: requests.Response, mixed: bool) -> None:
    tag = response.headers.get("ETag", "")
    weak = not tag or tag.startswith("W/")  # a weak tag may not be used to resume
    validator = response.headers.get("Last-Modified") if weak else tag
    write_json(_source_note(part), {"url": url, "validator": validator, "mixed": mixed})


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _source_note(part).unlink(missing_ok=True)


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _source_note(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0

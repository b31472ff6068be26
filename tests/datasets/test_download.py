"""Downloading from servers that break off, change, lie or run out of room."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import subprocess
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_server import Server, serving

from obc.datasets.published.catalogue import RemoteFile
from obc.datasets.published.download import DiskFull, DownloadFailed, download, require_space

CONTENT = bytes(range(256)) * 12_000  # three chunks of the client and a bit
MD5 = f"md5:{hashlib.md5(CONTENT).hexdigest()}"
NO_WAIT = (0.0, 0.0)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        running.files["/a.tar"] = CONTENT
        yield running


def remote(server: Server, *paths: str, **checks: object) -> RemoteFile:
    """What is published at the paths, checked by md5 unless something else is said."""
    urls = tuple(f"{server.url}{path}" for path in paths or ("/a.tar",))
    return RemoteFile(urls=urls, **{"bytes": len(CONTENT), "checksum": MD5, **checks})


def get(wanted: RemoteFile, folder: Path) -> str:
    """Download to folder/a.tar; what was printed."""
    terminal = io.StringIO()
    download(wanted, folder / "a.tar", terminal, NO_WAIT)
    return terminal.getvalue()


def left_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_file_arrives_whole_and_leaves_nothing_beside_it(server: Server, tmp_path: Path) -> None:
    get(remote(server), tmp_path / "archives")
    assert (tmp_path / "archives/a.tar").read_bytes() == CONTENT
    assert left_in(tmp_path / "archives") == {"a.tar"}


def test_a_file_that_is_there_is_checked_and_not_asked_for(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(CONTENT)
    get(remote(server), tmp_path)
    assert server.asked == []


def test_a_file_put_there_that_is_not_as_published_is_set_aside(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / "a.tar").write_bytes(CONTENT[:-1])
    assert "set aside" in get(remote(server), tmp_path)
    assert (tmp_path / "a.tar").read_bytes() == CONTENT
    assert (tmp_path / "a.tar.wrong").read_bytes() == CONTENT[:-1]


def test_a_line_that_breaks_is_taken_up_where_it_broke(server: Server, tmp_path: Path) -> None:
    server.cut_after = [1_500_000]
    get(remote(server), tmp_path)
    assert (tmp_path / "a.tar").read_bytes() == CONTENT
    (_, first), (_, second) = server.asked
    assert first is None and second is not None
    start = int(second.removeprefix("bytes=").rstrip("-"))
    assert 0 < start <= 1_500_000


def test_attempts_that_bring_bytes_do_not_count(server: Server, tmp_path: Path) -> None:
    # Three failures are more than NO_WAIT allows in a row; the client keeps chunks of 1 MiB.
    server.cut_after = [1_100_000, 1_100_000, 0]
    get(remote(server), tmp_path)
    assert (tmp_path / "a.tar").read_bytes() == CONTENT
    assert len(server.asked) == 4


def test_a_truncated_download_goes_on_where_it_stopped_in_another_call(
    server: Server, tmp_path: Path
) -> None:
    server.cut_after = [1_500_000, 0, 0, 0]
    with pytest.raises(DownloadFailed, match="call again to go on"):
        get(remote(server), tmp_path)
    assert left_in(tmp_path) == {"a.tar.part", "a.tar.part.json"}
    assert "goes on after" in get(remote(server), tmp_path)
    assert (tmp_path / "a.tar").read_bytes() == CONTENT
    assert server.asked[-1][1] is not None


def test_a_whole_part_of_a_killed_call_is_not_downloaded_again(
    server: Server, tmp_path: Path
) -> None:
    server.cut_after = [1_500_000, 0, 0, 0]
    with pytest.raises(DownloadFailed):
        get(remote(server), tmp_path)
    (tmp_path / "a.tar.part").write_bytes(CONTENT)
    get(remote(server, bytes=None), tmp_path)  # no size known: the server says that nothing is left
    assert server.asked[-1][1] == f"bytes={len(CONTENT)}-"
    assert (tmp_path / "a.tar").read_bytes() == CONTENT


def test_a_server_that_knows_no_ranges_sends_all_of_it_again(
    server: Server, tmp_path: Path
) -> None:
    server.ranges, server.cut_after = False, [1_500_000]
    get(remote(server), tmp_path)
    assert (tmp_path / "a.tar").read_bytes() == CONTENT


def test_a_file_that_changed_meanwhile_is_begun_anew(server: Server, tmp_path: Path) -> None:
    server.files["/a.tar"], server.cut_after = b"x" * len(CONTENT), [1_500_000, 0, 0, 0]
    with pytest.raises(DownloadFailed):
        get(remote(server), tmp_path)
    server.files["/a.tar"] = CONTENT
    get(remote(server), tmp_path)
    assert (tmp_path / "a.tar").read_bytes() == CONTENT


def test_a_mirror_goes_on_with_what_another_began(server: Server, tmp_path: Path) -> None:
    server.files["/new/a.tar"] = CONTENT
    server.tags = {"/a.tar": '"1"', "/new/a.tar": '"2"'}
    server.cut_after = [1_500_000, 0, 0, 0]
    get(remote(server, "/a.tar", "/new/a.tar"), tmp_path)
    assert (tmp_path / "a.tar").read_bytes() == CONTENT
    path, asked = server.asked[-1]
    assert path == "/new/a.tar" and asked not in (None, "bytes=0-")


def test_mirrors_whose_bytes_do_not_fit_together_are_not_mixed(
    server: Server, tmp_path: Path
) -> None:
    server.files |= {"/old/a.tar": b"x" * len(CONTENT), "/new/a.tar": CONTENT}
    server.tags = {"/old/a.tar": '"1"', "/new/a.tar": '"1"'}
    server.cut_after = [1_500_000, 0, 0, 0]
    said = get(remote(server, "/old/a.tar", "/new/a.tar"), tmp_path)
    assert "begun anew from one source" in said
    assert (tmp_path / "a.tar").read_bytes() == CONTENT
    assert server.asked[-1] == ("/new/a.tar", None)


def test_without_a_checksum_mirrors_are_never_mixed(server: Server, tmp_path: Path) -> None:
    server.files |= {"/old/a.tar": b"x" * len(CONTENT), "/new/a.tar": CONTENT}
    server.cut_after = [1_500_000, 0, 0, 0]
    unchecked = {"checksum": None, "why": "a test"}
    get(remote(server, "/old/a.tar", "/new/a.tar", **unchecked), tmp_path)
    assert (tmp_path / "a.tar").read_bytes() == CONTENT


def test_a_server_that_names_no_version_is_resumed_too(server: Server, tmp_path: Path) -> None:
    server.tags, server.cut_after = {"/a.tar": ""}, [1_500_000]
    get(remote(server), tmp_path)
    assert (tmp_path / "a.tar").read_bytes() == CONTENT
    assert server.asked[-1][1] is not None


def test_a_bad_source_that_breaks_each_time_is_begun_anew_once(
    server: Server, tmp_path: Path
) -> None:
    server.files["/a.tar"] = b"x" * len(CONTENT)
    server.tags, server.cut_after = {"/a.tar": ""}, [1_500_000, len(CONTENT)] * 9
    with pytest.raises(DownloadFailed, match="what it sent has md5"):
        get(remote(server), tmp_path)
    assert len(server.asked) == 4


def test_a_busy_server_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.statuses = [503, 429]
    get(remote(server), tmp_path)
    assert len(server.asked) == 3


def test_a_wrong_checksum_is_followed_by_the_mirror(server: Server, tmp_path: Path) -> None:
    server.files["/bad/a.tar"] = CONTENT[:-1] + b"x"
    get(remote(server, "/bad/a.tar", "/a.tar"), tmp_path)
    assert (tmp_path / "a.tar").read_bytes() == CONTENT
    assert left_in(tmp_path) == {"a.tar"}


def test_when_no_source_helps_the_error_says_of_each_why(server: Server, tmp_path: Path) -> None:
    server.files["/bad/a.tar"] = CONTENT[:-1] + b"x"
    with pytest.raises(DownloadFailed) as error:
        get(remote(server, "/bad/a.tar", "/gone/a.tar"), tmp_path)
    message = str(error.value)
    found = hashlib.md5(server.files["/bad/a.tar"]).hexdigest()
    assert f"{server.url}/bad/a.tar: what it sent has md5 {found}, published is" in message
    assert f"{server.url}/gone/a.tar: 404" in message
    assert "obc fetch --list" in message
    assert left_in(tmp_path) == set()


def test_an_answer_of_another_size_leaves_what_has_arrived(server: Server, tmp_path: Path) -> None:
    path, part = tmp_path / "a.tar", tmp_path / "a.tar.part"
    part.write_bytes(CONTENT[:100])
    server.files["/a.tar"] = b"<html>log in first</html>"  # a portal answers everything
    with pytest.raises(DownloadFailed, match=f"published are {len(CONTENT)}"):
        download(remote(server), path, io.StringIO(), waits=())
    assert part.read_bytes() == CONTENT[:100]


def test_a_file_of_another_size_is_refused(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed, match=f"offers {len(CONTENT)} bytes, published are 7"):
        get(remote(server, bytes=7, checksum=None, why="a test"), tmp_path)


def test_the_beginning_of_a_sha256_is_a_checksum(server: Server, tmp_path: Path) -> None:
    beginning = hashlib.sha256(CONTENT).hexdigest()[:8]
    get(remote(server, checksum=f"sha256:{beginning}"), tmp_path)
    other = beginning[:-1] + ("0" if beginning[-1] != "0" else "1")
    with pytest.raises(DownloadFailed, match=f"published is {other}"):
        get(remote(server, checksum=f"sha256:{other}"), tmp_path)


# --- room --------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    command = [mount, "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder]
    if mount is None or os.geteuid() or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small file system")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_disk_that_fills_up_keeps_the_part_and_says_what_to_do(
    server: Server, small_disk: Path, tmp_path: Path
) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(500_000))
    with pytest.raises(DiskFull, match=r"the disk is full; what has arrived is kept.*make room"):
        get(remote(server), small_disk)
    part = (small_disk / "a.tar.part").read_bytes()
    assert part and CONTENT.startswith(part)
    roomy = tmp_path / "larger"
    roomy.mkdir()
    for path in small_disk.glob("a.tar*"):
        shutil.move(path, roomy)
    get(remote(server), roomy)
    assert (roomy / "a.tar").read_bytes() == CONTENT
    assert server.asked[-1][1] == f"bytes={len(part)}-"


def test_a_full_disk_is_told_from_a_line_that_broke(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("obc.datasets.published.download.requests.Response.iter_content", full)
    with pytest.raises(DiskFull):
        get(remote(server), tmp_path)
    assert len(server.asked) == 1


def test_too_little_room_is_said_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**10, 9 * 10**9, 10**9))
    require_space({tmp_path / "archives": 5 * 10**8, tmp_path / "not/yet/there": 5 * 10**8})
    with pytest.raises(DiskFull, match=r"needs 1\.10 GB, free are 1\.00 GB"):
        require_space({tmp_path / "archives": 6 * 10**8, tmp_path / "not/yet/there": 5 * 10**8})

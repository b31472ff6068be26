"""Unpacking: all or nothing, and never outside the folder."""

from __future__ import annotations

import errno
import io
import stat
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import pytest

from obc.datasets.published.download import DiskFull
from obc.datasets.published.unpack import DamagedArchive, UnsafeArchive, unpack

FOLDER = PurePosixPath("kit/VOC2007")
SHOWS = (PurePosixPath("a.txt"),)


def tar_with(path: Path, *members: tarfile.TarInfo | tuple[str, bytes]) -> Path:
    """A tar of the members: files as (name, content), anything else as itself."""
    with tarfile.open(path, "w") as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.size = len(member[1])
            tar.addfile(info, io.BytesIO(member[1]))
    return path


def zip_with(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members:
            file.writestr(name, content)
    return path


def special(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def unpacked(target: Path, *archives: Path) -> set[str]:
    """Unpack to `target`; the files that are in it then."""
    unpack(archives, FOLDER, target, SHOWS, io.StringIO())
    return {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}


def everything_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


WANTED = ("kit/VOC2007/a.txt", b"a")


def test_archives_of_one_folder_are_unpacked_together(tmp_path: Path) -> None:
    train = tar_with(tmp_path / "train.tar", ("kit/VOC2007/b/1.txt", b"1"), ("kit/code.m", b""))
    test = zip_with(tmp_path / "test.zip", WANTED, ("kit/VOC2007/b/2.txt", b"2"))
    target = tmp_path / "data/VOCdevkit/VOC2007"
    assert unpacked(target, train, test) == {"a.txt", "b/1.txt", "b/2.txt"}
    assert everything_below(target.parent) == {
        "VOC2007", "VOC2007/a.txt", "VOC2007/b", "VOC2007/b/1.txt", "VOC2007/b/2.txt",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["../evil", "kit/VOC2007/../../../evil", "/evil"])
@pytest.mark.parametrize("make", [tar_with, zip_with])
def test_a_member_that_leads_out_of_the_folder_is_refused(tmp_path: Path, name, make) -> None:
    archive = make(tmp_path / "a.archive", WANTED, (name, b"x"))
    before = everything_below(tmp_path)
    with pytest.raises(UnsafeArchive, match="leads out of the folder; not the published archive"):
        unpacked(tmp_path / "VOC2007", archive)
    assert everything_below(tmp_path) == before


@pytest.mark.parametrize(
    "member",
    [
        special("kit/VOC2007/link", tarfile.SYMTYPE, "../../../elsewhere"),
        special("kit/VOC2007/link", tarfile.SYMTYPE, "/etc"),
        special("kit/VOC2007/hard", tarfile.LNKTYPE, "../../secret"),
        special("kit/VOC2007/null", tarfile.CHRTYPE),
        special("kit/VOC2007/pipe", tarfile.FIFOTYPE),
    ],
    ids=lambda member: f"{member.name}->{member.linkname}",
)
def test_a_link_out_of_the_folder_and_a_device_are_refused(
    tmp_path: Path, member: tarfile.TarInfo
) -> None:
    archive = tar_with(tmp_path / "a.tar", WANTED, member)
    with pytest.raises(UnsafeArchive, match=r"a\.tar: .*not the published archive"):
        unpacked(tmp_path / "VOC2007", archive)
    assert everything_below(tmp_path) == {"a.tar"}


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("kit/VOC2007/link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive = zip_with(tmp_path / "a.zip", WANTED, (link, b"../../../elsewhere"))
    with pytest.raises(UnsafeArchive, match="'kit/VOC2007/link' is a link"):
        unpacked(tmp_path / "VOC2007", archive)


def damaged(archives: Iterable[Path], tmp_path: Path) -> str:
    """The message of what cannot be unpacked; nothing of it is left."""
    with pytest.raises(DamagedArchive) as error:
        unpacked(tmp_path / "target/VOC2007", *archives)
    assert everything_below(tmp_path / "target") == set()
    return str(error.value)


def test_a_broken_byte_in_a_zip_is_found_by_its_checksum(tmp_path: Path) -> None:
    archive = zip_with(tmp_path / "a.zip", ("kit/VOC2007/a.txt", b"broken"))
    archive.write_bytes(archive.read_bytes().replace(b"broken", b"brokem"))
    assert "a.zip: broken (Bad CRC-32" in damaged([archive], tmp_path)


def test_a_truncated_tar_is_found(tmp_path: Path) -> None:
    archive = tar_with(tmp_path / "a.tar", WANTED, ("kit/VOC2007/b", bytes(100_000)))
    archive.write_bytes(archive.read_bytes()[:60_000])
    assert "a.tar: broken (unexpected end of data)" in damaged([archive], tmp_path)


def test_what_is_no_archive_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_text("<html>Service unavailable</html>")
    assert "a.tar: broken" in damaged([tmp_path / "a.tar"], tmp_path)


def test_an_archive_of_something_else_is_refused(tmp_path: Path) -> None:
    archive = tar_with(tmp_path / "a.tar", ("kit/VOC2012/a.txt", b"a"))
    assert "no kit/VOC2007/a.txt in there" in damaged([archive], tmp_path)


def test_a_disk_that_fills_up_leaves_nothing_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = zip_with(tmp_path / "a.zip", WANTED)
    extract = zipfile.ZipFile.extract

    def extract_the_last_that_fits(*arguments: object) -> None:
        extract(*arguments)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "extract", extract_the_last_that_fits)
    with pytest.raises(DiskFull, match="what was unpacked is removed; make room"):
        unpacked(tmp_path / "VOC2007", archive)
    assert everything_below(tmp_path) == {"a.zip"}


def test_what_a_killed_call_left_is_removed(tmp_path: Path) -> None:
    left = tmp_path / ".VOC2007.unpacking/kit/VOC2007"
    left.mkdir(parents=True)
    (left / "half.jpg").touch()
    archive = tar_with(tmp_path / "a.tar", WANTED)
    assert unpacked(tmp_path / "VOC2007", archive) == {"a.txt"}
    assert everything_below(tmp_path) == {"a.tar", "VOC2007", "VOC2007/a.txt"}

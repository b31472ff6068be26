"""`obc fetch`: from nothing to a folder that the index reads, whatever happens in between."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import PATIENCE
from local_server import Server, serving
from published_archives import published_files, write_datasets

from obc.cli.main import main
from obc.datasets.errors import DatasetError
from obc.datasets.index import index_dataset
from obc.datasets.published.catalogue import read_datasets
from obc.datasets.published.fetch import fetch, state
from obc.datasets.settings import CocoData, VocData


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        running.files = published_files()
        yield running


@pytest.fixture
def project(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose config/datasets.yaml names the server's files; work goes on in it."""
    (tmp_path / "config").mkdir()
    write_datasets(tmp_path / "config/datasets.yaml", server)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def get(name: str) -> str:
    """Fetch one entry of the project; what was printed."""
    terminal = io.StringIO()
    fetch(read_datasets()[name], Path(), terminal, waits=())
    return terminal.getvalue()


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file below with its inode and time of change."""
    stats = {path: path.stat() for path in sorted(folder.rglob("*"))}
    return {str(path): (stat.st_ino, stat.st_mtime_ns) for path, stat in stats.items()}


def test_two_archives_become_a_devkit_that_the_index_reads(project: Path) -> None:
    get("voc2007")
    data = VocData(
        kind="voc", root="data/VOCdevkit", train=("VOC2007/trainval",), val=("VOC2007/test",),
        expected_train_images=1, expected_val_images=1,
    )  # fmt: skip
    manifest = index_dataset(data, data.root, project / "index")
    assert [manifest["splits"][split]["images"] for split in ("train", "val")] == [1, 1]


def test_coco_s_archives_become_a_folder_that_the_index_reads(project: Path) -> None:
    for name in ("annotations", "train2017", "val2017"):
        get(name)
    data = CocoData(kind="coco", root="data/coco")
    manifest = index_dataset(data, data.root, project / "index")
    assert manifest["classes"] == ["cat"]


def test_the_stamp_says_what_was_fetched_from_where(project: Path, server: Server) -> None:
    get("voc2007")
    stamp = json.loads(Path("data/fetched/voc2007.json").read_text(encoding="utf-8"))
    assert stamp["from"] == [f"{server.url}/trainval.tar", f"{server.url}/test.tar"]


def test_what_is_there_is_neither_fetched_nor_unpacked_again(project: Path, server: Server) -> None:
    get("voc2007")
    asked, before = len(server.asked), snapshot(project)
    get("voc2007")
    (project / "data/fetched/voc2007.json").unlink()
    get("voc2007")
    after = {path: what for path, what in snapshot(project).items() if "fetched" not in path}
    assert len(server.asked) == asked
    assert after == {path: what for path, what in before.items() if "fetched" not in path}


def test_the_state_of_an_entry_is_seen_from_its_files(project: Path, server: Server) -> None:
    published = read_datasets()["voc2007"]
    assert state(published) == "missing"
    server.statuses = [200, 404]
    assert main(["fetch", "voc2007"]) == 1
    assert state(published) == "partial"
    assert main(["fetch", "voc2007"]) == 0
    assert state(published) == "present"
    (project / "data/VOCdevkit/VOC2007/ImageSets/Main/test.txt").unlink()
    assert state(published) == "partial"


def test_a_download_with_a_wrong_checksum_is_not_unpacked(
    project: Path, server: Server, capsys: pytest.CaptureFixture
) -> None:
    content = server.files["/test.tar"]
    server.files["/test.tar"] = content[:-1] + bytes([content[-1] ^ 1])
    assert main(["fetch", "voc2007"]) == 1
    assert "test.tar: what it sent has md5" in capsys.readouterr().err
    assert not (project / "data/VOCdevkit").exists()
    assert not (project / "data/fetched/voc2007.json").exists()


def test_a_published_archive_that_leads_out_of_its_folder_is_refused(
    project: Path, server: Server, capsys: pytest.CaptureFixture
) -> None:
    archive = io.BytesIO(server.files["/test.tar"])
    with tarfile.open(fileobj=archive, mode="a") as tar:
        tar.addfile(tarfile.TarInfo("VOCdevkit/../../../evil.txt"))
    server.files["/test.tar"] = archive.getvalue()
    write_datasets(project / "config/datasets.yaml", server)
    assert main(["fetch", "voc2007"]) == 1
    assert "evil.txt' leads out of the folder" in capsys.readouterr().err
    assert not list(project.parent.rglob("evil.txt"))
    assert not (project / "data/VOCdevkit/VOC2007").exists()
    assert not (project / "data/fetched/voc2007.json").exists()


# --- folders that are there already ------------------------------------------------------------


@pytest.fixture
def own(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A devkit elsewhere, to which data/VOCdevkit is a link."""
    get("voc2007")
    elsewhere = tmp_path_factory.mktemp("own") / "VOCdevkit"
    (project / "data/VOCdevkit").rename(elsewhere)
    for path in (project / "data").rglob("*.*"):
        path.unlink()
    (project / "data/VOCdevkit").symlink_to(elsewhere)
    return elsewhere


def test_a_folder_that_is_linked_to_is_used_in_place(own: Path, server: Server) -> None:
    before, asked = snapshot(own), len(server.asked)
    get("voc2007")
    assert (snapshot(own), len(server.asked)) == (before, asked)
    assert (
        json.loads(Path("data/fetched/voc2007.json").read_text(encoding="utf-8"))["from"]
        == "found there"
    )


def test_a_folder_that_lacks_something_is_not_written_into(own: Path, server: Server) -> None:
    (own / "VOC2007/ImageSets/Main/test.txt").unlink()
    before, asked = snapshot(own), len(server.asked)
    with pytest.raises(DatasetError, match=r"VOC2007: is there, but lacks .*test\.txt; .*never"):
        get("voc2007")
    assert (snapshot(own), len(server.asked)) == (before, asked)


def test_nothing_is_added_to_a_folder_that_is_linked_to(own: Path) -> None:
    (own / "VOC2007").rename(own / "VOC2012")
    before = snapshot(own)
    with pytest.raises(DatasetError, match=r"is a link to .*which has no VOC2007.*never written"):
        get("voc2007")
    assert snapshot(own) == before


def test_a_folder_of_weights_that_is_linked_to_is_used_in_place(
    project: Path, server: Server, tmp_path_factory: pytest.TempPathFactory
) -> None:
    own = tmp_path_factory.mktemp("own")
    (own / "tiny-12345678.pth").write_bytes(b"weights")
    (project / "data").mkdir()
    (project / "data/weights").symlink_to(own)
    before = snapshot(own)
    get("tiny")
    assert (snapshot(own), server.asked) == (before, [])


# --- without a network -------------------------------------------------------------------------


def test_the_list_says_what_to_put_where_and_then_no_network_is_needed(
    project: Path, server: Server, capsys: pytest.CaptureFixture
) -> None:
    names = ("voc2007", "tiny")
    assert main(["fetch", "--list", *names]) == 0
    listed = [line.split(None, 1) for line in capsys.readouterr().out.splitlines()]
    urls, places, checks, sizes = (
        [rest for key, rest in listed if key == wanted]
        for wanted in ("from", "put", "check", "size")
    )
    for url, place, check, size in zip(urls, places, checks, sizes, strict=True):
        content = server.files[url.removeprefix(server.url)]
        assert check == f"md5:{hashlib.md5(content).hexdigest()}"
        assert size.startswith(f"{len(content)} bytes")
        path = project / place.removeprefix("it ").strip()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    asked = len(server.asked)
    assert main(["fetch", *names]) == 0
    assert len(server.asked) == asked
    assert all(state(read_datasets()[name]) == "present" for name in names)


def test_the_list_names_no_file_to_fetch_that_is_in_place(
    project: Path, server: Server, capsys: pytest.CaptureFixture
) -> None:
    get("tiny")
    (project / "data/archives").mkdir()
    (project / "data/archives/test.tar").write_bytes(server.files["/test.tar"])
    (project / "data/archives/trainval.tar").write_bytes(b"half")
    assert main(["fetch", "--list", "voc2007", "tiny"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[1] for line in lines if line[0] == "from"] == [f"{server.url}/trainval.tar"]
    assert [line[1] for line in lines if line[0] == "there"] == ["data/archives/test.tar"]
    assert [line[1] for line in lines if line[0] == "wrong"] == ["data/archives/trainval.tar:"]


def test_weights_that_are_spoilt_later_are_fetched_anew(
    project: Path, capsys: pytest.CaptureFixture
) -> None:
    get("tiny")
    path = project / "data/weights/tiny-12345678.pth"
    path.write_bytes(b"weigths")
    assert main(["fetch", "--list", "tiny"]) == 0
    assert "put it   data/weights/tiny-12345678.pth" in capsys.readouterr().out
    assert "set aside" in get("tiny")
    assert path.read_bytes() == b"weights"


def test_weights_put_by_hand_are_checked(project: Path) -> None:
    path = project / "data/weights/tiny-12345678.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weigths")
    assert "set aside" in get("tiny")
    assert path.read_bytes() == b"weights"
    assert (
        json.loads(Path("data/fetched/tiny.json").read_text(encoding="utf-8"))["from"]
        != "found there"
    )


# --- two at once, and killed -------------------------------------------------------------------


def in_background(code: str, project: Path) -> subprocess.Popen[str]:
    code = (
        f"import sys\nfrom obc.cli.main import main\n{code}\nsys.exit(main(['fetch', 'voc2007']))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=project, stderr=subprocess.PIPE, text=True
    )


def test_two_processes_fetch_a_file_once(project: Path, server: Server) -> None:
    slow = "import time, obc.datasets.published.fetch as a\nreal = a.unpack\n"
    slow += "a.unpack = lambda *all: (time.sleep(0.5), real(*all))"
    both = [in_background(slow, project) for _ in range(2)]
    errors = [process.communicate(timeout=PATIENCE)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], errors
    assert sorted(path for path, _ in server.asked) == ["/test.tar", "/trainval.tar"]
    assert sum("another process is fetching it; waiting" in error for error in errors) == 1


def test_a_kill_in_the_middle_of_unpacking_leaves_no_folder_and_the_next_call_makes_it(
    project: Path,
) -> None:
    stuck = "import time, tarfile\nreal = tarfile.TarFile.extract\n"
    stuck += f"tarfile.TarFile.extract = lambda *a, **k: (real(*a, **k), time.sleep({PATIENCE}))"
    process = in_background(stuck, project)
    folder = project / "data/VOCdevkit"
    deadline = time.monotonic() + PATIENCE
    while not list(folder.glob(".VOC2007.unpacking/**/*.txt")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert [path.name for path in folder.iterdir()] == [".VOC2007.unpacking"]
    assert state(read_datasets()["voc2007"]) == "partial"
    get("voc2007")
    assert [path.name for path in folder.iterdir()] == ["VOC2007"]
    assert state(read_datasets()["voc2007"]) == "present"

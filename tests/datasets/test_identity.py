"""The identity of a user's folder: run ids follow the labels, the index also place and images."""

from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from obc.config.load_plan import load_plan
from obc.config.plan import Plan
from obc.datasets.drawn import shapes
from obc.datasets.errors import DatasetError
from obc.datasets.hashes import FileHashes
from obc.datasets.identity import fingerprint, location
from obc.datasets.index import on_disk
from obc.datasets.settings import CocoData, ShapesData, VocData

ANNOTATIONS = {
    "voc": "VOC2007/Annotations/000003.xml",
    "coco": "annotations/instances_val2017.json",
}


@pytest.fixture(params=list(ANNOTATIONS))
def data(request: pytest.FixtureRequest, tmp_path: Path) -> VocData | CocoData:
    drawn = ShapesData(
        kind="shapes", layout=request.param, seed=5, image_size=32, train_images=4, val_images=2,
        num_classes=4, objects=(1, 3), object_size=(0.3, 0.6),
    )  # fmt: skip
    shapes.generate(drawn, tmp_path / "set")
    return on_disk(drawn, tmp_path / "set")


def moved(data: VocData | CocoData, root: Path) -> VocData | CocoData:
    return data.model_copy(update={"root": root})


def plan_of(data: VocData | CocoData, results: Path) -> Plan:
    options = {f"{data.kind}_{part}": getattr(data, part) for part in ("root", "train", "val")}
    if data.kind == "voc":
        options["voc_classes"] = data.classes
    options = {key: list(v) if isinstance(v, tuple) else str(v) for key, v in options.items()}
    return load_plan({"scale": "smoke", "results": str(results), **options})


def relabel(data: VocData | CocoData) -> None:
    """Change one digit in the middle of an annotation; length and modification time stay."""
    path = data.root / ANNOTATIONS[data.kind]
    before, content = path.stat(), path.read_bytes()
    mark = b"<xmin>" if data.kind == "voc" else b'"category_id":'
    at = content.index(mark) + len(mark)
    while not content[at : at + 1].isdigit():
        at += 1
    other = b"1" if content[at : at + 1] != b"1" else b"2"
    path.write_bytes(content[:at] + other + content[at + 1 :])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def image_of(data: VocData | CocoData) -> Path:
    return next(data.root.rglob("*.jpg"))


# ---------------------------------------------------------------- run ids and index folders


def test_a_label_changed_at_the_same_length_has_new_run_ids_and_a_new_index(data, tmp_path):
    before = plan_of(data, tmp_path)
    relabel(data)
    after = plan_of(data, tmp_path)
    assert not set(before.runs) & set(after.runs)
    assert before.index_folder(data.kind) != after.index_folder(data.kind)


def test_a_moved_folder_keeps_its_run_ids_and_has_a_new_index(data, tmp_path):
    before = plan_of(data, tmp_path)
    there = moved(data, data.root.rename(tmp_path / "elsewhere"))
    after = plan_of(there, tmp_path)
    assert set(before.runs) == set(after.runs)
    assert before.index_folder(data.kind).path.name != after.index_folder(data.kind).path.name


def test_a_folder_behind_a_link_is_the_folder(data, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(data.root)
    assert location(moved(data, link), link) == location(data, data.root)


def test_a_link_that_points_elsewhere_now_has_a_new_index(data, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(data.root)
    before = location(moved(data, link), link)
    copy = shutil.copytree(data.root, tmp_path / "copy")
    link.unlink()
    link.symlink_to(copy)
    assert location(moved(data, link), link) != before


def test_a_second_folder_of_the_same_name_and_sizes_has_its_own_runs(data, tmp_path):
    other = moved(data, shutil.copytree(data.root, tmp_path / "other" / data.root.name))
    relabel(other)
    first, second = (plan_of(each, tmp_path) for each in (data, other))
    assert first.results == second.results
    assert not set(first.runs) & set(second.runs)
    assert first.index_folder(data.kind) != second.index_folder(data.kind)


@pytest.mark.parametrize("change", ["size", "content", "name"])
def test_an_image_that_changed_has_a_new_index_and_keeps_run_ids(data, tmp_path, change):
    before = plan_of(data, tmp_path)
    image = image_of(data)
    if change == "size":
        image.write_bytes(image.read_bytes() + b"\0")
    elif change == "content":
        time = image.stat().st_mtime_ns
        image.write_bytes(image.read_bytes()[:-1] + b"\0")
        os.utime(image, ns=(time, time))
    else:
        image.rename(image.with_name("another.jpg"))
    after = plan_of(data, tmp_path)
    assert set(before.runs) == set(after.runs)
    assert before.index_folder(data.kind) != after.index_folder(data.kind)


def test_a_folder_unpacked_anew_keeps_its_index_and_run_ids(data, tmp_path):
    before = plan_of(data, tmp_path)
    packed = data.root.rename(tmp_path / "packed")
    shutil.copytree(packed, data.root, copy_function=shutil.copyfile)  # other times and inodes
    after = plan_of(data, tmp_path)
    assert set(before.runs) == set(after.runs)
    assert before.index_folder(data.kind) == after.index_folder(data.kind)


def test_what_a_file_manager_leaves_is_no_image(data):
    before = location(data, data.root)
    for name in (".DS_Store", "Thumbs.db"):
        (image_of(data).parent / name).touch()
    assert location(data, data.root) == before


def test_a_project_moved_with_its_data_keeps_its_index(data, tmp_path, monkeypatch):
    names = []
    for folder in ("here", "there"):
        shutil.copytree(data.root, tmp_path / folder / "mine", copy_function=shutil.copy2)
        monkeypatch.chdir(tmp_path / folder)
        names.append(location(moved(data, Path("mine")), Path("mine")))
    assert names[0] == names[1]


def test_published_data_in_another_folder_keep_run_ids_and_have_a_new_index(tmp_path):
    base = load_plan({"scale": "paper"})
    other = load_plan({"scale": "paper", "voc_root": str(tmp_path)})
    assert set(base.runs) == set(other.runs)
    assert base.index_folder("voc").path.name != other.index_folder("voc").path.name
    assert base.index_folder("coco") == other.index_folder("coco")


def test_drawn_data_lie_where_their_settings_say():
    plan = load_plan({"scale": "smoke"})
    assert plan.locations == {}


# ---------------------------------------------------------------- hashes that are kept


def test_a_second_look_reads_no_file(data, tmp_path, monkeypatch):
    monkeypatch.setattr("obc.datasets.hashes._SETTLED_NS", -1)
    kept = tmp_path / "hashes.json"
    first = fingerprint(data, data.root, FileHashes(kept))

    def no_reading(*_):
        raise AssertionError("read again")

    monkeypatch.setattr("obc.datasets.hashes.hashlib.file_digest", no_reading)
    assert fingerprint(data, data.root, FileHashes(kept)) == first


def test_a_file_changed_behind_its_modification_time_is_read_again(data, tmp_path, monkeypatch):
    monkeypatch.setattr("obc.datasets.hashes._SETTLED_NS", -1)
    kept = tmp_path / "hashes.json"
    first = fingerprint(data, data.root, FileHashes(kept))
    relabel(data)
    assert fingerprint(data, data.root, FileHashes(kept)) != first


def test_a_file_written_just_now_is_not_kept(data, tmp_path):
    fingerprint(data, data.root, FileHashes(tmp_path / "hashes.json"))
    assert not (tmp_path / "hashes.json").exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"%s": 3}', b'{"%s": [1, 2]}', b"[" * 10**5],
)
def test_damaged_hashes_are_ignored(data, tmp_path, monkeypatch, content):
    monkeypatch.setattr("obc.datasets.hashes._SETTLED_NS", -1)
    kept = tmp_path / "hashes.json"
    path = data.root / ANNOTATIONS[data.kind]
    kept.write_bytes(content.replace(b"%s", str(path).encode()))
    assert fingerprint(data, data.root, FileHashes(kept)) == fingerprint(data, data.root)
    assert str(path) in json.loads(kept.read_text(encoding="utf-8"))


def test_planning_makes_no_folder_to_keep_hashes_in(data, tmp_path):
    plan_of(data, tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_hashes_lie_beside_the_index(data, tmp_path, monkeypatch):
    monkeypatch.setattr("obc.datasets.hashes._SETTLED_NS", -1)
    beside = plan_of(data, tmp_path).index_folder(data.kind).path.parent
    beside.mkdir(parents=True)
    plan_of(data, tmp_path)
    (kept,) = beside.iterdir()
    assert str(data.root / ANNOTATIONS[data.kind]) in json.loads(kept.read_text(encoding="utf-8"))


def test_many_may_look_at_once(data, tmp_path, monkeypatch):
    monkeypatch.setattr("obc.datasets.hashes._SETTLED_NS", -1)
    kept = tmp_path / "hashes.json"
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: fingerprint(data, data.root, FileHashes(kept)), range(40)))
    assert found == {fingerprint(data, data.root)}
    assert [path.name for path in tmp_path.iterdir() if "hashes" in path.name] == ["hashes.json"]
    json.loads(kept.read_text(encoding="utf-8"))


def test_a_name_that_no_file_can_have_is_an_error_of_the_data(tmp_path):
    with pytest.raises(DatasetError, match="cannot be read"):
        FileHashes(None).sha256(tmp_path / "a\0b")

"""The data of a call: which count as the user's own, and what follows; values of `change`."""

from __future__ import annotations

import shutil
from pathlib import Path

import foreign_fixtures as foreign
import pytest
from conftest import edit
from voc_folders import CAT, make_year

from obc.config.load_plan import load_plan
from obc.config.plan import Plan
from obc.datasets.errors import DatasetError
from obc.io.typed_yaml import ConfigError

ROOTS = {"voc": "data/VOCdevkit", "coco": "data/coco"}
SPLITS = {"voc": {"voc_val": ["VOC2007/test"]}, "coco": {"coco_val": "val2017"}}


def folder(path: Path, kind: str) -> Path:
    """A folder of the user with the split names of published data."""
    if kind == "coco":
        return foreign.write(path, foreign.content(1), foreign.content(50)).root
    make_year(path / "VOC2007", {"trainval": {"1": [CAT]}, "test": {"2": [CAT]}})
    return path


def edit_annotations(root: Path, kind: str) -> None:
    name = {"voc": "VOC2007/Annotations/1.xml", "coco": "annotations/instances_train2017.json"}
    path = root / name[kind]
    path.write_text(path.read_text() + "\n")


def photos(root: Path, kind: str, **choices: object) -> Plan:
    return load_plan({"scale": "photos", f"{kind}_root": str(root), **choices})


@pytest.mark.parametrize("said", [False, True], ids=["root", "root and split"])
@pytest.mark.parametrize("kind", ["voc", "coco"])
def test_a_folder_with_published_split_names_is_the_user_s_own(
    tmp_path: Path, kind: str, said: bool
) -> None:
    splits = SPLITS[kind] if said else {}
    root = folder(tmp_path / "mine", kind)
    plan = photos(root, kind, **splits)
    assert plan.is_own(kind) and not plan.is_own("init")
    assert plan.results == Path("results/photos-mine")
    assert plan.notes[0].startswith(f"{kind}: own data from {root}")
    assert {table.dataset for table in plan.tables.values()} == {kind}
    assert not set(plan.runs) & set(load_plan({"scale": "photos"}).runs)
    edit_annotations(root, kind)
    edited = photos(root, kind, **splits)
    assert not set(plan.runs) & set(edited.runs)
    assert plan.index_folder(kind) != edited.index_folder(kind)
    with pytest.raises(DatasetError, match="no such folder"):
        photos(tmp_path / "typo", kind, **splits)


def test_shared_images_are_allowed_in_a_folder_with_published_split_names(tmp_path: Path) -> None:
    root = folder(tmp_path / "mine", "coco")
    assert photos(root, "coco", allow_shared_images=True).scale.data["coco"].allow_shared_images


@pytest.mark.parametrize("kind", ["voc", "coco"])
@pytest.mark.parametrize("scale", ["photos", "paper"])
def test_the_scale_s_own_folder_holds_published_data(scale: str, kind: str) -> None:
    left = load_plan({"scale": scale})
    for root in (ROOTS[kind], str(Path(ROOTS[kind]).absolute())):
        said = load_plan({"scale": scale, f"{kind}_root": root})
        assert not any(plan.is_own(name) for plan in (left, said) for name in plan.identities)
        assert said.runs.keys() == left.runs.keys() and said.results == left.results
        assert said.index_folder(kind) == left.index_folder(kind) and said.notes == ()


def test_at_scale_paper_a_root_says_where_published_data_lie(tmp_path: Path) -> None:
    root = folder(tmp_path / "mine", "coco")
    paper = {"scale": "paper", "coco_root": str(root)}
    assert not load_plan(paper).is_own("coco")
    assert load_plan({**paper, "coco_train": "train2017"}).is_own("coco")
    uncounted = {f"data.coco.expected_{split}_images": None for split in ("train", "val")}
    assert load_plan({**paper, "label": "mine", "change": uncounted}).is_own("coco")


@pytest.mark.parametrize("scale", ["mini", "quick"])
def test_where_a_scale_draws_its_data_a_folder_is_the_user_s_own(
    scale: str, tmp_path: Path
) -> None:
    plan = load_plan({"scale": scale, "coco_root": str(folder(tmp_path / "mine", "coco"))})
    assert plan.is_own("coco") and not plan.is_own("voc") and not plan.is_own("init")
    assert plan.index_apart("coco") is None


def test_data_of_the_starting_weights_alone_leave_no_table_out(config_folder: Path) -> None:
    root = make_year(config_folder.parent / "VOC2007", {"a": {"1": [CAT]}, "b": {"2": [CAT]}})
    shutil.copy(root / "ImageSets/Main/b.txt", root / "ImageSets/Main/init.txt")
    published = {"root": str(root), "train": ["a"], "val": ["b"]}
    edit(config_folder / "scales/photos.yaml", lambda scale: scale["data"]["voc"].update(published))
    left = load_plan({"scale": "photos"}, config_folder)
    plan = load_plan({"scale": "photos", "voc_init": "init"}, config_folder)
    assert plan.tables.keys() == left.tables.keys() and len(plan.runs) == len(left.runs)
    assert not set(plan.trainings) & set(left.trainings)
    assert plan.results == Path("results/photos-voc2007")
    assert [note.split(" ")[0] for note in plan.notes] == ["init:"]
    assert [plan.is_own(name) for name in ("voc", "coco", "init")] == [False, False, True]
    with pytest.raises(ConfigError, match="allow_shared_images: true without a folder"):
        chosen = {"scale": "photos", "voc_init": "init", "allow_shared_images": True}
        load_plan(chosen, config_folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schedule.lr": "[1,"}, r"change: schedule\.lr: '\[1,' is not valid YAML \(.+\); allowed"),
        ({"schedule.steps": ["1", "a: b: c"]}, r"schedule\.steps: 'a: b: c' is not valid YAML"),
        ({"schedule": {"lr": "*x"}}, r"change: schedule\.lr: '\*x' is not valid YAML"),
        ({"schedule.lr": "2020-13-01"}, r"schedule\.lr: '2020-13-01' is not .* \(month must be"),
        ({"schedule.lr": "\x00"}, r"schedule\.lr: '\\x00' is not valid YAML"),
    ],
)
def test_a_change_that_is_no_yaml_is_named(change: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_plan({"scale": "smoke", "label": "x", "change": change})

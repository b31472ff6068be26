"""The same image in training and validation is named when the data are indexed."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import foreign_fixtures as foreign
import pytest
from hypothesis import given
from hypothesis import strategies as st
from voc_folders import CAT, make_year

from obc.config.load_plan import load_plan
from obc.datasets.errors import DatasetError
from obc.datasets.index import index_dataset
from obc.datasets.settings import CocoData, VocData
from obc.datasets.shared_images import shared_images
from obc.io.typed_yaml import ConfigError


def link(source: Path, target: Path) -> None:
    target.symlink_to(source)


@pytest.fixture(params=[link, os.link, shutil.copyfile], ids=["link", "hard link", "copy"])
def coco(request: pytest.FixtureRequest, tmp_path: Path) -> CocoData:
    """A COCO folder one of whose validation images is a training image under another name."""
    data = foreign.write(tmp_path / "mine", foreign.content(1), foreign.content(50))
    leaked = data.root / "val2017/51.png"
    leaked.unlink()
    request.param(data.root / "train2017/3.png", leaked)
    return data


def test_a_training_image_under_another_name_is_named(coco: CocoData) -> None:
    said = (
        r"1 image\(s\) are in both train and val, of 3 in val; the first: val2017/51\.png has the "
        r"content of train2017/3\.png; .* allow_shared_images=true"
    )
    with pytest.raises(DatasetError, match=said):
        foreign.index(coco)
    assert not (coco.root.parent / "index").exists()


def test_it_is_counted_where_it_is_allowed(coco: CocoData) -> None:
    manifest, *_ = foreign.index(coco.model_copy(update={"allow_shared_images": True}))
    assert manifest["splits"]["val"]["shared_with_train"] == 1


def test_a_copy_in_a_voc_folder_is_named(tmp_path: Path) -> None:
    root = make_year(tmp_path / "VOC2007", {"train": {"1": [CAT]}, "val": {"2": [CAT]}})
    with pytest.raises(
        DatasetError, match=r"JPEGImages/2\.jpg has the content of JPEGImages/1\.jpg"
    ):
        index_dataset(VocData(kind="voc", root=root), root, tmp_path / "index")


def test_one_split_for_both_is_allowed_in_the_same_way(tmp_path: Path) -> None:
    root = make_year(tmp_path / "VOC2007", {"train": {"1": [CAT]}})
    data = VocData(kind="voc", root=root, val=("train",))
    with pytest.raises(DatasetError, match=r"JPEGImages/1\.jpg is listed in both"):
        index_dataset(data, root, tmp_path / "index")
    allowed = data.model_copy(update={"allow_shared_images": True})
    manifest = index_dataset(allowed, root, tmp_path / "index")
    assert manifest["splits"]["val"]["shared_with_train"] == 1


def test_content_that_changed_at_the_same_size_is_another_data_set(tmp_path: Path) -> None:
    data = foreign.write(tmp_path / "mine", foreign.content(1), foreign.content(50))
    image = data.root / "train2017/1.png"
    image.write_bytes(image.read_bytes() + b"\0")  # what follows an image's end is not looked at
    before, *_ = foreign.index(data)
    image.write_bytes(image.read_bytes()[:-1] + b"\1")
    after, *_ = foreign.index(data)
    assert before["splits"] == after["splits"]
    assert before["sha256"] != after["sha256"]


@given(
    train=st.lists(st.sampled_from("abcdef"), max_size=6),
    val=st.lists(st.sampled_from("abcdef"), max_size=6),
)
def test_pairs_are_those_of_every_validation_image_with_a_twin(
    train: list[str], val: list[str]
) -> None:
    ours = {f"train/{place}": one for place, one in enumerate(train)}
    theirs = {f"val/{place}": one for place, one in enumerate(val)}
    pairs = shared_images(ours, theirs)
    assert len(pairs) == sum(one in train for one in val)
    assert all(ours[one] == theirs[other] for one, other in pairs)


def test_every_table_says_that_it_is_allowed(coco: CocoData, tmp_path: Path) -> None:
    chosen = {"scale": "smoke", "coco_root": str(coco.root), "results": str(tmp_path)}
    strict, allowed = (load_plan({**chosen, "allow_shared_images": key}) for key in (False, True))
    assert not any("allow_shared_images" in note for note in strict.notes)
    assert any(re.search("images may be in both .*allow_shared_images", n) for n in allowed.notes)
    assert not set(strict.runs) & set(allowed.runs)


def test_the_key_is_about_a_folder_of_your_own(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="allow_shared_images: true without a folder"):
        load_plan({"scale": "smoke", "allow_shared_images": True})

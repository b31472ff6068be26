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

from obc.cli.main import main
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


def indexed(folder: Path, capsys: pytest.CaptureFixture, **choices: object) -> str:
    """Index the images for starting weights, then the table's; return the message of an error."""
    root, results = folder / "VOC2007", folder / f"results-{choices['voc_init']}"
    if not root.exists():
        splits = {"train": "123", "val": "45", "init": "67", "leak": "26"}
        make_year(root, {name: {one: [CAT] for one in ids} for name, ids in splits.items()})
        for image in sorted((root / "JPEGImages").iterdir()):
            image.write_bytes(image.read_bytes() + image.stem.encode())  # follows the image's end
    chosen = {"scale": "photos", "voc_root": str(root), "voc_train": "train", "voc_val": "val"}
    plan = load_plan({**chosen, "results": str(results), **choices})
    plan.save(folder / "plan.json")
    failed = any(main(["index", str(folder / "plan.json"), name]) for name in ("init", "voc"))
    assert plan.index_folder("voc").manifest.exists() is not failed
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("init", "said"),
    [
        ("init", ""),
        ("train", "3 of 3 train images are also among the 3 .*, e.g. JPEGImages/1.jpg, JPEG"),
        ("leak", "1 of 3 train images are also among the 2 .* e.g. JPEGImages/2.jpg; name"),
        ("val", r"2 image\(s\) are in both train and val"),
    ],
)
def test_starting_weights_are_trained_on_other_images(
    tmp_path: Path, capsys: pytest.CaptureFixture, init: str, said: str
) -> None:
    message = indexed(tmp_path, capsys, voc_init=init)
    assert re.search(said, message) if said else not message


def test_a_copy_for_starting_weights_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert not indexed(tmp_path, capsys, voc_init="init")
    shutil.rmtree(tmp_path / "results-init")
    images = tmp_path / "VOC2007/JPEGImages"
    shutil.copyfile(images / "3.jpg", images / "7.jpg")
    message = indexed(tmp_path, capsys, voc_init="init")
    assert "e.g. JPEGImages/3.jpg (content of JPEGImages/7.jpg)" in message


def test_a_validation_image_for_starting_weights_is_allowed_as_one_in_training_is(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    allowed = {"allow_shared_images": True}
    assert not indexed(tmp_path, capsys, voc_init="val", **allowed)
    assert "of 3 train images are also" in indexed(tmp_path, capsys, voc_init="leak", **allowed)


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

"""The embedded data set: what is drawn, where its boxes are, and the layouts on disk."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from obc.datasets.drawn import shapes
from obc.datasets.drawn.outlines import CLASSES, clip_outline, coverage, polygon_area, posed_outline
from obc.datasets.drawn.scenes import DIFFICULT, FULLY_ANNOTATED
from obc.datasets.settings import ShapesData

poses = st.tuples(st.sampled_from(CLASSES), st.floats(6, 60), st.integers(0, 2**32 - 1))


def spec(layout: str = "voc", **changes) -> ShapesData:
    values = {
        "kind": "shapes",
        "layout": layout,
        "seed": 7,
        "image_size": 64,
        "train_images": 6,
        "val_images": 3,
        "num_classes": 12,
        "objects": (2, 5),
        "object_size": (0.15, 0.6),
    }
    return ShapesData(**values | changes)


def content(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def objects_of(data: ShapesData, images: int) -> list:
    return [one for index in range(images) for one in shapes.scene(data, "train", index)[1]]


# ---------------------------------------------------------------- geometry


def test_coverage_of_a_rectangle_is_the_covered_part_of_each_pixel():
    # [1.25, 3.5] x [0.5, 2]: columns 1, 2, 3 are covered by .75, 1, .5; rows 0, 1 by .5, 1.
    outline = np.array([(1.25, 0.5), (3.5, 0.5), (3.5, 2.0), (1.25, 2.0)])
    rows, columns = np.array([0.5, 1.0, 0.0]), np.array([0.0, 0.75, 1.0, 0.5, 0.0])
    np.testing.assert_allclose(coverage(outline, 0, 0, 5, 3), np.outer(rows, columns), atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(poses)
def test_coverage_adds_up_to_the_outline_s_area(pose):
    name, size, seed = pose
    outline = posed_outline(name, size, np.random.default_rng(seed)) + 1.3
    covered = coverage(outline, 0, 0, int(size) + 4, int(size) + 4)
    # Four sampled rows a pixel: the error is a small part of the outline's length.
    assert covered.sum() == pytest.approx(polygon_area(outline), abs=0.1 * size)
    assert covered.min() >= -1e-4 and covered.max() <= 1 + 1e-4


@settings(max_examples=60, deadline=None)
@given(poses)
def test_posed_outline_has_the_asked_longer_side_and_starts_at_the_origin(pose):
    name, size, seed = pose
    outline = posed_outline(name, size, np.random.default_rng(seed))
    assert outline.max() == pytest.approx(size)
    np.testing.assert_allclose(outline.min(axis=0), 0, atol=1e-9)


def test_clipping_at_one_side_keeps_the_part_inside_only():
    # A triangle with corners (-2, 0), (2, 0), (2, 4) crosses x = 0 at (0, 0) and (0, 2).
    clipped = clip_outline(np.array([(-2.0, 0.0), (2.0, 0.0), (2.0, 4.0)]), 10)
    assert sorted(map(tuple, clipped)) == [(0, 0), (0, 2), (2, 0), (2, 4)]


# ---------------------------------------------------------------- scenes


@pytest.mark.parametrize("layout", ["voc", "coco"])
def test_boxes_are_the_exact_extent_of_what_is_drawn(layout):
    data = spec(layout)
    for drawn in (one for one in objects_of(data, 60) if not one.crowd):
        mask = coverage(drawn.outlines[0], 0, 0, data.image_size, data.image_size) > 1e-4
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        drawn_extent = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        # A pixel touched counts whole here, and a corner may pass between two sampled rows.
        np.testing.assert_allclose(drawn.box, drawn_extent, atol=1.3)
        assert 0 <= drawn.box[0] < drawn.box[2] <= data.image_size
        assert 0 <= drawn.box[1] < drawn.box[3] <= data.image_size


def test_truncated_objects_are_those_that_touch_the_border():
    found = objects_of(spec(), 60)
    touching = [min(one.box) == 0 or max(one.box) == 64 for one in found]
    assert touching == [one.truncated for one in found]
    assert any(touching) and not all(touching)


def test_every_annotated_object_can_be_seen():
    assert min(one.visible for one in objects_of(spec("voc"), 60)) >= DIFFICULT
    assert min(one.visible for one in objects_of(spec("coco"), 60)) >= FULLY_ANNOTATED


def test_an_object_hidden_by_nothing_is_wholly_visible():
    alone = objects_of(spec(objects=(1, 1), object_size=(0.4, 0.4)), 20)
    whole = [one.visible for one in alone if not one.truncated]
    assert len(whole) > 5
    np.testing.assert_allclose(whole, 1, atol=0.03)


def test_scenes_have_all_classes_and_the_asked_number_of_objects():
    data = spec("voc", objects=(2, 3), object_size=(0.1, 0.3))
    scenes = [shapes.scene(data, "train", index)[1] for index in range(60)]
    assert {len(found) for found in scenes} == {2, 3}
    assert {one.label for found in scenes for one in found} == set(range(12))


def test_train_and_val_are_different_scenes():
    train, val = (shapes.scene(spec(), split, 0)[0] for split in ("train", "val"))
    assert not np.array_equal(train, val)


def test_seed_changes_the_scenes():
    first, second = (shapes.scene(spec(seed=seed), "train", 0)[0] for seed in (1, 2))
    assert not np.array_equal(first, second)


# ---------------------------------------------------------------- on disk


@pytest.mark.parametrize("layout", ["voc", "coco"])
def test_files_are_the_same_whatever_the_number_of_workers(tmp_path, layout):
    data = spec(layout, train_images=70)  # enough for several chunks of work
    shapes.generate(data, tmp_path / "one", workers=1)
    shapes.generate(data, tmp_path / "two", workers=2)
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_voc_layout_holds_the_files_of_a_real_devkit(tmp_path):
    shapes.generate(spec(), tmp_path / "set")
    year = tmp_path / "set" / "VOC2007"
    lists = {p.stem: p.read_text().split() for p in (year / "ImageSets/Main").iterdir()}
    assert len(lists["train"]) == 6 and len(lists["val"]) == 3
    assert lists["trainval"] == lists["train"] + lists["val"] == sorted(set(lists["trainval"]))
    for image_id in lists["trainval"]:
        with Image.open(year / "JPEGImages" / f"{image_id}.jpg") as image:
            assert (image.size, image.format) == ((64, 64), "JPEG")
        xml = ElementTree.parse(year / "Annotations" / f"{image_id}.xml").getroot()
        assert xml.findtext("filename") == f"{image_id}.jpg"


def test_voc_coordinates_are_one_based_and_inclusive(tmp_path):
    data = spec()
    shapes.generate(data, tmp_path / "set")
    xml = ElementTree.parse(tmp_path / "set/VOC2007/Annotations/000001.xml").getroot()
    written = [[float(value.text) for value in box] for box in xml.iter("bndbox")]
    expected = [
        (one.box[0] + 1, one.box[1] + 1, one.box[2], one.box[3])
        for one in shapes.scene(data, "train", 0)[1]
    ]
    np.testing.assert_allclose(written, expected, atol=5.1e-4)


def test_voc_layout_marks_heavily_hidden_objects_difficult(tmp_path):
    data = spec(train_images=80, objects=(5, 7), object_size=(0.3, 0.7))
    shapes.generate(data, tmp_path / "set")
    annotations = sorted((tmp_path / "set/VOC2007/Annotations").iterdir())[:80]
    written = [
        int(tag.text) for path in annotations for tag in ElementTree.parse(path).iter("difficult")
    ]
    assert written == [int(one.visible < FULLY_ANNOTATED) for one in objects_of(data, 80)]
    assert 0 < sum(written) < 0.3 * len(written)


def test_coco_layout_holds_valid_annotations_with_crowds(tmp_path):
    from pycocotools.coco import COCO

    shapes.generate(spec("coco", train_images=60), tmp_path / "set")
    coco = COCO(tmp_path / "set/annotations/instances_train2017.json")
    assert len(coco.imgs) == len(list((tmp_path / "set/train2017").iterdir())) == 60
    crowds = [one for one in coco.anns.values() if one["iscrowd"]]
    assert 0 < len(crowds) < 30
    for one in coco.anns.values():
        # pycocotools' own reading of the segmentation lies in the box and has the annotated area.
        rows, columns = np.nonzero(coco.annToMask(one))
        x, y, width, height = one["bbox"]
        assert x - 1 <= columns.min() <= columns.max() + 1 <= x + width + 1
        assert y - 1 <= rows.min() <= rows.max() + 1 <= y + height + 1
        assert len(rows) == pytest.approx(one["area"], abs=1.1 * (width + height))


def test_coco_ids_have_gaps_and_splits_share_no_image(tmp_path):
    shapes.generate(spec("coco"), tmp_path / "set")
    train, val = (
        json.loads((tmp_path / f"set/annotations/instances_{split}2017.json").read_text())
        for split in ("train", "val")
    )
    assert [one["id"] for one in train["categories"]][:5] == [1, 2, 3, 5, 6]
    assert train["categories"] == val["categories"]
    assert not {one["id"] for one in train["images"]} & {one["id"] for one in val["images"]}
    assert all(len(one["file_name"]) == len("000000000001.jpg") for one in train["images"])


def test_a_data_set_that_fails_halfway_leaves_no_folder(tmp_path, monkeypatch):
    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shapes, "_save", full_disk)
    with pytest.raises(OSError, match="No space left"):
        shapes.generate(spec(), tmp_path / "set")
    assert list(tmp_path.iterdir()) == []

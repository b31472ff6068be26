"""What of a data set is trained on, counted as MMDetection takes it; what is left out is said."""

from __future__ import annotations

import json
from pathlib import Path

import foreign_fixtures as foreign
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from voc_folders import make_year

from obc.datasets.errors import DatasetError
from obc.datasets.index import index_dataset
from obc.datasets.settings import VocData
from obc.datasets.trained_on import count_trained_on, resized
from obc.evaluation.metrics import average_precision


def indexed(root: Path, train: foreign.Content, val: foreign.Content | None = None):
    return foreign.index(foreign.write(root / "mine", train, val or foreign.content(50)))


def loaded(index_file: Path, classes: list[str]) -> tuple[int, int]:
    """Images and objects without crowds that MMDetection trains on."""
    from mmdet.datasets import CocoDataset

    dataset = CocoDataset(
        ann_file=str(index_file), data_prefix={"img": ""}, metainfo={"classes": classes},
        pipeline=[], filter_cfg={"filter_empty_gt": True, "min_size": 32},
    )  # fmt: skip
    images = [dataset.get_data_info(place) for place in range(len(dataset))]
    objects = [one for image in images for one in image["instances"] if not one["ignore_flag"]]
    return len(images), len(objects)


# ---------------------------------------------------------------- areas


@pytest.mark.parametrize("area", [0, -7, 0.0, 1e9])
def test_an_area_that_cannot_be_is_the_box_s(tmp_path: Path, area: float) -> None:
    contents = [foreign.content(first) for first in (1, 50)]
    for content in contents:
        for one in content["annotations"]:
            one["area"] = area
    manifest, train, val = indexed(tmp_path, *contents)
    areas = [width * height for _, _, width, height in foreign.BOXES]
    assert [one["area"] for one in train["annotations"]] == areas * 3
    assert manifest["splits"]["val"]["area_from_box"] == 6
    found = [
        {key: one[key] for key in ("image_id", "category_id", "bbox")} | {"score": 0.5}
        for one in val["annotations"]
    ]
    assert average_precision(val, found)[0]["AP"] == pytest.approx(100)


def test_an_area_of_an_outline_within_its_box_is_kept(tmp_path: Path) -> None:
    content = foreign.content()
    content["annotations"][0]["area"] = 100.5  # of a box of 240 pixels
    manifest, train, _ = indexed(tmp_path, content)
    assert train["annotations"][0]["area"] == 100.5
    assert manifest["splits"]["train"]["area_from_box"] == 0


# ---------------------------------------------------------------- what is left out


def test_small_images_and_boxes_under_a_pixel_are_counted(tmp_path: Path) -> None:
    content = foreign.content(images=4)
    content["images"][0] |= {"width": 31}
    content["annotations"][:2] = content["annotations"][:1]  # its second box would reach outside
    content["annotations"][1]["bbox"] = [4, 5, 0.9, 12]
    content["annotations"][2]["bbox"] = [4, 5, 12, 0.9]
    manifest, *_ = indexed(tmp_path, content)
    counts = manifest["splits"]["train"]
    assert (counts["images"], counts["boxes"]) == (4, 7)
    assert (counts["small_images"], counts["small_boxes"]) == (1, 2)
    # Four images less a small one; seven objects less that image's one and two thin ones.
    assert (counts["trained_images"], counts["trained_boxes"]) == (3, 4)


@pytest.mark.slow
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    sides=st.lists(st.tuples(st.integers(30, 34), st.integers(30, 34)), min_size=1, max_size=4),
    objects=st.lists(
        st.tuples(
            st.integers(0, 3), st.sampled_from([0.5, 0.99, 1, 1.01, 9]), st.sampled_from([0.5, 9]),
            st.booleans(), st.booleans(),
        ),
        max_size=8,
    ),
)  # fmt: skip
def test_counts_are_those_of_mmdetection_s_own_loader(
    tmp_path_factory: pytest.TempPathFactory,
    sides: list[tuple[int, int]],
    objects: list[tuple[int, float, float, bool, bool]],
) -> None:
    index = {
        "images": [
            {"id": number, "file_name": f"{number}.png", "width": width, "height": height}
            for number, (width, height) in enumerate(sides, 1)
        ],
        "annotations": [
            {"id": number, "image_id": image % len(sides) + 1, "category_id": 1,
             "bbox": [1, 1, width, height], "area": width * height, "iscrowd": int(crowd)}
            | ({"ignore": 1} if ignored else {})
            for number, (image, width, height, crowd, ignored) in enumerate(objects, 1)
        ],
        "categories": [{"id": 1, "name": "bolt"}],
    }  # fmt: skip
    path = tmp_path_factory.mktemp("index") / "train.json"
    path.write_text(json.dumps(index), encoding="utf-8")
    counts = count_trained_on(index)
    if counts["trained_images"]:  # MMDetection stops where nothing is left
        assert (counts["trained_images"], counts["trained_boxes"]) == loaded(path, ["bolt"])


@pytest.mark.parametrize("why", ["small", "thin", "crowds", "ignored"])
def test_nothing_left_to_train_on_is_an_error(tmp_path: Path, why: str) -> None:
    content = foreign.content()
    for image in content["images"] if why == "small" else []:
        image["width"] = 31
    for one in content["annotations"]:
        one["bbox"] = [4, 5, 20, 0.5] if why == "thin" else [4, 5, 20, 12]
        one["iscrowd"] = int(why == "crowds")
        one["ignore"] = int(why == "ignored")
    with pytest.raises(DatasetError, match="nothing to train on is left of 6 objects in 3 images"):
        indexed(tmp_path, content)


def test_nothing_left_to_find_is_an_error(tmp_path: Path) -> None:
    content = foreign.content(50)
    for one in content["annotations"]:
        one["iscrowd"] = 1
    with pytest.raises(DatasetError, match="all 6 objects of the validation images are marked"):
        indexed(tmp_path, foreign.content(), content)


# ---------------------------------------------------------------- fractions of the image


def test_coco_boxes_as_fractions_of_the_image_are_refused(tmp_path: Path) -> None:
    content = foreign.content()
    for one in content["annotations"]:
        one["bbox"] = [side / (60, 56)[axis % 2] for axis, side in enumerate(one["bbox"])]
    with pytest.raises(
        DatasetError, match=r"(?s)6 of 6 boxes lie within the first pixel.*multiply"
    ):
        indexed(tmp_path, content)


def test_one_coco_box_in_the_first_pixel_is_none(tmp_path: Path) -> None:
    content = foreign.content()
    content["annotations"][0]["bbox"] = [0, 0, 1, 1]
    assert indexed(tmp_path, content)[0]["splits"]["train"]["trained_boxes"] == 6


def test_voc_boxes_as_fractions_of_the_image_are_refused(tmp_path: Path) -> None:
    from obc.datasets import voc

    root = make_year(tmp_path / "VOC2007", {"train": {"1": [("cat", (0.2, 0.1, 0.8, 1.0), 0)]}})
    with pytest.raises(DatasetError, match=r"1\.xml: cat box .* first pixel; .* multiply"):
        voc.index(VocData(kind="voc", root=root), root, ("train",))


def test_a_voc_box_of_the_first_pixel_is_none(tmp_path: Path) -> None:
    from obc.datasets import voc

    root = make_year(tmp_path / "VOC2007", {"train": {"1": [("cat", (1, 1, 1, 1), 0)]}})
    content, _ = voc.index(VocData(kind="voc", root=root), root, ("train",))
    assert content["annotations"][0]["bbox"] == [0, 0, 1, 1]


# ---------------------------------------------------------------- objects marked `ignore`


def with_one_ignored(first: int) -> foreign.Content:
    content = foreign.content(first)
    content["annotations"][0]["ignore"] = 1
    return content


@pytest.mark.parametrize(("choice", "trained"), [(None, 5), ("gt", 6), ("ignore", 5)])
def test_objects_marked_ignore_are_not_trained_on_unless_asked(
    tmp_path: Path, choice: str | None, trained: int
) -> None:
    data = foreign.write(tmp_path / "mine", with_one_ignored(1), with_one_ignored(50))
    manifest, *_ = foreign.index(data.model_copy(update={"difficult": choice}))
    counts = manifest["splits"]["train"]
    assert (counts["difficult"], counts["trained_boxes"]) == (1, trained)
    assert loaded(tmp_path / "index/train.json", manifest["classes"]) == (3, trained)


def test_objects_marked_ignore_are_to_be_found_as_in_pycocotools(tmp_path: Path) -> None:
    """Finding all but the marked one: recall 2/3 of a category, all of the other."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    data = foreign.write(tmp_path / "mine", with_one_ignored(1), with_one_ignored(50))
    _, _, val = foreign.index(data)
    found = [
        {key: one[key] for key in ("image_id", "category_id", "bbox")} | {"score": 0.5}
        for one in val["annotations"][1:]
    ]
    assert average_precision(val, found)[0]["AP"] == pytest.approx(100 * (67 / 101 + 1) / 2)
    reference = COCO()
    reference.dataset = val
    reference.createIndex()
    evaluation = COCOeval(reference, reference.loadRes(found), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx((67 / 101 + 1) / 2)


# ---------------------------------------------------------------- images that resizing empties


def flat(first: int, height: int) -> foreign.Content:
    """Three images, the first of them 1200 pixels wide."""
    content = foreign.content(first)
    content["images"][0] |= {"width": 1200, "height": height}
    for one in content["annotations"][:2]:
        one["bbox"] = [4, 0, 20, 2]
    return content


def indexed_at(root: Path, train: foreign.Content, val: foreign.Content, scale: tuple[int, int]):
    return index_dataset(foreign.write(root / "mine", train, val), root / "mine", root, 1, scale)


def test_an_image_of_which_resizing_leaves_nothing_is_named(tmp_path: Path) -> None:
    """1200 x 4 at a longest side of 64 is 0.21 pixels high."""
    with pytest.raises(
        DatasetError, match=r"val: val2017/50\.png \(1200 x 4\) has no pixel left .* crop it"
    ):
        indexed_at(tmp_path, foreign.content(), flat(50, 4), (64, 64))


def test_a_training_image_that_is_left_out_may_vanish(tmp_path: Path) -> None:
    assert indexed_at(tmp_path, flat(1, 4), foreign.content(50), (64, 64))


def test_a_training_image_that_is_not_left_out_may_not(tmp_path: Path) -> None:
    """32 pixels of 1200, at a longest side of 16, are 0.43."""
    with pytest.raises(DatasetError, match=r"train: train2017/1\.png \(1200 x 32\)"):
        indexed_at(tmp_path, flat(1, 32), foreign.content(50), (16, 16))


def test_half_a_pixel_is_left_as_one(tmp_path: Path) -> None:
    """1200 x 10 at 60 is exactly half a pixel high, and rounded up."""
    assert indexed_at(tmp_path, foreign.content(), flat(50, 10), (60, 60))


@settings(max_examples=200, deadline=None)
@given(
    width=st.integers(1, 3000),
    height=st.integers(1, 3000),
    scale=st.tuples(st.integers(1, 1400), st.integers(1, 1400)),
)
def test_sizes_are_those_that_mmcv_resizes_to(
    width: int, height: int, scale: tuple[int, int]
) -> None:
    from mmcv.image import rescale_size

    assert resized(width, height, scale) == rescale_size((width, height), scale)

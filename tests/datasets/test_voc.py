"""Reading VOC layout: boxes as VOC means them, and a clear error for what cannot be used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from voc_folders import CAT, make_year, one_image, read, xml

from obc.datasets.drawn import shapes
from obc.datasets.errors import DatasetError
from obc.datasets.settings import ShapesData

# ---------------------------------------------------------------- what is read


def test_box_is_one_based_inclusive(tmp_path):
    # Pixels 11..30 and 6..25, counted from 1, cover [10, 30] x [5, 25]: 20 wide and high.
    content, _ = read(one_image(tmp_path, [CAT]))
    (annotation,) = content["annotations"]
    assert annotation["bbox"] == [10, 5, 20, 20]
    assert annotation["area"] == 400
    assert (annotation["category_id"], annotation["iscrowd"]) == (8, 0)  # cat: eighth VOC class


def test_image_entry_names_the_file_relative_to_the_root_and_its_size(tmp_path):
    root = one_image(tmp_path, [CAT])
    (image,) = read(root)[0]["images"]
    size = (root / "JPEGImages/000001.jpg").stat().st_size
    expected = {"file_name": "JPEGImages/000001.jpg", "width": 50, "height": 40, "bytes": size}
    assert image == {"id": 1, **expected}


@pytest.mark.parametrize(
    ("choice", "expected"),
    [("gt", {}), ("train_without", {"ignore": 1}), ("ignore", {"ignore": 1})],
)
def test_difficult_objects_are_marked_and_ignored_only_on_request(tmp_path, choice, expected):
    root = one_image(tmp_path, [CAT, ("dog", (1, 1, 9, 9), 1)])
    content, counts = read(root, difficult=choice)
    plain, difficult = content["annotations"]
    assert (plain["difficult"], difficult["difficult"], counts["difficult"]) == (0, 1, 1)
    assert "ignore" not in plain
    assert {key: difficult[key] for key in ("ignore",) if key in difficult} == expected


def test_image_without_wanted_objects_is_kept_and_counted(tmp_path):
    root = make_year(
        tmp_path / "VOC2007", {"train": {"1": [CAT], "2": [], "3": [("dog", (1, 1, 9, 9), 0)]}}
    )
    content, counts = read(root, classes=("cat",))
    assert len(content["images"]) == 3 and len(content["annotations"]) == 1
    assert (counts["without_objects"], counts["other_classes"]) == (2, 1)


def test_box_at_most_one_pixel_over_the_border_is_clipped_and_counted(tmp_path):
    root = one_image(tmp_path, [("cat", (0, 6, 51, 25), 0)])
    content, counts = read(root)
    assert content["annotations"][0]["bbox"] == [0, 5, 50, 20]
    assert counts["clipped"] == 1


def test_devkit_s_splits_are_named_with_their_year_and_joined(tmp_path):
    make_year(tmp_path / "VOC2007", {"trainval": {"000001": [CAT]}})
    make_year(tmp_path / "VOC2012", {"trainval": {"2008_000002": []}})
    content, _ = read(tmp_path, ("VOC2007/trainval", "VOC2012/trainval"))
    assert [image["file_name"] for image in content["images"]] == [
        "VOC2007/JPEGImages/000001.jpg",
        "VOC2012/JPEGImages/2008_000002.jpg",
    ]


def test_year_may_be_left_out_where_the_devkit_holds_one(tmp_path):
    one_image(tmp_path, [CAT])
    assert read(tmp_path, ("train",))[1]["images"] == 1


def test_limit_takes_the_same_images_in_file_order_whatever_else_is_asked(tmp_path):
    root = make_year(tmp_path / "VOC2007", {"train": {f"{i:02d}": [] for i in range(20)}})
    names = [image["file_name"] for image in read(root, limit=6)[0]["images"]]
    assert len(names) == 6 and names == sorted(names)
    assert set(names) <= {image["file_name"] for image in read(root, limit=9)[0]["images"]}
    assert names != [f"JPEGImages/{i:02d}.jpg" for i in range(6)]
    assert read(root, limit=6)[1]["listed"] == 20


def test_workers_do_not_change_what_is_read(tmp_path):
    root = make_year(tmp_path / "VOC2007", {"train": {f"{i:02d}": [CAT] for i in range(40)}})
    assert read(root, workers=2) == read(root, workers=1)


def drawn_set(tmp_path: Path) -> ShapesData:
    data = ShapesData(
        kind="shapes", layout="voc", seed=1, image_size=64, train_images=12, val_images=1,
        num_classes=5, objects=(1, 4), object_size=(0.2, 0.6),
    )  # fmt: skip
    shapes.generate(data, tmp_path / "set")
    return data


def test_drawn_boxes_are_read_back_exactly(tmp_path):
    data = drawn_set(tmp_path)
    classes = shapes.class_names(data)
    content, _ = read(tmp_path / "set", ("VOC2007/train",), classes=classes)
    drawn = [one for index in range(12) for one in shapes.scene(data, "train", index)[1]]
    x1, y1, x2, y2 = np.array([one.box for one in drawn]).T
    expected = np.stack([x1, y1, x2 - x1, y2 - y1], axis=1)
    read_boxes = [one["bbox"] for one in content["annotations"]]
    np.testing.assert_allclose(read_boxes, expected, atol=1.1e-3)  # three decimals are written
    assert [one["category_id"] for one in content["annotations"]] == [d.label + 1 for d in drawn]


def test_mmdetection_s_own_loader_reads_the_drawn_set(tmp_path):
    from mmdet.datasets import VOCDataset

    classes = shapes.class_names(drawn_set(tmp_path))
    content, counts = read(tmp_path / "set", ("VOC2007/train",), classes=classes)
    dataset = VOCDataset(
        data_root=str(tmp_path / "set"),
        ann_file="VOC2007/ImageSets/Main/train.txt",
        data_prefix={"sub_data_root": "VOC2007/"},
        metainfo={"classes": classes},
        pipeline=[],
    )
    loaded = [dataset.get_data_info(index) for index in range(len(dataset))]
    boxes = [one for info in loaded for one in info["instances"]]
    assert (len(loaded), len(boxes)) == (counts["images"], counts["boxes"])
    labels = [one["category_id"] - 1 for one in content["annotations"]]
    assert [one["bbox_label"] for one in boxes] == labels


# ---------------------------------------------------------------- what cannot be used


def test_missing_root(tmp_path):
    with pytest.raises(DatasetError, match=r"nowhere: no such folder; voc_root must be"):
        read(tmp_path / "nowhere")


def test_folder_that_is_not_voc_says_what_was_looked_for_and_found(tmp_path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(DatasetError, match=r"not a VOC folder.*JPEGImages.*found: photos"):
        read(tmp_path)


def test_split_without_year_in_a_devkit_of_two(tmp_path):
    for year in ("VOC2007", "VOC2012"):
        make_year(tmp_path / year, {"train": {"1": []}})
    with pytest.raises(DatasetError, match=r"VOC2007, VOC2012; write a split as"):
        read(tmp_path, ("train",))


def test_missing_split_lists_the_splits_there_are(tmp_path):
    with pytest.raises(DatasetError, match=r"test\.txt: split file is missing.*train"):
        read(one_image(tmp_path, [CAT]), ("test",))


@pytest.mark.parametrize(
    ("lines", "message"), [("\n", "is empty"), ("000001 1\n", "one id a line")]
)
def test_split_that_is_no_list_of_ids(tmp_path, lines, message):
    root = one_image(tmp_path, [CAT])
    (root / "ImageSets/Main/train.txt").write_text(lines)
    with pytest.raises(DatasetError, match=message):
        read(root)


def test_split_that_is_not_text(tmp_path):
    root = one_image(tmp_path, [CAT])
    (root / "ImageSets/Main/train.txt").write_bytes(b"\xe9\n")
    with pytest.raises(DatasetError, match=r"train\.txt: not UTF-8 text"):
        read(root)


def test_image_listed_twice(tmp_path):
    root = one_image(tmp_path, [CAT])
    (root / "ImageSets/Main/train.txt").write_text("000001\n000001\n")
    with pytest.raises(DatasetError, match=r"000001\.jpg: listed 2 times"):
        read(root)


def test_missing_image(tmp_path):
    root = one_image(tmp_path, [CAT])
    (root / "JPEGImages/000001.jpg").unlink()
    with pytest.raises(DatasetError, match=r"000001\.jpg: image is missing"):
        read(root)


@pytest.mark.parametrize("kept", [0, 10, 400, -30])
def test_truncated_image(tmp_path, kept):
    image = one_image(tmp_path, [CAT]) / "JPEGImages/000001.jpg"
    image.write_bytes(image.read_bytes()[:kept])
    with pytest.raises(DatasetError, match=r"000001\.jpg: (not an image|image cannot be decoded)"):
        read(tmp_path / "VOC2007")


def test_image_of_another_size_than_its_annotation_says(tmp_path):
    root = one_image(tmp_path, [CAT])
    (root / "Annotations/000001.xml").write_text(xml([CAT], width=60))
    with pytest.raises(DatasetError, match=r"50 x 40 pixels, its annotation says 60 x 40"):
        read(root)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "annotation is missing"),
        ("", "annotation file is empty"),
        ("<annotation><size>", "not readable as XML"),
        ("<annotation/>", "<size/width> is None; it must be a number"),
        (xml([("cat", ("left", 6, 30, 25), 0)]), "<bndbox/xmin> is 'left'"),
        (xml([("cat", ("nan", 6, 30, 25), 0)]), "<bndbox/xmin> is 'nan'"),
    ],
)
def test_unusable_annotation_file(tmp_path, text, message):
    root = one_image(tmp_path, [CAT])
    path = root / "Annotations/000001.xml"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(DatasetError, match=rf"000001\.xml: {message}"):
        read(root)


@pytest.mark.parametrize(
    ("name", "box", "message"),
    [
        ("unicorn", (1, 1, 9, 9), "unknown class 'unicorn'; allowed: aeroplane, .*voc_classes"),
        ("cat", (9, 1, 8, 9), "cat box xmin 9, .* has no area"),
        ("cat", (1, 9, 9, 7), "has no area"),
        ("cat", (11, 6, 53, 25), "reaches outside its 50 x 40 image"),
        ("cat", (-1, 6, 30, 25), "reaches outside"),
        ("cat", (51, 6, 51, 25), "reaches outside"),
    ],
)
def test_unusable_object(tmp_path, name, box, message):
    with pytest.raises(DatasetError, match=rf"000001\.xml: .*{message}"):
        read(one_image(tmp_path, [CAT, (name, box, 0)]))


def test_all_problems_are_reported_together_the_first_ten_in_full(tmp_path):
    images = {f"{i:02d}": [("unicorn", (1, 1, 9, 9), 0)] for i in range(13)}
    root = make_year(tmp_path / "VOC2007", {"train": images})
    (root / "JPEGImages/00.jpg").unlink()
    with pytest.raises(DatasetError) as error:
        read(root)
    lines = str(error.value).splitlines()
    assert "14 problem(s)" in lines[0] and lines[-1] == "  ... and 4 more"
    assert len(lines) == 12

"""Reading COCO layout: what is kept, what is clipped or skipped, and clear errors for the rest."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from obc.datasets import coco
from obc.datasets.drawn import shapes
from obc.datasets.errors import DatasetError
from obc.datasets.settings import CocoData, ShapesData

CONTENT = {
    "info": {},
    "images": [
        {"id": 9, "file_name": "000000000009.jpg", "width": 50, "height": 40, "license": 1},
        {"id": 25, "file_name": "000000000025.jpg", "width": 50, "height": 40, "license": 1},
    ],
    "annotations": [
        {
            "id": 70, "image_id": 9, "category_id": 3, "bbox": [10.5, 5.25, 20, 10.5],
            "area": 111.5, "iscrowd": 0, "segmentation": [[10.5, 5.25, 30.5, 5.25, 30.5, 15.75]],
        },
        {
            "id": 71, "image_id": 9, "category_id": 1, "bbox": [0, 0, 50, 40],
            "area": 900.0, "iscrowd": 1, "segmentation": {"counts": [2000], "size": [40, 50]},
        },
    ],
    "categories": [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}],
}  # fmt: skip


def make(root: Path, content: dict) -> Path:
    """Write a COCO folder with one split, `train2017`, of the images that `content` names."""
    (root / "annotations").mkdir(parents=True)
    (root / "train2017").mkdir()
    (root / "annotations/instances_train2017.json").write_text(json.dumps(content))
    for image in content["images"]:
        noise = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(noise).save(root / "train2017" / image["file_name"])
    return root


def with_box(bbox) -> dict:
    content = copy.deepcopy(CONTENT)
    content["annotations"][0]["bbox"] = bbox
    return content


def read(root: Path, limit=None, workers=1):
    data = CocoData(kind="coco", root=root)
    return coco.index(data, root, "train2017", limit, workers)


# ---------------------------------------------------------------- what is read


def test_boxes_areas_crowds_and_ids_are_kept_as_they_are(tmp_path):
    content, counts = read(make(tmp_path, CONTENT))
    keys = ("id", "image_id", "category_id", "bbox", "area", "iscrowd")
    kept = [{key: one[key] for key in keys} for one in CONTENT["annotations"]]
    assert content["annotations"] == kept
    assert content["categories"] == CONTENT["categories"]
    assert (counts["boxes"], counts["crowd"], counts["without_objects"]) == (2, 1, 1)


def test_image_entry_names_the_file_relative_to_the_root_and_its_size(tmp_path):
    first = read(make(tmp_path, CONTENT))[0]["images"][0]
    name = "train2017/000000000009.jpg"
    size = (tmp_path / name).stat().st_size
    assert first == {"id": 9, "file_name": name, "width": 50, "height": 40, "bytes": size}


@pytest.mark.parametrize("bbox", [[10, 5, 0, 10], [10, 5, 20, 0], [10, 5, -3, 10]])
def test_box_without_area_is_skipped_and_counted(tmp_path, bbox):
    content, counts = read(make(tmp_path, with_box(bbox)))
    assert [one["id"] for one in content["annotations"]] == [71]
    assert (counts["boxes"], counts["skipped"]) == (1, 1)


def test_box_up_to_two_pixels_over_the_border_is_clipped_and_counted(tmp_path):
    content, counts = read(make(tmp_path, with_box([-1.5, 5, 20, 36.5])))
    assert content["annotations"][0]["bbox"] == [0, 5, 18.5, 35]
    assert counts["clipped"] == 1


def test_limit_takes_some_images_and_their_annotations_only(tmp_path):
    content, counts = read(make(tmp_path, CONTENT), limit=1)
    (image,) = content["images"]
    assert all(one["image_id"] == image["id"] for one in content["annotations"])
    assert (counts["images"], counts["listed"]) == (1, 2)


def test_mmdetection_s_own_loader_reads_the_drawn_set_and_its_index(tmp_path):
    from mmdet.datasets import CocoDataset

    data = ShapesData(
        kind="shapes", layout="coco", seed=1, image_size=64, train_images=60, val_images=1,
        num_classes=5, objects=(1, 4), object_size=(0.2, 0.6),
    )  # fmt: skip
    shapes.generate(data, tmp_path / "set")
    content, counts = read(tmp_path / "set")
    assert counts["crowd"] > 0
    (tmp_path / "train.json").write_text(json.dumps(content))
    sources = {
        tmp_path / "set/annotations/instances_train2017.json": tmp_path / "set/train2017",
        tmp_path / "train.json": tmp_path / "set",
    }
    for index_file, images in sources.items():
        dataset = CocoDataset(
            ann_file=str(index_file),
            data_prefix={"img": str(images)},
            metainfo={"classes": shapes.class_names(data)},
            pipeline=[],
        )
        loaded = [dataset.get_data_info(index) for index in range(len(dataset))]
        boxes = [one for info in loaded for one in info["instances"]]
        assert (len(loaded), len(boxes)) == (60, counts["boxes"])
        assert sum(one["ignore_flag"] for one in boxes) == counts["crowd"]
        assert all(Path(info["img_path"]).is_file() for info in loaded)


# ---------------------------------------------------------------- what cannot be used


def test_missing_root(tmp_path):
    with pytest.raises(DatasetError, match=r"nowhere: no such folder; coco_root must be"):
        read(tmp_path / "nowhere")


def test_folder_that_is_not_coco_says_what_was_looked_for_and_found(tmp_path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(DatasetError, match=r"not a COCO folder.*instances_.*found: photos"):
        read(tmp_path)


def test_missing_annotation_file_lists_those_there_are(tmp_path):
    root = make(tmp_path, CONTENT)
    (root / "annotations/instances_train2017.json").rename(root / "annotations/instances_x.json")
    with pytest.raises(DatasetError, match=r"instances_train2017\.json.*is missing.*instances_x"):
        read(root)


def test_missing_image_folder(tmp_path):
    root = make(tmp_path, CONTENT)
    (root / "train2017").rename(root / "images")
    with pytest.raises(DatasetError, match=r"train2017: image folder .* is missing"):
        read(root)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "annotation file is empty"),
        ('{"images": [', "not readable as JSON"),
        ("[]", "top level is list"),
        ("{}", "key 'images' is missing"),
        ('{"images": [], "annotations": [], "categories": []}', "'images' is an empty list"),
    ],
)
def test_unusable_annotation_file(tmp_path, text, message):
    root = make(tmp_path, CONTENT)
    (root / "annotations/instances_train2017.json").write_text(text)
    with pytest.raises(DatasetError, match=message):
        read(root)


@pytest.mark.parametrize(
    ("table", "change", "message"),
    [
        ("annotations", {"image_id": 8}, "annotation 70: unknown image_id 8"),
        ("annotations", {"category_id": 2}, r"unknown category_id 2; allowed: 1 \(person\), 3"),
        ("annotations", {"id": 71}, "annotations id 71 occurs 2 times"),
        ("annotations", {"bbox": [1, 2, 3]}, "is not four numbers"),
        ("annotations", {"bbox": [1, 2, 3, None]}, "is not four numbers"),
        ("annotations", {"area": "big"}, "area 'big' is not a number"),
        ("annotations", {"bbox": [40, 5, 20, 10]}, "annotation 70 on .*9.jpg: .* reaches outside"),
        ("annotations", {"bbox": [50, 5, 1, 10]}, "reaches outside its 50 x 40 image"),
        ("images", {"id": 25}, "images id 25 occurs 2 times"),
        ("images", {"width": 60}, r"9\.jpg: image is loaded with 50 x 40 pixels, .* says 60 x 40"),
        ("images", {"width": "50"}, "width and height must be positive whole numbers"),
        ("images", {"file_name": "000000000025.jpg"}, "image file '000000000025.jpg' occurs 2"),
        ("categories", {"name": "car"}, "category name 'car' occurs 2 times"),
    ],
)
def test_unusable_entry(tmp_path, table, change, message):
    root = make(tmp_path, CONTENT)
    content = copy.deepcopy(CONTENT)
    content[table][0].update(change)
    (root / "annotations/instances_train2017.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=message):
        read(root)


def test_entry_without_a_key(tmp_path):
    content = copy.deepcopy(CONTENT)
    del content["annotations"][1]["area"], content["annotations"][1]["iscrowd"]
    with pytest.raises(DatasetError, match=r"annotations\[1\] lacks area, iscrowd"):
        read(make(tmp_path, content))


def test_missing_and_truncated_images_are_reported_together(tmp_path):
    root = make(tmp_path, CONTENT)
    (root / "train2017/000000000009.jpg").unlink()
    image = root / "train2017/000000000025.jpg"
    image.write_bytes(image.read_bytes()[:-200])
    with pytest.raises(DatasetError, match=r"(?s)9\.jpg: image is missing.*25\.jpg: image cannot"):
        read(root)

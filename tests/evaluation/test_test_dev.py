"""A submission to COCO's test-dev server: its names, its format, its images, COCO's own ids."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from PIL import Image
from pycocotools.coco import COCO

from obc.config.load_plan import load_plan
from obc.config.plan import Plan
from obc.datasets.errors import DatasetError
from obc.detector.model_config import model_config
from obc.evaluation.test_dev import images_of_test_dev, submit

CATEGORIES = [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}, {"id": 90, "name": "brush"}]
IMAGES = {1: "000000000001.jpg", 581929: "000000581929.jpg"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A COCO folder with two test-dev images, and one that is of the test set only."""
    root = tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    (root / "test2017").mkdir()
    for name in (*IMAGES.values(), "000000000007.jpg"):
        noise = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
        Image.fromarray(noise).save(root / "test2017" / name)
    info = {
        "info": {},
        "images": [
            {"id": key, "file_name": name, "width": 80, "height": 60, "license": 1}
            for key, name in IMAGES.items()
        ],
        "categories": [{**one, "supercategory": "any"} for one in CATEGORIES],
    }
    (root / "annotations/image_info_test-dev2017.json").write_text(json.dumps(info))
    return root


@pytest.fixture
def trained(tmp_path: Path) -> tuple[Plan, str]:
    """A plan and a run of it on COCO, whose weights are random."""
    plan = load_plan({"scale": "smoke", "results": str(tmp_path / "results")})
    run_id = next(run_id for run_id in plan.runs if run_id.startswith("coco-faster-r50-obc"))
    index = plan.index_folder("coco").path
    index.mkdir(parents=True)
    (index / "val.json").write_text(
        json.dumps({"images": [], "annotations": [], "categories": CATEGORIES})
    )
    manifest = {"root": "unused", "classes": [one["name"] for one in CATEGORIES]}
    (index / "manifest.json").write_text(json.dumps(manifest))
    register_all_modules(init_default_scope=True)
    torch.manual_seed(0)
    model = MODELS.build(model_config(plan.runs[run_id].resolved, len(CATEGORIES)))
    folder = plan.run_folder(run_id, 0).path
    folder.mkdir(parents=True)
    torch.save(model.state_dict(), folder / "final.pth")
    return plan, run_id


def test_the_zip_is_what_the_server_takes(trained: tuple[Plan, str], root: Path) -> None:
    plan, run_id = trained
    out = plan.run_folder(run_id, 0).path
    path = submit(plan, run_id, 0, "expectation", root, out, io.StringIO())
    assert path.parent == out
    name = f"detections_test-dev2017_{run_id}-seed0-expectation_results"
    assert path.name == f"{name}.zip"
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == [f"{name}.json"]
        detections = json.loads(archive.read(f"{name}.json"))
    assert {tuple(one) for one in detections} == {("image_id", "category_id", "bbox", "score")}
    assert {one["image_id"] for one in detections} == set(IMAGES)
    assert {one["category_id"] for one in detections} <= {1, 18, 90}
    for one in detections:
        x, y, width, height = one["bbox"]
        assert x >= 0 and y >= 0 and x + width <= 80.02 and y + height <= 60.02
        assert 0 <= one["score"] <= 1
    published = COCO(root / "annotations/image_info_test-dev2017.json")
    assert len(published.loadRes(detections).anns) == len(detections)


def test_a_run_on_other_categories_is_refused(root: Path) -> None:
    other = [*CATEGORIES[:2], {"id": 90, "name": "comb"}]
    with pytest.raises(DatasetError, match=r"not among them: 90 \(comb\); the server takes COCO's"):
        images_of_test_dev(root, other)
    with pytest.raises(DatasetError, match="has 3 categories, the run was trained on 2"):
        images_of_test_dev(root, CATEGORIES[:2])


def test_images_of_the_list_that_are_not_there_are_named(root: Path) -> None:
    (root / "test2017" / IMAGES[581929]).unlink()
    with pytest.raises(DatasetError, match=r"1 of the 2 images .* not there: 000000581929\.jpg;"):
        images_of_test_dev(root, CATEGORIES)


def test_images_that_are_not_of_the_list_are_left_out(root: Path) -> None:
    listed = {one["file_name"] for one in images_of_test_dev(root, CATEGORIES)}
    assert listed == {f"test2017/{name}" for name in IMAGES.values()}
    assert (root / "test2017/000000000007.jpg").exists()


@pytest.mark.parametrize("missing", ["annotations/image_info_test-dev2017.json", "test2017"])
def test_a_folder_without_test_dev_says_how_to_get_it(root: Path, missing: str) -> None:
    (root / missing).rename(root / "elsewhere")
    with pytest.raises(DatasetError, match="obc fetch coco_test_info coco_test2017"):
        images_of_test_dev(root, CATEGORIES)

"""Objects that do not count in full, VOC's difficult ones and COCO's crowds: file to metric."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mmdet.registry import DATASETS
from mmdet.utils import register_all_modules
from PIL import Image

from obc.config.load_plan import load_plan
from obc.datasets.index import index_dataset
from obc.datasets.index_folder import IndexFolder
from obc.datasets.settings import CocoData, Difficult, VocData
from obc.evaluation.evaluate import evaluate
from obc.evaluation.metrics import average_precision, counts_difficult, difficult_ignored
from obc.report.captions import describe_data
from obc.training.mmdet_config import build_config

READINGS = get_args(Difficult)  # gt, train_without, ignore
SIZE = 80  # pixels: the training set leaves out images of less than 32


def write_image(path: Path, grey: int) -> None:
    """Of another grey in training than in validation: the same image in both is refused."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((SIZE, SIZE, 3), grey, np.uint8)).save(path)


def voc_object(position: int, difficult: bool) -> str:
    left = 1 + 10 * position  # 1-based, inclusive: 8 pixels wide and 30 high
    return (
        f"<object><name>cat</name><difficult>{int(difficult)}</difficult><bndbox>"
        f"<xmin>{left}</xmin><ymin>1</ymin><xmax>{left + 7}</xmax><ymax>30</ymax>"
        "</bndbox></object>"
    )


def voc_folder(root: Path, flags: list[bool]) -> Path:
    """A VOC year whose training image has an object per flag, its validation image the same."""
    for split, image_id in (("train", "1"), ("val", "2")):
        objects = "".join(voc_object(*one) for one in enumerate(flags))
        size = f"<size><width>{SIZE}</width><height>{SIZE}</height></size>"
        for path, text in {
            f"ImageSets/Main/{split}.txt": image_id,
            f"Annotations/{image_id}.xml": f"<annotation>{size}{objects}</annotation>",
        }.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        write_image(root / f"JPEGImages/{image_id}.jpg", grey=50 * int(image_id))
    return root


def coco_folder(root: Path) -> Path:
    """A COCO folder: on each image a person, and a crowd of persons elsewhere."""
    (root / "annotations").mkdir(parents=True)
    for split, image_id in (("train2017", 9), ("val2017", 139)):
        boxes = [([5, 5, 20, 30], 0), ([40, 5, 30, 60], 1)]
        content = {
            "images": [{"id": image_id, "file_name": "a.jpg", "width": SIZE, "height": SIZE}],
            "annotations": [
                {"id": number, "image_id": image_id, "category_id": 1, "bbox": box,
                 "area": box[2] * box[3], "iscrowd": crowd}
                for number, (box, crowd) in enumerate(boxes, 1)
            ],
            "categories": [{"id": 1, "name": "person"}],
        }  # fmt: skip
        (root / f"annotations/instances_{split}.json").write_text(json.dumps(content))
        write_image(root / split / "a.jpg", grey=image_id)
    return root


def training_sample(index_folder: Path):
    """What the detector is given of the indexed data's one training image."""
    register_all_modules(init_default_scope=True)
    plan = load_plan({"scale": "smoke"})
    run = next(iter(plan.runs.values())).resolved
    config = build_config(run, 0, IndexFolder(index_folder).files(), plan.scale.runtime)
    (sample,) = DATASETS.build(config.train_dataloader.dataset.dataset)
    return sample["data_samples"]


# --- difficult ---------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(flags=st.lists(st.booleans(), min_size=1, max_size=7), choice=st.sampled_from(READINGS))
def test_difficult_flags_come_through_the_index_whichever_way_they_are_read(
    flags: list[bool], choice: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    flags = [False, *flags]  # a training on nothing is refused
    root = voc_folder(tmp_path_factory.mktemp("flags"), flags)
    data = VocData(kind="voc", root=root, difficult=choice)
    manifest = index_dataset(data, root, root / "index")
    for split in ("train", "val"):
        annotations = json.loads((root / f"index/{split}.json").read_text())["annotations"]
        assert [bool(one["difficult"]) for one in annotations] == flags
        ignored = [bool(one.get("ignore")) for one in annotations]
        marked = choice == "ignore" or (choice, split) == ("train_without", "train")
        assert ignored == [flag and marked for flag in flags]
        assert manifest["splits"][split]["difficult"] == sum(flags)


@pytest.mark.parametrize(("choice", "trained_on"), zip(READINGS, (3, 2, 2), strict=True))
def test_difficult_objects_are_trained_on_if_they_are_read_like_others(
    tmp_path: Path, choice: str, trained_on: int
) -> None:
    root = voc_folder(tmp_path / "VOC2007", [False, True, False])
    index_dataset(VocData(kind="voc", root=root, difficult=choice), root, tmp_path / "index")
    sample = training_sample(tmp_path / "index")
    # Left out altogether: what lies on them is background, as for MMDetection's assigners anyway.
    assert (len(sample.gt_instances), len(sample.ignored_instances)) == (trained_on, 0)


@pytest.mark.parametrize(("choice", "required"), zip(READINGS, (3, 3, 2), strict=True))
def test_difficult_objects_are_to_be_found_unless_they_are_ignored(
    tmp_path: Path, choice: str, required: int
) -> None:
    root = voc_folder(tmp_path / "VOC2007", [False, True, False])
    index_dataset(VocData(kind="voc", root=root, difficult=choice), root, tmp_path / "index")
    truth = json.loads((tmp_path / "index/val.json").read_text())
    easy = [
        {"image_id": one["image_id"], "category_id": one["category_id"], "bbox": one["bbox"]}
        | {"score": 0.9}
        for one in truth["annotations"]
        if not one["difficult"]
    ]
    counted = truth if counts_difficult(choice) else difficult_ignored(truth)
    # Precision is 1 up to a recall of 2/3 or 1, read at 101 points.
    expected = 100 * (2 * 100 // required + 1) / 101
    assert average_precision(counted, easy)[0]["AP"] == pytest.approx(expected)


@pytest.mark.parametrize("choice", READINGS)
def test_an_evaluation_writes_the_metrics_of_its_reading_and_those_of_both(
    tmp_path: Path, choice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = voc_folder(tmp_path / "VOC2007", [False, True, False])
    own = {"scale": "smoke", "voc_root": str(root), "results": str(tmp_path), "difficult": choice}
    plan = load_plan(own)
    index_dataset(plan.scale.data["voc"], root, plan.index_folder("voc"))
    run_id = next(iter(plan.runs))
    weights = plan.run_folder(run_id, 0) / "final.pth"
    weights.parent.mkdir(parents=True)
    weights.touch()
    found = [
        {"image_id": 1, "category_id": 8, "bbox": [10.0 * position, 0, 8, 30], "score": 0.9}
        for position in (0, 2)
    ]
    monkeypatch.setattr("obc.evaluation.evaluate.detect_in", lambda *_: (found, None))
    monkeypatch.setattr("obc.evaluation.evaluate.head_cost", lambda _: {})
    written = json.loads(evaluate(plan, run_id, 0, "regression", io.StringIO()).read_text())
    counted, ignored = (written[f"metrics_difficult_{how}"] for how in ("gt", "ignored"))
    assert (written["difficult"], ignored["AP"]) == (choice, pytest.approx(100))
    assert counted["AP"] == pytest.approx(100 * 67 / 101)
    assert written["metrics"] == (ignored if choice == "ignore" else counted)


def test_scale_paper_trains_without_them_and_the_others_with_them() -> None:
    chosen = {scale: load_plan({"scale": scale}) for scale in ("smoke", "mini", "paper")}
    assert [plan.difficult("voc") for plan in chosen.values()] == ["gt", "gt", "train_without"]
    assert {plan.difficult("coco") for plan in chosen.values()} == {"gt"}
    for scale in chosen:
        for choice in READINGS:
            plan = load_plan({"scale": scale, "difficult": choice})
            assert plan.difficult("voc") == choice and plan.difficult("coco") == "gt"


@pytest.mark.parametrize("scale", ["smoke", "paper"])
def test_a_folder_of_one_s_own_is_read_as_the_scale_reads_its_data(
    tmp_path: Path, scale: str
) -> None:
    root = voc_folder(tmp_path / "VOC2007", [False, True])
    own = {"scale": scale, "voc_root": str(root), "voc_train": "train", "voc_val": "val"}
    assert load_plan(own).difficult("voc") == load_plan({"scale": scale}).difficult("voc")
    assert load_plan({**own, "difficult": "ignore"}).difficult("voc") == "ignore"


def test_each_reading_has_its_own_trainings_and_index() -> None:
    plans = [load_plan({"scale": "paper", "difficult": choice}) for choice in READINGS]
    assert len({plan.index_folder("voc") for plan in plans}) == 3
    assert len({min(run for run in plan.runs if run.startswith("voc")) for plan in plans}) == 3
    assert load_plan({"scale": "paper"}).runs.keys() == plans[1].runs.keys()


@pytest.mark.parametrize(
    ("choice", "words"),
    zip(
        READINGS,
        ("counted as ground truth", "not trained on and counted as ground truth", "ignored"),
        strict=True,
    ),
)
def test_the_caption_says_how_they_are_read(choice: str, words: str) -> None:
    published = describe_data(load_plan({"scale": "paper", "difficult": choice}), "voc")
    assert published.endswith(f", objects marked difficult {words}")
    drawn = describe_data(load_plan({"scale": "smoke", "difficult": choice}), "voc")
    assert drawn.endswith(f"pixels, objects marked difficult {words}") == (choice != "gt")


# --- crowds ------------------------------------------------------------------------------------


def test_a_crowd_is_no_object_to_train_on(tmp_path: Path) -> None:
    root = coco_folder(tmp_path / "coco")
    index_dataset(CocoData(kind="coco", root=root), root, tmp_path / "index")
    sample = training_sample(tmp_path / "index")
    assert (len(sample.gt_instances), len(sample.ignored_instances)) == (1, 1)
    x1, _, x2, _ = sample.ignored_instances.bboxes.tensor[0].tolist()
    assert x2 - x1 == pytest.approx(30 / SIZE * 64)  # images of scale smoke are 64 pixels


def test_detections_in_a_crowd_cost_nothing_and_none_is_required(tmp_path: Path) -> None:
    root = coco_folder(tmp_path / "coco")
    index_dataset(CocoData(kind="coco", root=root), root, tmp_path / "index")
    truth = json.loads((tmp_path / "index/val.json").read_text())
    person = {"image_id": 1, "category_id": 1, "bbox": [5, 5, 20, 30], "score": 0.5}
    # A crowd takes in any number of detections that lie in it, also those with more confidence.
    in_crowd = [{**person, "bbox": [x, 10, 10, 20], "score": 0.9} for x in (42, 55)]
    elsewhere = {**person, "bbox": [5, 50, 20, 20], "score": 0.9}
    assert average_precision(truth, [person])[0]["AP"] == pytest.approx(100)
    assert average_precision(truth, [person, *in_crowd])[0]["AP"] == pytest.approx(100)
    # One false positive before the only hit: precision 1/2 at every recall.
    assert average_precision(truth, [person, elsewhere])[0]["AP"] == pytest.approx(50)

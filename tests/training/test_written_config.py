"""MMDetection's own inferencers on `config.py` and `final.pth` of a run, and `obc detect`."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmdet.apis import DetInferencer, inference_detector, init_detector
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.config import Config
from PIL import Image
from pycocotools.coco import COCO

from obc.cli.main import main
from obc.config.load_plan import load_plan
from obc.config.plan import Plan
from obc.config.run_folder import RunFolder
from obc.datasets.settings import VOC_CLASSES
from obc.training.mmdet_config import build_config
from obc.training.written_config import written_config

SHAPES = ("square", "triangle", "disc", "star")


def left_by_a_training(plan: Plan, run_id: str, classes: tuple[str, ...]) -> RunFolder:
    """A run's folder with random weights, and the index that names its classes."""
    index = plan.run(run_id, 0).index
    index.path.mkdir(parents=True)
    categories = [{"id": number, "name": name} for number, name in enumerate(classes, 1)]
    index.val.write_text(json.dumps({"images": [], "annotations": [], "categories": categories}))
    index.manifest.write_text(json.dumps({"root": "unused", "classes": classes}))
    resolved = plan.runs[run_id].resolved
    config = build_config(resolved, 0, index.files(), plan.scale.runtime)
    register_all_modules(init_default_scope=True)
    torch.manual_seed(0)
    model = MODELS.build(config.model)
    folder = plan.run_folder(run_id, 0)
    folder.path.mkdir(parents=True)
    torch.save(model.state_dict(), folder.weights)
    folder.config.write_text(written_config(config, classes, resolved.protocol).pretty_text)
    return folder


def picture(path: Path) -> Path:
    noise = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return picture(tmp_path / "photo.jpg")


def plan_at(folder: Path, scale: str, **choices: str) -> Plan:
    plan = load_plan({"scale": scale, "results": str(folder / "results"), **choices})
    plan.save(plan.results / "plan.json")
    return plan


@pytest.mark.parametrize(
    ("scale", "protocol", "method", "classes"),
    [
        ("smoke", "modern", "voc-faster-r50-obc-a3-n20-k2", SHAPES),
        ("smoke", "paper_v1", "voc-cascade-r50-smoothl1", SHAPES),
        pytest.param("paper", "paper_v1", "voc-faster-r50-obc-a3-n20-k2", VOC_CLASSES,
                     marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_mmdetections_inferencers_name_the_classes_of_a_run(
    scale: str, protocol: str, method: str, classes: tuple[str, ...], image: Path
) -> None:
    plan = plan_at(image.parent, scale, protocol=protocol)
    folder = left_by_a_training(plan, next(r for r in plan.runs if r.startswith(method)), classes)
    config, weights = str(folder.config), str(folder.weights)

    model = init_detector(config, weights, device="cpu")
    assert model.dataset_meta["classes"] == classes
    found = inference_detector(model, str(image)).pred_instances
    assert (found.bboxes[:, 2:] >= found.bboxes[:, :2]).all()

    inferencer = DetInferencer(model=config, weights=weights, device="cpu", show_progress=False)
    out = image.parent / "drawn"
    result = inferencer(str(image), out_dir=str(out), no_save_pred=False, pred_score_thr=0.0)
    assert inferencer.visualizer.dataset_meta["classes"] == classes
    assert result["predictions"][0]["labels"] == found.labels.tolist()
    assert cv2.imread(str(out / "vis/photo.jpg")).shape[:2] == (90, 120)


def test_the_written_config_builds_the_model_that_was_trained(image: Path) -> None:
    plan = plan_at(image.parent, "smoke")
    run_id = next(run_id for run_id in plan.runs if run_id.startswith("voc-cascade-r50-obc"))
    folder = left_by_a_training(plan, run_id, SHAPES)
    model = MODELS.build(Config.fromfile(folder.config).model)
    state = torch.load(folder.weights, weights_only=True)
    assert list(model.state_dict()) == list(state)
    model.load_state_dict(state)


@pytest.mark.parametrize("protocol", ["modern", "paper_v1"])
def test_mmdetection_and_obc_detect_find_the_same_boxes(
    protocol: str, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_at(image.parent, "smoke", protocol=protocol)
    run_id = next(r for r in plan.runs if r.startswith("voc-faster-r50-smoothl1"))
    folder = left_by_a_training(plan, run_id, SHAPES)
    monkeypatch.chdir(image.parent)
    assert main(["detect", run_id, "photo.jpg", "--score", "0"]) == 0
    ours = [one["bbox"] for one in json.loads(Path("detections/detections.json").read_bytes())
            ["annotations"]]  # fmt: skip
    model = init_detector(str(folder.config), str(folder.weights), device="cpu")
    theirs = inference_detector(model, "photo.jpg").pred_instances.bboxes
    theirs[:, 2:] -= theirs[:, :2]
    assert torch.tensor(ours).clamp(min=0).numpy() == pytest.approx(theirs.numpy(), abs=1e-4)


def test_obc_detect_draws_pictures_and_writes_coco_json(
    image: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    plan = plan_at(image.parent, "smoke")
    run_id = next(r for r in plan.runs if r.startswith("voc-faster-r50-obc-a3-n20-k2"))
    left_by_a_training(plan, run_id, SHAPES)
    other = picture(image.parent / "second.png")
    monkeypatch.chdir(image.parent)
    words = ["detect", run_id, "photo.jpg", "second.png", "--out", "found", "--score", "0.0"]
    assert main(words) == 0, capfd.readouterr().err
    assert {path.name for path in Path("found").iterdir()} == {
        "photo.png", "second.png", "detections.json", "detect.log",
    }  # fmt: skip
    assert (cv2.imread("found/second.png") != cv2.imread(str(other))).any()
    found = COCO("found/detections.json")
    assert [one["name"] for one in found.loadCats(found.getCatIds())] == list(SHAPES)
    assert [Path(one["file_name"]) for one in found.dataset["images"]] == [image, other]
    annotations = found.dataset["annotations"]
    assert {one["image_id"] for one in annotations} == {1, 2}
    assert all(0 <= one["score"] <= 1 for one in annotations)


def test_obc_detect_says_what_is_no_image_and_what_is_no_run(
    image: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    plan = plan_at(image.parent, "smoke")
    run_id = next(r for r in plan.runs if r.startswith("voc-faster-r50-l2"))
    monkeypatch.chdir(image.parent)
    assert main(["detect", run_id, "photos.jpg"]) == 1
    assert "no such image: photos.jpg" in capfd.readouterr().err
    assert main(["detect", "voc-faster-r50-l3", "photo.jpg"]) == 1
    assert "no run starts with 'voc-faster-r50-l3'" in capfd.readouterr().err
    left_by_a_training(plan, run_id, SHAPES)
    before = picture(Path("own.png")).read_bytes()
    assert main(["detect", run_id, "own.png", "--out", "."]) == 1
    assert "own.png: is one of the images" in capfd.readouterr().err
    assert Path("own.png").read_bytes() == before
    Path("words.jpg").write_text("no pixels")
    assert main(["detect", run_id, "words.jpg"]) == 1
    assert "words.jpg: not an image that OpenCV reads" in capfd.readouterr().err

"""The examples, by MMDetection's own `tools/train.py` and `tools/test.py`, on a drawn COCO folder.

What is made small (images, widths, proposals) is made so by `--cfg-options`, as a user would.
"""

from __future__ import annotations

import json
import math
import pickle
import re
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from uuid import uuid4

import mmdet
import pytest
import torch
from conftest import ENVIRONMENT, PROJECT
from example_configs import (
    CASCADE,
    CLASS_SPECIFIC,
    DETECTORS,
    EXAMPLES,
    FASTER,
    LOOKING_AGAIN,
    MASK,
    SHAPES,
    SOFT_NMS,
    TTA,
    small_model,
)
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope

import obc.head.roi_head  # noqa: F401  conftest imports obc first: custom_imports does nothing then
from obc.datasets.drawn.shapes import class_names, generate

pytestmark = pytest.mark.xdist_group("drop_in")  # whose worker draws scenes and trains, once

TOOLS = Path(mmdet.__file__).parent / ".mim/tools"
ARGMAX = {
    FASTER: "model.roi_head.bbox_head.bbox_coder.decode_mode=argmax",
    CASCADE: "model.roi_head.bbox_head.2.bbox_coder.decode_mode=argmax",
}

# --- what a user would say to make an example small --------------------------------------------


def small(example: str, coco: Path) -> list[str]:
    """`--cfg-options` of an example: the folder's data, narrow networks, two iterations."""
    options = {
        "train_cfg.max_epochs": 1,
        "default_hooks.logger.interval": 1,
        "visualizer.name": uuid4().hex,  # MMEngine would give that of an earlier call
        **small_model(example),
        **data_options(coco),
    }
    if example == TTA:
        for size, scale in enumerate((48, 64, 80)):
            options[f"tta_pipeline.1.transforms.0.{size}.scale"] = (scale, scale)
    return [f"{key}={written(value)}" for key, value in options.items()]


def data_options(coco: Path) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for split, resize in (("train", 2), ("val", 1), ("test", 1)):
        loader = f"{split}_dataloader"
        options[f"{loader}.num_workers"] = 0
        options[f"{loader}.persistent_workers"] = False
        options[f"{loader}.dataset.data_root"] = f"{coco}/"
        options[f"{loader}.dataset.metainfo.classes"] = list(class_names(SHAPES))
        options[f"{loader}.dataset.pipeline.{resize}.scale"] = (64, 64)
    for split in ("val", "test"):
        options[f"{split}_evaluator.ann_file"] = coco / "annotations/instances_val2017.json"
    return options


def written(value: object) -> str:
    """A value as `--cfg-options` reads it: sequences without spaces and quotation marks."""
    if isinstance(value, list | tuple):
        left, right = "[]" if isinstance(value, list) else "()"
        return f"{left}{','.join(map(str, value))}{right}"
    return str(value)


# --- MMDetection's entry points ----------------------------------------------------------------


def run_tool(name: str, *arguments: object) -> None:
    """Run `tools/<name>.py` in this process, which has imported MMDetection already."""
    tool = str(TOOLS / f"{name}.py")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [tool, *map(str, arguments)])
        patch.setenv("LOCAL_RANK", "0")  # the tool would set it and leave it set
        # Laying out a config's text is most of what two iterations take.
        patch.setattr("yapf.yapflib.yapf_api.FormatCode", lambda text, **_: (text, True))
        runpy.run_path(tool, run_name="__main__")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As many tests run at once as there are cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "coco"
    generate(SHAPES, folder)
    return folder


@pytest.fixture(scope="module")
def trained(coco: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of an example's training, which is made once."""

    @cache
    def train(example: str) -> Path:
        folder = tmp_path_factory.mktemp(example)
        options = small(example, coco)
        run_tool("train", EXAMPLES[example], "--work-dir", folder, "--cfg-options", *options)
        return folder

    return train


@pytest.fixture
def tested(coco: Path, tmp_path: Path) -> Callable[..., tuple[dict[str, float], list[dict]]]:
    """Metrics and detections that `tools/test.py` finds with an example and a checkpoint."""

    def test(
        example: str, training: Path, *arguments: str, options: tuple[str, ...] = ()
    ) -> tuple[dict[str, float], list[dict]]:
        folder = Path(mkdtemp(dir=tmp_path))
        run_tool(
            "test", EXAMPLES[example], training / "epoch_1.pth", "--work-dir", folder,
            "--out", folder / "detections.pkl", *arguments,
            "--cfg-options", *small(example, coco), *options,
        )  # fmt: skip
        (metrics,) = folder.glob("*/*.json")
        return json.loads(metrics.read_text()), pickle.loads(
            (folder / "detections.pkl").read_bytes()
        )

    return test


def losses_of(training: Path) -> list[dict[str, float]]:
    (scalars,) = training.glob("*/vis_data/scalars.json")
    steps = map(json.loads, scalars.read_text().splitlines())
    return [
        {name: value for name, value in step.items() if "loss" in name}
        for step in steps
        if "loss" in step
    ]


def boxes_of(detections: list[dict]) -> torch.Tensor:
    return torch.cat([image["pred_instances"]["bboxes"] for image in detections])


def scores_of(detections: list[dict]) -> torch.Tensor:
    return torch.cat([image["pred_instances"]["scores"] for image in detections])


def differ(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape != other.shape or not torch.allclose(one, other)


# --- an example says what changes and nothing else ---------------------------------------------


@pytest.mark.parametrize("example", DETECTORS)
def test_an_example_replaces_the_box_branch_and_nothing_else(example: str) -> None:
    mine = Config.fromfile(EXAMPLES[example])
    theirs = stock(example)
    for before, after in zip(box_heads(theirs.model), box_heads(mine.model), strict=True):
        assert after["bbox_coder"].pop("bins")
        after["bbox_coder"]["type"] = before["bbox_coder"]["type"]
        for name in ("type", "loss_bbox", "reg_class_agnostic"):
            after[name] = before[name]
    assert mine.pop("custom_imports") == dict(imports=["obc"])
    if example in LOOKING_AGAIN:
        assert mine.model.roi_head.type == "OBCRoIHead"
        mine.model.roi_head.type = theirs.model.roi_head.type
    mine.pop("bins", None)  # a name of the file itself
    assert mine.to_dict() == theirs.to_dict()


@pytest.mark.parametrize("example", DETECTORS)
def test_every_weight_but_the_box_predictors_fits_the_stock_detector(example: str) -> None:
    mine = shapes_of_weights(Config.fromfile(EXAMPLES[example]))
    theirs = shapes_of_weights(stock(example))
    added = mine.keys() - theirs.keys()
    assert mine.keys() - added == theirs.keys()
    assert bool(added) == (example in LOOKING_AGAIN)
    assert all(name.startswith("roi_head.bbox_head.later_stages.") for name in added)
    other = {name for name in theirs if mine[name] != theirs[name]}
    assert other
    assert all(name.split(".")[-2] == "fc_reg" for name in other)


def test_the_readme_shows_the_first_example() -> None:
    code = EXAMPLES[FASTER].read_text().split('_1x_coco.py"\n')[1]
    assert f"```python\n{code}```" in (PROJECT / "README.md").read_text()


def test_the_page_about_the_head_names_every_example_and_says_how_to_switch_the_decoding() -> None:
    page = (PROJECT / "docs/head.md").read_text()
    assert not [name for name in EXAMPLES if f"](../examples/{name}.py)" not in page]
    assert not [option for option in ARGMAX.values() if option not in page]


def test_the_page_about_the_head_shows_the_first_example() -> None:
    code = EXAMPLES[FASTER].read_text().split('_1x_coco.py"\n')[1]
    assert code in (PROJECT / "docs/head.md").read_text()


@pytest.mark.parametrize("base", ["faster_rcnn/faster-rcnn", "mask_rcnn/mask-rcnn"])
def test_configs_of_the_page_about_the_head_build(base: str) -> None:
    page = (PROJECT / "docs/head.md").read_text()
    blocks = re.findall(r"```python\n(_base_.*?)```", page, re.DOTALL)
    stages = []
    for block in blocks:
        _, lines = block.split("\n", 1)
        config = Config.fromstring(f'_base_ = "mmdet::{base}_r50_fpn_1x_coco.py"\n{lines}', ".py")
        stages.append(any("later_stages" in name for name in shapes_of_weights(config)))
    assert stages == [True, False]


def stock(example: str) -> Config:
    """MMDetection's own config that an example begins with."""
    (first,) = re.findall(r'^_base_ = "mmdet::.*"$', EXAMPLES[example].read_text(), re.MULTILINE)
    return Config.fromstring(first, ".py")


def box_heads(model: Any) -> list[dict[str, Any]]:
    heads = model.roi_head.bbox_head
    return heads if isinstance(heads, list) else [heads]


def shapes_of_weights(config: Config) -> dict[str, torch.Size]:
    with torch.device("meta"), DefaultScope.overwrite_default_scope("mmdet"):
        model = MODELS.build(config.model)
    return {name: weight.shape for name, weight in model.state_dict().items()}


# --- it trains and is tested -------------------------------------------------------------------


@pytest.mark.parametrize(
    "example",
    [FASTER]
    + [
        pytest.param(name, marks=pytest.mark.slow)
        for name in (*DETECTORS, CLASS_SPECIFIC)
        if name != FASTER
    ],
)
def test_it_trains_and_its_checkpoint_is_tested(example: str, trained, tested) -> None:
    losses = losses_of(trained(example))
    assert len(losses) == 2
    assert all(math.isfinite(loss) for step in losses for loss in step.values())
    assert all(step[name] > 0 for step in losses for name in step if name.endswith("loss_bbox"))
    metrics, detections = tested(example, trained(example))
    assert 0 <= metrics["coco/bbox_mAP"] <= 1
    assert len(boxes_of(detections)) > 0


@pytest.mark.slow
def test_mask_rcnn_segments_too(trained, tested) -> None:
    assert all(step["loss_mask"] > 0 for step in losses_of(trained(MASK)))
    metrics, detections = tested(MASK, trained(MASK))
    assert 0 <= metrics["coco/segm_mAP"] <= 1
    assert all("masks" in image["pred_instances"] for image in detections)


@pytest.mark.slow
def test_class_specific_boxes_have_bins_for_each_class(trained) -> None:
    for example, sets in ((FASTER, 1), (CLASS_SPECIFIC, SHAPES.num_classes)):
        weights = torch.load(trained(example) / "epoch_1.pth", weights_only=False)["state_dict"]
        for stage in ("fc_reg", "later_stages.0.fc_reg"):
            assert len(weights[f"roi_head.bbox_head.{stage}.bias"]) == sets * 4 * 22


@pytest.mark.parametrize("example", [FASTER, pytest.param(CASCADE, marks=pytest.mark.slow)])
def test_the_decoding_is_chosen_when_testing(example: str, trained, tested) -> None:
    _, expectation = tested(example, trained(example))
    _, argmax = tested(example, trained(example), options=(ARGMAX[example],))
    assert differ(boxes_of(expectation), boxes_of(argmax))


@pytest.mark.slow
def test_soft_nms_lowers_the_scores_of_overlapping_boxes(trained, tested) -> None:
    _, hard = tested(FASTER, trained(FASTER))
    metrics, soft = tested(SOFT_NMS, trained(FASTER))
    assert 0 <= metrics["coco/bbox_mAP"] <= 1
    assert differ(scores_of(hard), scores_of(soft))


@pytest.mark.slow
@pytest.mark.parametrize(("example", "training"), [(TTA, FASTER), (CASCADE, CASCADE)])
def test_augmentation_at_test_time_merges_the_views(
    example: str, training: str, trained, tested
) -> None:
    """Views of the example's own, and MMDetection's own where a config names none."""
    _, plain = tested(training, trained(training))
    metrics, merged = tested(example, trained(training), "--tta")
    assert 0 <= metrics["coco/bbox_mAP"] <= 1
    assert differ(boxes_of(plain), boxes_of(merged))


@pytest.mark.slow
def test_from_a_shell_in_any_folder(coco: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, TOOLS / "train.py", EXAMPLES[FASTER], "--cfg-options",
         *small(FASTER, coco)],
        cwd=tmp_path, env={**ENVIRONMENT, "PYTHONPATH": str(PROJECT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / f"work_dirs/{FASTER}/epoch_1.pth").is_file()

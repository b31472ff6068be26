"""The benchmark for GPU machines, tried out on the CPU."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from argparse import Namespace
from pathlib import Path

import pytest
from conftest import PROJECT, Workspace

pytestmark = pytest.mark.xdist_group("train")

SCRIPT = PROJECT / "benchmarks/gpu_training.py"


@pytest.fixture(scope="module")
def script():
    specification = importlib.util.spec_from_file_location("gpu_training", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_switches_are_read_as_runtime_keys(script) -> None:
    assert script.switches_of("") == {}
    assert script.switches_of("channels_last,amp=bf16,tf32=false") == {
        "channels_last": True, "amp": "bf16", "tf32": False,
    }  # fmt: skip


@pytest.mark.slow
def test_the_stock_row_is_mmdetection_s_config_on_the_same_data_and_batches(
    script, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmengine.config import Config

    from obc.detector.model_config import BASE_CONFIGS

    monkeypatch.chdir(workspace.folder)
    plan = workspace.plan(scale="smoke")
    monkeypatch.setattr(script, "plan_of", lambda options: plan)
    options = Namespace(image_scale=(64, 64), batch_size=4, workers=0)
    ours, _ = script.training_config(options, {"model": "regression", "switch": ""})
    stock, runtime = script.training_config(options, {"model": "stock", "switch": "tf32"})
    assert runtime.tf32 is True
    assert stock.train_dataloader == ours.train_dataloader
    assert stock.train_dataloader.batch_size == 4
    assert stock.optim_wrapper == ours.optim_wrapper
    shipped = Config.fromfile(BASE_CONFIGS / "faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py").model
    shipped.backbone.init_cfg = None
    shipped.roi_head.bbox_head.num_classes = 4
    assert stock.model == shipped


@pytest.mark.slow
def test_the_benchmark_prints_speed_memory_and_a_profile(workspace: Workspace, tmp_path) -> None:
    plan = workspace.plan(scale="smoke")
    manifest = json.loads(
        (workspace.folder / plan.index_folder("voc") / "manifest.json").read_text()
    )
    done = workspace.run(
        sys.executable, SCRIPT, Path(plan.data_folder("voc")) / "VOC2007",
        "--classes", *manifest["classes"],
        "--scale", "smoke", "--device", "cpu", "--image-scale", 64, 64, "--batch-size", 2,
        "--iterations", 1, "--workers", 0, "--models", "full", "--switches",
        "--results", tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    row = re.search(r"\| OBC, K = 2 \| ([\d.]+) \| ([\d.]+) \| (\d+) \| ([\d.]+) \|", done.stdout)
    assert row, done.stdout + done.stderr
    speed, milliseconds, memory, loss = map(float, row.groups())
    assert speed == pytest.approx(2000 / milliseconds, rel=0.1) and memory > 100 and loss > 0
    assert "| operation | ms | share |" in done.stdout and "`aten::" in done.stdout

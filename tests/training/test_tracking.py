"""`--config tracking=..`: what a tracker gets, and that it decides nothing."""

from __future__ import annotations

import json
from pathlib import Path

import mmengine.visualization  # noqa: F401
import pytest
from conftest import Workspace
from mmengine.config import Config
from mmengine.registry import VISUALIZERS

from obc.config.load_plan import load_plan
from obc.config.plan import Plan
from obc.training.tracking import MissingTracker, visualizer
from obc.training.train import TrainingRunner


def any_run(plan: Plan) -> str:
    return next(run for run in plan.runs if run.startswith("voc-faster-r50-l2"))


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Step and value of every scalar in the event files of a folder."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder))
    events.Reload()
    return {
        tag: [(one.step, one.value) for one in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def test_tracking_is_no_part_of_a_run_id_or_of_a_result_folder() -> None:
    plain, tracked = load_plan({}), load_plan({"tracking": "tensorboard"})
    assert list(plain.trainings) == list(tracked.trainings)
    assert plain.results == tracked.results
    run_id = any_run(plain)
    assert visualizer(None, plain.run(run_id, 0)) is None


@pytest.mark.parametrize("tracking", ["tensorboard", "wandb", "mlflow"])
def test_the_visualizer_is_named_as_the_training(
    tracking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("obc.training.tracking.find_spec", lambda name: name)
    plan = load_plan({"tracking": tracking})
    run = plan.run(any_run(plan), 0)
    settings = visualizer(tracking, run)
    assert settings["name"] == f"{run.run_id}-seed0"
    assert settings["save_dir"] == f"{run.folder.path}/tracking"
    assert settings["vis_backends"][0]["type"].lower() == f"{tracking}visbackend"


def test_a_missing_tracker_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("obc.training.tracking.find_spec", lambda name: None)
    plan = load_plan({})
    with pytest.raises(MissingTracker, match="wandb is not installed; pip install wandb"):
        visualizer("wandb", plan.run(any_run(plan), 0))


def test_tensorboard_gets_what_is_logged(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    plan = load_plan({"results": str(tmp_path)})
    run = plan.run(any_run(plan), 0)
    settings = dict(visualizer("tensorboard", run), type="Visualizer")
    drawing = VISUALIZERS.build(Config(dict(visualizer=settings)).visualizer)
    for step, loss in ((1, 2.5), (2, 1.25)):
        drawing.add_scalars({"loss": loss}, step=step)
    drawing.close()
    (events,) = run.folder.tracking.rglob("events.out.tfevents.*")
    assert scalars(events.parent)["loss"] == [(1, 2.5), (2, 1.25)]


def test_a_runner_writes_losses_where_the_tracker_s_files_are_to_lie(tmp_path: Path) -> None:
    """With MMEngine's own backend, which needs no tracker."""
    runner = TrainingRunner.__new__(TrainingRunner)
    runner._log_dir, runner._experiment_name = str(tmp_path / "log"), "experiment"
    tracked = dict(
        name="a-run-seed0",
        save_dir=str(tmp_path / "tracking"),
        vis_backends=[dict(type="LocalVisBackend")],
    )
    for settings, folder in ((tracked, "tracking"), (None, "log")):
        recorder = runner.build_visualizer(settings)
        recorder.add_scalars({"loss": 2.5}, step=1)
        (written,) = (tmp_path / folder).rglob("scalars.json")
        assert json.loads(written.read_text())["loss"] == 2.5


@pytest.mark.slow
@pytest.mark.xdist_group("train")
def test_a_training_leaves_its_losses_in_an_event_file(workspace: Workspace) -> None:
    pytest.importorskip("tensorboard")
    plan = workspace.plan(scale="smoke", tracking="tensorboard")
    run_id = any_run(plan)
    done = workspace.obc("train", plan.results / "plan.json", run_id)
    assert done.returncode == 0, done.stderr
    folder = plan.run_folder(run_id, 0)
    (events,) = (workspace.folder / folder.tracking).rglob("events.out.tfevents.*")
    found = scalars(events.parent)
    assert {"loss", "loss_bbox", "lr"} <= found.keys()
    assert all(value > 0 for _, value in found["loss"])
    assert "Tensorboard" not in (workspace.folder / folder.config).read_text()

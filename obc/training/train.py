"""Train one run with one seed: from a plan and a run id to the weights and their record.

The training writes checkpoints into the run's work folder. A later call resumes the newest
checkpoint and ends with the same weights.
"""

from __future__ import annotations

import resource
import shutil
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from pprint import pformat
from types import SimpleNamespace
from typing import Any, TextIO

import torch
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.dist import get_world_size
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmengine.visualization import Visualizer
from torch import nn

from obc.config.downloads import with_fetched_weights
from obc.config.plan import Plan, Run
from obc.config.run_folder import RunFolder
from obc.config.scale import HUB, Network, Runtime
from obc.detector.precision import out_of_memory_explained, prepare, with_amp
from obc.io.errors import SuiteError
from obc.io.files import atomic_path, remove_leftovers, write_json
from obc.runs.records import weights_record
from obc.runs.versions import code_version
from obc.training.hooks import ProgressHook, SessionHook, StopHook
from obc.training.mmdet_config import build_config
from obc.training.sessions import (
    begin_session,
    note_failure,
    note_interruption,
    save_sessions,
    starting_weights,
    training_version,
)
from obc.training.stop_signals import Interrupted, StopRequest, stop_requests
from obc.training.tracking import visualizer
from obc.training.written_config import written_config


class MissingPackage(SuiteError):
    """A package that only some scales need is not installed."""


def train(plan: Plan, run_id: str, seed: int, terminal: TextIO) -> RunFolder:
    """Train a run, or resume its training, and write its final files.

    The caller must have claimed the run (`sessions`). If several processes train it together
    (`distributed`), the first of them calls this function.

    SIGTERM and SIGINT stop the training with a checkpoint after the current iteration. They do not
    interrupt the writing of the final files.

    Args:
        plan: the resolved plan that names the run.
        seed: of weights, data order and sampling.
        terminal: gets progress lines; everything else is printed to stdout.

    Returns:
        The run's folder.

    Raises:
        TrainingDiverged: the loss became nan or infinite.
        CheckpointNotWritten: the disk is full.
        Interrupted: a signal came; a SystemExit, with status 143 for SIGTERM and 130 for SIGINT.
    """
    folder = plan.run_folder(run_id, seed)
    try:
        with stop_requests() as stop:
            _train(plan, run_id, seed, terminal, stop)
            # Checkpoints are not needed once the final weights are written. NFS keeps the names of
            # open files (lock and log) for a while; that must not be an error.
            shutil.rmtree(folder.work, ignore_errors=True)
    except Interrupted as interruption:
        iteration = note_interruption(folder, interruption)
        print(
            f"{run_id} seed {seed}: stopped by {interruption.signal.name} after iteration "
            f"{iteration}; started again, it goes on from there",
            file=terminal,
        )
        raise
    except Exception as error:
        note_failure(folder, error)
        raise
    return folder


def follow(plan: Plan, run_id: str, seed: int) -> None:
    """Train in the other processes of a distributed training: the same steps, writing no files.

    The process that calls `train` prepares the work folder before the processes first synchronise.
    """
    with stop_requests() as stop:
        runner = build_runner(_config(plan, run_id, seed), plan.scale.runtime)
        runner.register_hook(StopHook(stop))
        runner.train()


class MissingWeights(SuiteError):
    """The file that a network starts from is not there."""


def require_weights_source(network: Network, pretrained: str | None) -> None:
    """Raise an error that names the remedy, before a training fails minutes into a job.

    Args:
        network: the network that starts from the weights.
        pretrained: its checkpoint.

    Raises:
        MissingPackage: timm, or torchvision for `torchvision://` weights, is needed but missing.
        MissingWeights: `pretrained` is a file that is missing.
    """
    if network.timm is not None and find_spec("timm") is None:
        raise MissingPackage(
            f"{network.backbone}: timm, which has this network, is not installed; "
            "docs/photos.md says how to install it"
        )
    if pretrained and "://" not in pretrained and pretrained != HUB:
        file = Path(pretrained)
        if not file.is_file():
            raise MissingWeights(
                f"{file}: not there, and a network starts from it; {network.remedy}"
            )
    if (pretrained or "").startswith("torchvision://") and find_spec("torchvision") is None:
        raise MissingPackage(
            f"{pretrained}: torchvision, which knows where these weights lie, is not installed; "
            "`obc fetch` the weights, or `pip install torchvision` in the version that goes with "
            f"torch {torch.__version__}"
        )


def _config(plan: Plan, run_id: str, seed: int) -> Config:
    run = plan.run(run_id, seed)
    files = run.index.files()
    resolved = with_fetched_weights(run.resolved, plan.published)
    require_weights_source(resolved.network, resolved.network.checkpoint(resolved.spec.detector))
    weights = starting_weights(plan, run_id, seed)
    config = build_config(
        resolved,
        seed,
        files,
        plan.scale.runtime,
        weights,
        get_world_size(),
        plan.config.plugins,
    )
    config.work_dir = str(run.folder.work)
    config.visualizer = visualizer(plan.config.tracking, run)
    return config


def _train(plan: Plan, run_id: str, seed: int, terminal: TextIO, stop: StopRequest) -> None:
    run = plan.run(run_id, seed)
    folder, work = run.folder, run.folder.work
    config = _config(plan, run_id, seed)
    manifest = run.index.read_manifest()
    code = code_version()
    version = training_version(plan, run_id, seed, get_world_size())
    sessions = begin_session(work, version, plan.scale.runtime.keep_weights, terminal)
    for path in (folder.weights, folder.config, folder.record):
        remove_leftovers(path)
    for stale in folder.evaluations():
        stale.unlink()  # of weights that are about to be replaced
    progress = ProgressHook(str(run), terminal, work.progress)
    runner = build_runner(config, plan.scale.runtime)
    runner.register_hook(progress)
    runner.register_hook(SessionHook(sessions[-1], lambda: save_sessions(work, sessions), progress))
    runner.register_hook(StopHook(stop))
    model = runner.train()
    folder.record.unlink(missing_ok=True)  # it describes the weights that are replaced now
    _save(run, model.module if is_model_wrapper(model) else model, runner)
    record = _record(plan, run_id, seed, sessions, runner)
    record["initial_weights_sha256"] = version["initial_weights_sha256"]
    data = {"sha256": manifest["sha256"], "splits": manifest["splits"]}
    write_json(folder.record, {**record, "data": data, "code": code})


def _save(run: Run, model: nn.Module, runner: Runner) -> None:
    """Write the weights as a plain state dict, and the config that they were trained with."""
    # To an open file: given a path, torch writes the temporary name into the archive, and equal
    # weights would have different hashes.
    with atomic_path(run.folder.weights) as path, path.open("wb") as file:
        torch.save({key: value.cpu() for key, value in model.state_dict().items()}, file)
    config = written_config(runner.cfg, run.index.files().classes, run.resolved.protocol)
    with atomic_path(run.folder.config) as path:
        path.write_text(FinishedConfig(config.to_dict()).pretty_text, encoding="utf-8")


def _record(
    plan: Plan, run_id: str, seed: int, sessions: list[dict[str, Any]], runner: Runner
) -> dict[str, Any]:
    """Record of the training, its time and its machine; times are sums over all sessions."""
    seconds, images = (sum(session[key] for session in sessions) for key in ("seconds", "images"))
    return {
        **weights_record(plan, run_id, seed),
        "processes": get_world_size(),
        "numerics": plan.scale.runtime.numerics,
        "started": sessions[0]["started"],
        "seconds": round(seconds, 2),
        "images_per_second": round(images / seconds, 2) if seconds else None,
        "iterations": runner.max_iters,
        "sessions": sessions,
        "peak_memory_mib": _peak_memory_mib(),
    }


class FinishedConfig(Config):
    """A config that is not edited any more, so that its text is formatted only once.

    MMEngine reads the text at every checkpoint, and MMEngine's formatter, YAPF, takes longer than
    writing the checkpoint of a small network.
    """

    @cached_property
    def pretty_text(self) -> str:
        """The text, formatted once: a Python file that MMEngine reads back as the same config."""
        values = self.to_dict().items()
        return "".join(
            f"{key} = {pformat(value, 1, 100, sort_dicts=False)}\n" for key, value in values
        )


class LossRecorder(Visualizer):
    """MMEngine's visualizer for scalars only, without the figure that a visualizer creates."""

    def _initialize_fig(self, fig_cfg: dict[str, Any]) -> tuple[None, SimpleNamespace, None]:
        return None, SimpleNamespace(get_dpi=lambda: 0), None


class TrainingRunner(Runner):
    """MMEngine's runner for a config with `numerics`, the precision switches of its model."""

    def wrap_model(self, model_wrapper_cfg: dict[str, Any] | None, model: nn.Module) -> nn.Module:
        """Prepare the model, then wrap it if several processes train."""
        return super().wrap_model(model_wrapper_cfg, prepare(model, Runtime(**self.cfg.numerics)))

    def build_visualizer(self, visualizer: dict[str, Any] | None = None) -> Visualizer:
        """The visualizer that writes losses; it draws nothing, so it needs no figure."""
        options = visualizer or dict(
            name=self._experiment_name,
            save_dir=self._log_dir,
            vis_backends=[dict(type="LocalVisBackend")],
        )
        return LossRecorder.get_instance(**options)

    def train(self) -> nn.Module:
        """Train; if the device's memory is too small, raise an error that says what to change."""
        loader = self.cfg.train_dataloader
        with out_of_memory_explained(
            f"training with {loader.batch_size} images a device",
            "Make schedule.batch_size or sizes.image_scale smaller (another run, other numbers), "
            "set runtime.amp: bf16, or share the batch: --config gpus_per_run=2 (or more).",
        ):
            return super().train()


def build_runner(config: Config, runtime: Runtime) -> Runner:
    """MMEngine's runner of a training config, MMDetection's modules registered.

    Raises:
        PrecisionError: a switch of the runtime needs a GPU.
    """
    register_all_modules(init_default_scope=True)
    config = with_amp(config, runtime)
    config.numerics = runtime.numerics
    return TrainingRunner.from_cfg(FinishedConfig(config.to_dict()))


def _peak_memory_mib() -> dict[str, float]:
    peak = {"host": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)}
    if torch.cuda.is_available():
        peak["device"] = round(torch.cuda.max_memory_allocated() / 2**20, 1)
    return peak

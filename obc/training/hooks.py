"""MMEngine hooks of a training: checkpoints, stops, progress."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import torch
from mmengine.dist import barrier, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from obc.config.run_folder import WorkFolder
from obc.io.errors import SuiteError
from obc.io.files import write_json
from obc.training.checkpoints import newest_checkpoint
from obc.training.sessions import process_identity
from obc.training.stop_signals import Interrupted, StopRequest, agreed, group_on_cpu


class TrainingDiverged(SuiteError):
    """The loss or a weight is not finite; the message names iteration and last good checkpoint."""


def save_checkpoint(runner: Runner) -> None:
    """Write a checkpoint of finite weights, at the end of an iteration, in the main process.

    Raises:
        TrainingDiverged: a weight is not finite, so such a checkpoint would be useless.
        CheckpointNotWritten: the disk is full.
    """
    if not is_main_process():
        return
    weights = runner.train_loop.model.parameters()
    if not all(bool(torch.isfinite(weight).all()) for weight in weights):
        raise _diverged(runner, "a weight is nan or infinite")
    runner.train_loop.save()
    runner.call_hook("after_save_checkpoint")


@HOOKS.register_module()
class IterationCheckpointHook(Hook):
    """Writes a checkpoint at intervals of time, and after the last iteration of each epoch.

    Args:
        minutes: of training between two checkpoints; 0: after every iteration, None: only at the
            end of each epoch.
    """

    priority = "VERY_LOW"

    def __init__(self, minutes: float | None) -> None:
        self.seconds = math.inf if minutes is None else 60 * minutes

    def before_train(self, runner: Runner) -> None:
        """Start the clock."""
        self.written = time.monotonic()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: object = None
    ) -> None:
        """Write a checkpoint if one is due."""
        due = time.monotonic() - self.written >= self.seconds
        if due or self.end_of_epoch(runner.train_dataloader, batch_idx):
            save_checkpoint(runner)
            self.written = time.monotonic()


class StopHook(Hook):
    """After a stop signal, saves a checkpoint at the end of the iteration and stops the training.

    Args:
        request: receives signals; the hook tells it when the training loop begins.

    Raises:
        Interrupted: in all processes of a training at the same iteration.
    """

    priority = "VERY_LOW"

    def __init__(self, request: StopRequest) -> None:
        self.request = request

    def before_train(self, runner: Runner) -> None:
        """Defer signals to the end of the iteration from now on."""
        self.request.deferred = True
        self.group = group_on_cpu()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: object = None
    ) -> None:
        """After a signal, save this iteration unless it is saved already, and stop."""
        number = agreed(self.request.number, self.group)
        if not number:
            return
        if not WorkFolder(Path(runner.work_dir)).checkpoint(runner.iter + 1).exists():
            save_checkpoint(runner)
        # If another process ended earlier, the launcher would kill the first one while it saves.
        barrier(self.group)
        raise Interrupted(number)


class SessionHook(Hook):
    """Records after each checkpoint how much this session has trained, in case it is killed.

    The record is written after the checkpoint: a kill between the two leaves a record of slightly
    less than the checkpoint has. In the other order the record could have more, which the next
    session would train and count again.

    Args:
        session: the session's record; `seconds` and `images` are kept up to date in it.
        save: writes the records of all sessions.
        progress: counts seconds and images.
    """

    def __init__(
        self, session: dict[str, Any], save: Callable[[], None], progress: ProgressHook
    ) -> None:
        self.session = session
        self.save = save
        self.progress = progress

    def after_save_checkpoint(self, runner: Runner) -> None:
        """Update the record."""
        self.session.update(seconds=round(self.progress.seconds, 2), images=self.progress.images)
        with suppress(OSError):  # on a full disk the next checkpoint raises an error with a remedy
            self.save()


@HOOKS.register_module()
class NonFiniteLossHook(Hook):
    """Stops the training when the loss is nan or infinite.

    Reading the loss waits for a GPU, so on a GPU the hook checks only every `interval` iterations.
    Independently of the loss, weights that are not finite are never written to a checkpoint.

    Raises:
        TrainingDiverged: with the iteration and the last good checkpoint.
    """

    priority = "HIGH"

    def __init__(self, interval: int = 50) -> None:
        self.interval = interval

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: object = None
    ) -> None:
        """Check this iteration's summed loss."""
        loss = outputs["loss"]
        if loss.is_cuda and not self.every_n_train_iters(runner, self.interval):
            return
        if not torch.isfinite(loss).all():
            raise _diverged(runner, f"loss is {loss.item()}")


def _diverged(runner: Runner, what: str) -> TrainingDiverged:
    checkpoint = newest_checkpoint(Path(runner.work_dir)) or "none: it failed before the first one"
    return TrainingDiverged(
        f"{what}, noticed at iteration {runner.iter + 1} (epoch {runner.epoch + 1} of "
        f"{runner.max_epochs}); last good checkpoint: {checkpoint}. "
        f"Lower schedule.lr or check the data"
    )


class ProgressHook(Hook):
    """Reports the progress of a training: lines on a stream, and a file for `obc status`.

    Args:
        name: of the run.
        stream: gets the lines, e.g. the terminal.
        path: of the file.
        print_seconds: shortest time between two lines, so a training of seconds prints none.
        write_seconds: shortest time between two writes; the first is after the first iteration.
    """

    def __init__(
        self,
        name: str,
        stream: TextIO,
        path: Path,
        print_seconds: float = 15.0,
        write_seconds: float = 5.0,
    ) -> None:
        self.name = name
        self.stream = stream
        self.path = path
        self.print_seconds = print_seconds
        self.write_seconds = write_seconds
        self.images = 0

    def before_train(self, runner: Runner) -> None:
        """Start the clock; print where a resumed training continues."""
        self.started = self.printed = time.monotonic()
        self.written = -math.inf
        self.first_iter = runner.iter
        if runner.iter:
            print(
                f"{self.name}: resumed after iteration {runner.iter} of {runner.max_iters}",
                file=self.stream,
                flush=True,
            )

    @property
    def seconds(self) -> float:
        """Time since the training loop started in this process."""
        return time.monotonic() - self.started

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: object = None
    ) -> None:
        """Count images; print a line and write the file if they are due."""
        self.images += len(data_batch["inputs"]) * get_world_size()
        now = time.monotonic()
        to_write = now - self.written >= self.write_seconds
        to_print = now - self.printed >= self.print_seconds
        if not (to_write or to_print):
            return
        progress = self._progress(runner, outputs["loss"].item())
        if to_write:
            self.written = now
            # On a GPU a loss that is not finite may get here before NonFiniteLossHook checks it.
            loss = progress["loss"]
            with suppress(OSError):  # on a full disk the next checkpoint raises an error
                write_json(self.path, {**progress, "loss": loss if math.isfinite(loss) else None})
        if to_print:
            self.printed = now
            print(_progress_line(self.name, progress), file=self.stream, flush=True)

    def _progress(self, runner: Runner, loss: float) -> dict[str, Any]:
        seconds, iteration = self.seconds, runner.iter + 1
        left = seconds / (iteration - self.first_iter) * (runner.max_iters - iteration)
        return {
            "epoch": runner.epoch + 1,
            "epochs": runner.max_epochs,
            "iteration": iteration,
            "iterations": runner.max_iters,
            "loss": loss,
            "images_per_second": round(self.images / seconds, 2),
            "seconds_left": round(left, 1),
            "updated": datetime.now(UTC).isoformat(timespec="seconds"),
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
            **process_identity(),
        }


def _progress_line(name: str, progress: dict[str, Any]) -> str:
    left = int(progress["seconds_left"])
    return (
        "{name}: epoch {epoch}/{epochs}, iteration {iteration}/{iterations}, loss {loss:.3f}, "
        "{images_per_second:.1f} images/s, {minutes}:{seconds:02d} left"
    ).format(name=name, minutes=left // 60, seconds=left % 60, **progress)

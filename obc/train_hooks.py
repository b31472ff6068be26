"""MMEngine hooks of a training: reproducible epochs, a stop on a non-finite loss, progress."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TextIO

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner, find_latest_checkpoint, set_random_seed

from obc.errors import SuiteError


class TrainingDiverged(SuiteError):
    """The loss became nan or infinite; the message says when and where to go on from."""


@HOOKS.register_module()
class EpochSeedHook(Hook):
    """Seeds every generator from (seed, epoch) when an epoch starts.

    A training that is killed and resumed at an epoch's checkpoint then draws the same
    augmentations and samples the same RoIs as one that was never interrupted.
    """

    priority = "VERY_HIGH"

    def before_train_epoch(self, runner: Runner) -> None:
        """Reseed Python, NumPy and torch."""
        set_random_seed((runner.seed * 100_003 + runner.epoch) % 2**32)


class SessionHook(Hook):
    """Notes after each epoch how much this session has trained, for when it is killed.

    Args:
        session: the session's record; `seconds` and `images` are kept up to date in it.
        save: writes the records of all sessions.
        progress: counts.
    """

    priority = "LOW"

    def __init__(
        self, session: dict[str, Any], save: Callable[[], None], progress: ProgressHook
    ) -> None:
        self.session = session
        self.save = save
        self.progress = progress

    def after_train_epoch(self, runner: Runner) -> None:
        """Bring the record up to date."""
        self.session.update(seconds=round(self.progress.seconds, 2), images=self.progress.images)
        self.save()


@HOOKS.register_module()
class NonFiniteLossHook(Hook):
    """Stops the training when the loss is nan or infinite.

    On a GPU reading the loss waits for the device, so there it looks only every `interval`
    iterations and before each checkpoint is written.

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
        due = self.every_n_train_iters(runner, self.interval)
        if loss.is_cuda and not (due or self.end_of_epoch(runner.train_dataloader, batch_idx)):
            return
        if torch.isfinite(loss).all():
            return
        checkpoint = find_latest_checkpoint(runner.work_dir) or "none: it failed in its first epoch"
        raise TrainingDiverged(
            f"loss is {loss.item()} at iteration {runner.iter + 1} (epoch {runner.epoch + 1} of "
            f"{runner.max_epochs}); last good checkpoint: {checkpoint}. "
            f"Lower schedule.lr or check the data"
        )


class ProgressHook(Hook):
    """Prints one line now and then: which run, epoch, iteration, loss, images/s, time left.

    Args:
        name: of the run.
        stream: where a person looks, e.g. the terminal.
        every_seconds: at most one line in this time, so a run of seconds prints none.
    """

    def __init__(self, name: str, stream: TextIO, every_seconds: float = 15.0) -> None:
        self.name = name
        self.stream = stream
        self.every_seconds = every_seconds
        self.images = 0

    def before_train(self, runner: Runner) -> None:
        """Start the clock; say where a resumed run goes on."""
        self.started = self.printed = time.monotonic()
        self.first_iter = runner.iter
        if runner.iter:
            print(f"{self.name}: resumed after epoch {runner.epoch}", file=self.stream, flush=True)

    @property
    def seconds(self) -> float:
        """Time since the training loop started in this process."""
        return time.monotonic() - self.started

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: object = None
    ) -> None:
        """Count, and print when it is time."""
        self.images += len(data_batch["inputs"])
        now = time.monotonic()
        if now - self.printed < self.every_seconds:
            return
        self.printed = now
        done = runner.iter + 1 - self.first_iter
        seconds = self.seconds
        left = seconds / done * (runner.max_iters - runner.iter - 1)
        print(
            f"{self.name}: epoch {runner.epoch + 1}/{runner.max_epochs}, "
            f"iteration {runner.iter + 1}/{runner.max_iters}, loss {outputs['loss'].item():.3f}, "
            f"{self.images / seconds:.1f} images/s, {int(left // 60)}:{int(left % 60):02d} left",
            file=self.stream,
            flush=True,
        )

"""The sessions of one training: each start, and its progress until it ended or was killed.

Weights that were trained partly by one version of the code or data and partly by another are not a
valid result. So a session resumes an earlier session's checkpoint only if code, data, starting
weights, precision and number of processes are the same. The scale's `keep_weights` overrides this;
the run's record then lists every version.

This module does not start CUDA: a run is claimed before a GPU is leased for it (`gpu_lease`).
"""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from obc.config.plan import Plan
from obc.config.run_folder import RunFolder, WorkFolder, iteration_of
from obc.io.errors import SuiteError
from obc.io.files import file_sha256, read_record, write_json
from obc.runs.lock import training_lock
from obc.runs.versions import TRAINING_CODE, code_digest
from obc.training.checkpoints import drop_damaged, newest_checkpoint

if TYPE_CHECKING:
    from obc.training.stop_signals import Interrupted  # imports MMEngine, which starts CUDA

Version = dict[str, str | int | None]


class NoInitialWeights(SuiteError):
    """The weights that a run starts from have not been trained."""


@contextmanager
def claimed(
    plan: Plan, run_id: str, seed: int, processes: int, patience: float, terminal: TextIO
) -> Iterator[TextIO | None]:
    """Lock a run while it is trained, unless another process finishes it before the lock is free.

    A run is claimed before a GPU is leased, so that a process that waits for a run holds no GPU.

    Args:
        plan: the resolved plan that names the run.
        seed: of the training.
        processes: number of processes that are to train it.
        patience: seconds to wait for another process that holds the run.
        terminal: gets a line if another process has trained the run.

    Yields:
        The lock, an open file; None if another process has trained the run meanwhile, in a version
        whose checkpoints this process could resume.

    Raises:
        RunBusy: another process holds the run.
    """
    folder = plan.run_folder(run_id, seed)
    before = read_record(folder.record)
    with training_lock(folder, patience) as lock:
        now = read_record(folder.record)
        if now is not None and now != before:
            version = training_version(plan, run_id, seed, processes)
            # Imported weights have no sessions.
            if _fit(now.get("sessions") or [], version, plan.scale.runtime.keep_weights):
                shutil.rmtree(folder.work, ignore_errors=True)
                print(f"{run_id} seed {seed}: trained by another process meanwhile", file=terminal)
                yield None
                return
        work = folder.work
        for note in (work.failed, work.interrupted, work.progress):  # of the last session
            note.unlink(missing_ok=True)
        yield lock


def training_version(plan: Plan, run_id: str, seed: int, processes: int) -> Version:
    """Everything that decides a run's weights, except spec and seed, which name its folder.

    Args:
        processes: number of processes that train together; each draws other random numbers.

    Returns:
        training_code (digest of the code that decides weights), data_sha256 (of the indexed data
        set), initial_weights_sha256, numerics (the switches of precision), processes.

    Raises:
        NotIndexed: the data set has not been indexed.
        NoInitialWeights: the run that provides the starting weights is not trained.
    """
    initial_weights = starting_weights(plan, run_id, seed)
    return {
        "training_code": code_digest(TRAINING_CODE),
        "data_sha256": plan.index_folder(plan.dataset_of(run_id)).read_manifest()["sha256"],
        "initial_weights_sha256": initial_weights and file_sha256(initial_weights),
        "numerics": json.dumps(plan.scale.runtime.numerics),
        "processes": processes,
    }


def starting_weights(plan: Plan, run_id: str, seed: int) -> Path | None:
    """The trained weights that a run starts from; None for a run that starts from none.

    Raises:
        NoInitialWeights: they are not there.
    """
    path = plan.initial_weights(run_id, seed)
    if path is not None and not path.exists():
        raise NoInitialWeights(
            f"{path}: not there; {run_id} seed {seed} starts from the weights of "
            f"{plan.trainings[run_id].resolved.initial_run}, train that one first (`obc train`)"
        )
    return path


def begin_session(
    work: WorkFolder, version: Version, keep_weights: bool, terminal: TextIO
) -> list[dict[str, Any]]:
    """Add a session to the record in a work folder; delete checkpoints that it cannot resume.

    Args:
        work: the training's work folder, with the checkpoints of earlier sessions if any.
        version: of this session, see `training_version`; a training must not mix versions.
        keep_weights: resume earlier checkpoints of any version.
        terminal: gets a line if a training starts over, or goes back to an older checkpoint.

    Returns:
        All sessions that contribute to the weights, oldest first; the last one is the new session.
        Each has started, version, seconds, images and resumed_from (the iteration after which it
        continues; 0: from the start).
    """
    path = work.sessions
    earlier = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    if earlier and not _fit(earlier, version, keep_weights):
        print(
            f"{work}: code, data, starting weights, precision or number of processes changed since "
            "this training began; it starts over",
            file=terminal,
        )
        earlier = []
    if not earlier:  # these checkpoints are of an unknown or another version
        for checkpoint in work.path.glob("*.pth"):
            checkpoint.unlink()
    resumed_from = iteration_of(drop_damaged(work.path, terminal))
    if not resumed_from and any(session["images"] for session in earlier):
        print(f"{work}: no whole checkpoint is left; the training starts over", file=terminal)
        earlier = []
    session = {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        **version,
        "seconds": 0.0,
        "images": 0,
        "resumed_from": resumed_from,
        **process_identity(),
    }
    sessions = [*earlier, session]
    save_sessions(work, sessions)
    return sessions


def _fit(sessions: list[dict[str, Any]], version: Version, keep_weights: bool) -> bool:
    """Whether checkpoints of these sessions may be resumed under this version."""
    same = all({key: session.get(key) for key in version} == version for session in sessions)
    return bool(sessions) and (same or keep_weights)


def process_identity() -> dict[str, Any]:
    """Process id, machine and scheduler job of the process that writes a record."""
    return {"pid": os.getpid(), "host": platform.node(), "job": os.environ.get("SLURM_JOB_ID")}


def save_sessions(work: WorkFolder, sessions: list[dict[str, Any]]) -> None:
    """Write the record of all sessions."""
    write_json(work.sessions, sessions)


def note_failure(folder: RunFolder, error: Exception) -> None:
    """Write a note for tables and `partial`; a full disk must not hide the real error."""
    note = {
        "error": f"{type(error).__name__}: {error}",
        "log": str(folder.log),
        "exit": "error",
        **_whereabouts(folder),
    }
    with suppress(OSError):
        write_json(folder.work.failed, note)


def note_interruption(folder: RunFolder, interruption: Interrupted) -> int:
    """Write a note of a requested stop; return the iteration of the newest checkpoint."""
    iteration = iteration_of(newest_checkpoint(folder.work.path))
    note = {
        "signal": interruption.signal.name,
        "iteration": iteration,
        **_whereabouts(folder),
    }
    with suppress(OSError):
        write_json(folder.work.interrupted, note)
    return iteration


def _whereabouts(folder: RunFolder) -> dict[str, str | None]:
    """End time of a session, and the checkpoint that the next session resumes."""
    checkpoint = newest_checkpoint(folder.work.path)
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "checkpoint": checkpoint and str(checkpoint),
    }

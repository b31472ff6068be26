"""The sessions of one training: each start, and how far it came before it ended or was killed.

Weights that two versions of the code, or two states of the data, trained together are no result.
So a session goes on from an earlier one's checkpoint only if code, data, starting weights,
precision and the number of processes are the same, unless the scale keeps weights at any price;
then the run's record names every version.

Nothing here starts CUDA: a run is claimed before a GPU is leased for it (`gpu_lease`).
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
    """Hold a run while it is trained, unless another process trains it before this one gets it.

    Comes first of all in a training: what waits for a run should hold no GPU meanwhile.

    Args:
        plan: the resolved plan that names the run.
        seed: of the training.
        processes: that would train it.
        patience: seconds to wait for another process that holds the run.
        terminal: where it is said that the run is trained.

    Yields:
        The lock, an open file; None when the run was trained meanwhile, and of a version that this
        process would go on from.

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
    """What decides a run's weights besides its spec and its seed, which its folder is named after.

    Args:
        processes: that train together; what each of them draws is its own.

    Returns:
        training_code (digest of the code that decides weights), data_sha256 (of the indexed data
        set), initial_weights_sha256, numerics (the switches of precision), processes.

    Raises:
        NotIndexed: the data set was not checked yet.
        NoInitialWeights: the run that this one starts from is not trained.
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
    """Add a session to the record in a work folder, deleting checkpoints that it cannot go on from.

    Args:
        work: the training's work folder, with the checkpoints of earlier sessions if any.
        version: what a training must not mix, as training_version says.
        keep_weights: go on from earlier checkpoints whatever they were trained with.
        terminal: where it is said that a training starts over, or goes back to an older checkpoint.

    Returns:
        All sessions whose training counts, oldest first: started, version, seconds, images,
        resumed_from (the iteration that it goes on after; 0: from the start). The last one is new.
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
    if not earlier:  # nobody knows, or it is known to be wrong, what wrote these
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
    """Which process on which machine, in which job of a scheduler, writes a record."""
    return {"pid": os.getpid(), "host": platform.node(), "job": os.environ.get("SLURM_JOB_ID")}


def save_sessions(work: WorkFolder, sessions: list[dict[str, Any]]) -> None:
    """Write the record of all sessions."""
    write_json(work.sessions, sessions)


def note_failure(folder: RunFolder, error: Exception) -> None:
    """Leave a note for tables and `partial`; a full disk must not hide the real error."""
    note = {
        "error": f"{type(error).__name__}: {error}",
        "log": str(folder.log),
        "exit": "error",
        **_whereabouts(folder),
    }
    with suppress(OSError):
        write_json(folder.work.failed, note)


def note_interruption(folder: RunFolder, interruption: Interrupted) -> int:
    """Leave a note of a stop that was asked for; return the iteration that is saved."""
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
    """When a session ended, and what the next one goes on from."""
    checkpoint = newest_checkpoint(folder.work.path)
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "checkpoint": checkpoint and str(checkpoint),
    }

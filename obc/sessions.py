"""The sessions of one training: each start, and how far it came before it ended or was killed.

Weights that two versions of the code, or two states of the data, trained together are no result.
So a session goes on from an earlier one's checkpoint only if code, data, starting weights and
precision are the same, unless the scale keeps weights at any price; then the record in
run.json names every version.
"""

from __future__ import annotations

import json
import os
import platform
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from obc.atomic import write_json
from obc.checkpoints import drop_damaged, iteration_of, newest_checkpoint
from obc.interruption import Interrupted


def begin_session(
    work: Path, version: dict[str, str | None], keep_weights: bool, terminal: TextIO
) -> list[dict[str, Any]]:
    """Add a session to the record in a work folder, deleting checkpoints that it cannot go on from.

    Args:
        work: the training's work folder, with the checkpoints of earlier sessions if any.
        version: what a training must not mix: training_code (digest of the code that decides
            weights), data_sha256 (of the indexed data set), initial_weights_sha256, numerics (the
            switches of precision).
        keep_weights: go on from earlier checkpoints whatever they were trained with.
        terminal: where it is said that a training starts over, or goes back to an older checkpoint.

    Returns:
        All sessions whose training counts, oldest first: started, version, seconds, images,
        resumed_from (the iteration that it goes on after; 0: from the start). The last one is new.
    """
    path = work / "sessions.json"
    earlier = json.loads(path.read_text()) if path.exists() else []
    fits = all({key: session.get(key) for key in version} == version for session in earlier)
    if not (fits or keep_weights):
        print(
            f"{work}: code, data, starting weights or precision changed since this training began; "
            "it starts over",
            file=terminal,
        )
        earlier = []
    if not earlier:  # nobody knows, or it is known to be wrong, what wrote these
        for checkpoint in work.glob("*.pth"):
            checkpoint.unlink()
    resumed_from = iteration_of(drop_damaged(work, terminal))
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


def process_identity() -> dict[str, Any]:
    """Which process on which machine, in which job of a scheduler, writes a record."""
    return {"pid": os.getpid(), "host": platform.node(), "job": os.environ.get("SLURM_JOB_ID")}


def save_sessions(work: Path, sessions: list[dict[str, Any]]) -> None:
    """Write the record of all sessions."""
    write_json(work / "sessions.json", sessions)


def note_failure(folder: Path, error: Exception) -> None:
    """Leave a note for tables and `partial`; a full disk must not hide the real error."""
    note = {
        "error": f"{type(error).__name__}: {error}",
        "log": str(folder / "log.txt"),
        "exit": "error",
        **_whereabouts(folder),
    }
    with suppress(OSError):
        write_json(folder / "work" / "failed.json", note)


def note_interruption(folder: Path, interruption: Interrupted) -> int:
    """Leave a note of a stop that was asked for; return the iteration that is saved."""
    iteration = iteration_of(newest_checkpoint(folder / "work"))
    note = {
        "signal": interruption.signal.name,
        "iteration": iteration,
        **_whereabouts(folder),
    }
    with suppress(OSError):
        write_json(folder / "work" / "interrupted.json", note)
    return iteration


def _whereabouts(folder: Path) -> dict[str, str | None]:
    """When a session ended, and what the next one goes on from."""
    checkpoint = newest_checkpoint(folder / "work")
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "checkpoint": checkpoint and str(checkpoint),
    }

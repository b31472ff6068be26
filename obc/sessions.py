"""The sessions of one training: each start, and how far it came before it ended or was killed.

Weights that two versions of the code, or two states of the data, trained together are no result.
So a session goes on from an earlier one's checkpoint only if the code, the data and the starting
weights are the same, unless the scale keeps weights at any price; then the record in run.json names
every version.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from obc.atomic import write_json, write_text


def begin_session(
    work: Path, version: dict[str, str | None], keep_weights: bool, terminal: TextIO
) -> list[dict[str, Any]]:
    """Add a session to the record in a work folder, deleting checkpoints that do not fit it.

    Args:
        work: the training's work folder, with the checkpoints of earlier sessions if any.
        version: what a training must not mix: training_code (digest of the code that decides
            weights), data_sha256 (of the indexed data set), initial_weights_sha256.
        keep_weights: go on from earlier checkpoints whatever they were trained with.
        terminal: where it is said that a training starts over.

    Returns:
        All sessions whose training counts, oldest first: started, version, seconds, images. The
        last one is new.
    """
    path = work / "sessions.json"
    earlier = json.loads(path.read_text()) if path.exists() else []
    fits = all({key: session.get(key) for key in version} == version for session in earlier)
    if not (fits or keep_weights):
        print(
            f"{work}: code, data or starting weights changed since this training began; "
            "it starts over",
            file=terminal,
        )
        for checkpoint in work.glob("*.pth"):
            checkpoint.unlink()
        (work / "last_checkpoint").unlink(missing_ok=True)
        earlier = []
    point_to_checkpoint(work)
    started = datetime.now(UTC).isoformat(timespec="seconds")
    sessions = [*earlier, {"started": started, **version, "seconds": 0.0, "images": 0}]
    save_sessions(work, sessions)
    return sessions


def point_to_checkpoint(work: Path) -> None:
    """Make MMEngine's `last_checkpoint` name a file of this folder.

    It holds an absolute path, which is wrong once the project was moved, and is empty when the
    process died while writing it; it is written after the checkpoint, which then is whole.
    """
    pointer = work / "last_checkpoint"
    if not pointer.exists():
        return
    name = Path(pointer.read_text().strip()).name
    if not name:
        epochs = {int(path.stem.removeprefix("epoch_")): path for path in work.glob("epoch_*.pth")}
        if not epochs:
            pointer.unlink()
            return
        name = epochs[max(epochs)].name
    write_text(pointer, str((work / name).absolute()))


def save_sessions(work: Path, sessions: list[dict[str, Any]]) -> None:
    """Write the record of all sessions."""
    write_json(work / "sessions.json", sessions)

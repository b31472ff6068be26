"""Records of runs, notes of failed evaluations, and the last lines of logs."""

from __future__ import annotations

import os
import platform
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from obc.config.plan import Plan
from obc.config.run_folder import RunFolder
from obc.io.files import file_sha256, read_record, write_json
from obc.runs.versions import hardware, package_versions

LOG_LINES = 12
LINE_WIDTH = 160


def weights_record(plan: Plan, run_id: str, seed: int) -> dict[str, Any]:
    """Return the entries of every run's record, trained or imported: spec, packages, machine."""
    run = plan.run(run_id, seed)
    return {
        "run_id": run_id,
        "scale": plan.scale.name,
        "protocol": plan.scale.protocol,
        "seed": seed,
        "resolved": run.resolved.model_dump(mode="json"),
        "weights_sha256": file_sha256(run.folder.weights),
        "packages": package_versions(),
        "hardware": hardware(),
    }


def untrained_record(plan: Plan, run_id: str, seed: int, source: Path) -> dict[str, Any]:
    """Return a record of weights that were not trained here; measurements of a training are None.

    Args:
        source: the file that the run's weights come from.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {
        **weights_record(plan, run_id, seed),
        "started": now,
        "seconds": None,
        "images_per_second": None,
        "iterations": None,
        "sessions": [],
        "peak_memory_mib": None,
        "initial_weights_sha256": None,
        "imported": {"path": str(source), "sha256": file_sha256(source), "time": now},
    }


@contextmanager
def failure_noted(folder: RunFolder, decode: str) -> Iterator[None]:
    """Write a note into a run's folder if the evaluation in the block fails.

    A training's note is in `work/`, but that folder no longer exists when a run is evaluated.
    """
    note = folder.evaluation_failure(decode)
    note.unlink(missing_ok=True)
    try:
        yield
    except Exception as error:
        record = read_record(folder.record) or {}
        failure = {
            "error": f"{type(error).__name__}: {error}",
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "host": platform.node(),
            "job": os.environ.get("SLURM_JOB_ID"),
            "weights_sha256": record.get("weights_sha256"),
        }
        with suppress(OSError):  # a full disk must not hide the real error
            write_json(note, failure)
        raise


def evaluation_failure(folder: RunFolder, decode: str) -> dict[str, Any] | None:
    """Return the note of `failure_noted`, if the last evaluation of the present weights failed."""
    note, record = map(read_record, (folder.evaluation_failure(decode), folder.record))
    same = note and record and note.get("weights_sha256") == record.get("weights_sha256")
    return note if same else None


def is_imported(folder: RunFolder) -> bool:
    """Whether the weights in a run's folder were trained elsewhere (`obc import`)."""
    record = read_record(folder.record)
    return folder.weights.exists() and bool(record and record.get("imported"))


def last_lines(log: Path) -> list[str]:
    """Return the last lines of a log; long lines are cut, invalid bytes replaced by a character."""
    with log.open(encoding="utf-8", errors="replace") as file:
        lines = deque((line.rstrip() for line in file), maxlen=LOG_LINES)
    return [line[:LINE_WIDTH] for line in lines]

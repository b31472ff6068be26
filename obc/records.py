"""What a run says about itself in its folder: `run.json`, and the notes in `work/`, read back."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from obc.atomic import write_json
from obc.errors import SuiteError
from obc.plan import Plan
from obc.provenance import file_sha256, hardware, package_versions


class DamagedRecord(SuiteError):
    """A file that a step wrote is not whole any more, as after a power loss."""


def weights_record(plan: Plan, run_id: str, seed: int) -> dict[str, Any]:
    """What every `run.json` says, of trained and of imported weights: spec, packages, machine."""
    return {
        "run_id": run_id,
        "scale": plan.scale.name,
        "protocol": plan.scale.protocol,
        "seed": seed,
        "resolved": plan.trainings[run_id].resolved.model_dump(mode="json"),
        "weights_sha256": file_sha256(plan.run_folder(run_id, seed) / "final.pth"),
        "packages": package_versions(),
        "hardware": hardware(),
    }


def read_json(path: Path) -> Any:
    """The JSON content of a file; None where there is no file or no whole one.

    For those who look at runs that others are working on: a file may vanish between two looks, and
    a power loss may leave half of one.
    """
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def read_record(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None as `read_json`."""
    content = read_json(path)
    return content if isinstance(content, dict) else None


def require_record(path: Path) -> dict[str, Any]:
    """The JSON object in a file that is there.

    Raises:
        DamagedRecord: it holds something else.
    """
    record = read_record(path)
    if record is None:
        raise DamagedRecord(
            f"{path}: not the JSON object that was written there; remove the file, and snakemake "
            "makes it anew, with what depends on it"
        )
    return record


@contextmanager
def failure_noted(folder: Path, decode: str) -> Iterator[None]:
    """Leave `evaluate.<decode>.failed.json` in a run's folder if the evaluation in the block fails.

    Trainings leave theirs in `work/`, which is gone when a run is evaluated.
    """
    note = _failure_note(folder, decode)
    note.unlink(missing_ok=True)
    try:
        yield
    except Exception as error:
        record = read_record(folder / "run.json") or {}
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


def evaluation_failure(folder: Path, decode: str) -> dict[str, Any] | None:
    """What `failure_noted` left of the last evaluation of a run's present weights, if it failed."""
    note, record = (
        read_record(path) for path in (_failure_note(folder, decode), folder / "run.json")
    )
    same = note and record and note.get("weights_sha256") == record.get("weights_sha256")
    return note if same else None


def _failure_note(folder: Path, decode: str) -> Path:
    return folder / f"evaluate.{decode}.failed.json"


def is_imported(folder: Path) -> bool:
    """Whether the weights in a run's folder were trained elsewhere (`obc import`)."""
    record = read_record(folder / "run.json")
    return (folder / "final.pth").exists() and bool(record and record.get("imported"))

"""What a run says of itself in its folder, read back: `run.json`, its log, the notes in `work/`."""

from __future__ import annotations

import json
from collections import deque
from pathlib import Path
from typing import Any

from obc.plan import Plan
from obc.provenance import file_sha256, hardware, package_versions

LOG_LINES = 12
LINE_WIDTH = 160


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


def is_imported(folder: Path) -> bool:
    """Whether the weights in a run's folder were trained elsewhere (`obc import`)."""
    record = read_record(folder / "run.json")
    return (folder / "final.pth").exists() and bool(record and record.get("imported"))


def last_lines(log: Path, count: int = LOG_LINES) -> list[str]:
    """The end of a log, long lines cut; what is no text is shown as replacement characters."""
    with log.open(errors="replace") as file:
        lines = deque((line.rstrip() for line in file), maxlen=count)
    return [line[:LINE_WIDTH] for line in lines]

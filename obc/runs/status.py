"""The folder of one run: which files it has and what they say about the run's state.

final.pth              weights, a plain state dict
run.json               spec, seed, data, code, packages, hardware, time; written last
config.py              the resolved MMDetection config
log.txt                everything the training printed
metrics.<decode>.json  one evaluation; detections.<decode>.npz what it found, evaluate.<decode>.log;
                       evaluate.<decode>.failed.json why the last one failed
work/                  of a training that is not done: lock, sessions.json (its starts),
                       progress.json (how far it is), iteration_<n>.pth (checkpoints), and
                       failed.json or interrupted.json (why it ended)
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from obc.config.plan import Plan
from obc.runs.lock import (
    _is_locked,
)

RunStatus = Literal["trained", "running", "failed", "interrupted", "not run"]


def run_status(folder: Path) -> RunStatus:
    """State of a run, from its folder alone."""
    if (folder / "run.json").exists() and (folder / "final.pth").exists():
        return "trained"
    if _is_locked(folder / "work" / "lock"):
        return "running"
    if (folder / "work" / "failed.json").exists():
        return "failed"
    if (folder / "work" / "interrupted.json").exists():
        return "interrupted"
    return "not run"


def shown_tables(plan: Plan) -> tuple[str, ...]:
    """The paper's tables, and those beyond it of which a run of its own has begun.

    What nobody asked for would stand as a page of "not run" under what was.
    """
    begun = {
        table
        for run_id, run in plan.runs.items()
        if plan.is_beyond(run_id)
        and any(plan.run_folder(run_id, seed).exists() for seed in plan.seeds_of(run_id))
        for table in run.tables
    }
    return tuple(name for name, table in plan.tables.items() if not table.beyond or name in begun)

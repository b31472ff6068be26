"""The state of a run, from the files in its folder."""

from __future__ import annotations

from typing import Literal

from obc.config.plan import Plan
from obc.config.run_folder import RunFolder
from obc.runs.lock import is_locked

RunStatus = Literal["trained", "running", "failed", "interrupted", "not run"]


def run_status(folder: RunFolder) -> RunStatus:
    """State of a run, from its folder alone.

    A run whose evaluations were restored without its weights (`obc import results/reference/..`)
    is trained: its numbers are there. Who needs weights asks `has_weights`.
    """
    if has_weights(folder):
        return "trained"
    if is_locked(folder):
        return "running"
    if folder.work.failed.exists():
        return "failed"
    if folder.work.interrupted.exists():
        return "interrupted"
    return "trained" if folder.record.exists() and folder.evaluations() else "not run"


def has_weights(folder: RunFolder) -> bool:
    """Whether a run is trained and its weights are here."""
    return folder.record.exists() and folder.weights.exists()


def shown_tables(plan: Plan) -> tuple[str, ...]:
    """The paper's tables, and those beyond it of which a run of its own has begun.

    What nobody asked for would stand as a page of "not run" under what was.
    """
    begun = {
        table
        for run_id, planned in plan.runs.items()
        if plan.is_beyond(run_id) and any(run.folder.path.exists() for run in plan.seeded(run_id))
        for table in planned.tables
    }
    return tuple(name for name, table in plan.tables.items() if not table.beyond or name in begun)

"""The state of a run, from the files in its folder."""

from __future__ import annotations

from typing import Literal

from obc.config.plan import Plan
from obc.config.run_folder import RunFolder
from obc.runs.lock import is_locked

RunStatus = Literal["trained", "running", "failed", "interrupted", "not run"]


def run_status(folder: RunFolder) -> RunStatus:
    """Return the state of a run, from its folder alone.

    A run whose evaluations were restored without its weights (`obc import results/reference/..`)
    counts as trained, because its metrics exist. Callers that need weights must use `has_weights`.
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
    """Whether a run is trained and its weights are in its folder."""
    return folder.record.exists() and folder.weights.exists()


def shown_tables(plan: Plan) -> tuple[str, ...]:
    """Names of the tables to show: all of the paper, and tables beyond it that have started.

    A table beyond the paper has started once one of its own runs has a folder. Before, it would
    only show "not run".
    """
    begun = {
        table
        for run_id, planned in plan.runs.items()
        if plan.is_beyond(run_id) and any(run.folder.path.exists() for run in plan.seeded(run_id))
        for table in planned.tables
    }
    return tuple(name for name, table in plan.tables.items() if not table.beyond or name in begun)

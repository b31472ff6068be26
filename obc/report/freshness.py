"""Which trainings of a table were made with other code or other data than the present ones.

Where weights are kept (scale `paper`), an edit of the code trains nothing again; the tables then
say that a number is of another version.
"""

from __future__ import annotations

import json
from typing import Any

from obc.experiment import TableSpec
from obc.plan import Plan
from obc.provenance import TRAINING_CODE, code_digest


def stale_notes(plan: Plan, table: TableSpec) -> list[str]:
    """A sentence for each way in which trained runs of a table differ from the present state."""
    run_ids = dict.fromkeys(plan.run_of(row).run_id for row in table.rows if not row.cited)
    records = [record for run_id in run_ids for record in _records(plan, run_id)]
    if not records:
        return []
    present = {"code": code_digest(TRAINING_CODE), "data": _indexed(plan, table)}
    trained = [
        {"code": record["code"]["training_code"], "data": record["data"]["sha256"]}
        for record in records
    ]
    notes = []
    for what, now in present.items():
        other = sum(run[what] != now for run in trained)
        if now is not None and other:
            notes.append(
                f"{other} of {len(trained)} trainings were made with other {what} than the "
                f"present one ({now[:8]}); their run.json says which."
            )
    return notes


def _records(plan: Plan, run_id: str) -> list[dict[str, Any]]:
    paths = [plan.run_folder(run_id, seed) / "run.json" for seed in plan.seeds_of(run_id)]
    return [json.loads(path.read_text()) for path in paths if path.exists()]


def _indexed(plan: Plan, table: TableSpec) -> str | None:
    manifest = plan.index_folder(table.dataset) / "manifest.json"
    return json.loads(manifest.read_text())["sha256"] if manifest.exists() else None

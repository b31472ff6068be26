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
    by_run = {run_id: _records(plan, run_id) for run_id in run_ids}
    records = [record for of_run in by_run.values() for record in of_run]
    if not records:
        return []
    code, data = code_digest(TRAINING_CODE), _indexed(plan, table)
    others = {
        f"code than the present one ({code})": [
            record["code"]["training_code"] != code for record in records
        ],
        f"data than the present one ({(data or '')[:8]})": [
            data is not None and record["data"]["sha256"] != data for record in records
        ],
        "starting weights than the present ones": [
            _starts_elsewhere(plan, run_id, record)
            for run_id, of_run in by_run.items()
            for record in of_run
        ],
    }
    return [
        f"{sum(other)} of {len(records)} trainings were made with other {what}; their run.json "
        "says which."
        for what, other in others.items()
        if any(other)
    ]


def _starts_elsewhere(plan: Plan, run_id: str, record: dict[str, Any]) -> bool:
    """Whether the weights that a training started from have been trained again since."""
    path = plan.initial_weights(run_id)
    initial = path and path.with_name("run.json")
    if not initial or not initial.exists():
        return False
    now = json.loads(initial.read_text())["weights_sha256"]
    return record.get("initial_weights_sha256") != now


def _records(plan: Plan, run_id: str) -> list[dict[str, Any]]:
    paths = [plan.run_folder(run_id, seed) / "run.json" for seed in plan.seeds_of(run_id)]
    return [json.loads(path.read_text()) for path in paths if path.exists()]


def _indexed(plan: Plan, table: TableSpec) -> str | None:
    manifest = plan.index_folder(table.dataset) / "manifest.json"
    return json.loads(manifest.read_text())["sha256"] if manifest.exists() else None

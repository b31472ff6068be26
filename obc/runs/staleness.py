"""Notes about weights that were trained with other code, data or settings than the present ones.

If weights are kept (scale `paper`), an edit of the code does not repeat trainings; a note under the
tables then states that weights are of another version. A note also states that a run was trained by
another number of processes, which does not change the run id, or that weights were imported.
"""

from __future__ import annotations

import json
from typing import Any

from obc.config.plan import Plan
from obc.config.run_folder import RECORD
from obc.config.table import TableSpec
from obc.io.files import require_record
from obc.runs.versions import TRAINING_CODE, code_digest


def weights_notes(plan: Plan, table: TableSpec) -> list[str]:
    """Return a sentence for each way in which a table's weights differ from weights trained now.

    Raises:
        DamagedRecord: a run's record, or a file that it is compared with, is damaged.
    """
    run_ids = dict.fromkeys(plan.run_of(row).run_id for row in table.rows if not row.cited)
    records = [found for run_id in run_ids for found in _records(plan, run_id)]
    if not records:
        return []
    code = code_digest(TRAINING_CODE)
    differences = [other_versions(plan, *found, code) for found in records]
    imported = [run_id for run_id, _, record in records if record.get("imported")]
    notes = [
        f"{sum(what in found for found in differences)} of {len(records)} trainings were made with "
        f"other {what}; their {RECORD} says which."
        for what in dict.fromkeys(what for found in differences for what in found)
    ]
    if imported:
        rows = [plan.run_of(row).run_id for row in table.rows if not row.cited]
        notes.append(
            f"{sum(run_id in imported for run_id in rows)} of {len(rows)} rows' weights were "
            f"imported, not trained by this suite; their {RECORD} says from where."
        )
    return notes


def other_versions(
    plan: Plan, run_id: str, seed: int, record: dict[str, Any], code: str
) -> tuple[str, ...]:
    """Return how a trained run differs from a training now, e.g. "code than the present one (..)".

    The texts continue a sentence after "other". Imported weights have no differences, because they
    were not trained with this suite's code, data and settings.

    Args:
        record: the content of the run's record.
        code: digest of the present TRAINING_CODE.

    Raises:
        DamagedRecord: the manifest of the data or the record of the starting weights is damaged.
    """
    if record.get("imported"):
        return ()
    data = _indexed(plan, run_id)
    processes, precision = max(1, plan.gpus_per_run), plan.scale.runtime.numerics
    # If weights are kept, a training may have been resumed with other code than it began with.
    sessions = record.get("sessions") or []

    def mixed(key: str, now: Any) -> bool:
        return any(session.get(key, now) != now for session in sessions)

    others = {
        f"code than the present one ({code})": record["code"]["training_code"] != code
        or mixed("training_code", code),
        f"data than the present one ({(data or '')[:8]})": data is not None
        and (record["data"]["sha256"] != data or mixed("data_sha256", data)),
        f"numbers of processes than the plan's ({processes})": mixed("processes", processes)
        or record.get("processes", processes) != processes,
        "switches of precision than the plan's": record.get("numerics", precision) != precision
        or mixed("numerics", json.dumps(precision)),
        "starting weights than the present ones": _starts_elsewhere(plan, run_id, seed, record),
    }
    return tuple(what for what, other in others.items() if other)


def _starts_elsewhere(plan: Plan, run_id: str, seed: int, record: dict[str, Any]) -> bool:
    """Whether the weights that a training started from have been trained again since."""
    initial = plan.initial_training(run_id, seed)
    if initial is None or not initial.folder.record.exists():
        return False
    now = require_record(initial.folder.record)["weights_sha256"]
    return record.get("initial_weights_sha256") != now


def _records(plan: Plan, run_id: str) -> list[tuple[str, int, dict[str, Any]]]:
    """Run id, seed and record of each training that has one."""
    return [
        (run_id, run.seed, require_record(run.folder.record))
        for run in plan.seeded(run_id)
        if run.folder.record.exists()
    ]


def _indexed(plan: Plan, run_id: str) -> str | None:
    index = plan.index_folder(plan.dataset_of(run_id))
    return index.read_manifest()["sha256"] if index.manifest.exists() else None

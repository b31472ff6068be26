"""Which trained runs the figures look into: those of Table 1 that classify offsets into bins.

Apart from the figures, so that the workflow can ask without importing what draws them.
"""

from __future__ import annotations

from obc.plan import Plan

TABLE = "table1"
ONE_STAGE, TWO_STAGES = "bins", "full"


def shown_runs(plan: Plan) -> dict[str, tuple[str, int]]:
    """Run id and first seed of the rows to look into, by key: one stage first, then two.

    Empty where the plan has no Table 1 with both, as with a COCO folder only.
    """
    rows = plan.tables[TABLE].keyed_rows if TABLE in plan.tables else {}
    if not {ONE_STAGE, TWO_STAGES} <= set(rows):
        return {}
    run_ids = {key: plan.run_of(rows[key]).run_id for key in (ONE_STAGE, TWO_STAGES)}
    return {key: (run_id, plan.seeds_of(run_id)[0]) for key, run_id in run_ids.items()}

"""Which trained runs the figures look into: those of Table 1 that classify offsets into bins.

Apart from the figures, so that the workflow can ask without importing what draws them.
"""

from __future__ import annotations

from obc.config.box_losses.offset_bin import OffsetBin
from obc.config.plan import Plan
from obc.io.errors import SuiteError
from obc.runs.status import run_status

TABLE = "table1"
ONE_STAGE, TWO_STAGES = "bins", "full"


class NothingTrained(SuiteError):
    """No run can be looked into yet; the message says what to run first."""

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows: the message, without the way to it."""
        return [str(self)]


def shown_runs(plan: Plan) -> dict[str, tuple[str, int]]:
    """Run id and first seed of the rows to look into, by key: one stage first, then two.

    Empty where the plan has no Table 1 with both, as with a COCO folder only.
    """
    rows = plan.tables[TABLE].keyed_rows if TABLE in plan.tables else {}
    if not {ONE_STAGE, TWO_STAGES} <= set(rows):
        return {}
    run_ids = {key: plan.run_of(rows[key]).run_id for key in (ONE_STAGE, TWO_STAGES)}
    return {key: (run_id, plan.seeds_of(run_id)[0]) for key, run_id in run_ids.items()}


def trained_with_bins(plan: Plan) -> list[tuple[str, int]]:
    """Run id and seed of every trained run that has bins to look at; the shown ones first.

    Among the shown ones the two stages are first, in which there is more to see.

    Raises:
        NothingTrained: there is none.
    """
    shown = list(shown_runs(plan).values())[::-1]
    everything = [
        (run_id, seed)
        for run_id, run in plan.runs.items()
        if isinstance(run.resolved.spec.box, OffsetBin)
        for seed in plan.seeds_of(run_id)
    ]
    ordered = [*shown, *(one for one in everything if one not in shown)]
    trained = [one for one in ordered if run_status(plan.run_folder(*one)) == "trained"]
    if not trained:
        raise NothingTrained(
            f"{plan.results}: no trained run with offset bins; first run "
            f"`make reproduce SCALE={plan.config.scale} TARGETS={TABLE}`"
        )
    return trained

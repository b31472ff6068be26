"""The runs that figures of a head's output show: two rows of `detail_table` with offset bins.

This is a module apart from the figures, so that the workflow can import it without drawing code.
"""

from __future__ import annotations

from obc.config.box_losses.offset_bin import OffsetBin
from obc.config.plan import Plan
from obc.io.errors import SuiteError
from obc.runs.status import has_weights


class NothingTrained(SuiteError):
    """No run with offset bins is trained yet; the message says what to run first."""

    def _render_traceback_(self) -> list[str]:
        """Show only the message in a notebook, without the traceback."""
        return [str(self)]


def shown_runs(plan: Plan) -> dict[str, tuple[str, int]]:
    """Return run id and first seed of the two `detail_rows`, by key: one stage, then two stages.

    Empty if the plan has no `detail_table` with both rows, e.g. if it has only a COCO folder.
    """
    rows = plan.detail_table.keyed_rows if plan.detail_table else {}
    keys = (plan.config.detail_rows.one_stage, plan.config.detail_rows.two_stages)
    if not set(keys) <= set(rows):
        return {}
    run_ids = {key: plan.run_of(rows[key]).run_id for key in keys}
    return {key: (run_id, plan.seeds_of(run_id)[0]) for key, run_id in run_ids.items()}


def trained_with_bins(plan: Plan) -> list[tuple[str, int]]:
    """Return run id and seed of every trained run with offset bins; runs of `shown_runs` first.

    Of these the run with two stages comes first, because it has more to show.

    Raises:
        NothingTrained: no run with offset bins is trained.
    """
    shown = list(shown_runs(plan).values())[::-1]
    everything = [
        (run_id, seed)
        for run_id, run in plan.runs.items()
        if isinstance(run.resolved.spec.box, OffsetBin)
        for seed in plan.seeds_of(run_id)
    ]
    ordered = [*shown, *(one for one in everything if one not in shown)]
    trained = [one for one in ordered if has_weights(plan.run_folder(*one))]
    if not trained:
        raise NothingTrained(
            f"{plan.results}: no trained run with offset bins; first run "
            f"`make reproduce SCALE={plan.config.scale} TARGETS={plan.config.detail_table}`"
        )
    return trained

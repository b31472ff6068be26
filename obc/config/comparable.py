"""Comparability of a table with the paper, and deviations of its trainings."""

from __future__ import annotations

from obc.config.paper_setting import deviations
from obc.config.plan import Plan
from obc.config.table import TableSpec
from obc.datasets.settings import ShapesData

NOT_COMPARABLE = "Not comparable with the paper's numbers."


def is_comparable(plan: Plan, table: TableSpec) -> bool:
    """Whether the numbers are comparable: the paper's setting, unchanged, on published data."""
    data = plan.scale.data[table.dataset]
    published = not isinstance(data, ShapesData) and data.has_published_counts
    return plan.scale.papers_setting and published and not plan.config.change


def deviation_notes(plan: Plan, table: TableSpec) -> tuple[str, ...]:
    """Deviations of a table's trainings from the paper's setting, one clause each.

    Empty unless the scale has `papers_setting`: other scales are marked as not comparable instead.
    """
    if not plan.scale.papers_setting:
        return ()
    backbones = {row.run.backbone: None for row in table.rows if row.run is not None}
    found = deviations(
        plan.scale, table.dataset, tuple(backbones), plan.gpus_per_run, plan.config.scale_lr
    )
    return tuple(map(str, found))

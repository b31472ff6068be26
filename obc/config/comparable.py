"""Whether a table's numbers may be set against the paper's."""

from __future__ import annotations

from obc.config.plan import Plan
from obc.config.table import TableSpec
from obc.datasets.settings import ShapesData

NOT_COMPARABLE = "Not comparable with the paper's numbers."


def is_comparable(plan: Plan, table: TableSpec) -> bool:
    """Whether the numbers may be set against the paper's: its setting, on published data."""
    data = plan.scale.data[table.dataset]
    published = not isinstance(data, ShapesData) and data.expected_train_images is not None
    return plan.scale.papers_setting and published and not plan.config.change

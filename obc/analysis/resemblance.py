"""Find the paper's row that is nearest to a measured row, by differences from a reference row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from obc.analysis.collect import collect, summarise
from obc.config.plan import Plan
from obc.config.table import Row, TableSpec, row_label
from obc.io.typed_yaml import ConfigError


@dataclass(frozen=True)
class Resemblance:
    """The nearest row of the paper.

    Attributes:
        label: label of the paper's row.
        distance: mean absolute deviation of the two differences over the metrics, in AP points.
        metrics: the metrics of both tables, in the order of ours.
    """

    label: str
    distance: float
    metrics: tuple[str, ...]

    def __str__(self) -> str:
        """The text that a page shows."""
        return f"{self.label} ({self.distance:.1f})"


def resemblances(plan: Plan, table: TableSpec) -> dict[int, Resemblance]:
    """Find the nearest row of the paper for each row of a table with `resembles`, by row index.

    The difference between a row and the row `ours` is compared with the difference between every
    row of the paper's table and its row `less`. Cited rows, rows that were not measured, and rows
    with another detector or box loss than `ours` have no entry.

    Raises:
        ConfigError: `resembles` does not name a table and a row of the paper, or the paper prints
            no numbers of the row.
        MetricsFileError: as in `collect`.
    """
    if table.resembles is None:
        return {}
    paper, less = _paper_rows(plan, table)
    metrics = tuple(metric for metric in table.metrics if metric in paper.metrics)
    if not metrics or not _all_published(paper, less, metrics):
        raise ConfigError(
            f"{table.name}: resembles names row {table.resembles.less!r} of {paper.name!r}, but "
            f"the paper does not print all of its numbers in {', '.join(table.metrics)}"
        )
    start = _published(paper, less, metrics)
    steps = [
        (row_label(row), np.subtract(_published(paper, row, metrics), start).tolist())
        for row in paper.rows
        if not row.cited and _all_published(paper, row, metrics)
    ]
    ours = table.keyed_rows[table.resembles.ours]
    alike = (ours.run.detector, ours.run.box.loss)
    means = summarise(collect(plan, [table.name]))["mean"]
    found = {}
    for index, row in enumerate(table.rows):
        if row.cited or (row.run.detector, row.run.box.loss) != alike:
            continue
        step = [
            means[table.name, index, metric] - means[table.name, table.rows.index(ours), metric]
            for metric in metrics
        ]
        if np.isfinite(step).all():
            found[index] = _nearest(step, steps, metrics)
    return found


def _published(paper: TableSpec, row: Row, metrics: tuple[str, ...]) -> list[float | None]:
    return [paper.published(row, metric) for metric in metrics]


def _all_published(paper: TableSpec, row: Row, metrics: tuple[str, ...]) -> bool:
    return None not in _published(paper, row, metrics)


def _paper_rows(plan: Plan, table: TableSpec) -> tuple[TableSpec, Row]:
    named = table.resembles
    paper = plan.tables.get(named.table)
    if paper is None or paper.beyond or named.less not in paper.keyed_rows:
        raise ConfigError(
            f"{table.name}: resembles names row {named.less!r} of {named.table!r}, allowed: a key "
            "of a row of a table of the paper"
        )
    return paper, paper.keyed_rows[named.less]


def _nearest(
    step: list[float], steps: Sequence[tuple[str, list[float]]], metrics: tuple[str, ...]
) -> Resemblance:
    distances = [(float(np.abs(np.subtract(step, of)).mean()), label) for label, of in steps]
    distance, label = min(distances)
    return Resemblance(label, distance, metrics)

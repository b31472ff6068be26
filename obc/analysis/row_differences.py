"""Differences between rows of a table, with intervals, and the cost of each row's box head.

For tables with rows that name another row under `against`. Intervals are computed as for the
paper's claims (`obc.analysis.verdicts`). A row is `higher` or `lower` only if the interval of the
difference excludes 0.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from obc.analysis.bootstrap import RESAMPLED_METRICS
from obc.analysis.seed_spread import Sampled, Samples, Spread
from obc.analysis.verdicts import (
    NotRun,
    Resampling,
    measure_contrast,
    resample,
    sample,
    why_not_judged,
)
from obc.config.claims import Claims, Contrast
from obc.config.plan import Plan
from obc.config.table import Row, TableSpec


@dataclass(frozen=True)
class Compared:
    """A metric of one row minus that of another row, in AP points, and whether it exceeds noise.

    Attributes:
        row: index of the first row in the table.
        key, against: keys of the first row and of the row that is subtracted.
        found: the position of the interval, or `not judged` or `not run`.
        reason: why the difference is not judged or not run; otherwise None.
        difference: None if not run.
        low, high: bounds of the interval; None if the noise is unknown.
        spread: the source of the spread between trainings, see `JudgedContrast`; None if not run.
    """

    row: int
    key: str
    against: str
    metric: str
    found: Literal["higher", "lower", "not told apart", "not judged", "not run"] = "not run"
    reason: str | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    spread: Spread | None = None


def compare(
    plan: Plan,
    table: TableSpec,
    strict: bool,
    workers: int = 1,
    resample: Callable[[Resampling], Sampled] = resample,
) -> tuple[Compared, ...]:
    """Compare each row that has `against` with the row that it names, metric by metric.

    Only metrics that can be resampled are compared: AP by object size has no interval.

    Args:
        strict, workers, resample: as in `obc.analysis.verdicts.judge`.

    Raises:
        IncompleteError, MetricsFileError, DetectionsFileError: as in `obc.analysis.verdicts.judge`.
    """
    asked = [
        Compared(index, row.key, row.against, metric)
        for index, row in enumerate(table.rows)
        if row.against is not None
        for metric in table.metrics
        if metric in RESAMPLED_METRICS
    ]
    keys = {key for one in asked for key in (one.key, one.against)}
    rows = {(table.name, index) for index, row in enumerate(table.rows) if row.key in keys}
    rules = _rules(plan)
    samples = sample(plan, rows, rules.resamples, rules.seed, strict, workers, resample)
    return tuple(_compared(plan, table, one, samples) for one in asked)


def _compared(plan: Plan, table: TableSpec, asked: Compared, samples: Samples) -> Compared:
    contrast = Contrast({asked.key: 1.0}, {asked.against: 1.0}, {asked.metric: 1.0}, label="")
    estimate = measure_contrast(plan, table, contrast, samples)
    if isinstance(estimate, NotRun):
        return replace(asked, reason=estimate.reason)
    low, high = None, None
    if estimate.has_interval:
        interval = estimate.interval(confidence(plan))
        low, high = interval.low, interval.high
    reason = why_not_judged(plan, table, contrast, estimate, samples, _rules(plan).learnt)
    if reason is not None:
        found = "not judged"
    else:
        found = "higher" if low > 0 else "lower" if high < 0 else "not told apart"
    return replace(
        asked,
        found=found,
        reason=reason,
        difference=estimate.difference,
        low=low,
        high=high,
        spread=estimate.spread,
    )


def confidence(plan: Plan) -> float:
    """Confidence level of the intervals, the same as for the claims."""
    return _rules(plan).confidence


def _rules(plan: Plan) -> Claims:
    """Settings of resampling and intervals: the plan's claims, or defaults if it has no claims."""
    return plan.claims or Claims.model_construct()


def cost(plan: Plan, row: Row) -> dict[str, float]:
    """Return the cost of a row's box head from a metrics file; empty before an evaluation."""
    for run in plan.seeded(plan.run_of(row).run_id):
        path = run.folder.metrics(row.decode)
        if path.exists():
            return json.loads(path.read_text(encoding="utf-8")).get("box_head", {})
    return {}

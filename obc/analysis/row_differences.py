"""A table's rows against each other: differences with their intervals, and the cost of each head.

For tables whose rows name another one (`against`). The intervals are those of the paper's claims
(`obc.analysis.verdicts`); a difference is called one only where its interval leaves out 0.
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
    """One number of a row less that of another, in AP points, and whether they can be told apart.

    Attributes:
        row: its index in the table; `key` is its key, `against` that of the other.
        found: what the interval says, or `not judged` and `not run`, for which `reason` says why.
        difference: None where not run.
        low, high: of the interval; None without a measure of the noise.
        spread: whose spread between trainings the interval has; None where not run.
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
    """Every metric of every compared row less that of the row that it names.

    Only metrics that can be resampled: AP by object size has no interval, so it is not compared.

    Args:
        strict, workers, resample: as of `obc.analysis.verdicts.judge`.

    Raises:
        IncompleteError, MetricsFileError, DetectionsFileError: as `obc.analysis.verdicts.judge`.
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
    """Level of the intervals: that of the claims."""
    return _rules(plan).confidence


def _rules(plan: Plan) -> Claims:
    """How sure a difference must be: as the claims say, or by default where a plan has none."""
    return plan.claims or Claims.model_construct()


def cost(plan: Plan, row: Row) -> dict[str, float]:
    """What an evaluation of the row noted of its box head; empty before there is one."""
    for run in plan.seeded(plan.run_of(row).run_id):
        path = run.folder.metrics(row.decode)
        if path.exists():
            return json.loads(path.read_text(encoding="utf-8")).get("box_head", {})
    return {}

"""A table's rows against each other: differences with their intervals, and the cost of each head.

For tables whose rows name another one (`against`). The intervals are those of the paper's claims
(`obc.analysis.verdicts`); a difference is called one only where its interval leaves out 0.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from obc.analysis.bootstrap import RESAMPLED_METRICS
from obc.analysis.verdicts import JudgedContrast, judge
from obc.config.claims import Claims, Finding, Higher, Topic
from obc.config.plan import Plan
from obc.config.table import Row, TableSpec, row_label

RESAMPLES, SEED, CONFIDENCE = 2000, 2020, 0.95


# What an interval says of a row against another, in words that claim nothing of the paper.
WORDS: dict[Finding, str] = {
    "agrees": "higher",
    "contradicts": "lower",
    "undecided": "not told apart",
}


@dataclass(frozen=True)
class Compared:
    """One number of a row less that of another, and whether the two can be told apart."""

    row: int
    key: str
    against: str
    metric: str
    judged: JudgedContrast

    @property
    def found(self) -> str:
        """`higher`, `lower`, `not told apart`, `not judged` or `not run`."""
        finding = self.judged.finding
        return self.judged.status if finding is None else WORDS[finding]


def compare(plan: Plan, table: TableSpec, strict: bool, workers: int = 1) -> tuple[Compared, ...]:
    """Every metric of every compared row less that of the row that it names.

    Only metrics that can be resampled: AP by object size has no interval, so it is not compared.

    Raises:
        IncompleteError, MetricsFileError, DetectionsFileError: as `obc.analysis.verdicts.judge`.
    """
    asked = [
        (index, row, metric)
        for index, row in enumerate(table.rows)
        if row.against is not None
        for metric in table.metrics
        if metric in RESAMPLED_METRICS
    ]
    questions = tuple(
        Higher(
            id=f"{row.key}_{metric}",
            section="",
            statement=f"{row_label(row)} is above {table.keyed_rows[row.against].label}",
            kind="higher",
            pairs=(((row.key,), (row.against,)),),
            metrics=(metric,),
        )
        for _, row, metric in asked
    )
    claims = Claims(
        resamples=plan.claims.resamples if plan.claims else RESAMPLES,
        seed=plan.claims.seed if plan.claims else SEED,
        confidence=confidence(plan),
        topics=(Topic(table=table.name, title=table.title, claims=questions),),
    )
    (judged,) = judge(plan.model_copy(update={"claims": claims}), strict, workers)
    return tuple(
        Compared(index, row.key, row.against, metric, one.contrasts[0])
        for (index, row, metric), one in zip(asked, judged.claims, strict=True)
    )


def confidence(plan: Plan) -> float:
    """Level of the intervals: that of the claims."""
    return plan.claims.confidence if plan.claims else CONFIDENCE


def cost(plan: Plan, row: Row) -> dict[str, float]:
    """What an evaluation of the row noted of its box head; empty before there is one."""
    for run in plan.seeded(plan.run_of(row).run_id):
        path = run.folder.metrics(row.decode)
        if path.exists():
            return json.loads(path.read_text(encoding="utf-8")).get("box_head", {})
    return {}

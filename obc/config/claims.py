"""The paper's checkable statements as inequalities between rows of its tables (config/claims.yaml).

A claim has one or more *contrasts*, which are weighted sums of table cells, and a rule that decides
from the confidence interval of a contrast whether the contrast agrees with the claim. The paper's
value of a contrast is computed from the `paper:` columns of the same rows, so that no number of the
paper is typed twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PositiveFloat, model_validator

from obc.config.table import FigureSpec, TableSpec
from obc.io.typed_yaml import ConfigError, Strict, read_yaml, validate

Verdict = Literal["reproduced", "not reproduced", "inconclusive", "not judged", "not run"]
NotJudged = Literal[
    "one training each",
    "nothing was learnt",
    "the scale forbids verdicts",
    "the scale shows directions only",
    "some resamples of the test images have no objects",
]
Finding = Literal["agrees", "contradicts", "undecided"]
Direction = Literal["agrees", "does not agree"]
ClaimMetric = Literal["AP", "AP50", "AP60", "AP70", "AP75", "AP80", "AP90"]
Side = Annotated[
    tuple[str, ...],
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
    Field(min_length=1, description="row keys; several keys are the mean of their cells"),
]


@dataclass(frozen=True)
class Contrast:
    """The sum of `rows[r] * metrics[m] * cell(r, m)` over row keys r and metrics m, in AP points.

    Attributes:
        first, second: weight of each row key of a side; the weights of a side add up to 1. The
            second side is the reference, which is subtracted from the first.
        metrics: weight of each metric; the same for every row.
        label: the difference in words, with the names of rows and metrics.
    """

    first: dict[str, float]
    second: dict[str, float]
    metrics: dict[str, float]
    label: str

    @property
    def rows(self) -> dict[str, float]:
        """Weight of each row key, negative for the second side; a row on both sides has the sum."""
        keys = dict.fromkeys((*self.first, *self.second))
        return {key: self.first.get(key, 0.0) - self.second.get(key, 0.0) for key in keys}

    def published(self, table: TableSpec) -> float | None:
        """The paper's value of the contrast; None unless the paper prints all of its numbers."""
        return published_sum(table, self.rows, self.metrics)


def published_sum(
    table: TableSpec, rows: dict[str, float], metrics: dict[str, float]
) -> float | None:
    """The weighted sum of the paper's cells (0 for no cells); None unless all are published.

    Args:
        rows: weight of each row key.
        metrics: weight of each metric, the same for every row.
    """
    terms = [
        (weight * factor, table.published(table.keyed_rows[key], metric))
        for key, weight in rows.items()
        for metric, factor in metrics.items()
    ]
    printed = [weight * number for weight, number in terms if number is not None]
    if len(printed) < len(terms):
        return None
    # Printed numbers have one decimal; digits beyond the sixth are binary rounding.
    return round(sum(printed), 6)


class _Claim(Strict):
    """A statement about differences between rows: in each pair, the first minus the second."""

    id: str = Field(pattern=r"^[a-z]\w*$", description="name of the claim")
    section: str = Field(description="place in the paper, e.g. 4.1 or abstract")
    statement: str = Field(description="the claim, as a full sentence")
    whose: Literal["paper", "ours"] = Field(
        "paper",
        description="paper: the paper states the claim; ours: our reading of its tables, counted "
        "separately",
    )
    gain: bool = Field(
        False,
        description="true: the claim is a gain of the method over the paper's baseline; such "
        "claims are counted first",
    )
    pairs: tuple[tuple[Side, Side], ...] = Field(
        min_length=1,
        description="pairs of row keys, the first minus the second; a list of keys is the mean "
        "of its rows",
    )
    compared: tuple[str, ...] | None = Field(
        None, description="name of each pair on the page; null: the names of its rows"
    )
    stated: tuple[float, ...] | None = Field(
        None,
        description="gains that the paper's sentence prints, one for each contrast; null: none",
    )

    @model_validator(mode="after")
    def _consistent(self) -> _Claim:
        for first, second in self.pairs:
            twice = sorted({k for side in (first, second) for k in side if side.count(k) > 1})
            if twice:
                raise ValueError(f"pairs: {', '.join(twice)} is twice on one side of a pair")
            if set(first) == set(second):
                raise ValueError(f"pairs: {', '.join(first)} is compared with itself")
        if self.compared is not None and len(self.compared) != len(self.pairs):
            raise ValueError(
                f"compared has {len(self.compared)} names, allowed: one a pair = {len(self.pairs)}"
            )
        contrasts = len(self.contrasts())
        if self.stated is not None and len(self.stated) != contrasts:
            raise ValueError(
                f"stated has {len(self.stated)} numbers, allowed: one a contrast = {contrasts}"
            )
        if self.gain and self.whose != "paper":
            raise ValueError("gain: true with whose: ours, allowed: with whose: paper")
        return self

    @property
    def row_keys(self) -> tuple[str, ...]:
        """Keys of the rows that the claim needs."""
        return tuple(dict.fromkeys(key for pair in self.pairs for side in pair for key in side))

    def metric_weights(self) -> tuple[dict[str, float], ...]:
        """For each contrast of a pair, the weight of each metric."""
        raise NotImplementedError

    def contrasts(self, names: Mapping[str, str] | None = None) -> tuple[Contrast, ...]:
        """Return the contrasts: for each pair, one for each entry of `metric_weights`.

        Args:
            names: name of each row key in the labels; a key without a name is its own name.
        """
        compared = self.compared or tuple(_compared(pair, names or {}) for pair in self.pairs)
        return tuple(
            Contrast(
                first=dict.fromkeys(first, 1 / len(first)),
                second=dict.fromkeys(second, 1 / len(second)),
                metrics=weights,
                label=f"{' − '.join(weights)}: {name}",
            )
            for (first, second), name in zip(self.pairs, compared, strict=True)
            for weights in self.metric_weights()
        )

    # --- rules for intervals; bounds are numbers or arrays, in AP points -----------------------

    def agrees(self, low: Any, high: Any) -> Any:
        """Whether every difference in [low, high] agrees with the claim: is above 0."""
        return low > 0

    def contradicts(self, low: Any, high: Any) -> Any:
        """Whether every difference in [low, high] contradicts the claim: is below 0."""
        return high < 0

    def finding(self, low: float, high: float) -> Finding:
        """Compare the interval [low, high] of one contrast with the claim."""
        if self.agrees(low, high):
            return "agrees"
        return "contradicts" if self.contradicts(low, high) else "undecided"

    def words(self, finding: Finding, high: float) -> str:
        """Where the interval of one contrast lies, in words that are alike for both signs."""
        return {"agrees": "above 0", "contradicts": "below 0", "undecided": "not told from 0"}[
            finding
        ]

    def expected(self, paper: float | None, smallest_effect: float) -> float:
        """The difference to expect if the claim is true, in AP points.

        Args:
            paper: the paper's difference; None where the paper prints none.
            smallest_effect: the difference to look for where the paper prints none.
        """
        return smallest_effect if paper is None else paper

    def level(self, confidence: float, comparisons: int = 1) -> float:
        """Confidence level of the interval that decides about one contrast.

        Args:
            confidence: `Claims.confidence`.
            comparisons: the number of contrasts that the level is corrected for (Bonferroni).
        """
        return 1 - (1 - confidence) / comparisons


class _PerMetric(_Claim):
    metrics: tuple[ClaimMetric, ...] = Field(
        ("AP",), min_length=1, description="metrics at which each pair is compared"
    )

    def metric_weights(self) -> tuple[dict[str, float], ...]:
        """Each metric alone, with weight 1."""
        return tuple({metric: 1.0} for metric in self.metrics)


class Higher(_PerMetric):
    """The first of each pair is above the second."""

    kind: Literal["higher"]


class _WithMargin(_PerMetric):
    margin: PositiveFloat = Field(
        description="differences up to this size do not count, in AP points"
    )
    margin_reason: str = Field(description="reason for the size of the margin, as a sentence")

    def expected(self, paper: float | None, smallest_effect: float) -> float:
        """The paper's difference; 0 where the paper prints none."""
        return 0.0 if paper is None else paper


class NotHigher(_WithMargin):
    """The first of each pair is not above the second by more than a margin."""

    kind: Literal["not_higher"]

    def agrees(self, low: Any, high: Any) -> Any:
        """Whether the whole interval is at or below the margin."""
        return high <= self.margin

    def contradicts(self, low: Any, high: Any) -> Any:
        """Whether the whole interval is above the margin."""
        return low > self.margin

    def words(self, finding: Finding, high: float) -> str:
        """As `_Claim.words`, relative to the margin; `below 0` if the whole interval is."""
        if high < 0:
            return "below 0"
        return {
            "agrees": f"at most +{self.margin:g}",
            "contradicts": f"more than +{self.margin:g}",
            "undecided": f"not told from +{self.margin:g}",
        }[finding]


class Close(_WithMargin):
    """The two of each pair differ by no more than a margin (two one-sided tests)."""

    kind: Literal["close"]

    def agrees(self, low: Any, high: Any) -> Any:
        """Whether the whole interval is within the margins."""
        return (-self.margin <= low) & (high <= self.margin)

    def contradicts(self, low: Any, high: Any) -> Any:
        """Whether the whole interval is beyond one of the margins."""
        return (low > self.margin) | (high < -self.margin)

    def words(self, finding: Finding, high: float) -> str:
        """As `_Claim.words`, relative to the margins; the sign does not matter."""
        return {
            "agrees": f"within ±{self.margin:g}",
            "contradicts": f"beyond ±{self.margin:g}",
            "undecided": f"not told from ±{self.margin:g}",
        }[finding]

    def level(self, confidence: float, comparisons: int = 1) -> float:
        """As `_Claim.level`, but each bound is a one-sided test at 1 - confidence.

        A confidence of 95 % therefore gives an interval of 90 %.
        """
        return 1 - 2 * (1 - confidence) / comparisons


class Peak(_Claim):
    """The gain of the first over the second of each pair is larger at one metric than at others."""

    kind: Literal["peak"]
    at: ClaimMetric = Field(
        description="metric with the largest gain; the gain at this metric must also be above 0"
    )
    over: tuple[ClaimMetric, ...] = Field(min_length=1, description="metrics with smaller gains")

    @model_validator(mode="after")
    def _not_over_itself(self) -> Peak:
        if self.at in self.over:
            raise ValueError(f"over names {self.at}, which is `at` itself")
        return self

    def metric_weights(self) -> tuple[dict[str, float], ...]:
        """The metric of the peak alone, then the metric of the peak minus each other metric.

        The first contrast requires a gain at the peak: losses at the other metrics do not suffice.
        """
        less: list[dict[str, float]] = [{self.at: 1.0, metric: -1.0} for metric in self.over]
        return ({self.at: 1.0}, *less)


Claim = Annotated[Higher | NotHigher | Close | Peak, Field(discriminator="kind")]


class Topic(Strict):
    """The claims about one table or figure."""

    table: str = Field(description="name of the table or figure")
    title: str = Field(description="heading on the page")
    names: dict[str, str] = Field(
        {},
        description="names of rows on the page, by key; other rows appear with label and columns",
    )
    claims: tuple[Claim, ...] = Field(
        min_length=1, description="claims, each of one of the kinds below"
    )


class Claims(Strict):
    """config/claims.yaml: the paper's claims, and the confidence that a verdict needs."""

    resamples: int = Field(
        2000,
        ge=100,
        le=100_000,
        strict=True,
        description="number of bootstrap resamples of the test images",
    )
    seed: int = Field(2020, ge=0, strict=True, description="seed of the resampling")
    confidence: float = Field(
        0.95,
        gt=0.5,
        lt=1,
        description="confidence level of the intervals; for `close`, of each one-sided test",
    )
    smallest_effect: PositiveFloat = Field(
        0.8, description="gain to look for where the paper prints none, in AP points"
    )
    learnt: PositiveFloat = Field(
        4.0,
        description="smallest AP for a verdict: the reference needs this AP, and at each metric "
        "compared one of the two sides needs it",
    )
    topics: tuple[Topic, ...] = Field(
        min_length=1, description="claims by table or figure, in the order of the page"
    )

    @model_validator(mode="after")
    def _ids_differ(self) -> Claims:
        ids = [claim.id for topic in self.topics for claim in topic.claims]
        twice = sorted({name for name in ids if ids.count(name) > 1})
        if twice:
            raise ValueError(f"id {', '.join(twice)} stands there twice")
        return self

    def about(self, tables: Iterable[str]) -> Claims | None:
        """The claims about the given tables; None when there are none."""
        topics = tuple(topic for topic in self.topics if topic.table in set(tables))
        return self.model_copy(update={"topics": topics}) if topics else None


def read_claims(path: Path, tables: dict[str, FigureSpec | TableSpec]) -> Claims:
    """Read config/claims.yaml and check every name in it against the tables.

    Raises:
        ConfigError: anything in the file is wrong, or it names a table, row or metric that does not
            exist.
    """
    claims = validate(Claims, read_yaml(path), path)
    for topic in claims.topics:
        if topic.table not in tables:
            raise ConfigError(
                f"{path}: no table or figure {topic.table!r}; allowed: {', '.join(tables)}"
            )
        table = tables[topic.table]
        _check_names(f"{path}: names of {topic.table}", "row key", topic.names, table.keyed_rows)
        for claim in topic.claims:
            place = f"{path}: {claim.id}"
            _check_names(place, "row key", claim.row_keys, table.keyed_rows)
            used = [metric for contrast in claim.contrasts() for metric in contrast.metrics]
            _check_names(place, "metric", used, table.metrics)
            for first, second in claim.pairs:
                if all(table.keyed_rows[key].cited for key in (*first, *second)):
                    raise ConfigError(
                        f"{place}: {', '.join((*first, *second))} are all from the literature; "
                        "at least one must be ours"
                    )
    return claims


def _check_names(place: str, what: str, used: Iterable[str], known: Iterable[str]) -> None:
    unknown = sorted(set(used) - set(known))
    if unknown:
        raise ConfigError(f"{place}: no {what} {', '.join(unknown)}; allowed: {', '.join(known)}")


def _compared(pair: tuple[Side, Side], names: Mapping[str, str]) -> str:
    """The difference in words, e.g. `two stages less one stage`."""
    first, second = (
        named[0] if len(named) == 1 else f"mean({'; '.join(named)})"
        for named in ([names.get(key, key) for key in side] for side in pair)
    )
    return f"{first} less {second}"

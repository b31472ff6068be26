"""The paper's checkable statements as inequalities between rows of its tables (config/claims.yaml).

A statement is one or more *contrasts*, weighted sums of table cells, and a rule that turns the
confidence interval of a contrast into a verdict. The paper's own size of a contrast is computed
from the `paper:` columns of the same rows, so that no number of the paper is typed twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PositiveFloat, model_validator

from obc.config.table import FigureSpec, TableSpec
from obc.io.typed_yaml import ConfigError, Strict, read_yaml, validate

Verdict = Literal["reproduced", "not reproduced", "within noise", "not run"]
ClaimMetric = Literal["AP", "AP50", "AP60", "AP70", "AP75", "AP80", "AP90"]
Side = Annotated[
    tuple[str, ...],
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
    Field(min_length=1, description="row keys; several stand for the mean of their cells"),
]


@dataclass(frozen=True)
class Contrast:
    """The sum of `rows[r] * metrics[m] * cell(r, m)` over row keys r and metrics m, in AP points.

    Attributes:
        rows: weight of each row key of one table.
        metrics: weight of each metric; the same for every row.
        label: what is subtracted from what, in row keys and metrics.
    """

    rows: dict[str, float]
    metrics: dict[str, float]
    label: str

    def published(self, table: TableSpec) -> float | None:
        """The paper's own value of the contrast; None unless it prints every number of it."""
        terms = [
            (weight * factor, table.published(table.keyed_rows[key], metric))
            for key, weight in self.rows.items()
            for metric, factor in self.metrics.items()
        ]
        if any(number is None for _, number in terms):
            return None
        # Printed numbers have one decimal; what is left behind the sixth is binary rounding.
        return round(sum(weight * number for weight, number in terms), 6)


class _Claim(Strict):
    """A statement about pairs of rows; every pair means the first minus the second."""

    id: str = Field(pattern=r"^[a-z]\w*$", description="its name")
    section: str = Field(description="where the paper says it, e.g. 4.1 or abstract")
    statement: str = Field(description="the claim in a sentence of its own")
    pairs: tuple[tuple[Side, Side], ...] = Field(
        min_length=1,
        description="row keys, the first minus the second; a list stands for the mean of its rows",
    )
    stated: tuple[float, ...] | None = Field(
        None, description="the gains as the sentence prints them, one a contrast"
    )

    @model_validator(mode="after")
    def _pairs_differ(self) -> _Claim:
        for first, second in self.pairs:
            keys = [*first, *second]
            twice = sorted({key for key in keys if keys.count(key) > 1})
            if twice:
                raise ValueError(f"pairs: {', '.join(twice)} stands twice in one pair")
        contrasts = len(self.contrasts())
        if self.stated is not None and len(self.stated) != contrasts:
            raise ValueError(
                f"stated has {len(self.stated)} numbers, allowed: one a contrast = {contrasts}"
            )
        return self

    @property
    def row_keys(self) -> tuple[str, ...]:
        """The rows that the claim needs."""
        return tuple(dict.fromkeys(key for pair in self.pairs for side in pair for key in side))

    def metric_weights(self) -> tuple[dict[str, float], ...]:
        """The metrics of each contrast of a pair, with their weights."""
        raise NotImplementedError

    def verdict(self, low: float, high: float) -> Verdict:
        """Judge one contrast by the interval [low, high] of its value, in AP points."""
        raise NotImplementedError

    def contrasts(self) -> tuple[Contrast, ...]:
        """What is measured: for each pair, one contrast for each entry of `metric_weights`."""
        return tuple(
            Contrast(_row_weights(pair), weights, _label(pair, weights))
            for pair in self.pairs
            for weights in self.metric_weights()
        )


class _PerMetric(_Claim):
    metrics: tuple[ClaimMetric, ...] = Field(
        ("AP",), min_length=1, description="one comparison for each"
    )

    def metric_weights(self) -> tuple[dict[str, float], ...]:
        """Each metric by itself."""
        return tuple({metric: 1.0} for metric in self.metrics)


class Higher(_PerMetric):
    """The first of each pair is above the second."""

    kind: Literal["higher"]

    def verdict(self, low: float, high: float) -> Verdict:
        """Reproduced above zero, not reproduced below."""
        return _above_zero(low, high)


class NotHigher(_PerMetric):
    """The first of each pair is not above the second by more than a margin."""

    kind: Literal["not_higher"]
    margin: PositiveFloat = Field(description="AP points that do not count as a gain")

    def verdict(self, low: float, high: float) -> Verdict:
        """Reproduced up to the margin, not reproduced beyond it."""
        if high <= self.margin:
            return "reproduced"
        return "not reproduced" if low > self.margin else "within noise"


class Close(_PerMetric):
    """The two of each pair differ by no more than a margin."""

    kind: Literal["close"]
    margin: PositiveFloat = Field(description="AP points that do not count as a difference")

    def verdict(self, low: float, high: float) -> Verdict:
        """Reproduced wholly within the margins, not reproduced wholly outside of them."""
        if -self.margin <= low and high <= self.margin:
            return "reproduced"
        outside = low > self.margin or high < -self.margin
        return "not reproduced" if outside else "within noise"


class Peak(_Claim):
    """The gain of the first over the second of each pair is larger at one metric than at others."""

    kind: Literal["peak"]
    at: ClaimMetric = Field(description="the metric where the gain is largest")
    over: tuple[ClaimMetric, ...] = Field(
        min_length=1, description="the metrics with smaller gains"
    )

    @model_validator(mode="after")
    def _not_over_itself(self) -> Peak:
        if self.at in self.over:
            raise ValueError(f"over names {self.at}, which is `at` itself")
        return self

    def metric_weights(self) -> tuple[dict[str, float], ...]:
        """The metric of the peak less each of the others."""
        return tuple({self.at: 1.0, metric: -1.0} for metric in self.over)

    def verdict(self, low: float, high: float) -> Verdict:
        """Reproduced above zero, not reproduced below."""
        return _above_zero(low, high)


Claim = Annotated[Higher | NotHigher | Close | Peak, Field(discriminator="kind")]


class Topic(Strict):
    """The claims about one table or figure."""

    table: str = Field(description="name of the table or figure")
    title: str = Field(description="heading on the page")
    claims: tuple[Claim, ...] = Field(min_length=1, description="each of one of the kinds below")


class Claims(Strict):
    """config/claims.yaml: what the paper claims, and how sure a verdict must be."""

    resamples: int = Field(ge=100, le=100_000, strict=True, description="of the test images")
    seed: int = Field(ge=0, strict=True, description="of the resampling")
    confidence: float = Field(gt=0, lt=1, description="of the intervals")
    topics: tuple[Topic, ...] = Field(min_length=1, description="in the order of the page")

    @model_validator(mode="after")
    def _ids_differ(self) -> Claims:
        ids = [claim.id for topic in self.topics for claim in topic.claims]
        twice = sorted({name for name in ids if ids.count(name) > 1})
        if twice:
            raise ValueError(f"id {', '.join(twice)} stands there twice")
        return self

    def about(self, tables: Iterable[str]) -> Claims | None:
        """The claims about some tables only; None when there are none."""
        topics = tuple(topic for topic in self.topics if topic.table in set(tables))
        return self.model_copy(update={"topics": topics}) if topics else None


def read_claims(path: Path, tables: dict[str, FigureSpec | TableSpec]) -> Claims:
    """Read config/claims.yaml and check every name in it against the tables.

    Raises:
        ConfigError: anything in the file is wrong, or it names a table, row or metric that is not
            there.
    """
    claims = validate(Claims, read_yaml(path), path)
    for topic in claims.topics:
        if topic.table not in tables:
            raise ConfigError(
                f"{path}: no table or figure {topic.table!r}; allowed: {', '.join(tables)}"
            )
        table = tables[topic.table]
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


def _row_weights(pair: tuple[Side, Side]) -> dict[str, float]:
    first, second = pair
    return {
        **dict.fromkeys(first, 1 / len(first)),
        **dict.fromkeys(second, -1 / len(second)),
    }


def _label(pair: tuple[Side, Side], weights: dict[str, float]) -> str:
    """What is subtracted from what, e.g. `AP: k2 − k1` or `AP90 − AP50: k2 − k1`."""
    first, second = (side[0] if len(side) == 1 else f"mean({', '.join(side)})" for side in pair)
    return f"{' − '.join(weights)}: {first} − {second}"


def _above_zero(low: float, high: float) -> Verdict:
    if low > 0:
        return "reproduced"
    return "not reproduced" if high < 0 else "within noise"

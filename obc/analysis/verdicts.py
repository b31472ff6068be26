"""Judge the paper's claims by what the runs measured: an interval and a verdict for each contrast.

The difference is taken between means over seeds. Two things would be otherwise in a repetition and
widen its interval: the test images, measured by a bootstrap that draws the same images for every
evaluation of a data set (`bootstrap`), and the trainings, measured by the spread between
seeds (`seed_spread`).

Shape shorthand: B resamples, S seeds. A *sampled* number is (1 + B,): as measured, then resampled.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from obc.analysis.bootstrap import difference_interval, image_weights, resampled_ap
from obc.analysis.collect import require_complete
from obc.analysis.evaluations import Evaluation, evaluations, load, measured, require_same
from obc.analysis.seed_spread import (
    Cell,
    Sampled,
    Samples,
    Spread,
    spread_of,
    training_variance,
    weighted_sum,
)
from obc.config.claims import Claim, Contrast, Topic, Verdict
from obc.config.comparable import is_comparable
from obc.config.plan import Plan
from obc.config.table import TableSpec
from obc.datasets.settings import DatasetName
from obc.evaluation.matching import match
from obc.io.typed_yaml import ConfigError

Position = Literal["below", "inside", "above"]
_LINE_EVERY = 10
_NO_OBJECTS = "too few test images with objects: some resamples have none, so no interval"


@dataclass(frozen=True)
class Resampling:
    """One evaluation, and with how many resamples of its test images, drawn from which seed."""

    evaluation: Evaluation
    resamples: int
    seed: int


@dataclass(frozen=True)
class JudgedContrast:
    """One contrast of a claim, ours beside the paper's; all numbers in AP points.

    Attributes:
        compared: which rows and metrics, see `obc.config.claims.Contrast.label`.
        paper: from the paper's tables; None where they do not print the numbers.
        stated: as the paper's sentence prints it; None where it prints none.
        difference: ours; None unless measured.
        low, high, standard_error: of our interval; None without one.
        paper_position: where the paper's difference lies relative to our interval.
        verdict: what the interval says; see `obc.report.tables.claims.METHOD`.
        spread: what the interval knows of the spread between trainings: each of the contrast's own
            runs has several seeds, or one has not and it is of other runs of the data set, or no
            run there has, and the interval covers the test images only. None without interval.
        seed_degrees: degrees of freedom behind that spread.
        reason: why there is no interval; None when there is.
    """

    compared: str
    paper: float | None
    stated: float | None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    standard_error: float | None = None
    paper_position: Position | None = None
    verdict: Verdict = "not run"
    spread: Spread | None = None
    seed_degrees: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class JudgedClaim:
    """A claim, its contrasts and what they say together."""

    claim: Claim
    contrasts: tuple[JudgedContrast, ...]

    @property
    def verdict(self) -> Verdict:
        """Of all contrasts: the first of not run, not reproduced, within noise that one has."""
        found = {contrast.verdict for contrast in self.contrasts}
        order: tuple[Verdict, ...] = ("not run", "not reproduced", "within noise")
        return next((verdict for verdict in order if verdict in found), "reproduced")


@dataclass(frozen=True)
class JudgedTopic:
    """The claims about one table, judged."""

    topic: Topic
    claims: tuple[JudgedClaim, ...]


def resample(asked: Resampling) -> Sampled:
    """The metrics of an evaluation, on all test images and then on each resample of them."""
    matches = match(*load(asked.evaluation))
    drawn = image_weights(len(matches.image_ids), asked.resamples, asked.seed)
    return resampled_ap(matches, np.vstack([np.ones_like(drawn[:1]), drawn]))


def judge(
    plan: Plan,
    strict: bool = True,
    workers: int = 1,
    resample: Callable[[Resampling], Sampled] = resample,
) -> tuple[JudgedTopic, ...]:
    """Judge every claim of a plan.

    Args:
        strict: refuse to judge anything while an evaluation that a claim needs is missing;
            otherwise such claims are "not run".
        workers: processes that resample.
        resample: what gives an evaluation's sampled metrics.

    Raises:
        ConfigError: the plan has no claims.
        IncompleteError: strict, and evaluations are missing; names the run folders and logs.
        MetricsFileError, DetectionsFileError: a file is damaged or belongs to something else.
        DatasetError: evaluations are there, and the index of their data set is not.
    """
    if plan.claims is None:
        raise ConfigError("no claims to judge: config/claims.yaml has none about this plan's data")
    frame = _measured(plan)
    if strict:
        require_complete(plan, frame)
    samples = _samples(plan, frame, workers, resample)
    return tuple(
        JudgedTopic(topic, tuple(_judged(plan, topic, claim, samples) for claim in topic.claims))
        for topic in plan.claims.topics
    )


def count_test_images(plan: Plan, dataset: DatasetName) -> int | None:
    """How many images a data set is evaluated on; None before it is indexed."""
    manifest = plan.index_folder(dataset).find_manifest()
    return None if manifest is None else manifest["splits"]["val"]["images"]


# --- what was measured -------------------------------------------------------------------------


def _measured(plan: Plan) -> pd.DataFrame:
    """What was measured of the rows that claims need."""
    needed = plan.claimed_rows
    frame = measured(plan, [topic.table for topic in plan.claims.topics])
    return frame[[cell in needed for cell in zip(frame["table"], frame["row"], strict=True)]]


def _samples(
    plan: Plan, frame: pd.DataFrame, workers: int, resample: Callable[[Resampling], Sampled]
) -> Samples:
    """Resample every evaluation that is there, each once, however many claims use it."""
    chosen = (plan.claims.resamples, plan.claims.seed)
    asked = [Resampling(evaluation, *chosen) for evaluation in evaluations(plan, frame)]
    samples: Samples = {}
    for one, sampled in zip(asked, _mapped(resample, asked, workers), strict=True):
        evaluation = one.evaluation
        at_all_images = {metric: float(values[0]) for metric, values in sampled.items()}
        require_same(evaluation, frame, at_all_images)
        samples.setdefault((evaluation.run_id, evaluation.decode), {})[evaluation.seed] = sampled
    return samples


def _mapped(
    resample: Callable[[Resampling], Sampled], asked: Sequence[Resampling], workers: int
) -> Iterable[Sampled]:
    """Each resampled, with a line on standard error now and then."""
    with ProcessPoolExecutor(workers) if workers > 1 else nullcontext() as pool:
        results = pool.map(resample, asked) if pool else map(resample, asked)
        for done, sampled in enumerate(results, 1):
            if done % _LINE_EVERY == 0:
                print(f"claims: resampled {done}/{len(asked)}", file=sys.stderr, flush=True)
            yield sampled


# --- judging -----------------------------------------------------------------------------------


def _judged(plan: Plan, topic: Topic, claim: Claim, samples: Samples) -> JudgedClaim:
    table = plan.tables[topic.table]
    contrasts = claim.contrasts()
    stated = claim.stated or (None,) * len(contrasts)
    return JudgedClaim(
        claim,
        tuple(
            _judged_contrast(plan, table, claim, contrast, size, samples)
            for contrast, size in zip(contrasts, stated, strict=True)
        ),
    )


def _judged_contrast(
    plan: Plan,
    table: TableSpec,
    claim: Claim,
    contrast: Contrast,
    stated: float | None,
    samples: Samples,
) -> JudgedContrast:
    paper = contrast.published(table)
    unjudged = JudgedContrast(contrast.label, paper, stated)
    cells, cited = _parts(plan, table, contrast)
    literature = cited.published(table)
    if literature is None:
        return replace(unjudged, reason="the literature has no such number")
    if cited.rows and not is_comparable(plan, table):
        reason = "only the paper's own setting compares with the literature"
        return replace(unjudged, reason=reason)
    wanted = [(cell, seed) for cell in cells for seed in plan.seeds_of(cell[0])]
    missing = sum(seed not in samples.get(cell, {}) for cell, seed in wanted)
    if missing:
        return replace(unjudged, reason=f"{missing} of {len(wanted)} evaluations missing")
    sampled = literature + sum(
        weighted_sum({cell: cells[cell]}, contrast.metrics, samples, seed)
        / len(plan.seeds_of(cell[0]))
        for cell, seed in wanted
    )
    difference = float(sampled[0])
    if not np.isfinite(sampled).all():
        return replace(unjudged, difference=difference, verdict="within noise", reason=_NO_OBJECTS)
    variance, degrees = training_variance(plan, cells, contrast.metrics, samples)
    confidence = plan.claims.confidence
    interval, wide = (
        difference_interval(sampled[1:], difference, variance, degrees, level)
        for level in (confidence, 1 - (1 - confidence) / len(claim.contrasts()))
    )
    verdict = claim.verdict(interval.low, interval.high)
    if verdict == "not reproduced":
        # One contradiction refutes the claim, and each further contrast is a chance of a false one.
        verdict = claim.verdict(wide.low, wide.high)
    return replace(
        unjudged,
        difference=difference,
        low=interval.low,
        high=interval.high,
        standard_error=interval.standard_error,
        paper_position=_position(paper, interval.low, interval.high),
        verdict=verdict,
        spread=spread_of(plan, cells, degrees),
        seed_degrees=degrees,
    )


def _parts(plan: Plan, table: TableSpec, contrast: Contrast) -> tuple[dict[Cell, float], Contrast]:
    """A contrast's weight of each cell that we measure, and its part from the literature."""
    cells: dict[Cell, float] = {}
    cited = {}
    for key, weight in contrast.rows.items():
        row = table.keyed_rows[key]
        if row.cited:
            cited[key] = weight
        else:
            cell = (plan.run_of(row).run_id, row.decode)
            cells[cell] = cells.get(cell, 0.0) + weight
    return cells, replace(contrast, rows=cited)


def _position(paper: float | None, low: float, high: float) -> Position | None:
    if paper is None:
        return None
    if paper < low:
        return "below"
    return "above" if paper > high else "inside"

"""Judge the paper's claims: an interval for each contrast, a verdict for each claim.

A difference is taken between means over seeds. Its interval covers two sources of noise: the test
images, measured by a bootstrap that draws the same images for every evaluation of a data set
(`bootstrap`), and the trainings, measured by the spread between seeds (`seed_spread`).

The printed interval decides each contrast. A claim is reproduced if all its contrasts agree; this
needs no correction for multiple comparisons. It is not reproduced if one contrast contradicts it
after correction for the number of contrasts. There is no verdict if the spread between trainings
is unknown or if the detectors have learnt nothing.

Shape shorthand: B resamples, S seeds. A *sampled* number has shape (1 + B,): the measured value,
then its value on each resample.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from obc.analysis.bootstrap import Interval, difference_interval, image_weights, resampled_ap
from obc.analysis.collect import require_complete
from obc.analysis.evaluations import Evaluation, evaluations, load, measured, require_same
from obc.analysis.seed_spread import (
    Cell,
    Sampled,
    Samples,
    Spread,
    TrainingSpread,
    spread_of,
    training_spread,
    weighted_sum,
)
from obc.config.claims import (
    Claim,
    Claims,
    Contrast,
    Direction,
    Finding,
    NotJudged,
    Topic,
    Verdict,
    published_sum,
)
from obc.config.comparable import is_comparable
from obc.config.plan import Plan
from obc.config.table import TableSpec, row_label
from obc.datasets.settings import DatasetName
from obc.evaluation.matching import match
from obc.io.typed_yaml import ConfigError

Status = Literal["judged", "not judged", "not run"]
PaperSize = Literal["not excluded", "excluded, ours is lower", "excluded, ours is higher"]
ONE_TRAINING, NOTHING_LEARNT, FORBIDDEN, DIRECTION_ONLY, NO_OBJECTS = get_args(NotJudged)
_LINE_EVERY = 10


@dataclass(frozen=True)
class Resampling:
    """An evaluation, the number of resamples of its test images, and the seed they use."""

    evaluation: Evaluation
    resamples: int
    seed: int


@dataclass(frozen=True)
class Estimate:
    """A measured contrast with both sources of its noise.

    Attributes:
        sampled: (1 + B,) in AP points: the measured value, then its value on each resample of the
            test images. Not finite where a resample has no objects.
        training: the variation of the contrast between trainings.
        spread: the source of `training`, see `JudgedContrast`.
    """

    sampled: np.ndarray
    training: TrainingSpread
    spread: Spread

    @property
    def difference(self) -> float:
        """The measured difference, in AP points."""
        return float(self.sampled[0])

    @property
    def has_interval(self) -> bool:
        """Whether the spread between trainings is known, and every resample has objects."""
        return self.spread != "none" and bool(np.isfinite(self.sampled).all())

    def interval(self, level: float) -> Interval:
        """Return the confidence interval over test images and trainings; `level` in (0, 1)."""
        return difference_interval(
            self.sampled[1:], self.difference, self.training.variance, self.training.degrees, level
        )


@dataclass(frozen=True)
class NotRun:
    """The reason why a contrast cannot be measured yet, or not at this scale."""

    reason: str


@dataclass(frozen=True)
class JudgedContrast:
    """One contrast of a claim, ours and the paper's; all numbers in AP points.

    Attributes:
        compared: the rows and metrics compared, see `obc.config.claims.Contrast.label`.
        paper: the difference in the paper's tables; None if they do not print the numbers.
        stated: the difference in the paper's sentence; None if the sentence has no number.
        status: `not judged` has a difference but no finding; `not run` has neither.
        reason: why the contrast is not judged or not run; None when judged.
        difference: our difference; None unless measured.
        low, high, standard_error: of our interval; None if its noise is unknown.
        level: confidence level of the interval.
        direction: whether the difference, regardless of its noise, agrees with the claim; None
            unless the only reason against a verdict is a single training of each run or a scale
            that shows directions only.
        finding: whether the interval agrees with the claim, contradicts it or leaves it
            undecided; None unless judged.
        words: the position of the interval, see `obc.config.claims`; None unless judged.
        contradicts: whether the interval, corrected for the number of the claim's contrasts,
            contradicts the claim.
        paper_size: whether the interval excludes the paper's difference; None if the paper has
            none, or unless judged.
        too_wide: whether an interval of this width would be undecided even if it were centred on
            the expected difference (`obc.config.claims`); None unless judged.
        spread: the source of the spread between trainings. `own`: every run of the contrast has
            several seeds. `data set`: a run of the contrast has a single seed, so the spread is
            that of other runs of the data set. `none`: no run of the data set has several seeds.
            None if the contrast is not run.
        seed_degrees: degrees of freedom of that spread.
    """

    compared: str
    paper: float | None
    stated: float | None
    status: Status = "not run"
    reason: str | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    standard_error: float | None = None
    level: float | None = None
    direction: Direction | None = None
    finding: Finding | None = None
    words: str | None = None
    contradicts: bool = False
    paper_size: PaperSize | None = None
    too_wide: bool | None = None
    spread: Spread | None = None
    seed_degrees: float | None = None


@dataclass(frozen=True)
class JudgedClaim:
    """A claim and its contrasts; the properties combine the contrasts.

    Attributes:
        estimates: the measured value of each contrast, in the same order; None where not run.
    """

    claim: Claim
    contrasts: tuple[JudgedContrast, ...]
    estimates: tuple[Estimate | None, ...]

    @property
    def verdict(self) -> Verdict:
        """The verdict over all contrasts, see the module's docstring."""
        statuses = {contrast.status for contrast in self.contrasts}
        if "not run" in statuses:
            return "not run"
        if any(contrast.contradicts for contrast in self.contrasts):
            return "not reproduced"
        if "not judged" in statuses:
            return "not judged"
        agree = all(contrast.finding == "agrees" for contrast in self.contrasts)
        return "reproduced" if agree else "inconclusive"

    @property
    def reason(self) -> str | None:
        """Why the claim is not judged or not run: the reason of its first such contrast."""
        if self.verdict not in ("not judged", "not run"):
            return None
        return next(each.reason for each in self.contrasts if each.status == self.verdict)

    @property
    def direction(self) -> Direction | None:
        """Whether every difference agrees with the claim; None if a direction is unknown."""
        found = {contrast.direction for contrast in self.contrasts}
        if None in found:
            return None
        return "agrees" if found == {"agrees"} else "does not agree"

    @property
    def by_being_worse(self) -> bool:
        """Whether a claim of no gain is reproduced because every interval lies below 0."""
        return self.verdict == "reproduced" and all(
            contrast.words == "below 0" for contrast in self.contrasts
        )


@dataclass(frozen=True)
class JudgedTopic:
    """The judged claims about one table."""

    topic: Topic
    claims: tuple[JudgedClaim, ...]


def resample(asked: Resampling) -> Sampled:
    """Compute an evaluation's metrics on all test images, then on each resample of them."""
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
            otherwise claims with missing evaluations are "not run".
        workers: number of processes that resample.
        resample: function that computes an evaluation's sampled metrics.

    Raises:
        ConfigError: the plan has no claims.
        IncompleteError: strict, and evaluations are missing; names the run folders and logs.
        MetricsFileError, DetectionsFileError: a file is damaged or belongs to another evaluation.
        DatasetError: the index of an evaluated data set is missing.
    """
    if plan.claims is None:
        raise ConfigError("no claims to judge: config/claims.yaml has none about this plan's data")
    trained = (plan.run_of(row).run_id for row in plan.claimed_rows.values() if not row.cited)
    # With one seed per run no contrast has an interval, and resampling takes most of the time.
    several = any(len(plan.seeds_of(run_id)) > 1 for run_id in trained)
    resamples = plan.claims.resamples if several else 1
    samples = sample(
        plan, plan.claimed_rows, resamples, plan.claims.seed, strict, workers, resample
    )
    return tuple(
        JudgedTopic(
            topic, tuple(judge_claim(plan, topic, claim, samples) for claim in topic.claims)
        )
        for topic in plan.claims.topics
    )


def count_test_images(plan: Plan, dataset: DatasetName) -> int | None:
    """Number of test images of a data set; None before it is indexed."""
    manifest = plan.index_folder(dataset).find_manifest()
    return None if manifest is None else manifest["splits"]["val"]["images"]


# --- measuring ---------------------------------------------------------------------------------


def sample(
    plan: Plan,
    rows: Collection[tuple[str, int]],
    resamples: int,
    seed: int,
    strict: bool,
    workers: int,
    resample: Callable[[Resampling], Sampled] = resample,
) -> Samples:
    """Resample every available evaluation of some rows, each once even if several rows show it.

    Args:
        rows: table name and row index of each row.
        resamples, seed: number of resamples and random seed, the same for all evaluations.
        strict, workers, resample: as in `judge`.

    Raises:
        IncompleteError, MetricsFileError, DetectionsFileError, DatasetError: as in `judge`.
    """
    frame = measured(plan, dict.fromkeys(table for table, _ in rows))
    frame = frame[[cell in rows for cell in zip(frame["table"], frame["row"], strict=True)]]
    if strict:
        require_complete(plan, frame)
    asked = [Resampling(evaluation, resamples, seed) for evaluation in evaluations(plan, frame)]
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
    """Yield each evaluation's sampled metrics; print progress to standard error."""
    with ProcessPoolExecutor(workers) if workers > 1 else nullcontext() as pool:
        results = pool.map(resample, asked) if pool else map(resample, asked)
        for done, sampled in enumerate(results, 1):
            if done % _LINE_EVERY == 0:
                print(f"claims: resampled {done}/{len(asked)}", file=sys.stderr, flush=True)
            yield sampled


# --- judging -----------------------------------------------------------------------------------


def judge_claim(plan: Plan, topic: Topic, claim: Claim, samples: Samples) -> JudgedClaim:
    """Judge one claim from the sampled metrics of the available evaluations."""
    table = plan.tables[topic.table]
    contrasts = claim.contrasts(row_names(topic, table))
    stated = claim.stated or (None,) * len(contrasts)
    estimates = [measure_contrast(plan, table, contrast, samples) for contrast in contrasts]
    return JudgedClaim(
        claim,
        tuple(
            _judged(plan, table, claim, contrast, size, estimate, samples)
            for contrast, size, estimate in zip(contrasts, stated, estimates, strict=True)
        ),
        tuple(each if isinstance(each, Estimate) else None for each in estimates),
    )


def row_names(topic: Topic, table: TableSpec) -> dict[str, str]:
    """Return the display name of each row that has a key, by key."""
    return {key: topic.names.get(key, row_label(row)) for key, row in table.keyed_rows.items()}


def measure_contrast(
    plan: Plan, table: TableSpec, contrast: Contrast, samples: Samples
) -> Estimate | NotRun:
    """Measure a contrast from the sampled metrics of its rows; it need not belong to a claim."""
    cells, cited = _parts(plan, table, contrast.rows)
    literature = published_sum(table, cited, contrast.metrics)
    if literature is None:
        return NotRun("the literature has no such number")
    if cited and not is_comparable(plan, table):
        return NotRun("only the paper's own setting compares with the literature")
    wanted = [(cell, seed) for cell in cells for seed in plan.seeds_of(cell[0])]
    missing = sum(seed not in samples.get(cell, {}) for cell, seed in wanted)
    if missing:
        return NotRun(f"{missing} of {len(wanted)} evaluations missing")
    sampled = literature + sum(
        weighted_sum({cell: cells[cell]}, contrast.metrics, samples, seed)
        / len(plan.seeds_of(cell[0]))
        for cell, seed in wanted
    )
    training = training_spread(plan, cells, contrast.metrics, samples)
    return Estimate(sampled, training, spread_of(plan, cells, training.degrees))


def why_not_judged(
    plan: Plan,
    table: TableSpec,
    contrast: Contrast,
    estimate: Estimate,
    samples: Samples,
    learnt: float,
) -> NotJudged | None:
    """Return why a measured contrast allows no verdict; None if it allows one.

    Args:
        learnt: minimum AP of the reference; at each metric the better side must have it too.
    """
    if plan.scale.judges is False:
        return FORBIDDEN
    if not np.isfinite(estimate.sampled).all():
        return NO_OBJECTS
    reference = _level(plan, table, contrast.second, "AP", samples)
    best = min(
        max(
            _level(plan, table, side, metric, samples) for side in (contrast.first, contrast.second)
        )
        for metric in contrast.metrics
    )
    if min(reference, best) < learnt:
        return NOTHING_LEARNT
    if estimate.spread == "none":
        return ONE_TRAINING
    return DIRECTION_ONLY if plan.scale.judges == "direction" else None


def _judged(
    plan: Plan,
    table: TableSpec,
    claim: Claim,
    contrast: Contrast,
    stated: float | None,
    estimate: Estimate | NotRun,
    samples: Samples,
) -> JudgedContrast:
    claims: Claims = plan.claims
    paper = contrast.published(table)
    unjudged = JudgedContrast(contrast.label, paper, stated)
    if isinstance(estimate, NotRun):
        return replace(unjudged, reason=estimate.reason)
    reason = why_not_judged(plan, table, contrast, estimate, samples, claims.learnt)
    unjudged = replace(
        unjudged,
        status="not judged",
        reason=reason,
        difference=estimate.difference,
        spread=estimate.spread,
        seed_degrees=estimate.training.degrees,
    )
    if reason in (ONE_TRAINING, DIRECTION_ONLY):
        agrees = claim.agrees(estimate.difference, estimate.difference)
        unjudged = replace(unjudged, direction="agrees" if agrees else "does not agree")
    if not estimate.has_interval:
        return unjudged
    level = claim.level(claims.confidence)
    interval = estimate.interval(level)
    unjudged = replace(
        unjudged,
        low=interval.low,
        high=interval.high,
        standard_error=interval.standard_error,
        level=level,
    )
    if reason is not None:
        return unjudged
    finding = claim.finding(interval.low, interval.high)
    # One contradiction refutes the claim, so each contrast adds a chance of a false refutation.
    corrected = estimate.interval(claim.level(claims.confidence, len(claim.contrasts())))
    half = (interval.high - interval.low) / 2
    expected = claim.expected(paper, claims.smallest_effect)
    return replace(
        unjudged,
        status="judged",
        finding=finding,
        words=claim.words(finding, interval.high),
        contradicts=bool(claim.contradicts(corrected.low, corrected.high)),
        paper_size=_paper_size(paper, interval),
        too_wide=claim.finding(expected - half, expected + half) == "undecided",
    )


def _parts(
    plan: Plan, table: TableSpec, rows: dict[str, float]
) -> tuple[dict[Cell, float], dict[str, float]]:
    """Split weights of row keys: those of cells that we measure, those of rows that are cited."""
    cells: dict[Cell, float] = {}
    cited = {}
    for key, weight in rows.items():
        row = table.keyed_rows[key]
        if row.cited:
            cited[key] = weight
        else:
            cell = (plan.run_of(row).run_id, row.decode)
            cells[cell] = cells.get(cell, 0.0) + weight
    return cells, cited


def _level(
    plan: Plan, table: TableSpec, side: dict[str, float], metric: str, samples: Samples
) -> float:
    """Metric of one side of a contrast: the mean over its rows and their seeds."""
    cells, cited = _parts(plan, table, side)
    ours = sum(
        weight * float(np.mean([values[metric][0] for values in samples[cell].values()]))
        for cell, weight in cells.items()
    )
    return ours + (published_sum(table, cited, {metric: 1.0}) or 0.0)


def _paper_size(paper: float | None, interval: Interval) -> PaperSize | None:
    if paper is None:
        return None
    if interval.high < paper:
        return "excluded, ours is lower"
    return "excluded, ours is higher" if interval.low > paper else "not excluded"

"""How many seeds and test images it would take to decide a claim: simulated from what was measured.

A repetition is drawn with a true difference, the training noise of each run (normal, its variance
as measured) and the image noise of the contrasts (normal, the covariance of their resamples); its
intervals are made as those of a claim are, from variances that are drawn too, and the claim's rule
says whether it is reproduced.

Shape shorthand: C contrasts, R runs, D draws.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from obc.analysis.bootstrap import half_width
from obc.analysis.verdicts import Estimate, JudgedClaim
from obc.config.claims import Claim

SEEDS = (3, 4, 5, 6, 8, 10, 15, 20, 30, 50)
IMAGES = (1, 4)  # times the present number
CHANCE = 0.8
DRAWS, SEED = 2000, 2020


@dataclass(frozen=True)
class Needed:
    """What it would take to reproduce a claim with a chance of `CHANCE`, were it true.

    Attributes:
        expected: the true difference of each contrast that is assumed, in AP points.
        seeds: for each of `IMAGES`, the fewest seeds of `SEEDS` that every run needs; None: more
            than the most of them.
    """

    expected: tuple[float, ...]
    seeds: tuple[int | None, ...]


def needed(judged: JudgedClaim, confidence: float, smallest_effect: float) -> Needed | None:
    """What a claim needs; None where the noise of one of its contrasts is not known.

    Args:
        confidence, smallest_effect: of `obc.config.claims.Claims`.
    """
    estimates = [each for each in judged.estimates if each is not None and each.has_interval]
    if len(estimates) < len(judged.contrasts):
        return None
    claim = judged.claim
    expected = [claim.expected(each.paper, smallest_effect) for each in judged.contrasts]

    def fewest(images: float) -> int | None:
        at = bisect_left(
            SEEDS,
            CHANCE,
            key=lambda seeds: chance(claim, estimates, expected, seeds, images, confidence),
        )
        return SEEDS[at] if at < len(SEEDS) else None

    return Needed(tuple(expected), tuple(fewest(images) for images in IMAGES))


def chance(
    claim: Claim,
    estimates: Sequence[Estimate],
    expected: Sequence[float],
    seeds: int,
    images: float,
    confidence: float,
) -> float:
    """The chance that a claim is reproduced.

    Args:
        estimates: of the C contrasts, whose noise is taken as measured.
        expected: (C,) their true differences, in AP points.
        seeds: of every run, at least 2.
        images: test images as a multiple of the present ones.
        confidence: of `obc.config.claims.Claims`.
    """
    random = np.random.default_rng(SEED)
    runs = sorted({run for each in estimates for run in each.training.one_seed})
    one_seed = np.array(
        [[each.training.one_seed.get(run, 0.0) for run in runs] for each in estimates]
    )  # (C, R)
    covariance = np.cov([each.sampled[1:] for each in estimates]).reshape(2 * (len(estimates),))
    drawn = random.normal(size=(DRAWS, len(runs)))
    by_training = drawn @ (np.sqrt(one_seed / seeds) * _signs(estimates, runs)).T
    by_image = random.multivariate_normal(
        np.zeros(len(estimates)), covariance / images, DRAWS, method="eigh"
    )
    spreads = random.chisquare(seeds - 1, (DRAWS, 1, len(runs))) / (seeds - 1)
    parts = spreads * one_seed / seeds  # (D, C, R)
    squares = (parts**2).sum(axis=2)
    variance = parts.sum(axis=2)
    degrees = (seeds - 1) * np.divide(
        variance**2, squares, out=np.ones_like(squares), where=squares > 0
    )
    half = half_width(np.diag(covariance) / images, variance, degrees, claim.level(confidence))
    found = np.asarray(expected) + by_training + by_image
    return float(claim.agrees(found - half, found + half).all(axis=1).mean())


def _signs(estimates: Sequence[Estimate], runs: Sequence[str]) -> np.ndarray:
    """(C, R): on which side of each contrast a run is, so that its noise moves all alike."""
    return np.array([[each.training.signs.get(run, 1.0) for run in runs] for each in estimates])

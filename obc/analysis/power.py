"""Simulate how many seeds and test images a claim needs to be decided.

Each draw is a repetition of the experiment. It adds to the true differences the training noise of
each run (normal, with the measured variance) and the image noise of the contrasts (normal, with
the covariance of their resamples). Its intervals are computed as for a claim, from training
variances that are drawn too. The claim's rule then decides whether the claim is reproduced.

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
IMAGES = (1, 4)  # multiples of the present number of test images
CHANCE = 0.8
DRAWS, SEED = 2000, 2020


@dataclass(frozen=True)
class Needed:
    """The seeds needed to reproduce a claim with probability `CHANCE` if the claim is true.

    Attributes:
        expected: the assumed true difference of each contrast, in AP points.
        seeds: for each of `IMAGES`, the smallest number of seeds per run among `SEEDS` that is
            enough; None if the largest is not enough.
    """

    expected: tuple[float, ...]
    seeds: tuple[int | None, ...]


def needed(judged: JudgedClaim, confidence: float, smallest_effect: float) -> Needed | None:
    """Compute the seeds that a claim needs; None if the noise of a contrast is unknown.

    Args:
        confidence, smallest_effect: see `obc.config.claims.Claims`.
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
    """Simulate the probability that a claim is reproduced.

    Args:
        estimates: the C measured contrasts, which give the noise.
        expected: (C,) the true differences of the contrasts, in AP points.
        seeds: number of seeds per run, at least 2.
        images: number of test images as a multiple of the present number.
        confidence: see `obc.config.claims.Claims`.
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
    """(C, R): the sign of each run in each contrast, so that its noise is consistent in all."""
    return np.array([[each.training.signs.get(run, 1.0) for run in runs] for each in estimates])

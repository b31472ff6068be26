"""The seeds and images that a claim would need, against what is known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import TypeAdapter
from scipy.stats import nct, norm, t

from obc.analysis.power import DRAWS, chance, needed
from obc.analysis.seed_spread import TrainingSpread
from obc.analysis.verdicts import Estimate, JudgedClaim, JudgedContrast
from obc.config.claims import Claim

UNIT = np.random.default_rng(0).normal(size=500)
UNIT = (UNIT - UNIT.mean()) / UNIT.std(ddof=1)
# Four standard errors of a chance that is simulated.
NEAR = 4 * 0.5 / DRAWS**0.5


def claim(**fields: object) -> Claim:
    base = {"id": "x", "section": "4", "statement": "a beats b", "pairs": [["a", "b"]]}
    return TypeAdapter(Claim).validate_python({"kind": "higher", **base, **fields})


def estimate(images: float, *one_seed: float) -> Estimate:
    """A difference of 0 with a variance of its images and one of each of its runs."""
    runs = {f"run{index}": variance for index, variance in enumerate(one_seed)}
    training = TrainingSpread(runs, dict.fromkeys(runs, 1.0), dict.fromkeys(runs, 3), 2.0)
    return Estimate(np.r_[0.0, images**0.5 * UNIT], training, "own")


@pytest.mark.parametrize("images", [1, 4])
def test_with_image_noise_alone_the_chance_is_the_normal_s(images: int) -> None:
    found = chance(claim(), [estimate(1.0, 0.0)], [2.0], seeds=3, images=images, confidence=0.95)
    # The standard error is 1, or 1/2 with four times the images.
    assert found == pytest.approx(norm.cdf(2.0 * images**0.5 - 1.959964), abs=NEAR)


@pytest.mark.parametrize("seeds", [3, 8])
def test_with_training_noise_alone_the_chance_is_the_noncentral_t_s(seeds: int) -> None:
    found = chance(claim(), [estimate(0.0, 4.0)], [3.0], seeds, images=1, confidence=0.95)
    critical = t.ppf(0.975, seeds - 1)
    expected = nct.sf(critical, seeds - 1, 3.0 / (4.0 / seeds) ** 0.5)
    assert found == pytest.approx(expected, abs=NEAR)


def test_closeness_needs_both_bounds_inside() -> None:
    close = claim(kind="close", margin=2.0, margin_reason="Small.")
    found = chance(close, [estimate(1.0, 0.0)], [0.0], seeds=3, images=1, confidence=0.95)
    # |difference| + 1.644854 <= 2.
    assert found == pytest.approx(norm.cdf(0.355146) - norm.cdf(-0.355146), abs=NEAR)


def judged(one: Estimate, paper: float | None, **fields: object) -> JudgedClaim:
    return JudgedClaim(claim(**fields), (JudgedContrast("a less b", paper, None),), (one,))


def test_what_is_needed_is_the_fewest_seeds_and_more_images_make_up_for_some() -> None:
    found = needed(judged(estimate(0.25, 0.5, 0.5), paper=1.5), 0.95, smallest_effect=0.8)
    assert found.expected == (1.5,)
    now, with_more = found.seeds
    assert with_more < now
    for seeds, times in ((now, 1), (with_more, 4)):
        one = estimate(0.25, 0.5, 0.5)
        assert chance(claim(), [one], [1.5], seeds, times, 0.95) >= 0.8


def test_no_number_of_seeds_makes_up_for_too_few_images() -> None:
    found = needed(judged(estimate(1.0, 0.1), paper=None), 0.95, smallest_effect=0.8)
    assert found.expected == (0.8,)
    assert found.seeds == (None, None)  # 0.8 is 1.6 standard errors even with four times as many


def test_without_a_known_spread_nothing_is_said() -> None:
    training = TrainingSpread({}, {}, {}, 0.0)
    unknown = Estimate(np.r_[0.0, UNIT], training, "none")
    assert needed(judged(unknown, paper=1.0), 0.95, smallest_effect=0.8) is None

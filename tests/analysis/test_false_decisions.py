"""The whole procedure against chance: without any true difference, at most 5 % of claims decide.

Evaluations are drawn whose rows all have the same true AP (or two that differ by a margin): each
training adds normal noise, each row's test images another. Only the number of decisions counts.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from claim_fixtures import REASON, plan_with, several

from obc.analysis.bootstrap import half_width
from obc.analysis.seed_spread import Samples, _welch_degrees
from obc.analysis.verdicts import judge_claim
from obc.config.claims import Verdict
from obc.config.plan import Plan

DRAWS = 1000
KEYS = ("l2", "l1", "bins", "argmax", "two")
RESAMPLES = 40

# Noise of the resamples, of one row each: mean 0, variance 1 and no covariance, exactly.
_COLUMNS = np.random.default_rng(0).normal(size=(RESAMPLES, len(KEYS)))
UNIT = np.linalg.qr(_COLUMNS - _COLUMNS.mean(axis=0))[0].T * np.sqrt(RESAMPLES - 1)


def drawn(
    plan: Plan, random: np.random.Generator, images: float, trainings: float, raised: float
) -> Samples:
    """One experiment: AP 50 in every row, `raised` more in l1; standard deviations in AP points."""
    table = plan.tables["table7"]
    samples: Samples = {}
    for unit, key in zip(UNIT, KEYS, strict=True):
        row = table.keyed_rows[key]
        run_id = plan.run_of(row).run_id
        level = 50 + raised * (key == "l1") + random.normal(scale=images)
        samples[run_id, row.decode] = {
            seed: {"AP": level + random.normal(scale=trainings) + np.r_[0.0, images * unit]}
            for seed in plan.seeds_of(run_id)
        }
    return samples


def rate(
    plan: Plan, false: tuple[Verdict, ...], images: float, trainings: float, raised: float = 0.0
) -> float:
    """How often the plan's one claim has one of the verdicts."""
    random = np.random.default_rng(2)
    (topic,) = plan.claims.topics
    verdicts = [
        judge_claim(
            plan, topic, topic.claims[0], drawn(plan, random, images, trainings, raised)
        ).verdict
        for _ in range(DRAWS)
    ]
    return sum(verdict in false for verdict in verdicts) / DRAWS


# Three standard errors above 5 %.
AT_MOST = 0.05 + 3 * (0.05 * 0.95 / DRAWS) ** 0.5
DECIDED: tuple[Verdict, ...] = ("reproduced", "not reproduced")


@pytest.mark.parametrize(
    ("pairs", "seeds"),
    [
        ("[bins, argmax]", 3),  # one run: 2 degrees of freedom
        ("[l1, l2]", 3),  # two runs with their own spread: 2 to 4
        ("[l1, l2]", 5),  # 4 to 8
        ("[l1, l2]", 2),  # pooled over four runs: 4
        ("[l1, l2], [bins, l2], [two, l2]", 3),
    ],
)
@pytest.mark.parametrize(("images", "trainings"), [(0.5, 0.5), (0.1, 1.0)])
def test_rows_of_equal_ap_are_seldom_told_apart(
    tmp_path: Path, pairs: str, seeds: int, images: float, trainings: float
) -> None:
    claim = f"kind: higher, pairs: [{pairs}]"
    plan = plan_with(tmp_path, claim, seeds=tuple(range(seeds)))
    assert rate(plan, DECIDED, images, trainings) <= AT_MOST


def test_nor_by_the_spread_of_other_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs with two seeds each lend 2 degrees of freedom to two with one."""
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2]]")
    several(monkeypatch, "obc")
    assert rate(plan, DECIDED, images=0.4, trainings=0.8) <= AT_MOST


@pytest.mark.parametrize("verdict", DECIDED)
def test_at_the_margin_closeness_is_seldom_decided_falsely(
    tmp_path: Path, verdict: Verdict
) -> None:
    """At the margin the claim is just true, a hair beyond it is just false."""
    claim = f"kind: close, pairs: [[l1, l2]], margin: 2.0, {REASON}"
    plan = plan_with(tmp_path, claim, seeds=(0, 1, 2))
    assert rate(plan, (verdict,), images=0.2, trainings=0.3, raised=2.0) <= AT_MOST


@pytest.mark.parametrize(
    ("seeds", "spreads", "documented"),
    [
        ((3, 3), (1, 1), 0.036),
        ((5, 5), (1, 1), 0.043),
        ((3, 20), (1, 1), 0.073),
        ((3, 5), (3, 1), 0.064),
    ],
)
def test_unequal_seeds_decide_as_often_as_the_notes_say(
    seeds: tuple[int, int], spreads: tuple[float, float], documented: float
) -> None:
    """Share of false decisions between two runs with spreads of their own; no noise of images."""
    random = np.random.default_rng(1)
    squares = np.array(spreads) ** 2.0
    chi_squares = np.stack([random.chisquare(n - 1, 10_000) / (n - 1) for n in seeds], axis=1)
    measured = squares * chi_squares
    runs = ("first", "second")
    sizes = dict(zip(runs, seeds, strict=True))
    degrees = [_welch_degrees(dict(zip(runs, one, strict=True)), sizes) for one in measured]
    half = half_width(0.0, (measured / seeds).sum(axis=1), np.array(degrees), 0.95)
    difference = random.normal(size=len(half)) * (squares / seeds).sum() ** 0.5
    assert (np.abs(difference) > half).mean() == pytest.approx(documented, abs=0.008)


@pytest.mark.parametrize(
    ("times", "documented"), [(1.0, 0.045), (1.5, 0.10), (2.0, 0.18), (3.0, 0.33)]
)
def test_a_run_that_spreads_further_than_the_pool_is_decided_falsely_as_the_notes_say(
    times: float, documented: float
) -> None:
    """One training of a run with `times` the pool's spread, against five that spread as the pool.

    The spread, its 16 degrees of freedom and the noise of the images are those of scale mini.
    """
    random = np.random.default_rng(1)
    spread, degrees, images, draws = 0.449, 16, 0.5, 100_000
    pooled = spread**2 * random.chisquare(degrees, draws) / degrees
    half = half_width(images**2, pooled * (1 + 1 / 5), float(degrees), 0.95)
    true = (times * spread) ** 2 + spread**2 / 5 + images**2
    difference = random.normal(size=draws) * true**0.5
    assert (np.abs(difference) > half).mean() == pytest.approx(documented, abs=0.008)


def test_a_large_difference_is_seen(tmp_path: Path) -> None:
    """So that the tests above do not pass because nothing is ever decided."""
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2]]", seeds=(0, 1, 2))
    assert rate(plan, ("reproduced",), images=0.5, trainings=0.5, raised=10.0) > 0.95

"""How far trainings vary, by their seeds: whose spread an interval has, and how wide it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from claim_fixtures import OTHER, TABLE, T, evaluated, judged, plan_with, several


def test_the_spread_between_trainings_is_pooled_over_the_cells(tmp_path: Path) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2]]", seeds=(0, 1))
    evaluated(plan, l1=[40.0, 42.0], l2=[30.0, 34.0])
    (found,) = judged(plan)
    # Squares 2 and 8 on one degree each: s^2 = 10 / 2 = 5. Means of two: 5/2 + 5/2 = 5.
    assert found.difference == pytest.approx(9.0)
    assert found.standard_error == pytest.approx(5**0.5)
    assert found.low == pytest.approx(9.0 - T[2] * 5**0.5, abs=1e-4)
    assert found.seed_degrees == 2


def test_a_mean_of_rows_averages_their_training_noise(tmp_path: Path) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[[l1, l2], bins]]", seeds=(0, 1))
    evaluated(plan, l1=[40.0, 42.0], l2=[30.0, 34.0], bins=[20.0, 24.0])
    (found,) = judged(plan)
    # s^2 = (2 + 8 + 8) / 3 = 6, times (1/4 + 1/4 + 1) / 2 seeds.
    assert found.difference == pytest.approx(36.5 - 22.0)
    assert found.standard_error == pytest.approx((6 * 1.5 / 2) ** 0.5)
    assert found.seed_degrees == 3


def test_what_decodings_of_one_training_share_is_no_noise(tmp_path: Path) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[bins, argmax]]", seeds=(0, 1))
    evaluated(plan, bins=[40.0, 50.0], argmax=[38.0, 47.0])
    (found,) = judged(plan)
    # Differences 2 and 3: variance 0.5, of a mean of two 0.25; the seeds' 10 AP cancel.
    assert (found.difference, found.standard_error) == pytest.approx((2.5, 0.5))
    assert found.high == pytest.approx(2.5 + T[1] * 0.5, abs=1e-4)


def test_a_peak_takes_the_spread_of_the_metrics_difference(tmp_path: Path) -> None:
    plan = plan_with(
        tmp_path, "kind: peak, at: AP, over: [AP90], pairs: [[l1, l2]]", seeds=(0, 1, 2)
    )
    evaluated(plan, l1=[40.0, 41.0, 42.0], l2=[30.0, 30.0, 30.0])
    _, found = judged(plan)  # the first is AP by itself
    # AP - AP90: 30, 31, 32 and 20, 20, 20: variances 1 and 0, of means of three 1/3 and 0; Welch:
    # all of it on l1's 2 degrees.
    assert found.difference == pytest.approx(11.0)
    assert found.high == pytest.approx(11.0 + T[2] * (1 / 3) ** 0.5, abs=1e-4)
    assert found.paper == (45.0 - 6.0) - (40.0 - 5.0)


def test_runs_of_one_seed_take_the_spread_of_those_with_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = ("[l1, l2]", "[bins, l2]", "[bins, two]")
    plan = plan_with(tmp_path, *(f"kind: higher, pairs: [{pair}]" for pair in pairs))
    evaluated(plan, l1=[45.0], l2=[40.0], bins=[50.0, 52.0], two=[40.0, 44.0])
    several(monkeypatch, "obc")
    first, second, third = judged(plan)
    # s^2 = (2 + 8) / 2 from the bins: 5 + 5 between single trainings, 5/2 + 5 with a mean of two.
    assert first.standard_error == pytest.approx(10**0.5)
    assert second.standard_error == pytest.approx(7.5**0.5)
    # Two seeds are too few for a spread of their own, so the third is pooled too.
    assert [each.spread for each in (first, second, third)] == ["data set"] * 3


def test_no_data_set_lends_its_spread_to_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2]]", table8=OTHER)
    other = plan.claims.topics[0].model_copy(update={"table": "table8"})
    topics = (*plan.claims.topics, other)
    plan = plan.model_copy(update={"claims": plan.claims.model_copy(update={"topics": topics})})
    evaluated(plan, l1=[40.0, 42.0], l2=[30.0, 34.0])
    evaluated(plan, "table8", l1=[45.0], l2=[40.0])
    several(monkeypatch, "voc")
    voc, coco = judged(plan)
    assert (voc.spread, voc.seed_degrees) == ("data set", 2)
    assert (coco.spread, coco.seed_degrees, coco.standard_error) == ("none", 0, None)


@pytest.mark.parametrize("last", ["bins", "argmax"])
@pytest.mark.parametrize(
    ("pair", "squares"),
    [
        # L2 spreads by 2, the expectation by 8 and the most likely bin by 18, the same of two by 2.
        ("[bins, l2]", 8 + 2 + 2),
        ("[argmax, l2]", 18 + 2 + 2),
        ("[l1, l2]", 8 + 2 + 2),
        ("[two, l2]", 18 + 2 + 2),
    ],
)
def test_the_decoding_that_enters_the_pool_depends_on_the_contrast_not_on_the_order_of_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str, pair: str, squares: float
) -> None:
    """The contrast's own cell; of other runs its decoding, or their default, or what they have."""
    lines = TABLE.splitlines(keepends=True)
    lines.sort(key=lambda line: f"key: {last}," in line)
    claims = [f"kind: higher, pairs: [[{key}, l2]]" for key in ("bins", "argmax", "two")]
    last_claim = f"kind: higher, pairs: [{pair}]"
    plan = plan_with(tmp_path, *claims, last_claim, table7="".join(lines))
    evaluated(plan, l1=[40.0], l2=[40.0, 42.0], two=[40.0, 42.0],
              bins=[40.0, 44.0], argmax=[38.0, 44.0])  # fmt: skip
    several(monkeypatch, "obc", "-l2-")
    found = judged(plan)[-1]
    seeds = 1 if pair == "[l1, l2]" else 2
    assert found.seed_degrees == 3
    assert found.standard_error**2 == pytest.approx(squares / 3 * (1 / seeds + 1 / 2))


def test_runs_of_four_seeds_speak_for_themselves(tmp_path: Path) -> None:
    claims = ("kind: higher, pairs: [[l1, l2]]", "kind: higher, pairs: [[bins, l2]]")
    plan = plan_with(tmp_path, *claims, seeds=(0, 1, 2, 3))
    evaluated(plan, l1=[39.0, 41.0, 39.0, 41.0], l2=[30.0] * 4, bins=[10.0, 50.0, 10.0, 50.0])
    found = judged(plan)[0]
    # Variance 4/3 of l1, 0 of l2, of means of four: 1/3; Welch: all of it on l1's 3 degrees.
    assert found.standard_error == pytest.approx((1 / 3) ** 0.5)
    assert found.seed_degrees == pytest.approx(3)
    assert found.high == pytest.approx(10.0 + T[3] * (1 / 3) ** 0.5, abs=1e-4)
    assert found.spread == "own"


def test_two_runs_of_four_seeds_have_welchs_degrees(tmp_path: Path) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2]]", seeds=(0, 1, 2, 3))
    evaluated(plan, l1=[39.0, 41.0, 39.0, 41.0], l2=[28.0, 32.0, 28.0, 32.0])
    # Variances of means 1/3 and 4/3: (5/3)^2 / ((1/9 + 16/9) / 3) = 75 / 17.
    assert judged(plan)[0].seed_degrees == pytest.approx(75 / 17)

"""Losses and gradients on paper: the curves, the claims about them, the figure."""

from __future__ import annotations

import math

import pytest
import torch
from mmdet.models.losses import MSELoss, SmoothL1Loss

from obc.analysis.analytic_claims import (
    analytic_claims,
    bin_classification,
    regression,
    score_gradients,
)
from obc.bins import OffsetBins

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def records() -> list[dict]:
    return analytic_claims()


@pytest.fixture
def claims(records: list[dict]) -> dict[str, dict]:
    return {claim["id"]: claim for claim in records}


def double(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


# --- losses and gradients ----------------------------------------------------------------------


def test_l2_is_the_square_without_a_half() -> None:
    loss, gradient = regression(MSELoss(reduction="none"), double(-3, 0, 0.5))
    assert loss.tolist() == [9, 0, 0.25]
    assert gradient.tolist() == [-6, 0, 1]


@pytest.mark.parametrize(
    ("beta", "losses", "gradients"),
    [
        # Inside x^2 / 2β and x / β, outside |x| - β/2 and ±1, at errors -4, 0.5, β and 3.
        (1.0, [3.5, 0.125, 0.5, 2.5], [-1, 0.5, 1, 1]),
        (1.5, [3.25, 0.25 / 3, 0.75, 2.25], [-1, 1 / 3, 1, 1]),
        (2.0, [3.0, 0.0625, 1.0, 2.0], [-1, 0.25, 1, 1]),
    ],
)
def test_smooth_l1_has_the_cases_of_equations_3_and_4(
    beta: float, losses: list[float], gradients: list[float]
) -> None:
    loss, gradient = regression(SmoothL1Loss(beta=beta, reduction="none"), double(-4, 0.5, beta, 3))
    assert loss.tolist() == pytest.approx(losses)
    assert gradient.tolist() == pytest.approx(gradients)


def test_a_prediction_at_the_truth_still_costs_what_its_spread_takes_from_the_true_bin() -> None:
    # p_0 = 1 / sum over k of exp(-k^2 / 2). The tails that 20 bins cut off, exp(-81 / 2), are
    # nothing; by Poisson's summation the sum is sqrt(2 pi) to 1e-8.
    loss, to_offset, to_scores = bin_classification(double(0))
    assert loss.item() == pytest.approx(math.log(2 * math.pi) / 2, abs=1e-6)
    assert to_offset.item() == pytest.approx(0, abs=1e-5)
    assert to_scores.abs().max().item() == pytest.approx(1 - 1 / math.sqrt(2 * math.pi), abs=1e-6)


def test_inside_the_range_the_bins_are_a_steep_parabola() -> None:
    # -log p_true = x^2 / 2w^2 + log sqrt(2 pi), hence the slope x / w^2 with w = 0.3.
    loss, to_offset, _ = bin_classification(double(-0.6, 0.6))
    assert loss.tolist() == pytest.approx([2 + math.log(2 * math.pi) / 2] * 2, abs=1e-4)
    assert to_offset.tolist() == pytest.approx([-0.6 / 0.09, 0.6 / 0.09], rel=1e-4)


def test_outside_the_range_the_slope_of_the_bins_is_constant() -> None:
    # All mass in the last bin, centre ±2.85, against the true bin's 0.15: their distance / w^2.
    _, to_offset, _ = bin_classification(double(-50, -20, 20, 50))
    expected = [-3.0 / 0.09, -3.0 / 0.09, 2.7 / 0.09, 2.7 / 0.09]
    assert to_offset.tolist() == pytest.approx(expected, rel=1e-5)


def test_other_bins_have_other_widths() -> None:
    # w = 2 * 1 / 10 = 0.2; an error of 0.1 has the slope 0.1 / 0.04.
    bins = OffsetBins(num_bins=10, max_offset=1.0)
    _, to_offset, to_scores = bin_classification(double(0.1), bins)
    assert to_offset.item() == pytest.approx(2.5, rel=1e-3)
    assert to_scores.shape == (1, 10)


def test_the_gradient_to_scores_is_p_minus_y() -> None:
    # softmax of (log 1, log 2, log 5) is (1, 2, 5) / 8.
    scores = double(1, 2, 5).log()
    gradients = score_gradients(scores[None], torch.tensor([1]))
    assert gradients[0].tolist() == pytest.approx([1 / 8, 2 / 8 - 1, 5 / 8])


# --- claims ------------------------------------------------------------------------------------


def test_claims_are_complete_records_with_an_id_of_their_own(records: list[dict]) -> None:
    for claim in records:
        assert list(claim) == ["id", "section", "statement", "paper", "ours", "verdict"]
        assert all(isinstance(text, str) and text for text in claim.values())
    assert len({claim["id"] for claim in records}) == len(records)


def test_what_holds_and_what_does_not(claims: dict[str, dict]) -> None:
    # Not reproduced, by hand: min(|x| / β, 1) falls with β; p = (0, 1), y = (1, 0) has
    # |p - y| = √2; the derivative of -log p_true is p - y, not its negative; and -log p_true does
    # not depend on which wrong bin has the rest.
    assert {name for name, claim in claims.items() if claim["verdict"] == "not reproduced"} == {
        "larger-beta-larger-gradient",
        "bin-gradient-norm",
        "equation-8-as-printed",
        "error-size-sets-score-gradient",
    }
    assert {claim["verdict"] for claim in claims.values()} == {"reproduced", "not reproduced"}


@pytest.mark.parametrize(
    ("claim", "number"),
    [
        ("l2-gradient-grows", "the gradient is 20000 at the last"),
        ("smooth-l1-saturates", "is 9.5 at an error of 10 and 99.5 at 100"),
        # 10^(k / 10), k from -30 to 40: from k = 0, 2 and 4 on they are no less than 1, 1.5 and 2.
        ("larger-beta-fewer-clipped", "of 71 errors from 0.001 to 10000, 41, 39, 37 have"),
        ("larger-beta-larger-gradient", "0.5, 0.3333, 0.25 for β = 1, 1.5, 2"),
        ("bin-gradient-bounded", "40,000 random score vectors at scales 0.1, 1, 10, 100"),
        ("bin-gradient-norm", "largest Euclidean norm 1.41421"),
        # 5.0 above the 21 other scores of 0: p_true = 1 / (e^5 + 21) = 0.0059.
        ("error-size-sets-score-gradient", "largest |gradient| 0.9941, 0.9941, 0.9941"),
        # 3.0 / 0.09, the distance of the last bin from the true one over w^2; 1 / w^2 / 2 = 5.56.
        ("bin-gradient-bounded-in-offset", "33.33 at errors up to 1000, below 2a / w² = 66.67"),
        ("bin-gradient-bounded-in-offset", "to 5.56 times L2's"),
    ],
)
def test_a_claim_names_the_number_that_decides_it(
    claims: dict[str, dict], claim: str, number: str
) -> None:
    assert number in claims[claim]["ours"]


def test_claims_are_the_same_each_time_whatever_the_global_seed(records: list[dict]) -> None:
    torch.manual_seed(5)
    assert analytic_claims() == records

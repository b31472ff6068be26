"""Entropy of the bin probabilities against the error: of made-up heads whose both are known."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from inside_fixtures import made_up_view
from torch import Tensor

from obc.bins import OffsetBins
from obc.report.inside.calibration import COLUMNS, deciles, points, rank_correlation


def certain(x_bin: int) -> Tensor:
    """All probability in one of seven bins; y, w, h in the middle one, where they are right."""
    probabilities = torch.zeros(1, 4, 1, 7)
    probabilities[:, :, :, 2] = 1
    probabilities[0, 0, 0] = torch.eye(7)[x_bin]
    return probabilities


def made_up_points(entropy: list[float], error: list[float], stage: int = 1) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "stage": stage,
            "entropy": entropy,
            "error": error,
            "error_in_bins": np.array(error) / 2,
            "in_range": np.array(error) < 5,
        }
    )


def test_a_certain_head_has_no_entropy_and_the_error_of_its_bin() -> None:
    # The true offsets are 1, 0, 0, 0 (inside_fixtures); bin 3 stands for 2, in bins 2 wide.
    frame = points([made_up_view(certain(3))])
    assert frame["coordinate"].tolist() == ["x", "y", "w", "h"]
    assert frame["entropy"].tolist() == pytest.approx([0] * 4, abs=1e-6)
    assert frame["error"].tolist() == pytest.approx([1, 0, 0, 0], abs=1e-6)
    assert frame["error_in_bins"].tolist() == pytest.approx([0.5, 0, 0, 0], abs=1e-6)


def test_a_head_without_any_idea_has_the_entropy_of_equal_probabilities() -> None:
    frame = points([made_up_view(torch.full((1, 4, 1, 7), 1 / 7))])
    assert frame["entropy"].tolist() == pytest.approx([math.log(7)] * 4)


def test_a_later_stage_is_measured_by_what_the_stages_up_to_it_predict() -> None:
    bins = OffsetBins(num_bins=5, max_offset=5.0, num_stages=2)
    # x: 2 in stage 1, then -.8 in stage 2: errors 1 and .2.
    both = torch.cat([certain(3), certain(0)], dim=2)
    frame = points([made_up_view(both, bins)])
    x = frame[frame["coordinate"] == "x"]
    assert x["stage"].tolist() == [1, 2]
    assert x["error"].tolist() == pytest.approx([1, 0.2], abs=1e-6)


def test_deciles_are_ten_equal_parts_from_the_surest_to_the_least_sure() -> None:
    entropy = [float(value) for value in range(20)]
    frame = deciles(made_up_points(entropy[::-1], [e / 2 for e in entropy[::-1]]), num_inner=5)
    assert list(frame.columns) == list(COLUMNS)
    assert frame["decile"].tolist() == list(range(1, 11))
    assert frame["count"].tolist() == [2] * 10
    assert frame["entropy_low"].tolist() == entropy[::2]
    assert frame["entropy_high"].tolist() == entropy[1::2]
    assert frame["error"].tolist() == [0.25 + value for value in range(10)]
    assert frame["error_in_bins"].tolist() == (frame["error"] / 2).tolist()
    assert frame["in_range"].tolist() == [100] * 5 + [0] * 5
    assert frame["uniform_entropy"].unique().tolist() == [math.log(5)]


def test_each_stage_has_deciles_and_a_rank_correlation_of_its_own() -> None:
    rising = made_up_points([1.0, 2.0, 3.0], [1.0, 4.0, 9.0])
    falling = made_up_points([1.0, 2.0, 3.0], [9.0, 4.0, 1.0], stage=2)
    frame = deciles(pd.concat([rising, falling]), num_inner=5)
    assert frame.groupby("stage")["spearman"].first().to_dict() == {1: 1.0, 2: -1.0}


def test_the_rank_correlation_depends_on_the_order_only() -> None:
    # Ranks 1 2 3 4 5 against 2 1 4 3 5: 1 - 6 * 4 / (5 * 24) = .8
    entropy, error = pd.Series([1.0, 2, 3, 4, 50]), pd.Series([0.2, 0.1, 40, 30, 90])
    assert rank_correlation(entropy, error) == pytest.approx(0.8)


def test_a_rank_correlation_of_what_does_not_vary_is_not_defined() -> None:
    assert math.isnan(rank_correlation(pd.Series([1.0, 1, 1]), pd.Series([1.0, 2, 3])))


def test_where_nothing_was_found_there_are_no_deciles() -> None:
    frame = deciles(points([]), num_inner=5)
    assert list(frame.columns) == list(COLUMNS) and frame.empty


def test_what_the_first_stage_leaves_can_be_out_of_range_of_the_second() -> None:
    bins = OffsetBins(num_bins=5, max_offset=5.0, num_stages=2)
    # x: the truth is 1; after 4 it is 3 away, the second stage's range is 1.
    frame = points([made_up_view(torch.cat([certain(4), certain(2)], dim=2), bins)])
    x = frame[frame["coordinate"] == "x"]
    assert x["in_range"].tolist() == [True, False]

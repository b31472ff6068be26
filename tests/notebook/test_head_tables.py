"""What a head thinks, as tables: of made-up heads whose output is known."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
from inside_fixtures import FIVE_BINS, OBJECT, PROPOSAL, made_up_view
from report_fixtures import TABLE, plan_of, run_folder, trained
from torch import Tensor

from obc.bins import OffsetBins
from obc.notebook.head_tables import ideal_table, reached, roi_table, stage_table
from obc.report.inside.shown_runs import NothingTrained, trained_with_bins


def leaning(rois: int = 1, stages: int = 1) -> Tensor:
    """x: .6 at 0 and .4 at 2; the others at 0. The truth of x is 1 (inside_fixtures)."""
    probabilities = torch.zeros(rois, 4, stages, 7)
    probabilities[..., 2] = 1
    probabilities[:, 0, :, 2], probabilities[:, 0, :, 3] = 0.6, 0.4
    return probabilities


def test_the_table_of_rois_has_those_that_overlap_an_object() -> None:
    far = torch.tensor([[100.0, 20.0, 120.0, 60.0]])
    frame = roi_table(made_up_view(leaning(2), proposals=torch.cat([far, PROPOSAL])))
    assert frame.index.tolist() == [1]
    line = frame.loc[1]
    assert (line["object"], line["predicted"]) == ("cat", "cat")
    assert line["score"] == pytest.approx(0.7)
    assert line["iou"] == line["iou_argmax"] == pytest.approx(18 / 22)
    # Expected 1.6 of the 2 pixels that it is off.
    assert line["iou_expectation"] == pytest.approx(19.6 / 20.4)
    assert line["error"] == pytest.approx(0.05)


def test_the_table_of_stages_sums_the_offsets_of_each_decoding() -> None:
    bins = OffsetBins(num_bins=5, max_offset=5.0, num_stages=2)
    frame = stage_table(made_up_view(leaning(stages=2), bins))
    assert frame["x"].to_dict() == pytest.approx(
        {
            ("truth", ""): 1,
            ("argmax", "after stage 1"): 0,
            ("argmax", "after stage 2"): 0,
            ("expectation", "after stage 1"): 0.8,
            ("expectation", "after stage 2"): 0.96,
        },
        abs=1e-6,
    )
    assert frame.loc[("expectation", "after stage 2"), "iou"] == pytest.approx(19.92 / 20.08)


def test_ideal_bins_reach_the_object_where_it_is_the_centre_of_a_bin() -> None:
    # One bin: centre 0, so nothing moves. Three bins of (-1.5, 1.5): centres -1, 0, 1.
    frame = ideal_table([made_up_view(leaning())], ranges=[1.5], counts=[1, 3])
    assert frame.loc[1.5].tolist() == pytest.approx([100 * 18 / 22, 100], abs=1e-3)


def test_what_is_reached_is_the_mean_over_all_rois() -> None:
    there = made_up_view(leaning(), proposals=OBJECT)
    series = reached([made_up_view(leaning()), there])
    assert series["proposals"] == pytest.approx(100 * (18 / 22 + 1) / 2)
    assert series["argmax"] == series["proposals"]


def test_without_rois_there_is_no_mean() -> None:
    empty = made_up_view(leaning()).take(torch.tensor([], dtype=torch.long))
    assert pd.isna(reached([empty])["expectation"])
    assert ideal_table([empty], [FIVE_BINS.max_offset], [5]).isna().all(axis=None)


def test_trained_runs_with_bins_can_be_looked_into(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {"table1": TABLE}, scale="smoke")
    with pytest.raises(NothingTrained, match="make reproduce SCALE=smoke TARGETS=table1"):
        trained_with_bins(plan)
    regression, bins = 0, 2  # rows of TABLE
    for row in (regression, bins):
        trained(plan, "table1", row)
    assert [run_id for run_id, _ in trained_with_bins(plan)] == [
        run_folder(plan, "table1", bins).parent.name
    ]

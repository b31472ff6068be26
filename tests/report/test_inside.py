"""The figures of what a head thinks: which RoIs they show, what they plot, and that they render."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import PROJECT, Workspace, copy_project
from inside_fixtures import OBJECT, PROPOSAL, made_up_view, save_untrained, untrained_plan
from torch import Tensor

from obc.bins import OffsetBins
from obc.cli.main import main
from obc.config.plan import Plan
from obc.evaluation.head_view import HeadView, InsideError
from obc.report.figures.caption import read_caption
from obc.report.inside import stages
from obc.report.inside.offset_distributions import distributions, distributions_figure
from obc.report.inside.selection import (
    at_quantiles,
    best_of_each_object,
    example_of_stages,
    iou_gain,
    moved_by_later_stages,
    offset_error,
)
from obc.report.inside.shown_runs import shown_runs
from obc.report.inside.stages import stage_boxes
from obc.report.inside.target_offsets import beyond, target_histogram

pytestmark = pytest.mark.xdist_group("inside")  # whose worker draws the figures, once

FIGURES = ("calibration", "offset_distributions", "stages", "target_offsets")


def certain(*bins: int) -> Tensor:
    """Of each RoI all of x's probability in one of seven bins, and of the others' in the middle."""
    probabilities = torch.zeros(len(bins), 4, 1, 7)
    probabilities[:, :, 0, 2] = 1
    probabilities[:, 0, 0] = torch.eye(7)[list(bins)]
    return probabilities


def rois(*bins: int, scores: list[float] | None = None, image_id: int = 7) -> HeadView:
    """RoIs of one proposal and object, 1 off in x, that predict the centres of these bins."""
    cat = torch.tensor(scores or [0.5] * len(bins))
    return made_up_view(
        certain(*bins),
        proposals=PROPOSAL.expand(len(bins), 4),
        image_id=image_id,
        scores=torch.stack([cat, torch.zeros(len(bins)), 1 - cat], dim=1),
    )


# --- which RoIs are shown ----------------------------------------------------------------------


def test_errors_are_the_mean_over_the_coordinates() -> None:
    # The truth is 1, 0, 0, 0; x is predicted to be 0, 2 and 4.
    assert offset_error(rois(2, 3, 4)).tolist() == pytest.approx([0.25, 0.25, 0.75], abs=1e-6)


def test_gain_is_the_iou_after_the_last_stage_less_that_of_the_proposal() -> None:
    # x at 2: moved by 4 pixels, 2 too far to the other side: the same IoU. At 0: not moved.
    assert iou_gain(rois(3, 2)).tolist() == pytest.approx([0, 0], abs=1e-6)


def test_of_each_object_the_best_scored_roi_is_kept() -> None:
    view = best_of_each_object(rois(0, 1, 2, scores=[0.2, 0.8, 0.5]))
    assert view.scores[:, 0].tolist() == pytest.approx([0.8])


def test_the_rois_at_quantiles_are_found_across_images() -> None:
    views = [rois(2, 2, 2, image_id=1), rois(2, 2, image_id=2)]
    values = [torch.tensor([5.0, 1.0, 3.0]), torch.tensor([2.0, 4.0])]
    low, middle, high = at_quantiles(views, values, (0, 0.5, 1))
    assert [view.image_id for view in (low, middle, high)] == [1, 1, 1]
    assert at_quantiles(views, values, (0.25,))[0].image_id == 2
    assert len(low) == 1


def test_where_no_proposal_overlaps_an_object_it_is_said() -> None:
    with pytest.raises(InsideError, match=r"no proposal in 1 image\(s\) overlaps an object"):
        at_quantiles([rois(2).take(torch.tensor([], dtype=torch.long))], [torch.empty(0)], (0.5,))


# --- what is plotted ---------------------------------------------------------------------------


def test_stage_boxes_are_the_proposal_the_truth_and_each_stages_range_and_prediction() -> None:
    bins = OffsetBins(num_bins=5, max_offset=5.0, num_stages=2)
    view = made_up_view(certain(3).repeat(1, 1, 2, 1), bins)
    frame = stage_boxes(view).set_index(["stage", "box"])
    kinds = ["range outer", "range inner", "predicted"]
    assert list(frame.index) == [
        (0, "proposal"), (0, "truth"), *((stage, kind) for stage in (1, 2) for kind in kinds)
    ]  # fmt: skip
    corners = ["x1", "y1", "x2", "y2"]
    assert frame.loc[(0, "truth"), corners].tolist() == OBJECT[0].tolist()
    # 2, then .4 more; a unit is 2 pixels.
    assert frame.loc[(1, "predicted"), "x1"] == pytest.approx(14)
    assert frame.loc[(2, "predicted"), "x1"] == pytest.approx(14.8)
    assert frame.loc[(0, "proposal"), "iou"] == pytest.approx(18 / 22)
    assert frame.loc[(1, "range outer"), "iou"] is not None
    assert frame["iou"].isna().sum() == 4


def test_each_panel_has_the_bars_and_marks_of_the_known_distribution() -> None:
    frame = distributions([rois(3), rois(2)])
    x = frame[(frame["roi"] == 1) & (frame["coordinate"] == "x")]
    assert x["probability"].tolist() == [0, 0, 0, 1, 0, 0, 0]
    assert x["low"].tolist() == pytest.approx([-5, -3, -1, 1, 3, -np.inf, 5])
    assert x["high"].tolist() == pytest.approx([-3, -1, 1, 3, 5, -5, np.inf])
    marks = x[["truth", "argmax", "expectation"]].drop_duplicates()
    assert marks.to_numpy().tolist() == [pytest.approx([1, 2, 2], abs=1e-6)]
    assert frame.groupby(["roi", "stage", "coordinate"])["probability"].sum().eq(1).all()


def test_the_truth_of_a_later_stage_is_what_the_stages_before_have_left() -> None:
    bins = OffsetBins(num_bins=5, max_offset=5.0, num_stages=2)
    frame = distributions([made_up_view(certain(3).repeat(1, 1, 2, 1), bins)])
    x = frame[frame["coordinate"] == "x"].groupby("stage")["truth"].first()
    assert x.tolist() == pytest.approx([1, -1], abs=1e-6)


def test_the_histogram_counts_every_offset_once() -> None:
    offsets = torch.tensor([[0.1, 0, 0, -9], [0.2, 0, 0, 9], [1, 0, 0, 0], [-1, 0, 0, 0]])
    frame = target_histogram(offsets)
    assert frame.groupby("coordinate", sort=False)["share"].sum().tolist() == [100] * 4
    x = frame[frame["coordinate"] == "x"].set_index("low")["share"]
    assert (x[0.0], x[1.0], x[-1.0]) == (50, 25, 25)
    h = frame[frame["coordinate"] == "h"]["share"]
    assert (h.iloc[0], h.iloc[-1]) == (25, 25)


def test_beyond_a_range_are_the_offsets_that_fall_into_its_overflow_bins() -> None:
    offsets = torch.tensor([[0.5, 0, 0, 0], [1.0, 0, 0, 4], [0, -2, 0, 0], [0, 0, 0, 0]])
    shares = beyond(offsets).set_index(["a", "coordinate"])["share"]
    assert shares[1.0, "x"] == 25 and shares[1.0, "w"] == 0
    assert shares[1.0, "all four together"] == pytest.approx(100 * 3 / 16)
    assert shares[1.0, "any of the four"] == 50
    assert shares[3.0, "all four together"] == pytest.approx(100 / 16)
    assert shares[5.0, "any of the four"] == 0


# --- drawn, of untrained detectors -------------------------------------------------------------


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plan]:
    folder = tmp_path_factory.mktemp("inside")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        plan = untrained_plan(folder, PROJECT)
        plan.save(plan.results / "plan.json")
        for run_id, seed in shown_runs(plan).values():
            save_untrained(plan, run_id, seed)
        assert main(["figure", str(plan.results / "plan.json"), "inside"]) == 0
        yield plan


def test_the_runs_shown_are_table_1s_with_one_stage_and_with_two(plan: Plan) -> None:
    assert [run_id[:28] for run_id, _ in shown_runs(plan).values()] == [
        "voc-faster-r50-obc-a3-n20-k1",
        "voc-faster-r50-obc-a3-n20-k2",
    ]
    assert shown_runs(plan.model_copy(update={"tables": {}})) == {}


@pytest.mark.parametrize("name", FIGURES)
def test_each_figure_is_drawn_with_what_it_plots_beside_it(plan: Plan, name: str) -> None:
    folder = plan.results / "figures"
    assert ElementTree.parse(folder / f"{name}.svg").getroot().tag.endswith("}svg")
    assert matplotlib.image.imread(folder / f"{name}.png").shape[1] == 1920
    assert len(pd.read_csv(folder / f"{name}.csv")) > 0


def test_each_figure_says_its_scale_run_and_that_it_is_not_comparable(plan: Plan) -> None:
    run_id, seed = shown_runs(plan)["full"]
    for name in FIGURES:
        svg = plan.results / "figures" / f"{name}.svg"
        for said in ("SMOKE scale", "Not comparable", run_id, f"seed {seed}"):
            assert said in read_caption(svg).text
        drawn = re.findall("<text[^>]*>([^<]*)</text>", svg.read_text(encoding="utf-8"))
        assert "SMOKE scale. Not comparable with the paper's numbers." in map(unescape, drawn)


# --- what is drawn -----------------------------------------------------------------------------


def two_stages(first: int, second: int, image_id: int = 7) -> HeadView:
    """A RoI that is moved by `first` in stage 1 and by `second` in stage 2, as bins of x."""
    bins = OffsetBins(num_bins=5, max_offset=5.0, num_stages=2)
    probabilities = torch.cat([certain(first), certain(second)], dim=2)
    return made_up_view(probabilities, bins, image_id=image_id)


def test_the_stages_are_shown_where_the_later_ones_move_the_box() -> None:
    # Bin 2 stands for 0; bin 3 of stage 2 for .4, which is .8 of 20 pixels.
    still, moving = two_stages(3, 2, image_id=1), two_stages(3, 3, image_id=2)
    assert moved_by_later_stages(still).item() == pytest.approx(0, abs=1e-6)
    assert moved_by_later_stages(moving).item() == pytest.approx(1 - 19.2 / 20.8, abs=1e-5)
    shown, rule = example_of_stages([still, moving])
    assert shown.image_id == 2 and "of the 1 that later stages move" in rule


def test_where_later_stages_move_no_box_the_rule_says_so() -> None:
    shown, rule = example_of_stages([two_stages(3, 2)])
    assert len(shown) == 1 and "none by" in rule
    assert "median" in example_of_stages([rois(3)])[1]


def test_a_stage_starts_from_the_box_of_the_stage_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "imread", lambda path: np.zeros((100, 200)))
    first, second = stages.stages_figure(two_stages(3, 3)).axes
    left = {
        axes: [
            patch.get_x() for patch in axes.patches if patch.get_label() == "box before the stage"
        ]
        for axes in (first, second)
    }
    # The proposal, and 2 pixels a unit further right where stage 1 put it.
    assert left[first] == [10.0] and left[second] == [pytest.approx(14.0)]
    for axes in (first, second):
        (x1, x2), (y2, y1) = axes.get_xlim(), axes.get_ylim()
        assert 0 <= x1 < x2 <= 200 and 0 <= y1 < y2 <= 100  # no border beyond the image


def test_a_truth_out_of_range_is_an_arrow_with_its_value() -> None:
    # The truth is 1 and 4 is predicted, so 3 is left, to the other side; stage 2's range is 1.
    panels = distributions_figure([two_stages(4, 2)], ["shown"]).axes
    at_1, at_2 = panels[0], panels[4]
    assert [note.get_text() for note in at_1.texts] == []
    assert [line.get_label() for line in at_1.lines] == ["truth", "expectation", "argmax"]
    assert [note.get_text() for note in at_2.texts] == ["−3"]
    assert [line.get_label() for line in at_2.lines] == ["expectation", "argmax"]


def test_the_table_has_ten_parts_of_each_stage_of_both_runs(plan: Plan) -> None:
    frame = pd.read_csv(plan.results / "tables" / "calibration.csv")
    assert frame.groupby(["label", "stage"]).size().to_dict() == {
        ("K = 1", 1): 10, ("K = 2", 1): 10, ("K = 2", 2): 10
    }  # fmt: skip
    assert frame["scale"].unique().tolist() == ["smoke"]


def test_one_run_and_one_image_can_be_looked_into_by_hand(
    plan: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id, seed = shown_runs(plan)["bins"]
    image = pd.read_csv(plan.results / "figures" / "stages.csv")["image_id"].iloc[0]
    file = str(plan.results / "plan.json")
    assert main(["figure", file, "inside", "--run", run_id[:28], "--image", str(image)]) == 0
    folder = plan.results / "inside" / run_id / f"seed{seed}" / f"image{image}"
    assert str(folder) in capsys.readouterr().out
    assert {path.stem for path in folder.iterdir()} == {"stages", "offset_distributions"}
    shown = pd.read_csv(folder / "stages.csv")["image_id"]
    assert shown.unique().tolist() == [image]


def test_an_image_without_a_run_is_refused(plan: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["figure", str(plan.results / "plan.json"), "inside", "--image", "1"]) == 1
    assert "name it with --run" in capsys.readouterr().err


# --- in the workflow ---------------------------------------------------------------------------


@pytest.mark.slow
def test_the_workflow_draws_them_of_two_trainings_and_needs_no_evaluation(tmp_path: Path) -> None:
    copy_project(tmp_path)
    done = Workspace(tmp_path).snakemake("-n", "--config", "scale=smoke", "--", "inside")
    assert done.returncode == 0, done.stderr
    statistics = (done.stdout + done.stderr).split("Job stats:")[-1]
    jobs = dict(re.findall(r"^(\w+) +(\d+)$", statistics, re.M))
    # Starting weights and the two runs.
    assert (jobs["train"], jobs["inside"]) == ("3", "1")
    assert "evaluate" not in jobs

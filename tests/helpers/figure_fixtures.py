"""Every figure of the report, to be drawn of made-up results: its name, and what draws it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation_fixtures import evaluated_plan
from example_image_fixtures import two_evaluations
from inside_fixtures import made_up_view
from report_fixtures import FIGURE, measure, plan_of, run_folder, trained

from obc.analysis.collect import collect
from obc.bins import OffsetBins
from obc.config.plan import Plan
from obc.evaluation.head_view import HeadView
from obc.report.figures import (
    bin_construction,
    curves,
    diagnosis,
    example_images,
    grid,
    losses,
    style,
    training_curves,
)
from obc.report.inside import calibration, offset_distributions, stages, target_offsets

Draw = Callable[[Path], object]
SPREADS = {0: (0.10, 0.12), 1: (0.08, 0.06), 2: (0.05, 0.04)}  # by row, of each seed
LOG = "Epoch(train) [1][{at:>3}/113]  lr: 4.0e-02  loss: {loss:.4f}  loss_bbox: {loss:.4f}\n"
TABLE = """
title: Components
section: "4.1"
dataset: voc
metrics: [AP]
common: {detector: faster_rcnn, backbone: r50}
rows:
  - {label: Regression, box: {loss: smooth_l1}}
  - {label: Bins, box: {loss: offset_bin}}
"""


def figure5(tmp_path: Path) -> Draw:
    colors = FIGURE.replace("#0000ff", "#0072b2").replace("#ff0000", "#d55e00")
    plan = plan_of(tmp_path, {"figure5": colors}, seeds=[0, 1])
    for row in (0, 1):
        for seed in (0, 1):
            measure(plan, "figure5", row, {"AP": 41.0 + row + seed}, seed=seed)
    return lambda folder: grid.figure(plan, "figure5", collect(plan), folder)


def figure6(tmp_path: Path) -> Draw:
    plan = two_evaluations(tmp_path)
    return lambda folder: example_images.figure6(plan, folder)


def of_detections(tmp_path: Path) -> Draw:
    plan = evaluated_plan(tmp_path, SPREADS)
    return lambda folder: curves.draw(plan, "table1", folder)


def of_errors(tmp_path: Path) -> Draw:
    plan = evaluated_plan(tmp_path, SPREADS)
    return lambda folder: _without_folders(diagnosis.write, plan, "table1", folder)


def _without_folders(write: Callable[..., None], plan: Plan, table: str, folder: Path) -> None:
    write(plan, table, folder)
    for path in [*(folder / "figures").iterdir(), *(folder / "tables").iterdir()]:
        path.rename(folder / f"{path.parent.name}-{path.name}")
    for name in ("figures", "tables"):
        (folder / name).rmdir()


def of_trainings(tmp_path: Path) -> Draw:
    plan = plan_of(tmp_path, {"table1": TABLE})
    for row, loss in ((0, 1.0), (1, 3.0)):
        trained(plan, "table1", row)
        text = LOG.format(at=20, loss=loss) + LOG.format(at=40, loss=loss / 2)
        (run_folder(plan, "table1", row) / "log.txt").write_text(text)
    return lambda folder: training_curves.draw(plan, plan.tables["table1"], folder)


# --- of a head ---------------------------------------------------------------------------------


def view() -> HeadView:
    """A RoI whose second stage is left with a truth beyond its range."""
    bins = OffsetBins(num_bins=5, max_offset=5.0, num_stages=2)
    probabilities = torch.full((1, 4, 2, 7), 0.05)
    probabilities[..., 3] = 0.7
    return made_up_view(probabilities, bins)


def of_stages(tmp_path: Path) -> Draw:
    def draw(folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stages, "imread", lambda path: np.full((100, 200), 0.5))
            stages.draw_stages(view(), "The text.", "SMOKE scale", folder)

    return draw


def of_distributions(tmp_path: Path) -> Draw:
    draw = offset_distributions.draw_distributions
    return lambda folder: draw([view()], ["shown"], "The text.", "SMOKE scale", folder)


def of_targets(tmp_path: Path) -> Draw:
    offsets = torch.linspace(-4, 4, 80).reshape(20, 4)
    return lambda folder: target_offsets.draw_targets(offsets, "The text.", "SMOKE scale", folder)


def of_calibration(tmp_path: Path) -> Draw:
    frame = calibration.deciles(calibration.points([view()] * 5), num_inner=5)
    frame.insert(0, "label", "K = 2")
    looks = {"K = 2": {"color": style.HIERARCHY, "marker": "D"}}

    def draw(folder: Path) -> None:
        with style.figure(folder, "calibration", "Heading", "The text.") as drawing:
            axes = drawing.add_subplot()
            calibration.draw_calibration(axes, frame, looks)
            style.legend_above(drawing, axes)

    return draw


FIGURES: dict[str, Callable[[Path], Draw]] = {
    "losses": lambda tmp_path: losses.draw,
    "figure4": lambda tmp_path: bin_construction.draw,
    "figure5": figure5,
    "figure6": figure6,
    "curves": of_detections,
    "diagnosis": of_errors,
    "training_curves": of_trainings,
    "stages": of_stages,
    "offset_distributions": of_distributions,
    "target_offsets": of_targets,
    "calibration": of_calibration,
}
"""By name: prepares in a folder what the figure is of, and returns what draws it into another."""

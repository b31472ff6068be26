"""The figure `stages`: the range and the box of each stage on one proposal (Figure 3)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import imread
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path as Outline

from obc.evaluation.head_view import POSITIVE_IOU, HeadView, box_ious
from obc.report.figures import style

PROPOSAL = "#56b4e9"
RANGE = "#e69f00"


# --- stages ------------------------------------------------------------------------------------


def stage_boxes(view: HeadView) -> pd.DataFrame:
    """Every box of the figure `stages`, of the only RoI of a view.

    Returns:
        Columns `image_id`, `stage` (from 1; 0 for what belongs to none), `box` (`proposal`,
        `truth`, `range outer`, `range inner`, `predicted`), `x1`, `y1`, `x2`, `y2` in pixels of
        the network's input, and `iou` with the truth (NaN for ranges).
    """
    truth = view.truth[0]
    lines = [(0, "proposal", view.proposals[0]), (0, "truth", truth)]
    for stage in range(view.coder.bins.num_stages):
        outer, inner = view.stage_ranges(stage)[0]
        predicted = view.expectation.boxes[0, stage]
        lines += [
            (stage + 1, "range outer", outer),
            (stage + 1, "range inner", inner),
            (stage + 1, "predicted", predicted),
        ]
    frame = pd.DataFrame(
        [(view.image_id, stage, name, *box.tolist()) for stage, name, box in lines],
        columns=["image_id", "stage", "box", "x1", "y1", "x2", "y2"],
    )
    ious = box_ious(torch.stack([box for *_, box in lines]), truth.expand(len(lines), 4))
    return frame.assign(iou=ious.numpy()).assign(
        iou=lambda made: made["iou"].mask(made["box"].isin(["range outer", "range inner"]))
    )


def draw_stages(view: HeadView, rule: str, stamp: str, folder: Path) -> None:
    """Draw `stages` (svg, png, csv) of the only RoI of a view.

    Args:
        rule: how the RoI was chosen, a sentence.
        stamp: scale, data and run.
    """
    with style.figure_style("stages"):
        style.save_both(stages_figure(view, f"{rule} {stamp}"), folder, "stages")
    style.save_data(stage_boxes(view), folder, "stages")


@style.figure_style("stages")
def stages_figure(view: HeadView, text: str) -> Figure:
    """The boxes of the only RoI of a view, a panel for each stage; `text` stands below."""
    frame = stage_boxes(view)
    panels = view.coder.bins.num_stages
    drawing = style.blank((6.4, 6.2 / max(2, panels) + 1.7))
    legend, body = drawing.subfigures(2, 1, height_ratios=[1, 12])
    for stage, axes in enumerate(np.atleast_1d(body.subplots(1, panels)), start=1):
        _draw_stage(axes, view, frame, stage)
    _draw_legend(legend, body.axes[0])
    style.write_around(drawing, "From a proposal to a box, stage by stage", text)
    return drawing


@style.figure_style("proposals")
def proposals_figure(view: HeadView, count: int) -> Figure:
    """The first `count` proposals of an image, those that overlap an object enough highlighted."""
    drawing = style.blank()
    axes = drawing.add_subplot()
    _draw_image(axes, view)
    for box, iou in zip(view.proposals[:count].tolist(), view.ious[:count].tolist(), strict=True):
        _draw_box(axes, box, "", PROPOSAL if iou >= POSITIVE_IOU else "0.6")
    for box in view.objects.tolist():
        _draw_box(axes, box, "", style.TRUTH)
    heading = f"The first {min(count, len(view))} of {len(view)} proposals"
    colors = f"blue: IoU of at least {POSITIVE_IOU} with an object; gray: less; black: objects"
    style.write_around(drawing, heading, f"Image {view.image_id}; {colors}.")
    return drawing


def _draw_legend(part: SubFigure, axes: Axes) -> None:
    """The legend of one panel, for all: a part of its own, as the title stands above it."""
    part.legend(*axes.get_legend_handles_labels(), loc="center", ncols=5, fontsize="small")


def _draw_stage(axes: Axes, view: HeadView, frame: pd.DataFrame, stage: int) -> None:
    boxes = {
        name: (line["x1"], line["y1"], line["x2"], line["y2"])
        for name, line in frame[frame["stage"].isin([0, stage])].set_index("box").iterrows()
    }
    _draw_image(axes, view)
    _draw_range(axes, boxes["range outer"], boxes["range inner"])
    if stage == 1:
        _draw_box(axes, boxes["proposal"], "proposal", PROPOSAL)
    _draw_box(axes, boxes["truth"], "ground truth", style.TRUTH)
    _draw_box(axes, boxes["predicted"], "predicted box", style.EXPECTATION)
    ious = frame.set_index(["stage", "box"])["iou"]
    before = ious[0, "proposal"] if stage == 1 else ious[stage - 1, "predicted"]
    a = view.coder.bins.ranges[stage - 1]
    axes.set_title(
        f"stage {stage}, a = {a:.3g}: IoU {before:.2f} → {ious[stage, 'predicted']:.2f}",
        fontsize="small",
    )
    _show_first_range(axes, frame)


def _draw_image(axes: Axes, view: HeadView) -> None:
    """The image in pixels of the network's input, without axes."""
    height, width = view.size
    axes.imshow(imread(view.image_path), extent=(0, width, height, 0), cmap="gray")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.grid(visible=False)


def _show_first_range(axes: Axes, frame: pd.DataFrame) -> None:
    """The same part of the plane in each panel: what stage 1 can reach, and a little around it."""
    ranges = frame[frame["box"] == "range outer"]
    x1, y1, x2, y2 = ranges.iloc[0][["x1", "y1", "x2", "y2"]]
    margin = 0.03 * max(x2 - x1, y2 - y1)
    axes.set_xlim(x1 - margin, x2 + margin)
    axes.set_ylim(y2 + margin, y1 - margin)
    axes.set_aspect("equal")


def _draw_box(axes: Axes, box: tuple[float, ...], label: str, color: str) -> None:
    x1, y1, x2, y2 = box
    # A white line under it, so that it is seen on an image of any colour.
    for under in (True, False):
        axes.add_patch(
            Rectangle(
                (x1, y1),
                x2 - x1,
                y2 - y1,
                fill=False,
                edgecolor="white" if under else color,
                linewidth=3 if under else 1.5,
                label=None if under else label,
            )
        )


def _draw_range(axes: Axes, outer: tuple[float, ...], inner: tuple[float, ...]) -> None:
    """The band that the edges can be moved in, gray, dashed at both sides."""
    loops = [_loop(outer)]
    if inner[0] < inner[2] and inner[1] < inner[3]:
        loops.append(_loop(inner)[::-1])  # the other way round, so that it is a hole
    codes = [Outline.MOVETO, *[Outline.LINETO] * 3, Outline.CLOSEPOLY]
    band = Outline([point for loop in loops for point in loop], codes * len(loops))
    axes.add_patch(PathPatch(band, facecolor="0.6", alpha=0.3, edgecolor="none"))
    axes.add_patch(
        PathPatch(
            band,
            fill=False,
            edgecolor=RANGE,
            linestyle="--",
            linewidth=1.3,
            label="range of the edges",
        )
    )


def _loop(box: tuple[float, ...]) -> list[tuple[float, float]]:
    x1, y1, x2, y2 = box
    return [(x1, y1), (x2, y1), (x2, y2), (x1, y2), (x1, y1)]

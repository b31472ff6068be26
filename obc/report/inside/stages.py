"""The figure `stages`: the range and the box of each stage on one proposal (Figure 3)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path as Outline

from obc.evaluation.head_view import POSITIVE_IOU, HeadView, box_ious
from obc.report.figures import style
from obc.report.pictures import GREY

NAME = "stages"
HEADING = "From a proposal to a box, stage by stage"
PROPOSAL = style.OKABE_ITO["sky blue"]
RANGE = style.OKABE_ITO["orange"]
MARGIN = 0.06  # shown around the boxes, as a fraction of their larger side


# --- stages ------------------------------------------------------------------------------------


def stage_boxes(view: HeadView) -> pd.DataFrame:
    """Return every box of the figure `stages` for the only RoI of a view.

    Returns:
        Columns `image_id`, `stage` (from 1; 0 for proposal and truth), `box` (`proposal`, `truth`,
        `range outer`, `range inner`, `predicted`), `x1`, `y1`, `x2`, `y2` in pixels of the
        network's input, and `iou` with the truth (NaN for ranges).
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


def draw_stages(
    view: HeadView, text: str, badge: str, folder: Path, *, shows_image: bool = True
) -> None:
    """Draw `stages` (svg, png, pdf, csv) for the only RoI of a view.

    Args:
        text: the caption: how the RoI was chosen, and scale, data and run.
        badge: as in `style.write_badge`.
        shows_image: draw the image under the boxes; False: draw grey instead.
    """
    with style.figure_style(NAME):
        drawing = stages_figure(view, badge, shows_image=shows_image)
        style.save(drawing, folder, NAME, HEADING, text)
    style.save_data(stage_boxes(view), folder, NAME)


@style.figure_style(NAME)
def stages_figure(view: HeadView, badge: str = "", *, shows_image: bool = True) -> Figure:
    """Draw the boxes of the only RoI of a view, with a panel for each stage."""
    frame = stage_boxes(view)
    panels = view.coder.bins.num_stages
    first, *later = _windows(view, frame)
    aspect = (first[3] - first[1]) / (first[2] - first[0])
    width = style.SIZE_INCHES[0]
    drawing = style.blank((width, aspect * width / max(2, panels) + 0.7))
    parts = np.atleast_1d(drawing.subplots(1, panels))
    for stage, (axes, window) in enumerate(zip(parts, (first, *later), strict=True), start=1):
        _draw_stage(axes, view, frame, stage, shows_image=shows_image)
        axes.set_xlim(window[0], window[2])
        axes.set_ylim(window[3], window[1])
    handles, labels = parts[0].get_legend_handles_labels()
    drawing.legend(handles, labels, loc="outside upper center", ncols=4, fontsize="small")
    style.write_badge(drawing, badge)
    return drawing


@style.figure_style("proposals")
def proposals_figure(view: HeadView, count: int) -> Figure:
    """Draw the first `count` proposals of an image, and highlight the positive proposals."""
    drawing = style.blank()
    axes = drawing.add_subplot()
    _draw_image(axes, view)
    overlaps = f"proposal, IoU of at least {POSITIVE_IOU}"
    for box, iou in zip(view.proposals[:count].tolist(), view.ious[:count].tolist(), strict=True):
        is_positive = iou >= POSITIVE_IOU
        label = overlaps if is_positive else "proposal, less"
        _draw_box(axes, box, label, PROPOSAL if is_positive else "0.6", "-" if is_positive else ":")
    for box in view.objects.tolist():
        _draw_box(axes, box, "ground truth", style.TRUTH, "--")
    axes.set_title(f"Image {view.image_id}: the first {min(count, len(view))} of {len(view)}")
    handles, labels = axes.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    drawing.legend(once.values(), once.keys(), loc="outside upper center", ncols=3)
    return drawing


def _draw_stage(
    axes: Axes, view: HeadView, frame: pd.DataFrame, stage: int, *, shows_image: bool
) -> None:
    """Draw the box before a stage, the stage's range, the truth and the predicted box."""
    boxes = {
        (int(line["stage"]), name): (line["x1"], line["y1"], line["x2"], line["y2"])
        for name, line in frame.set_index("box").iterrows()
    }
    ious = frame.set_index(["stage", "box"])["iou"]
    before = (0, "proposal") if stage == 1 else (stage - 1, "predicted")
    _draw_image(axes, view, shows_image=shows_image)
    _draw_range(axes, boxes[stage, "range outer"], boxes[stage, "range inner"])
    _draw_box(axes, boxes[before], "box before the stage", PROPOSAL, ":")
    _draw_box(axes, boxes[0, "truth"], "ground truth", style.TRUTH, "--")
    _draw_box(axes, boxes[stage, "predicted"], "predicted box", style.EXPECTATION)
    a = view.coder.bins.ranges[stage - 1]
    axes.set_title(
        f"stage {stage}, a = {a:.3g}: IoU {ious[before]:.3f} → {ious[stage, 'predicted']:.3f}",
        fontsize="small",
    )
    axes.set_aspect("equal")


def _draw_image(axes: Axes, view: HeadView, *, shows_image: bool = True) -> None:
    """Draw the image, or grey, in pixels of the network's input, without axes."""
    height, width = view.size
    image = imread(view.image_path) if shows_image else np.full((1, 1, 3), GREY, np.uint8)
    axes.imshow(image, extent=(0, width, height, 0), cmap="gray", interpolation="none")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.grid(visible=False)


Window = tuple[float, float, float, float]


def _windows(view: HeadView, frame: pd.DataFrame) -> list[Window]:
    """Return the part of the image (x1, y1, x2, y2) that each stage's panel shows.

    A window contains the range and the boxes of its stage. All windows have the same aspect ratio
    and lie within the image, so that no panel has an empty border.
    """
    height, width = view.size
    image = (0.0, 0.0, float(width), float(height))
    first = _around(frame[frame["stage"].isin([0, 1])], image)
    windows = [first]
    aspect = (first[3] - first[1]) / (first[2] - first[0])
    for stage in range(2, view.coder.bins.num_stages + 1):
        shown = (frame["stage"] == stage) | (frame["box"] == "truth")
        shown |= (frame["stage"] == stage - 1) & (frame["box"] == "predicted")
        windows.append(_of_aspect(_around(frame[shown], first), aspect, first))
    return windows


def _around(boxes: pd.DataFrame, limits: Window) -> Window:
    """Return the window that contains boxes and a margin, clipped to `limits`."""
    x1, y1 = boxes["x1"].min(), boxes["y1"].min()
    x2, y2 = boxes["x2"].max(), boxes["y2"].max()
    margin = MARGIN * max(x2 - x1, y2 - y1)
    return (
        max(x1 - margin, limits[0]), max(y1 - margin, limits[1]),
        min(x2 + margin, limits[2]), min(y2 + margin, limits[3]),
    )  # fmt: skip


def _of_aspect(window: Window, aspect: float, limits: Window) -> Window:
    """Return the smallest window of an aspect (height / width) around another, within `limits`.

    Args:
        limits: a window of that aspect that contains `window`.
    """
    width = max(window[2] - window[0], (window[3] - window[1]) / aspect)
    width = min(width, limits[2] - limits[0])
    height = width * aspect
    x1 = min(max((window[0] + window[2] - width) / 2, limits[0]), limits[2] - width)
    y1 = min(max((window[1] + window[3] - height) / 2, limits[1]), limits[3] - height)
    return x1, y1, x1 + width, y1 + height


def _draw_box(
    axes: Axes, box: tuple[float, ...], label: str, color: str, dashes: str = "-"
) -> None:
    x1, y1, x2, y2 = box
    # A white line underneath makes the box visible on an image of any colour.
    for under in (True, False):
        axes.add_patch(
            Rectangle(
                (x1, y1),
                x2 - x1,
                y2 - y1,
                fill=False,
                edgecolor="white" if under else color,
                linewidth=3 if under else 1.5,
                linestyle="-" if under else dashes,
                label=None if under else label,
            )
        )


def _draw_range(axes: Axes, outer: tuple[float, ...], inner: tuple[float, ...]) -> None:
    """Draw the band in which a stage can move the edges: grey, with dash-dotted outlines."""
    loops = [_loop(outer)]
    if inner[0] < inner[2] and inner[1] < inner[3]:
        loops.append(_loop(inner)[::-1])  # reversed, so that it becomes a hole
    codes = [Outline.MOVETO, *[Outline.LINETO] * 3, Outline.CLOSEPOLY]
    band = Outline([point for loop in loops for point in loop], codes * len(loops))
    axes.add_patch(PathPatch(band, facecolor="0.6", alpha=0.3, edgecolor="none"))
    axes.add_patch(
        PathPatch(
            band,
            fill=False,
            edgecolor=RANGE,
            linestyle="-.",
            linewidth=1.3,
            label="range of the edges",
        )
    )


def _loop(box: tuple[float, ...]) -> list[tuple[float, float]]:
    x1, y1, x2, y2 = box
    return [(x1, y1), (x2, y1), (x2, y2), (x1, y2), (x1, y1)]

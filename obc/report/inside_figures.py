"""Figures of what a trained head thinks: `stages`, `offset_distributions`, `target_offsets`.

Which image and which RoIs are shown is decided by a rule over many of them, never by hand.
Shape shorthand: R RoIs, K stages, n logits a stage, P positive proposals.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import imread
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path as Outline
from torch import Tensor

from obc.bins import OffsetBins
from obc.inside import COORDINATES, POSITIVE_IOU, HeadView, InsideError, box_ious
from obc.report import style

SHOWN_QUANTILES = (0.1, 0.5, 0.9)
RANGES = (1.0, 3.0, 5.0)  # of Figure 5
HISTOGRAM_EDGES = np.arange(-6, 6.25, 0.25)
PROPOSAL = "#56b4e9"
RANGE = "#e69f00"


# --- which RoIs are shown ----------------------------------------------------------------------


def best_of_each_object(view: HeadView) -> HeadView:
    """For each object the RoI with the highest score for its class, as NMS would keep it.

    Args:
        view: RoIs that overlap an object.
    """
    labels = view.object_labels[view.matched]
    scores = view.scores[torch.arange(len(view)), labels]
    best = [
        rows[scores[rows].argmax()]
        for rows in (
            (view.matched == index).nonzero().squeeze(1) for index in view.matched.unique()
        )
    ]
    return view.take(torch.tensor(best, dtype=torch.long))


def iou_gain(view: HeadView) -> Tensor:
    """IoU with the object of the final box less that of the proposal, (R,)."""
    return box_ious(view.expectation.boxes[:, -1], view.truth) - view.ious


def offset_error(view: HeadView) -> Tensor:
    """Mean over the coordinates of |expectation - true offset|, normalised, (R,)."""
    return (view.expectation.offsets.sum(-1) - view.offsets).abs().mean(-1)


def at_quantiles(
    views: Sequence[HeadView], values: Sequence[Tensor], quantiles: Sequence[float]
) -> list[HeadView]:
    """The RoIs whose value lies at the quantiles among the RoIs of all views, one view each.

    Between two RoIs it is the one with the smaller value.

    Raises:
        InsideError: there is no RoI.
    """
    everything = torch.cat([torch.empty(0), *values])
    if len(everything) == 0:
        raise InsideError(
            f"no proposal in {len(views)} image(s) overlaps an object by enough to be shown; "
            "train longer, or choose another image"
        )
    sorted_rows = everything.argsort(stable=True)
    places = [(view, row) for view in views for row in range(len(view))]
    chosen = [sorted_rows[int(quantile * (len(everything) - 1))] for quantile in quantiles]
    return [view.take(torch.tensor([row])) for view, row in (places[index] for index in chosen)]


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
        iou=lambda made: made["iou"].mask(made["box"].str.startswith("range"))
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


# --- offset distributions ----------------------------------------------------------------------


def distributions(views: Sequence[HeadView]) -> pd.DataFrame:
    """Every bar and mark of the figure `offset_distributions`.

    Args:
        views: of one RoI each.

    Returns:
        One line for each RoI, stage, coordinate and bin: columns `roi` and `stage` (from 1),
        `image_id`, `coordinate`, `bin` (its label), `low` and `high` (its edges, infinite for the
        overflow bins), `probability`; and, the same for all bins of a panel, `truth` (what the
        expectations of the stages before leave to be predicted), `argmax` and `expectation`.
    """
    frames = [
        _distributions_of(view, number).assign(image_id=view.image_id)
        for number, view in enumerate(views, start=1)
    ]
    return pd.concat(frames, ignore_index=True)


def _distributions_of(view: HeadView, number: int) -> pd.DataFrame:
    bins = view.coder.bins
    earlier = view.expectation.offsets.cumsum(-1) - view.expectation.offsets
    left = view.offsets[..., None] - earlier
    frames = []
    for stage in range(bins.num_stages):
        low, high = _edges(bins, stage)
        for index, coordinate in enumerate(COORDINATES):
            at = (0, index, stage)
            frames.append(
                pd.DataFrame(
                    {
                        "roi": number,
                        "stage": stage + 1,
                        "coordinate": coordinate,
                        "bin": range(bins.num_logits),
                        "low": low,
                        "high": high,
                        "probability": view.probabilities[at].numpy(),
                        "truth": left[at].item(),
                        "argmax": view.argmax.offsets[at].item(),
                        "expectation": view.expectation.offsets[at].item(),
                    }
                )
            )
    return pd.concat(frames)


def _edges(bins: OffsetBins, stage: int) -> tuple[list[float], list[float]]:
    """Lower and upper edge of each bin of a stage, n each."""
    a, half = bins.ranges[stage].item(), bins.widths[stage].item() / 2
    inner = bins.centers[stage, : bins.num_inner].tolist()
    low = [*(center - half for center in inner), -float("inf"), a]
    high = [*(center + half for center in inner), -a, float("inf")]
    return low, high


def draw_distributions(
    views: Sequence[HeadView], names: Sequence[str], rule: str, stamp: str, folder: Path
) -> None:
    """Draw `offset_distributions` (svg, png, csv) of views of one RoI each.

    Args:
        names: why each is shown.
        rule: how they were chosen, a sentence.
        stamp: scale, data and run.
    """
    with style.figure_style("offset_distributions"):
        drawing = distributions_figure(views, names, f"{rule} {stamp}")
        style.save_both(drawing, folder, "offset_distributions")
    style.save_data(distributions(views), folder, "offset_distributions")


@style.figure_style("offset_distributions")
def distributions_figure(views: Sequence[HeadView], names: Sequence[str], text: str) -> Figure:
    """Bin probabilities of views of one RoI each: a row for each RoI and stage; `text` below."""
    bins = views[0].coder.bins
    rows = len(views) * bins.num_stages
    drawing = style.blank((6.4, 1.8 + 1.35 * rows))
    legend, *parts = drawing.subfigures(1 + rows, 1, height_ratios=[0.25, *[1] * rows])
    of_rows = distributions(views).groupby(["roi", "stage"], sort=False)
    for part, ((roi, stage), lines) in zip(parts, of_rows, strict=True):
        name = f"RoI {roi}, {_described(views[roi - 1], names[roi - 1])}" if stage == 1 else ""
        _draw_row(part, lines, bins, stage, name)
    _draw_legend(legend, parts[0].axes[0])
    style.write_around(drawing, "What the head thinks of an offset", text)
    return drawing


def _described(view: HeadView, name: str) -> str:
    label = view.classes[view.object_labels[view.matched[0]]]
    after = view.ious[0] + iou_gain(view)[0]
    return f"{name}: {label} in image {view.image_id}, IoU {view.ious[0]:.2f} → {after:.2f}"


def _draw_row(
    part: SubFigure, lines: pd.DataFrame, bins: OffsetBins, stage: int, name: str
) -> None:
    part.suptitle(name, fontsize=style.SMALL + 1, x=0.01, ha="left")
    a, w = bins.ranges[stage - 1].item(), bins.widths[stage - 1].item()
    panels = part.subplots(1, len(COORDINATES), sharey=True)
    for axes, (coordinate, bars) in zip(
        panels, lines.groupby("coordinate", sort=False), strict=True
    ):
        # An overflow bin has no end: it is drawn as wide as an inner one.
        low, high = bars["low"].clip(lower=-a - w), bars["high"].clip(upper=a + w)
        overflow = np.isinf(bars["low"]) | np.isinf(bars["high"])
        for of_kind, alpha, label in ((~overflow, 0.75, "inner bin"), (overflow, 0.3, "beyond")):
            axes.bar(
                low[of_kind],
                bars["probability"][of_kind],
                width=(high - low)[of_kind],
                align="edge",
                color=style.BINS,
                alpha=alpha,
                label=label,
            )
        marks = bars.iloc[0]
        for mark, color, dashes in (
            ("truth", style.TRUTH, "-"),
            ("expectation", style.EXPECTATION, "--"),
            ("argmax", style.ARGMAX, ":"),
        ):
            # A truth beyond the overflow bins is drawn at their end.
            at = float(np.clip(marks[mark], -a - w, a + w))
            axes.axvline(at, color=color, linestyle=dashes, linewidth=1.8, label=mark)
        axes.set_xlim(-a - 1.2 * w, a + 1.2 * w)
        axes.set_xticks([-a, 0, a], [f"{value:.3g}" for value in (-a, 0, a)])
        axes.tick_params(labelsize=style.SMALL)
        axes.set_xlabel(f"{coordinate}, stage {stage}", fontsize=style.SMALL)
    panels[0].set_ylabel("probability", fontsize=style.SMALL)


# --- target offsets ----------------------------------------------------------------------------


def target_histogram(offsets: Tensor) -> pd.DataFrame:
    """How the target offsets (P, 4) of each coordinate are distributed.

    Returns:
        Columns `coordinate` (x, y, w, h), `low`, `high` (edges, the first and the last infinite)
        and `share` of the P offsets in [low, high), in percent; NaN where P is 0.
    """
    edges = np.concatenate([[-np.inf], HISTOGRAM_EDGES, [np.inf]])
    frames = []
    for coordinate, values in zip(COORDINATES, offsets.numpy().T, strict=True):
        counts = np.histogram(values, edges)[0]
        share = 100 * counts / len(values) if len(values) else np.full(len(counts), np.nan)
        frames.append(
            pd.DataFrame(
                {"coordinate": coordinate, "low": edges[:-1], "high": edges[1:], "share": share}
            )
        )
    return pd.concat(frames, ignore_index=True)


def beyond(offsets: Tensor) -> pd.DataFrame:
    """Share of target offsets (P, 4) that a range (-a, a) does not hold.

    Returns:
        Columns `a`, `coordinate` (x, y, w, h, `all four together`: counted as 4P offsets, and
        `any of the four`: proposals with at least one beyond) and `share` in percent.
    """
    lines = []
    for a in RANGES:
        outside = offsets.abs() >= a
        shares = {
            **dict(zip(COORDINATES, outside.float().mean(0).tolist(), strict=True)),
            "all four together": outside.float().mean().item(),
            "any of the four": outside.any(1).float().mean().item(),
        }
        lines += [(a, name, 100 * share) for name, share in shares.items()]
    return pd.DataFrame(lines, columns=["a", "coordinate", "share"])


def draw_targets(offsets: Tensor, rule: str, stamp: str, folder: Path) -> None:
    """Draw `target_offsets` (svg, png, csv), and write `target_offsets_beyond.csv`.

    Args:
        offsets: of positive proposals, normalised, (P, 4).
        rule: of which proposals, a sentence.
        stamp: scale, data and run.
    """
    histogram, shares = target_histogram(offsets), beyond(offsets)
    with style.figure_style("target_offsets"):
        drawing = style.blank()
        axes, bars = drawing.subplots(1, 2, width_ratios=[2.1, 1])
        _draw_histogram(axes, histogram)
        _draw_beyond(bars, shares)
        text = f"{rule} {stamp}"
        style.write_around(drawing, "What offsets there are to learn, and what a range cuts", text)
        style.save_both(drawing, folder, "target_offsets")
    style.save_data(histogram, folder, "target_offsets")
    style.save_data(shares, folder, "target_offsets_beyond")


COORDINATE_LOOKS = {
    "x": {"color": "#0072b2", "linestyle": "-"},
    "y": {"color": "#0072b2", "linestyle": "--"},
    "w": {"color": "#d55e00", "linestyle": "-"},
    "h": {"color": "#d55e00", "linestyle": "--"},
}


def _draw_histogram(axes: Axes, histogram: pd.DataFrame) -> None:
    inside = histogram[np.isfinite(histogram["low"]) & np.isfinite(histogram["high"])]
    for coordinate, lines in inside.groupby("coordinate", sort=False):
        edges = [*lines["low"], lines["high"].iloc[-1]]
        look = COORDINATE_LOOKS[coordinate]
        axes.stairs(lines["share"], edges, label=coordinate, linewidth=1.5, **look)
    for a, dashes in zip(RANGES, ("-", "--", ":"), strict=True):
        for side in (-a, a):
            axes.axvline(side, color="0.45", linestyle=dashes, linewidth=1)
        axes.annotate(
            f"a = {a:g}", (a, 1), (3, -2), xycoords=("data", "axes fraction"),
            textcoords="offset points", rotation=90, va="top", fontsize=style.SMALL, color="0.3",
        )  # fmt: skip
    axes.set_xlabel("target offset, divided by target_stds")
    axes.set_ylabel("share of positive proposals (%)")
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper left", fontsize="small")


def _draw_beyond(axes: Axes, shares: pd.DataFrame) -> None:
    ticks = [f"{a:g}" for a in RANGES]
    # One of four coordinates, on average; and the RoIs that lose at least one of theirs.
    kinds = (
        ("all four together", -0.2, "0.35", "offsets"),
        ("any of the four", 0.2, "0.7", "boxes"),
    )
    for kind, shift, color, label in kinds:
        values = shares.loc[shares["coordinate"] == kind, "share"]
        drawn = axes.bar(
            np.arange(len(ticks)) + shift, values, width=0.38, color=color, label=label
        )
        axes.bar_label(drawn, fmt="%.0f", fontsize=style.SMALL)
    axes.set_xticks(range(len(ticks)), ticks)
    axes.set_xlabel("range a")
    axes.set_ylabel("beyond ±a (%)")
    axes.set_ylim(0, 105)
    axes.legend(fontsize="small", title="share of", title_fontsize="small")

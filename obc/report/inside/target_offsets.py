"""The figure `target_offsets`: distribution of target offsets, and the share outside a range."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from torch import Tensor

from obc.evaluation.head_view import COORDINATES
from obc.report.figures import style

RANGES = (1.0, 3.0, 5.0)  # values of a in Figure 5
HISTOGRAM_EDGES = np.arange(-6, 6.25, 0.25)


def target_histogram(offsets: Tensor) -> pd.DataFrame:
    """Compute the histogram of the target offsets (P, 4) of each coordinate.

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
    """Compute the share of target offsets (P, 4) outside (-a, a), for each a of RANGES.

    Returns:
        Columns `a`, `coordinate` (x, y, w, h, `all four together`: share of all 4P offsets, and
        `any of the four`: share of proposals with at least one offset outside) and `share` in
        percent.
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


def draw_targets(offsets: Tensor, text: str, badge: str, folder: Path) -> None:
    """Draw `target_offsets` (svg, png, pdf, csv), and write `target_offsets_beyond.csv`.

    Args:
        offsets: normalised target offsets of positive proposals, (P, 4).
        text: the caption: which proposals, and scale, data and run.
        badge: as in `style.write_badge`.
    """
    histogram, shares = target_histogram(offsets), beyond(offsets)
    heading = "Target offsets, and the share that a range cuts off"
    with style.figure(
        folder, "target_offsets", heading, text, badge=badge, data=histogram
    ) as drawing:
        axes, bars = drawing.subplots(1, 2, width_ratios=[2.1, 1])
        _draw_histogram(axes, histogram)
        _draw_beyond(bars, shares)
        handles, labels = axes.get_legend_handles_labels()
        of_bars, of_labels = bars.get_legend_handles_labels()
        drawing.legend(
            handles + of_bars, labels + of_labels, loc="outside upper center", ncols=6, fontsize=8
        )
    style.save_data(shares, folder, "target_offsets_beyond")


COORDINATE_LOOKS = {
    "x": {"color": style.OKABE_ITO["blue"], "linestyle": "-", "marker": "o"},
    "y": {"color": style.OKABE_ITO["sky blue"], "linestyle": "--", "marker": "s"},
    "w": {"color": style.OKABE_ITO["vermillion"], "linestyle": "-", "marker": "^"},
    "h": {"color": style.OKABE_ITO["orange"], "linestyle": "--", "marker": "D"},
}


def _draw_histogram(axes: Axes, histogram: pd.DataFrame) -> None:
    inside = histogram[np.isfinite(histogram["low"]) & np.isfinite(histogram["high"])]
    for number, (coordinate, lines) in enumerate(inside.groupby("coordinate", sort=False)):
        edges = [*lines["low"], lines["high"].iloc[-1]]
        marks = style.mark_every(number, len(lines), 12)
        look = {"markersize": 4, "markevery": marks, **COORDINATE_LOOKS[coordinate]}
        style.steps(axes, edges, lines["share"], label=coordinate, **look)
    for a, dashes in zip(RANGES, ("-", "--", ":"), strict=True):
        for side in (-a, a):
            axes.axvline(side, color="0.45", linestyle=dashes, linewidth=1, zorder=0)
    # The ends of the ranges are labelled above the frame, where no line crosses the labels.
    ranges = axes.secondary_xaxis("top")
    sides = sorted(side for a in RANGES for side in (-a, a))
    ranges.set_xticks(sides, [f"{side:+g}".replace("-", "−") for side in sides], fontsize=8)
    ranges.set_xlabel("ends of the ranges ±a", fontsize=8)
    axes.set_xlabel("target offset (normalised: divided by target_stds)")
    axes.set_ylabel("share of positive proposals (%)")
    axes.set_ylim(bottom=0)


def _draw_beyond(axes: Axes, shares: pd.DataFrame) -> None:
    ticks = [f"{a:g}" for a in RANGES]
    # The share of single offsets outside, and of RoIs with at least one of four offsets outside.
    kinds = (
        ("all four together", -0.2, "0.35", "offsets beyond"),
        ("any of the four", 0.2, "0.7", "boxes beyond"),
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

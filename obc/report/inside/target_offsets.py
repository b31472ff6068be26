"""The figure `target_offsets`: how target offsets are distributed, and which part a range cuts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from torch import Tensor

from obc.evaluation.head_view import COORDINATES
from obc.report.figures import style

RANGES = (1.0, 3.0, 5.0)  # of Figure 5
HISTOGRAM_EDGES = np.arange(-6, 6.25, 0.25)


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
    heading = "What offsets there are to learn, and what a range cuts"
    with style.figure(
        folder, "target_offsets", heading, f"{rule} {stamp}", data=histogram
    ) as drawing:
        axes, bars = drawing.subplots(1, 2, width_ratios=[2.1, 1])
        _draw_histogram(axes, histogram)
        _draw_beyond(bars, shares)
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

"""Figure 4: the division of the offset axis into bins, read from `OffsetBins`.

Edges, labels and representative offsets come from the class that the trainings use. Nothing is
drawn by hand, and no run is needed.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from obc.bins import OffsetBins
from obc.report.figures import style

FIGURE = "figure4"
BINS = OffsetBins(num_bins=5, max_offset=5.0)
"""The paper's example: five inner bins over (-5, 5)."""
HEADING = "Figure 4. Offset bin construction, a = {a:g} with {m} inner bins (section 3.2.1)."
CAPTION = (
    "Read from OffsetBins, which the trainings use; depends on no training and no data. "
    "({low}, {high}) is divided into {m} bins of width w = 2a / m = {w:g}, labels 0 to {last}; "
    "a bin stands for its middle. Label {below} takes all below and stands for {low}, label "
    "{above} all above and stands for {high}: n = m + 2 = {n} bins in all."
)
INNER, OVERFLOW = style.SQUARED, style.ARGMAX  # only for their colours
MARGIN = 0.35  # shown width of an overflow bin (which is unbounded) / a


def bin_table(bins: OffsetBins) -> pd.DataFrame:
    """Return every bin of the first stage, from the most negative to the most positive offsets.

    Returns:
        Columns `label` (0..m-1 for inner bins, m for the bin below them, m + 1 for the bin above),
        `low` and `high` (edges; infinite at the open side of an overflow bin) and `representative`
        (equation 5). All but `label` are in units of the normalised offset.
    """
    a, half_width = bins.ranges[0].item(), bins.widths[0].item() / 2
    *inner, below, above = bins.centers[0].tolist()
    rows = [
        (bins.num_inner, -float("inf"), -a, below),
        *(
            (label, centre - half_width, centre + half_width, centre)
            for label, centre in enumerate(inner)
        ),
        (bins.num_inner + 1, a, float("inf"), above),
    ]
    return pd.DataFrame(rows, columns=["label", "low", "high", "representative"])


def draw(folder: Path, bins: OffsetBins = BINS) -> None:
    """Draw `figure4` (svg, png, pdf) into `folder`, and write the drawn bins to `figure4.csv`."""
    table = bin_table(bins)
    width, height = style.SIZE_INCHES
    heading = HEADING.format(a=bins.ranges[0].item(), m=bins.num_inner)
    caption, size = _caption(table, bins), (width, 0.45 * height)
    with style.figure(folder, FIGURE, heading, caption, data=table, size=size) as drawing:
        _draw_axis(drawing.add_subplot(), table, bins)


def _caption(table: pd.DataFrame, bins: OffsetBins) -> str:
    return CAPTION.format(
        low=_number(table["representative"].iloc[0]),
        high=_number(table["representative"].iloc[-1]),
        m=bins.num_inner,
        n=bins.num_logits,
        w=bins.widths[0].item(),
        last=bins.num_inner - 1,
        below=table["label"].iloc[0],
        above=table["label"].iloc[-1],
    )


def _draw_axis(axes: Axes, table: pd.DataFrame, bins: OffsetBins) -> None:
    """Draw each bin as a field over the offset axis, with a dot at its representative offset."""
    limit = (1 + MARGIN) * bins.ranges[0].item()
    low, high = table["low"].clip(lower=-limit), table["high"].clip(upper=limit)
    is_inner = table["label"] < bins.num_inner
    colors = is_inner.map({True: INNER, False: OVERFLOW})
    # Hatching distinguishes the overflow bins without colours too.
    hatches = is_inner.map({True: "", False: "//"}).tolist()
    axes.bar(
        low, height=1, width=high - low, align="edge", color=colors, alpha=0.4, hatch=hatches,
        edgecolor="white", linewidth=0,
    )  # fmt: skip
    axes.vlines(table["low"].iloc[1:], 0, 1, color="black", linewidth=1)
    for label, middle in zip(table["label"], (low + high) / 2, strict=True):
        axes.annotate(f"label {label}", (middle, 0.62), ha="center", va="center", fontsize=9)
    axes.plot(table["representative"], [0] * len(table), "ko", clip_on=False, zorder=3)
    # The representative of an overflow bin is its edge: write the number beside the edge's line.
    sides = ["right", *["center"] * bins.num_inner, "left"]
    for value, side in zip(table["representative"], sides, strict=True):
        shift = {"right": -6, "center": 0, "left": 6}[side]
        axes.annotate(
            _number(value), (value, 0), (shift, 6), textcoords="offset points", ha=side, fontsize=9
        )
    # Arrows show that the overflow bins are unbounded.
    for end in (-limit, limit):
        arrow = {"arrowstyle": "->", "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", (0.99 * end, 0.42), (0.82 * end, 0.42), arrowprops=arrow)
    axes.set_xticks(table["low"].iloc[1:])
    axes.set_xlabel("offset (ticks: edges of the bins; dots: what each bin stands for)", fontsize=9)
    axes.set_xlim(-limit, limit)
    axes.set_ylim(0, 1)
    axes.set_yticks([])
    axes.grid(False)
    axes.spines["left"].set_visible(False)
    axes.tick_params(labelsize=9)


def _number(value: float) -> str:
    return f"{value:g}".replace("-", "−")

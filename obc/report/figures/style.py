"""The common look of all figures: colours and markers by meaning, sizes, badge, output files.

A colour has the same meaning in every figure. Neighbouring lines also differ in markers or dashes,
so that a figure can be read in grey. The context manager `figure` applies the look, writes the
badge and saves the files. A caption is not drawn: the files store it as metadata, and pages print
it beside the picture (`obc.report.figures.caption`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from obc.config.box_losses.offset_bin import OffsetBin
from obc.config.box_losses.registry import Box
from obc.config.run import Decode
from obc.io.files import atomic_path, write_text

# The palette of Okabe and Ito, which colour-blind readers can tell apart.
OKABE_ITO = {
    "black": "#000000",
    "orange": "#e69f00",
    "sky blue": "#56b4e9",
    "bluish green": "#009e73",
    "yellow": "#f0e442",
    "blue": "#0072b2",
    "vermillion": "#d55e00",
    "reddish purple": "#cc79a7",
}
REGRESSION = OKABE_ITO["blue"]  # smooth L1, the baseline
SQUARED = OKABE_ITO["sky blue"]  # L2, the other regression
BINS = OKABE_ITO["bluish green"]  # offset bins, one stage
HIERARCHY = OKABE_ITO["vermillion"]  # offset bins, several stages
# Colours of the two decodings, in figures that show both decodings of one prediction.
EXPECTATION = OKABE_ITO["reddish purple"]
ARGMAX = OKABE_ITO["orange"]
TRUTH = OKABE_ITO["black"]
MARKERS = {REGRESSION: "o", SQUARED: "v", BINS: "^", HIERARCHY: "D"}
SIZE_INCHES = (6.4, 4.2)
DPI = 300
FONT_SIZE = 10
SMALL = 7.5
KINDS = ("svg", "png", "pdf")
"""Suffixes of the files of a figure."""
_LOOK = {
    "font.size": FONT_SIZE,
    "svg.fonttype": "none",  # text stays text: it can be searched, copied and read aloud
    "pdf.fonttype": 42,  # TrueType, which journals ask for
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "0.9",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "lines.markersize": 5,
}


@contextmanager
def figure(
    folder: Path,
    name: str,
    heading: str,
    caption: str,
    *,
    badge: str = "",
    data: pd.DataFrame | None = None,
    size: tuple[float, float] = SIZE_INCHES,
) -> Iterator[Figure]:
    """Yield an empty drawing, and write it as `<folder>/<name>` when the `with` block ends.

    Nothing is written if the block raises an error.

    Args:
        heading, caption: as in `save`.
        badge: as in `write_badge`.
        data: plotted values, for `save_data`; None: the figure has no CSV.
        size: width and height in inches.
    """
    with figure_style(name):
        drawing = blank(size)
        yield drawing
        write_badge(drawing, badge)
        save(drawing, folder, name, heading, caption)
    if data is not None:
        save_data(data, folder, name)


@contextmanager
def figure_style(name: str) -> Iterator[None]:
    """Apply the common look to a block that draws and saves; the same input gives the same bytes.

    Args:
        name: name of the figure; the ids inside its SVG are derived from it.
    """
    with matplotlib.rc_context({**_LOOK, "svg.hashsalt": name}):
        yield


def blank(size: tuple[float, float] = SIZE_INCHES) -> Figure:
    """Return an empty drawing of this size in inches, with constrained layout."""
    return Figure(figsize=size, dpi=DPI, layout="constrained")


def method_look(box: Box, decode: Decode | None = None) -> dict[str, Any]:
    """Return colour and marker of a box loss and dashes of its decoding, for `Axes.plot`.

    Lines of argmax are dashed and have hollow markers.

    Args:
        decode: None if the decoding does not matter, e.g. for training losses.
    """
    color = {"l2": SQUARED, "offset_bin": BINS}.get(box.loss, REGRESSION)
    if isinstance(box, OffsetBin) and box.num_stages > 1:
        color = HIERARCHY
    is_argmax = decode == "argmax"
    return {
        "color": color,
        "marker": MARKERS[color],
        "markerfacecolor": "white" if is_argmax else color,
        "linestyle": "--" if is_argmax else "-",
    }


def mark_every(line: int, points: int, marks: int = 6) -> tuple[int, int]:
    """Return `markevery` for a line of many points: few markers, at other places on each line.

    Args:
        line: number of the line in its panel, from 0.
        points: number of points of the line.
        marks: approximate number of markers on the line.
    """
    step = max(1, points // marks)
    return (line * max(1, step // 4)) % step, step


def write_badge(drawing: Figure, badge: str) -> None:
    """Write the badge under the plots, for readers who see the picture without its caption.

    Args:
        badge: text of `obc.report.captions.badge`; empty: nothing is written.
    """
    if badge:
        drawing.supxlabel(badge, fontsize=SMALL, color="0.35", x=0.99, ha="right")


def legend_above(drawing: Figure, lines: Axes, columns: int = 3) -> None:
    """Draw the legend of one panel above all panels, so that it covers no line."""
    handles, labels = lines.get_legend_handles_labels()
    if handles:
        drawing.legend(handles, labels, loc="outside upper center", ncols=columns, fontsize=8)
    else:
        lines.text(0.5, 0.5, "nothing measured yet", transform=lines.transAxes, ha="center")


def steps(axes: Axes, edges: Sequence[float], heights: Sequence[float], **look: Any) -> None:
    """Draw the outline of a histogram as a line, which can have markers at the bars' middles.

    Args:
        edges: edges of bars of equal width, one more than `heights`.
        look: arguments of `Axes.plot`.
    """
    middles = [(low + high) / 2 for low, high in pairwise(edges)]
    axes.plot(middles, heights, drawstyle="steps-mid", linewidth=1.3, **look)


def save(drawing: Figure, folder: Path, name: str, heading: str, caption: str) -> None:
    """Write a drawing as `<folder>/<name>.<kind>` for each of KINDS, atomically.

    The same drawing gives the same bytes.

    Args:
        heading, caption: stored as metadata of the files, see `obc.report.figures.caption`.
    """
    metadata = {
        "svg": {"Title": heading, "Description": caption, "Date": None},
        "png": {"Title": heading, "Description": caption, "Software": None},
        "pdf": {"Title": heading, "Subject": caption, "CreationDate": None},
    }
    for kind in KINDS:
        with atomic_path(folder / f"{name}.{kind}") as temporary:
            drawing.savefig(temporary, metadata=metadata[kind])


def save_data(frame: pd.DataFrame, folder: Path, name: str) -> None:
    """Write the plotted values to `<folder>/<name>.csv`; a missing number is `n/a`."""
    text = frame.to_csv(index=False, na_rep="n/a", float_format="%.10g")
    write_text(folder / f"{name}.csv", text)

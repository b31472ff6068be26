"""One look for every figure: colours by meaning, sizes, text around the plot, files.

A colour means the same in every figure, and those next to each other differ in their dashes or
markers too, for print and for the colour-blind. A figure is drawn inside of `figure`, which gives
it the look, its title and provenance, and writes its files.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
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

# The palette of Okabe and Ito, which the colour-blind tell apart.
REGRESSION = "#0072b2"  # smooth L1, the baseline
SQUARED = "#56b4e9"  # L2, the other regression
BINS = "#009e73"  # offset bins, one stage
HIERARCHY = "#d55e00"  # offset bins, several stages
EXPECTATION = "#cc79a7"  # one decoding against the other, where both are drawn of one prediction
ARGMAX = "#e69f00"
TRUTH = "#000000"
SIZE_INCHES = (6.4, 4.2)
DPI = 150
FONT_SIZE = 10
SMALL = 7.5
_CHARACTERS_PER_INCH = 104 / 6.4  # of text at SMALL points
_LOOK = {
    "font.size": FONT_SIZE,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "0.9",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
}


@contextmanager
def figure(
    folder: Path,
    name: str,
    heading: str,
    provenance: str,
    missing: str = "",
    data: pd.DataFrame | None = None,
    size: tuple[float, float] = SIZE_INCHES,
) -> Iterator[Figure]:
    """Draw within, on the drawing that is handed out; then write it as `<folder>/<name>`.

    Nothing is written where drawing fails.

    Args:
        heading, provenance, missing: as `write_around`.
        data: what is plotted, for `save_data`; None: the figure has no CSV.
        size: in inches.
    """
    with figure_style(name):
        drawing = blank(size)
        yield drawing
        write_around(drawing, heading, provenance, missing)
        save_both(drawing, folder, name)
    if data is not None:
        save_data(data, folder, name)


@contextmanager
def figure_style(name: str) -> Iterator[None]:
    """Draw and save within: the common look, and the same bytes for the same input.

    Args:
        name: of the figure; the ids inside of its SVG are made from it.
    """
    with matplotlib.rc_context({**_LOOK, "svg.hashsalt": name}):
        yield


def blank(size: tuple[float, float] = SIZE_INCHES) -> Figure:
    """An empty drawing of so many inches whose parts make room for each other."""
    return Figure(figsize=size, dpi=DPI, layout="constrained")


def method_look(box: Box, decode: Decode | None = None) -> dict[str, Any]:
    """Colour of a box loss and dashes of its decoding, for `Axes.plot`: argmax is dashed.

    Args:
        decode: None where none matters, as for a training's losses.
    """
    color = {"l2": SQUARED, "offset_bin": BINS}.get(box.loss, REGRESSION)
    if isinstance(box, OffsetBin) and box.num_stages > 1:
        color = HIERARCHY
    return {"color": color, "linestyle": "--" if decode == "argmax" else "-"}


def write_around(drawing: Figure, heading: str, provenance: str, missing: str = "") -> None:
    """Title above the plot; provenance and missing points under it, wrapped to its width."""
    drawing.suptitle(heading, fontsize=10.5, fontweight="bold")
    characters = int(_CHARACTERS_PER_INCH * drawing.get_figwidth())
    lines = textwrap.wrap(provenance, characters)
    if missing:
        lines += textwrap.wrap(f"Without a number: {missing}.", characters)
    drawing.supxlabel("\n".join(lines), fontsize=SMALL, color="0.3", x=0.01, ha="left")


def legend_in(place: Axes, lines: Axes, heading: str) -> None:
    """Give an otherwise empty panel a heading and the legend of what another panel shows.

    Args:
        heading: what the picture may be taken for, see `obc.report.captions.badge`.
    """
    place.axis("off")
    place.set_title(heading, fontsize=9, color="0.3")
    handles, labels = lines.get_legend_handles_labels()
    if handles:
        place.legend(handles, labels, loc="center", ncols=2, fontsize=8, borderpad=0)
    else:
        place.text(0.5, 0.5, "nothing measured yet", ha="center")


def save_both(drawing: Figure, folder: Path, name: str) -> None:
    """Write `<folder>/<name>.svg` and `.png`, atomically; the same drawing is the same bytes."""
    for kind, stamped_field in (("svg", "Date"), ("png", "Software")):
        with atomic_path(folder / f"{name}.{kind}") as temporary:
            drawing.savefig(temporary, metadata={stamped_field: None})


def save_data(frame: pd.DataFrame, folder: Path, name: str) -> None:
    """Write what a figure plots to `<folder>/<name>.csv`; a number that is not there is `n/a`."""
    text = frame.to_csv(index=False, na_rep="n/a", float_format="%.10g")
    write_text(folder / f"{name}.csv", text)

"""Tables for a notebook: our numbers beside the paper's, with coloured differences.

Blue means that ours is higher, orange that it is lower. A notebook shows coloured cells, Markdown
coloured squares.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
from pandas.io.formats.style import Styler

from obc.notebook.read_results import ReadTable
from obc.report.captions import signed
from obc.report.escape import escape_markdown

# AP points of difference: for the full colour, and for a blue or orange square in Markdown.
FULL_COLOUR = 10.0
VISIBLE = 1.0


# Colour-blind safe: Okabe-Ito's blue and orange, fading to white at no difference.
HIGHER, LOWER = "#0072B2", "#E69F00"
OPAQUE = 150  # of 255: on a more opaque background text is hard to read
VERDICTS = {"reproduced": "#0072B2", "not reproduced": "#E69F00"}
KEY = (
    "Cells: ours, in brackets the paper's and the difference. Blue (🟦) where ours is higher, "
    f"orange (🟧) where it is lower, ⬜ within {VISIBLE:g} point."
)


@dataclass(frozen=True)
class ColouredTable:
    """A table that a notebook shows as HTML and a page as Markdown."""

    table: ReadTable

    @property
    def cells(self) -> pd.DataFrame:
        """The texts: label columns, then `ours (paper, difference)` for each metric."""
        columns = {
            metric: [
                _cell(*parts)
                for parts in zip(
                    self.table.text[metric],
                    self.table.paper[metric],
                    self.table.difference[metric],
                    strict=True,
                )
            ]
            for metric in self.table.text
        }
        return self.table.labels.assign(**columns)

    @property
    def styled(self) -> Styler:
        """The table with cell backgrounds coloured by the differences."""
        colours = self.table.difference.map(background)
        blank = self.table.labels.map(lambda _: "")
        styles = pd.concat([blank, colours], axis="columns")
        return self.cells.style.apply(lambda _: styles, axis=None).hide(axis="index")

    def _repr_html_(self) -> str:
        return self.styled.to_html()

    def _repr_markdown_(self) -> str:
        marks = self.table.difference.map(square)
        cells = self.cells
        for metric in marks:
            cells[metric] = (marks[metric] + " " + cells[metric]).str.strip()
        return _escaped(cells).to_markdown(index=False, disable_numparse=True)


@dataclass(frozen=True)
class ColouredVerdicts:
    """The verdicts on the paper's claims (`read_verdicts`): coloured HTML, or Markdown."""

    verdicts: pd.DataFrame

    def _repr_html_(self) -> str:
        style = self.verdicts.style.map(_verdict_colour, subset=["Verdict"])
        return style.hide(axis="index").to_html()

    def _repr_markdown_(self) -> str:
        return _escaped(self.verdicts).to_markdown(index=False, disable_numparse=True)


def background(difference: float) -> str:
    """CSS of a cell: blue above 0, orange below, stronger with the difference; empty for NaN."""
    if pd.isna(difference):
        return ""
    share = min(abs(difference) / FULL_COLOUR, 1.0)
    colour = HIGHER if difference > 0 else LOWER
    return f"background-color: {colour}{round(OPAQUE * share):02X}"


def square(difference: float) -> str:
    """The coloured square that marks a difference in Markdown; empty for NaN."""
    if pd.isna(difference):
        return ""
    if abs(difference) < VISIBLE:
        return "⬜"
    return "🟦" if difference > 0 else "🟧"


def _cell(ours: str, paper: float, difference: float) -> str:
    if pd.isna(paper):
        return ours
    inside = f"{paper:.1f}"
    if not pd.isna(difference):
        inside += f", {signed(difference)}"
    return f"{ours} ({inside})".strip()


def _verdict_colour(verdict: str) -> str:
    colour = VERDICTS.get(verdict)
    return f"background-color: {colour}{OPAQUE // 2:02X}" if colour else ""


def _escaped(cells: pd.DataFrame) -> pd.DataFrame:
    return cells.map(escape_markdown).rename(columns=escape_markdown)

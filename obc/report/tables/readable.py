"""Tables of the results folder as the page shows them: named columns, units, rounded values.

The CSV files themselves are written for programs: column names such as `mean_iou_sd`, ten digits,
run ids. Files that this module does not know (users can add their own) get a readable header and
rounded numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from obc.analysis.localisation_errors import COORDINATES
from obc.report.captions import bound, signed
from obc.report.tables.claims import MARKS

_COMPARED = "_compared"
_NAMELESS = ("row", "run_id", "decode", "scale", "status", "bin_width")
"""Columns of a file that are for programs only."""


@dataclass(frozen=True)
class Text:
    """A cell: its text and its standard deviation, which may be empty."""

    value: str
    spread: str = ""


@dataclass(frozen=True)
class ReadableTable:
    """A header and lines of cells, all of one length."""

    header: list[str]
    lines: list[list[Text]]


@dataclass(frozen=True)
class _Column:
    """A column that the page shows.

    Attributes:
        header: name with the unit in brackets.
        source: column of the file; if the file has `<source>_sd`, it is shown in the same cell.
        digits: digits after the decimal point; None: integers in full, other numbers with four
            significant digits.
        until: column with the upper bound, if `source` is the lower bound of an interval.
        signed: print the number with its sign, as a difference.
        remark: column with a text that follows the value, if it has one.
    """

    header: str
    source: str
    digits: int | None = None
    until: str = ""
    signed: bool = False
    remark: str = ""


_DIAGNOSIS = (
    _Column("Method", "name"),
    _Column("Objects found (%)", "found", 1),
    _Column("Mean IoU (%)", "mean_iou", 1),
    _Column("IoU below 0.9 (%)", "fail_at_90", 1),
    *(_Column(f"Error of {name} (px)", f"{name}_px", 2) for name in COORDINATES),
    *(_Column(f"Error of {name} (bins)", f"{name}_bins", 2) for name in COORDINATES),
)
_CALIBRATION = (
    _Column("Stages of the head", "label"),
    _Column("Stage", "stage"),
    _Column("Tenth, from the surest", "decile"),
    _Column("Offsets", "count", 0),
    _Column("Entropy, from and to (nats)", "entropy_low", 2, until="entropy_high"),
    _Column("Mean entropy (nats)", "entropy", 2),
    _Column("Mean error (normalised offset)", "error", 3),
    _Column("Mean error (bins)", "error_in_bins", 2),
    _Column("Truth within the range (%)", "in_range", 1),
    _Column("Rank correlation of the stage", "spearman", 2),
)
_DIFFERENCES = (
    _Column("Method", "name"),
    _Column("Less", "against"),
    _Column("Metric", "metric"),
    _Column("Difference (points)", "difference", 1, signed=True),
    _Column("Interval (points)", "low", 1, until="high", signed=True),
    _Column("Finding", "found", remark="reason"),
    _Column("Parameters of the head", "head_parameters", 0),
    _Column("Cost of the head (MFLOP per RoI)", "head_mflop_per_roi", 2),
)
_KNOWN = {"diagnosis": _DIAGNOSIS, "calibration": _CALIBRATION}


def readable(name: str, frame: pd.DataFrame) -> ReadableTable:
    """Return a table of the results folder as the page shows it.

    Args:
        name: name of the file without suffix.
        frame: content of the file, with NaN for `n/a`.
    """
    known = _DIFFERENCES if name.endswith(_COMPARED) else _KNOWN.get(name, ())
    columns = [column for column in known if column.source in frame] or _guessed(frame)
    lines = [[_cell(column, line) for column in columns] for line in frame.to_dict("records")]
    return ReadableTable([column.header for column in columns], lines)


def _guessed(frame: pd.DataFrame) -> list[_Column]:
    """Return the columns of an unknown file, without those for programs only.

    Deviations get no column, because they are shown in the cells of their numbers.
    """
    names = [str(name) for name in frame.columns]
    return [
        _Column(name.replace("_", " "), name)
        for name in names
        if name not in _NAMELESS and name.removesuffix("_sd") not in set(names) - {name}
    ]


def _cell(column: _Column, line: dict[str, Any]) -> Text:
    value = line[column.source]
    if column.until:
        if _is_missing(value):
            return Text("–")
        low, high = (_number(line[at], column) for at in (column.source, column.until))
        if not column.signed:
            return Text(f"{low} to {high}")
        return Text(f"[{low}, {high}]{MARKS.get(line.get('spread'), '')}")
    deviation = line.get(f"{column.source}_sd")
    spread = "" if _is_missing(deviation) else f"± {_number(deviation, column)}"
    remark = line.get(column.remark)
    return Text(_number(value, column) + ("" if _is_missing(remark) else f": {remark}"), spread)


def _number(value: Any, column: _Column) -> str:
    """Format a value: numbers are rounded, a missing number is a dash, texts are unchanged."""
    if _is_missing(value):
        return "–"
    if isinstance(value, str):
        return value
    if column.signed:
        return bound(value) if column.until else signed(value)
    if column.digits is not None:
        return f"{value:,.{column.digits}f}"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))

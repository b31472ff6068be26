"""Figures that are grids of runs (Figure 5): one line per series, one point per run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from obc.analysis.collect import summarise
from obc.config.plan import Plan
from obc.config.table import FigureSpec
from obc.io.typed_yaml import ConfigError
from obc.report.captions import badge, provenance, title
from obc.report.figures import style
from obc.report.figures.caption import caption

MARKERS = "osD^vP"
MARGIN = 0.08  # above and below the data, as a fraction of their range


def series(table: FigureSpec, frame: pd.DataFrame) -> pd.DataFrame:
    """Return the points of a figure, in the order of its rows.

    Args:
        frame: lines of `obc.analysis.collect.collect`; lines of other tables are ignored.

    Returns:
        Columns `series` (the value that separates the lines, as text) and `x`; and for the table's
        first metric `mean` and `sd` over the seeds (percent; NaN if missing), `statuses` (the
        distinct statuses of the seeds) and `paper` (the published number; NaN if there is none).
    """
    summary = summarise(frame[frame["table"] == table.name])
    numbers = summary.xs((table.name, table.metrics[0]), level=("table", "metric"))
    points = [
        {
            "series": table.plot.line(row.run),
            "x": table.plot.value(row.run, "x"),
            **numbers.loc[index, ["mean", "sd", "statuses", "paper"]],
        }
        for index, row in enumerate(table.rows)
        if row.run is not None
    ]
    return pd.DataFrame(points, columns=["series", "x", "mean", "sd", "statuses", "paper"])


def figure(plan: Plan, name: str, frame: pd.DataFrame, folder: Path) -> None:
    """Draw a figure of `plan` as `<folder>/<name>` (svg, png, pdf); same input, same bytes.

    Points without a number are not drawn but listed in the caption.

    Raises:
        ConfigError: `name` is no figure of the plan.
    """
    table = plan.tables.get(name)
    if not isinstance(table, FigureSpec):
        known = ", ".join(plan.figures)
        raise ConfigError(f"{name!r} is no figure of this plan; allowed: {known}")
    points = series(table, frame)
    text = caption(
        provenance(plan, table, spread_note(table, points), _axis_note(points)),
        missing=missing_points(table, points),
    )
    mark = badge(plan, table)
    with style.figure(folder, name, title(table), text, badge=mark) as drawing:
        _draw_points(drawing, drawing.add_subplot(), table, points)


def spread_note(table: FigureSpec, points: pd.DataFrame) -> str:
    """Explain the error bars and the points without an error bar.

    If only one point has several seeds, the text gives its deviation and no bar is drawn: a single
    bar would look like a feature of that point.

    Args:
        points: frame of `series`.

    Returns:
        A text; empty if no point has several seeds.
    """
    spread = points.dropna(subset="sd")
    others = points["mean"].notna().sum() - len(spread)
    if spread.empty:
        return ""
    if len(spread) > 1:
        said = "Bars: standard deviation over seeds."
        return f"{said} Points without a bar: single trainings." if others else said
    (point,) = spread.itertuples()
    place = f"{table.plot.series_label} = {point.series}, {_x_name(table)} = {point.x:g}"
    said = f"{place}: mean over seeds, standard deviation {point.sd:.2f}"
    return f"{said}; all other points: single trainings." if others else f"{said}."


def _axis_note(points: pd.DataFrame) -> str:
    """Return a warning if the vertical axis does not start at 0, since slopes then look steeper."""
    drawn = pd.concat([points["mean"], points["paper"]]).dropna()
    if drawn.empty or drawn.min() <= MARGIN * (drawn.max() - drawn.min()):
        return ""
    return "The vertical axis does not start at 0."


def _x_name(table: FigureSpec) -> str:
    return table.plot.x_symbol or table.plot.x_label


def missing_points(table: FigureSpec, points: pd.DataFrame) -> str:
    """List missing and incomplete points, e.g. `not run: a=1 n=10, 20; failed: a=3 n=50`.

    Returns:
        The text; empty if every point is complete. The statuses of a point that lacks only some
        seeds follow `some seeds`; the point is drawn from its other seeds.
    """
    x_name = _x_name(table)
    parts = []
    incomplete = points[points["statuses"].map(lambda statuses: statuses != ("ok",))]
    for statuses, of_status in incomplete.groupby("statuses", sort=False):
        reasons = [status for status in statuses if status != "ok"]
        some = "some seeds " if "ok" in statuses else ""
        places = [
            f"{table.plot.series_label}={name} {x_name}={', '.join(map(str, part['x']))}"
            for name, part in of_status.groupby("series", sort=False)
        ]
        parts.append(f"{some}{', '.join(reasons)}: {', '.join(places)}")
    return "; ".join(parts)


# --- drawing -----------------------------------------------------------------------------------


def _draw_points(drawing: Figure, axes: Axes, table: FigureSpec, points: pd.DataFrame) -> None:
    has_bars = points["sd"].notna().sum() > 1
    for index, (name, line) in enumerate(points.groupby("series", sort=False)):
        look: dict[str, Any] = {
            "color": table.plot.colors[name],
            "marker": MARKERS[index % len(MARKERS)],
        }
        # Missing points stay in as NaN, so that no line is drawn across them.
        drawn = line.sort_values("x")
        spread = drawn["sd"] if has_bars else None
        label = f"{table.plot.series_label} = {name}"
        axes.errorbar(
            drawn["x"], drawn["mean"], yerr=spread, label=label, capsize=3, elinewidth=1, **look
        )
        published = line.dropna(subset="paper")
        if len(published):
            hollow = {"markerfacecolor": "none", "linestyle": "none", "markersize": 8}
            axes.plot(published["x"], published["paper"], label=f"{label}, paper", **look, **hollow)
    axes.set_xlabel(table.plot.x_label)
    axes.set_ylabel(f"{table.metrics[0]} (%)")
    axes.set_xticks(sorted(points["x"].unique()))
    axes.margins(x=0.05, y=MARGIN)
    drawing.legend(loc="outside upper center", ncols=6)
    if points[["mean", "paper"]].isna().all(axis=None):
        axes.set_xlim(points["x"].min(), points["x"].max())
        axes.set_yticks([])
        axes.text(0.5, 0.5, "nothing measured yet", transform=axes.transAxes, ha="center")

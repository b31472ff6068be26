"""Figures that are grids of runs (Figure 5): one line per series, one point per run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from obc.analysis.collect import summarise
from obc.config.plan import Plan
from obc.config.table import FigureSpec, Plot
from obc.io.typed_yaml import ConfigError
from obc.report.captions import badge, provenance, title
from obc.report.figures import style

MARKERS = "osD^vP"


def series(table: FigureSpec, frame: pd.DataFrame) -> pd.DataFrame:
    """The points of a figure, in the order of its rows.

    Args:
        frame: lines of `obc.analysis.collect.collect`; those of other tables are left aside.

    Returns:
        Columns `series` (the value that separates the lines, as text), `x`, `mean` and `sd` over
        the seeds (percent; NaN where there is none), `statuses` (of the seeds, the distinct ones)
        and `paper` (the published number, NaN where there is none) of the table's first metric.
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
    """Draw a figure of `plan` into `<folder>/<name>.svg` and `.png`; same input, same bytes.

    Points without a number are not drawn but listed under the plot.

    Raises:
        ConfigError: `name` is no figure of the plan.
    """
    table = plan.tables.get(name)
    if not isinstance(table, FigureSpec):
        known = ", ".join(plan.figures)
        raise ConfigError(f"{name!r} is no figure of this plan; allowed: {known}")
    points = series(table, frame)
    bars = "" if points["sd"].isna().all() else "Bars: standard deviation over seeds."
    under = provenance(plan, table, bars)
    with style.figure(folder, name, title(table), under, missing_points(table, points)) as drawing:
        axes = drawing.add_subplot()
        axes.set_title(badge(plan, table), fontsize=9, color="0.3", pad=24)
        _draw_points(axes, table, points)


def missing_points(table: FigureSpec, points: pd.DataFrame) -> str:
    """What is not drawn or not complete, e.g. `not run: a=1 n=10, 20; failed: a=3 n=50`.

    Returns:
        The text, empty when every point is complete. Statuses of single seeds are introduced by
        `some seeds`; such a point is drawn from the others.
    """
    x_name = table.plot.x_symbol or table.plot.x_label
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


def _draw_points(axes: Axes, table: FigureSpec, points: pd.DataFrame) -> None:
    for index, (name, line) in enumerate(points.groupby("series", sort=False)):
        look: dict[str, Any] = {
            "color": table.plot.colors[name],
            "marker": MARKERS[index % len(MARKERS)],
        }
        # Missing points stay in as NaN, so that no line is drawn across them.
        drawn = line.sort_values("x")
        spread = None if drawn["sd"].isna().all() else drawn["sd"]
        label = f"{table.plot.series_label} = {name}"
        axes.errorbar(
            drawn["x"], drawn["mean"], yerr=spread, label=label, capsize=3, elinewidth=1, **look
        )
        published = line.dropna(subset="paper")
        if len(published):
            hollow = {"markerfacecolor": "none", "linestyle": "none"}
            axes.plot(published["x"], published["paper"], label=f"{label}, paper", **look, **hollow)
    _dress(axes, table.plot, table.metrics[0], points)


def _dress(axes: Axes, plot: Plot, metric: str, points: pd.DataFrame) -> None:
    axes.set_xlabel(plot.x_label)
    axes.set_ylabel(f"{metric} (%)")
    axes.set_xticks(sorted(points["x"].unique()))
    axes.margins(x=0.05, y=0.12)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.12), ncols=6)
    if points[["mean", "paper"]].isna().all(axis=None):
        axes.set_xlim(points["x"].min(), points["x"].max())
        axes.set_yticks([])
        axes.text(0.5, 0.5, "nothing measured yet", transform=axes.transAxes, ha="center")

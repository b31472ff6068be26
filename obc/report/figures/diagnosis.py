"""The localisation diagnosis as a table (csv, md) and as a figure (svg, png, pdf, csv)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from obc.analysis.collect import summarise
from obc.analysis.evaluations import measured, missing_rows, named
from obc.analysis.localisation_errors import COORDINATES, NUMBERS, Diagnosis, diagnose
from obc.config.comparable import deviation_notes
from obc.config.plan import Plan
from obc.config.table import TableSpec, row_label
from obc.io.files import write_text
from obc.report.captions import badge, provenance, sentence, stamp
from obc.report.escape import escape_markdown
from obc.report.figures.caption import caption
from obc.report.figures.style import figure, legend_above, method_look, steps

NAME = "diagnosis"
HEADING = "How far the boxes found are from their objects"
KEY = (
    "Found: share of the objects that a detection of any score overlaps with an IoU of 0.5 or "
    "more. All other columns are about these: their mean IoU, the share of them with an IoU below "
    "0.9, and the mean absolute error of centre (x, y), width (w) and height (h), in pixels and in "
    "bin widths. A bin is {width:g} of a normalised offset wide, the first stage's, for every row "
    "alike; for x and y the object's size stands in for the proposal's, which detections do not "
    "record. Mean ± standard deviation over seeds where there are several."
)
# Header and decimals of each column.
_HEADERS = {
    "found": ("found (%)", 1),
    "mean_iou": ("mean IoU (%)", 1),
    "fail_at_90": ("fail at IoU .9 (%)", 1),
    **{f"{name}_px": (f"{name} (px)", 2) for name in COORDINATES},
    **{f"{name}_bins": (f"{name} (bins)", 2) for name in COORDINATES},
}


def write(plan: Plan, name: str, results: Path) -> None:
    """Write `tables/diagnosis` (csv, md) and `figures/diagnosis` (svg, png, pdf, csv).

    Args:
        name: name of the table whose rows are diagnosed.
        results: folder that holds `tables` and `figures`.

    Raises:
        ConfigError: as in `obc.analysis.collect.collect`; or no row of the table has offset bins.
        MetricsFileError: as in `obc.analysis.collect.collect`.
        DatasetError, DetectionsFileError, DetectionsError: as in `diagnose`.
    """
    frame = measured(plan, [name])
    table = plan.tables[name]
    found = diagnose(plan, table, frame)
    rows = table_rows(plan, table, found, frame)
    csv = rows.to_csv(index=False, na_rep="n/a", float_format="%.10g")
    write_text(results / "tables" / f"{NAME}.csv", csv)
    missing = missing_rows(table, frame)
    page = _markdown(plan, table, rows, found.bin_width, missing)
    write_text(results / "tables" / f"{NAME}.md", page)
    _draw(plan, table, found, missing, results / "figures")


def table_rows(plan: Plan, table: TableSpec, found: Diagnosis, frame: pd.DataFrame) -> pd.DataFrame:
    """Return a line for each row that is not cited; numbers are NaN if the row was not measured.

    Returns:
        Columns `row`, `name`, NUMBERS with their deviations (`_sd`), `seeds` (how many),
        `bin_width`, `run_id`, `decode`, `status` (`ok`, or why seeds are missing) and `scale`.
    """
    lines = frame[frame["run_id"].notna()]
    of_rows = lines.groupby("row")[["run_id", "decode"]].first()
    status = summarise(lines).xs((table.name, table.metrics[0]), level=("table", "metric"))
    rows = of_rows.join(found.numbers.set_index("row")).assign(
        status=status["status"],
        seeds=lambda joined: joined["seeds"].fillna(0).astype(int),
        bin_width=found.bin_width,
        scale=plan.scale.name,
    )
    numbers = [column for name in NUMBERS for column in (name, f"{name}_sd")]
    order = [*numbers, "seeds", "bin_width", "run_id", "decode", "status", "scale"]
    return named(table, rows[order].rename_axis("row").reset_index())


def plotted(found: Diagnosis) -> pd.DataFrame:
    """Return the plotted values in one frame in long form.

    Returns:
        Columns `row`, `quantity`, `at`, `value`, `sd` and `seeds`. The quantity is `histogram`
        (percent of the found objects; `at` is the IoU where the bar begins), `error` (bin widths;
        `at` is the coordinate) or `fail` (percent of the found objects; `at` is an IoU of 0.9).
    """
    histogram = found.histogram.rename(columns={"low": "at", "share": "value", "share_sd": "sd"})
    parts = [histogram.assign(quantity="histogram")]
    points = [(f"{name}_bins", "error", name) for name in COORDINATES]
    for column, quantity, at in (*points, ("fail_at_90", "fail", 0.9)):
        columns = {column: "value", f"{column}_sd": "sd"}
        parts.append(found.numbers.rename(columns=columns).assign(quantity=quantity, at=at))
    return pd.concat(parts)[["row", "quantity", "at", "value", "sd", "seeds"]]


# --- the table ---------------------------------------------------------------------------------


def _markdown(plan: Plan, table: TableSpec, rows: pd.DataFrame, width: float, missing: str) -> str:
    columns = {"Method": [escape_markdown(name) for name in rows["name"]]}
    for name, (header, digits) in _HEADERS.items():
        columns[header] = [_cell(line, name, digits) for _, line in rows.iterrows()]
    body = pd.DataFrame(columns).to_markdown(index=False, disable_numparse=True)
    caption = f"**{HEADING}** (rows of {table.name}). {escape_markdown(stamp(plan, table))}"
    notes = [KEY.format(width=width), *map(sentence, (*plan.notes, *deviation_notes(plan, table)))]
    if missing:
        notes.append(f"Without a number: {missing}.")
    return "\n\n".join([caption, body, *map(escape_markdown, notes)]) + "\n"


def _cell(line: pd.Series, name: str, digits: int) -> str:
    if not line["seeds"]:
        return line["status"]
    if np.isnan(line[name]):
        return "undefined"
    deviation = "" if np.isnan(line[f"{name}_sd"]) else f" ± {line[f'{name}_sd']:.{digits}f}"
    return f"{line[name]:.{digits}f}{deviation}"


# --- the figure --------------------------------------------------------------------------------


def _draw(plan: Plan, table: TableSpec, found: Diagnosis, missing: str, folder: Path) -> None:
    several = (found.numbers["seeds"] > 1).any()
    said = "Means over seeds; bars: standard deviation." if several else ""
    under = caption(provenance(plan, table, said), missing=missing)
    data = named(table, plotted(found))
    with figure(folder, NAME, HEADING, under, badge=badge(plan, table), data=data) as drawing:
        iou, error, fail = drawing.subplots(1, 3, width_ratios=[4, 4, 1])
        _draw_histogram(iou, table, found)
        errors = [f"{name}_bins" for name in COORDINATES]
        _draw_points(error, table, found, errors, COORDINATES)
        _draw_points(fail, table, found, ["fail_at_90"], [".9"])
        error.set(ylim=(0, None), xlabel="coordinate", ylabel="mean error (bin widths)")
        fail.set(xlim=(-0.6, 0.6), xlabel="fail at", ylabel="share of found (%)")
        legend_above(drawing, error, columns=2)


def _draw_histogram(axes: Axes, table: TableSpec, found: Diagnosis) -> None:
    for row, bars in found.histogram.groupby("row"):
        spec = table.rows[row]
        edges = [*bars["low"], bars["high"].iloc[-1]]
        steps(axes, edges, bars["share"], **method_look(spec.run.box, spec.decode))
    axes.set(xlabel="IoU", ylabel="share of found (%)", xlim=(0.5, 1), ylim=(0, None))


def _draw_points(
    axes: Axes, table: TableSpec, found: Diagnosis, names: Sequence[str], ticks: Sequence[str]
) -> None:
    """Draw the rows' values side by side at each tick; argmax has hollow markers."""
    places = np.arange(len(names))
    for index, (_, line) in enumerate(found.numbers.iterrows()):
        spec = table.rows[int(line["row"])]
        look = {**method_look(spec.run.box, spec.decode), "linestyle": "none"}
        deviations = line[[f"{name}_sd" for name in names]].to_numpy(float)
        axes.errorbar(
            places + 0.16 * (index - (len(found.numbers) - 1) / 2),
            line[list(names)].to_numpy(float),
            yerr=None if np.isnan(deviations).all() else deviations,
            label=row_label(spec),
            capsize=2,
            elinewidth=1,
            **look,
        )
    axes.set_xticks(places, ticks)
    axes.grid(axis="x", visible=False)

"""Differences between the rows of a table, as a page (md) and a file (csv)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from obc.analysis.resemblance import Resemblance, resemblances
from obc.analysis.row_differences import Compared, compare, confidence, cost
from obc.analysis.verdicts import count_test_images
from obc.config.plan import Plan
from obc.config.table import TableSpec, row_label
from obc.io.files import write_text
from obc.io.typed_yaml import ConfigError
from obc.report.captions import bound, number, signed, stamp, title
from obc.report.escape import escape_markdown
from obc.report.tables.claims import LEGEND, MARKS
from obc.report.tables.paper_tables import table_notes

SYMBOLS = {"higher": "▲", "lower": "▼", "not told apart": "~", "not judged": "○", "not run": "–"}


def write(plan: Plan, name: str, folder: Path, strict: bool, workers: int = 1) -> None:
    """Write `<name>_compared.csv` and `.md` into `folder`.

    Args:
        name: a table of the plan with rows that have `against`.
        strict: write nothing while an evaluation of a compared row is missing.
        workers: processes that resample the test images.

    Raises:
        ConfigError: the plan has no such table, or none of its rows has `against`.
        IncompleteError, MetricsFileError, DetectionsFileError: as in `obc.analysis.verdicts.judge`.
    """
    if name not in plan.tables or not plan.tables[name].compared_rows:
        known = [table.name for table in plan.tables.values() if table.compared_rows]
        raise ConfigError(
            f"{name!r} is no table with rows that say `against`; allowed: {', '.join(known)}"
        )
    table = plan.tables[name]
    found = compare(plan, table, strict, workers)
    costs = {index: cost(plan, row) for index, row in enumerate(table.rows) if not row.cited}
    write_text(folder / f"{name}_compared.csv", csv(table, found, costs))
    write_text(folder / f"{name}_compared.md", markdown(plan, table, found, costs))


def csv(table: TableSpec, found: Iterable[Compared], costs: dict[int, dict[str, float]]) -> str:
    """Return the CSV file: a line for each difference, in AP points, unrounded."""
    lines = [
        {
            "row": one.row,
            "name": row_label(table.rows[one.row]),
            "against": table.keyed_rows[one.against].label,
            "metric": one.metric,
            "difference": one.difference,
            "low": one.low,
            "high": one.high,
            "found": one.found,
            "reason": one.reason,
            "spread": one.spread,
            "head_parameters": costs[one.row].get("parameters"),
            "head_mflop_per_roi": costs[one.row].get("mflop_per_roi"),
        }
        for one in found
    ]
    return pd.DataFrame(lines).to_csv(index=False, na_rep="n/a", float_format="%.10g")


def markdown(
    plan: Plan, table: TableSpec, found: Iterable[Compared], costs: dict[int, dict[str, float]]
) -> str:
    """Return the page: each row's differences, the cost of its head, and a summary in sentences."""
    cells = {(one.row, one.metric): one for one in found}
    nearest = resemblances(plan, table)
    lines = []
    for index, row in enumerate(table.rows):
        if row.cited:
            continue
        line = {
            "Method": row.label,
            "Less": table.keyed_rows[row.against].label if row.against else "",
        }
        for metric in table.metrics:
            one = cells.get((index, metric))
            line[metric] = "" if one is None else _cell(one)
        if nearest:
            line["Paper's nearest row"] = str(nearest.get(index, ""))
        head = costs[index]
        line |= {
            "Head, parameters": f"{head['parameters']:,}" if head else "not evaluated",
            "MFLOP an RoI": f"{head['mflop_per_roi']:.3g}" if head else "not evaluated",
        }
        lines.append({name: escape_markdown(text) for name, text in line.items()})
    body = pd.DataFrame(lines).to_markdown(index=False, disable_numparse=True)
    spreads = {one.spread for one in cells.values()}
    images = count_test_images(plan, table.dataset)
    tested = "" if images is None else f" {images} test images."
    level = confidence(plan)
    legend = (
        "Cells: the row less the one that it is compared with, in AP points, with the "
        f"{100 * level:g} % interval over test images and trainings that the claims have too. "
        "▲: higher, ▼: lower, ~: the two cannot be told apart, ○: not judged. Of "
        f"{1 / (1 - level):.3g} intervals one leaves out the truth by chance. "
        "Head: the box head with its classification, all stages of a cascade."
    )
    paragraphs = [
        f"**{escape_markdown(title(table))}** {escape_markdown(stamp(plan, table) + tested)}",
        body,
        legend,
        _nearest_legend(plan, table, nearest),
        *(LEGEND[spread] for spread in LEGEND if spread in spreads),
        "\n".join(f"- {escape_markdown(text)}" for text in sentences(table, cells.values())),
        "\n".join(f"- {escape_markdown(note)}" for note in table_notes(plan, table)),
    ]
    return "\n\n".join(filter(None, paragraphs)) + "\n"


def sentences(table: TableSpec, found: Iterable[Compared]) -> list[str]:
    """Return a sentence for each metric and reference row that lists the rows by finding."""
    groups: dict[tuple[str, str], list[Compared]] = {}
    for one in sorted(found, key=lambda one: table.metrics.index(one.metric)):
        groups.setdefault((one.metric, one.against), []).append(one)
    return [
        f"{metric}, against {table.keyed_rows[against].label}: {_said(table, group)}."
        for (metric, against), group in groups.items()
    ]


def _said(table: TableSpec, group: list[Compared]) -> str:
    parts = []
    for word in SYMBOLS:
        of_word = [one for one in group if one.found == word]
        told = word in ("higher", "lower")
        names = [
            table.rows[one.row].label + (f" {signed(one.difference)}" if told else "")
            for one in of_word
        ]
        parts += [f"{word}: {', '.join(names)}"] if names else []
    return "; ".join(parts)


def _cell(one: Compared) -> str:
    if one.difference is None:
        return one.reason or "not run"
    if one.low is None:
        return f"{signed(one.difference)}, {one.reason} {SYMBOLS[one.found]}"
    interval = f"[{bound(one.low)}, {bound(one.high)}]"
    return f"{signed(one.difference)} {interval} {SYMBOLS[one.found]}{MARKS[one.spread]}"


def _nearest_legend(plan: Plan, table: TableSpec, nearest: dict[int, Resemblance]) -> str:
    if not nearest:
        return ""
    named, metrics = table.resembles, next(iter(nearest.values())).metrics
    paper = plan.tables[named.table]
    return (
        f"Paper's nearest row: the row's differences to {table.keyed_rows[named.ours].label} are "
        f"compared with those of each row of {number(paper)} to "
        f"{paper.keyed_rows[named.less].label}, in {', '.join(metrics)}. In brackets: the mean "
        "distance of the nearest, in AP points."
    )

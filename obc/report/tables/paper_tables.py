"""Tables of our numbers, the paper's numbers and the differences, as CSV, Markdown and LaTeX.

- table1.csv: one column per number, unrounded. A missing number is `n/a`; `status` gives the reason
  for the row, and `<metric>_missing` for each metric (empty if every seed has a number).
- table1.md: a table of our numbers, and a table of the paper's numbers with the differences. Each
  has one row per method; the best number of a block is bold.
- table1.tex: the same tables in a table*; the first lines name the packages that it needs.
- all.csv: every table of the plan in long form, see obc.analysis.collect.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from obc.analysis.collect import Status, collect, require_complete, summarise
from obc.config.comparable import deviation_notes
from obc.config.plan import Plan
from obc.config.table import Row, TableSpec
from obc.io.files import write_text
from obc.report.captions import heading, number, sentence, stamp, title
from obc.report.escape import escape_latex, escape_markdown
from obc.runs.staleness import weights_notes

OURS = "Ours, in percent; bold: the best of its block."
PAPERS = (
    "The paper's, in percent, and in brackets ours minus the paper's; bold: the paper's best of "
    "its block."
)
# A table* is as wide as the page in a document of two columns too.
LATEX = r"""% Needs in the preamble:
% \usepackage{{booktabs}} % \toprule, \midrule, \bottomrule
% \usepackage{{graphicx}} % \resizebox
\begin{{table*}}[tbp]
\centering
\caption[{short}]{{{caption}}}
\label{{tab:{name}}}
\footnotesize
\setlength{{\tabcolsep}}{{3pt}}
{bodies}
\par\smallskip
\parbox{{\linewidth}}{{\scriptsize {note}}}
\end{{table*}}
"""
# A body that is wider than the page is shrunk.
LATEX_BODY = r"""{key}\par\smallskip
\sbox0{{%
{body}%
}}
\ifdim\wd0>\linewidth \resizebox{{\linewidth}}{{!}}{{\usebox0}}\else \usebox0\fi"""
WORDS: dict[Status, str] = {"undefined": "no such objects"}


@dataclass(frozen=True)
class Cell:
    """One cell of a table: our number, the paper's number, and their printed forms.

    Attributes:
        measured: our mean over the seeds, in percent; None if no seed has a number.
        spread: standard deviation over the seeds, in points; None for one seed.
        published: the paper's number, in percent; None if the paper prints none.
        missing: why seeds have no number; empty if all seeds have one.
        seeds: number of seeds with a number and of all seeds; None if all or none have a number.
    """

    measured: float | None
    spread: float | None
    published: float | None
    missing: str = ""
    seeds: tuple[int, int] | None = None
    bold_ours: bool = False
    bold_paper: bool = False

    @property
    def difference(self) -> float | None:
        """Our printed (rounded) number minus the paper's, in points."""
        if self.measured is None or self.published is None:
            return None
        return round(round(self.measured, 1) - self.published, 1) + 0.0  # no negative zero

    @property
    def ours(self) -> str:
        """Our number with `remark`."""
        return " ".join(filter(None, [self.number, self.remark]))

    @property
    def number(self) -> str:
        """Our number alone, e.g. `51.4 ± 0.2`; empty if there is none."""
        if self.measured is None:
            return ""
        spread = "" if self.spread is None else f" ± {self.spread:.1f}"
        return f"{self.measured:.1f}{spread}"

    @property
    def remark(self) -> str:
        """The reason why some or all seeds have no number; empty if all seeds have one."""
        if self.seeds is None:
            return self.missing
        return f"[{self.seeds[0]} of {self.seeds[1]} seeds, {self.missing}]"

    @property
    def paper(self) -> str:
        """The paper's number as it is printed."""
        return "not published" if self.published is None else f"{self.published:.1f}"

    @property
    def printed_difference(self) -> str:
        """The difference with its sign; empty if there is none."""
        if self.difference is None:
            return ""
        return f"{self.difference:+.1f}".replace("-", "−")


def render(plan: Plan, table: TableSpec, frame: pd.DataFrame) -> dict[str, str]:
    """Render one table of `plan` from the lines of `collect`.

    Args:
        frame: lines of `collect`; lines of other tables are ignored.

    Returns:
        The file contents by extension: `csv`, `md` and `tex`.
    """
    lines = frame[frame["table"] == table.name]
    cells = printed_cells(table, summarise(lines))
    return {
        "csv": _csv(plan, table, lines),
        "md": _markdown(plan, table, cells),
        "tex": _latex(plan, table, cells),
    }


def write(plan: Plan, names: Iterable[str], folder: Path, strict: bool) -> None:
    """Write `<name>.csv`, `.md` and `.tex` of each named table into `folder`.

    Args:
        names: tables and figures of the plan; the rows of a figure are written as a table too.
        strict: refuse to write anything while a cell of the named tables has no number.

    Raises:
        ConfigError: a name is no table of the plan.
        IncompleteError: `strict` is set and numbers are missing; the message names the run folders
            and logs.
        MetricsFileError: a metrics file is damaged or belongs to another evaluation.
    """
    names = list(names)
    frame = _collected(plan, names, strict)
    for name in names:
        for extension, text in render(plan, plan.tables[name], frame).items():
            write_text(folder / f"{name}.{extension}", text)


def write_long(plan: Plan, path: Path, strict: bool) -> None:
    """Write the tables of the plan as one CSV in long form, with the columns of `collect`.

    Args:
        strict: write the paper's tables, and only if they are complete; otherwise write the tables
            of `shown_tables` with the numbers that exist.

    Raises:
        IncompleteError, MetricsFileError: as in `write`.
    """
    names = list(plan.paper_tables) if strict else None
    write_text(path, _collected(plan, names, strict).to_csv(index=False))


def _collected(plan: Plan, names: list[str] | None, strict: bool) -> pd.DataFrame:
    frame = collect(plan, names)
    if strict:
        require_complete(plan, frame)
    return frame


def published(table: TableSpec) -> bool:
    """Whether the paper prints a number of the table."""
    return any(row.paper is not None for row in table.rows)


# --- cells -------------------------------------------------------------------------------------


def printed_cells(table: TableSpec, summary: pd.DataFrame) -> list[list[Cell]]:
    """Return the printed cells of a table, one list per row, from the frame of `summarise`."""
    cells = [
        [_cell(summary.loc[(table.name, index, metric)]) for metric in table.metrics]
        for index in range(len(table.rows))
    ]
    for metric_index, metric in enumerate(table.metrics):
        numbers = summary.xs((table.name, metric), level=("table", "metric"))
        complete = numbers["mean"].where(numbers["measured"] == numbers["planned"])
        best_ours, best_paper = _best(table, complete), _best(table, numbers["paper"])
        for index, row in enumerate(cells):
            row[metric_index] = replace(
                row[metric_index],
                bold_ours=bool(best_ours[index]),
                bold_paper=bool(best_paper[index]),
            )
    return cells


def _cell(number: pd.Series) -> Cell:
    measured, planned = number["measured"], number["planned"]
    return Cell(
        *(None if math.isnan(number[name]) else number[name] for name in ("mean", "sd", "paper")),
        missing=_missing(number["statuses"]),
        seeds=(measured, planned) if 0 < measured < planned else None,
    )


def _missing(statuses: Iterable[Status]) -> str:
    """Return the reasons why seeds have no number, in words; empty if all have one."""
    return ", ".join(WORDS.get(one, one) for one in statuses if one not in ("ok", "cited"))


def _best(table: TableSpec, numbers: pd.Series) -> pd.Series:
    """Mark the largest printed number of each block; a block's only number is not marked."""
    blocks = [row.block for row in table.rows]
    groups = numbers.round(1).groupby(blocks)
    return (numbers.round(1) == groups.transform("max")) & (groups.transform("count") > 1)


# --- the three formats -------------------------------------------------------------------------


def _csv(plan: Plan, table: TableSpec, lines: pd.DataFrame) -> str:
    numbers = summarise(lines).loc[table.name]
    columns: dict[str, list[object] | pd.Series] = {
        "row": list(range(len(table.rows))),
        **_labels(table),
    }
    for metric in table.metrics:
        of_metric = numbers.xs(metric, level="metric")
        columns |= {
            metric: of_metric["mean"],
            f"{metric}_sd": of_metric["sd"],
            f"{metric}_paper": of_metric["paper"],
            f"{metric}_diff": of_metric["mean"] - of_metric["paper"],
            f"{metric}_missing": of_metric["statuses"].map(_missing),
        }
    rows = lines.groupby("row")
    columns |= {
        "run_id": rows["run_id"].first(),
        "decode": rows["decode"].first(),
        "status": rows[["metric", "status"]].apply(_row_status),
        "seeds": lines.assign(seed=lines["seed"].where(lines["value"].notna()))
        .groupby("row")["seed"]
        .agg(lambda seeds: " ".join(map(str, sorted(seeds.dropna().unique()))) or None),
        "scale": [plan.scale.name] * len(table.rows),
    }
    return pd.DataFrame(columns).to_csv(index=False, na_rep="n/a", float_format="%.10g")


def _row_status(lines: pd.DataFrame) -> str:
    """Join the statuses of a row; a status of only some metrics is followed by these metrics."""
    metrics = lines["metric"].nunique()
    words = []
    for status, part in lines.groupby("status", sort=False)["metric"]:
        concerned = part.unique()
        only = "" if len(concerned) == metrics or status == "ok" else f" ({' '.join(concerned)})"
        words.append(status + only)
    return ", ".join(words)


@dataclass(frozen=True)
class _Part:
    """Our numbers of a table or the paper's, as plain text with one row per method.

    Attributes:
        key: explanation of the cells.
        columns: the label columns, then the metrics.
        rows: for each method a text per column, and whether the text is a bold number.
        blocks: block of each row.
    """

    key: str
    columns: list[str]
    rows: list[list[tuple[str, bool]]]
    blocks: list[str]


def _parts(table: TableSpec, cells: list[list[Cell]]) -> list[_Part]:
    """Return our numbers, and the paper's if it prints any; our numbers have no cited rows."""
    ours = [index for index, row in enumerate(table.rows) if not row.cited]
    parts = [_part(table, cells, ours, OURS, _our_text)]
    if published(table):
        parts.append(_part(table, cells, list(range(len(table.rows))), PAPERS, _paper_text))
    return parts


def _part(
    table: TableSpec,
    cells: list[list[Cell]],
    indices: list[int],
    key: str,
    text: Callable[[Cell], tuple[str, bool]],
) -> _Part:
    labels = _labels(table)
    return _Part(
        key=key,
        columns=[*labels, *table.metrics],
        rows=[
            [*((of_rows[at], False) for of_rows in labels.values()), *map(text, cells[at])]
            for at in indices
        ],
        blocks=[table.rows[at].block for at in indices],
    )


def _our_text(cell: Cell) -> tuple[str, bool]:
    return cell.ours, cell.bold_ours


def _paper_text(cell: Cell) -> tuple[str, bool]:
    difference = f" ({cell.printed_difference})" if cell.difference is not None else ""
    return f"{cell.paper}{difference}", cell.bold_paper


def _markdown(plan: Plan, table: TableSpec, cells: list[list[Cell]]) -> str:
    paragraphs = [f"**{escape_markdown(title(table))}** {escape_markdown(stamp(plan, table))}"]
    for part in _parts(table, cells):
        lines = [[_bold(escape_markdown(text), bold, "**{}**") for text, bold in row]
                 for row in part.rows]  # fmt: skip
        frame = pd.DataFrame(lines, columns=[escape_markdown(name) for name in part.columns])
        paragraphs += [part.key, frame.to_markdown(index=False, disable_numparse=True)]
    notes = (f"- {escape_markdown(note)}" for note in table_notes(plan, table))
    return "\n\n".join(filter(None, [*paragraphs, "\n".join(notes)])) + "\n"


def _latex(plan: Plan, table: TableSpec, cells: list[list[Cell]]) -> str:
    parts = _parts(table, cells)
    beside = f" Ours, and below them the paper's {number(table)}." if len(parts) > 1 else ""
    return LATEX.format(
        short=escape_latex(table.title),
        # The caption has no table number, because LaTeX numbers tables itself.
        caption=escape_latex(f"{heading(table)}{beside}"),
        name=table.name,
        bodies="\n\\par\\medskip\n".join(_latex_body(table, part) for part in parts),
        note=escape_latex(" ".join([stamp(plan, table), *table_notes(plan, table)])),
    )


def _latex_body(table: TableSpec, part: _Part) -> str:
    labels = len(part.columns) - len(table.metrics)
    lines = [[_bold(escape_latex(text), bold, r"\textbf{{{}}}") for text, bold in row]
             for row in part.rows]  # fmt: skip
    for index, line in enumerate(lines):
        # At the start of a line LaTeX would take [ and * for options of the line break before it.
        if line[0][:1] in ("[", "*"):
            line[0] = f"{{}}{line[0]}"
        if index and part.blocks[index] != part.blocks[index - 1]:
            line[0] = rf"\midrule {line[0]}"
    metrics = [re.sub(r"^AP_?(\w+)$", r"AP$_{\1}$", metric) for metric in table.metrics]
    body = pd.DataFrame(
        lines, columns=[*map(escape_latex, part.columns[:labels]), *metrics]
    ).to_latex(
        index=False,
        escape=False,
        column_format=f"@{{}}{'l' * labels}{'c' * len(metrics)}@{{}}",
    )
    return LATEX_BODY.format(key=escape_latex(part.key), body=body.strip())


def _bold(text: str, bold: bool, pattern: str) -> str:
    """Set the number of a cell in bold, but not the difference in brackets after it."""
    if not bold:
        return text
    shown, bracket, rest = text.partition(" (")
    return f"{pattern.format(shown)}{bracket}{rest}"


def _labels(table: TableSpec) -> dict[str, list[str]]:
    """Return the label columns: the paper's label, then the `columns` of the rows."""
    names = dict.fromkeys(name for row in table.rows for name in row.columns)
    columns = {"Method": [_label(row) for row in table.rows]}
    return columns | {name: [row.columns.get(name, "") for row in table.rows] for name in names}


def _label(row: Row) -> str:
    return f"{row.label} (literature)" if row.cited else row.label


def table_notes(plan: Plan, table: TableSpec) -> list[str]:
    """Return the notes under a table: symbols, deviations, weights of other versions."""
    said = (*plan.notes, *deviation_notes(plan, table))
    notes = [sentence(note) for note in said]
    if any(row.label.endswith("*") for row in table.rows):
        notes.insert(0, "*: re-implemented with MMDetection, by the paper's authors and by us.")
    if any(row.cited for row in table.rows):
        notes.insert(0, "(literature): a number that the paper cites; nothing is trained for it.")
    return notes + weights_notes(plan, table)

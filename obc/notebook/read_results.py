"""Read tables, verdicts and figures of a results folder.

The sources are the files that the workflow wrote (`tables/*.csv`, `claims.json`, `figures`);
nothing is measured again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from obc.config.plan import Plan
from obc.config.run import method_of
from obc.io.errors import SuiteError
from obc.report.captions import bound, signed
from obc.report.figures.caption import read_caption

# Columns of a table's CSV that are neither metrics nor labels, and suffixes of a metric's columns.
_ABOUT_A_ROW = ("row", "run_id", "decode", "status", "seeds", "scale")
_OF_A_METRIC = ("", "_sd", "_paper", "_diff", "_missing")


class ResultsMissing(SuiteError):
    """There are no results to look at; the message says what to run first."""

    def _render_traceback_(self) -> list[str]:
        """Lines that a notebook shows: the message without the traceback."""
        return [str(self)]


@dataclass(frozen=True)
class ReadTable:
    """A table read from its files, one line per row.

    Attributes:
        caption: title, scale, data and seeds, as Markdown.
        labels: the label columns, `Method` first; texts.
        ours, paper: one column per metric, in percent; NaN without a number.
        difference: ours minus the paper's, in points; NaN without one of the numbers.
        text: one column per metric: our number as printed, `51.4 ± 0.2`, or why it is missing.
    """

    caption: str
    labels: pd.DataFrame
    ours: pd.DataFrame
    paper: pd.DataFrame
    difference: pd.DataFrame
    text: pd.DataFrame


@dataclass(frozen=True)
class ReadFigure:
    """A figure of a results folder and its caption (empty if there is none)."""

    name: str
    path: Path
    caption: str


def project_folder(start: Path | None = None) -> Path:
    """Find the folder with the Snakefile: `start` (default: working directory) or one above.

    Raises:
        ResultsMissing: no folder from there upwards has a Snakefile.
    """
    start = (start or Path.cwd()).absolute()
    for folder in (start, *start.parents):
        if (folder / "Snakefile").exists():
            return folder
    raise ResultsMissing(f"{start}: not inside the project; open this file from its folder")


def find_results(scale: str, root: Path = Path("results")) -> Path:
    """Return the results folder of a scale if it has at least one table, complete or partial.

    Args:
        scale: name of a folder under `root`: a scale, `<scale>-<label>`, or `reference/mini`.

    Raises:
        ResultsMissing: the folder has no table; the message names the commands that make tables.
    """
    folder = root / scale
    if _tables_of(folder):
        return folder
    known = sorted(path.name for path in root.glob("*") if _tables_of(path))
    there = f" Results there are of: {', '.join(known)}." if known else ""
    name = _scale_of(folder)
    raise ResultsMissing(
        f"{folder}: no tables there yet.{there}\n"
        f"First run `make reproduce SCALE={name}`; for what there is so far,\n"
        f"`.venv/bin/snakemake --cores 1 partial --config scale={name}`."
    )


def read_plan(results: Path) -> Plan:
    """Read the plan of a results folder.

    Raises:
        ResultsMissing: the folder has no plan, as with committed reference results.
        ConfigError: the plan was written by other code.
    """
    path = results / "plan.json"
    if not path.exists():
        raise ResultsMissing(
            f"{path}: not there, so neither are the runs behind its tables; this needs results "
            f"made here: first run `make reproduce SCALE={_scale_of(results)}`"
        )
    return Plan.load(path)


def _scale_of(results: Path) -> str:
    """The scale in the name of a results folder, `<scale>` or `<scale>-<label>`."""
    return results.name.partition("-")[0]


def table_paths(results: Path) -> dict[str, Path]:
    """CSV paths of all tables by name, figures last; incomplete tables are those of `partial`."""
    paths = _tables_of(results)
    return {name: paths[name] for name in sorted(paths, key=lambda n: (n.startswith("figure"), n))}


def _tables_of(results: Path) -> dict[str, Path]:
    """CSV paths by name; complete tables replace those of `results/partial`."""
    folders = (results / "partial" / "tables", results / "tables")
    paths = (path for folder in folders for path in folder.glob("*.csv"))
    # Only tables of our and the paper's numbers; the folder contains other tables too.
    return {
        path.stem: path
        for path in paths
        if path.with_suffix(".md").exists() and _metrics(pd.read_csv(path, nrows=0))
    }


def _metrics(lines: pd.DataFrame) -> list[str]:
    return [name.removesuffix("_diff") for name in lines if name.endswith("_diff")]


def read_table(path: Path) -> ReadTable:
    """Read a table from its CSV, and its caption from the Markdown file beside it."""
    lines = pd.read_csv(path, na_values="n/a", keep_default_na=False)
    metrics = _metrics(lines)
    numbers = {f"{metric}{suffix}" for metric in metrics for suffix in _OF_A_METRIC}
    labels = lines[[name for name in lines if name not in numbers and name not in _ABOUT_A_ROW]]
    # Tables of earlier versions give the reason for missing numbers per row, not per metric.
    of_row = lines["status"].replace({"ok": "", "cited": ""})
    texts = {
        metric: [
            _text(*cell)
            for cell in zip(
                lines[metric],
                lines[f"{metric}_sd"],
                lines.get(f"{metric}_missing", of_row),
                strict=True,
            )
        ]
        for metric in metrics
    }
    return ReadTable(
        caption=path.with_suffix(".md").read_text(encoding="utf-8").split("\n\n")[0],
        labels=labels.fillna("").astype(str),
        ours=lines[metrics],
        paper=_of(lines, metrics, "_paper"),
        difference=lines[metrics].round(1) - _of(lines, metrics, "_paper"),  # as it is printed
        text=pd.DataFrame(texts),
    )


def _of(lines: pd.DataFrame, metrics: list[str], suffix: str) -> pd.DataFrame:
    return lines[[f"{metric}{suffix}" for metric in metrics]].set_axis(metrics, axis="columns")


def _text(value: float, spread: float, missing: str) -> str:
    """A number as printed, and the reason if it lacks all or some seeds."""
    if pd.isna(value):
        return missing
    text = f"{value:.1f}" if pd.isna(spread) else f"{value:.1f} ± {spread:.1f}"
    return f"{text} [some seeds {missing}]" if missing else text


def read_long(results: Path) -> pd.DataFrame:
    """Read every number of every table, one per line, with the columns of `obc.analysis.collect`.

    Raises:
        ResultsMissing: neither the complete `all.csv` nor that of `partial` exists.
    """
    for folder in (results / "tables", results / "partial" / "tables"):
        if (folder / "all.csv").exists():
            return pd.read_csv(folder / "all.csv")
    raise ResultsMissing(
        f"{results}/tables/all.csv: not there yet; `.venv/bin/snakemake --cores 1 partial --config "
        f"scale={results.name}` writes it with what there is so far"
    )


def ap_against_iou(long: pd.DataFrame, table: str) -> pd.DataFrame:
    """AP at single IoU thresholds of a table's measured rows.

    Args:
        long: lines of `read_long`.

    Returns:
        Columns `row`, `method` (e.g. `obc-a3-n20-k1, expectation`), `iou`, `ours` and `sd` (over
        seeds; NaN for one) and `paper`, in percent.
    """
    threshold = long["metric"].str.fullmatch(r"AP\d\d")
    lines = long[(long["table"] == table) & threshold & (long["status"] == "ok")]
    lines = lines.assign(
        method=lines["run_id"].map(method_of) + ", " + lines["decode"],
        iou=lines["metric"].str[2:].astype(int) / 100,
    )
    cells = lines.groupby(["row", "method", "iou"], as_index=False)
    return cells.agg(ours=("value", "mean"), sd=("value", "std"), paper=("paper", "first"))


def read_verdicts(results: Path) -> pd.DataFrame:
    """Read the verdicts on the paper's claims: columns Claim, Section, Paper, Ours, Verdict.

    Paper and Ours are the difference of the claim's first contrast in AP points, Ours with its
    interval. The result has no lines before claims are judged.
    """
    columns = ["Claim", "Section", "Paper", "Ours", "Verdict"]
    paths = (folder / "claims.json" for folder in (results, results / "partial"))
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        return pd.DataFrame(columns=columns)
    content = json.loads(path.read_text(encoding="utf-8"))
    lines = [
        (claim["statement"], claim["section"], *_contrast(claim["contrasts"]), claim["verdict"])
        for topic in content["topics"]
        for claim in topic["claims"]
    ]
    return pd.DataFrame(lines, columns=columns)


def _contrast(contrasts: list[dict]) -> tuple[str, str]:
    """The paper's and our difference of the first contrast, with the number of further ones."""
    first, more = contrasts[0], len(contrasts) - 1
    paper = "" if first["paper"] is None else signed(first["paper"])
    if first["difference"] is None:
        return paper, first["reason"] or "not run"
    if first["low"] is None:
        return paper, f"{first['reason']}: {signed(first['difference'])}"
    ours = f"{signed(first['difference'])} [{bound(first['low'])}, {bound(first['high'])}]"
    return paper, ours + (f" and {more} more" if more else "")


def figures(results: Path, captions: Path = Path("workflow/report")) -> list[ReadFigure]:
    """Find every figure of a results folder; complete figures replace partial ones.

    A figure is an SVG, or a PNG if there is no SVG, e.g. a figure of photographs in committed
    results. Its caption is the text from `captions`, then the caption in the figure's file.

    Args:
        captions: folder with a `<name>.rst` for each figure that has an explanation.
    """
    folders = (results / "partial" / "figures", results / "figures")
    paths = {
        path.stem: path
        for folder in folders
        for kind in ("png", "svg")
        for path in folder.glob(f"*.{kind}")
    }
    texts = {path.stem: path.read_text(encoding="utf-8").strip() for path in captions.glob("*.rst")}
    return [
        ReadFigure(
            name, path, "\n\n".join(filter(None, [texts.get(name), read_caption(path).text]))
        )
        for name, path in sorted(paths.items())
    ]

"""The report: one HTML file with every table, figure, verdict and run; it needs no network.

Run pages are sections of the same file that only show when a link leads to them, by style alone:
the file has no script.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, get_args

import pandas as pd
from docutils.core import publish_parts
from jinja2 import Environment, PackageLoader, StrictUndefined

from obc.analysis.collect import collect, summarise
from obc.config.comparable import NOT_COMPARABLE, is_comparable
from obc.config.plan import Plan
from obc.config.table import METRICS, TableSpec
from obc.io.files import write_text
from obc.report.captions import number, sentence, stamp, title
from obc.report.figures.caption import read_caption
from obc.report.provenance.measurements import Measurement, Provenance, TracedRun, trace_back
from obc.report.provenance.trace import UNKNOWN, run_facts
from obc.report.tables.claims import (
    DETAILS,
    LEGEND,
    NEEDED,
    NEEDED_TEXT,
    OVERVIEW,
    RULES,
    SYMBOLS,
    detail_lines,
    margins,
    needed_lines,
    overview,
    spreads,
)
from obc.report.tables.paper_tables import Cell, printed_cells, table_notes
from obc.runs.records import last_lines
from obc.runs.status import RunStatus, shown_tables

LARGE = 2**20  # bytes; an SVG with more is mostly pixels, and the PNG has them in less
# Counts of an index that are reasons why something is not trained on.
LEFT_OUT = (
    ("without_objects", "images without objects"),
    ("small_images", "images with a side below 32 pixels"),
    ("small_boxes", "objects below a pixel"),
    ("ignored_boxes", "objects marked to be left out"),
    ("crowd", "crowds"),
)
# Of a claim, the verdict beside the sentence: a phone shows two columns at a time.
CLAIM_COLUMNS = ("Claim", "Verdict", *OVERVIEW[2:])
COMPARISON_COLUMNS = DETAILS[:-1]  # without the verdict, which stands beside the sentence
MANY = 12  # lines of a further table; more are folded away
RUN_COLUMNS = ("State", "Started", "Seconds", "Images/s", "Memory, MiB", "Commit", "Tree")
MIME = {".svg": "image/svg+xml", ".png": "image/png"}


@dataclass(frozen=True)
class LinkedCell:
    """A cell as printed, the page of the run behind it, and the direction of the difference."""

    cell: Cell
    run_id: str | None
    direction: str  # up, down, same, or empty without a difference


@dataclass(frozen=True)
class TableView:
    """A table of the plan as the page shows it."""

    name: str
    number: str
    title: str
    stamp: str
    caption: str | None
    published: bool  # whether the paper prints any number of it
    columns: tuple[str, ...]
    metrics: tuple[str, ...]
    rows: list[tuple[list[str], bool, list[LinkedCell]]]  # labels, whether a block begins, cells
    notes: list[str]


@dataclass(frozen=True)
class FigureView:
    """A figure that was drawn; `source` is a data URI and `caption` HTML."""

    name: str
    source: str
    alt: str
    caption: str | None
    partial: bool


@dataclass(frozen=True)
class FurtherView:
    """A table that is none of the paper's, e.g. of a diagnosis, with the figure of its name."""

    name: str
    figure: FigureView | None
    caption: str | None
    header: list[str]
    lines: list[list[str]]


@dataclass(frozen=True)
class RunView:
    """All seeds of a run: a line of the list and a page of its own."""

    run_id: str
    lines: list[tuple[int, list[str]]]  # of the list of runs: seed, then as RUN_COLUMNS
    use: list[tuple[str, str]]  # anchor and text of what reads it
    seeds: list[TracedRun]
    facts: list[tuple[str, list[str]]]  # one text where all seeds say the same
    numbers: list[tuple[str, list[str]]]
    files: list[tuple[str, str, str]]
    resolved: str
    logs: list[tuple[int, list[str]]]
    initial_run: str | None


def write(plan: Plan, path: Path, captions: Path) -> None:
    """Write the report of a plan, with whatever has been measured, drawn and judged so far.

    Args:
        captions: folder with `<name>.rst` for tables and figures, as Snakemake's report has them.

    Raises:
        MetricsFileError: a metrics file is damaged or belongs to something else.
    """
    write_text(path, render(plan, captions))


def render(plan: Plan, captions: Path) -> str:
    """The page as HTML text; same input, same text. Arguments as `write`."""
    found = trace_back(plan)
    frame = collect(plan)
    environment = Environment(
        loader=PackageLoader("obc.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    figures = _figures(plan, captions)
    further = _further(plan, captions, figures)
    diagnosed = [view.figure for view in further]
    comparable = all(is_comparable(plan, table) for table in plan.tables.values())
    # Stable: tables first.
    names = sorted(shown_tables(plan), key=lambda name: name in plan.figures)
    return environment.get_template("report.html.jinja").render(
        plan=plan,
        heading=plan.results.name,
        not_comparable="" if comparable else NOT_COMPARABLE,
        warnings=_warnings(plan, found),
        progress=_progress(found),
        period=_period(found.runs),
        tables=[_table(plan, plan.tables[name], frame, captions) for name in names],
        claims=_claims(plan),
        claims_caption=_caption(captions, "claims"),
        claim_columns=CLAIM_COLUMNS,
        comparison_columns=COMPARISON_COLUMNS,
        figures=[figure for figure in figures if figure not in diagnosed],
        missing_figures=[n for n in plan.figures if n not in {f.name for f in figures}],
        further=further,
        many=MANY,
        runs=_runs(plan, found),
        run_columns=RUN_COLUMNS,
        environments=_environments(found.runs),
    )


# --- what stands on top ------------------------------------------------------------------------


def _warnings(plan: Plan, found: Provenance) -> list[str]:
    """What a reader must know before believing a number, the counts of trainings first."""
    trained = [run for run in found.runs if run.status == "trained"]
    counts = {
        "made from a tree with uncommitted changes": [
            run for run in trained if (run.code or {}).get("clean") is False
        ],
        "with weights that were imported": [run for run in trained if run.imported],
        "not as they would be made now (see their pages)": [run for run in trained if run.differs],
    }
    notes = [
        f"{len(runs)} of {len(trained)} trainings: {what}." for what, runs in counts.items() if runs
    ]
    return [*notes, *_not_trained_on(plan), *(sentence(note) for note in plan.notes)]


def _not_trained_on(plan: Plan) -> Iterator[str]:
    """What MMDetection leaves out of the training images of each data set, as its index counts."""
    for name in dict.fromkeys(table.dataset for table in plan.tables.values()):
        manifest = plan.index_folder(name).find_manifest() or {}
        counts = manifest.get("splits", {}).get("train", {})
        if "trained_images" not in counts:
            continue  # not indexed yet, or by a version that did not count
        images, boxes = (counts[one] - counts[f"trained_{one}"] for one in ("images", "boxes"))
        if images or boxes:
            why = ", ".join(f"{counts[key]} {text}" for key, text in LEFT_OUT if counts[key])
            yield (
                f"Data {name}: {images} of {counts['images']} training images and {boxes} of "
                f"{counts['boxes']} objects are not trained on ({why})."
            )


def _progress(found: Provenance) -> str:
    states = Counter(run.status for run in found.runs)
    parts = ", ".join(f"{states[name]} {name}" for name in get_args(RunStatus) if states[name])
    cells = {(m.table, m.row, m.metric) for m in found.measurements if m.run_id}
    filled = {(m.table, m.row, m.metric) for m in found.measurements if m.value is not None}
    return f"Trainings: {parts}. Cells with a number: {len(filled)} of {len(cells)}."


def _period(runs: Iterable[TracedRun]) -> str:
    days = sorted(run.started[:10] for run in runs if run.started)
    if not days:
        return ""
    return f"Trained {days[0]}." if days[0] == days[-1] else f"Trained {days[0]} to {days[-1]}."


# --- tables ------------------------------------------------------------------------------------


def _table(plan: Plan, table: TableSpec, frame: pd.DataFrame, captions: Path) -> TableView:
    lines = frame[frame["table"] == table.name]
    columns = tuple(dict.fromkeys(name for row in table.rows for name in row.columns))
    rows = []
    for index, cells in enumerate(printed_cells(table, summarise(lines))):
        row = table.rows[index]
        run_id = None if row.cited else plan.run_of(row).run_id
        label = f"{row.label} (literature)" if row.cited else row.label
        labels = [label, *(row.columns.get(name, "") for name in columns)]
        begins = index > 0 and row.block != table.rows[index - 1].block
        linked = [LinkedCell(cell, run_id, _direction(cell.difference)) for cell in cells]
        rows.append((labels, begins, linked))
    return TableView(
        name=table.name,
        number=number(table),
        title=title(table),
        stamp=stamp(plan, table),
        caption=_caption(captions, table.name),
        published=bool(lines["paper"].notna().any()),
        columns=columns,
        metrics=table.metrics,
        rows=rows,
        notes=table_notes(plan, table),
    )


def _direction(difference: float | None) -> str:
    if difference is None:
        return ""
    if not difference:
        return "same"
    return "up" if difference > 0 else "down"


def _further(plan: Plan, captions: Path, figures: Iterable[FigureView]) -> list[FurtherView]:
    by_name = {figure.name: figure for figure in figures}
    views = []
    for path in sorted((plan.results / "tables").glob("*.csv")):
        name = path.stem
        if name in plan.tables or name == "all":
            continue
        frame = pd.read_csv(path, keep_default_na=False, na_values=["n/a"])
        figure = by_name.get(name)
        # The figure above it has said what is in `<name>.rst`.
        said = "compared" if name.endswith("_compared") else name
        caption = _caption(captions, f"{name}_table" if figure else said)
        lines = frame.astype(object).map(_short).to_numpy().tolist()
        views.append(FurtherView(name, figure, caption, list(frame.columns), lines))
    return views


def _short(value: Any) -> str:
    if isinstance(value, float):
        return "n/a" if math.isnan(value) else f"{value:.4g}"
    return str(value)


# --- verdicts and figures ----------------------------------------------------------------------


def _claims(plan: Plan) -> dict[str, Any] | None:
    """The verdicts, or what target `partial` made of them with the runs that there were.

    None where there are none, or none by the present rules.
    """
    places = (plan.results / "claims.json", plan.results / "partial/claims.json")
    path = next((path for path in places if path.exists()), None)
    content = {} if path is None else json.loads(path.read_text(encoding="utf-8"))
    if path is None or content.get("rules") != RULES:
        return None
    topics = [
        {
            **topic,
            "lines": [line for claim in topic["claims"] for line in detail_lines(claim)],
            "margins": margins(topic),
        }
        for topic in content["topics"]
    ]
    return {
        **content,
        "partial": path.parent.name == "partial",
        "legend": [text for spread, text in LEGEND.items() if spread in spreads(content)],
        "groups": overview(content),
        "needed_text": NEEDED_TEXT,
        "needed_columns": NEEDED,
        "needed": needed_lines(content),
        "topics": topics,
        "symbols": SYMBOLS,
    }


def _figures(plan: Plan, captions: Path) -> list[FigureView]:
    """Every figure that was drawn, those of the paper first."""
    folders = (plan.results / "partial/figures", plan.results / "figures")
    paths = {path.stem: path for folder in folders for path in sorted(folder.glob("*.svg"))}
    of_paper = sorted(name for name in paths if re.fullmatch(r"figure\d+\w*", name))
    names = [*of_paper, *sorted(set(paths) - set(of_paper))]
    views = []
    for name in names:
        path = paths[name]
        table = plan.tables.get(name)
        heading, text = read_caption(path)
        parts = [
            f"<p><strong>{escape(heading)}</strong></p>" if heading else "",
            _caption(captions, name) or "",
            f"<p>{escape(text)}</p>" if text else "",
        ]
        caption = "".join(parts) or None
        drawn = heading or f"{name.replace('_', ' ').replace('-', ' ')}"
        alt = title(table) if table else drawn
        partial = path.parent.parent.name == "partial"
        views.append(FigureView(name, _data_uri(path), alt, caption, partial))
    return views


def _data_uri(svg: Path) -> str:
    png = svg.with_suffix(".png")
    path = png if svg.stat().st_size > LARGE and png.exists() else svg
    return f"data:{MIME[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _caption(folder: Path, name: str) -> str | None:
    """A caption as HTML; None where nobody wrote one."""
    path = folder / f"{name}.rst"
    if not path.exists():
        return None
    settings = {"raw_enabled": False, "file_insertion_enabled": False, "report_level": 5}
    return publish_parts(
        path.read_text(encoding="utf-8"), writer="html5", settings_overrides=settings
    )["body"]


# --- runs --------------------------------------------------------------------------------------


def _runs(plan: Plan, found: Provenance) -> list[RunView]:
    by_id: dict[str, list[TracedRun]] = {}
    for run in found.runs:
        by_id.setdefault(run.run_id, []).append(run)
    measured: dict[str, list[Measurement]] = {}
    for measurement in found.measurements:
        measured.setdefault(measurement.run_id or "", []).append(measurement)
    return [_run(plan, run_id, seeds, measured.get(run_id, [])) for run_id, seeds in by_id.items()]


def _run(plan: Plan, run_id: str, seeds: list[TracedRun], measured: list[Measurement]) -> RunView:
    facts = [run_facts(run) for run in seeds]
    names = dict.fromkeys(name for of_seed in facts for name in of_seed)
    lines = {name: [of_seed.get(name, "–") for of_seed in facts] for name in names}
    use = dict.fromkeys((m.table, f"{number(plan.tables[m.table])}: {m.label}") for m in measured)
    return RunView(
        run_id=run_id,
        lines=[(run.seed, _listed(run)) for run in seeds],
        use=list(use),
        seeds=seeds,
        facts=[
            (name.strip(), texts[:1] if len(set(texts)) == 1 else texts)
            for name, texts in lines.items()
            if name not in ("run", "spec")
        ],
        numbers=_numbers(seeds, measured),
        files=list(
            dict.fromkeys(
                (f"{m.decode}, seed {m.seed}", m.metrics_file, m.metrics_sha256 or "")
                for m in measured
                if m.metrics_file is not None
            )
        ),
        resolved=seeds[0].resolved.model_dump_json(indent=1),
        logs=[(run.seed, last_lines(Path(run.log))) for run in seeds if run.log],
        initial_run=seeds[0].resolved.initial_run,
    )


def _listed(run: TracedRun) -> list[str]:
    """A line of the list of runs, as RUN_COLUMNS."""
    if run.status != "trained":
        return [run.status, *["–"] * (len(RUN_COLUMNS) - 1)]
    code = run.code or {}
    tree = {True: "clean", False: "not clean"}.get(code.get("clean"))
    memory = (run.peak_memory_mib or {}).items()
    texts = (
        run.started and run.started[:16].replace("T", " "),
        run.seconds is not None and f"{run.seconds:.1f}",
        run.images_per_second is not None and f"{run.images_per_second:.1f}",
        ", ".join(f"{where} {mib:.0f}" for where, mib in memory),
        code.get("commit") and code["commit"][:10],
        tree,
    )
    state = f"{run.status}, imported" if run.imported else run.status
    return [state, *(text or UNKNOWN for text in texts)]


def _numbers(
    seeds: Sequence[TracedRun], measured: Iterable[Measurement]
) -> list[tuple[str, list[str]]]:
    """Every number of the run that a table reads: decoding and metric, then one text a seed."""
    texts: dict[tuple[str, str], dict[int, str]] = {}
    for m in measured:
        by_seed = texts.setdefault((m.decode, m.metric), {})
        by_seed[m.seed] = m.status if m.value is None else f"{m.value:.4f}"
    return [
        (f"{metric}, {decode}", [by_seed.get(run.seed, "–") for run in seeds])
        for (decode, metric), by_seed in sorted(
            texts.items(), key=lambda item: (item[0][0], METRICS.index(item[0][1]))
        )
    ]


def _environments(runs: Iterable[TracedRun]) -> list[tuple[int, list[tuple[str, str]]]]:
    """Packages, machine and code of the trainings, each combination once with its count."""
    counts: Counter[tuple[tuple[str, str], ...]] = Counter()
    for run in runs:
        if run.status == "trained":
            facts = run_facts(run)
            counts[tuple((name, facts[name]) for name in ("code", "packages", "hardware"))] += 1
    return [(count, list(facts)) for facts, count in counts.most_common()]

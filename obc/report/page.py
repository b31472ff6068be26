"""The report: one HTML file with every verdict, table, figure and run; it needs no network.

The page begins with the results that answer "does it work?": the verdicts, one table and one
figure. Run pages are sections of the same file. CSS alone shows a run page when a link to it is
followed; the file contains no script. The file is small enough to commit (`obc.report.pictures`).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pandas as pd
from docutils.core import publish_parts
from jinja2 import Environment, PackageLoader, StrictUndefined

from obc.analysis.collect import collect, summarise
from obc.config.comparable import NOT_COMPARABLE, is_comparable
from obc.config.plan import Plan
from obc.config.table import METRICS, TableSpec
from obc.datasets.settings import DatasetName
from obc.io.files import write_text
from obc.report.captions import number, sentence, stamp, title
from obc.report.figures.caption import read_caption
from obc.report.pictures import figure_uri
from obc.report.provenance.measurements import Measurement, Provenance, TracedRun, trace_back
from obc.report.provenance.trace import UNKNOWN, run_facts
from obc.report.run_pictures import (
    CURVE_SIZE,
    LOSSES,
    ExampleImage,
    Found,
    LossCurves,
    example_images,
    found_in,
    loss_curves,
)
from obc.report.tables.claims import (
    DETAILS,
    LEGEND,
    NEEDED,
    NEEDED_TEXT,
    OVERVIEW,
    RULES,
    SYMBOLS,
    detail_lines,
    in_sentences,
    margins,
    needed_lines,
    overview,
    spreads,
)
from obc.report.tables.paper_tables import Cell, printed_cells, table_notes
from obc.report.tables.readable import ReadableTable, readable
from obc.runs.records import last_lines
from obc.runs.status import RunStatus, shown_tables

# Reasons why images or objects are left out of training: key of the count in the index, text.
LEFT_OUT = (
    ("without_objects", "images without objects"),
    ("small_images", "images with a side below 32 pixels"),
    ("small_boxes", "objects below a pixel"),
    ("ignored_boxes", "objects marked to be left out"),
    ("crowd", "crowds"),
)
# The verdict comes right after the claim, because a phone shows only two columns at a time.
CLAIM_COLUMNS = ("Claim", "Verdict", *OVERVIEW[2:])
COMPARISON_COLUMNS = DETAILS[:-1]  # without the verdict, already shown next to the claim
MANY = 12  # a further table with more lines than this is folded
RUN_COLUMNS = ("State", "Started", "Time (s)", "Images/s", "Memory (MiB)", "Commit")


class Link(NamedTuple):
    """An entry of the table of contents, with its sub-entries."""

    anchor: str
    text: str
    below: tuple[Link, ...] = ()


@dataclass(frozen=True)
class LinkedCell:
    """A printed cell, the id of the run that it links to, and the direction of its difference."""

    cell: Cell
    run_id: str | None
    direction: str  # up, down, same, or empty without a difference


@dataclass(frozen=True)
class TableView:
    """A table of the plan as the page shows it."""

    name: str
    short: str
    title: str
    stamp: str
    caption: str | None
    published: bool  # whether the paper prints any number of the table
    columns: tuple[str, ...]
    metrics: tuple[str, ...]
    rows: list[tuple[list[str], bool, list[LinkedCell]]]  # labels, begins a block, cells
    notes: list[str]


@dataclass(frozen=True)
class FigureView:
    """A drawn figure with its caption.

    Attributes:
        title: entry in the table of contents.
        source: the picture as a data URI.
        heading: start of the caption; empty if another program drew the figure.
        intro: what the figure shows, as HTML.
        more: how to read the figure, as HTML; folded away together with `text`.
        text: scale, data, runs and rules.
        partial: whether target `partial` drew it, from the runs that were finished at the time.
    """

    name: str
    title: str
    source: str
    alt: str
    heading: str
    intro: str
    more: str
    text: str
    partial: bool


@dataclass(frozen=True)
class FurtherView:
    """A table from a CSV file outside the plan, e.g. the diagnosis, and the figure of this name."""

    name: str
    title: str
    figure: FigureView | None
    caption: str | None
    table: ReadableTable


@dataclass(frozen=True)
class RunView:
    """All seeds of a run, as shown in the list of runs and on the run's page."""

    run_id: str
    lines: list[tuple[int, list[str]]]  # list of runs: seed, cells of RUN_COLUMNS
    use: list[tuple[str, str]]  # anchor and name of each table row that reads the run
    seeds: list[TracedRun]
    facts: list[tuple[str, list[str]]]  # a text per seed, or one if all are equal
    metrics: list[str]
    numbers: list[tuple[str, list[str]]]  # evaluation, a text per metric of `metrics`
    files: list[tuple[str, str, str]]
    resolved: str
    logs: list[tuple[int, list[str]]]
    initial_run: str | None
    curves: LossCurves | None
    found: Found | None


def write(plan: Plan, path: Path, captions: Path) -> None:
    """Write the report of a plan with everything that has been measured, drawn and judged so far.

    Args:
        captions: folder with the captions `<name>.rst` of tables and figures, which Snakemake's
            report uses too.

    Raises:
        MetricsFileError: a metrics file is damaged or belongs to another evaluation.
        DetectionsFileError: a detections file that an example image needs is damaged.
    """
    write_text(path, render(plan, captions))


def render(plan: Plan, captions: Path) -> str:
    """Return the page as HTML; the same input gives the same text. Arguments as in `write`."""
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
    # The sort is stable: tables come before figures, both in the plan's order.
    names = sorted(shown_tables(plan), key=lambda name: name in plan.figures)
    tables = [_table(plan, plan.tables[name], frame, captions) for name in names]
    table = _first([one for one in tables if one.name == plan.config.detail_table] or tables)
    figure = _first(one for one in figures if one.name in plan.figures)
    other_tables = [one for one in tables if one is not table]
    other_figures = [one for one in figures if one is not figure and one not in diagnosed]
    images = example_images(plan, (plan.dataset_of(run.run_id) for run in found.runs))
    return environment.get_template("report.html.jinja").render(
        plan=plan,
        heading=plan.results.name,
        not_comparable="" if comparable else NOT_COMPARABLE,
        warnings=_warnings(plan, found),
        progress=_progress(found),
        period=_period(found.runs),
        contents=_contents(table, figure, other_tables, other_figures, further),
        table=table,
        figure=figure,
        tables=other_tables,
        figures=other_figures,
        claims=_claims(plan),
        claims_caption=_caption(captions, "claims"),
        claim_columns=CLAIM_COLUMNS,
        comparison_columns=COMPARISON_COLUMNS,
        missing_figures=[n for n in plan.figures if n not in {f.name for f in figures}],
        further=further,
        many=MANY,
        runs=_runs(plan, found, images),
        images=list(images.values()),
        curve_size=CURVE_SIZE,
        losses=LOSSES,
        run_columns=RUN_COLUMNS,
        environments=_environments(found.runs),
    )


def _first(views: Iterable[Any]) -> Any | None:
    return next(iter(views), None)


def _contents(
    table: TableView | None,
    figure: FigureView | None,
    tables: Sequence[TableView],
    figures: Sequence[FigureView],
    further: Sequence[FurtherView],
) -> list[Link]:
    """The table of contents, in the order of the page."""
    of_tables = tuple(Link(one.name, one.short) for one in tables)
    of_figures = tuple(Link(f"figure-{one.name}", one.title) for one in figures)
    of_further = tuple(Link(f"table-{one.name}", one.title) for one in further)
    lines = [
        Link("verdicts", "Verdicts"),
        table and Link(table.name, table.short),
        figure and Link(f"figure-{figure.name}", figure.title),
        of_tables and Link("tables", "Tables", of_tables),
        Link("figures", "Figures", of_figures),
        of_further and Link("further", "Diagnosis", of_further),
        Link("claims", "Claims in detail"),
        Link("runs", "Runs"),
        Link("environment", "Environment"),
    ]
    return [line for line in lines if line]


# --- top of the page ---------------------------------------------------------------------------


def _warnings(plan: Plan, found: Provenance) -> list[str]:
    """Return the warnings for the top of the page; those that count trainings come first."""
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
    """Yield a note for each data set with images or objects that MMDetection does not train on.

    The counts come from the manifest of the data set's index.
    """
    for name in dict.fromkeys(table.dataset for table in plan.tables.values()):
        manifest = plan.index_folder(name).find_manifest() or {}
        counts = manifest.get("splits", {}).get("train", {})
        if "trained_images" not in counts:
            continue  # not indexed yet, or indexed by a version without counts
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
        short=f"{number(table)}{', numbers' * (table.name in plan.figures)}",
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
        # If there is a figure, `<name>.rst` is its caption, and the table has a caption of its own.
        said = "compared" if name.endswith("_compared") else name
        caption = _caption(captions, f"{name}_table" if figure else said)
        views.append(FurtherView(name, _words(name), figure, caption, readable(name, frame)))
    return views


def _words(name: str) -> str:
    """Turn the name of a file into words."""
    words = re.sub(r"(?<=[a-z])(?=\d)", " ", re.sub("[_-]", " ", name))
    return re.sub(r"^Ap\b", "AP", f"{words[:1].upper()}{words[1:]}").replace("iou", "IoU")


# --- verdicts and figures ----------------------------------------------------------------------


def _claims(plan: Plan) -> dict[str, Any] | None:
    """Return the verdicts from `claims.json`, or else from that of target `partial`.

    Return None if neither file exists, or if the file was written by rules other than RULES.
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
    counts: Counter[str] = Counter()
    for of_group in content["verdicts"].values():
        counts.update(of_group)
    return {
        **content,
        "partial": path.parent.name == "partial",
        "totals": [(name, SYMBOLS[name], counts[name]) for name in SYMBOLS if counts[name]],
        "legend": [text for spread, text in LEGEND.items() if spread in spreads(content)],
        "sentences": in_sentences(content),
        "groups": overview(content),
        "needed_text": NEEDED_TEXT,
        "needed_columns": NEEDED,
        "needed": needed_lines(content),
        "topics": topics,
        "symbols": SYMBOLS,
    }


def _figures(plan: Plan, captions: Path) -> list[FigureView]:
    """Return every figure that was drawn, the paper's figures first."""
    folders = (plan.results / "partial/figures", plan.results / "figures")
    paths = {path.stem: path for folder in folders for path in sorted(folder.glob("*.svg"))}
    of_paper = sorted(name for name in paths if re.fullmatch(r"figure\d+\w*", name))
    names = [*of_paper, *sorted(set(paths) - set(of_paper))]
    views = []
    for name in names:
        path = paths[name]
        table = plan.tables.get(name)
        heading, text = read_caption(path)
        intro, end, more = (_caption(captions, name) or "").partition("</p>")
        views.append(
            FigureView(
                name=name,
                title=number(table) if table else _words(name),
                source=figure_uri(path),
                alt=title(table) if table else heading or _words(name),
                heading=heading,
                intro=intro + end,
                more=more.strip(),
                text=text,
                partial=path.parent.parent.name == "partial",
            )
        )
    return views


def _caption(folder: Path, name: str) -> str | None:
    """Return a caption as HTML; None if there is no caption file of this name."""
    path = folder / f"{name}.rst"
    if not path.exists():
        return None
    settings = {"raw_enabled": False, "file_insertion_enabled": False, "report_level": 5}
    return publish_parts(
        path.read_text(encoding="utf-8"), writer="html5", settings_overrides=settings
    )["body"]


# --- runs --------------------------------------------------------------------------------------


def _runs(plan: Plan, found: Provenance, images: dict[DatasetName, ExampleImage]) -> list[RunView]:
    by_id: dict[str, list[TracedRun]] = {}
    for run in found.runs:
        by_id.setdefault(run.run_id, []).append(run)
    measured: dict[str, list[Measurement]] = {}
    for measurement in found.measurements:
        measured.setdefault(measurement.run_id or "", []).append(measurement)
    return [
        _run(plan, run_id, seeds, measured.get(run_id, []), images.get(plan.dataset_of(run_id)))
        for run_id, seeds in by_id.items()
    ]


def _run(
    plan: Plan,
    run_id: str,
    seeds: list[TracedRun],
    measured: list[Measurement],
    image: ExampleImage | None,
) -> RunView:
    facts = [run_facts(run) for run in seeds]
    names = dict.fromkeys(name for of_seed in facts for name in of_seed)
    lines = {name: [of_seed.get(name, "–") for of_seed in facts] for name in names}
    metrics, numbers = _numbers(seeds, measured)
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
        metrics=metrics,
        numbers=numbers,
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
        curves=loss_curves(plan, run_id),
        found=image and found_in(plan, run_id, image, plan.config.examples.min_score),
    )


def _listed(run: TracedRun) -> list[str]:
    """Return the cells of a training in the list of runs, in the order of RUN_COLUMNS."""
    if run.status != "trained":
        return [run.status, *["–"] * (len(RUN_COLUMNS) - 1)]
    code = run.code or {}
    tree = "not clean" if code.get("clean") is False else ""
    memory = (run.peak_memory_mib or {}).items()
    texts = (
        run.started and run.started[:16].replace("T", " "),
        run.seconds is not None and f"{run.seconds:.1f}",
        run.images_per_second is not None and f"{run.images_per_second:.1f}",
        ", ".join(f"{where} {mib:.0f}" for where, mib in memory),
        code.get("commit") and ", ".join(filter(None, [code["commit"][:7], tree])),
    )
    state = f"{run.status}, imported" if run.imported else run.status
    return [state, *(text or UNKNOWN for text in texts)]


def _numbers(
    seeds: Sequence[TracedRun], measured: Iterable[Measurement]
) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Return the metrics that tables read from a run, and a line for each decoding and seed."""
    texts: dict[tuple[str, int], dict[str, str]] = {}
    for m in measured:
        by_metric = texts.setdefault((m.decode or "", m.seed or 0), {})
        by_metric[m.metric] = m.status if m.value is None else f"{m.value:.2f}"
    there = {metric for by_metric in texts.values() for metric in by_metric}
    metrics = [metric for metric in METRICS if metric in there]
    order = {run.seed: at for at, run in enumerate(seeds)}
    return metrics, [
        (f"{decode}, seed {seed}", [by_metric.get(metric, "–") for metric in metrics])
        for (decode, seed), by_metric in sorted(
            texts.items(), key=lambda item: (item[0][0], order.get(item[0][1], 0))
        )
    ]


def _environments(runs: Iterable[TracedRun]) -> list[tuple[int, list[tuple[str, str]]]]:
    """Return each combination of code, packages and hardware with its number of trainings."""
    counts: Counter[tuple[tuple[str, str], ...]] = Counter()
    for run in runs:
        if run.status == "trained":
            facts = run_facts(run)
            counts[tuple((name, facts[name]) for name in ("code", "packages", "hardware"))] += 1
    return [(count, list(facts)) for facts, count in counts.most_common()]

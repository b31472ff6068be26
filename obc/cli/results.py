"""Commands about results: tables, figures, claims, the page, and where a number comes from."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from obc.cli.options import Command, read_plan, require_known
from obc.config.plan import Plan
from obc.io.locks import one_at_a_time
from obc.io.typed_yaml import ConfigError
from obc.runs.status import shown_tables

ALL = "all_csv"
COMPARED = "_compared"
# Figures that are not grids of runs, named as their rules. Those in ANALYTIC need no plan.
ANALYTIC = ("losses", "figure4")
MEASURED = ("figure6", "curves", "diagnosis", "training_curves", "inside")


# --- tables ------------------------------------------------------------------------------------


def _table_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "names", nargs="*", metavar="NAME",
        help=f"table or figure, e.g. table1; <table>{COMPARED}: differences between rows, for a "
        f"table whose rows have the key `against`; {ALL}: every number, in one long table; "
        "default: all of the paper",
    )  # fmt: skip
    parser.add_argument("--partial", action="store_true",
                        help="use the results so far and write to results/<scale>/partial; without "
                        "NAME also grid figures and verdicts")  # fmt: skip
    parser.add_argument("--workers", type=int, default=1, metavar="N",
                        help=f"processes that resample test images for <table>{COMPARED}; "
                        "default: 1")  # fmt: skip


def table(options: argparse.Namespace) -> None:
    """Write tables (csv, md, tex)."""
    from obc.report.tables import paper_tables, row_differences

    plan = read_plan(options)
    if options.partial and not options.names:
        _write_partial(plan)
        return
    folder = (plan.results / "partial" if options.partial else plan.results) / "tables"
    strict = not options.partial
    compared = {f"{name}{COMPARED}": name for name, one in plan.tables.items() if one.compared_rows}
    plain = [name for name in options.names if name not in (ALL, *compared)]
    require_known("table", plain, [*plan.tables, *compared, ALL])
    for name in options.names:
        if name == ALL:
            paper_tables.write_long(plan, folder / "all.csv", strict=strict)
        elif name in compared:
            row_differences.write(plan, compared[name], folder, strict, options.workers)
            print(f"rows against each other: {folder}/{name}.md")
    if plain or not options.names:
        paper_tables.write(plan, plain or plan.paper_tables, folder, strict=strict)


def _write_partial(plan: Plan) -> None:
    """Write every table, grid figure and verdict from the results so far."""
    from obc.analysis.collect import collect
    from obc.report.figures.grid import figure
    from obc.report.tables import claims, paper_tables

    folder = plan.results / "partial"
    paper_tables.write(plan, shown_tables(plan), folder / "tables", strict=False)
    paper_tables.write_long(plan, folder / "tables/all.csv", strict=False)
    for name in plan.figures:
        figure(plan, name, collect(plan, [name]), folder / "figures")
    judged = ""
    if plan.claims:
        claims.write(plan, folder, strict=False)
        judged = f", {folder}/claims.md"
    print(f"what there is so far: {folder}/tables, {folder}/figures{judged}")


# --- figures -----------------------------------------------------------------------------------


def _figure_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "names", nargs="*", metavar="NAME",
        help=f"{', '.join((*ANALYTIC, *MEASURED))}, or a figure of config/experiments such as "
        "figure5; default: all figures of config/experiments",
    )  # fmt: skip
    parser.add_argument("--folder", type=Path,
                        help=f"output folder of {' and '.join(ANALYTIC)}, which then need no plan; "
                        "default: results/<scale>/figures")  # fmt: skip
    parser.add_argument("--table", metavar="TABLE",
                        help="table whose rows curves, diagnosis and training_curves show; "
                        "default: the plan's detail_table")  # fmt: skip
    parser.add_argument("--run", dest="run_id", metavar="RUN",
                        help="run whose head `inside` shows: run id, or its beginning; default: "
                        "the plan's detail_rows")  # fmt: skip
    parser.add_argument("--seed", type=int, help="seed of --run; default: the run's first seed")
    parser.add_argument("--image", type=int, metavar="ID",
                        help="validation image that `inside` shows, with --run; default: the first "
                        "200 images")  # fmt: skip


def figure(options: argparse.Namespace) -> None:
    """Draw figures (svg, png, pdf, csv)."""
    if options.run_id is None and (options.image is not None or options.seed is not None):
        raise ConfigError("--image and --seed are of one run; name it with --run")
    if options.folder is not None:
        require_known("figure without a plan", options.names, ANALYTIC)
        for name in options.names or ANALYTIC:
            _draw_analytic(name, options.folder)
        return
    plan = read_plan(options)
    require_known("figure", options.names, [*ANALYTIC, *MEASURED, *plan.figures])
    for name in options.names or plan.figures:
        if name in ANALYTIC:
            _draw_analytic(name, plan.results / "figures")
        elif name in MEASURED:
            _draw_measured(name, plan, options)
        else:
            from obc.analysis.collect import collect
            from obc.report.figures import grid

            grid.figure(plan, name, collect(plan, [name]), plan.results / "figures")


def _draw_analytic(name: str, folder: Path) -> None:
    from obc.report.figures import bin_construction, losses

    {"losses": losses.draw, "figure4": bin_construction.draw}[name](folder)


def _draw_measured(name: str, plan: Plan, options: argparse.Namespace) -> None:
    folder = plan.results / "figures"
    if name == "inside":
        _draw_inside(plan, options)
        return
    if name == "figure6":
        from obc.report.figures.example_images import figure6

        figure6(plan, folder)
        return
    table = options.table or plan.config.detail_table
    require_known("table or figure", [table], list(plan.tables))
    from obc.report.figures import curves, diagnosis, training_curves

    if name == "curves":
        curves.draw(plan, table, folder)
    elif name == "diagnosis":
        diagnosis.write(plan, table, plan.results)
    else:
        training_curves.draw(plan, plan.tables[table], folder)


def _draw_inside(plan: Plan, options: argparse.Namespace) -> None:
    """Draw figures of what trained heads predict."""
    from obc.operations.why import find_run
    from obc.training.gpu_lease import lease

    with lease(min(1, plan.gpus_per_run), sys.stderr):  # before MMEngine is imported
        from obc.report.inside.write import write_image, write_run, write_shown

        if options.run_id is None:
            write_shown(plan, plan.results / "figures", plan.results / "tables")
            print(f"what trained heads predict: {plan.results}/figures, "
                  f"{plan.results}/tables/calibration.csv")  # fmt: skip
            return
        run_id = find_run(plan, options.run_id)
        seed = plan.seeds_of(run_id)[0] if options.seed is None else options.seed
        folder = plan.results / "inside" / run_id / f"seed{seed}"
        if options.image is None:
            write_run(plan, run_id, seed, folder)
        else:
            folder /= f"image{options.image}"
            write_image(plan, run_id, seed, options.image, folder)
        print(f"what this head predicts: {folder}")


# --- claims, numbers, the page -----------------------------------------------------------------


def _claims_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--partial", action="store_true",
                        help="use the results so far and write to "
                        "results/<scale>/partial")  # fmt: skip
    parser.add_argument("--workers", type=int, default=1, metavar="N",
                        help="processes that resample test images; default: 1")  # fmt: skip


def claims(options: argparse.Namespace) -> None:
    """Check the paper's claims against what was measured."""
    from obc.report.tables import claims

    plan = read_plan(options)
    folder = plan.results / "partial" if options.partial else plan.results
    claims.write(plan, folder, strict=not options.partial, workers=options.workers)
    print(f"the paper's claims, judged: {folder}/claims.md")


def _trace_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("table", nargs="?", metavar="TABLE",
                        help="table or figure, e.g. table1; requires --row and --metric; default: "
                        "check all numbers")  # fmt: skip
    parser.add_argument("--row", metavar="ROW", help="row: its label, its index from 0, or its key")
    parser.add_argument("--metric", metavar="METRIC", help="metric, e.g. AP90")


def trace(options: argparse.Namespace) -> None:
    """Show where a number of a table comes from; without a table: check every number."""
    from obc.report.provenance.trace import compare, trace

    plan = read_plan(options)
    cell = (options.table, options.row, options.metric)
    if None not in cell:
        print(trace(plan, *cell))
    elif any(part is not None for part in cell):
        raise ConfigError("a cell is TABLE --row ROW --metric METRIC; without them: every number")
    else:
        agreed = compare(plan)
        for name, count in agreed.items():
            print(f"{name}: {count} numbers agree with the metrics files they were made from")
        print(f"{sum(agreed.values())} numbers of {len(agreed)} tables in {plan.results}/tables")


def _report_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--captions", type=Path, default=Path("workflow/report"), metavar="FOLDER",
                        help="folder of captions, <name>.rst for each table and figure; default: "
                        "workflow/report")  # fmt: skip
    parser.add_argument("--partial", action="store_true",
                        help="first write tables, figures and verdicts from the results so far to "
                        "results/<scale>/partial")  # fmt: skip


def report(options: argparse.Namespace) -> None:
    """Write one HTML file of the results so far, and provenance.json.

    If another process is writing the page, this one waits and then writes it again, so that it has
    the newest results.
    """
    from obc.report import page
    from obc.report.provenance import measurements

    plan = read_plan(options)
    with one_at_a_time(plan.results / "report.lock"):
        if options.partial:
            _write_partial(plan)
        measurements.write(plan, plan.results / "provenance.json")
        page.write(plan, plan.results / "report.html", options.captions)
    print(f"to look at in a browser: {plan.results}/report.html")


COMMANDS = (
    Command(
        "report", "write one HTML page of the results so far, and provenance.json", "for you",
        _report_arguments, report,
        """\
obc report                           page of the newest results; trains nothing
obc report results/mini/plan.json
obc report --partial                 with verdicts from the results so far, as after each table""",
    ),
    Command(
        "trace", "show the files behind a number; without a table: check all numbers", "for you",
        _trace_arguments, trace,
        """\
obc trace table1 --row "Bin Classification" --metric AP90   one cell: each seed's file and training
obc trace table1 --row full --metric AP
obc trace                                                   checks every number of every table""",
    ),
    Command(
        "table", "write tables; requires all their runs, unless --partial is given",
        "for the workflow", _table_arguments, table,
        f"""\
obc table table1 table3               csv, md and tex in results/<scale>/tables
obc table ambiguities{COMPARED}        differences between rows of a table, with intervals
obc table {ALL}                     every number in one long table
obc table --partial                   tables, grid figures and verdicts from the results so far""",
    ),
    Command(
        "figure", "draw figures (svg, png, pdf, csv)", "for the workflow", _figure_arguments,
        figure,
        """\
obc figure figure5                    a figure of config/experiments: a grid of runs
obc figure losses figure4 --folder .  needs no run and no plan
obc figure curves --table table3      precision-recall curves and AP by IoU of Table 3's rows
obc figure inside --run voc-faster-r50-obc-a3-n20-k2 --image 7""",
    ),
    Command(
        "claims", "check the paper's claims against our results", "for the workflow",
        _claims_arguments, claims,
        """\
obc claims --workers 2                writes results/<scale>/claims.md; requires the claims' runs
obc claims --partial                  uses the results so far""",
    ),
)  # fmt: skip

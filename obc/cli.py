"""The `obc` command: one subcommand a step of the DAG, each usable by hand.

Imports of MMDetection, torch, pandas and matplotlib happen inside the subcommands that need
them, so that `obc plan` answers at once.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import yaml
from pydantic import ValidationError

from obc.errors import SuiteError
from obc.plan import ConfigError, Plan, load_plan
from obc.records import failure_noted
from obc.runs import run_status, shown_tables
from obc.scale import ShapesData
from obc.spec_errors import explain
from obc.table_file import read_yaml

EXAMPLES = """\
examples:
  obc plan                                   what a plain `snakemake` would do
  obc plan --set scale=mini 'seeds=[0,1]'
  obc plan --set scale=smoke --out results/smoke/plan.json
  obc train results/smoke/plan.json voc-faster-r50-smoothl1-b1-1234abcd --seed 0

`snakemake --cores N` runs all of this in the right order; see README.md.
"""


FETCH = """\
Get what config/datasets.yaml names: VOC, COCO, ImageNet weights. A workflow at scale `paper` calls
this itself. An interrupted call goes on where it stopped; a folder that is there is used in place.

examples:
  obc fetch --scale paper                everything that a scale needs
  obc fetch voc2007 voc2012 resnet50     some of it
  obc fetch --list --scale paper         without a network: what to download elsewhere (URL, size,
                                         checksum) and where to put it; `obc fetch` then checks and
                                         unpacks it, and so does the workflow
"""

TRACE = """\
Print a number of a table with the metrics file that it was read from and what its training was made
with, for each seed. Without a table: read every number of every written table, and every metrics
file behind it, and compare.

examples:
  obc trace results/smoke/plan.json table1 --row "Bin Classification" --metric AP90
  obc trace results/smoke/plan.json table1 --row full --metric AP
  obc trace results/smoke/plan.json
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand; 0 on success, 1 with a message on any error that a person can mend.

    Ctrl-C is 130, as in a shell; a training that a signal stopped, once saved, exits by itself.
    """
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (SuiteError, OSError) as error:
        print(f"obc {options.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


class StepFailed(SuiteError):
    """A logged step failed; the message names the error and the log."""


# --- subcommands -------------------------------------------------------------------------------


def _plan(options: argparse.Namespace) -> None:
    plan = load_plan(_raw_config(options), options.config_folder)
    if options.out is not None:
        if options.table or options.gpu:
            raise ConfigError("--out writes the whole plan; leave out --table and --gpu")
        plan.save(options.out)
        return
    from obc.operations.cost_page import report

    tables = [f"table{name}" if name.isdigit() else name for name in options.table]
    page = report(plan, tables or plan.paper_tables, options.gpu)
    print(plan.scale.description, *plan.summary, "", page, sep="\n")


def _raw_config(options: argparse.Namespace) -> dict[str, Any]:
    path = options.config_folder / "config.yaml"
    if not path.exists():
        raise ConfigError(f"{path}: not found; call obc from the project's folder")
    raw = read_yaml(path)
    for pair in [*options.set, *([f"scale={options.scale}"] if options.scale else [])]:
        key, equals, value = pair.partition("=")
        if not equals:
            raise ConfigError(f"--set {pair}: allowed is key=value")
        try:
            raw[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {pair}: {error}") from None
    return raw


def _fetch(options: argparse.Namespace) -> None:
    from obc.datasets.acquire import fetch, offline_list
    from obc.datasets.published import read_datasets

    datasets = read_datasets(options.config_folder / "datasets.yaml")
    unknown = sorted(set(options.names) - set(datasets))
    if unknown:
        raise ConfigError(f"nothing published as {', '.join(unknown)}; there is: "
                          f"{', '.join(datasets)}")  # fmt: skip
    entries = [datasets[name] for name in options.names]
    if not entries:
        plan = load_plan(_raw_config(options), options.config_folder)
        entries = list(plan.published.values())
        names = ", ".join(plan.published)
        print(f"scale {plan.scale.name} needs {names or 'nothing that is published'}")
    if options.list:
        for line in offline_list(entries):
            print(line, flush=True)
        return
    for entry in entries:
        print(f"{entry.name}: there, says {fetch(entry, Path(), sys.stderr)}")


def _draw(options: argparse.Namespace) -> None:
    from obc.atomic import write_json
    from obc.datasets.shapes import generate

    try:
        data = ShapesData.model_validate_json(options.settings)
    except ValidationError as error:
        raise ConfigError(explain(error, Path("--settings"), ShapesData)) from None
    started = time.monotonic()
    generate(data, options.folder, workers=options.workers)
    seconds = round(time.monotonic() - started, 2)
    # Beside the folder and last: where this file is, the whole data set is.
    write_json(
        Path(f"{options.folder}.json"), {"data": data.model_dump(mode="json"), "seconds": seconds}
    )


def _index(options: argparse.Namespace) -> None:
    from obc.datasets.manifest import index_dataset

    plan = Plan.load(options.plan)
    name = options.dataset
    manifest = index_dataset(
        plan.scale.data[name],
        plan.data_folder(name),
        plan.index_folder(name),
        workers=options.workers,
    )
    for split, counts in manifest["splits"].items():
        numbers = ", ".join(f"{count} {what}" for what, count in counts.items() if what != "sha256")
        print(f"{name} {split}: {numbers}")


def _train(options: argparse.Namespace) -> None:
    plan = _plan_with_run(options)
    folder = plan.run_folder(options.run_id, options.seed)
    if run_status(folder) == "trained" and not options.again:
        print(f"{folder}: trained already; --again trains it anew")
        return
    run = (plan, options.run_id, options.seed)
    gpus = plan.gpus_per_run
    with logged(options, folder / "log.txt") as terminal:
        from obc.devices import lease
        from obc.sessions import claimed

        with claimed(*run, max(1, gpus), options.wait, terminal) as lock:
            if lock is None:
                return
            with lease(gpus, terminal):  # before MMEngine is imported, which starts CUDA
                started = time.monotonic()
                if gpus > 1:
                    from obc.launch import train_together

                    train_together(*run, gpus, terminal, lock)
                else:
                    from obc.train import train

                    train(*run, terminal)
        seconds = time.monotonic() - started
        print(f"trained {options.run_id} seed {options.seed} in {seconds:.1f} s", file=terminal)


def _evaluate(options: argparse.Namespace) -> None:
    plan = _plan_with_run(options)
    folder = plan.run_folder(options.run_id, options.seed)
    log = folder / f"evaluate.{options.decode}.log"
    with logged(options, log) as terminal, failure_noted(folder, options.decode):
        from obc.devices import lease

        with lease(min(1, plan.gpus_per_run), terminal):  # before MMEngine is imported
            from obc.evaluate import evaluate

            path = evaluate(plan, options.run_id, options.seed, options.decode, terminal)
        metrics = json.loads(path.read_text())["metrics"]
        shown = ", ".join(
            f"{name} undefined" if metrics[name] is None else f"{name} {metrics[name]:.1f}"
            for name in ("AP", "AP50")
        )
        print(f"evaluated {options.run_id} seed {options.seed} ({options.decode}): {shown}",
              file=terminal)  # fmt: skip


def _plan_with_run(options: argparse.Namespace) -> Plan:
    """The plan, if it has the run; starting weights can be trained and not evaluated."""
    plan = Plan.load(options.plan)
    runs = plan.trainings if options.command == "train" else plan.runs
    if options.run_id not in runs:
        known = "\n  ".join(runs)
        raise ConfigError(f"{options.plan}: no run {options.run_id!r}; its runs are\n  {known}")
    return plan


def _submit(options: argparse.Namespace) -> None:
    plan = _plan_with_run(options)
    folder = plan.run_folder(options.run_id, options.seed)
    with logged(options, folder / f"submit.{options.decode}.log") as terminal:
        from obc.devices import lease

        run = (plan, options.run_id, options.seed)
        with lease(min(1, plan.gpus_per_run), terminal):  # before MMEngine is imported
            from obc.submission import submit

            path = submit(*run, options.decode, options.root, terminal)
        print(f"for COCO's evaluation server: {path}", file=terminal)


def _table(options: argparse.Namespace) -> None:
    from obc.report import tables

    plan = Plan.load(options.plan)
    folder = plan.results / "tables"
    if options.long:
        tables.write_long(plan, folder / "all.csv", strict=True)
    else:
        tables.write(plan, _known_tables(plan, options.names), folder, strict=True)


def _figure(options: argparse.Namespace) -> None:
    from obc.report.collect import collect
    from obc.report.figures import figure

    plan = Plan.load(options.plan)
    for name in options.names or plan.figures:
        figure(plan, name, collect(plan, [name]), plan.results / "figures")


def _losses(options: argparse.Namespace) -> None:
    from obc.report.losses import draw

    draw(options.folder)


def _claims(options: argparse.Namespace) -> None:
    from obc.report import claims

    plan = Plan.load(options.plan)
    folder = plan.results / "partial" if options.partial else plan.results
    claims.write(plan, folder, strict=not options.partial, workers=options.workers)
    print(f"the paper's claims, judged: {folder}/claims.md")


def _compared(options: argparse.Namespace) -> None:
    from obc.report import compared

    plan = Plan.load(options.plan)
    folder = (plan.results / "partial" if options.partial else plan.results) / "tables"
    compared.write(plan, options.table, folder, not options.partial, options.workers)
    print(f"rows against each other: {folder}/{options.table}_compared.md")


def _partial(options: argparse.Namespace) -> None:
    from obc.report import claims, tables
    from obc.report.collect import collect
    from obc.report.figures import figure

    plan = Plan.load(options.plan)
    folder = plan.results / "partial"
    tables.write(plan, shown_tables(plan), folder / "tables", strict=False)
    tables.write_long(plan, folder / "tables/all.csv", strict=False)
    for name in plan.figures:
        figure(plan, name, collect(plan, [name]), folder / "figures")
    judged = ""
    if plan.claims:
        claims.write(plan, folder, strict=False)
        judged = f", {folder}/claims.md"
    print(f"what there is so far: {folder}/tables, {folder}/figures{judged}")


def _status(options: argparse.Namespace) -> None:
    from obc.operations import status

    plan = Plan.load(options.plan)
    if options.watch:
        status.watch(plan, sys.stdout)
    else:
        print(status.render(status.states(plan)))


def _why(options: argparse.Namespace) -> None:
    from obc.operations.why import explain_run, find_run

    plan = Plan.load(options.plan)
    run_id = find_run(plan, options.run_id)
    print(explain_run(plan, options.plan, run_id, options.seed))


def _doctor(options: argparse.Namespace) -> None:
    from obc.operations.doctor import checks, require_healthy

    done = []
    for check in checks(options.plan and Plan.load(options.plan)):
        print(check, flush=True)
        done.append(check)
    require_healthy(done)


def _import(options: argparse.Namespace) -> None:
    from obc.operations.imported import import_weights
    from obc.operations.why import find_run

    plan = Plan.load(options.plan)
    run_id = find_run(plan, options.run_id)
    import_weights(plan, run_id, options.seed, options.checkpoint, options.again, sys.stderr)


def _curves(options: argparse.Namespace) -> None:
    from obc.report.curves import draw

    plan = Plan.load(options.plan)
    draw(plan, options.table, plan.results / "figures")


def _diagnosis(options: argparse.Namespace) -> None:
    from obc.report.diagnosis_page import write

    plan = Plan.load(options.plan)
    write(plan, options.table, plan.results)


def _figure4(options: argparse.Namespace) -> None:
    from obc.report.bin_construction import draw

    draw(options.folder)


def _figure6(options: argparse.Namespace) -> None:
    from obc.report.examples import figure6

    plan = Plan.load(options.plan)
    figure6(plan, plan.results / "figures")


def _training_curves(options: argparse.Namespace) -> None:
    from obc.report.training_curves import draw

    plan = Plan.load(options.plan)
    (name,) = _known_tables(plan, [options.table])
    draw(plan, plan.tables[name], plan.results / "figures")


def _inside(options: argparse.Namespace) -> None:
    if options.run_id is None and (options.image is not None or options.seed is not None):
        raise ConfigError("--image and --seed are of one run; name it with --run")
    plan = Plan.load(options.plan)
    from obc.devices import lease
    from obc.operations.why import find_run

    with lease(min(1, plan.gpus_per_run), sys.stderr):  # before MMEngine is imported
        from obc.report.look_inside import write_image, write_run, write_shown

        if options.run_id is None:
            write_shown(plan, plan.results / "figures", plan.results / "tables")
            print(f"what trained heads think: {plan.results}/figures, "
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
        print(f"what this head thinks: {folder}")


def _trace(options: argparse.Namespace) -> None:
    from obc.report.trace import compare, trace

    plan = Plan.load(options.plan)
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


def _provenance(options: argparse.Namespace) -> None:
    from obc.report import provenance

    plan = Plan.load(options.plan)
    provenance.write(plan, plan.results / "provenance.json")


def _report(options: argparse.Namespace) -> None:
    from obc.report import page, provenance

    plan = Plan.load(options.plan)
    provenance.write(plan, plan.results / "provenance.json")
    page.write(plan, plan.results / "report.html", options.captions)
    print(f"to look at in a browser: {plan.results}/report.html")


def _known_tables(plan: Plan, names: list[str]) -> list[str]:
    unknown = sorted(set(names) - set(plan.tables))
    if unknown:
        raise ConfigError(
            f"no table or figure {', '.join(unknown)}; allowed: {', '.join(plan.tables)}"
        )
    return names or list(plan.paper_tables)


# --- logging of long steps ---------------------------------------------------------------------


@contextmanager
def logged(options: argparse.Namespace, log: Path) -> Iterator[TextIO]:
    """Send everything the process prints to a log file; yield the terminal for progress lines.

    An error inside goes to the log with its traceback, and becomes a StepFailed that names both.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    kept = {stream: os.dup(stream.fileno()) for stream in (sys.stdout, sys.stderr)}
    terminal = os.fdopen(os.dup(sys.stderr.fileno()), "w", buffering=1)
    try:
        with log.open("a") as file:
            print(f"\n== obc {options.command} {options.run_id} seed {options.seed}, "
                  f"{time.strftime('%Y-%m-%d %H:%M:%S')}", file=file, flush=True)  # fmt: skip
            for stream in kept:
                os.dup2(file.fileno(), stream.fileno())
            yield terminal
    except Exception as error:
        traceback.print_exc()
        raise StepFailed(
            f"FAILED: {options.run_id} seed {options.seed}: "
            f"{type(error).__name__}: {error}\n  log: {log}"
        ) from error
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for stream, descriptor in kept.items():
            os.dup2(descriptor, stream.fileno())
            os.close(descriptor)
        terminal.close()


# --- the parser --------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="obc",
        description="Reproduction of Offset Bin Classification (CVPR 2020): one step at a time.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="STEP")

    plan = commands.add_parser(
        "plan", help="validate config/ and show what would run and cost, or write the plan"
    )
    plan.add_argument("--table", nargs="+", default=[], metavar="NAME",
                      help="only what these need, e.g. 3, table3 or figure5")  # fmt: skip
    plan.add_argument("--gpu", metavar="NAME", help="hours of which device, e.g. h100 or cpu")
    plan.add_argument("--out", type=Path, metavar="FILE", help="write the plan here, print nothing")
    plan.set_defaults(run=_plan)
    fetch = commands.add_parser(
        "fetch", help="download, check and unpack published data and weights",
        description=FETCH, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    fetch.add_argument("names", nargs="*", metavar="NAME", help="default: what the scale needs")
    fetch.add_argument("--list", action="store_true",
                       help="fetch nothing, print what to put where by hand")  # fmt: skip
    fetch.set_defaults(run=_fetch)
    for step in (plan, fetch):
        step.add_argument("--scale", metavar="NAME", help="short for --set scale=NAME")
        step.add_argument("--set", action="extend", nargs="*", default=[], metavar="KEY=VALUE",
                          help="as snakemake's --config (keys: docs/configuration.md)")  # fmt: skip
        step.add_argument("--config-folder", type=Path, default=Path("config"), metavar="FOLDER")

    draw = commands.add_parser("draw", help="draw an embedded data set")
    draw.add_argument("folder", type=Path, metavar="FOLDER", help="is made, or replaced")
    draw.add_argument("--settings", required=True, metavar="JSON", help="as data.voc of a scale")
    draw.set_defaults(run=_draw)
    index = commands.add_parser("index", help="check a data set, write annotations and manifest")
    _add_plan(index)
    index.add_argument("dataset", choices=("voc", "coco", "init"))
    index.set_defaults(run=_index)
    for step in (draw, index):
        step.add_argument("--workers", type=int, default=1, metavar="N", help="processes")

    train = commands.add_parser(
        "train", help="train one run, or go on with it where it was interrupted"
    )
    evaluate = commands.add_parser("evaluate", help="evaluate one decoding of a trained run")
    submit = commands.add_parser("submit", help="write a submission to COCO's test-dev server")
    for step, run in ((train, _train), (evaluate, _evaluate), (submit, _submit)):
        _add_plan(step)
        step.add_argument("run_id", metavar="RUN", help="a run id; `obc plan` lists them")
        step.add_argument("--seed", type=int, default=0)
        step.set_defaults(run=run)
    train.add_argument("--again", action="store_true", help="also if it is trained already")
    train.add_argument("--wait", type=float, default=0.0, metavar="SECONDS",
                       help="for a process that trains this run, e.g. is stopping")  # fmt: skip
    for step in (evaluate, submit):
        step.add_argument(
            "--decode", required=True, choices=("expectation", "argmax", "regression")
        )
    submit.add_argument("--root", type=Path, default=Path("data/coco-test-dev"), metavar="FOLDER",
                        help="annotations/image_info_test-dev2017.json and test2017/; the default "
                        "is where `obc fetch coco_test_info coco_test2017` puts them")  # fmt: skip

    for name, run, text in (
        ("table", _table, "write tables (csv, md, tex); every run must be there"),
        ("figure", _figure, "draw figures (svg, png)"),
    ):
        step = commands.add_parser(name, help=text)
        _add_plan(step)
        step.add_argument("names", nargs="*", metavar="NAME", help="e.g. table1; default: all")
        step.set_defaults(run=run)
        if name == "table":
            step.add_argument("--long", action="store_true", help="write all.csv, the tidy table")

    losses = commands.add_parser("losses", help="draw the losses and their gradients (svg, png)")
    losses.add_argument("folder", type=Path, metavar="FOLDER", help="where losses.svg is to lie")
    losses.set_defaults(run=_losses)

    claims = commands.add_parser("claims", help="judge what the paper claims by what was measured")
    _add_plan(claims)
    claims.add_argument("--partial", action="store_true",
                        help="also while runs are missing, into the folder `partial`")  # fmt: skip
    claims.add_argument("--workers", type=int, default=1, metavar="N", help="processes")
    claims.set_defaults(run=_claims)

    partial = commands.add_parser("partial", help="every table with what there is so far")
    _add_plan(partial)
    partial.set_defaults(run=_partial)

    compared = commands.add_parser("compared", help="rows of a table against each other")
    _add_plan(compared)
    compared.add_argument("table", metavar="TABLE", help="one whose rows say `against`")
    compared.add_argument("--partial", action="store_true",
                          help="with what there is; into results/<scale>/partial")  # fmt: skip
    compared.add_argument("--workers", type=int, default=1, metavar="N", help="processes")
    compared.set_defaults(run=_compared)

    status = commands.add_parser("status", help="how far every run is, and when all are done")
    _add_plan(status)
    status.add_argument("--watch", action="store_true",
                        help="until all are done; in a log, a line for each change")  # fmt: skip
    status.set_defaults(run=_status)

    why = commands.add_parser("why", help="why a run is missing, stale or failed; what to do")
    _add_plan(why)
    why.add_argument("run_id", metavar="RUN", help="a run id or its beginning")
    why.add_argument("--seed", type=int, help="default: the first that is not done")
    why.set_defaults(run=_why)

    doctor = commands.add_parser("doctor", help="check this machine, and the data of a plan")
    doctor.add_argument("plan", type=Path, metavar="PLAN", nargs="?",
                        help="results/<scale>/plan.json; default: only the machine")  # fmt: skip
    doctor.set_defaults(run=_doctor)

    own = commands.add_parser("import", help="evaluate one's own weights as a run of the plan")
    own.add_argument("checkpoint", type=Path, metavar="CHECKPOINT",
                     help="a state dict, or MMEngine's checkpoint with one")  # fmt: skip
    own.add_argument("--plan", type=Path, required=True, help="results/<scale>/plan.json")
    own.add_argument("--run", dest="run_id", required=True, help="a run id or its beginning")
    own.add_argument("--seed", type=int, default=0)
    own.add_argument("--again", action="store_true", help="replace weights that were trained here")
    own.set_defaults(run=_import)

    for name, run, text in (
        ("curves", _curves, "draw precision against recall, and AP against IoU (svg, png, csv)"),
        ("diagnosis", _diagnosis, "how far found boxes are off, as a table and as a figure"),
    ):
        step = commands.add_parser(name, help=text)
        _add_plan(step)
        step.add_argument("table", nargs="?", default="table1", metavar="TABLE",
                          help="whose rows; default: table1")  # fmt: skip
        step.set_defaults(run=run)
    figure4 = commands.add_parser("figure4", help="draw how bins are made (svg, png, csv)")
    figure4.add_argument("folder", type=Path, metavar="FOLDER", help="where figure4.svg is to lie")
    figure4.set_defaults(run=_figure4)
    figure6 = commands.add_parser("figure6", help="draw what two rows find in single test images")
    _add_plan(figure6)
    figure6.set_defaults(run=_figure6)
    training = commands.add_parser("training-curves", help="draw losses against iterations")
    _add_plan(training)
    training.add_argument("table", nargs="?", default="table1", help="whose runs; default: table1")
    training.set_defaults(run=_training_curves)
    inside = commands.add_parser(
        "inside", help="draw what trained heads think: bin probabilities, stages, calibration"
    )
    _add_plan(inside)
    inside.add_argument("--run", dest="run_id", metavar="RUN",
                        help="a run id or its beginning; default: those of Table 1")  # fmt: skip
    inside.add_argument("--seed", type=int, help="default: the run's first")
    inside.add_argument("--image", type=int, metavar="ID",
                        help="of the validation set; default: many, by rule")  # fmt: skip
    inside.set_defaults(run=_inside)
    trace = commands.add_parser(
        "trace", help="where a number comes from; without a table: compare every one",
        description=TRACE, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    _add_plan(trace)
    trace.add_argument("table", nargs="?", metavar="TABLE", help="e.g. table1")
    trace.add_argument("--row", metavar="ROW", help="its label, index (from 0) or key")
    trace.add_argument("--metric", metavar="METRIC", help="e.g. AP90")
    trace.set_defaults(run=_trace)

    provenance = commands.add_parser("provenance", help="write all of it (provenance.json)")
    _add_plan(provenance)
    provenance.set_defaults(run=_provenance)

    report = commands.add_parser(
        "report", help="one HTML file of what there is so far, and provenance.json"
    )
    _add_plan(report)
    report.add_argument("--captions", type=Path, default=Path("workflow/report"), metavar="FOLDER",
                        help="<name>.rst for each table and figure")  # fmt: skip
    report.set_defaults(run=_report)
    return parser


def _add_plan(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("plan", type=Path, metavar="PLAN", help="results/<scale>/plan.json")


if __name__ == "__main__":
    sys.exit(main())

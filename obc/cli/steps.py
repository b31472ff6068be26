"""What each subcommand of `obc` does with its options, which `obc.cli.main` parses.

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

from obc.config.load_plan import load_plan
from obc.config.plan import Plan
from obc.datasets.settings import ShapesData
from obc.io.errors import SuiteError
from obc.io.typed_yaml import ConfigError, explain, read_yaml
from obc.runs.records import failure_noted
from obc.runs.status import run_status, shown_tables


class StepFailed(SuiteError):
    """A logged step failed; the message names the error and the log."""


def do_plan(options: argparse.Namespace) -> None:
    """`obc plan`."""
    plan = load_plan(_raw_config(options), options.config_folder)
    if options.out is not None:
        if options.table or options.gpu:
            raise ConfigError("--out writes the whole plan; leave out --table and --gpu")
        plan.save(options.out)
        return
    from obc.operations.plan_page import report

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


def do_fetch(options: argparse.Namespace) -> None:
    """`obc fetch`."""
    from obc.datasets.published.catalogue import read_datasets
    from obc.datasets.published.fetch import fetch, offline_list

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


def do_draw(options: argparse.Namespace) -> None:
    """`obc draw`."""
    from obc.datasets.drawn.shapes import generate
    from obc.io.files import write_json

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


def do_index(options: argparse.Namespace) -> None:
    """`obc index`."""
    from obc.datasets.index import index_dataset

    plan = Plan.load(options.plan)
    name = options.dataset
    manifest = index_dataset(
        plan.scale.data[name],
        plan.data_folder(name),
        plan.index_folder(name),
        workers=options.workers,
        image_scale=plan.scale.sizes.image_scale[name],
    )
    for split, counts in manifest["splits"].items():
        numbers = ", ".join(f"{count} {what}" for what, count in counts.items() if what != "sha256")
        print(f"{name} {split}: {numbers}")


def do_train(options: argparse.Namespace) -> None:
    """`obc train`."""
    plan = _plan_with_run(options)
    folder = plan.run_folder(options.run_id, options.seed)
    if run_status(folder) == "trained" and not options.again:
        print(f"{folder}: trained already; --again trains it anew")
        return
    run = (plan, options.run_id, options.seed)
    gpus = plan.gpus_per_run
    with logged(options, folder / "log.txt") as terminal:
        from obc.training.gpu_lease import lease
        from obc.training.sessions import claimed

        with claimed(*run, max(1, gpus), options.wait, terminal) as lock:
            if lock is None:
                return
            with lease(gpus, terminal):  # before MMEngine is imported, which starts CUDA
                started = time.monotonic()
                if gpus > 1:
                    from obc.training.distributed import train_together

                    train_together(*run, gpus, terminal, lock)
                else:
                    from obc.training.train import train

                    train(*run, terminal)
        seconds = time.monotonic() - started
        print(f"trained {options.run_id} seed {options.seed} in {seconds:.1f} s", file=terminal)


def do_evaluate(options: argparse.Namespace) -> None:
    """`obc evaluate`."""
    plan = _plan_with_run(options)
    folder = plan.run_folder(options.run_id, options.seed)
    log = folder / f"evaluate.{options.decode}.log"
    with logged(options, log) as terminal, failure_noted(folder, options.decode):
        from obc.training.gpu_lease import lease

        with lease(min(1, plan.gpus_per_run), terminal):  # before MMEngine is imported
            from obc.evaluation.evaluate import evaluate

            path = evaluate(plan, options.run_id, options.seed, options.decode, terminal)
        metrics = json.loads(path.read_text(encoding="utf-8"))["metrics"]
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


def do_submit(options: argparse.Namespace) -> None:
    """`obc submit`."""
    plan = _plan_with_run(options)
    folder = plan.run_folder(options.run_id, options.seed)
    with logged(options, folder / f"submit.{options.decode}.log") as terminal:
        from obc.training.gpu_lease import lease

        run = (plan, options.run_id, options.seed)
        with lease(min(1, plan.gpus_per_run), terminal):  # before MMEngine is imported
            from obc.evaluation.test_dev import submit

            path = submit(*run, options.decode, options.root, terminal)
        print(f"for COCO's evaluation server: {path}", file=terminal)


def do_table(options: argparse.Namespace) -> None:
    """`obc table`."""
    from obc.report.tables import paper_tables as tables

    plan = Plan.load(options.plan)
    folder = plan.results / "tables"
    if options.long:
        tables.write_long(plan, folder / "all.csv", strict=True)
    else:
        tables.write(plan, _known_tables(plan, options.names), folder, strict=True)


def do_figure(options: argparse.Namespace) -> None:
    """`obc figure`."""
    from obc.analysis.collect import collect
    from obc.report.figures.grid import figure

    plan = Plan.load(options.plan)
    for name in options.names or plan.figures:
        figure(plan, name, collect(plan, [name]), plan.results / "figures")


def do_losses(options: argparse.Namespace) -> None:
    """`obc losses`."""
    from obc.report.figures.losses import draw

    draw(options.folder)


def do_claims(options: argparse.Namespace) -> None:
    """`obc claims`."""
    from obc.report.tables import claims

    plan = Plan.load(options.plan)
    folder = plan.results / "partial" if options.partial else plan.results
    claims.write(plan, folder, strict=not options.partial, workers=options.workers)
    print(f"the paper's claims, judged: {folder}/claims.md")


def do_compared(options: argparse.Namespace) -> None:
    """`obc compared`."""
    from obc.report.tables import row_differences as compared

    plan = Plan.load(options.plan)
    folder = (plan.results / "partial" if options.partial else plan.results) / "tables"
    compared.write(plan, options.table, folder, not options.partial, options.workers)
    print(f"rows against each other: {folder}/{options.table}_compared.md")


def do_partial(options: argparse.Namespace) -> None:
    """`obc partial`."""
    from obc.analysis.collect import collect
    from obc.report.figures.grid import figure
    from obc.report.tables import claims
    from obc.report.tables import paper_tables as tables

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


def do_status(options: argparse.Namespace) -> None:
    """`obc status`."""
    from obc.operations import status

    plan = Plan.load(options.plan)
    if options.watch:
        status.watch(plan, sys.stdout)
    else:
        print(status.render(status.states(plan)))


def do_why(options: argparse.Namespace) -> None:
    """`obc why`."""
    from obc.operations.why import explain_run, find_run

    plan = Plan.load(options.plan)
    run_id = find_run(plan, options.run_id)
    print(explain_run(plan, options.plan, run_id, options.seed))


def do_doctor(options: argparse.Namespace) -> None:
    """`obc doctor`."""
    from obc.operations.doctor import checks, require_healthy

    done = []
    for check in checks(options.plan and Plan.load(options.plan)):
        print(check, flush=True)
        done.append(check)
    require_healthy(done)


def do_import(options: argparse.Namespace) -> None:
    """`obc import`."""
    from obc.operations.import_weights import import_weights
    from obc.operations.why import find_run

    plan = Plan.load(options.plan)
    run_id = find_run(plan, options.run_id)
    import_weights(plan, run_id, options.seed, options.checkpoint, options.again, sys.stderr)


def do_curves(options: argparse.Namespace) -> None:
    """`obc curves`."""
    from obc.report.figures.curves import draw

    plan = Plan.load(options.plan)
    draw(plan, options.table, plan.results / "figures")


def do_diagnosis(options: argparse.Namespace) -> None:
    """`obc diagnosis`."""
    from obc.report.figures.diagnosis import write

    plan = Plan.load(options.plan)
    write(plan, options.table, plan.results)


def do_figure4(options: argparse.Namespace) -> None:
    """`obc figure4`."""
    from obc.report.figures.bin_construction import draw

    draw(options.folder)


def do_figure6(options: argparse.Namespace) -> None:
    """`obc figure6`."""
    from obc.report.figures.example_images import figure6

    plan = Plan.load(options.plan)
    figure6(plan, plan.results / "figures")


def do_training_curves(options: argparse.Namespace) -> None:
    """`obc training-curves`."""
    from obc.report.figures.training_curves import draw

    plan = Plan.load(options.plan)
    (name,) = _known_tables(plan, [options.table])
    draw(plan, plan.tables[name], plan.results / "figures")


def do_inside(options: argparse.Namespace) -> None:
    """`obc inside`."""
    if options.run_id is None and (options.image is not None or options.seed is not None):
        raise ConfigError("--image and --seed are of one run; name it with --run")
    plan = Plan.load(options.plan)
    from obc.operations.why import find_run
    from obc.training.gpu_lease import lease

    with lease(min(1, plan.gpus_per_run), sys.stderr):  # before MMEngine is imported
        from obc.report.inside.write import write_image, write_run, write_shown

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


def do_trace(options: argparse.Namespace) -> None:
    """`obc trace`."""
    from obc.report.provenance.trace import compare, trace

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


def do_provenance(options: argparse.Namespace) -> None:
    """`obc provenance`."""
    from obc.report.provenance import measurements as provenance

    plan = Plan.load(options.plan)
    provenance.write(plan, plan.results / "provenance.json")


def do_report(options: argparse.Namespace) -> None:
    """`obc report`."""
    from obc.report import page
    from obc.report.provenance import measurements as provenance

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
    terminal = os.fdopen(
        os.dup(sys.stderr.fileno()), "w", 1, sys.stderr.encoding, errors="backslashreplace"
    )
    try:
        with log.open("a", encoding="utf-8") as file:
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

"""Commands about runs: plan, train, evaluate, import, why, doctor."""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import yaml

from obc.cli.options import Command, Terminal, add_run, logged, plan_file, read_plan
from obc.config.load_plan import load_plan
from obc.config.plan import Plan
from obc.config.reference import ReferenceFolder
from obc.config.run import Decode
from obc.io.errors import did_you_mean
from obc.io.typed_yaml import ConfigError, read_yaml
from obc.runs.records import failure_noted
from obc.runs.status import has_weights


def add_configuration(parser: argparse.ArgumentParser) -> None:
    """Add the options that select a scale and override keys of config/config.yaml."""
    parser.add_argument(
        "--scale", metavar="NAME", help="scale, e.g. mini; short for --set scale=NAME"
    )
    parser.add_argument("--set", action="extend", nargs="*", default=[], metavar="KEY=VALUE",
                        help="override keys of config.yaml, as snakemake's --config does (keys: "
                        "docs/configuration.md)")  # fmt: skip
    parser.add_argument("--config-folder", type=Path, default=Path("config"), metavar="FOLDER",
                        help="folder with config.yaml; default: config")  # fmt: skip


def configured_plan(options: argparse.Namespace) -> Plan:
    """Load the plan from config/ with the options of `add_configuration`."""
    path = options.config_folder / "config.yaml"
    if not path.exists():
        raise ConfigError(f"{path}: not found; call obc from the project's folder")
    raw: dict[str, Any] = read_yaml(path)
    for pair in [*options.set, *([f"scale={options.scale}"] if options.scale else [])]:
        key, equals, value = pair.partition("=")
        if not equals:
            raise ConfigError(f"--set {pair}: allowed is key=value")
        try:
            raw[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {pair}: {error}") from None
    return load_plan(raw, options.config_folder)


def _plan_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--table", nargs="+", default=[], metavar="NAME",
                        help="list only the trainings of these tables or figures, e.g. 3, table3 "
                        "or figure5; default: all of the paper")  # fmt: skip
    parser.add_argument("--gpu", metavar="NAME",
                        help="device that hours are estimated for, e.g. h100 or cpu; default: "
                        "a100, or cpu if the plan trains on the CPU")  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="FILE",
                        help="write the whole plan to FILE and print nothing; not with --table "
                        "or --gpu")  # fmt: skip
    add_configuration(parser)


def plan(options: argparse.Namespace) -> None:
    """Validate config/, then show the trainings and their costs, or write the plan."""
    chosen = configured_plan(options)
    if options.out is not None:
        if options.table or options.gpu:
            raise ConfigError("--out writes the whole plan; leave out --table and --gpu")
        chosen.save(options.out)
        return
    from rich.text import Text

    from obc.operations.plan_page import report, summary

    tables = [f"table{name}" if name.isdigit() else name for name in options.table]
    page = report(chosen, tables or chosen.paper_tables, options.gpu)
    console = Terminal()
    console.print(Text(chosen.scale.description, style="bold"))
    for line in (*summary(chosen), "", *page.splitlines()):
        console.print(Text(line, style="dim" if line.endswith("done") else ""))


def _train_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument("--again", action="store_true",
                        help="train the run again if it is already trained")  # fmt: skip
    parser.add_argument("--wait", type=float, default=0.0, metavar="SECONDS",
                        help="time to wait for another process that is training this run, e.g. one "
                        "that is stopping; default: 0 (waits 1 s)")  # fmt: skip


def train(options: argparse.Namespace) -> None:
    """Train one run, or resume it from its last checkpoint.

    Starting weights that come with the suite are not trained but written into the run's folder.
    """
    plan = _plan_with_run(options)
    folder = plan.run_folder(options.run_id, options.seed)
    shipped = plan.shipped.get(options.run_id)
    if shipped is not None:
        with logged(options, folder.log) as terminal:
            import_lightly(plan.config.plugins)
            from obc.training.shipped_weights import place_weights

            place_weights(plan, options.run_id, options.seed)
            print(f"starting weights {options.run_id}: {shipped.path}, checked", file=terminal)
        return
    if has_weights(folder) and not options.again:
        print(f"{folder}: trained already; --again trains it anew")
        return
    run = (plan, options.run_id, options.seed)
    gpus = plan.gpus_per_run
    with logged(options, folder.log) as terminal:
        from obc.training.gpu_lease import lease
        from obc.training.sessions import claimed

        with claimed(*run, max(1, gpus), options.wait, terminal) as lock:
            if lock is None:
                return
            with lease(gpus, terminal):  # before MMEngine is imported, which starts CUDA
                import_lightly(plan.config.plugins)
                started = time.monotonic()
                if gpus > 1:
                    from obc.training.distributed import train_together

                    train_together(*run, gpus, terminal, lock)
                else:
                    from obc.training.train import train

                    train(*run, terminal)
        seconds = time.monotonic() - started
        print(f"trained {options.run_id} seed {options.seed} in {seconds:.1f} s", file=terminal)


def import_lightly(plugins: Sequence[str]) -> None:
    """Import MMDetection without packages that the suite does not need, unless plugins are used.

    Imports make hundreds of thousands of objects that stay until the process ends, so garbage is
    not collected meanwhile, and later collections leave these objects out.
    """
    if plugins:
        return
    from obc.detector.light_imports import import_mmdetection

    gc.disable()
    try:
        import_mmdetection()
        gc.freeze()
    finally:
        gc.enable()


def _evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument("--decode", required=True, choices=get_args(Decode),
                        help="how the head's logits become offsets; `obc plan` lists each run's "
                        "decodings")  # fmt: skip


def evaluate(options: argparse.Namespace) -> None:
    """Evaluate one decoding of a trained run."""
    plan = _plan_with_run(options)
    folder = plan.run_folder(options.run_id, options.seed)
    log = folder.evaluation_log(options.decode)
    with logged(options, log) as terminal, failure_noted(folder, options.decode):
        from obc.training.gpu_lease import lease

        with lease(min(1, plan.gpus_per_run), terminal):  # before MMEngine is imported
            import_lightly(plan.config.plugins)
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
    """Return the plan if it has the run; starting weights can be trained, but not evaluated."""
    path = plan_file(options)
    plan = Plan.load(path)
    runs = plan.trainings if options.command == "train" else plan.runs
    if options.run_id not in runs:
        known = "\n  ".join(runs)
        hint = did_you_mean(options.run_id, runs)
        raise ConfigError(f"{path}: no run {options.run_id!r}{hint}; its runs are\n  {known}")
    return plan


def _import_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="CHECKPOINT|FOLDER",
                        help="weights (a state dict, or an MMEngine checkpoint with a state dict); "
                        "or a folder in results/reference with stored runs")  # fmt: skip
    parser.add_argument("--run", dest="run_id",
                        help="with CHECKPOINT (required): run that gets the weights; run id, or "
                        "its beginning")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0,
                        help="with CHECKPOINT: seed that gets the weights; default: 0")  # fmt: skip
    parser.add_argument("--again", action="store_true",
                        help="with CHECKPOINT: replace a training of this run, finished or "
                        "not")  # fmt: skip


def import_own(options: argparse.Namespace) -> None:
    """Evaluate your own weights as a run of the plan, or restore finished runs without weights."""
    plan = read_plan(options)
    if options.source.is_dir():
        from obc.operations.stored_runs import describe, restore

        if options.run_id is not None or options.again:
            raise ConfigError(
                f"{options.source} is a folder; --run and --again are of a checkpoint"
            )
        for line in describe(restore(plan, ReferenceFolder(options.source).archives())):
            print(line)
        return
    from obc.operations.import_weights import import_weights
    from obc.operations.why import find_run

    if options.run_id is None:
        raise ConfigError(f"{options.source}: --run says which run's weights a checkpoint has")
    run_id = find_run(plan, options.run_id)
    import_weights(plan, run_id, options.seed, options.source, options.again, sys.stderr)


def _why_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_id", metavar="RUN", help="run id, or its beginning")
    parser.add_argument("--seed", type=int,
                        help="seed of the run; default: the first that is not done")  # fmt: skip


def why(options: argparse.Namespace) -> None:
    """Explain why a run is missing, stale or failed, and what to do."""
    from obc.operations.why import explain_run, find_run

    path = plan_file(options)
    plan = Plan.load(path)
    print(explain_run(plan, path, find_run(plan, options.run_id), options.seed))


def doctor(options: argparse.Namespace) -> None:
    """Check this machine and, if a plan is named, its data."""
    from obc.operations.doctor import checks, require_healthy

    done = []
    for check in checks(options.plan and Plan.load(options.plan)):
        print(check, flush=True)
        done.append(check)
    require_healthy(done)


COMMANDS = (
    Command(
        "plan", "list trainings with their hours and disk space, or write the plan", "for you",
        _plan_arguments, plan,
        """\
obc plan                                      all trainings of a plain `snakemake` call
obc plan --scale paper --table 3 --gpu h100   hours on an H100 and disk of Table 3
obc plan --set scale=mini 'seeds=[0,1]'
obc plan --scale smoke --out results/smoke/plan.json""",
        reads_plan=False,
    ),
    Command(
        "why", "explain why a run is missing, stale or failed, and what to do", "for you",
        _why_arguments, why,
        """\
obc why voc-faster-r50-l2                           a run id, or a beginning that fits one run
obc why results/smoke/plan.json voc-faster-r50-l2   a run of another plan than the newest""",
    ),
    Command(
        "doctor", "check this machine and, if a plan is named, its data", "for you",
        lambda parser: None, doctor,
        """\
obc doctor                           checks only the machine
obc doctor results/paper/plan.json   also checks the data, weights and disk space of the plan""",
    ),
    Command(
        "import", "import your own weights as those of a run, or restore stored runs", "for you",
        _import_arguments, import_own,
        """\
obc import mine.pth --run voc-faster-r50-obc-a3-n20-k2    `snakemake` then evaluates the run
obc import results/reference/mini    restores runs that `make reference KEEP_RUNS=1` stored""",
    ),
    Command(
        "train", "train one run, or resume it from its last checkpoint", "for the workflow",
        _train_arguments, train,
        """\
obc train results/smoke/plan.json voc-faster-r50-smoothl1-b1-1234abcd --seed 0""",
    ),
    Command(
        "evaluate", "evaluate one decoding of a trained run", "for the workflow",
        _evaluate_arguments, evaluate,
        """\
obc evaluate results/smoke/plan.json voc-faster-r50-smoothl1-b1-1234abcd --decode regression""",
    ),
)  # fmt: skip

"""Shared by all commands: their declaration, the plan that they read, logs of long steps."""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, TextIO

from rich.console import Console

from obc.config.plan import Plan
from obc.io.errors import SuiteError, did_you_mean
from obc.io.typed_yaml import ConfigError

Group = Literal["for you", "for the workflow"]
RESULTS = Path("results")


class StepFailed(SuiteError):
    """A logged step failed; the message names the error and the log."""


@dataclass(frozen=True)
class Command:
    """A subcommand of `obc`.

    Attributes:
        name: the word on the command line.
        summary: a line for the list of commands.
        group: heading under which `obc --help` lists the command.
        arguments: adds the command's arguments to a parser.
        run: runs the command.
        examples: shown by `obc <name> --help`.
        reads_plan: whether the command takes `--plan`.
    """

    name: str
    summary: str
    group: Group
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], None]
    examples: str
    reads_plan: bool = True


class Terminal(Console):
    """rich's console without coloured numbers; it leaves a closed pipe (`| head`) to `main`."""

    def __init__(self, file: IO[str] | None = None) -> None:
        super().__init__(file=file, highlight=False, soft_wrap=True)

    def on_broken_pipe(self) -> None:
        """Raise the error again for `main`; rich would exit with status 1."""
        raise BrokenPipeError


def add_plan(parser: argparse.ArgumentParser) -> None:
    """Add the option that names a plan."""
    parser.add_argument(
        "--plan",
        type=Path,
        metavar="FILE",
        help="path of a plan.json; `--plan` can be omitted if the path is the first argument; "
        "default: the newest results/*/plan.json",
    )


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that name one training."""
    parser.add_argument("run_id", metavar="RUN", help="run id; `obc plan` lists the run ids")
    parser.add_argument("--seed", type=int, default=0, help="seed of the run; default: 0")


def plan_file(options: argparse.Namespace) -> Path:
    """Return the path of the named plan, or of the newest one.

    Raises:
        ConfigError: no plan was named or written yet.
    """
    if options.plan is not None:
        return options.plan
    plans = sorted(RESULTS.glob("*/plan.json"), key=lambda path: path.stat().st_mtime)
    if not plans:
        raise ConfigError(
            f"{RESULTS}/: no plan.json in any folder there; `snakemake --cores N` writes one, "
            "or name one with --plan"
        )
    print(f"plan: {plans[-1]}", file=sys.stderr)
    return plans[-1]


def read_plan(options: argparse.Namespace) -> Plan:
    """Read the plan at `plan_file`."""
    return Plan.load(plan_file(options))


def require_known(what: str, names: Sequence[str], known: Sequence[str]) -> None:
    """Raise a ConfigError, which suggests a similar name, unless every name is known."""
    unknown = [name for name in names if name not in known]
    if unknown:
        hint = did_you_mean(unknown[0], known)
        raise ConfigError(f"no {what} {', '.join(unknown)}{hint}; allowed: {', '.join(known)}")


@contextmanager
def logged(options: argparse.Namespace, log: Path) -> Iterator[TextIO]:
    """Send everything the process prints to a log file; yield the terminal for progress lines.

    An error in the block is logged with its traceback, and raised as a StepFailed that names the
    error and the log.
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

"""`obc status`: show the state of every run once, or until all are done or failed."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TextIO

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from obc.cli.options import Command, Terminal, read_plan
from obc.config.plan import Plan
from obc.io.terminal import can_redraw
from obc.operations.status import ENDED, RunState, State, duration, render, states, summary

CLEAR_SCREEN = "\x1b[H\x1b[2J\x1b[3J"
# Lines around the bars of running trainings: title, bar and summary of everything, blank lines, and
# the last line of a terminal, which a final line break would scroll.
OTHER_LINES = 9
BAR_WIDTH = 22
SHOWN_ERRORS = 4


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--watch", action="store_true",
                        help="repeat until every run is done or failed; in a file or pipe, or with "
                        "TERM=dumb: print a line for each change of state")  # fmt: skip


def status(options: argparse.Namespace) -> None:
    """Show the progress of every run, and the time left until all are done."""
    plan = read_plan(options)
    if options.watch:
        watch(plan, sys.stdout)
    else:
        print(render(states(plan)))


def watch(
    plan: Plan,
    stream: TextIO,
    every_seconds: float = 5.0,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Show the states again and again until every run is done or failed.

    On a terminal a screen is drawn in place: a bar for each running training and one for all of
    them. Otherwise, e.g. in a log or if TERM is dumb, there is a line for each run whose state
    changes.
    """
    before: dict[tuple[str, int], State] = {}
    console = Terminal(stream)
    while True:
        found = states(plan)
        if can_redraw(stream):
            stream.write(CLEAR_SCREEN)
            console.print(screen(plan, found, console.size.height))
            stream.flush()
        else:
            _print_changes(found, before, stream)
        before = {(state.run_id, state.seed): state.state for state in found}
        if all(state.state in ENDED for state in found):
            return
        sleep(every_seconds)


def screen(plan: Plan, found: Sequence[RunState], height: int) -> RenderableType:
    """The states as a screen of at most `height` lines."""
    running = [state for state in found if state.state == "running"]
    failed = [state for state in found if state.state == "failed"]
    errors = failed[-SHOWN_ERRORS:]
    room = max(2, (height - OTHER_LINES - len(errors)) // 2)
    bars = Table.grid(padding=(0, 1), expand=True)
    bars.add_column(width=BAR_WIDTH)
    bars.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    ended = sum(state.state in ENDED for state in found)
    bars.add_row(_bar(ended, len(found)), Text(f"{ended} of {len(found)} trainings", "bold"))
    for state in running[:room]:
        progress = state.progress
        part = (progress.iteration, progress.iterations) if progress else (0, 1)
        left = "" if state.seconds_left is None else f", {duration(state.seconds_left)} left"
        bars.add_row(_bar(*part), Text(f"{state.run_id} seed {state.seed}"))
        epoch = f"epoch {progress.epoch}/{progress.epochs}" if progress else "starting"
        note = f" ({state.note})" if state.note else ""
        bars.add_row("", Text(f"{epoch}{left}{note}", "dim"))
    more = len(running) - room
    title = Text(f"{plan.results}", "bold", no_wrap=True, overflow="ellipsis")
    parts: list[RenderableType] = [title, Text(""), bars]
    parts += [Text(f"and {more} more that are running")] if more > 0 else []
    parts += [_error(state) for state in errors]
    return Group(*parts, Text(""), Text(summary(found)))


def _bar(done: float, of: float) -> ProgressBar:
    return ProgressBar(total=max(of, 1), completed=done, width=BAR_WIDTH)


def _error(state: RunState) -> Text:
    text = f"failed: {state.run_id} seed {state.seed}: {state.note}"
    return Text(text, "red", no_wrap=True, overflow="ellipsis")


def _print_changes(
    found: Sequence[RunState], before: dict[tuple[str, int], State], stream: TextIO
) -> None:
    changed = [state for state in found if before.get((state.run_id, state.seed)) != state.state]
    clock = datetime.now().strftime("%H:%M:%S")
    for state in changed:
        note = f" ({state.note})" if state.note else ""
        print(f"{clock} {state.run_id} seed {state.seed}: {state.state}{note}", file=stream)
    if changed:
        print(f"{clock} {summary(found)}", file=stream, flush=True)


COMMANDS = (
    Command(
        "status", "show the state, progress and time left of the runs", "for you",
        _arguments, status,
        """\
obc status                                  runs of the newest plan
obc status results/mini/plan.json --watch   progress bars, until all runs are done or failed""",
    ),
)  # fmt: skip

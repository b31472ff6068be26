"""Show the progress of a compilation: `python obc/operations/compilation.py LABEL COMMAND ...`.

Runs the command and shows the count in ninja's lines `[12/120] c++ ...`: on a terminal in one line
that is updated, otherwise in a new line at most every half minute. Other output is shown only if
the command fails. The Makefile calls this file before any package is installed, so it imports only
the standard library.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TextIO

COUNT = re.compile(r"^\s*\[(\d+)/(\d+)\]\s")
PLAIN_LINE_SECONDS = 30.0
SHOWN_OF_A_FAILURE = 40


def run(label: str, command: Sequence[str], stream: TextIO) -> int:
    """Run a command, show its progress and return its exit status."""
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    ) as process:
        last = show(label, process.stdout or (), stream)
    if process.returncode:
        stream.write("".join(last))
    return process.returncode


def show(
    label: str,
    lines: Iterable[str],
    stream: TextIO,
    clock: Callable[[], float] = time.monotonic,
) -> Sequence[str]:
    """Show the counts in the lines; return the last lines, to be shown if the command failed.

    Args:
        clock: returns the time in seconds.
    """
    on_terminal = stream.isatty()
    last: deque[str] = deque(maxlen=SHOWN_OF_A_FAILURE)
    first: tuple[float, int] | None = None
    shown = clock()
    for line in lines:
        last.append(line)
        found = COUNT.match(line)
        if not found:
            continue
        done, count, now = int(found[1]), int(found[2]), clock()
        first = first or (now, done)
        text = f"{label} [{done}/{count}]{_left(now - first[0], done - first[1], count - done)}"
        if on_terminal:
            stream.write(f"\r\x1b[K{text}")
        elif now - shown >= PLAIN_LINE_SECONDS or done == count:
            stream.write(f"{text}\n")
            shown = now
        stream.flush()
    if on_terminal and first:
        stream.write("\n")
        stream.flush()
    return tuple(last)


def _left(seconds: float, done: int, to_do: int) -> str:
    """Text with the time left at the pace so far; empty if it is unknown or nothing is left."""
    if not done or not to_do:
        return ""
    left = seconds / done * to_do
    return f", about {left / 60:.0f} min left" if left >= 60 else ", less than a minute left"


if __name__ == "__main__":
    try:
        sys.exit(run(sys.argv[1], sys.argv[2:], sys.stdout))
    except KeyboardInterrupt:
        sys.exit(130)

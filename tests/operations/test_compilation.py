"""MMCV's compilation as [n/m]: on a terminal in one line, else a line now and then."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

from obc.operations import compilation

NINJA = ["Building wheel\n", "  [1/4] c++ a.cpp\n", "warning: [x]\n", "  [2/4] c++ b.cpp\n",
         "  [3/4] c++ c.cpp\n", "  [4/4] c++ d.cpp\n", "done\n"]  # fmt: skip


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(stream: io.StringIO, seconds_a_file: float) -> list[str]:
    ticks = iter(range(100))
    compilation.show("MMCV", NINJA, stream, clock=lambda: next(ticks) * seconds_a_file)
    return stream.getvalue().replace("\r\x1b[K", "\n").splitlines()


def test_a_terminal_has_one_line_that_is_written_over() -> None:
    stream = Terminal()
    lines = shown(stream, 90.0)
    assert lines[1:] == [
        "MMCV [1/4]", "MMCV [2/4], about 3 min left", "MMCV [3/4], about 2 min left", "MMCV [4/4]",
    ]  # fmt: skip
    assert stream.getvalue().count("\n") == 1


def test_a_log_has_a_line_now_and_then_and_the_last() -> None:
    assert shown(io.StringIO(), 90.0)[0] == "MMCV [1/4]"
    assert shown(io.StringIO(), 1.0) == ["MMCV [4/4]"]


@pytest.mark.parametrize(
    ("status", "said"), [(0, "MMCV [1/1]\n"), (3, "MMCV [1/1]\n[1/1] c++ a\n")]
)
def test_the_output_is_shown_only_of_a_command_that_failed(status: int, said: str) -> None:
    script = f"print('[1/1] c++ a'); raise SystemExit({status})"
    # As the Makefile calls it: by its path, with nothing but the standard library.
    done = subprocess.run(
        [sys.executable, "-I", Path(compilation.__file__), "MMCV", sys.executable, "-c", script],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (status, said)

"""Snakemake as `make reproduce` calls it: the order of words, Ctrl-C, and nothing wider than 80."""

from __future__ import annotations

import os
import pty
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
from conftest import ENVIRONMENT, PATIENCE, Workspace, copy_project

from obc.cli.snakemake import main, target_after_config

CTRL_C = b"\x03"


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["table1", "--config", "scale=mini", "seeds=[0]"], None),
        (["--config", "scale=mini", "table1"], "table1"),
        (["--config", "scale=mini", "--cores", "2", "table1"], None),
        (["-C", "scale=mini", "table1", "-n"], "table1"),
    ],
)
def test_a_target_after_config_is_found(words: list[str], found: str | None) -> None:
    assert target_after_config(words) == found


def test_the_right_order_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", "scale=mini", "table1"]) == 1
    assert "--config table1: not key=value; targets go before --config" in capsys.readouterr().err


class Session:
    """Snakemake on a terminal of 80 columns."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        command = [sys.executable, "-m", "obc.cli.snakemake", *arguments]
        self.shown = ""
        self.process, self.terminal = pty.fork()
        if not self.process:
            # A shell that runs the tests in its background has SIGINT ignored, by its children too.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.chdir(folder)
            os.execvpe(command[0], command, {**ENVIRONMENT, "TERM": "xterm", "COLUMNS": "80"})

    def read(self, until: str | None = None) -> None:
        """What is shown until some text is there, or until the end."""
        deadline = time.monotonic() + PATIENCE
        while until is None or until not in self.shown:
            assert time.monotonic() < deadline
            try:
                new = os.read(self.terminal, 65536)
            except OSError:  # the other end is closed
                return
            if not new:
                return
            self.shown += new.decode("utf-8", "replace")

    def interrupt(self) -> tuple[int, str]:
        """Press Ctrl-C; the exit status, and what is shown from then on."""
        before = len(self.shown)
        os.write(self.terminal, CTRL_C)
        self.read()
        _, status = os.waitpid(self.process, 0)
        os.close(self.terminal)
        return os.waitstatus_to_exitcode(status), self.shown[before:]


def lines_that_stay(shown: str) -> list[str]:
    """The lines that were not written over."""
    lines = (line.replace("^C", "").split("\r\x1b[K")[-1] for line in shown.split("\r\n"))
    return [line for line in lines if line]


def test_ctrl_c_before_the_first_job_is_a_line(tmp_path: Path) -> None:
    copy_project(tmp_path)
    session = Session(tmp_path, "--cores", "1", "table1")
    session.read("beyond the paper")  # the plan is there, the DAG is not
    status, shown = session.interrupt()
    assert status == 128 + signal.SIGINT
    assert len(lines_that_stay(shown.partition("\n")[2] or shown)) == 1
    assert "the same command starts again" in shown or "call again to go on" in shown
    assert "Traceback" not in session.shown


@pytest.mark.slow
def test_ctrl_c_in_a_training_leaves_a_page_and_a_line(
    workspace: Workspace, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(workspace.folder, tmp_path / "suite"))
    session = Session(folder, "--cores", "2", "table3")
    session.read(": train table1")
    status, shown = session.interrupt()
    assert status == 128 + signal.SIGINT
    assert lines_that_stay(shown) == [
        "stopped, 0 of 8 jobs done: results/smoke/report.html; call again to go on"
    ]
    page = (folder / "results/smoke/report.html").read_text()
    assert page.rstrip().endswith("</html>")
    assert "not run" in page
    assert max(map(len, lines_that_stay(session.shown))) <= 80

"""What a person sees while Snakemake runs, by the records of Snakemake and what jobs print."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from obc.config.load_plan import load_plan
from obc.config.plan import Plan
from obc.operations.workflow_display import (
    CLEAR_LINE,
    RED,
    WorkflowDisplay,
    attach,
    bar,
    clipped,
    wrapped,
)
from obc.runs.lock import training_lock

OF_JOBS = {"rule_msg": None, "log": ["results/smoke/logs/table-table1.log"]}


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture(scope="module")
def plan() -> Plan:
    return load_plan({"scale": "smoke"})


@pytest.fixture
def full(plan: Plan) -> str:
    return plan.run_of(plan.tables["table1"].keyed_rows["full"]).run_id


@pytest.fixture
def show(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[io.StringIO], WorkflowDisplay]]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    made: list[WorkflowDisplay] = []

    def show(stream: io.StringIO) -> WorkflowDisplay:
        default = logging.StreamHandler(stream)
        made.append(WorkflowDisplay(plan, default, tmp_path / "jobs.out"))
        return made[-1]

    yield show
    for display in made:
        display.close()


def tell(display: WorkflowDisplay, text: str | None, level: int = logging.INFO, **extra) -> None:
    record = logging.makeLogRecord({"msg": text, "levelno": level, **extra})
    display.handle(record)


def jobs(full: str) -> dict:
    of_run = {"results": "results/smoke", "run_id": full, "seed": "0"}
    return {7: ("train", of_run, 1), 8: ("table", {"table": "table1"}, 1)}


def test_jobs_are_shown_by_name_and_snakemake_s_lines_are_not(show, full: str) -> None:
    stream = io.StringIO()
    display = show(stream)
    tell(display, "Building DAG of jobs...")
    display.start(jobs(full), at_once=2)
    tell(display, "Select jobs to execute...")
    tell(display, "Execute 1 jobs...", event="job_started", jobs=[7])
    display.output.write_text(
        f"{full} seed 0: epoch 1/2, iteration 3/6, loss 1.0, 9.0 images/s, 0:01 left\n"
        f"trained {full} seed 0 in 3.0 s\nhalf a li"
    )
    tell(display, "Finished jobid: 7", event="job_finished", job_id=7)
    tell(display, "Execute 1 jobs...", event="job_started", jobs=[8])
    tell(display, "Finished jobid: 8", event="job_finished", job_id=8)
    display.end()
    first, *lines = stream.getvalue().splitlines()
    assert re.fullmatch(r"2 jobs, about \d+ s", first)
    assert lines == ["trained table1 full, seed 0 in 3.0 s", "table table1: done", "done in 0 s"]


def test_the_time_left_is_what_a_running_training_reports(show, plan: Plan, full: str) -> None:
    stream = io.StringIO()
    display = show(stream)
    folder = plan.run_folder(full, 0)
    folder.work.path.mkdir(parents=True)
    now = datetime.now(UTC).isoformat()
    report = {"epoch": 1, "epochs": 2, "iteration": 3, "iterations": 6, "seconds_left": 7200.0}
    folder.work.progress.write_text(json.dumps({**report, "updated": now}))
    with training_lock(folder):
        display.start(jobs(full), at_once=1)
        tell(display, None, event="job_started", jobs=[7])
        display.read_reports()
        assert display._progress() == "0 of 2 jobs done, about 2 h 00 min left"


def test_runs_that_cannot_be_read_leave_the_former_reports(
    show, full: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(plan: Plan) -> None:
        raise OSError("Stale file handle")

    display = show(io.StringIO())
    display.start(jobs(full), at_once=1)
    display.jobs[7].timed.reported = 7200.0
    monkeypatch.setattr("obc.operations.workflow_display.states", unreadable)
    display.read_reports()
    assert display._progress() == "0 of 2 jobs done, about 2 h 00 min left"


def test_a_job_that_is_tried_again_has_not_failed(show, full: str) -> None:
    stream = io.StringIO()
    display = show(stream)
    display.start(jobs(full), at_once=1)
    tell(display, None, event="job_started", jobs=[7])
    tell(display, "", logging.ERROR, event="job_error", jobid=7, **OF_JOBS)
    tell(display, None, event="job_started", jobs=[7])
    assert display.jobs[7].timed.running
    tell(display, None, event="job_finished", job_id=7)
    display.end()
    assert stream.getvalue().splitlines()[-1].startswith("done in")


def test_nothing_is_said_of_the_time_before_images_are_counted(
    show, plan: Plan, full: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("obc.operations.workflow_display.costs", lambda plan: [])
    stream = io.StringIO()
    display = show(stream)
    display.start(jobs(full), at_once=1)
    assert stream.getvalue() == "2 jobs\n"
    assert display._progress() == "0 of 2 jobs done, time left not known yet"


def test_a_terminal_has_a_bar_and_nothing_wider_than_it(show, full: str) -> None:
    stream = Terminal()
    display = show(stream)
    display.start(jobs(full), at_once=2)
    tell(display, None, event="job_started", jobs=[7])
    tell(display, "word " * 40, logging.WARNING)
    with display.lock:
        display._draw()
    drawn = stream.getvalue().split(CLEAR_LINE)[-1]
    assert "0 of 2 jobs done, about" in drawn
    assert "train table1 full" in drawn
    display.end()
    assert stream.getvalue().endswith("done in 0 s\n")
    shown = re.split(r"\n|\r\x1b\[K", stream.getvalue())
    assert max(map(len, shown)) <= 80


def test_a_failure_is_named_once_with_its_log_and_counted(show, full: str) -> None:
    stream = io.StringIO()
    display = show(stream)
    display.start(jobs(full), at_once=2)
    tell(display, None, event="job_started", jobs=[7, 8])
    display.output.write_text(f"obc train: FAILED: {full} seed 0: TrainingDiverged: nan\n")
    failed = "Command 'x' returned non-zero exit status 1."
    tell(display, failed, logging.ERROR, event="error", exception="RuleException")
    tell(display, "", logging.ERROR, event="job_error", jobid=7, **OF_JOBS)
    tell(display, "", logging.ERROR, event="job_error", jobid=8, **OF_JOBS)
    tell(display, "Exiting because a job execution failed.", logging.ERROR)
    display.end()
    tell(display, "At least one job did not complete successfully.", logging.ERROR, event="error")
    _, *lines = stream.getvalue().splitlines()
    assert lines == [
        f"obc train: FAILED: {full} seed 0: TrainingDiverged: nan",  # for `obc why`
        "failed: train table1 full, seed 0",
        "failed: table table1; log: results/smoke/logs/table-table1.log",
        "2 failed, 0 of 2 jobs done; `obc status` lists them",
    ]


def test_another_error_of_snakemake_is_shown(show, full: str) -> None:
    stream = io.StringIO()
    display = show(stream)
    display.start(jobs(full), at_once=2)
    tell(display, "Missing files after 5 seconds", logging.ERROR, event="error")
    assert "Missing files after 5 seconds\n" in stream.getvalue()


def test_after_ctrl_c_there_is_one_line(show, full: str) -> None:
    stream = io.StringIO()
    display = show(stream)
    display.start(jobs(full), at_once=2)
    before = len(stream.getvalue())
    tell(display, None, event="job_started", jobs=[7])
    with pytest.raises(KeyboardInterrupt):
        display.interrupt(2, None)
    display.interrupt(2, None)  # a second one raises nothing
    display.output.write_text(f"{full} seed 0: stopped by SIGINT after iteration 3\n")
    tell(display, "Terminating processes on user request", logging.INFO)
    tell(display, "", logging.ERROR, event="job_error", jobid=7, **OF_JOBS)
    display.plan.results.mkdir(parents=True)
    (display.plan.results / "report.html").touch()
    display.end()
    tell(display, "At least one job did not complete successfully.", logging.ERROR, event="error")
    display.close()
    said = stream.getvalue()[before:]
    assert said == "stopped, 0 of 2 jobs done: results/smoke/report.html; call again to go on\n"
    assert len(said) <= 80


def test_where_no_job_runs_snakemake_says_why(show) -> None:
    stream = io.StringIO()
    display = show(stream)
    tell(display, "Nothing to be done")
    assert stream.getvalue() == ""
    display.close()
    assert stream.getvalue() == "Nothing to be done\n"
    assert not display.output.exists()


def test_messages_of_a_cluster_are_snakemake_s_own(show, full: str) -> None:
    stream = io.StringIO()
    display = show(stream)
    display.start(jobs(full), at_once=0)
    tell(display, "Job 7 has been submitted with SLURM jobid 12")
    tell(display, "rule train:", event="job_info")
    assert stream.getvalue() == "Job 7 has been submitted with SLURM jobid 12\n"


def test_no_color_is_respected(show, full: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    show(stream).say("failed: x", failed=True)
    assert RED in stream.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    show(stream).say("failed: x", failed=True)
    assert stream.getvalue() == "failed: x\n"


@pytest.mark.parametrize(
    ("asked", "attached"),
    [({}, True), ({"dryrun": True}, False), ({"printshellcmds": True}, False),
     ({"verbose": True}, False), ({"quiet": ["Quietness.ALL"]}, False),
     ({"quiet": ["Quietness.HOST"]}, True)],
)  # fmt: skip
def test_who_asks_for_snakemake_s_own_lines_has_them(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: dict, attached: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr("sys.excepthook", None)
    logger = logging.Logger("snakemake")
    default = logging.StreamHandler(io.StringIO())
    default.name = "DefaultStreamHandler"
    logger.addHandler(default)
    usual = {name: False for name in ("dryrun", "verbose", "debug_dag", "printshellcmds")}
    settings = SimpleNamespace(**{**usual, "quiet": None, "nocolor": False, **asked})
    display = attach(plan, logger, settings, tmp_path)
    assert (display is not None) == attached
    assert logger.handlers == [display or default]


def test_a_bar_is_made_of_what_the_terminal_has() -> None:
    assert bar(0.5, 4, "utf-8") == "━━──"
    assert bar(0.25, 4, "ascii") == "#---"
    assert bar(7.0, 4, None) == "####"


def test_lines_are_cut_or_broken_to_fit_and_paths_are_whole() -> None:
    assert clipped("a" * 10, 8) == "aaaaa..."
    path = "results/" + "x" * 30
    assert list(wrapped(f"  log: one {path}", 20)) == ["  log: one", f"    {path}"]

"""Terminal output while Snakemake runs: lines with job names, and a bar with the remaining time.

Snakemake's own lines name job ids, and jobs print to the same terminal. Here jobs print into a file
instead, and one handler of Snakemake's logger writes everything: above a bar on a terminal,
otherwise as plain lines. Snakemake's log file in .snakemake/log has the lines that are left out.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Literal

from obc.config.plan import Plan
from obc.io.terminal import can_redraw
from obc.operations.costs import START_SECONDS, costs
from obc.operations.run_names import job_name, with_names
from obc.operations.status import duration, states
from obc.operations.time_left import TimedJob, part_done, seconds_left

State = Literal["before", "showing", "beside", "ended"]
# Expected seconds of a job that neither trains nor evaluates, before any of its rule has ended.
SHORT_JOB = 5.0
TICK = 0.5
PLAIN_LINE_SECONDS = 60.0
# Interval at which the progress of running trainings is read from their folders.
REPORT_SECONDS = 15.0
BAR_WIDTH = 20
CLEAR_LINE = "\r\x1b[K"
RED, RESET = "\x1b[31m", "\x1b[0m"
# Trainings print this line every few seconds. It is left out: the bar shows the progress of all.
PROGRESS_LINE = re.compile(r": epoch \d+/\d+, iteration \d+/\d+, ")
# Rules whose jobs print their result themselves; for other rules it is printed here.
SPEAKING = ("train", "evaluate")
# Snakemake's own messages about failed jobs, left out because the job's message is shown.
OF_A_FAILED_JOB = re.compile(
    r"returned non-zero exit status|died with <Signals|Exiting because a job execution failed"
    r"|At least one job did not complete|Removing output files of failed job"
)
# The page exists before the job of rule page runs, because it is also written with each table.
INTERIM_PAGE_IS_THERE = re.compile(r"output files of rule page were not\s+present")
# The display of this process; empty if there is none.
_attached: list[WorkflowDisplay] = []
STOPPED_EARLY = "stopped before the first job; the same command starts again"


@dataclass
class ShownJob:
    """A job with its name and times.

    Attributes:
        training: run id and seed; None: the job does not train.
    """

    rule: str
    name: str
    timed: TimedJob
    training: tuple[str, int] | None = None


class WorkflowDisplay(logging.Handler):
    """A handler that replaces the default one of Snakemake's logger.

    Informative records before the first job are held back. They are shown if jobs are submitted to
    a cluster, and at the end if there was no job, e.g. that there is nothing to be done.

    Args:
        default: Snakemake's handler, whose stream and format are used.
        output: file that jobs print into; see `redirection`.
        captions: folder with the captions of the page.
        colors: whether failures are red on a terminal.
    """

    def __init__(
        self,
        plan: Plan,
        default: logging.StreamHandler,
        output: Path,
        captions: Path = Path("workflow/report"),
        colors: bool = True,
    ) -> None:
        super().__init__()
        self.plan = plan
        self.default = default
        self.stream = default.stream
        self.output = output
        self.captions = captions
        self.state: State = "before"
        self.interrupted = False
        self.jobs: dict[int, ShownJob] = {}
        self.at_once = 1
        self._kept: list[logging.LogRecord] = []
        self._unread = b""
        self._read = 0
        self._on_terminal = can_redraw(self.stream)
        self._colors = colors and self._on_terminal and "NO_COLOR" not in os.environ
        self._bar_is_there = False
        self._began = self._last_plain = self._last_report = time.monotonic()
        self._stop = threading.Event()
        output.parent.mkdir(parents=True, exist_ok=True)

    @property
    def redirection(self) -> str:
        """Beginning of a shell command that redirects a job's output into the file."""
        return f"exec >> {self.output} 2>&1; "

    # --- what happens ----------------------------------------------------------------------

    def start(self, jobs: Mapping[int, tuple[str, Mapping[str, str], int]], at_once: int) -> None:
        """Show the jobs from now on.

        Args:
            jobs: rule, wildcards and threads by Snakemake's job id.
            at_once: threads that run at the same time; 0: jobs are submitted to a cluster, and
                Snakemake's own messages about them are shown.
        """
        expected = {(cost.run_id, cost.seed): cost.seconds for cost in costs(self.plan)}
        processes = max(1, self.plan.gpus_per_run)
        with self.lock:
            self._began = self._last_plain = time.monotonic()
            for jobid, (rule, wildcards, threads) in jobs.items():
                seconds: float | None = START_SECONDS if rule == "evaluate" else SHORT_JOB
                training = None
                if rule == "train":
                    training = (wildcards["run_id"], int(wildcards["seed"]))
                    known = expected.get(training)
                    seconds = None if known is None else known / processes
                name = job_name(self.plan, rule, wildcards)
                self.jobs[jobid] = ShownJob(rule, name, TimedJob(rule, seconds, threads), training)
            if at_once:
                self.state, self.at_once = "showing", at_once
                count, left = len(self.jobs), self._left()
                about = "" if left is None else f", about {duration(left)}"
                self.say(f"{count} job{'s'[: count > 1]}{about}")
            else:
                self.state = "beside"
                self._release()
        threading.Thread(target=self._tick, daemon=True).start()

    def end(self) -> None:
        """Print one line: number of finished jobs, path of the page, and how to continue."""
        page = self.plan.results / "report.html"
        with self.lock:
            self._drain()
            done = sum(job.timed.ended is not None for job in self.jobs.values())
            failed = sum(job.timed.failed for job in self.jobs.values())
            done -= failed
            where = f": {page}" if page.exists() else ""
            of = f"{done} of {len(self.jobs)} jobs done"
            began, self.state = self.state != "before", "ended"
            self._clear_bar()
            if self.interrupted:
                self.say(f"stopped, {of}{where}; call again to go on", always=True)
            elif failed:
                self.say(f"{failed} failed, {of}{where}; `obc status` lists them")
            elif began:
                self.say(f"done in {duration(time.monotonic() - self._began)}{where}")

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        """Handle SIGINT: the first one stops Snakemake, which then waits for its jobs.

        Further ones are ignored, because they would end Snakemake with a traceback. Jobs receive
        every SIGINT themselves.
        """
        if not self.interrupted:
            self.interrupted = True
            raise KeyboardInterrupt

    def write_page(self) -> None:
        """Write the page from the results so far; on an error the previous page stays."""
        plan_file = self.plan.results / "plan.json"
        command = [sys.executable, "-m", "obc", "report", str(plan_file)]
        subprocess.run(
            [*command, "--captions", str(self.captions)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )

    # --- records of Snakemake --------------------------------------------------------------

    def emit(self, record: logging.LogRecord) -> None:
        """Show a record, or update the job that it is about."""
        if self.state == "before":
            if record.levelno < logging.WARNING:
                self._kept.append(record)
            elif not self.interrupted:
                self._kept.clear()
                self.default.handle(record)
            return
        event = str(getattr(record, "event", "") or "")
        if event in ("job_started", "job_finished", "job_error"):
            self._of_jobs(event, record)
        elif self.interrupted or INTERIM_PAGE_IS_THERE.search(record.getMessage()):
            return
        elif record.levelno >= logging.WARNING:
            if not OF_A_FAILED_JOB.search(record.getMessage()):
                self.say(self.default.format(record), failed=record.levelno >= logging.ERROR)
        elif self.state == "beside" and event not in ("job_info", "group_info", "shellcmd"):
            self.default.handle(record)

    def _of_jobs(self, event: str, record: logging.LogRecord) -> None:
        now = time.monotonic()
        if event == "job_started":
            for jobid in getattr(record, "jobs", ()):
                if job := self.jobs.get(jobid):
                    job.timed.started, job.timed.ended = now, None
                    job.timed.failed = False  # it may be a retry
            return
        self._drain()
        found: Any = getattr(record, "job_id" if event == "job_finished" else "jobid", None)
        job = self.jobs.get(found)
        if job is None or job.timed.ended is not None:
            return
        if job.timed.started is None:
            job.timed.started = now
        if event == "job_finished":
            job.timed.ended = now
            if job.rule not in SPEAKING:
                self.say(f"{job.name}: done")
        elif not self.interrupted:
            job.timed.ended, job.timed.failed = now, True
            logs = "" if job.rule in SPEAKING else "".join(f"; log: {x}" for x in record.log)  # type: ignore[attr-defined]
            self.say(f"failed: {job.name}{logs}", failed=True)

    # --- writing ---------------------------------------------------------------------------

    def say(self, text: str, *, failed: bool = False, always: bool = False) -> None:
        """Write lines, on a terminal above the bar and wrapped to the terminal's width.

        Args:
            failed: write in red.
            always: write even after an interruption, when other lines are left out.
        """
        if self.interrupted and not always:
            return
        with self.lock:
            lines = text.splitlines()
            if self._on_terminal:
                self._clear_bar()
                lines = [part for line in lines for part in wrapped(line, self._columns())]
            red, reset = (RED, RESET) if failed and self._colors else ("", "")
            self.stream.write("".join(f"{red}{line}{reset}\n" for line in lines))
            self.stream.flush()
            if self.state == "showing":
                self._draw()

    def close(self) -> None:
        """Show the records held back if no job ran, and remove the file that jobs printed into."""
        with self.lock:
            self._stop.set()
            self._drain()
            if self.state == "before" and not self.interrupted:
                self._release()
            self._clear_bar()
            self.output.unlink(missing_ok=True)
        super().close()

    def _release(self) -> None:
        for record in self._kept:
            self.default.handle(record)
        self._kept.clear()

    def _drain(self) -> None:
        """Show the complete lines that jobs have printed since the last call."""
        if not self.output.exists():
            return
        with self.output.open("rb") as file:
            file.seek(self._read)
            new = file.read()
        self._read += len(new)
        *lines, self._unread = (self._unread + new).split(b"\n")
        for line in lines:
            self._of_job_output(line.decode("utf-8", "replace").rstrip())

    def _of_job_output(self, line: str) -> None:
        if not line or PROGRESS_LINE.search(line):
            return
        failed = "FAILED: " in line  # keeps its run id, for `obc why`
        self.say(line if failed else with_names(self.plan, line), failed=failed)

    def _tick(self) -> None:
        while not self._stop.wait(TICK):
            due = time.monotonic() - self._last_report > REPORT_SECONDS
            if due and self.state == "showing":
                self.read_reports()
            with self.lock:
                self._drain()
                if self.state != "showing":
                    continue
                self._draw()
                waited = time.monotonic() - self._last_plain > PLAIN_LINE_SECONDS
                if waited and not self._on_terminal:
                    self.say(self._progress())
                    self._last_plain = time.monotonic()

    def read_reports(self) -> None:
        """Update the time left of running and waiting trainings from the running ones' reports.

        Files are read without the lock, which Snakemake needs for its messages. If a file of any
        run cannot be read, the former reports stay: an error would end the display's thread.
        """
        try:
            left = {(one.run_id, one.seed): one.seconds_left for one in states(self.plan)}
        except Exception:
            left = {}
        now = time.monotonic()
        with self.lock:
            self._last_report = now
            for job in self.jobs.values():
                seconds = left.get(job.training) if job.training else None
                if seconds is not None:
                    job.timed.reported, job.timed.reported_at = seconds, now

    def _left(self) -> float | None:
        timed = [job.timed for job in self.jobs.values()]
        return seconds_left(timed, time.monotonic(), self.at_once)

    def _progress(self) -> str:
        ended = sum(job.timed.ended is not None for job in self.jobs.values())
        left = self._left()
        about = "time left not known yet" if left is None else f"about {duration(left)} left"
        return f"{ended} of {len(self.jobs)} jobs done, {about}"

    def _draw(self) -> None:
        if not self._on_terminal:
            return
        part = part_done((job.timed for job in self.jobs.values()), time.monotonic())
        if self.interrupted:
            text = "stopping: trainings save where they are"
        else:
            running = "; ".join(job.name for job in self.jobs.values() if job.timed.running)
            text = f"{self._progress()}{': ' if running else ''}{running}"
        line = clipped(f"{bar(part, BAR_WIDTH, self.stream.encoding)} {text}", self._columns() - 1)
        self.stream.write(f"{CLEAR_LINE}{line}")
        self.stream.flush()
        self._bar_is_there = True

    def _clear_bar(self) -> None:
        if self._bar_is_there:
            self.stream.write(CLEAR_LINE)
            self._bar_is_there = False

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(self.stream.fileno()).columns or 80
        except OSError:
            return 80


def attach(
    plan: Plan, logger: logging.Logger, settings: Any, captions: Path
) -> WorkflowDisplay | None:
    """Replace the default handler of Snakemake's logger by a display.

    Returns None, and leaves Snakemake's output unchanged, for a dry run, if more (`-p`,
    `--verbose`) or less (`--quiet all`) output is asked for, or if a logger plugin writes to the
    terminal.

    Args:
        settings: Snakemake's output settings.
        captions: folder with the captions of the page.
    """
    default = next((one for one in logger.handlers if one.name == "DefaultStreamHandler"), None)
    if not isinstance(default, logging.StreamHandler):
        return None
    if "NO_COLOR" in os.environ:
        default.nocolor = True  # type: ignore[attr-defined]
    quiet = {str(one).rpartition(".")[2].lower() for one in settings.quiet or ()}
    more = settings.verbose or settings.debug_dag or settings.printshellcmds
    if settings.dryrun or more or "all" in quiet:
        return None
    output = Path(".snakemake/log") / f"jobs-{os.getpid()}.out"
    display = WorkflowDisplay(plan, default, output, captions, not settings.nocolor)
    _attached.append(display)
    logger.removeHandler(default)
    logger.addHandler(display)
    if threading.current_thread() is threading.main_thread():
        # If Ctrl-C is ignored (nohup), it must stay ignored.
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, display.interrupt)
        sys.excepthook = without_traceback_of_interrupts
    return display


def was_interrupted() -> bool:
    """Whether Ctrl-C stopped Snakemake in this process."""
    return any(display.interrupted for display in _attached)


def say_stopped_early() -> None:
    """Print a line about an interruption that came while Snakemake was not running jobs.

    If the jobs were already announced, the page is written too. After the display's last line
    nothing is printed.
    """
    for display in _attached:
        if display.state == "ended":
            return
        if display.state in ("showing", "beside"):
            display.write_page()
            display.end()
            return
    print(STOPPED_EARLY, file=sys.stderr)


def without_traceback_of_interrupts(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    """An `excepthook` that prints a line instead of a traceback for an interruption."""
    if issubclass(kind, KeyboardInterrupt):
        say_stopped_early()
    else:
        sys.__excepthook__(kind, error, traceback)


def bar(part: float, width: int, encoding: str | None) -> str:
    """A bar of `width` characters, of which the fraction `part` (0 to 1) is full."""
    full, empty = "━", "─"
    try:
        (full + empty).encode(encoding or "ascii")
    except UnicodeEncodeError:
        full, empty = "#", "-"
    count = int(min(max(part, 0.0), 1.0) * width)
    return full * count + empty * (width - count)


def clipped(text: str, columns: int) -> str:
    """Shorten a text to a number of columns; `...` replaces an end that does not fit."""
    return text if len(text) <= columns else f"{text[: max(columns - 3, 0)]}..."


def wrapped(line: str, columns: int) -> Iterable[str]:
    """Break a line at spaces into parts that fit, the further ones indented; keep paths whole."""
    indent = line[: len(line) - len(line.lstrip())] + "  "
    return textwrap.wrap(
        line, columns, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    ) or [""]

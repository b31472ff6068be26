"""The state and progress of every run of a plan, read from the runs' folders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ValidationError
from tabulate import tabulate

from obc.config.plan import Plan
from obc.config.run_folder import RunFolder
from obc.io.files import read_json, read_record
from obc.operations.costs import (
    Rate,
    device_of,
    finished_rates,
    is_device,
    not_evaluated,
    throughput,
    training_seconds,
)
from obc.runs.records import evaluation_failure
from obc.runs.status import run_status, shown_tables

State = Literal["waiting", "running", "interrupted", "failed", "trained", "done"]
Reason = Literal[
    "starting",
    "silent",
    "signal",
    "killed",
    "training failed",
    "evaluation failed",
    "not evaluated",
]
# Progress is written every few seconds; it stops if a GPU hangs or the disk is full.
SILENT_MINUTES = 5.0
ENDED: tuple[State, ...] = ("done", "failed")


class Progress(BaseModel):
    """The progress note of a run, which its training writes every few seconds."""

    epoch: int
    epochs: int
    iteration: int
    iterations: int
    loss: float | None = None
    images_per_second: float | None = None
    seconds_left: float | None = None
    updated: datetime
    device: str | None = None
    host: str | None = None
    job: str | int | None = None


@dataclass(frozen=True)
class RunState:
    """One training of a plan at one moment.

    Attributes:
        resumed: how often the training was resumed from a checkpoint.
        progress: progress note of the newest session; None before its first note, and if the run is
            waiting, trained or done.
        reason: reason for the state, if the state alone does not tell it.
        note: further information as text, e.g. the error.
        seconds_left: remaining seconds of this training; None: unknown.
    """

    run_id: str
    seed: int
    state: State
    resumed: int = 0
    progress: Progress | None = None
    reason: Reason | None = None
    note: str = ""
    seconds_left: float | None = None


# --- reading -----------------------------------------------------------------------------------


def states(
    plan: Plan, now: datetime | None = None, tables: Iterable[str] | None = None
) -> list[RunState]:
    """Return the state of every training behind the given tables, starting weights first.

    Args:
        now: present time, up to which silence is measured; None: by the clock.
        tables: names of tables and figures; None: those of `shown_tables`.
    """
    now = now or datetime.now(UTC)
    shown = set(shown_tables(plan) if tables is None else tables)
    keys = [
        (run_id, seed)
        for run_id in plan.trainings
        if shown & plan.tables_needing(run_id)
        for seed in plan.seeds_of(run_id)
    ]
    found = [_look(plan, run_id, seed, now, shown) for run_id, seed in keys]
    rates = _rates(plan, found)
    return [_with_time_left(plan, state, rates) for state in found]


def read_progress(folder: RunFolder) -> Progress | None:
    """Read the progress note of a run's folder; None: it is missing or damaged."""
    record = read_record(folder.work.progress)
    if record is None:
        return None
    try:
        progress = Progress.model_validate(record)
    except ValidationError:
        return None
    # A time without a zone is in UTC, as every other time of a run.
    updated = progress.updated
    zoned = updated if updated.tzinfo else updated.replace(tzinfo=UTC)
    return progress.model_copy(update={"updated": zoned})


def read_sessions(folder: RunFolder) -> list[dict[str, Any]]:
    """Return the sessions of a training, finished or not, oldest first."""
    record = read_record(folder.record) or {}
    found = read_json(folder.work.sessions) or record.get("sessions")
    return [session for session in found or [] if isinstance(session, dict)]


def _look(plan: Plan, run_id: str, seed: int, now: datetime, tables: set[str]) -> RunState:
    folder = plan.run_folder(run_id, seed)
    sessions = read_sessions(folder)
    resumed = sum((session.get("resumed_from") or 0) > 0 for session in sessions)
    progress = read_progress(folder)
    state, reason, note = _state(plan, run_id, folder, bool(sessions), tables)
    if state == "running":
        reason, note = _silence(progress, now)
    if state in ("trained", "done", "waiting"):
        progress = None
    return RunState(run_id, seed, state, resumed, progress, reason, note)


def _state(
    plan: Plan, run_id: str, folder: RunFolder, started: bool, tables: set[str]
) -> tuple[State, Reason | None, str]:
    """State, reason and note of a run."""
    status = run_status(folder)
    if status == "trained":
        return _state_of_trained(folder, not_evaluated(plan, run_id, folder, tables))
    if status == "failed":
        failure = read_record(folder.work.failed) or {}
        error = str(failure.get("error", "its note cannot be read")).splitlines()[0]
        return "failed", "training failed", error
    if status == "running":
        return "running", None, ""
    interruption = read_record(folder.work.interrupted) or {}
    if "signal" in interruption:
        return "interrupted", "signal", str(interruption["signal"])
    # SIGKILL, out of memory and power loss leave a process no time for a note.
    if started or status == "interrupted":
        return "interrupted", "killed", "killed without a note"
    return "waiting", None, ""


def _state_of_trained(
    folder: RunFolder, missing: Sequence[str]
) -> tuple[State, Reason | None, str]:
    failures = [evaluation_failure(folder, decode) for decode in missing]
    if not missing:
        return "done", None, ""
    if None in failures:
        return "trained", "not evaluated", f"not evaluated: {', '.join(missing)}"
    error = str(failures[0].get("error")).splitlines()[0]
    return "failed", "evaluation failed", f"evaluation ({missing[0]}): {error}"


def _silence(progress: Progress | None, now: datetime) -> tuple[Reason | None, str]:
    if progress is None:
        return "starting", "starting"
    minutes = (now - progress.updated).total_seconds() / 60
    if minutes > SILENT_MINUTES:
        return "silent", f"silent for {minutes:.0f} min"
    return None, ""


def _rates(plan: Plan, found: Sequence[RunState]) -> list[Rate]:
    """Return throughputs of running trainings, and of finished ones on the same kind of device."""
    processes = max(1, plan.gpus_per_run)
    running = [
        Rate(
            plan.trainings[state.run_id].resolved,
            state.progress.images_per_second / processes,
            state.progress.device or "",
        )
        for state in found
        if state.state == "running" and state.progress and state.progress.images_per_second
    ]
    devices = {rate.device for rate in running}
    finished = finished_rates(plan)
    if not running:
        return [rate for rate in finished if is_device(rate.device, device_of(plan, None), None)]
    return [*(rate for rate in finished if rate.device in devices), *running]


def _with_time_left(plan: Plan, state: RunState, rates: Sequence[Rate]) -> RunState:
    """Return the state with its time left, including evaluations unless the training runs."""
    seconds = None
    if state.state == "running" and state.progress is not None:
        seconds = state.progress.seconds_left
    elif state.state in ("waiting", "interrupted"):
        found = throughput(plan, plan.trainings[state.run_id].resolved, rates, None)
        if found is not None:
            whole = training_seconds(plan, state.run_id, found[0])
            devices, progress = max(1, plan.gpus_per_run), state.progress
            done = progress.iteration / max(progress.iterations, 1) if progress else 0.0
            seconds = None if whole is None else whole / devices * (1 - done)
    return replace(state, seconds_left=seconds)


# --- showing -----------------------------------------------------------------------------------


def render(found: Sequence[RunState]) -> str:
    """Return a line for each run, then the number of runs in each state and the time left."""
    lines = [
        (
            state.run_id,
            f"seed {state.seed}",
            state.state,
            _progress_text(state),
            {0: "", 1: "resumed once"}.get(state.resumed, f"resumed {state.resumed} times"),
            state.note[:80],
        )
        for state in found
    ]
    return f"{tabulate(lines, tablefmt='plain')}\n\n{summary(found)}"


def summary(found: Sequence[RunState]) -> str:
    """Return the number of runs in each state, and the time left at the present pace."""
    counts = Counter(state.state for state in found)
    said = ", ".join(f"{count} {name}" for name, count in counts.items())
    return f"{len(found)} trainings: {said}. {_overall(found)}".strip()


def _overall(found: Sequence[RunState]) -> str:
    running = [state for state in found if state.state == "running"]
    to_come = [state for state in found if state.state in ("waiting", "interrupted")]
    if not running:
        return "Nothing is running." if to_come else ""
    left = [state.seconds_left for state in (*running, *to_come)]
    if None in left:
        return "Time left: not known before each of the running ones has reported."
    longest = max(state.seconds_left for state in running)
    seconds = max(sum(left) / len(running), longest)
    return f"About {duration(seconds)} left with {len(running)} at a time."


def _progress_text(state: RunState) -> str:
    progress = state.progress
    if progress is None:
        return ""
    parts = [
        f"epoch {progress.epoch}/{progress.epochs}",
        f"iteration {progress.iteration}/{progress.iterations}",
    ]
    if state.state == "running":
        parts += [f"loss {progress.loss:.3f}"] if progress.loss is not None else []
        if progress.images_per_second is not None:
            parts.append(f"{progress.images_per_second:.1f} images/s")
        if state.seconds_left is not None:
            parts.append(f"{duration(state.seconds_left)} left")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """Format a time for people: `40 s`, `12 min`, `3 h 20 min`, `2 d 5 h`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes:02d} min"
    return f"{hours // 24} d {hours % 24} h"

"""One screen about one run: what state it is in, why, and the command to try again."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

from obc.operations.estimate import is_done, not_evaluated
from obc.operations.status import RunState, duration, read_sessions, states
from obc.plan import Plan
from obc.provenance import TRAINING_CODE, code_digest
from obc.records import last_lines, read_record
from obc.report.freshness import other_versions
from obc.runs import run_status
from obc.spec_errors import ConfigError


def find_run(plan: Plan, beginning: str) -> str:
    """The run id that starts with `beginning`.

    Raises:
        ConfigError: none does, or several do.
    """
    if beginning in plan.trainings:
        return beginning
    found = [run_id for run_id in plan.trainings if run_id.startswith(beginning)]
    if len(found) == 1:
        return found[0]
    what = "several runs start" if found else "no run starts"
    known = "\n  ".join(found or plan.trainings)
    raise ConfigError(f"{what} with {beginning!r}; name one of\n  {known}")


def explain_run(plan: Plan, plan_file: Path, run_id: str, seed: int | None = None) -> str:
    """Why a run has no number, or an old one, as text.

    Args:
        plan_file: where the plan lies, for the commands.
        seed: None: the first that is not done.

    Raises:
        ConfigError: the plan does not train this run with that seed.
    """
    seeds = plan.seeds_of(run_id)
    if seed is None:
        seed = next((s for s in seeds if not is_done(plan, run_id, s)), seeds[0])
    if seed not in seeds:
        raise ConfigError(
            f"--seed {seed}: {run_id} is trained with {', '.join(map(str, seeds))} only"
        )
    folder = plan.run_folder(run_id, seed)
    (state,) = (s for s in states(plan) if (s.run_id, s.seed) == (run_id, seed))
    tables = plan.trainings[run_id].tables
    use = f"for {', '.join(tables)}" if tables else "starting weights of other runs"
    facts = {
        **_reasons(plan, run_id, folder, state),
        "folder": str(folder),
        **_process(folder, state),
        "checkpoint": _checkpoint(folder),
        "try again": _again(plan, plan_file, run_id, seed, state),
    }
    lines = [f"{run_id} seed {seed}: {state.state}  ({use})"]
    lines += [f"  {name}: {text}" for name, text in facts.items() if text]
    log = _log(plan, run_id, folder, state)
    if log is not None:
        lines += [f"  log: {log}", *(f"    | {line}" for line in last_lines(log))]
    return "\n".join(lines)


def _reasons(plan: Plan, run_id: str, folder: Path, state: RunState) -> dict[str, str]:
    """Why the run is in its state, in one or two sentences."""
    if state.state in ("trained", "done"):
        return _of_finished(plan, run_id, folder, state)
    if state.state == "failed":
        failure = read_record(folder / "work" / "failed.json") or {}
        at = failure.get("time")
        return {"why": state.note + (f" ({at})" if at else "")}
    if state.state == "interrupted":
        note = read_record(folder / "work" / "interrupted.json") or {}
        if "signal" not in note:
            return {"why": "killed without a note: SIGKILL, out of memory or power loss"}
        return {
            "why": f"stopped by {note['signal']} after iteration {note.get('iteration', '?')} "
            f"({note.get('time', 'no time noted')})"
        }
    if state.state == "running":
        return {"why": f"it is being trained{f': {state.note}' if state.note else ''}"}
    return {"why": f"never started; {_waits_for(plan, run_id)}"}


def _of_finished(plan: Plan, run_id: str, folder: Path, state: RunState) -> dict[str, str]:
    record = read_record(folder / "run.json")
    if record is None:
        return {"why": f"{folder / 'run.json'} cannot be read; train the run again"}
    reasons = {"why": state.note or "nothing is missing"}
    if record.get("imported"):
        reasons["weights"] = f"imported from {record['imported'].get('path')}"
    others = other_versions(plan, run_id, record, code_digest(TRAINING_CODE))
    if others:
        kept = plan.scale.runtime.keep_weights
        remedy = "the scale keeps weights" if kept else "snakemake trains it again"
        reasons["stale"] = f"made with other {' and other '.join(others)}; {remedy}"
    spoilt = [
        path.name
        for path in sorted(folder.glob("metrics.*.json"))
        if (read_record(path) or {}).get("weights_sha256") != record.get("weights_sha256")
    ]
    if spoilt:
        reasons["evaluation"] = f"{', '.join(spoilt)} is of other weights or damaged; remove it"
    return reasons


def _waits_for(plan: Plan, run_id: str) -> str:
    """What has to be there before the run can start."""
    run = plan.trainings[run_id].resolved
    missing = []
    index = plan.index_folder(run.spec.dataset)
    if not (index / "manifest.json").exists():
        missing.append(f"data {run.spec.dataset} (not checked and indexed yet: {index})")
    weights = plan.initial_weights(run_id)
    if weights is not None and not weights.exists():
        initial = run_status(weights.parent)
        missing.append(f"starting weights {run.initial_run} ({initial})")
    return f"it waits for {' and '.join(missing)}" if missing else "all that it needs is there"


def _process(folder: Path, state: RunState) -> dict[str, str]:
    """Where the newest session ran, and how its process ended."""
    session: dict[str, Any] = next(reversed(read_sessions(folder)), {})
    if state.progress is not None:
        session = {**session, **state.progress.model_dump(include={"host", "job"})}
    failure = read_record(folder / "work" / "failed.json") or {}
    exits = {
        "failed": f"1 ({failure.get('exit', 'error')})",
        "interrupted": "unknown" if "without a note" in state.note else _signal_status(state.note),
    }
    job = session.get("job")
    sessions = f", resumed {state.resumed} times" if state.resumed else ""
    facts = {"exit status": exits.get(state.state, "")}
    if job:
        facts["SLURM job"] = f"{job} (`sacct -j {job}` or `scontrol show job {job}` says how it is)"
    if session.get("started"):
        place = f" on {session['host']}" if session.get("host") else ""
        facts["last start"] = f"{session['started']}{place}{sessions}"
    if state.progress is not None:
        progress = state.progress
        left = duration(state.seconds_left) if state.seconds_left is not None else "unknown time"
        facts["progress"] = f"iteration {progress.iteration} of {progress.iterations}, {left} left"
    return facts


def _signal_status(signal: str) -> str:
    """The exit status of a training that saved and ended when a signal came."""
    return {"SIGTERM": "143 (SIGTERM, saved)", "SIGINT": "130 (SIGINT, saved)"}.get(signal, signal)


def _checkpoint(folder: Path) -> str:
    """The newest checkpoint of a training that is not done."""
    work = folder / "work"
    if not work.exists():
        return ""
    checkpoints = {
        int(found[1]): path
        for path in work.glob("*.pth")
        if (found := re.fullmatch(r"(?:iteration|epoch)_(\d+)", path.stem))
    }
    return str(checkpoints[max(checkpoints)]) if checkpoints else "none: it would start over"


def _again(plan: Plan, plan_file: Path, run_id: str, seed: int, state: RunState) -> str:
    """The command that makes what is missing."""
    if state.state in ("done", "running"):
        return ""
    folder = plan.run_folder(run_id, seed)
    missing = not_evaluated(plan, run_id, folder)
    targets = [f"metrics.{decode}.json" for decode in missing] or ["final.pth"]
    files = " ".join(shlex.quote(str(folder / name)) for name in targets)
    step = f"obc train {plan_file} {run_id} --seed {seed}"
    if state.state == "trained":
        step = f"obc evaluate {plan_file} {run_id} --seed {seed} --decode {missing[0]}"
    return f"snakemake --cores 1 {files}{config_options(plan)}\n             or, by hand: {step}"


def config_options(plan: Plan) -> str:
    """What makes Snakemake plan the same again: ` --config key=value ..`."""
    config = plan.config.model_dump(mode="json", exclude_defaults=True)
    pairs = [
        f"{key}={value if isinstance(value, str) else json.dumps(value, separators=(',', ':'))}"
        for key, value in {"scale": plan.config.scale, **config}.items()
    ]
    return f" --config {' '.join(map(shlex.quote, pairs))}"


def _log(plan: Plan, run_id: str, folder: Path, state: RunState) -> Path | None:
    """The log of the step that is to blame: the first evaluation that is missing, or the training.

    A training that starts again leaves the logs of earlier evaluations in place.
    """
    missing = not_evaluated(plan, run_id, folder) if state.state == "trained" else []
    logs = [*(folder / f"evaluate.{decode}.log" for decode in missing), folder / "log.txt"]
    return next((log for log in logs if log.exists()), None)

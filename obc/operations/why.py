"""One screen about one run: its state, the reason, and the command to try again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from obc.config.downloads import needed
from obc.config.plan import Plan
from obc.config.run_folder import RunFolder
from obc.io.errors import did_you_mean
from obc.io.files import read_record
from obc.io.typed_yaml import ConfigError
from obc.operations.costs import is_done, not_evaluated
from obc.operations.status import RunState, duration, read_sessions, states
from obc.runs.records import evaluation_failure, last_lines
from obc.runs.staleness import other_versions
from obc.runs.status import has_weights, run_status, shown_tables
from obc.runs.versions import TRAINING_CODE, code_digest


def find_run(plan: Plan, beginning: str) -> str:
    """Return the run id that starts with `beginning`; if several do, the one in the paper's tables.

    Raises:
        ConfigError: no run id starts with it, or several do and not exactly one of them is in the
            paper's tables.
    """
    if beginning in plan.trainings:
        return beginning
    found = [run_id for run_id in plan.trainings if run_id.startswith(beginning)]
    of_paper = [run_id for run_id in found if not plan.is_beyond(run_id)]
    for candidates in (found, of_paper):
        if len(candidates) == 1:
            return candidates[0]
    what = "several runs start" if found else "no run starts"
    known = "\n  ".join(found or plan.trainings)
    hint = "" if found else did_you_mean(beginning, plan.trainings)
    raise ConfigError(f"{what} with {beginning!r}{hint}; name one of\n  {known}")


def explain_run(plan: Plan, plan_file: Path, run_id: str, seed: int | None = None) -> str:
    """Return text that explains why a run's number is missing or stale.

    Args:
        plan_file: path of the plan, for the commands in the text.
        seed: None: the run's first seed that is not done.

    Raises:
        ConfigError: the plan does not train this run with that seed.
    """
    seeds = plan.seeds_of(run_id)
    needing, shown = plan.tables_needing(run_id), set(shown_tables(plan))
    if not needing & shown:  # only tables beyond the paper that have not begun need the run
        shown = needing
    if seed is None:
        seed = next((s for s in seeds if not is_done(plan, run_id, s, shown)), seeds[0])
    if seed not in seeds:
        raise ConfigError(
            f"--seed {seed}: {run_id} is trained with {', '.join(map(str, seeds))} only"
        )
    folder = plan.run_folder(run_id, seed)
    (state,) = (s for s in states(plan, tables=shown) if (s.run_id, s.seed) == (run_id, seed))
    tables = plan.trainings[run_id].tables
    use = f"for {', '.join(tables)}" if tables else "starting weights of other runs"
    missing: Sequence[str] = ()
    if run_status(folder) == "trained":
        reasons, spoilt = _of_finished(plan, run_id, seed, folder, state)
        missing = not_evaluated(plan, run_id, folder, shown)
    else:
        reasons, spoilt = {"why": _why_not_finished(plan, run_id, seed, folder, state)}, []
    facts = {
        **reasons,
        "folder": str(folder),
        **_process(folder, state, missing),
        "checkpoint": str(next(iter(folder.work.checkpoints()), "none: it would start over"))
        if folder.work.path.exists()
        else "",
        "try again": _again(plan, plan_file, run_id, seed, state, spoilt, shown),
    }
    lines = [f"{run_id} seed {seed}: {state.state}  ({use})"]
    lines += [f"  {name}: {text}" for name, text in facts.items() if text]
    log = _log(folder, missing)
    if log is not None:
        lines += [f"  log: {log}", *(f"    | {line}" for line in last_lines(log))]
    return "\n".join(lines)


def _why_not_finished(
    plan: Plan, run_id: str, seed: int, folder: RunFolder, state: RunState
) -> str:
    if state.state == "failed":
        failure = read_record(folder.work.failed) or {}
        at = failure.get("time")
        return state.note + (f" ({at})" if at else "")
    if state.state == "interrupted":
        if state.reason == "killed":
            return f"{state.note}: SIGKILL, out of memory or power loss"
        note = read_record(folder.work.interrupted) or {}
        return (
            f"stopped by {note.get('signal')} after iteration {note.get('iteration', '?')} "
            f"({note.get('time', 'no time noted')})"
        )
    if state.state == "running":
        return f"it is being trained{f': {state.note}' if state.note else ''}"
    return f"never started; {_waits_for(plan, run_id, seed)}"


def _of_finished(
    plan: Plan, run_id: str, seed: int, folder: RunFolder, state: RunState
) -> tuple[dict[str, str], list[Path]]:
    """Return the reasons for a trained run's state, and its files that must be made again."""
    record = read_record(folder.record)
    if record is None:
        why = f"{folder.record} cannot be read; nothing tells what the weights are"
        return {"why": why}, [folder.weights]
    reasons, useless = {"why": state.note or "nothing is missing"}, []
    if record.get("imported"):
        reasons["weights"] = f"imported from {record['imported'].get('path')}"
    others = other_versions(plan, run_id, seed, record, code_digest(TRAINING_CODE))
    if others:
        kept = "; the scale keeps weights" if plan.scale.runtime.keep_weights else ""
        reasons["stale"] = f"made with other {' and other '.join(others)}{kept}"
        useless.append(folder.weights)
    metrics = [folder.metrics(decode) for decode in plan.trainings[run_id].decodes]
    spoilt = [
        path
        for path in metrics
        if path.exists()
        and (read_record(path) or {}).get("weights_sha256") != record.get("weights_sha256")
    ]
    if spoilt:
        reasons["evaluation"] = (
            f"{', '.join(path.name for path in spoilt)} is of other weights or damaged"
        )
    return reasons, useless + spoilt


def _waits_for(plan: Plan, run_id: str, seed: int) -> str:
    """Say which data and weights are missing before the run can start."""
    run = plan.trainings[run_id].resolved
    missing = [
        f"{one.name}, which `obc fetch {one.name}` gets"
        for one in needed([run], plan.scale.data, plan.published)
        if one.missing(Path())
    ]
    index = plan.index_folder(run.spec.dataset)
    if not index.manifest.exists():
        missing.append(f"data {run.spec.dataset} (not checked and indexed yet: {index})")
    initial = plan.initial_training(run_id, seed)
    if initial is not None and not initial.folder.weights.exists():
        missing.append(f"starting weights {initial.run_id} ({run_status(initial.folder)})")
    return f"it waits for {' and '.join(missing)}" if missing else "all that it needs is there"


def _process(folder: RunFolder, state: RunState, missing: Sequence[str]) -> dict[str, str]:
    """Return host, job, progress and exit status of the newest session or failed evaluation."""
    session: dict[str, Any] = next(reversed(read_sessions(folder)), {})
    if state.reason == "evaluation failed":
        session = evaluation_failure(folder, missing[0]) or {}
    if state.progress is not None:
        session = {
            **session,
            **state.progress.model_dump(include={"host", "job"}, exclude_none=True),
        }
    job = session.get("job")
    sessions = f", resumed {state.resumed} times" if state.resumed else ""
    facts = {"exit status": _exit_status(folder, state)}
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


def _exit_status(folder: RunFolder, state: RunState) -> str:
    """Exit status of the newest process, as text; empty if none has ended."""
    if state.state == "failed":
        failure = read_record(folder.work.failed) or {}
        return f"1 ({failure.get('exit', 'error')})"
    if state.reason == "killed":
        return "unknown"
    if state.reason != "signal":
        return ""
    signal = str((read_record(folder.work.interrupted) or {}).get("signal"))
    return {"SIGTERM": "143 (SIGTERM, saved)", "SIGINT": "130 (SIGINT, saved)"}.get(signal, signal)


def _again(
    plan: Plan,
    plan_file: Path,
    run_id: str,
    seed: int,
    state: RunState,
    useless: list[Path],
    shown: set[str],
) -> str:
    """Return the commands that make missing and `useless` files; empty if there is nothing to do.

    `--forcerun` names existing files that must be made again, because Snakemake cannot detect every
    reason for it.

    Args:
        shown: tables whose decodings are evaluated.
    """
    if state.state == "running" or (state.state == "done" and not useless):
        return ""
    folder = plan.run_folder(run_id, seed)
    trains = not has_weights(folder) or folder.weights in useless
    if trains:
        wanted = plan.decodes_of(run_id, shown)
    else:
        wanted = not_evaluated(plan, run_id, folder, shown)
    decodes = [
        decode
        for decode in plan.trainings[run_id].decodes
        if decode in wanted or folder.metrics(decode) in useless
    ]
    targets = [folder.metrics(decode) for decode in decodes] or [folder.weights]
    files, anew = (
        " ".join(shlex.quote(str(path)) for path in paths) for paths in (targets, useless)
    )
    step = f"{'train' if trains else 'evaluate'} {plan_file} {run_id} --seed {seed}"
    step += f" --decode {decodes[0]}" if not trains else " --again" if useless else ""
    forced = f" --forcerun {anew}" if anew else ""
    return (
        f"snakemake --cores 1 {files}{forced}{config_options(plan)}\n"
        f"             or, by hand: obc {step}"
    )


def config_options(plan: Plan) -> str:
    """Return ` --config key=value ..`, with which Snakemake makes the same plan again."""
    config = plan.config.model_dump(mode="json", exclude_defaults=True)
    pairs = [
        f"{key}={value if isinstance(value, str) else json.dumps(value, separators=(',', ':'))}"
        for key, value in {"scale": plan.config.scale, **config}.items()
    ]
    return f" --config {' '.join(map(shlex.quote, pairs))}"


def _log(folder: RunFolder, missing: Sequence[str]) -> Path | None:
    """Return the log of the first missing evaluation that has a log, otherwise the training's.

    Args:
        missing: missing evaluations of a trained run. If the run is not trained, logs of
            evaluations are ignored: a training that starts again leaves the logs of earlier
            evaluations in place.
    """
    logs = [*map(folder.evaluation_log, missing), folder.log]
    return next((log for log in logs if log.exists()), None)

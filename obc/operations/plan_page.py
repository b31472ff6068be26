"""Describe a plan before it runs: its trainings, which are shared or done, and their costs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tabulate import tabulate

from obc.config.comparable import deviation_notes
from obc.config.plan import Plan
from obc.io.typed_yaml import ConfigError
from obc.operations.costs import DEVICES, Cost, costs, device_of

HEADER = ("", "rows", "trainings", "shared", "done")


def summary(plan: Plan) -> tuple[str, ...]:
    """Return lines about a plan: trainings, results folder, tables left out, notes, deviations."""
    runs = plan.paper_runs
    counts = [len(plan.seeds_of(run_id)) for run_id in runs] or [0]
    seeds = " to ".join(map(str, sorted({min(counts), max(counts)})))
    starts = sum(len(plan.seeds_of(one)) for one in plan.initial_runs if one not in plan.shipped)
    shared = f" after {starts} of shared weights" if starts else ""
    if plan.shipped and not starts:
        shared = " from weights that come with the suite"
    return (
        f"scale {plan.scale.name}: {sum(counts)} trainings ({len(runs)} runs with {seeds} "
        f"seed{'' if seeds == '1' else 's'} each){shared}, results in {plan.results}/",
        *_beyond_summary(plan),
        *plan.notes,
        *dict.fromkeys(
            note for name in plan.paper_tables for note in deviation_notes(plan, plan.tables[name])
        ),
    )


def _beyond_summary(plan: Plan) -> tuple[str, ...]:
    """Return a line about the tables beyond the paper and their additional trainings."""
    beyond = {
        name: sum(
            len(plan.seeds_of(run_id))
            for run_id, run in plan.runs.items()
            if name in run.tables and plan.is_beyond(run_id)
        )
        for name, table in plan.tables.items()
        if table.beyond
    }
    if not beyond:
        return ()
    tables = ", ".join(f"{name} ({more} trainings more)" for name, more in beyond.items())
    return (f"beyond the paper, made only when named: {tables}",)


def report(plan: Plan, tables: Iterable[str], gpu: str | None = None) -> str:
    """Return text about the trainings of the named tables: shared and done ones, and costs.

    Raises:
        ConfigError: a name is not a table of the plan, or the GPU is not in DEVICES.
    """
    names = list(tables)
    unknown = sorted(set(names) - set(plan.tables))
    if unknown:
        raise ConfigError(
            f"--table {', '.join(unknown)}: no such table; allowed: {', '.join(plan.tables)}"
        )
    by_table = {
        name: dict.fromkeys((one.run.run_id, one.run.seed) for one in plan.evaluations(name))
        for name in names
    }
    wanted = {key for keys in by_table.values() for key in keys}
    starts = {
        (plan.trainings[run_id].resolved.initial_run, plan.initial_seed(run_id, seed))
        for run_id, seed in wanted
    }
    known = {(cost.run_id, cost.seed): cost for cost in costs(plan, gpu)}
    wanted |= {key for key in starts if key[0] is not None}
    chosen = [cost for key, cost in known.items() if key in wanted]
    lines = [_table_line(plan, name, keys, known) for name, keys in by_table.items()]
    initial = [cost for cost in chosen if cost.run_id in plan.initial_runs]
    if initial:
        lines.append(_line("starting weights", "", initial, ""))
    rows = sum(_rows(plan, name) for name in names)
    lines.append(_line("together", rows, chosen, ""))
    unit = "core hours" if device_of(plan, gpu) == "cpu" else "GPU-hours"
    parts = [
        tabulate(
            lines,
            (*HEADER, unit, "to do", "disk"),
            tablefmt="plain",
            disable_numparse=True,
            colalign=("left", *["right"] * 7),
        ),
        _sharing(plan, names, known, unit),
        _basis(plan, gpu, chosen),
        tabulate([_run_line(plan, cost) for cost in chosen], tablefmt="plain"),
    ]
    return "\n\n".join(parts)


def _rows(plan: Plan, table: str) -> int:
    return sum(not row.cited for row in plan.tables[table].rows)


def _table_line(
    plan: Plan, name: str, keys: Iterable[tuple[str, int]], known: dict[tuple[str, int], Cost]
) -> tuple[Any, ...]:
    chosen = [known[key] for key in keys]
    shared = sum(len(plan.runs[cost.run_id].tables) > 1 for cost in chosen)
    return _line(name, _rows(plan, name), chosen, shared)


def _line(name: str, rows: int | str, chosen: Sequence[Cost], shared: int | str) -> tuple[Any, ...]:
    to_do = [cost for cost in chosen if not cost.done]
    return (
        name,
        rows,
        len(chosen),
        shared,
        len(chosen) - len(to_do),
        _hours(cost.seconds for cost in chosen),
        _hours(cost.seconds for cost in to_do),
        _bytes(sum(cost.disk for cost in chosen)),
    )


def _sharing(
    plan: Plan, names: Sequence[str], known: dict[tuple[str, int], Cost], unit: str
) -> str:
    """Compare the number and cost of trainings with those of one training for every row."""
    # A table beyond the paper adds no seeds to runs that it shares with the paper's tables.
    separate = [
        known[run_id, seed]
        for name in names
        for run_id in (plan.run_of(row).run_id for row in plan.tables[name].rows if not row.cited)
        for seed in plan.seeds_of_table(name)
        if (run_id, seed) in known
    ]
    together = {(cost.run_id, cost.seed): cost for cost in separate}.values()
    hours, all_hours = (_hours(cost.seconds for cost in part) for part in (together, separate))
    return (
        "shared: trainings that another table reads too. Rows of the same spec are one training: "
        f"{len(together)} in place of {len(separate)}, {hours} {unit} in place of {all_hours}."
    )


def _basis(plan: Plan, gpu: str | None, chosen: Sequence[Cost]) -> str:
    device = DEVICES[device_of(plan, gpu)]
    counts = {
        basis: sum(cost.basis == basis for cost in chosen)
        for basis in ("done", "measured", "scaled", "estimated")
    }
    meaning = {
        "done": "as they took",
        "measured": "by images/s of finished runs of the same network here",
        "scaled": "by the throughput of other finished runs here",
        "estimated": f"estimated for one {device_of(plan, gpu)} at "
        f"{device.flops_per_second / 1e12:.3g} TFLOP/s, {device.utilisation:.0%} of its peak of "
        f"{device.peak:g} ({device.source})",
    }
    peak = max((cost.peak_disk for cost in chosen if not cost.done), default=0)
    said = "; ".join(f"{counts[name]} {meaning[name]}" for name in counts if counts[name])
    checkpoints = f" Disk: weights and detections; a training in progress has up to {_bytes(peak)} "
    return f"Hours: {said}." + (checkpoints + "of checkpoints beside it." if peak else "")


def _run_line(plan: Plan, cost: Cost) -> tuple[str, ...]:
    planned = plan.trainings[cost.run_id]
    use = "shared starting weights" if cost.run_id in plan.initial_runs else ""
    return (
        f"  {cost.run_id}",
        f"seed {cost.seed}",
        use or f"[{', '.join(planned.tables)}]",
        f"{', '.join(planned.decodes)}",
        f"{_hours([cost.seconds])} h",
        f"{cost.basis}, done" if cost.done and cost.basis != "done" else cost.basis,
    )


def _hours(seconds: Iterable[float | None]) -> str:
    """Sum of seconds as hours; "?" if a summand is unknown."""
    parts = list(seconds)
    if None in parts:
        return "?"
    hours = sum(parts) / 3600
    return f"{hours:.2f}" if hours < 10 else f"{hours:,.0f}"


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 999.5:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"

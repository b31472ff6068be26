"""Readable names of trainings and jobs, by the table row that they are for, not by an id."""

from __future__ import annotations

import re
from collections.abc import Mapping

from obc.config.plan import Plan


def run_name(plan: Plan, run_id: str, seed: int) -> str:
    """Name a training by the first table that needs it, e.g. `table1 full, seed 0`.

    If several rows of that table share the run, the last row gives the name. Starting weights are
    named by detector and backbone of the first run that starts from them.
    """
    if run_id in plan.initial_runs:
        users = [run.resolved for run in plan.runs.values() if run.resolved.initial_run == run_id]
        spec = (users[0] if users else plan.initial_runs[run_id].resolved).spec
        detector = spec.detector.removesuffix("_rcnn")
        return f"starting weights {detector} {spec.backbone}, seed {seed}"
    table = plan.first_table(run_id)
    rows = [
        row
        for row in (plan.tables[table].rows if table else ())
        if not row.cited and plan.run_of(row).run_id == run_id
    ]
    return f"{table} {rows[-1].key or rows[-1].label}, seed {seed}" if rows else run_id


def job_name(plan: Plan, rule: str, wildcards: Mapping[str, str]) -> str:
    """Name a job by its rule, and by the training or the file that it is for."""
    if "run_id" in wildcards and "seed" in wildcards:
        name = f"{rule} {run_name(plan, wildcards['run_id'], int(wildcards['seed']))}"
        return f"{name} ({wildcards['decode']})" if "decode" in wildcards else name
    parts = [value for key, value in wildcards.items() if key != "results"]
    return " ".join([rule.replace("_", " "), *parts])


def with_names(plan: Plan, line: str) -> str:
    """Replace run ids by names in a line that a job printed; paths are not changed."""
    return re.sub(
        r"(?<![/\w-])([a-z][\w.-]*-[0-9a-f]{8}) seed (\d+)\b",
        lambda found: (
            run_name(plan, found[1], int(found[2])) if found[1] in plan.trainings else found[0]
        ),
        line,
    )

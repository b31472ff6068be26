"""`obc trace`: trace a cell of a table to its metrics file and training, or check all cells.

The check reads tables and metrics files from the disk, with the plan but without the code that
computed the tables.
"""

from __future__ import annotations

import csv
import json
import math
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from obc.config.plan import Plan
from obc.config.table import TableSpec, row_label
from obc.io.errors import SuiteError
from obc.io.files import file_sha256
from obc.io.typed_yaml import ConfigError
from obc.report.captions import stamp, title
from obc.report.provenance.measurements import Measurement, Provenance, TracedRun, trace_back

UNKNOWN = "not recorded"
# Tables are written with ten digits.
RELATIVE_TOLERANCE = 1e-9


class NumberMismatch(SuiteError):
    """Numbers of tables differ from the metrics files behind them; the message lists them."""


# --- one cell ----------------------------------------------------------------------------------


def trace(plan: Plan, table: str, row: str, metric: str) -> str:
    """Return the files and trainings behind one cell, for all seeds, as text.

    Args:
        row: as in `find_row`.

    Raises:
        ConfigError: there is no such table, row or metric, or the row is ambiguous.
        MetricsFileError: a metrics file is damaged or belongs to another evaluation.
    """
    if table not in plan.tables:
        raise ConfigError(f"{table!r} is no table of this plan; allowed: {', '.join(plan.tables)}")
    spec = plan.tables[table]
    index = find_row(spec, row)
    if metric not in spec.metrics:
        raise ConfigError(f"{table} has no {metric!r}; allowed: {', '.join(spec.metrics)}")
    found = trace_back(plan, [table])
    cell = [m for m in found.measurements if (m.row, m.metric) == (index, metric)]
    others = [
        f"  row {other}: {row_label(line)}"
        for other, line in enumerate(spec.rows)
        if line.label == spec.rows[index].label and other != index
    ]
    lines = [
        f"{title(spec)} Row {index}: {row_label(spec.rows[index])}. {metric}",
        f"  {stamp(plan, spec)}",
        f"  ours: {_ours(cell)}; paper: {_number(cell[0].paper, 'not published')}",
        *(["rows with the same label:", *others] if others else []),
    ]
    for measurement in cell:
        lines += ["", *measurement_lines(measurement, found)]
    return "\n".join(lines)


def find_row(table: TableSpec, wanted: str) -> int:
    """Find a row by its index, key, label with further columns, or label; return its index.

    Raises:
        ConfigError: no row or several rows match; the message lists index, key and label of the
            candidates.
    """
    by_label = [row_label(row) == wanted for row in table.rows]
    choices = (
        [str(index) == wanted or row.key == wanted for index, row in enumerate(table.rows)],
        by_label,
        [row.label == wanted for row in table.rows],
    )
    for matches in choices:
        if sum(matches) == 1:
            return matches.index(True)
    ambiguous = any(choices[2]) or any(by_label)
    listed = [
        f"  {index}  {row.key or '-':<20}  {row_label(row)}"
        for index, row in enumerate(table.rows)
        if not ambiguous or row.label == wanted or row_label(row) == wanted
    ]
    what = f"--row {wanted!r}: {'several rows' if ambiguous else 'no row'} of {table.name}"
    raise ConfigError("\n".join([f"{what}; name one by index, key or label:", *listed]))


def measurement_lines(measurement: Measurement, found: Provenance) -> Iterator[str]:
    """Yield the lines about one seed of a cell: its number, metrics file and training."""
    if measurement.run_id is None:
        yield "from the literature, as the paper cites it; nothing was trained"
        return
    yield f"seed {measurement.seed}: {_number(measurement.value, measurement.status)}"
    facts = {
        "decode": measurement.decode,
        "metrics file": measurement.metrics_file,
        "  sha256": measurement.metrics_sha256,
        **run_facts(found.run(measurement.run_id, measurement.seed)),
    }
    for name, text in facts.items():
        yield f"  {name + ':':<16} {text or UNKNOWN}"


def run_facts(run: TracedRun) -> dict[str, str]:
    """Return the facts about a training as texts; a fact that is not known is UNKNOWN."""
    facts = {
        "run": run.run_id,
        "state": f"{run.status}{f': {run.error}' if run.error else ''}",
        "folder": run.folder,
        "log": run.log,
        "data manifest": run.data_sha256,
        "  which is now": run.data_manifest,
        "code": _code(run.code),
        "packages": _pairs(run.packages),
        "hardware": _hardware(run.hardware),
        "started": run.started,
        "seconds": run.seconds and f"{run.seconds:.1f}",
        "images/s": run.images_per_second and f"{run.images_per_second:.1f}",
        "peak memory": run.peak_memory_mib
        and ", ".join(f"{where} {mib:.0f} MiB" for where, mib in run.peak_memory_mib.items()),
        "Snakemake's job": run.benchmark
        and f"{run.benchmark.get('s')} s, max rss {run.benchmark.get('max_rss')} MB",
        "iterations": run.iterations and str(run.iterations),
        "sessions": run.sessions and str(run.sessions),
        "weights sha256": run.weights_sha256,
        "started from": run.initial_weights_sha256
        or ("published weights" if run.resolved.network.pretrained else "random weights"),
        "spec": json.dumps(run.resolved.spec.model_dump(mode="json", exclude_none=True)),
    }
    if run.resolved.initial_run and not run.initial_weights_sha256:
        facts["started from"] = None
    if run.imported:
        facts["imported"] = f"from {run.imported.get('path')}, sha256 {run.imported.get('sha256')}"
    if run.differs:
        facts["differs"] = f"made with other {' and other '.join(run.differs)}"
    return {name: text or UNKNOWN for name, text in facts.items()}


def _ours(cell: list[Measurement]) -> str:
    values = [m.value for m in cell if m.value is not None]
    if not values:
        return ", ".join(dict.fromkeys(m.status for m in cell))
    spread = f", sd {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.4f}{spread} ({len(values)} of {len(cell)} seeds)"


def _number(value: float | None, otherwise: str) -> str:
    return otherwise if value is None else f"{value:.10g}"


def _pairs(values: dict[str, Any] | None) -> str | None:
    return values and ", ".join(f"{name} {value}" for name, value in values.items())


def _hardware(hardware: dict[str, Any] | None) -> str | None:
    if hardware is None:
        return None
    known = {name: value for name, value in hardware.items() if name not in ("processor", "gpu")}
    gpu = hardware.get("gpu")
    return f"{hardware.get('processor')}, {_pairs(known)}, {f'GPU {gpu}' if gpu else 'no GPU'}"


def _code(code: dict[str, Any] | None) -> str | None:
    if code is None:
        return None
    commit, clean = code.get("commit"), code.get("clean")
    tree = "" if clean is None else f", tree {'clean' if clean else 'NOT clean'}"
    version = f"commit {commit}{tree}" if commit else "no Git commit known"
    return f"{version}, training code {code.get('training_code')}"


# --- all cells ---------------------------------------------------------------------------------


def compare(plan: Plan) -> dict[str, int]:
    """Compare every number of every written table with its metrics files.

    Each number of `tables/<name>.csv` must be the mean over seeds of the numbers in the metrics
    files. If `provenance.json` was written, its hashes and numbers must agree with the present
    metrics files.

    Returns:
        The count of numbers that agree, for each written table.

    Raises:
        NumberMismatch: some numbers differ.
    """
    problems = list(_stale(plan.results / "provenance.json"))
    agreed = {}
    for name, table in plan.tables.items():
        path = plan.results / "tables" / f"{name}.csv"
        if path.exists():
            agreed[name] = _compare_table(plan, table, path, problems)
    if problems:
        raise NumberMismatch("\n  ".join([f"{len(problems)} number(s) differ:", *problems]))
    return agreed


def _compare_table(plan: Plan, table: TableSpec, path: Path, problems: list[str]) -> int:
    count = 0
    with path.open(encoding="utf-8", newline="") as file:
        for line, row in zip(csv.DictReader(file), table.rows, strict=True):
            for metric in () if row.cited else table.metrics:
                runs = plan.seeded(plan.run_of(row).run_id)
                files = [run.folder.metrics(row.decode) for run in runs]
                values = [value for file in files if (value := _value(file, metric)) is not None]
                measured = statistics.mean(values) if values else None
                if _same(line[metric], measured):
                    count += measured is not None
                else:
                    place = f"{path}: {row_label(row)}, {metric} is {line[metric]}"
                    problems.append(f"{place}, its metrics files say {measured}")
    return count


def _value(path: Path, metric: str) -> float | None:
    return (
        json.loads(path.read_text(encoding="utf-8"))["metrics"].get(metric)
        if path.exists()
        else None
    )


def _same(written: str, measured: float | None) -> bool:
    if measured is None or written == "n/a":
        return measured is None and written == "n/a"
    return math.isclose(float(written), measured, rel_tol=RELATIVE_TOLERANCE)


def _stale(path: Path) -> Iterator[str]:
    """Yield a text for each number in `provenance.json` whose metrics file has changed since."""
    if not path.exists():
        return
    known: dict[Path, str | None] = {}
    for measurement in Provenance.model_validate_json(
        path.read_text(encoding="utf-8")
    ).measurements:
        if measurement.metrics_file is None:
            continue
        file = Path(measurement.metrics_file)
        if file not in known:
            known[file] = file_sha256(file) if file.exists() else None
        value = _value(file, measurement.metric)
        if known[file] != measurement.metrics_sha256 or value != measurement.value:
            yield (
                f"{path}: {measurement.table}, {measurement.label}, {measurement.metric} is "
                f"{measurement.value}; {file} has changed since, and says {value}"
            )

"""`provenance.json`: the metrics file and the training behind every number of a table.

A *measurement* is one number of one table: a cell and a seed, with the metrics file that the number
was read from. A *run* is the training whose weights were evaluated. Paths are those of the plan,
relative to the folder that the suite is called from.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from obc.analysis.collect import collect
from obc.config.plan import Plan
from obc.config.run import ResolvedRun
from obc.config.table import row_label
from obc.io.files import file_sha256, read_record, require_record, write_text
from obc.io.typed_yaml import Strict
from obc.runs.staleness import other_versions
from obc.runs.status import RunStatus, run_status
from obc.runs.versions import TRAINING_CODE, code_digest

# Fields that a training of this suite fills; `missing` names those without a value.
RECORDED = (
    "weights_sha256", "data_sha256", "code", "packages", "hardware", "started", "seconds",
    "images_per_second", "iterations", "peak_memory_mib", "log",
)  # fmt: skip


class Measurement(Strict):
    """One number of a table, and the metrics file that it was read from.

    Attributes:
        table, row: the table's name, and the row's index within the table, from 0.
        label: the row's label with its further columns.
        seed: seed of the training; None for a row from the literature.
        value: our number, in percent; None if missing, and `status` gives the reason.
        paper: the paper's number, in percent; None if it prints none.
        status: as in `obc.analysis.collect.collect`.
        run_id, decode: run and decoding of the evaluation; None for a row from the literature.
        metrics_file, metrics_sha256: path and hash of the file; None if nothing was measured.
    """

    table: str
    row: int
    label: str
    metric: str
    seed: int | None
    value: float | None
    paper: float | None
    status: str
    run_id: str | None
    decode: str | None
    metrics_file: str | None
    metrics_sha256: str | None


class TracedRun(Strict):
    """One training: its settings in the plan, and what its record says that it was made with.

    Attributes:
        error: message of a failed training.
        tables: the tables that read the training; empty for starting weights.
        resolved: the spec with everything that decides the weights except the seed.
        data_manifest: present path of the data's manifest.
        data_sha256: hash of the manifest that the run was trained with.
        code: Git commit, whether the tree was clean, digest of the training code.
        seconds, images_per_second, peak_memory_mib: as the training measured them.
        benchmark: Snakemake's measurements of the job (`s`, `max_rss` in MB, `mean_load`, ..); None
            if the training was started by hand.
        imported: source of the weights, if they were not trained here.
        differs: differences from a training started now, see `obc.runs.staleness.other_versions`.
        missing: fields of RECORDED without a value, for a trained run.
    """

    run_id: str
    seed: int
    status: RunStatus
    error: str | None
    tables: tuple[str, ...]
    folder: str
    resolved: ResolvedRun
    data_manifest: str
    weights_sha256: str | None = None
    data_sha256: str | None = None
    code: dict[str, Any] | None = None
    packages: dict[str, str] | None = None
    hardware: dict[str, Any] | None = None
    started: str | None = None
    seconds: float | None = None
    images_per_second: float | None = None
    iterations: int | None = None
    sessions: int | None = None
    processes: int | None = None
    peak_memory_mib: dict[str, float] | None = None
    initial_weights_sha256: str | None = None
    log: str | None = None
    benchmark: dict[str, str] | None = None
    imported: dict[str, Any] | None = None
    differs: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


class Provenance(Strict):
    """All measurements and trainings behind the tables of a plan."""

    scale: str
    description: str
    results: str
    measurements: tuple[Measurement, ...]
    runs: tuple[TracedRun, ...]

    def run(self, run_id: str, seed: int) -> TracedRun:
        """Return the training behind a measurement; KeyError if there is no such training."""
        for run in self.runs:
            if (run.run_id, run.seed) == (run_id, seed):
                return run
        raise KeyError((run_id, seed))


def trace_back(plan: Plan, tables: Iterable[str] | None = None) -> Provenance:
    """Trace every number of some tables to its metrics file, and gather each training's facts.

    The runs include the starting weights that a traced run starts from.

    Args:
        tables: names of tables and figures; None: those of `obc.runs.status.shown_tables`.

    Raises:
        ConfigError, MetricsFileError: as in `obc.analysis.collect.collect`.
    """
    frame = collect(plan, tables)
    code = code_digest(TRAINING_CODE)
    run_ids = dict.fromkeys(run_id for run_id in frame["run_id"].dropna())
    starts = dict.fromkeys(plan.trainings[run_id].resolved.initial_run for run_id in run_ids)
    run_ids |= {run_id: None for run_id in starts if run_id is not None}
    return Provenance(
        scale=plan.scale.name,
        description=plan.scale.description,
        results=str(plan.results),
        measurements=tuple(_measurements(plan, frame)),
        runs=tuple(
            _traced_run(plan, run_id, seed, code)
            for run_id in run_ids
            for seed in plan.seeds_of(run_id)
        ),
    )


def write(plan: Plan, path: Path) -> None:
    """Write the provenance of the plan's tables as JSON, see `trace_back`.

    Raises:
        MetricsFileError: a metrics file is damaged or belongs to another evaluation.
    """
    write_text(path, trace_back(plan).model_dump_json(indent=1) + "\n")


def _measurements(plan: Plan, frame: pd.DataFrame) -> Iterator[Measurement]:
    hashed = cache(file_sha256)
    for line in frame.astype(object).where(frame.notna(), None).to_dict("records"):
        row = plan.tables[line["table"]].rows[line["row"]]
        path = None
        if line["status"] in ("ok", "undefined"):
            path = plan.run_folder(line["run_id"], line["seed"]).metrics(line["decode"])
        yield Measurement(
            **{**line, "label": row_label(row)},
            metrics_file=path and str(path),
            metrics_sha256=path and hashed(path),
        )


def _traced_run(plan: Plan, run_id: str, seed: int, code: str) -> TracedRun:
    run = plan.run(run_id, seed)
    folder, status = run.folder, run_status(run.folder)
    facts = {
        "run_id": run_id,
        "seed": seed,
        "status": status,
        "error": (read_record(folder.work.failed) or {}).get("error"),
        "tables": plan.trainings[run_id].tables,
        "folder": str(folder),
        "resolved": run.resolved,
        "data_manifest": str(run.index.manifest),
        "log": str(folder.log) if folder.log.exists() else None,
    }
    if status != "trained":
        return TracedRun(**facts)
    record = require_record(folder.record)
    facts = {
        **{name: value for name, value in record.items() if name in TracedRun.model_fields},
        "data_sha256": record.get("data", {}).get("sha256"),
        "sessions": len(record["sessions"]) if "sessions" in record else None,
        **facts,
    }
    return TracedRun(
        **facts,
        benchmark=_benchmark(folder.benchmark),
        differs=other_versions(plan, run_id, seed, record, code),
        missing=tuple(name for name in RECORDED if facts.get(name) is None),
    )


def _benchmark(path: Path) -> dict[str, str] | None:
    """Read Snakemake's measurements of a job, the only line of its file; None without a file."""
    if not path.exists():
        return None
    with path.open(encoding="utf-8", newline="") as file:
        return next(csv.DictReader(file, delimiter="\t"), None)

"""`runs.jsonl`: the records and metrics of many trainings in one file, one line per training.

A line is a JSON object: `run_id`, `seed`, `run` (the content of run.json, null if there is none)
and `metrics` (the content of metrics.<decode>.json by decode).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from obc.config.run_folder import RunFolder
from obc.io.errors import SuiteError
from obc.io.files import require_record, write_text


class RunsFileError(SuiteError):
    """A runs.jsonl cannot be read; the message names the line."""


@dataclass(frozen=True)
class StoredRun:
    """The contents of the JSON files of one training and its evaluations.

    Attributes:
        run: the record; None: the folder had no record.
        metrics: the content of each metrics file, by decode.
    """

    run_id: str
    seed: int
    run: dict[str, Any] | None
    metrics: dict[str, dict[str, Any]]


def read_folder(folder: RunFolder) -> StoredRun:
    """Read the JSON files in a run's folder.

    Raises:
        DamagedRecord: one of the files is damaged.
    """
    prefix, suffix = folder.metrics("*").name.split("*")
    files = sorted(folder.path.glob(f"{prefix}*{suffix}"))
    return StoredRun(
        run_id=folder.run_id,
        seed=folder.seed,
        run=require_record(folder.record) if folder.record.exists() else None,
        metrics={
            path.name.removeprefix(prefix).removesuffix(suffix): require_record(path)
            for path in files
        },
    )


def write_runs(path: Path, runs: Iterable[StoredRun]) -> None:
    """Write one line per training, sorted by run id and seed, so that few lines change in Git."""
    ordered = sorted(runs, key=lambda run: (run.run_id, run.seed))
    lines = [json.dumps(vars(run), allow_nan=False, ensure_ascii=False) for run in ordered]
    write_text(path, "".join(f"{line}\n" for line in lines))


def read_runs(path: Path) -> list[StoredRun]:
    """Read the trainings in a runs.jsonl.

    Raises:
        RunsFileError: a line is not what `write_runs` wrote.
        OSError: there is no such file.
    """
    runs = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            runs.append(StoredRun(**json.loads(line)))
        except (ValueError, TypeError) as error:
            raise RunsFileError(
                f"{path}, line {number}: not a training ({error}); get the file back from Git"
            ) from None
    return runs

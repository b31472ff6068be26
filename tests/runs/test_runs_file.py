"""runs.jsonl: every record and metrics file of a results folder, a line a training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from obc.config.run_folder import RunFolder
from obc.runs.runs_file import RunsFileError, read_folder, read_runs, write_runs

RECORD = {"run_id": "b", "seconds": 1.5, "data": {"é": None}}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Run b of seeds 0 and 1, the first evaluated twice; run a, of which only metrics are there."""
    for run_id, seed, files in (
        ("b", 1, {"run.json": RECORD}),
        ("b", 0, {"run.json": RECORD, "metrics.argmax.json": {"AP": 1 / 3},
                  "metrics.expectation.json": {"AP": None}}),
        ("a", 0, {"metrics.regression.json": {"AP": 2.0}}),
    ):  # fmt: skip
        folder = tmp_path / f"runs/{run_id}/seed{seed}"
        folder.mkdir(parents=True)
        for name, content in files.items():
            (folder / name).write_text(json.dumps(content))
    return tmp_path


def test_each_json_file_is_found_again(results: Path) -> None:
    path = results / "runs.jsonl"
    write_runs(path, map(read_folder, reversed(RunFolder.all_in(results))))
    first, second, third = read_runs(path)
    assert (first.run_id, first.seed, first.run) == ("a", 0, None)
    assert first.metrics == {"regression": {"AP": 2.0}}
    assert (second.run_id, second.seed, second.run) == ("b", 0, RECORD)
    assert second.metrics == {"argmax": {"AP": 1 / 3}, "expectation": {"AP": None}}
    assert (third.seed, third.metrics) == (1, {})
    assert len(path.read_text(encoding="utf-8").splitlines()) == 3


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    path.write_text('{"run_id": "a", "seed": 0, "run": null, "metrics": {}}\n{"run_id": "b"\n')
    with pytest.raises(RunsFileError, match=r"runs\.jsonl, line 2: not a training"):
        read_runs(path)

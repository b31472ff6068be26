"""The benchmark of the heads: its tables from given times, and one tiny run."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from conftest import PROJECT

PLACE = {"device": "cpu", "precision": "float32", "num_rois": 512, "num_classes": 80}


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return loaded("head_table")


def loaded(name: str) -> ModuleType:
    """A file of the benchmarks."""
    path = PROJECT / f"benchmarks/{name}.py"
    specification = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module  # dataclasses look themselves up there
    specification.loader.exec_module(module)
    return module


def measurement(what: str, head: str, number: int, seconds: float, **extra: float) -> dict:
    info = {**PLACE, "what": what, "head": head, "round": number, "threads": 1, "torch": "2.13"}
    return {"stats": {"median": seconds}, "extra_info": {**info, "gpu": None, **extra}}


def run_of(*measurements: dict) -> dict:
    rates = (measurement("product", "machine", 0, 2.0, flop=100e9),
             measurement("copy", "machine", 0, 1.0, bytes=10e9))  # fmt: skip
    cpu = {"brand_raw": "A processor"}
    return {"machine_info": {"cpu": cpu}, "benchmarks": [*measurements, *rates]}


@pytest.fixture
def run() -> dict:
    """Three rounds of a machine that gets slower: OBC takes 0.9, 0.8 and 1.2 of the baseline."""
    steps = [
        measurement(
            "train", head, number, seconds, flop=25e9, parameters=14_000_000, mflop_per_roi=27.84
        )
        for head, times in {"baseline": (1, 2, 4), "OBC, K = 2, shared": (0.9, 1.6, 4.8)}.items()
        for number, seconds in enumerate(times)
    ]
    parts = [
        measurement(what, head, number, seconds, bytes=1e6)
        for what, seconds_of in {
            "loss": {"baseline": 0.001, "OBC, K = 2, shared": 0.0012},
            "decode": {"baseline": 0.0025, "OBC, K = 2, shared": 0.0009},
        }.items()
        for head, seconds in seconds_of.items()
        for number in range(3)
    ]
    return run_of(*steps, *parts)


def test_a_time_is_the_median_of_the_rounds(script: ModuleType, run: dict) -> None:
    assert "| cpu | float32 | 512 | 80 | training step | 2000 |  |  | 1600 |  |  |  |" in (
        script.markdown(run)
    )


def test_a_ratio_is_the_median_of_the_rounds_ratios(script: ModuleType, run: dict) -> None:
    table = script.markdown(run)
    assert "| ≤ 1.00 | 0.90 [0.80, 1.20] | reached |" in table
    assert table.count("SABLHead's") == 0  # it was not measured


def test_parts_of_a_goal_are_added_and_a_missed_one_says_so(script: ModuleType, run: dict) -> None:
    # (1.2 + 0.9) / (1 + 2.5) = 0.6
    assert "| OBC, K = 2, shared | ≤ 0.50 | 0.60 [0.60, 0.60] | missed |" in script.markdown(run)


def test_the_floor_is_operations_and_bytes_at_the_machines_rates(
    script: ModuleType, run: dict
) -> None:
    # 25 GFLOP at 100 / 2 GFLOP/s are 500 ms; two megabytes at 10 GB/s are 0.2 ms.
    floor = "| cpu | float32 | 512 | 25.0 | 50 | 500 | 1600 | 2.0 | 10.0 | 0.2 | 2.1 |"
    assert floor in script.markdown(run)


def test_a_head_that_was_measured_has_a_line_of_costs(script: ModuleType, run: dict) -> None:
    lines = [line for line in script.markdown(run).splitlines() if "| 14,000,000 | 27.8 |" in line]
    assert lines == [
        "| baseline | 14,000,000 | 27.8 |",
        "| OBC, K = 2, shared | 14,000,000 | 27.8 |",
    ]


def test_only_heads_that_were_measured_have_a_floor(script: ModuleType, run: dict) -> None:
    text = script.markdown(run)
    assert "Floor of OBC, K = 2, shared" in text
    assert "Floor of OBCRoIHead" not in text


def test_the_page_about_the_head_has_the_costs_that_torch_counts(script: ModuleType) -> None:
    benchmark = loaded("test_heads")
    page = (PROJECT / "docs/head.md").read_text()
    rows = [script.cost_row(head, benchmark.cost_of(head, 80)) for head in script.COLUMNS]
    assert not [row for row in rows if row not in page]


def test_later_stages_are_counted_for_a_quarter_of_the_rois_in_training() -> None:
    benchmark = loaded("test_heads")
    one, two, three = (
        benchmark.flop_of(head, 512, 80)
        for head in ("OBC, K = 1", "OBCRoIHead, K = 2", "OBCRoIHead, K = 3")
    )
    # Forward, and backward to features and weights: three times. Linear layers of 12,544 inputs.
    later = 3 * 2 * 128 * (256 * 49 * 1024 + 1024 * 1024 + 1024 * 4 * 22)
    assert two - one == three - two == later


def test_the_machine_and_the_versions_are_named(script: ModuleType, run: dict) -> None:
    assert script.markdown(run).startswith("A processor, 1 thread; torch 2.13; 3 rounds.")


@pytest.mark.slow
def test_a_run_of_a_few_rois_fills_every_table(script: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("pytest_benchmark")
    measured = tmp_path / "heads.json"
    # Inside of a worker of pytest-xdist pytest-benchmark would measure nothing.
    outside = {name: v for name, v in os.environ.items() if name != "PYTEST_XDIST_WORKER"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "benchmarks/test_heads.py", "-o", "addopts=", "-q",
         "--rounds", "1", "--rois", "8", "--benchmark-quiet", f"--benchmark-json={measured}"],
        cwd=PROJECT, env=outside, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    table = script.markdown(json.loads(measured.read_text()))
    # Two precisions of: a training step of two heads thrice, all but the layers of five heads.
    assert len(re.findall(r"(?:reached|missed) \|$", table, re.M)) == 22
    assert table.count("| OBCRoIHead, K = 2 | ≤ ") == 8

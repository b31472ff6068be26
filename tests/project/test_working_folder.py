"""The tests pass in a checkout with results and data in it, and in one without."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ENVIRONMENT, LEFT_IN_A_CHECKOUT, PATIENCE, PROJECT

from obc.config.load_plan import load_plan

# Those that read files by relative paths, or plan what would be made in the working folder.
SENSITIVE = (
    "tests/config/test_plan.py",
    "tests/config/test_run_ids.py",
    "tests/notebook/test_read_results.py",
    "tests/operations/test_costs.py",
    "tests/operations/test_doctor.py",
    "tests/operations/test_status.py",
    "tests/operations/test_why.py",
    "tests/project/test_readme.py",
)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what a fresh checkout has, without environments, results and data."""
    copy = tmp_path / "checkout"
    copy.mkdir()
    for path in PROJECT.iterdir():
        if path.name.startswith(".") or path.name in LEFT_IN_A_CHECKOUT:
            continue
        if path.is_dir():
            shutil.copytree(path, copy / path.name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, copy)
    shutil.copytree(PROJECT / "results/reference", copy / "results/reference")
    return copy


def leave_results_and_data(checkout: Path) -> None:
    """What `make reproduce` leaves: a plan, finished runs, drawn scenes, fetched files, a lock."""
    plan = load_plan({"scale": "smoke"})
    plan.save(checkout / plan.results / "plan.json")
    for run_id in plan.runs:
        folder = checkout / plan.run_folder(run_id, 0)
        folder.mkdir(parents=True)
        (folder / "final.pth").write_bytes(b"weights")
        (folder / "run.json").write_text("{}", encoding="utf-8")
    for name in plan.scale.data:
        drawn = checkout / plan.data_folder(name)
        drawn.mkdir(parents=True)
        drawn.with_name(f"{drawn.name}.json").write_text("{}", encoding="utf-8")
        index = checkout / plan.index_folder(name)
        index.mkdir(parents=True)
        (index / "manifest.json").write_text("{}", encoding="utf-8")
    for published in load_plan({"scale": "paper"}).published.values():
        target = checkout / published.target
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.suffix:
            target.write_bytes(b"half")
        else:
            target.mkdir(exist_ok=True)
    locks = checkout / ".snakemake/locks"
    locks.mkdir(parents=True)
    (locks / "0.input.lock").write_text("results/smoke/plan.json\n", encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("left", [leave_results_and_data, None], ids=["present", "absent"])
def test_tests_pass_whatever_lies_in_the_working_folder(checkout: Path, left) -> None:
    if left:
        left(checkout)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-m", "not slow", *SENSITIVE],
        cwd=checkout,
        env={**ENVIRONMENT, "PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]

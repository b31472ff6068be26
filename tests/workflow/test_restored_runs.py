"""A measurement in several sittings: Snakemake goes on after stored runs were restored."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from conftest import Workspace, copy_project
from finished_runs import finish, write_data

from obc.config.plan import Plan
from obc.operations.stored_runs import finished_runs, restore, store


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    copy_project(tmp_path / "suite")
    monkeypatch.chdir(tmp_path / "suite")
    return Workspace(tmp_path / "suite")


def restored(suite: Workspace, missing: int) -> Plan:
    """A fresh results folder with Table 1's runs restored, but for some at the end."""
    plan = suite.plan(scale="smoke", seeds=[0])
    write_data(plan)
    run_ids = dict.fromkeys(one.run.run_id for one in plan.evaluations("table1"))
    initial = plan.initial_training(next(iter(run_ids)), 0)
    assert initial is not None
    for run_id in [initial.run_id, *run_ids][: len(run_ids) + 1 - missing]:
        finish(plan, run_id)
    archive = suite.folder / "runs-1.tar.xz"
    store(plan, finished_runs(plan), archive)
    shutil.rmtree(plan.results)
    write_data(plan)
    restore(plan, [archive])
    return plan


def jobs(suite: Workspace, target: str) -> dict[str, int]:
    """Rule: count, of the jobs that a dry run would start."""
    done = suite.snakemake("-n", target, "--config", "scale=smoke", "seeds=[0]")
    assert done.returncode == 0, done.stdout + done.stderr
    statistics = done.stdout.partition("Job stats:")[2].partition("total")[0]
    return {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", statistics, re.M)}


def test_a_table_of_restored_runs_is_written_without_a_training(suite: Workspace) -> None:
    plan = restored(suite, missing=0)
    assert not [path for run in plan.runs for path in plan.run_folder(run, 0).path.glob("*.pth")]
    assert jobs(suite, "results/smoke/tables/table1.csv") == {"table": 1}


def test_only_what_is_missing_is_trained(suite: Workspace) -> None:
    plan = restored(suite, missing=1)
    last = plan.evaluations("table1")[-1].run
    decodes = [one for one in plan.evaluations("table1") if one.run.run_id == last.run_id]
    planned = jobs(suite, "results/smoke/tables/table1.csv")
    assert planned == {"train": 1, "evaluate": len(decodes), "table": 1}

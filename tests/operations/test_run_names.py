"""Names of trainings and jobs, by table and row."""

from __future__ import annotations

import pytest

from obc.config.load_plan import load_plan
from obc.config.plan import Plan
from obc.operations.run_names import job_name, run_name, with_names


@pytest.fixture(scope="module")
def plan() -> Plan:
    return load_plan({"scale": "smoke"})


def run_of(plan: Plan, table: str, key: str) -> str:
    return plan.run_of(plan.tables[table].keyed_rows[key]).run_id


def test_a_run_has_the_name_of_a_row_of_the_first_table_that_needs_it(plan: Plan) -> None:
    full = run_of(plan, "table3", "k2")  # Table 1's full method, too
    assert run_name(plan, full, 0) == "table1 full, seed 0"
    # argmax and expectation are one training
    assert run_name(plan, run_of(plan, "table1", "bins_argmax"), 2) == "table1 bins, seed 2"


def test_starting_weights_are_named_by_their_network(plan: Plan) -> None:
    names = {run_name(plan, run_id, 0) for run_id in plan.initial_runs}
    assert "starting weights faster r50, seed 0" in names
    assert len(names) == len(plan.initial_runs)


def test_names_tell_all_runs_apart_and_fit_a_line(plan: Plan) -> None:
    names = [run_name(plan, run_id, 0) for run_id in plan.trainings]
    assert len(set(names)) == len(names)
    assert max(map(len, names)) <= 60


def test_jobs_are_named_by_rule_and_run_or_file(plan: Plan) -> None:
    full = run_of(plan, "table1", "full")
    of_run = {"results": "results/smoke", "run_id": full, "seed": "1"}
    assert job_name(plan, "train", of_run) == "train table1 full, seed 1"
    of_run["decode"] = "argmax"
    assert job_name(plan, "evaluate", of_run) == "evaluate table1 full, seed 1 (argmax)"
    assert job_name(plan, "interim_page", {"part": "table1"}) == "interim page table1"
    assert job_name(plan, "index", {"results": "r", "index": "voc-1"}) == "index voc-1"


def test_what_a_job_prints_has_names_and_paths_stay(plan: Plan) -> None:
    full = run_of(plan, "table1", "full")
    assert with_names(plan, f"trained {full} seed 0 in 3.0 s") == (
        "trained table1 full, seed 0 in 3.0 s"
    )
    path = f"log: results/smoke/runs/{full}/seed0/log.txt"
    assert with_names(plan, path) == path
    other = "trained voc-faster-r50-l2-00000000 seed 0"
    assert with_names(plan, other) == other

"""The DAG as a user drives it: targets, errors before any job, one table end to end, failures."""

from __future__ import annotations

import json
import re
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from conftest import Workspace, edit

from obc.plan import load_plan

pytestmark = pytest.mark.xdist_group("workflow")


@pytest.fixture(scope="module")
def suite(workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A copy of the tiny suite that this module may fill and break."""
    folder = tmp_path_factory.mktemp("workflow") / "suite"
    shutil.copytree(workspace.folder, folder)
    return Workspace(folder)


@pytest.fixture
def table3(suite: Workspace) -> Iterator[Path]:
    """Table 3's file, to add rows to; as it was afterwards."""
    path = suite.folder / "config/experiments/table3.yaml"
    original = path.read_text()
    yield path
    path.write_text(original)


def planned_jobs(output: str) -> dict[str, int]:
    """Rule: count, from the statistics that a dry run prints last."""
    statistics = output[output.rindex("Job stats:") :]
    return {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", statistics, re.M)}


def child_seconds() -> float:
    """Processor time of finished child processes: what a call costs, however busy the machine."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


# Starting weights: smoke has four (a ResNeXt of its own for the cascades), r50's already trained by
# the fixture; mini has three. mini trains the three runs of Table 1 with a second seed.
@pytest.mark.parametrize(
    ("scale", "train", "evaluate", "fetch"),
    # VOC 2007 and 2012, COCO's two splits and annotations, four networks' weights.
    [("smoke", 39 + 3, 41, 0), ("mini", 39 + 3 + 3, 41 + 5, 0), ("paper", 39, 41, 2 + 3 + 4)],
)
def test_a_dry_run_lists_every_training_in_under_5_seconds(
    suite: Workspace, scale: str, train: int, evaluate: int, fetch: int
) -> None:
    started = child_seconds()
    done = suite.snakemake("-n", "--config", f"scale={scale}")
    assert child_seconds() - started < 5
    assert done.returncode == 0, done.stderr
    jobs = planned_jobs(done.stdout + done.stderr)
    assert (jobs["train"], jobs["evaluate"], jobs["table"]) == (train, evaluate, 6)
    assert (jobs["figure"], jobs["claims_report"], jobs["losses"]) == (1, 1, 1)
    assert jobs.get("fetch", 0) == fetch


@pytest.mark.parametrize(
    ("target", "trainings"),
    # Seed 0 of each run, seed 1 of those that Table 1 has too, and a backbone's starting weights.
    [
        ("table1", 3 + 3 + 1),
        ("table2", 5 + 2 + 1),
        ("table3", 3 + 2 + 1),
        ("table4", 8 + 2 + 2),
        ("table5", 12 + 0 + 3),
        ("figure5", 15 + 1 + 1),
        ("claims", 39 + 3 + 3),
    ],
)
def test_each_table_and_figure_is_a_target_that_trains_what_it_needs(
    suite: Workspace, target: str, trainings: int
) -> None:
    done = suite.snakemake("-n", target, "--config", "scale=mini")
    assert planned_jobs(done.stdout + done.stderr)["train"] == trainings


def test_seeds_multiply_the_trainings(suite: Workspace) -> None:
    done = suite.snakemake("-n", "table1", "--config", "scale=mini", "seeds=[0,1,2]")
    jobs = planned_jobs(done.stdout + done.stderr)
    assert (jobs["train"], jobs["evaluate"]) == (3 * 3 + 1, 3 * 5)


def test_seeds_by_table_are_said_on_the_command_line(suite: Workspace) -> None:
    seeds = 'seeds={"default":[0],"table3":[0,1]}'
    done = suite.snakemake("-n", "table3", "--config", "scale=mini", seeds)
    assert planned_jobs(done.stdout + done.stderr)["train"] == 3 * 2 + 1


def test_a_changed_scale_shares_the_starting_weights(suite: Workspace) -> None:
    change = 'change={"schedule.lr":0.03,"schedule.grad_clip":null}'
    done = suite.snakemake("-n", "table1", "--config", "label=pilot", change)
    assert done.returncode == 0, done.stderr
    assert planned_jobs(done.stdout + done.stderr)["train"] == 3
    assert "results/smoke-pilot/" in done.stdout + done.stderr


def test_the_slurm_profile_asks_for_all_gpus_of_a_training(suite: Workspace) -> None:
    done = suite.snakemake(
        "table1", "-n", "--quiet", "progress", "--workflow-profile", "profiles/slurm",
        "--config", "label=gpus", 'change={"runtime.gpus":2}',
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    output = done.stdout + done.stderr
    (training, *_) = re.findall(r"^rule train:$.*?resources: (.*?)$", output, re.M | re.S)
    for asked in ("gpu=2", "runtime=1440", "mem_mb=24000", "slurm_extra=--signal=TERM@180"):
        assert asked in training.split(", ")


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("scale=smok", "'smok' is not one; allowed: "),
        ("vocroot=x", "did you mean 'voc_root'?"),
        ("voc_root=/nonexistent", "/nonexistent"),
    ],
)
def test_a_wrong_option_stops_before_any_job(suite: Workspace, config: str, expected: str) -> None:
    started = child_seconds()
    done = suite.snakemake("--cores", "1", "--config", config)
    assert child_seconds() - started < 5
    assert done.returncode == 1
    assert expected in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.slow
def test_one_table_end_to_end(suite: Workspace, table3: Path) -> None:
    done = suite.snakemake("--cores", "2", "table3")
    assert done.returncode == 0, done.stderr
    plan = load_plan({"scale": "smoke"}, suite.folder / "config")
    table = pd.read_csv(suite.folder / "results/smoke/tables/table3.csv")
    assert list(table["Method"]) == ["K = 1", "K = 2", "K = 3"]
    for row, line in zip(plan.tables["table3"].rows, table.itertuples(), strict=True):
        run_id = plan.run_of(row).run_id
        measured = suite.folder / "results/smoke/runs" / run_id / "seed0/metrics.expectation.json"
        assert pytest.approx(json.loads(measured.read_text())["metrics"]["AP"]) == line.AP
        assert (line.run_id, line.status, line.scale) == (run_id, "ok", "smoke")
    assert "SMOKE" in (suite.folder / "results/smoke/tables/table3.md").read_text()

    again = suite.snakemake("--cores", "2", "table3")
    assert again.returncode == 0
    assert "Nothing to be done" in again.stdout + again.stderr

    # A new row trains itself and nothing else, also when it is really run.
    row = {"label": "K = 4", "box": {"num_stages": 4}}
    edit(table3, lambda content: content["rows"].append(row))
    jobs = planned_jobs(suite.snakemake("-n", "table3").stdout)
    assert (jobs["train"], jobs["evaluate"], jobs["table"]) == (1, 1, 1)
    assert "index" not in jobs
    assert suite.snakemake("--cores", "2", "table3").returncode == 0
    assert (
        list(pd.read_csv(suite.folder / "results/smoke/tables/table3.csv")["status"]) == ["ok"] * 4
    )


@pytest.mark.slow
def test_a_failed_run_fails_its_table_and_shows_in_the_partial_one(suite: Workspace) -> None:
    suite.new_scale("broken", lr=1e9, grad_clip=None)
    done = suite.snakemake("--cores", "2", "table2", "--config", "scale=broken")
    assert done.returncode == 1
    output = done.stdout + done.stderr
    plan = load_plan({"scale": "broken"}, suite.folder / "config")
    failed = next(run for run in plan.runs if "-l2-" in run)
    assert f"FAILED: {failed} seed 0: TrainingDiverged" in output
    assert f"log: {plan.run_folder(failed, 0) / 'log.txt'}" in output
    assert not (suite.folder / "results/broken/tables/table2.md").exists()

    assert suite.snakemake("--cores", "1", "partial", "--config", "scale=broken").returncode == 0
    folder = suite.folder / "results/broken/partial"
    long = pd.read_csv(folder / "tables/all.csv")
    assert set(long.loc[long["table"] == "table2", "status"]) <= {"failed", "ok"}
    assert set(long.loc[long["run_id"] == failed, "status"]) == {"failed"}
    assert "failed" in (folder / "tables/table2.md").read_text()
    assert "not run" in (folder / "tables/table5.md").read_text()
    assert (folder / "figures/figure5.png").exists()


def test_another_state_of_one_s_own_folder_is_indexed_and_trained_anew(
    suite: Workspace, workspace: Workspace
) -> None:
    (drawn,) = (path for path in (workspace.folder / "data/shapes").glob("voc-*") if path.is_dir())
    root = Path(shutil.copytree(drawn / "VOC2007", suite.folder / "mine"))
    classes = ["ellipse", "rectangle", "triangle", "star"]
    options = ["--config", "voc_root=mine", f"voc_classes={json.dumps(classes)}"]
    assert suite.snakemake("--cores", "2", "--until", "index", *options).returncode == 0
    assert "index" not in planned_jobs(suite.snakemake("-n", "table3", *options).stdout)
    split = root / "ImageSets/Main/train.txt"
    split.write_text("".join(split.read_text().splitlines(keepends=True)[:-1]))
    assert planned_jobs(suite.snakemake("-n", "table3", *options).stdout)["index"] == 1


def test_a_voc_folder_of_one_s_own_replaces_the_embedded_data(
    suite: Workspace, workspace: Workspace
) -> None:
    (drawn,) = (path for path in (workspace.folder / "data/shapes").glob("voc-*") if path.is_dir())
    classes = ["ellipse", "rectangle", "triangle", "star"]
    options = [f"voc_root={drawn / 'VOC2007'}", f"voc_classes={json.dumps(classes)}", "label=mine"]
    done = suite.snakemake("-n", "--config", *options)
    assert done.returncode == 0, done.stderr
    jobs = planned_jobs(done.stdout + done.stderr)
    # r101 needs starting weights, of drawn scenes whatever the data; they are drawn already.
    assert (jobs["train"], jobs["table"]) == (27 + 1, 5)
    assert "draw" not in jobs
    assert "results/smoke-mine/" in done.stdout + done.stderr

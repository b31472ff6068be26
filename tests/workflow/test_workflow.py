"""The DAG as a user drives it: targets, errors before any job, one table end to end, failures."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import yaml
from conftest import BIN, PROJECT, Workspace, edit

from obc.config.load_plan import load_plan
from obc.config.plan import Plan

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


# Starting weights: smoke has four (a ResNeXt of its own for the cascades), r50's already trained by
# the fixture; those of mini come with the suite. mini trains Table 1 with a second seed.
@pytest.mark.parametrize(
    ("scale", "train", "evaluate", "fetch"),
    # VOC 2007 and 2012, COCO's two splits and annotations, four networks' weights.
    [
        ("smoke", 39 + 3, 41, 0),
        pytest.param("mini", 39 + 3, 41 + 5, 0, marks=pytest.mark.slow),
        pytest.param("paper", 39, 41, 2 + 3 + 4, marks=pytest.mark.slow),
    ],
)
def test_a_dry_run_lists_every_training(
    suite: Workspace, scale: str, train: int, evaluate: int, fetch: int
) -> None:
    done = suite.snakemake("-n", "--config", f"scale={scale}")
    assert done.returncode == 0, done.stderr
    jobs = planned_jobs(done.stdout + done.stderr)
    assert (jobs["train"], jobs["evaluate"], jobs["table"]) == (train, evaluate, 6)
    assert (jobs["figure"], jobs["claims_report"], jobs["losses"]) == (1, 1, 1)
    assert (jobs["curves"], jobs["diagnosis"]) == (1, 1)
    assert (jobs["figure4"], jobs["figure6"], jobs["training_curves"]) == (1, 1, 1)
    assert jobs.get("fetch", 0) == fetch


@pytest.mark.parametrize(
    ("target", "trainings"),
    # Seed 0 of each run, seed 1 of those that Table 1 has too; starting weights are shipped.
    [
        pytest.param("table1", 3 + 3, marks=pytest.mark.slow),
        ("table2", 5 + 2),
        pytest.param("table3", 3 + 2, marks=pytest.mark.slow),
        pytest.param("table4", 8 + 2, marks=pytest.mark.slow),
        pytest.param("table5", 12 + 0, marks=pytest.mark.slow),
        pytest.param("figure5", 15 + 1, marks=pytest.mark.slow),
        # Figure 6 is of one seed of two runs, the curves of all seeds of Table 1's.
        pytest.param("figure6", 2, marks=pytest.mark.slow),
        pytest.param("training_curves", 3 + 3, marks=pytest.mark.slow),
        pytest.param("claims", 39 + 3, marks=pytest.mark.slow),
        pytest.param("curves", 3 + 3, marks=pytest.mark.slow),
        pytest.param("diagnosis", 3 + 3, marks=pytest.mark.slow),
    ],
)
def test_each_table_and_figure_is_a_target_that_trains_what_it_needs(
    suite: Workspace, target: str, trainings: int
) -> None:
    done = suite.snakemake("-n", target, "--config", "scale=mini")
    assert planned_jobs(done.stdout + done.stderr)["train"] == trainings


def test_figure_4_needs_no_training(suite: Workspace) -> None:
    done = suite.snakemake("-n", "figure4", "--config", "scale=mini")
    assert planned_jobs(done.stdout + done.stderr) == {"figure4": 1, "total": 1}


def test_seeds_multiply_the_trainings(suite: Workspace) -> None:
    done = suite.snakemake("-n", "table1", "--config", "scale=mini", "seeds=[0,1,2]")
    jobs = planned_jobs(done.stdout + done.stderr)
    assert (jobs["train"], jobs["evaluate"]) == (3 * 3, 3 * 5)


@pytest.mark.slow
def test_seeds_by_table_are_said_on_the_command_line(suite: Workspace) -> None:
    seeds = 'seeds={"default":[0],"table3":[0,1]}'
    done = suite.snakemake("-n", "table3", "--config", "scale=mini", seeds)
    assert planned_jobs(done.stdout + done.stderr)["train"] == 3 * 2


def test_a_changed_scale_shares_the_starting_weights(suite: Workspace) -> None:
    change = 'change={"schedule.lr":0.03,"schedule.grad_clip":null}'
    done = suite.snakemake("-n", "table1", "--config", "label=pilot", change)
    assert done.returncode == 0, done.stderr
    assert planned_jobs(done.stdout + done.stderr)["train"] == 3
    assert "results/smoke-pilot/" in done.stdout + done.stderr


def test_what_an_earlier_table_needs_goes_before_trainings_of_a_later_one(
    suite: Workspace,
) -> None:
    asked = ("table1", "figure5", "table5", "--config", "scale=mini")
    output = suite.snakemake("-n", *asked).stdout
    plan = load_plan({"scale": "mini"}, suite.folder / "config")
    jobs = re.findall(r"^rule (\w+):$.*?output: (.*?)$.*?priority: (\d+)$", output, re.M | re.S)
    by_table: dict[str, dict[str, set[int]]] = {}
    for rule, files, priority in jobs:
        run = re.search(r"/runs/([^/]+)/", files)
        name = re.search(r"(table\d|figure5)", files)
        table = plan.first_table(run[1]) if run else name and name[1]
        by_table.setdefault(table, {}).setdefault(rule, set()).add(int(priority))
    assert {"table1", "figure5", "table5"} <= by_table.keys()
    for earlier, later in (("table1", "figure5"), ("figure5", "table5")):
        least = min(min(found) for found in by_table[earlier].values())
        assert least > max(max(found) for found in by_table[later].values())
    (trained,), (evaluated,), (on_page,) = (
        by_table["table1"][rule] for rule in ("train", "evaluate", "interim_page")
    )
    assert trained < evaluated < on_page


def test_a_dry_run_says_why_each_job_would_run(suite: Workspace) -> None:
    output = suite.snakemake("-n", "figure4").stdout
    assert "reason: Missing output files: results/smoke/figures/figure4" in output


def asked_of_slurm(suite: Workspace, *config: str) -> list[str]:
    """What the profile asks for a training, as a dry run shows it; it counts threads by --cores."""
    done = suite.snakemake(
        "table1", "-n", "--cores", "64", "--quiet", "progress",
        "--workflow-profile", "profiles/slurm", "--config", *config,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    output = done.stdout + done.stderr
    (training, *_) = re.findall(r"^rule train:$.*?resources: (.*?)$", output, re.M | re.S)
    return training.split(", ")


@pytest.mark.parametrize(
    "gpus", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(4, marks=pytest.mark.slow)]
)
def test_the_slurm_profile_asks_for_gpus_cpus_and_memory_of_every_process(
    suite: Workspace, gpus: int
) -> None:
    asked = asked_of_slurm(suite, "scale=paper", f"gpus_per_run={gpus}")
    scaled = {f"gpu={gpus}", f"cpus_per_task={4 * gpus}", f"mem_mb={24000 * gpus}", "nodes=1"}
    assert scaled <= set(asked)
    assert {"runtime=1440", "slurm_extra=--signal=TERM@180"} <= set(asked)


@pytest.mark.slow
def test_a_training_on_the_cpu_asks_slurm_for_one_process_and_no_gpu(suite: Workspace) -> None:
    asked = asked_of_slurm(suite, "scale=paper", "gpus_per_run=0")
    assert {"gpu=0", "cpus_per_task=4", "mem_mb=24000"} <= set(asked)


@pytest.mark.slow
def test_the_gres_style_of_the_profile_asks_for_all_gpus_too(suite: Workspace) -> None:
    path = suite.folder / "profiles/slurm/config.yaml"
    original = path.read_text()
    (of_train, *_) = re.findall(r"# gpu: 0\n +# (gres: .*)", original)
    style = yaml.safe_load(of_train)
    edit(path, lambda profile: profile["set-resources"]["train"].update(gpu=0, **style))
    try:
        assert "gres=gpu:2" in asked_of_slurm(suite, "scale=paper", "gpus_per_run=2")
    finally:
        path.write_text(original)


def test_no_attempt_of_a_training_asks_for_more_time_than_the_partition_allows() -> None:
    profile = (PROJECT / "profiles/slurm/config.yaml").read_text()
    limit = int(re.findall(r"# EDIT: (\d+) minutes are the longest", profile)[0])
    content = yaml.safe_load(profile)
    runtime = content["set-resources"]["train"]["runtime"]
    attempts = range(1, content["retries"] + 2)
    asked = [eval(runtime, {"attempt": attempt}) for attempt in attempts]
    assert asked == [1440, 2880, 2880, 2880]
    assert max(asked) == limit


# --- make reproduce ----------------------------------------------------------------------------

NVIDIA_SMI = """#!/bin/sh
printf 'GPU 0: NVIDIA A (UUID: GPU-aa)\nGPU 1: NVIDIA A (UUID: GPU-bb)\n'
"""


def reproduce(path: Path, **environment: str) -> str:
    """The command that `make reproduce` would run, with programs of a folder first on PATH."""
    outside = {k: v for k, v in os.environ.items() if k not in ("GPUS", "CUDA_VISIBLE_DEVICES")}
    done = subprocess.run(
        ["make", "-n", "-o", ".venv/.ready", "reproduce", f"BIN={BIN}", "SCALE=paper", "CORES=8"],
        cwd=PROJECT, capture_output=True, text=True, check=True,
        env={**outside, "PATH": f"{path}:{os.environ['PATH']}", **environment},
    )  # fmt: skip
    return " ".join(done.stdout.split())


@pytest.fixture
def two_gpus(tmp_path: Path) -> Path:
    """A folder with an `nvidia-smi` that lists two."""
    (tmp_path / "nvidia-smi").write_text(NVIDIA_SMI)
    (tmp_path / "nvidia-smi").chmod(0o755)
    return tmp_path


def test_make_fills_every_gpu_that_there_is(two_gpus: Path) -> None:
    assert "snakemake --cores 8 --resources gpu=2 --config scale=paper" in reproduce(two_gpus)


def test_make_fills_as_many_gpus_as_are_asked_for_or_visible(two_gpus: Path) -> None:
    assert "--resources gpu=1 " in reproduce(two_gpus, GPUS="1")
    assert "--resources gpu=1 " in reproduce(two_gpus, CUDA_VISIBLE_DEVICES="1")


def test_make_says_nothing_of_gpus_where_there_is_none(two_gpus: Path) -> None:
    (two_gpus / "nvidia-smi").write_text("#!/bin/sh\necho 'no driver'; exit 9\n")
    assert "snakemake --cores 8 --config scale=paper" in reproduce(two_gpus)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        # The messages themselves, of these and of other errors, are of test_plan.py.
        pytest.param("scale=smok", "'smok' is not one; allowed: ", marks=pytest.mark.slow),
        ("vocroot=x", "did you mean 'voc_root'?"),
        pytest.param("voc_root=/nonexistent", "/nonexistent", marks=pytest.mark.slow),
    ],
)
def test_a_wrong_option_stops_before_any_job(suite: Workspace, config: str, expected: str) -> None:
    done = suite.snakemake("--cores", "1", "--config", config)
    assert done.returncode == 1
    assert expected in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_one_table_and_its_page_end_to_end(suite: Workspace, table3: Path) -> None:
    # One of its rows: all of them, which the claims name, and a new one are of the next test.
    edit(table3, lambda content: content.update(rows=content["rows"][1:2]))
    (suite.folder / "config/claims.yaml").rename(suite.folder / "claims.yaml")
    try:
        done = suite.snakemake("--cores", "2", "table3")
        assert done.returncode == 0, done.stderr
        results = suite.folder / "results/smoke"
        plan = Plan.load(results / "plan.json")
        table = pd.read_csv(results / "tables/table3.csv")
        assert list(table["Method"]) == ["K = 2"]
        assert_shows_what_was_measured(suite, plan, table)
        assert "SMOKE" in (results / "tables/table3.md").read_text()
        assert suite.obc("report", "results/smoke/plan.json").returncode == 0
        page = (results / "report.html").read_text()
        assert all(line.run_id in page and f"{line.AP:.1f}" in page for line in table.itertuples())
    finally:
        (suite.folder / "claims.yaml").rename(suite.folder / "config/claims.yaml")


def assert_shows_what_was_measured(suite: Workspace, plan: Plan, table: pd.DataFrame) -> None:
    """Each line of Table 3 has the AP of the file that its row's evaluation wrote."""
    for row, line in zip(plan.tables["table3"].rows, table.itertuples(), strict=True):
        run_id = plan.run_of(row).run_id
        measured = suite.folder / "results/smoke/runs" / run_id / "seed0/metrics.expectation.json"
        assert pytest.approx(json.loads(measured.read_text())["metrics"]["AP"]) == line.AP
        assert (line.run_id, line.status, line.scale) == (run_id, "ok", "smoke")


@pytest.mark.slow
def test_a_whole_table_is_made_once_and_a_new_row_trains_itself_only(
    suite: Workspace, table3: Path
) -> None:
    done = suite.snakemake("--cores", "2", "table3")
    assert done.returncode == 0, done.stderr
    plan = load_plan({"scale": "smoke"}, suite.folder / "config")
    table = pd.read_csv(suite.folder / "results/smoke/tables/table3.csv")
    assert list(table["Method"]) == ["K = 1", "K = 2", "K = 3"]
    assert_shows_what_was_measured(suite, plan, table)
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


@pytest.mark.slow
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


@pytest.mark.slow
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

"""Table 1 through a real SLURM, and what may befall its jobs: the table comes out the same.

`make test-slurm` runs these; `make test` does not. They start a SLURM of their own on this machine
(start_slurm.sh), so they need root and Debian's slurm-wlm and munge.

A training that is to be hit is frozen (SIGSTOP) once it has a checkpoint, so that it is hit however
fast the machine is. SLURM wakes what it kills, as with any process that hangs.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import torch
from conftest import BIN, ENVIRONMENT, PROJECT, Workspace, edit

HERE = Path(__file__).parent
EPOCHS = 12
TABLE = Path("results/slurm/tables/table1.csv")
SLURM = ("--workflow-profile", "profiles/slurm", "table1", "--config", "scale=slurm")

pytestmark = [
    pytest.mark.skipif(shutil.which("slurmctld") is None, reason="needs slurm-wlm and munge"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can start slurmctld and slurmd"),
]


@pytest.fixture(scope="module", autouse=True)
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A running SLURM of two nodes."""
    folder = tmp_path_factory.mktemp("cluster")
    subprocess.run([HERE / "start_slurm.sh", folder], check=True)
    yield
    subprocess.run([HERE / "stop_slurm.sh", folder], check=True)


def small_cluster(profile: dict) -> None:
    """What a user of this cluster edits: time in minutes, no accounting, quick looks."""
    profile["default-resources"] = {"runtime": "10 * attempt", "mem_mb": "500 * attempt"}
    for rule in profile["set-resources"].values():
        rule.update(runtime="10 * attempt", mem_mb="500 * attempt", cpus_per_task=1)
    profile["slurm-status-command"] = "squeue"
    profile["slurm-init-seconds-before-status-checks"] = 2
    profile["latency-wait"] = 10


@dataclass(frozen=True)
class Suite(Workspace):
    """A suite of which one training may be disturbed; `trained` is that run's folder."""

    trained: Path

    @contextmanager
    def head(self) -> Iterator[subprocess.Popen[bytes]]:
        """Snakemake, submitting to SLURM; its output goes to head.log."""
        with (self.folder / "head.log").open("ab") as log:
            head = subprocess.Popen(
                [BIN / "snakemake", *SLURM],
                cwd=self.folder, env=ENVIRONMENT, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        try:
            yield head
        finally:
            head.kill()
            head.wait()

    def finish(self, head: subprocess.Popen[bytes]) -> None:
        """Wait until the head has made the table."""
        status = head.wait(timeout=900)
        assert status == 0, (self.folder / "head.log").read_text()

    def frozen_training(self) -> tuple[psutil.Process, str]:
        """The training once it has a whole checkpoint, stopped, and its SLURM job."""
        wait_until(lambda: len(self.checkpoints()) > 0)
        first = self.checkpoints()
        # The next one is begun: the first is whole.
        wait_until(lambda: self.checkpoints() - first)
        (process,) = self.trainings()
        process.suspend()
        return process, process.environ()["SLURM_JOB_ID"]

    def checkpoints(self) -> set[Path]:
        return set((self.trained / "work").glob("*.pth"))

    def trainings(self) -> list[psutil.Process]:
        """Processes that train this suite's run."""
        found = []
        for process in psutil.process_iter(["cmdline", "cwd"]):
            command = process.info["cmdline"] or []
            if process.info["cwd"] == str(self.folder) and command[1:2] == [str(BIN / "obc")]:
                found += [process] if command[2] == "train" else []
        return found

    def check(self, reference: Suite) -> None:
        """The undisturbed table and weights, by a training that went on from its checkpoint."""
        assert (self.folder / TABLE).read_bytes() == (reference.folder / TABLE).read_bytes()
        weights, undisturbed = (
            torch.load(folder / "final.pth") for folder in (self.trained, reference.trained)
        )
        assert weights.keys() == undisturbed.keys()
        assert all(torch.equal(weights[key], undisturbed[key]) for key in weights)
        record = json.loads((self.trained / "run.json").read_text())
        assert len(record["sessions"]) == 2
        assert record["sessions"][-1]["images"] < EPOCHS * 48


@pytest.fixture(scope="module")
def reference(cluster: None, workspace: Workspace) -> Suite:
    """A suite whose Table 1 was made through SLURM, undisturbed, with the profile edited."""
    workspace.new_scale("slurm", epochs=EPOCHS, steps=[8])
    edit(workspace.folder / "profiles/slurm/config.yaml", small_cluster)
    run_id = next(run for run in workspace.plan(scale="slurm").runs if "-r50-obc-a3-n20-k2-" in run)
    suite = Suite(workspace.folder, workspace.folder / "results/slurm/runs" / run_id / "seed0")
    with suite.head() as head:
        suite.finish(head)
    return suite


@pytest.fixture
def suite(reference: Suite, tmp_path: Path) -> Iterator[Suite]:
    """A copy of it in which one training, its evaluations and the table are still to be done."""
    suite = Suite(tmp_path, tmp_path / reference.trained.relative_to(reference.folder))
    shutil.copytree(reference.folder, suite.folder, dirs_exist_ok=True)
    shutil.rmtree(suite.trained)
    shutil.rmtree(suite.folder / TABLE.parent)
    yield suite
    # The Snakemake of a job that lost its node may wait for ever; its training is long gone.
    for process in psutil.process_iter(["cmdline"]):
        if any(str(suite.folder) in word for word in process.info["cmdline"] or []):
            process.kill()


def wait_until(condition: Callable[[], object], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)


def slurm(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def job_state(job: str) -> str:
    return slurm("squeue", "--noheader", "--states=all", "--format=%T", "--jobs", job).strip()


def test_table_1_is_that_of_one_machine(reference: Suite, suite: Suite) -> None:
    assert suite.snakemake("--cores", "2", "table1", "--config", "scale=slurm").returncode == 0
    assert (suite.folder / TABLE).read_bytes() == (reference.folder / TABLE).read_bytes()


def no_warning(profile: dict) -> None:
    """The profile without SLURM's warning that the time is nearly up."""
    del profile["set-resources"]["train"]["slurm_extra"]


@pytest.mark.parametrize(
    "change, ends", [(None, "FAILED"), (no_warning, "TIMEOUT")], ids=["warned", "killed"]
)
def test_a_training_out_of_time_goes_on_in_a_job_with_more_time(
    suite: Suite, reference: Suite, change: Callable[[dict], None] | None, ends: str
) -> None:
    if change is not None:
        edit(suite.folder / "profiles/slurm/config.yaml", change)
    with suite.head() as head:
        _, job = suite.frozen_training()
        slurm("scontrol", "update", f"jobid={job}", "timelimit=1")  # of the ten that it asked for
        wait_until(lambda: job_state(job) == ends)
        suite.finish(head)
    limits = slurm("squeue", "--noheader", "--states=all", "--sort=i", "--format=%Z|%k|%l")
    assert [
        limit
        for folder, comment, limit in (line.split("|") for line in limits.splitlines())
        if folder == str(suite.folder) and comment.startswith("rule_train")
    ] == ["1:00", "20:00"]
    suite.check(reference)


def test_a_cancelled_training_goes_on_in_another_job(suite: Suite, reference: Suite) -> None:
    with suite.head() as head:
        _, job = suite.frozen_training()
        slurm("scancel", job)
        suite.finish(head)
    assert job_state(job) == "CANCELLED"
    suite.check(reference)


@pytest.fixture
def nodes_back() -> Iterator[None]:
    yield
    # SLURM refuses to resume a node that is up, and takes a node back by itself once it answers.
    lost = slurm("sinfo", "--noheader", "--Node", "--states=down,drain", "--format=%N").split()
    for node in lost:
        slurm("scontrol", "update", f"nodename={node}", "state=resume")


def test_a_training_outlives_its_node(suite: Suite, reference: Suite, nodes_back: None) -> None:
    with suite.head() as head:
        _, job = suite.frozen_training()
        node = slurm("squeue", "--noheader", "--format=%N", "--jobs", job).strip()
        slurm("scontrol", "update", f"nodename={node}", "state=drain", "reason=test")
        assert (
            job_state(job) == "RUNNING"
        )  # draining lets jobs finish; taking the node down does not
        slurm("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
        suite.finish(head)
    suite.check(reference)


def test_a_new_head_takes_over_from_a_killed_one(suite: Suite, reference: Suite) -> None:
    with suite.head() as head:
        process, job = suite.frozen_training()
        head.send_signal(signal.SIGKILL)
        head.wait()
    assert suite.snakemake("--unlock", *SLURM).returncode == 0
    with suite.head() as head:
        suite.finish(head)
    assert job_state(job) == "CANCELLED"
    assert not process.is_running()
    assert (
        f"cancelled SLURM jobs of an earlier call: {job}" in (suite.folder / "head.log").read_text()
    )
    suite.check(reference)


ONE_RULE = """
rule train:
    output: "gpus.txt"
    resources: gpu=1
    shell: "echo $SLURM_GPUS_ON_NODE $CUDA_VISIBLE_DEVICES > {output}"
"""


@pytest.mark.parametrize(
    "style", [{}, {"gpu": 0, "gres": "f'gpu:{threads}'"}], ids=["gpus", "gres"]
)
def test_a_job_gets_a_gpu_in_either_style(tmp_path: Path, style: dict[str, object]) -> None:
    shutil.copytree(PROJECT / "profiles", tmp_path / "profiles")
    (tmp_path / "Snakefile").write_text(ONE_RULE)
    profile = tmp_path / "profiles/slurm/config.yaml"
    edit(profile, small_cluster)
    edit(profile, lambda content: content["set-resources"]["train"].update(style))
    done = Workspace(tmp_path).snakemake("--workflow-profile", "profiles/slurm")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "gpus.txt").read_text() == "1 0\n"

"""SLURM jobs of a killed Snakemake are cancelled, others not; SLURM's programs are stood in for."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from conftest import ENVIRONMENT, Workspace, copy_project
from snakemake_executor_plugin_slurm.utils import get_job_wildcards

from obc.operations.slurm_jobs import JobsLeftOver, SlurmSilent, cancel_left_over, job_comment

MINE = "rule_train_wildcards_results_smoke_voc-1_0"


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A queue in a file, which this `squeue` prints and this `scancel` takes jobs out of."""
    queue = tmp_path / "queue"
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, command in {
        "squeue": f"cat {queue}",
        "scancel": f'for job in "$@"; do sed -i "/^$job|/d" {queue}; done',
    }.items():
        (programs / name).write_text(f"#!/bin/sh\n{command}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setitem(ENVIRONMENT, "PATH", os.environ["PATH"])  # of commands in a workspace
    return queue


def test_only_jobs_that_make_the_same_files_are_cancelled(queue: Path, tmp_path: Path) -> None:
    kept = [
        f"11|{tmp_path}|rule_train_wildcards_results_mini_voc-1_0",
        f"12|{tmp_path.parent}|{MINE}",
        f"13|{tmp_path}|",
    ]
    queue.write_text("\n".join([f"10|{tmp_path}|{MINE}", *kept, ""]), encoding="utf-8")
    assert cancel_left_over(tmp_path, {MINE}) == ("10",)
    assert queue.read_text(encoding="utf-8").splitlines() == kept


def test_without_left_over_jobs_nothing_is_cancelled(queue: Path, tmp_path: Path) -> None:
    queue.write_text("", encoding="utf-8")
    assert cancel_left_over(tmp_path, {MINE}) == ()


def test_a_machine_without_slurm_has_no_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cancel_left_over(tmp_path, {MINE}) == ()


def test_a_slurm_that_does_not_answer_is_told_from_one_without_jobs(
    tmp_path: Path, queue: Path
) -> None:
    with pytest.raises(SlurmSilent, match="is SLURM up"):
        cancel_left_over(tmp_path, {MINE})  # the queue's file is not there: squeue fails


@pytest.fixture
def stuck(queue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A queue with a job that nothing ends, and nobody who waits for it."""
    monkeypatch.setattr("obc.operations.slurm_jobs.CANCEL_SECONDS", 0.0)
    queue.write_text(f"10|{tmp_path}|{MINE}\n", encoding="utf-8")
    replace(tmp_path / "bin/scancel", "echo 'Access denied' >&2; exit 1")
    return queue


def replace(program: Path, command: str) -> None:
    program.write_text(f"#!/bin/sh\n{command}\n", encoding="utf-8")


def test_a_job_that_does_not_end_is_an_error_that_names_the_remedy(
    stuck: Path, tmp_path: Path
) -> None:
    with pytest.raises(JobsLeftOver, match=r"SLURM jobs 10 .*Access denied.*`scancel 10`"):
        cancel_left_over(tmp_path, {MINE})


def test_a_slurm_that_falls_silent_while_a_job_ends_leaves_the_job_in_doubt(
    stuck: Path, tmp_path: Path
) -> None:
    replace(tmp_path / "bin/scancel", f"rm {stuck}")  # squeue fails from now on
    with pytest.raises(JobsLeftOver, match="SLURM jobs 10"):
        cancel_left_over(tmp_path, {MINE})


def test_a_job_that_ended_by_itself_is_no_error_though_scancel_does_not_know_it(
    stuck: Path, tmp_path: Path
) -> None:
    replace(tmp_path / "bin/scancel", f"echo 'Invalid job id' >&2; : > {stuck}; exit 1")
    assert cancel_left_over(tmp_path, {MINE}) == ("10",)


# --- the head ----------------------------------------------------------------------------------

NO_PATIENCE = """
import sys
import obc.operations.slurm_jobs
from snakemake.cli import main
obc.operations.slurm_jobs.CANCEL_SECONDS = 0.0
main(sys.argv[1:])
"""
FIGURE = Path("results/smoke/figures/losses.svg")


@pytest.fixture
def head(tmp_path: Path) -> Workspace:
    """A folder from which something was submitted to SLURM before."""
    copy_project(tmp_path)
    (tmp_path / ".snakemake/slurm_logs").mkdir(parents=True)
    return Workspace(tmp_path)


@pytest.mark.slow
def test_snakemake_stops_before_any_job_where_a_left_over_one_does_not_end(
    stuck: Path, head: Workspace
) -> None:
    stuck.write_text(f"10|{head.folder}|rule_losses\n", encoding="utf-8")
    done = head.run(sys.executable, "-c", NO_PATIENCE, "--cores", "1", FIGURE)
    assert done.returncode == 1
    assert "`scancel 10`" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (head.folder / FIGURE).exists()
    # It does not leave its lock behind: the same command again, once the job is gone.
    stuck.write_text("", encoding="utf-8")
    assert head.snakemake("--cores", "1", FIGURE).returncode == 0


@pytest.mark.slow
def test_snakemake_goes_on_with_a_warning_where_slurm_is_silent(
    queue: Path, head: Workspace
) -> None:
    done = head.snakemake("--cores", "1", FIGURE)  # the queue's file is not there: squeue fails
    assert done.returncode == 0, done.stderr
    assert "no look for SLURM jobs of an earlier call: squeue" in done.stderr
    assert (head.folder / FIGURE).exists()


@pytest.mark.parametrize("wildcards", [[], ["results/smoke", "voc-1", "0"]])
def test_a_job_s_comment_is_the_plugin_s(wildcards: list[str]) -> None:
    class Job:
        pass

    job = Job()
    job.wildcards = wildcards
    text = get_job_wildcards(job)
    assert job_comment("train", wildcards) == "rule_train" + (text and f"_wildcards_{text}")

"""SLURM jobs of a killed Snakemake are cancelled, others not; SLURM's programs are stood in for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from snakemake_executor_plugin_slurm.utils import get_job_wildcards

from obc.slurm import SlurmError, cancel_left_over, job_comment

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
    return queue


def test_only_jobs_that_make_the_same_files_are_cancelled(queue: Path, tmp_path: Path) -> None:
    kept = [
        f"11|{tmp_path}|rule_train_wildcards_results_mini_voc-1_0",
        f"12|{tmp_path.parent}|{MINE}",
        f"13|{tmp_path}|",
    ]
    queue.write_text("\n".join([f"10|{tmp_path}|{MINE}", *kept, ""]))
    assert cancel_left_over(tmp_path, {MINE}) == ("10",)
    assert queue.read_text().splitlines() == kept


def test_without_left_over_jobs_nothing_is_cancelled(queue: Path, tmp_path: Path) -> None:
    queue.write_text("")
    assert cancel_left_over(tmp_path, {MINE}) == ()


def test_a_machine_without_slurm_has_no_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cancel_left_over(tmp_path, {MINE}) == ()


def test_a_slurm_that_does_not_answer_is_an_error(tmp_path: Path, queue: Path) -> None:
    with pytest.raises(SlurmError, match="is SLURM up"):
        cancel_left_over(tmp_path, {MINE})  # the queue's file is not there: squeue fails


def test_a_job_that_does_not_end_is_an_error(
    queue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("obc.slurm.CANCEL_SECONDS", 0.0)
    queue.write_text(f"10|{tmp_path}|{MINE}\n")
    (tmp_path / "bin/scancel").write_text("#!/bin/sh\n")
    with pytest.raises(SlurmError, match="SLURM jobs 10 of an earlier call"):
        cancel_left_over(tmp_path, {MINE})


@pytest.mark.parametrize("wildcards", [[], ["results/smoke", "voc-1", "0"]])
def test_a_job_s_comment_is_the_plugin_s(wildcards: list[str]) -> None:
    class Job:
        pass

    job = Job()
    job.wildcards = wildcards
    text = get_job_wildcards(job)
    assert job_comment("train", wildcards) == "rule_train" + (text and f"_wildcards_{text}")

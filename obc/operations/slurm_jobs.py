"""Cancel SLURM jobs that a killed Snakemake left behind.

A SLURM job outlives the Snakemake that submitted it. The next Snakemake does not know such jobs and
submits its own for the same files, so the old jobs are cancelled first. A cancelled training saves
a checkpoint, from which the new job continues. A job that was still queued can no longer start and
repeat work that is finished by then.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Collection
from pathlib import Path

from obc.io.errors import SuiteError

CANCEL_SECONDS = 300.0


class SlurmSilent(SuiteError):
    """SLURM does not answer, so it is unknown whether it has jobs of an earlier call."""


class JobsLeftOver(SuiteError):
    """Jobs of an earlier call do not end; no new jobs may be submitted for their files."""


def job_comment(rule: str, wildcards: Collection[str]) -> str:
    """Return the comment that Snakemake's SLURM plugin gives a job; it identifies its files."""
    values = "_".join(wildcards).replace("/", "_")
    return f"rule_{rule}_wildcards_{values}" if values else f"rule_{rule}"


def cancel_left_over(folder: Path, comments: Collection[str]) -> tuple[str, ...]:
    """Cancel this user's jobs with one of these comments in a folder, and wait until they are gone.

    The caller must hold Snakemake's lock on the files of these jobs; then no other running
    Snakemake has submitted them. If SLURM is not installed, nothing happens.

    Args:
        folder: the workflow's working directory; jobs of other folders are left alone.
        comments: comments of the jobs to cancel, see `job_comment`.

    Returns:
        Ids of the jobs that were cancelled.

    Raises:
        SlurmSilent: `squeue` failed, before anything was cancelled.
        JobsLeftOver: after CANCEL_SECONDS a job has not ended, or SLURM does not answer.
    """
    if shutil.which("squeue") is None:
        return ()
    jobs = _jobs(folder, comments)
    if not jobs:
        return ()
    deadline = time.monotonic() + CANCEL_SECONDS
    # scancel also fails if a job has just ended, so only the list of squeue counts.
    scancel = subprocess.run(
        ["scancel", *jobs], capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    while left := _still_there(jobs, folder, comments):
        if time.monotonic() > deadline:
            said = f"; scancel says: {scancel.stderr.strip()}" if scancel.stderr.strip() else ""
            raise JobsLeftOver(
                f"SLURM jobs {', '.join(left)} of an earlier call of snakemake, for files that are "
                f"to be made now, do not end {CANCEL_SECONDS:.0f} s after scancel{said}. Call "
                f"`scancel {' '.join(left)}`, or ask an administrator if `squeue --me` goes on "
                "listing them, then call again"
            )
        time.sleep(1.0)
    return jobs


def _still_there(jobs: tuple[str, ...], folder: Path, comments: Collection[str]) -> tuple[str, ...]:
    """Return the jobs that have not ended; all of them if SLURM does not answer."""
    try:
        listed = _jobs(folder, comments)
    except SlurmSilent:
        return jobs
    return tuple(job for job in jobs if job in listed)


def _jobs(folder: Path, comments: Collection[str]) -> tuple[str, ...]:
    """Ids of this user's waiting, running and ending jobs with these comments in a folder."""
    command = ["squeue", "--me", "--noheader", "--format=%i|%Z|%k"]
    done = subprocess.run(
        command, capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    if done.returncode:
        raise SlurmSilent(
            f"{' '.join(command)}: {done.stderr.strip()}; is SLURM up? "
            "(`scontrol ping`; SLURM's programs are on PATH here)"
        )
    # The comment comes last because it may contain the separator.
    listed = (line.split("|", maxsplit=2) for line in done.stdout.splitlines())
    return tuple(
        job
        for job, workdir, comment in listed
        if Path(workdir).resolve() == folder.resolve() and comment in comments
    )

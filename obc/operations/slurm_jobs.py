"""SLURM jobs that a killed Snakemake left behind.

A SLURM job outlives the Snakemake that submitted it. The next Snakemake does not know such jobs and
submits its own for the same files, so the old ones are cancelled first: trainings save and go on in
the new jobs, and a job that still waits in the queue cannot redo later what is done by then.
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
    """SLURM does not answer, so that nobody knows whether it has jobs of an earlier call."""


class JobsLeftOver(SuiteError):
    """Jobs of an earlier call do not end; nothing may be submitted for their files."""


def job_comment(rule: str, wildcards: Collection[str]) -> str:
    """What Snakemake's SLURM plugin writes into a job's comment; it names the files it makes."""
    values = "_".join(wildcards).replace("/", "_")
    return f"rule_{rule}_wildcards_{values}" if values else f"rule_{rule}"


def cancel_left_over(folder: Path, comments: Collection[str]) -> tuple[str, ...]:
    """Cancel this user's jobs with one of these comments in a folder, and wait until they are gone.

    To be called by whoever holds Snakemake's lock on the files of these jobs: then no other
    Snakemake that lives has submitted them. Where SLURM is not installed there is nothing to do.

    Args:
        folder: the workflow's working directory; other folders' jobs are left alone.
        comments: of the jobs to be cancelled, see `job_comment`.

    Returns:
        Ids of the jobs that were cancelled.

    Raises:
        SlurmSilent: `squeue` failed, before anything was cancelled.
        JobsLeftOver: a job is still there after CANCEL_SECONDS, or SLURM fell silent meanwhile.
    """
    if shutil.which("squeue") is None:
        return ()
    jobs = _jobs(folder, comments)
    if not jobs:
        return ()
    deadline = time.monotonic() + CANCEL_SECONDS
    # A job that ended by itself in between makes scancel fail: what squeue lists counts.
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
    """Which of these jobs have not ended; all of them as long as SLURM does not say."""
    try:
        listed = _jobs(folder, comments)
    except SlurmSilent:
        return jobs
    return tuple(job for job in jobs if job in listed)


def _jobs(folder: Path, comments: Collection[str]) -> tuple[str, ...]:
    """Ids of this user's jobs, waiting, running or ending, in a folder with one of the comments."""
    command = ["squeue", "--me", "--noheader", "--format=%i|%Z|%k"]
    done = subprocess.run(
        command, capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    if done.returncode:
        raise SlurmSilent(
            f"{' '.join(command)}: {done.stderr.strip()}; is SLURM up? "
            "(`scontrol ping`; SLURM's programs are on PATH here)"
        )
    # The comment last: nothing keeps it from having the separator in it.
    listed = (line.split("|", maxsplit=2) for line in done.stdout.splitlines())
    return tuple(
        job
        for job, workdir, comment in listed
        if Path(workdir).resolve() == folder.resolve() and comment in comments
    )

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

from obc.errors import SuiteError

CANCEL_SECONDS = 300.0


class SlurmError(SuiteError):
    """SLURM did not answer, or a job does not end."""


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
        SlurmError: `squeue` or `scancel` failed, or a job is still there after CANCEL_SECONDS.
    """
    if shutil.which("squeue") is None:
        return ()
    jobs = _jobs(folder, comments)
    if not jobs:
        return ()
    _ask("scancel", *jobs)
    deadline = time.monotonic() + CANCEL_SECONDS
    while left := set(_jobs(folder, comments)) & set(jobs):
        if time.monotonic() > deadline:
            raise SlurmError(
                f"SLURM jobs {', '.join(sorted(left))} of an earlier call of snakemake do not end "
                f"{CANCEL_SECONDS:.0f} s after scancel; look at `squeue --me` and call again"
            )
        time.sleep(1.0)
    return jobs


def _jobs(folder: Path, comments: Collection[str]) -> tuple[str, ...]:
    """Ids of this user's jobs, waiting, running or ending, in a folder with one of the comments."""
    # The comment last: nothing keeps it from having the separator in it.
    lines = _ask("squeue", "--me", "--noheader", "--format=%i|%Z|%k").splitlines()
    jobs = (line.split("|", maxsplit=2) for line in lines)
    return tuple(
        job
        for job, workdir, comment in jobs
        if Path(workdir).resolve() == folder.resolve() and comment in comments
    )


def _ask(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SlurmError(
            f"{' '.join(command)}: {done.stderr.strip()}; is SLURM up? "
            "(`scontrol ping`; SLURM's programs are on PATH here)"
        )
    return done.stdout

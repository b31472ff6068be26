"""Estimates the remaining time of a Snakemake call from expected and measured job times."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

# A running job is assumed to have at least this fraction of its expected or reported time left.
STILL_TO_GO = 0.1


@dataclass
class TimedJob:
    """One job of a call.

    Attributes:
        kind: jobs of the same kind share one factor between measured and expected time.
        expected: seconds, estimated before any job of the kind has run; None: unknown.
        threads: cores that the job occupies.
        started: start time in seconds of a monotonic clock; None: the job waits.
        ended: end time by the same clock; None: the job waits or runs.
        failed: whether it ended with an error; its time is then no measure for other jobs.
        reported: remaining seconds, by the job's own report or by that of a similar job; None: no
            report yet.
        reported_at: time of the report by the same clock.
    """

    kind: str
    expected: float | None
    threads: int = 1
    started: float | None = None
    ended: float | None = None
    failed: bool = False
    reported: float | None = None
    reported_at: float = 0.0

    @property
    def running(self) -> bool:
        """Whether the job has started and not ended."""
        return self.started is not None and self.ended is None


def seconds_left(jobs: Iterable[TimedJob], now: float, at_once: int) -> float | None:
    """Seconds until all jobs have ended; None: the time of one of them is unknown.

    Args:
        jobs: all jobs of the call, including those that have ended.
        now: present time by the jobs' clock, in seconds.
        at_once: number of threads that may run at the same time.
    """
    left = [
        (job, _left(job, factor, now)) for job, factor in _with_factors(jobs) if job.ended is None
    ]
    known = [(seconds, job.threads) for job, seconds in left if seconds is not None]
    if len(known) < len(left):
        return None
    whole = sum(seconds * min(threads, at_once) for seconds, threads in known) / max(at_once, 1)
    return max([whole, *(seconds for seconds, _ in known)])


def part_done(jobs: Iterable[TimedJob], now: float) -> float:
    """Fraction of the work that is done, from 0 to 1, measured in seconds times threads.

    If the time of a job is unknown, it is the fraction of the jobs that have ended.
    """
    found = _with_factors(jobs)
    left = done = 0.0
    for job, factor in found:
        if job.ended is not None and job.started is not None:
            done += (job.ended - job.started) * job.threads
        else:
            to_go = _left(job, factor, now)
            if to_go is None:
                return sum(one.ended is not None for one, _ in found) / len(found)
            left += to_go * job.threads
            done += (now - job.started) * job.threads if job.started is not None else 0.0
    return done / (done + left) if done + left > 0 else 1.0


def _with_factors(jobs: Iterable[TimedJob]) -> list[tuple[TimedJob, float]]:
    """Return each job with the `_factor` of its kind."""
    found = list(jobs)
    factors = {kind: _factor(found, kind) for kind in {job.kind for job in found}}
    return [(job, factors[job.kind]) for job in found]


def _factor(jobs: Iterable[TimedJob], kind: str) -> float:
    """Ratio of measured to expected time of the finished jobs of a kind; 1 without any."""
    took = expected = 0.0
    for job in jobs:
        known = None not in (job.started, job.ended, job.expected)
        if job.kind == kind and known and not job.failed:
            took += job.ended - job.started
            expected += job.expected
    return took / expected if expected else 1.0


def _left(job: TimedJob, factor: float, now: float) -> float | None:
    if job.reported is not None:
        whole, since = job.reported, job.reported_at
    elif job.expected is not None:
        whole, since = job.expected * factor, job.started or 0.0
    else:
        return None
    return max(whole - (now - since), STILL_TO_GO * whole) if job.running else whole

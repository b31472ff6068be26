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
    found = list(jobs)
    factors = {kind: _factor(found, kind) for kind in {job.kind for job in found}}
    to_come = [job for job in found if job.ended is None]
    left = [(_left(job, factors[job.kind], now), job.threads) for job in to_come]
    known = [(seconds, threads) for seconds, threads in left if seconds is not None]
    if len(known) < len(left):
        return None
    whole = sum(seconds * min(threads, at_once) for seconds, threads in known) / max(at_once, 1)
    return max([whole, *(seconds for seconds, _ in known)])


def part_done(jobs: Iterable[TimedJob], now: float) -> float:
    """Fraction of the work that is done, from 0 to 1, measured in seconds times threads.

    If the time of a job is unknown, it is the fraction of the jobs that have ended.
    """
    found = list(jobs)
    factors = {kind: _factor(found, kind) for kind in {job.kind for job in found}}
    left = done = 0.0
    for job in found:
        if job.ended is not None and job.started is not None:
            done += (job.ended - job.started) * job.threads
        else:
            to_go = _left(job, factors[job.kind], now)
            if to_go is None:
                return sum(job.ended is not None for job in found) / len(found)
            left += to_go * job.threads
            done += (now - job.started) * job.threads if job.started is not None else 0.0
    return done / (done + left) if done + left > 0 else 1.0


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
        passed = now - job.reported_at if job.running else 0.0
        return max(job.reported - passed, STILL_TO_GO * job.reported)
    if job.expected is None:
        return None
    expected = job.expected * factor
    if job.started is None:
        return expected
    return max(expected - (now - job.started), STILL_TO_GO * expected)

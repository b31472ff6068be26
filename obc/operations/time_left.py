"""How long the jobs of a call still take, by what they were expected to take and what they did."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

# A job that runs longer than expected is taken to be this part short of its end.
STILL_TO_GO = 0.1


@dataclass
class TimedJob:
    """One job of a call.

    Attributes:
        kind: jobs of one kind are slower or faster than expected by one factor.
        expected: seconds, before anything of the kind has run; None: nothing is known.
        threads: cores that it occupies.
        started: seconds of a monotonic clock; None: it waits.
        ended: likewise; None: it waits or runs.
        reported: seconds that were left by the job's own report, or by that of a job like it.
        reported_at: of the clock, when that was so.
    """

    kind: str
    expected: float | None
    threads: int = 1
    started: float | None = None
    ended: float | None = None
    reported: float | None = None
    reported_at: float = 0.0

    @property
    def running(self) -> bool:
        """Whether it has begun and not ended."""
        return self.started is not None and self.ended is None


def seconds_left(jobs: Iterable[TimedJob], now: float, at_once: int) -> float | None:
    """Seconds until all jobs have ended; None: nothing is known of one of them.

    Args:
        jobs: all of the call, those that ended included.
        now: seconds of the clock that the jobs are timed by.
        at_once: threads that run together.
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
    """Which part of the work is done, from 0 to 1, by the time that it takes.

    Where nothing is known of a job, by the number of jobs.
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
    """What the ended jobs of a kind took, over what was expected of them."""
    took = expected = 0.0
    for job in jobs:
        if job.kind == kind and None not in (job.started, job.ended, job.expected):
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

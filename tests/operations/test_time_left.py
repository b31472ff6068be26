"""The time that jobs still take, from what was expected of them and what ended ones took."""

from __future__ import annotations

from obc.operations.time_left import TimedJob, part_done, seconds_left


def test_before_anything_ran_it_is_what_is_expected_over_the_cores() -> None:
    jobs = [TimedJob("train", 30.0) for _ in range(4)]
    assert seconds_left(jobs, now=0.0, at_once=2) == 60.0
    assert part_done(jobs, now=0.0) == 0.0


def test_jobs_of_a_kind_are_as_much_slower_than_expected_as_the_one_that_ended() -> None:
    ended = TimedJob("train", 10.0, started=0.0, ended=20.0)
    jobs = [ended, TimedJob("train", 10.0), TimedJob("evaluate", 5.0)]
    assert seconds_left(jobs, now=20.0, at_once=1) == 20.0 + 5.0


def test_how_long_a_failed_job_took_tells_nothing_of_the_others() -> None:
    failed = TimedJob("train", 10.0, started=0.0, ended=1.0, failed=True)
    assert seconds_left([failed, TimedJob("train", 10.0)], now=1.0, at_once=1) == 10.0


def test_a_running_job_counts_with_the_rest_of_it() -> None:
    jobs = [TimedJob("train", 10.0, started=0.0)]
    assert seconds_left(jobs, now=4.0, at_once=2) == 6.0
    assert part_done(jobs, now=4.0) == 0.4
    assert seconds_left(jobs, now=100.0, at_once=2) == 1.0  # late, and not done


def test_a_job_of_many_threads_takes_all_of_a_smaller_machine() -> None:
    assert seconds_left([TimedJob("draw", 10.0, threads=4)], now=0.0, at_once=2) == 10.0


def test_nothing_is_left_when_all_have_ended() -> None:
    jobs = [TimedJob("train", 10.0, started=0.0, ended=9.0)]
    assert seconds_left(jobs, now=9.0, at_once=2) == 0.0
    assert part_done(jobs, now=9.0) == 1.0


def test_what_a_training_reports_counts_in_place_of_what_was_expected() -> None:
    running = TimedJob("train", 10.0, started=0.0, reported=90.0, reported_at=10.0)
    waiting = TimedJob("train", 10.0, reported=100.0, reported_at=10.0)
    assert seconds_left([running], now=40.0, at_once=1) == 60.0
    assert seconds_left([running, waiting], now=40.0, at_once=1) == 160.0  # a wait shortens nothing


def test_where_nothing_is_known_of_a_job_no_time_is_made_up() -> None:
    jobs = [TimedJob("index", 5.0, started=0.0, ended=1.0), TimedJob("train", None)]
    assert seconds_left(jobs, now=1.0, at_once=2) is None
    assert part_done(jobs, now=1.0) == 0.5  # by the number of jobs

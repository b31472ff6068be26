"""Signals that stop a training: once at the next good moment, twice at once."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from obc.config.run_folder import RunFolder
from obc.io.errors import SuiteError
from obc.runs.lock import training_lock
from obc.runs.status import run_status
from obc.training.stop_signals import SAME_REQUEST, Interrupted, agreed, group_on_cpu, stop_requests


@pytest.fixture(autouse=True)
def ctrl_c_is_heard() -> Iterator[None]:
    """Also where the tests run in the background of a shell, which ignores it for them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def send(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0)  # a handler runs between two lines of Python


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_before_the_loop_a_signal_ends_the_training_where_it_is(number: int, status: int) -> None:
    with stop_requests(), pytest.raises(Interrupted) as stopped:
        send(number)
    assert (stopped.value.signal, stopped.value.code) == (number, status)


def test_an_error_that_a_library_makes_of_the_interruption_is_an_interruption() -> None:
    with pytest.raises(Interrupted), stop_requests():
        try:
            send(signal.SIGTERM)
        except BaseException:
            raise SyntaxError("the config cannot be formatted") from None


def test_an_error_without_a_signal_and_one_of_saving_stay_what_they_are() -> None:
    with pytest.raises(ValueError), stop_requests():
        raise ValueError
    with pytest.raises(SuiteError), stop_requests() as request:
        request.deferred = True
        send(signal.SIGTERM)
        raise SuiteError("the disk is full")


def test_in_the_loop_a_signal_is_noted() -> None:
    with stop_requests() as request:
        request.deferred = True
        assert agreed(request.number, None) == 0
        send(signal.SIGTERM)
        assert agreed(request.number, None) == signal.SIGTERM


def test_a_training_of_one_process_asks_nobody_whether_to_stop() -> None:
    assert group_on_cpu() is None


def in_a_child(action) -> int:
    """Exit code of a forked process that does something; negative: died of that signal."""
    child = os.fork()
    if child == 0:
        action()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize(("seconds", "ended_by"), [(0, 0), (SAME_REQUEST + 0.1, -signal.SIGTERM)])
def test_a_second_request_ends_it_at_once_unless_it_is_the_first_one_passed_on(
    seconds: float, ended_by: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("obc.training.stop_signals.time", SimpleNamespace(monotonic=lambda: now))

    def twice() -> None:
        nonlocal now
        with stop_requests() as request:
            request.deferred = True
            send(signal.SIGTERM)
            now += seconds
            send(signal.SIGTERM)

    assert in_a_child(twice) == ended_by


def test_handlers_are_as_before_afterwards_and_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stop_requests() as request:
            send(signal.SIGINT)
            assert request.number == 0
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_the_run_of_a_killed_training_is_free_while_its_loaders_still_live(tmp_path: Path) -> None:
    ready, release = os.pipe(), os.pipe()
    training = os.fork()
    if training == 0:
        with training_lock(RunFolder(tmp_path)):
            if os.fork() == 0:  # a process that loads images
                os.read(release[0], 1)
                os._exit(0)
            os.write(ready[1], b"x")
            signal.pause()
    os.read(ready[0], 1)
    assert run_status(RunFolder(tmp_path)) == "running"
    os.kill(training, signal.SIGKILL)
    os.waitpid(training, 0)
    assert run_status(RunFolder(tmp_path)) == "not run"
    os.write(release[1], b"x")


def test_an_interrupted_run_says_so(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work/interrupted.json").write_text("{}")
    assert run_status(RunFolder(tmp_path)) == "interrupted"

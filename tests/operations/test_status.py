"""What `obc status` makes of the files that trainings leave."""

from __future__ import annotations

import errno
import fcntl
import io
import json
import os
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from report_fixtures import BEYOND, TABLE, fail, measure, plan_of, run_folder, trained

from obc.cli.main import main
from obc.cli.watch import CLEAR_SCREEN, watch
from obc.config.plan import Plan
from obc.config.run_folder import RunFolder
from obc.operations.status import RunState, duration, render, states, summary
from obc.runs.lock import training_lock
from obc.runs.records import failure_noted

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
PROGRESS = {
    "epoch": 3, "epochs": 12, "iteration": 1234, "iterations": 5000, "loss": 0.71,
    "images_per_second": 51.2, "seconds_left": 312.0, "updated": NOW.isoformat(), "pid": 1,
    "host": "node1", "job": "77",
}  # fmt: skip


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return plan_of(tmp_path, {"loss_table": TABLE})


def note(plan: Plan, row: int, name: str, content: Any) -> Path:
    """Leave a note of a training that is not done; returns the run's folder."""
    folder = run_folder(plan, "loss_table", row)
    (folder / "work").mkdir(exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "work" / name).write_text(text)
    return folder


def state_of(plan: Plan, row: int, now: datetime = NOW) -> RunState:
    run_id = plan.run_of(plan.tables["loss_table"].rows[row]).run_id
    (found,) = (state for state in states(plan, now) if state.run_id == run_id)
    return found


def test_starting_weights_come_first_and_every_seed_has_a_line(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {"loss_table": TABLE}, seeds=[0, 3])
    found = states(plan, NOW)
    assert [state.run_id.split("-")[0] for state in found] == ["init"] + 6 * ["voc"]
    assert [state.seed for state in found] == [0, 0, 3, 0, 3, 0, 3]
    assert {state.state for state in found} == {"waiting"}


def test_a_running_one_says_how_far_it_is(plan: Plan) -> None:
    folder = note(plan, 0, "progress.json", PROGRESS)
    with training_lock(RunFolder(folder)):
        state = state_of(plan, 0)
        page = render([state])
    assert (state.state, state.seconds_left, state.note) == ("running", 312.0, "")
    assert "epoch 3/12, iteration 1234/5000, loss 0.710, 51.2 images/s, 5 min left" in page


def test_a_running_one_that_tells_nothing_for_minutes_is_silent(plan: Plan) -> None:
    folder = note(plan, 0, "progress.json", PROGRESS)
    with training_lock(RunFolder(folder)):
        assert state_of(plan, 0, NOW + timedelta(minutes=4)).note == ""
        assert state_of(plan, 0, NOW + timedelta(minutes=12)).note == "silent for 12 min"


@pytest.mark.parametrize("text", ["", '{"epoch": 3', "[1]", '{"epoch": "many"}'])
def test_a_damaged_progress_note_reads_as_none(plan: Plan, text: str) -> None:
    folder = note(plan, 0, "progress.json", text)
    with training_lock(RunFolder(folder)):
        assert (state_of(plan, 0).note, state_of(plan, 0).progress) == ("starting", None)


def test_resumed_counts_the_sessions_that_began_at_a_checkpoint(plan: Plan) -> None:
    sessions = [{"resumed_from": 0}, {"resumed_from": 40}, {}, {"resumed_from": 80}]
    folder = note(plan, 0, "sessions.json", sessions)
    with training_lock(RunFolder(folder)):
        assert state_of(plan, 0).resumed == 2
        assert "resumed 2 times" in render([state_of(plan, 0)])


def test_a_started_one_that_nobody_holds_was_interrupted(plan: Plan) -> None:
    note(plan, 0, "sessions.json", [{"resumed_from": 0}])
    state = state_of(plan, 0)
    assert (state.state, state.reason) == ("interrupted", "killed")
    assert state.note == "killed without a note"


def test_a_note_of_an_interruption_without_a_signal_reads_as_a_kill(plan: Plan) -> None:
    note(plan, 0, "interrupted.json", {})
    assert (state_of(plan, 0).state, state_of(plan, 0).reason) == ("interrupted", "killed")


def test_one_that_was_told_to_stop_names_the_signal_and_keeps_its_place(plan: Plan) -> None:
    note(plan, 0, "progress.json", PROGRESS)
    note(plan, 0, "interrupted.json", {"signal": "SIGTERM", "iteration": 1234})
    state = state_of(plan, 0)
    assert (state.state, state.reason, state.note) == ("interrupted", "signal", "SIGTERM")
    assert "iteration 1234/5000" in render([state])


def test_a_failed_one_says_why_in_a_line(plan: Plan) -> None:
    fail(plan, "loss_table", 0)
    state = state_of(plan, 0)
    assert (state.state, state.reason) == ("failed", "training failed")
    assert state.note == "NonFiniteLoss: iteration 12"


def test_done_is_trained_and_evaluated(plan: Plan) -> None:
    trained(plan, "loss_table", 0)
    assert (state_of(plan, 0).state, state_of(plan, 0).note) == (
        "trained",
        "not evaluated: regression",
    )
    measure(plan, "loss_table", 0, {"AP": 1.0})
    assert state_of(plan, 0).state == "done"


def test_a_damaged_record_of_a_finished_run_is_no_error(plan: Plan) -> None:
    trained(plan, "loss_table", 0)
    (run_folder(plan, "loss_table", 0) / "run.json").write_text("{")
    assert state_of(plan, 0).state == "trained"


def fail_to_evaluate(plan: Plan, row: int, decode: str = "regression") -> None:
    with (
        suppress(RuntimeError),
        failure_noted(RunFolder(run_folder(plan, "loss_table", row)), decode),
    ):
        raise RuntimeError("CUDA error\nand a trace")


def test_a_trained_one_whose_evaluation_failed_has_failed_until_it_is_evaluated(plan: Plan) -> None:
    trained(plan, "loss_table", 0)
    fail_to_evaluate(plan, 0)
    state = state_of(plan, 0)
    assert (state.state, state.reason) == ("failed", "evaluation failed")
    assert state.note == "evaluation (regression): RuntimeError: CUDA error"
    with failure_noted(RunFolder(run_folder(plan, "loss_table", 0)), "regression"):
        assert state_of(plan, 0).state == "trained"  # being evaluated again
    measure(plan, "loss_table", 0, {"AP": 1.0})
    assert state_of(plan, 0).state == "done"


def test_the_command_that_evaluates_leaves_the_note(plan: Plan, tmp_path: Path) -> None:
    trained(plan, "loss_table", 0)
    plan.save(tmp_path / "plan.json")
    run_id = plan.run_of(plan.tables["loss_table"].rows[0]).run_id
    command = ["evaluate", str(tmp_path / "plan.json"), run_id, "--decode", "regression"]
    assert main(command) == 1
    assert state_of(plan, 0).note.startswith("evaluation (regression): NotIndexed: ")


def test_a_failed_evaluation_of_earlier_weights_does_not_count(plan: Plan) -> None:
    trained(plan, "loss_table", 0)
    fail_to_evaluate(plan, 0)
    trained(plan, "loss_table", 0, weights_sha256="others")
    assert state_of(plan, 0).state == "trained"


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_where_the_file_system_has_no_locks_a_fresh_note_tells_that_one_runs(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    folder = note(plan, 0, "progress.json", PROGRESS)
    note(plan, 0, "sessions.json", [{"resumed_from": 0}])
    note(plan, 0, "lock", "")
    monkeypatch.setattr(fcntl, "flock", flock)
    assert state_of(plan, 0).state == "running"
    for name in ("progress.json", "sessions.json"):
        os.utime(folder / "work" / name, (0, 0))
    assert state_of(plan, 0).state == "interrupted"


# --- time left ---------------------------------------------------------------------------------


def run(state: Any, seconds_left: float | None) -> RunState:
    return RunState("run", 0, state, seconds_left=seconds_left)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        # 600 + 300 + 2 x 900 seconds of work for two at a time.
        ([run("running", 600), run("running", 300), *2 * [run("waiting", 900)]], "About 22 min"),
        # Never before the longest of those that run.
        ([run("running", 7200), run("running", 60)], "About 2 h 00 min"),
        ([run("running", 600), run("waiting", None)], "not known"),
        ([run("waiting", 600), run("done", None)], "Nothing is running."),
    ],
)
def test_the_time_left_of_all_is_at_the_pace_of_those_that_run(
    found: list[RunState], expected: str
) -> None:
    assert expected in summary(found)


def test_waiting_ones_take_as_long_as_the_running_one_shows(plan: Plan) -> None:
    folder = note(plan, 0, "progress.json", PROGRESS)
    with training_lock(RunFolder(folder)):
        waiting = state_of(plan, 1)
    # 48 images twice at 51.2 images/s, two processes that start in 9 s each, and an evaluation.
    assert 18 + 2 * 48 / 51.2 < waiting.seconds_left < 18 + 2 * 48 / 51.2 + 1


def test_the_time_left_is_not_of_another_device_than_that_which_runs(plan: Plan) -> None:
    history = {"images_per_second": 1.0, "hardware": {"gpu": "NVIDIA T4"}}
    resolved = plan.run_of(plan.tables["loss_table"].rows[1]).resolved.model_dump(mode="json")
    trained(plan, "loss_table", 1, resolved=resolved, **history)
    folder = note(plan, 0, "progress.json", {**PROGRESS, "device": "NVIDIA H100"})
    with training_lock(RunFolder(folder)):
        on_h100 = state_of(plan, 2).seconds_left
    note(plan, 0, "progress.json", {**PROGRESS, "device": "NVIDIA T4"})
    with training_lock(RunFolder(folder)):
        on_t4 = state_of(plan, 2).seconds_left
    # 48 images twice at 51.2 images/s; at the mean of 51.2 and of the 1 image/s that a T4 took.
    assert on_h100 - 18 == pytest.approx(2 * 48 / 51.2, rel=0.5)
    assert on_t4 - 18 == pytest.approx((on_h100 - 18) * 51.2 / 26.1, rel=0.01)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(40.4, "40 s"), (720, "12 min"), (12000, "3 h 20 min"), (190800, "2 d 5 h")],
)  # fmt: skip
def test_durations_are_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text


# --- watching ----------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")


def finish(plan: Plan) -> None:
    for row in range(3):
        measure(plan, "loss_table", row, {"AP": 1.0, "AP_S": 1.0})
    for run_id in {run.resolved.initial_run for run in plan.paper_runs.values()}:
        folder = plan.run_folder(run_id, 0).path
        folder.mkdir(parents=True)
        for name in ("final.pth", "run.json"):
            (folder / name).touch()


def test_watching_on_a_terminal_redraws_until_all_are_done(plan: Plan) -> None:
    stream = Terminal()
    watch(plan, stream, sleep=lambda _: finish(plan))
    assert stream.getvalue().count(CLEAR_SCREEN) == 2
    assert stream.getvalue().rstrip().endswith("4 trainings: 4 done.")


def test_watching_ends_without_what_only_tables_beyond_the_paper_need(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {"loss_table": TABLE, "more": BEYOND})
    stream = io.StringIO()
    finish(plan)
    watch(plan, stream, sleep=lambda _: pytest.fail("watched on"))
    assert stream.getvalue().rstrip().endswith("4 trainings: 4 done.")
    run_folder(plan, "more", 1)  # the table begins, and with it its decoding is asked for
    assert "not evaluated: argmax" in [state.note for state in states(plan)]


def test_watching_on_a_dumb_terminal_is_as_into_a_log(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    watch(plan, stream, sleep=lambda _: finish(plan))
    assert "\x1b" not in stream.getvalue()
    assert stream.getvalue().rstrip().endswith("4 trainings: 4 done.")


def test_watching_into_a_log_prints_a_line_for_each_change(plan: Plan) -> None:
    stream, looks = io.StringIO(), iter(["nothing", "nothing", "all"])
    watch(plan, stream, sleep=lambda _: finish(plan) if next(looks) == "all" else None)
    lines = stream.getvalue().splitlines()
    assert "\x1b" not in stream.getvalue()
    # Four runs wait, nothing changes twice, four are done; and a summary after each.
    assert [line.endswith(": waiting") for line in lines[:4]] == [True] * 4
    assert [line.endswith(": done") for line in lines[5:9]] == [True] * 4
    assert len(lines) == 10


def test_watching_ends_when_what_is_left_could_not_be_evaluated(plan: Plan) -> None:
    finish(plan)
    (run_folder(plan, "loss_table", 0) / "metrics.regression.json").unlink()
    fail_to_evaluate(plan, 0)
    stream = io.StringIO()
    watch(plan, stream)
    assert stream.getvalue().rstrip().endswith("4 trainings: 3 done, 1 failed.")


def test_watching_ends_when_what_is_left_has_failed(plan: Plan) -> None:
    finish(plan)
    (run_folder(plan, "loss_table", 0) / "final.pth").unlink()
    fail(plan, "loss_table", 0)
    stream = io.StringIO()
    watch(plan, stream)
    assert stream.getvalue().rstrip().endswith("4 trainings: 3 done, 1 failed.")

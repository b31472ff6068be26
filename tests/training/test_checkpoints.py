"""Checkpoints on a disk that fills up, loses power or was left half written; whose they are."""

from __future__ import annotations

import io
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from obc.config.run_folder import WorkFolder, iteration_of
from obc.training.checkpoints import (
    CheckpointNotWritten,
    drop_damaged,
    newest_checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from obc.training.sessions import begin_session, save_sessions

STATE = {"weight": torch.arange(1000.0), "lr": 0.1}


def names(work: Path) -> list[str]:
    return sorted(path.name for path in work.iterdir())


def test_a_checkpoint_holds_what_it_was_given(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, 7, STATE)
    assert path.name == "iteration_7.pth" and iteration_of(path) == 7
    state = read_checkpoint(path)
    assert torch.equal(state["weight"], STATE["weight"]) and state["lr"] == 0.1


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    for iteration in (9, 10, 100):
        write_checkpoint(tmp_path, iteration, STATE)
    assert names(tmp_path) == ["iteration_10.pth", "iteration_100.pth"]
    assert newest_checkpoint(tmp_path) == tmp_path / "iteration_100.pth"


def test_a_truncated_newest_one_gives_way_to_the_one_before_with_a_warning(tmp_path: Path) -> None:
    for iteration in (10, 20):
        write_checkpoint(tmp_path, iteration, STATE)
    newest = WorkFolder(tmp_path).checkpoint(20)
    newest.write_bytes(newest.read_bytes()[:-100])
    terminal = io.StringIO()
    assert drop_damaged(tmp_path, terminal) == WorkFolder(tmp_path).checkpoint(10)
    assert f"warning: {newest}: damaged" in terminal.getvalue()
    assert names(tmp_path) == ["iteration_10.pth"]


def test_what_a_kill_left_half_written_is_removed(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 10, STATE)
    (tmp_path / ".iteration_11.4711-cafe0123.pth").write_bytes(b"half")
    assert drop_damaged(tmp_path, sys.stderr) == WorkFolder(tmp_path).checkpoint(10)
    assert names(tmp_path) == ["iteration_10.pth"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("whole"), 1, STATE)


@settings(deadline=None)
@given(data=st.data())
def test_a_checkpoint_cut_off_anywhere_is_damaged(whole: Path, data) -> None:
    content = whole.read_bytes()
    cut = data.draw(st.integers(0, len(content) - 1))
    spoilt = WorkFolder(whole.parent).checkpoint(2)
    # A disk that lost its power may keep a file's length and lose its content.
    spoilt.write_bytes(content[:cut] + data.draw(st.sampled_from([b"", bytes(len(content) - cut)])))
    if spoilt.read_bytes() != content:
        assert drop_damaged(whole.parent, io.StringIO()) == whole


@settings(deadline=None)
@given(data=st.data())
def test_a_checkpoint_with_a_flipped_bit_is_damaged_or_reads_the_same(whole: Path, data) -> None:
    content = bytearray(whole.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    spoilt = WorkFolder(whole.parent).checkpoint(2)
    spoilt.write_bytes(content)
    if drop_damaged(whole.parent, io.StringIO()) == spoilt:
        assert torch.equal(read_checkpoint(spoilt)["weight"], STATE["weight"])


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """A disk that is full for every file over `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_is_said_with_the_space_needed_and_leaves_the_others_whole(
    tmp_path: Path,
) -> None:
    for iteration in (10, 20):
        write_checkpoint(tmp_path, iteration, STATE)
    state = {"parts": [torch.zeros(2**20), {"momentum": torch.zeros(2**20)}]}
    with (
        largest_file(2**20),
        pytest.raises(
            CheckpointNotWritten, match=r"iteration_30\.pth.*needs about 8 MiB, \d+ MiB are free"
        ),
    ):
        write_checkpoint(tmp_path, 30, state)
    assert names(tmp_path) == ["iteration_10.pth", "iteration_20.pth"]
    assert drop_damaged(tmp_path, sys.stderr) == WorkFolder(tmp_path).checkpoint(20)


# --- sessions ----------------------------------------------------------------------------------

VERSION = {
    "training_code": "code",
    "data_sha256": "data",
    "initial_weights_sha256": "weights",
    "processes": 2,
}


def begin(work: Path, keep_weights: bool = False, terminal=None, **changed: str) -> list[dict]:
    return begin_session(WorkFolder(work), VERSION | changed, keep_weights, terminal or sys.stderr)


def trained_a_little(work: Path, iteration: int) -> None:
    """What a session leaves that was killed after a checkpoint."""
    sessions = begin(work)
    sessions[-1]["images"] = 8 * iteration
    save_sessions(WorkFolder(work), sessions)
    write_checkpoint(work, iteration, STATE)


def test_a_session_says_who_trains_and_where_it_goes_on(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    trained_a_little(tmp_path, 30)
    first, second = begin(tmp_path)
    assert (first["resumed_from"], second["resumed_from"]) == (0, 30)
    assert second["job"] == "4711" and second["pid"] > 0 and second["host"]


@pytest.mark.parametrize("what", VERSION)
def test_checkpoints_of_other_code_data_starting_weights_or_processes_are_not_gone_on_from(
    tmp_path: Path, what: str
) -> None:
    trained_a_little(tmp_path, 30)
    (session,) = begin(tmp_path, **{what: "other"})
    assert session["resumed_from"] == 0
    assert names(tmp_path) == ["sessions.json"]


def test_a_scale_that_keeps_weights_goes_on_whatever_changed(tmp_path: Path) -> None:
    trained_a_little(tmp_path, 30)
    sessions = begin(tmp_path, keep_weights=True, training_code="other")
    assert [session["training_code"] for session in sessions] == ["code", "other"]
    assert sessions[-1]["resumed_from"] == 30


def test_checkpoints_without_a_record_are_not_gone_on_from(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 30, STATE)
    (session,) = begin(tmp_path)
    assert session["resumed_from"] == 0 and newest_checkpoint(tmp_path) is None


def test_checkpoints_of_a_training_per_epoch_are_of_other_code(tmp_path: Path) -> None:
    old = {"started": "2026", **VERSION, "training_code": "old", "seconds": 9.0, "images": 48}
    save_sessions(WorkFolder(tmp_path), [old])
    (tmp_path / "epoch_1.pth").touch()
    (tmp_path / "last_checkpoint").write_text("epoch_1.pth")
    assert [session["resumed_from"] for session in begin(tmp_path)] == [0]
    assert not (tmp_path / "epoch_1.pth").exists()


def test_a_training_whose_checkpoints_are_all_damaged_starts_over_and_says_so(
    tmp_path: Path,
) -> None:
    trained_a_little(tmp_path, 30)
    WorkFolder(tmp_path).checkpoint(30).write_bytes(b"")
    terminal = io.StringIO()
    (session,) = begin(tmp_path, terminal=terminal)
    assert session["resumed_from"] == 0
    assert "no whole checkpoint is left; the training starts over" in terminal.getvalue()

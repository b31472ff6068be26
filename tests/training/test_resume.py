"""A training that is killed at any moment, and started again, ends with the same weights.

Twenty-four interruptions, at moments that a fixed seed drew: when a checkpoint is there, while one
is written, some time after a session began, while the final files are written. SIGKILL is also what
a power loss looks like to the process; what it does to files is in test_checkpoints.py.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
from conftest import Workspace
from interrupted_trainings import Interruption, train_interrupted, weights

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("resume")]

EPOCHS = 4  # of 48 images, six batches
# Between final.pth and run.json, and while final.pth is written.
AFTER_THE_LAST = [["KILL", "call _record", 0], ["KILL", ".final.*.pth", 0]]


def at_checkpoints(draw: random.Random, count: int) -> list[Interruption]:
    """Of a training that saves after every iteration: when one is there or is being written."""
    return [
        [
            draw.choice(["KILL", "KILL", "TERM"]),
            draw.choice(["work/iteration_*.pth", "work/*iteration_*.pth"]),
            draw.choice([0, 0, draw.uniform(0, 0.05)]),
        ]
        for _ in range(count)
    ]


def at_times(draw: random.Random, count: int) -> list[Interruption]:
    """Some time after a session began to prepare, or after its first iteration."""
    return [
        [
            draw.choice(["KILL", "TERM", "INT"]),
            draw.choice(["work/sessions.json", "work/progress.json", "work/progress.json"]),
            draw.uniform(0, 0.2),
        ]
        for _ in range(count)
    ]


def interruptions() -> dict[str, dict[str, list[Interruption]]]:
    """By scale and training; each scale's `whole` is not interrupted."""
    draw = random.Random(20261124)
    return {
        "every": {"whole": [], "a": at_checkpoints(draw, 10) + AFTER_THE_LAST},
        "epochs": {"whole": [], "b": [["TERM", "work/progress.json", 0], *at_times(draw, 11)]},
    }


RUNTIMES = {
    "every": {"checkpoint_minutes": 0, "num_workers": 0},
    "epochs": {"checkpoint_minutes": None, "num_workers": 2, "keep_images": False},
}


@pytest.fixture(scope="module")
def reports(workspace: Workspace) -> dict[str, list[dict]]:
    """What the driver reports of each training; their folders lie in `resumed` of the workspace."""
    done = {}
    for scale, trainings in interruptions().items():
        named = {f"{scale}-{name}": moments for name, moments in trainings.items()}
        schedule = {"epochs": EPOCHS, "steps": [1, 2]}
        done |= train_interrupted(workspace, scale, schedule, RUNTIMES[scale], named)
    return done


def interrupted(reports: dict[str, list[dict]]) -> list[dict]:
    return [session for sessions in reports.values() for session in sessions[:-1]]


def test_at_least_twenty_interruptions_took_place(reports) -> None:
    assert {sessions[-1]["status"] for sessions in reports.values()} == {0}
    statuses = [session["status"] for session in interrupted(reports)]
    assert len(statuses) >= 20, reports
    assert set(statuses) == {-9, 143, 130}


def test_the_weights_are_those_of_a_training_that_nothing_interrupted(
    reports, workspace: Workspace
) -> None:
    # Also with two processes that load images, and whatever the times between checkpoints are.
    whole = weights(workspace, "every-whole")
    assert {"every-a", "epochs-whole", "epochs-b"} <= reports.keys()
    for training in reports:
        resumed = weights(workspace, training)
        assert whole.keys() == resumed.keys()
        assert all(torch.equal(whole[key], resumed[key]) for key in whole), training


def test_a_signal_leaves_a_checkpoint_and_a_note_and_no_failure(reports) -> None:
    stopped = [session for session in interrupted(reports) if session["status"] > 0]
    for session in stopped:
        note = session["interrupted"]
        assert note["signal"] == {143: "SIGTERM", 130: "SIGINT"}[session["status"]]
        saved = note["checkpoint"] and Path(note["checkpoint"]).name
        assert saved == (f"iteration_{note['iteration']}.pth" if note["iteration"] else None)
        assert saved is None or saved in session["files"]
        assert "failed.json" not in session["files"]
    assert any(session["interrupted"]["iteration"] for session in stopped)


def test_a_kill_leaves_no_note_and_two_checkpoints_at_most(reports) -> None:
    for session in interrupted(reports):
        if session["status"] < 0:
            assert session["interrupted"] is None
        names = [name for name in session["files"] if name.startswith("iteration_")]
        # A third: killed between writing one and deleting the oldest.
        assert len(names) <= 3


def test_half_of_the_final_files_never_pass_for_a_result(reports) -> None:
    killed_writing = [
        session for session in interrupted(reports) if "final.pth" in session["files"]
    ]
    assert killed_writing
    assert not any("run.json" in session["files"] for session in killed_writing)


def test_no_image_is_counted_twice(reports, workspace: Workspace) -> None:
    for training in reports:
        record = json.loads((workspace.folder / "resumed" / training / "run.json").read_text())
        images = sum(session["images"] for session in record["sessions"])
        # Fewer: killed after a checkpoint was written and before it was noted.
        assert 0 < images <= EPOCHS * 48, training
        assert images == EPOCHS * 48 or len(record["sessions"]) > 1


def test_nothing_of_the_interruptions_is_left_but_the_record(reports, workspace: Workspace) -> None:
    for training in reports:
        folder = workspace.folder / "resumed" / training
        assert sorted(path.name for path in folder.iterdir()) == [
            "config.py", "final.pth", "log.txt", "run.json",
        ]  # fmt: skip
    record = json.loads((workspace.folder / "resumed/every-a/run.json").read_text())
    resumed_from = [session["resumed_from"] for session in record["sessions"]]
    assert resumed_from == sorted(resumed_from) and resumed_from[-1] > 0

"""The lock on a run's folder, when two processes want it, and what the second finds there."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import PATIENCE

from obc.config.load_plan import load_plan
from obc.config.plan import Plan
from obc.config.run_folder import RunFolder
from obc.runs.lock import RunBusy, is_locked, training_lock
from obc.training.sessions import Version, claimed, training_version


def test_a_patient_process_gets_the_run_when_the_other_is_done(tmp_path: Path) -> None:
    order = []

    def second() -> None:
        with training_lock(RunFolder(tmp_path), patience=PATIENCE):
            order.append("second")

    waiting = threading.Thread(target=second)
    with training_lock(RunFolder(tmp_path)):
        waiting.start()
        waiting.join(timeout=1.5)  # longer than an impatient one waits
        order.append("first")
    waiting.join()
    assert order == ["first", "second"]


def test_a_lock_that_goes_while_it_is_looked_at_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "exists", lambda _: True)  # until the next moment
    assert not is_locked(RunFolder(tmp_path))


def test_who_waited_for_a_finished_run_holds_it_against_a_third(tmp_path: Path) -> None:
    held = threading.Event()
    release = threading.Event()

    def second() -> None:
        with training_lock(RunFolder(tmp_path), patience=PATIENCE):
            held.set()
            release.wait(PATIENCE)

    waiting = threading.Thread(target=second)
    with training_lock(RunFolder(tmp_path)):
        waiting.start()
        waiting.join(timeout=0.2)
        shutil.rmtree(tmp_path / "work")  # as a training that is done
    assert held.wait(PATIENCE)
    with pytest.raises(RunBusy), training_lock(RunFolder(tmp_path)):
        pass
    release.set()
    waiting.join()


# --- a run that is finished while another process waits for it ---------------------------------


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """A plan whose trainings start from nothing, with an indexed data set."""
    plan = load_plan({"scale": "smoke", "results": str(tmp_path / "results"), "gpus_per_run": 2})
    index = plan.index_folder("init").path
    index.mkdir(parents=True)
    (index / "manifest.json").write_text(json.dumps({"sha256": "data"}))
    return plan


def write_record(plan: Plan, sessions: list[Version]) -> None:
    """What the other process leaves when it is done."""
    folder = plan.run_folder(initial(plan), 0)
    (folder / "final.pth").touch()
    (folder / "run.json").write_text(json.dumps({"sessions": sessions}))


def initial(plan: Plan) -> str:
    return next(iter(plan.initial_runs))


def still_to_train(plan: Plan, meanwhile: Callable[[], object]) -> bool:
    """Whether a process that waits for a run is to train it after what another one did."""
    answers = []

    def wait() -> None:
        with claimed(plan, initial(plan), 0, 2, PATIENCE, io.StringIO()) as lock:
            answers.append(lock is not None)

    waiting = threading.Thread(target=wait)
    with training_lock(plan.run_folder(initial(plan), 0)):
        waiting.start()
        waiting.join(timeout=0.5)
        meanwhile()
    waiting.join()
    return answers.pop()


def test_who_waited_for_a_run_does_not_train_it_again(plan: Plan) -> None:
    version = training_version(plan, initial(plan), 0, 2)
    assert not still_to_train(plan, lambda: write_record(plan, [version, version]))
    assert not (plan.run_folder(initial(plan), 0) / "work").exists()


@pytest.mark.parametrize(
    "sessions",
    [
        [{"processes": 1}],
        [{"data_sha256": "other"}],
        [{"training_code": "other"}, {}],
        [],
    ],
    ids=["processes", "data", "begun by other code", "imported"],
)
def test_a_run_that_another_version_finished_is_trained(plan: Plan, sessions: list[dict]) -> None:
    version = training_version(plan, initial(plan), 0, 2)
    left = [version | other for other in sessions]
    assert still_to_train(plan, lambda: write_record(plan, left))


def test_a_run_that_was_trained_before_is_trained_again_when_asked(plan: Plan) -> None:
    plan.run_folder(initial(plan), 0).path.mkdir(parents=True)
    write_record(plan, [training_version(plan, initial(plan), 0, 2)])
    assert still_to_train(plan, lambda: None)


def test_a_training_on_two_gpus_that_finds_its_run_finished_asks_for_none(
    plan: Plan, tmp_path: Path
) -> None:
    plan.save(tmp_path / "plan.json")
    folder = plan.run_folder(initial(plan), 0)
    with training_lock(RunFolder(folder)):
        process = subprocess.Popen(
            [sys.executable, "-m", "obc", "train", tmp_path / "plan.json", initial(plan),
             "--again", "--wait", str(PATIENCE)],
            env={**os.environ, "PATH": str(tmp_path)},  # where no nvidia-smi is
            stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        while not open_by(process, folder / "work/lock"):
            time.sleep(0.05)
        write_record(plan, [training_version(plan, initial(plan), 0, 2)])
    said = process.communicate(timeout=PATIENCE)[1]
    assert (process.returncode, said) == (
        0, f"{initial(plan)} seed 0: trained by another process meanwhile\n",
    )  # fmt: skip


def open_by(process: subprocess.Popen[str], path: Path) -> bool:
    descriptors = Path(f"/proc/{process.pid}/fd").iterdir()
    return path in [link.resolve() for link in descriptors]


def test_a_run_is_claimed_before_anything_starts_cuda() -> None:
    check = (
        "import sys, obc.cli.main, obc.training.sessions; "
        "assert not {'mmengine', 'mmdet'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", check], check=True)

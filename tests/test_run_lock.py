"""The lock on a run's folder, when two processes want it."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest

from obc.runs import RunBusy, training_lock


def test_a_patient_process_gets_the_run_when_the_other_is_done(tmp_path: Path) -> None:
    order = []

    def second() -> None:
        with training_lock(tmp_path, patience=30):
            order.append("second")

    waiting = threading.Thread(target=second)
    with training_lock(tmp_path):
        waiting.start()
        waiting.join(timeout=1.5)  # longer than an impatient one waits
        order.append("first")
    waiting.join()
    assert order == ["first", "second"]


def test_who_waited_for_a_finished_run_holds_it_against_a_third(tmp_path: Path) -> None:
    held = threading.Event()
    release = threading.Event()

    def second() -> None:
        with training_lock(tmp_path, patience=30):
            held.set()
            release.wait(30)

    waiting = threading.Thread(target=second)
    with training_lock(tmp_path):
        waiting.start()
        waiting.join(timeout=0.2)
        shutil.rmtree(tmp_path / "work")  # as a training that is done
    assert held.wait(30)
    with pytest.raises(RunBusy), training_lock(tmp_path):
        pass
    release.set()
    waiting.join()

"""The lock on a run's folder, when two processes want it."""

from __future__ import annotations

import threading
from pathlib import Path

from obc.runs import training_lock


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

"""The screen of `obc status --watch`."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path

import pytest
from report_fixtures import TABLE, plan_of
from rich.console import Console

from obc.cli.watch import screen
from obc.operations.status import Progress, RunState

LONG_ID = "voc-cascade-r101-obc-a3-n20-k2-0123abcd"


def running(seed: int, iteration: int) -> RunState:
    progress = Progress(
        epoch=2, epochs=7, iteration=iteration, iterations=700, updated=datetime.now(UTC)
    )
    return RunState(LONG_ID, seed, "running", progress=progress, seconds_left=720.0)


def drawn(tmp_path: Path, states: list[RunState], height: int = 24) -> list[str]:
    plan = plan_of(tmp_path, {"table9": TABLE})
    console = Console(file=io.StringIO(), width=80, height=height, color_system=None)
    console.print(screen(plan, states, height))
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("count", [0, 1, 3, 40])
def test_it_fits_a_small_terminal(tmp_path: Path, count: int) -> None:
    failed = [RunState("voc-x", seed, "failed", note="error " * 40) for seed in range(9)]
    lines = drawn(tmp_path, [*failed, *(running(seed, 70) for seed in range(count))])
    assert len(lines) < 24
    assert max(map(len, lines)) <= 80


def test_each_running_training_has_its_bar_and_time_left(tmp_path: Path) -> None:
    lines = drawn(tmp_path, [running(0, 350), RunState(LONG_ID, 1, "waiting", seconds_left=60.0)])
    (at,) = (i for i, line in enumerate(lines) if f"{LONG_ID} seed 0" in line)
    assert lines[at].count("━") == 11  # half of the bar
    assert "epoch 2/7, 12 min left" in lines[at + 1]
    assert "0 of 2 trainings" in lines[2]
    assert lines[-1].startswith("2 trainings: 1 running, 1 waiting. About 13 min left")


def test_what_does_not_fit_is_counted(tmp_path: Path) -> None:
    lines = drawn(tmp_path, [running(seed, 70) for seed in range(40)])
    shown = sum(LONG_ID in line for line in lines)
    assert f"and {40 - shown} more that are running" in lines

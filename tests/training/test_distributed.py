"""One training on several processes: the same losses, one writer, one end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from conftest import ENVIRONMENT, PATIENCE, PROJECT, Workspace
from mmengine.config import Config
from mmengine.registry import DefaultScope
from ranks import fail_on_rank_1, loss_curve

from obc.config.load_plan import load_plan
from obc.config.plan import Plan
from obc.config.run_folder import RunFolder, WorkFolder
from obc.datasets.index_folder import DataFiles
from obc.io.typed_yaml import ConfigError
from obc.runs.status import run_status
from obc.training.distributed import RankFailed, launch
from obc.training.mmdet_config import build_config

pytestmark = pytest.mark.xdist_group("train")


def run_id(plan: Plan, method: str) -> str:
    return next(run for run in plan.runs if run.startswith(f"voc-faster-r50-{method}"))


# --- the same training, however many processes share it ----------------------------------------


@pytest.mark.slow
def test_two_processes_have_the_loss_curve_of_one(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = workspace.plan(scale="smoke")
    run = run_id(plan, "obc-a3-n20-k2")
    monkeypatch.chdir(workspace.folder)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "1").mkdir()
    with DefaultScope.overwrite_default_scope("mmdet"):
        loss_curve(plan, run, tmp_path / "1")
    launch(loss_curve, (plan, run, tmp_path / "2"), 2, WorkFolder(tmp_path / "2"))
    one, first, second = (
        json.loads((tmp_path / name).read_text())
        for name in ("1/rank0.json", "2/rank0.json", "2/rank1.json")
    )
    assert first == second, "ranks drifted apart"
    assert len(one["curve"]) == 12  # 2 epochs of 48 images, 8 a step
    assert one["curve"][0] != pytest.approx(one["curve"][-1], rel=0.01), "nothing was learned"
    assert first["curve"] == pytest.approx(one["curve"], rel=1e-4)
    assert first["weight"] == pytest.approx(one["weight"], abs=1e-5)


# --- one run on two processes ------------------------------------------------------------------

# As `obc train` with gpus_per_run=2, but for the lease of two GPUs.
TOGETHER = """
import sys
from pathlib import Path
from obc.training.distributed import train_together
from obc.config.plan import Plan
from obc.training.sessions import claimed
run = (Plan.load(Path(sys.argv[1])), sys.argv[2], 0)
with claimed(*run, 2, 60, sys.stderr) as lock:
    train_together(*run, 2, sys.stderr, lock)
"""


@dataclass(frozen=True)
class Together:
    """A run, its folder and its undisturbed training on two processes."""

    workspace: Workspace
    command: list[str]
    folder: Path
    undisturbed: Path

    @contextmanager
    def training(self) -> Iterator[subprocess.Popen[bytes]]:
        """The same training once more, begun or gone on with, after its next iteration."""
        progress = self.folder / "work/progress.json"
        progress.unlink(missing_ok=True)
        process = subprocess.Popen(self.command, cwd=self.workspace.folder, env=ENVIRONMENT)
        try:
            wait_until(progress.exists, process)
            yield process
        finally:
            process.kill()
            process.wait()

    def note(self) -> dict:
        """Why it was interrupted."""
        return json.loads((self.folder / "work/interrupted.json").read_text())


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Wait for something that a living process does."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)


@pytest.fixture(scope="module")
def together(workspace: Workspace) -> Together:
    workspace.new_scale("together", epochs=2, steps=[1])
    plan = workspace.plan(scale="together")
    for made in ("data", "runs"):
        shutil.copytree(
            workspace.folder / "results/smoke" / made, workspace.folder / plan.results / made
        )
    run = run_id(plan, "obc-a3-n20-k2")
    command = [sys.executable, "-c", TOGETHER, str(plan.results / "plan.json"), run]
    done = workspace.run(*command)
    assert done.returncode == 0, done.stderr
    folder = workspace.folder / plan.run_folder(run, 0)
    undisturbed = folder.rename(folder.with_name("undisturbed"))
    return Together(workspace, command, folder, undisturbed)


@pytest.mark.slow
def test_two_processes_leave_one_run_written_by_the_first(together: Together) -> None:
    folder = together.undisturbed
    assert run_status(RunFolder(folder)) == "trained"
    assert sorted(path.name for path in folder.iterdir()) == ["config.py", "final.pth", "run.json"]
    record = json.loads((folder / "run.json").read_text())
    assert record["processes"] == 2
    assert record["iterations"] == 12, "2 epochs of 48 images in batches of 8, over both"
    (session,) = record["sessions"]
    assert (session["images"], session["processes"]) == (96, 2)
    state = torch.load(folder / "final.pth", weights_only=True)
    assert not [key for key in state if key.startswith("module.")]
    config = Config.fromfile(folder / "config.py", import_custom_modules=False)
    assert config.train_dataloader.batch_size == 4


@pytest.mark.slow
def test_two_processes_that_are_interrupted_go_on_to_the_weights_of_undisturbed_ones(
    together: Together,
) -> None:
    with together.training() as process:
        process.terminate()
        assert process.wait(timeout=PATIENCE) == 143
    stopped = together.note()
    assert stopped["signal"] == "SIGTERM" and 1 <= stopped["iteration"] < 12

    with together.training() as process:
        process.kill()  # the launcher alone: the system tells the ranks
        process.wait()
        deadline = time.monotonic() + PATIENCE
        while run_status(RunFolder(together.folder)) == "running":
            assert time.monotonic() < deadline
            time.sleep(0.01)
    killed = together.note()
    assert killed["signal"] == "SIGINT" and stopped["iteration"] < killed["iteration"] < 12

    done = together.workspace.run(*together.command)
    assert done.returncode == 0, done.stderr
    sessions = json.loads((together.folder / "run.json").read_text())["sessions"]
    assert [session["resumed_from"] for session in sessions] == [
        0, stopped["iteration"], killed["iteration"],
    ]  # fmt: skip
    resumed, undisturbed = (
        torch.load(folder / "final.pth", weights_only=True)
        for folder in (together.folder, together.undisturbed)
    )
    assert resumed.keys() == undisturbed.keys()
    assert all(torch.equal(resumed[key], undisturbed[key]) for key in resumed)


def test_processes_change_their_share_of_the_batch_and_nothing_else() -> None:
    plan = load_plan({"scale": "paper"})
    run = plan.runs[run_id(plan, "obc-a3-n20-k2")].resolved
    files = DataFiles(Path("images"), Path("train.json"), Path("val.json"), ("cat", "dog"))
    alone, shared = (
        build_config(run, 0, files, plan.scale.runtime, processes=processes).to_dict()
        for processes in (1, 4)
    )
    assert alone["train_dataloader"].pop("batch_size") == 4
    assert shared["train_dataloader"].pop("batch_size") == 1
    assert shared.pop("launcher") == "pytorch"
    assert shared.pop("model_wrapper_cfg")["type"] == "MMDistributedDataParallel"
    assert shared == alone


@pytest.mark.parametrize("gpus", [3, 16])
def test_processes_that_cannot_share_a_batch_equally_are_refused(gpus: int) -> None:
    with pytest.raises(ConfigError) as error:
        load_plan({"scale": "smoke", "gpus_per_run": gpus})
    assert str(error.value) == (
        f"gpus_per_run: {gpus} GPUs cannot share schedule.batch_size 8 of scale smoke equally; "
        "allowed: 0, 1, 2, 4, 8"
    )


# --- failures and signals ----------------------------------------------------------------------


def test_a_rank_that_fails_ends_the_others_and_is_named(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    log = WorkFolder(tmp_path).rank_log(1)
    with pytest.raises(RankFailed, match=rf"rank 1 of 2: ValueError: cannot go on \(log: {log}\)"):
        launch(fail_on_rank_1, (), 2, WorkFolder(tmp_path))
    assert "what rank 1 had to say" in log.read_text()
    assert signal.getsignal(signal.SIGTERM) is before


STOPPED = """
import sys
from pathlib import Path
from obc.training.distributed import launch
from ranks import stop_when_told
from obc.config.run_folder import WorkFolder
launch(stop_when_told, (Path(sys.argv[1]),), 2, WorkFolder(Path(sys.argv[1])))
"""


@pytest.mark.slow
def test_sigterm_lets_rank_0_save_and_leaves_no_process_behind(tmp_path: Path) -> None:
    search = os.pathsep.join([str(PROJECT / "tests/helpers"), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPED, str(tmp_path)], env={**ENVIRONMENT, "PYTHONPATH": search}
    )
    try:
        files = [tmp_path / f"pid{rank}" for rank in (0, 1)]
        wait_until(lambda: all(file.exists() and file.read_text() for file in files), process)
        process.terminate()
        assert process.wait(timeout=PATIENCE) == 143
    finally:
        process.kill()
    assert (tmp_path / "saved").exists()
    for file in files:
        with pytest.raises(ProcessLookupError):
            os.kill(int(file.read_text()), 0)

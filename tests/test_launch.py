"""One training on several processes: the same losses, one writer, one end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import ENVIRONMENT, Workspace
from mmengine.registry import DefaultScope
from ranks import fail_on_rank_1, loss_curve

from obc.detector import DataFiles, build_config
from obc.launch import RankFailed, launch, rank_log
from obc.plan import Plan, load_plan
from obc.runs import run_status
from obc.spec_errors import ConfigError

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
    launch(loss_curve, (plan, run, tmp_path / "2"), 2, tmp_path / "2")
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

TOGETHER = """
import sys
from pathlib import Path
from obc.launch import train_together
from obc.plan import Plan
train_together(Plan.load(Path(sys.argv[1])), sys.argv[2], 0, 2, sys.stderr)
"""


@pytest.mark.slow
def test_two_processes_leave_one_run_written_by_the_first(workspace: Workspace) -> None:
    workspace.new_scale("together", epochs=1, steps=[])
    plan = workspace.plan(scale="together")
    for made in ("data", "runs"):
        shutil.copytree(
            workspace.folder / "results/smoke" / made, workspace.folder / plan.results / made
        )
    run = run_id(plan, "smoothl1-b1-")
    done = workspace.run(sys.executable, "-c", TOGETHER, plan.results / "plan.json", run)
    assert done.returncode == 0, done.stderr
    folder = workspace.folder / plan.run_folder(run, 0)
    assert run_status(folder) == "trained"
    assert sorted(path.name for path in folder.iterdir()) == ["config.py", "final.pth", "run.json"]
    record = json.loads((folder / "run.json").read_text())
    assert record["processes"] == 2
    assert record["iterations"] == 6, "48 images in batches of 8, over both"
    assert [session["images"] for session in record["sessions"]] == [48]
    state = torch.load(folder / "final.pth", weights_only=True)
    assert not [key for key in state if key.startswith("module.")]
    assert done.stdout.count("Epoch(train)") == done.stdout.count("Epoch(train) [1]") >= 0
    assert "batch_size=4" in (folder / "config.py").read_text()


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
    log = rank_log(tmp_path, 1)
    with pytest.raises(RankFailed, match=rf"rank 1 of 2: ValueError: cannot go on \(log: {log}\)"):
        launch(fail_on_rank_1, (), 2, tmp_path)
    assert "what rank 1 had to say" in log.read_text()
    assert signal.getsignal(signal.SIGTERM) is before


STOPPED = """
import sys
from pathlib import Path
from obc.launch import launch
from ranks import stop_when_told
launch(stop_when_told, (Path(sys.argv[1]),), 2, Path(sys.argv[1]))
"""


def test_sigterm_lets_rank_0_save_and_leaves_no_process_behind(tmp_path: Path) -> None:
    search = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPED, str(tmp_path)], env={**ENVIRONMENT, "PYTHONPATH": search}
    )
    try:
        files = [tmp_path / f"pid{rank}" for rank in (0, 1)]
        deadline = time.monotonic() + 240
        while not all(file.exists() and file.read_text() for file in files):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        process.terminate()
        assert process.wait(timeout=120) == 143
    finally:
        process.kill()
    assert (tmp_path / "saved").exists()
    for file in files:
        with pytest.raises(ProcessLookupError):
            os.kill(int(file.read_text()), 0)

"""Trainings of a scale of their own that `training_sessions.py` interrupts."""

from __future__ import annotations

import json
import shutil

import torch
from conftest import SUITE, Workspace, edit

Interruption = list  # signal, pattern of a new file in the run's folder, seconds after it is there


def train_interrupted(
    workspace: Workspace,
    scale: str,
    schedule: dict,
    runtime: dict,
    trainings: dict[str, list[Interruption]],
) -> dict[str, list[dict]]:
    """Train one run under each name; its folder goes to `resumed/<name>`, its sessions come back.

    An empty list is a training that nothing interrupts.
    """
    (workspace.folder / "resumed").mkdir(exist_ok=True)
    workspace.new_scale(scale, **schedule)
    edit(
        workspace.folder / f"config/scales/{scale}.yaml",
        lambda content: content["runtime"].update(runtime),
    )
    plan = workspace.plan(scale=scale)
    for made in ("data", "runs"):
        shutil.copytree(
            workspace.folder / "results/smoke" / made, workspace.folder / plan.results / made
        )
    run = next(run for run in plan.runs if run.startswith("voc-faster-r50-obc-a3-n20-k2"))
    script = {
        "plan": str(plan.results / "plan.json"),
        "run": run,
        "folder": "resumed",
        "trainings": trainings,
    }
    driver = SUITE.run("training_sessions", workspace.folder, json.dumps(script))
    assert driver.returncode == 0, driver.stderr
    return json.loads(driver.stdout.splitlines()[-1])


def weights(workspace: Workspace, training: str) -> dict[str, torch.Tensor]:
    """Final weights of a training that `train_interrupted` named so."""
    return torch.load(workspace.folder / "resumed" / training / "final.pth", weights_only=True)

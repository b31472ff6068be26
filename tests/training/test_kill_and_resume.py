"""One training is killed once, and started again: it ends with the same weights.

The same at two dozen moments, and for other signals, is in test_resume.py.
"""

from __future__ import annotations

import json

import pytest
import torch
from conftest import Workspace
from interrupted_trainings import train_interrupted, weights


@pytest.mark.xdist_group("workflow")  # whose worker has the workspace
def test_a_killed_training_goes_on_to_the_weights_of_an_undisturbed_one(
    workspace: Workspace,
) -> None:
    reports = train_interrupted(
        workspace,
        "killed",
        {"epochs": 2, "steps": [1]},
        {"checkpoint_minutes": 0, "num_workers": 0},
        {"whole": [], "killed": [["KILL", "work/iteration_*.pth", 0]]},
    )
    assert [session["status"] for session in reports["whole"]] == [0]
    assert [session["status"] for session in reports["killed"]] == [-9, 0]
    record = json.loads((workspace.folder / "resumed/killed/run.json").read_text())
    assert [session["resumed_from"] > 0 for session in record["sessions"]] == [False, True]
    whole, resumed = weights(workspace, "whole"), weights(workspace, "killed")
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)

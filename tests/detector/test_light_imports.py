"""A job imports MMDetection without what it does not need, and a user can still import that."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from obc.cli.runs import import_lightly
from obc.detector.light_imports import LEFT_OUT

pytestmark = pytest.mark.xdist_group("light_imports")  # whose worker starts the job, once

SCRIPT = """
import gc, json, sys
from obc.cli.runs import import_lightly
import_lightly([])
collector = {"enabled": gc.isenabled(), "left out": gc.get_freeze_count()}
import obc.training.train, obc.evaluation.evaluate
from mmdet.utils import register_all_modules
register_all_modules(init_default_scope=True)
import torch
from torch.utils.flop_counter import FlopCounterMode
weight = torch.nn.Parameter(torch.ones(2))
optimizer = torch.optim.SGD([weight], lr=0.5, momentum=0.9)
optimizer.zero_grad()
(weight * torch.tensor([1.0, 2.0])).sum().backward()
optimizer.step()
with FlopCounterMode(display=False) as counter:
    torch.nn.functional.linear(torch.zeros(3, 4), torch.zeros(5, 4))
imported = sorted(sys.modules)
import matplotlib.pyplot, scipy.optimize
print(json.dumps({
    "imported": imported,
    "collector": collector,
    "weight": weight.tolist(),
    "flops": counter.get_total_flops(),
    "assigned": scipy.optimize.linear_sum_assignment([[1.0, 0.0], [0.0, 1.0]])[1].tolist(),
    "pyplot": hasattr(matplotlib.pyplot, "subplots"),
}))
"""


@pytest.fixture(scope="module")
def job() -> dict:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_job_imports_none_of_what_is_left_out(job: dict) -> None:
    assert not {*LEFT_OUT, "torch._dynamo", "sympy", "numba"} & set(job["imported"])


def test_a_step_of_sgd_and_the_flop_counter_work_without_the_compiler(job: dict) -> None:
    assert job["weight"] == [0.5, 0.0]
    assert job["flops"] == 2 * 3 * 4 * 5


def test_what_was_left_out_can_be_imported_afterwards(job: dict) -> None:
    assert job["assigned"] == [1, 0]
    assert job["pyplot"]


def test_garbage_collection_goes_on_after_the_imports_without_their_objects(job: dict) -> None:
    assert job["collector"]["enabled"]
    assert job["collector"]["left out"] > 100_000


def test_with_plugins_nothing_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> None:
        raise AssertionError("MMDetection is imported with stand-ins")

    monkeypatch.setattr("obc.detector.light_imports.import_mmdetection", refused)
    import_lightly(["my_head"])

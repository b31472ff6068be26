"""Heads to look into: one whose output is made up, and detectors of the smoke scale, untrained."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from torch import Tensor

from obc.bins import OffsetBins
from obc.config.load_plan import load_plan
from obc.config.plan import Plan
from obc.datasets.drawn.shapes import generate
from obc.datasets.index import index_dataset
from obc.evaluation.head_view import HeadView, head_view
from obc.head.coders import OffsetBinBBoxCoder
from obc.training.mmdet_config import build_config

# One stage of five bins from -5 to 5, as in Figure 4: centres -4, -2, 0, 2, 4, then -5 and 5.
FIVE_BINS = OffsetBins(num_bins=5, max_offset=5.0)
PROPOSAL = torch.tensor([[10.0, 20.0, 30.0, 60.0]])  # 20 wide, 40 high
OBJECT = torch.tensor([[12.0, 20.0, 32.0, 60.0]])  # 2 to the right: x is off by 2 / 20 / .1 = 1
SIZE = (100, 200)


def made_up_view(
    probabilities: Tensor,
    bins: OffsetBins = FIVE_BINS,
    proposals: Tensor = PROPOSAL,
    objects: Tensor = OBJECT,
    image_id: int = 7,
    scores: Tensor | None = None,
    class_agnostic: bool = True,
) -> HeadView:
    """What a head says whose bin probabilities (R, 4, K, n), or more classes of them, are given."""
    head = SimpleNamespace(
        bbox_coder=OffsetBinBBoxCoder(bins=bins), reg_class_agnostic=class_agnostic
    )
    if scores is None:
        scores = torch.tensor([[0.7, 0.2, 0.1]]).expand(len(proposals), 3)
    return head_view(
        head,
        classes=("cat", "dog"),
        image_id=image_id,
        image_path=Path("no-such-image.png"),
        size=SIZE,
        proposals=proposals,
        scores=scores,
        predictions=dict.fromkeys(("expectation", "argmax"), probabilities.log().flatten(1)),
        objects=objects,
        object_labels=torch.zeros(len(objects), dtype=torch.long),
    )


def untrained_plan(folder: Path, project: Path, **config: Any) -> Plan:
    """The smoke scale with its pictures, in the working folder; nothing is trained."""
    chosen = {"scale": "smoke", "results": str(folder / "results"), **config}
    plan = load_plan(chosen, project / "config")
    data = plan.scale.data["voc"]
    generate(data, plan.data_folder("voc"))
    index_dataset(data, plan.data_folder("voc"), plan.index_folder("voc"))
    return plan


def save_untrained(plan: Plan, run_id: str, seed: int = 0) -> None:
    """Weights of a run as they are before its training."""
    run = plan.runs[run_id].resolved
    files = plan.index_folder(run.spec.dataset).files()
    register_all_modules(init_default_scope=True)
    torch.manual_seed(0)
    model = MODELS.build(build_config(run, seed, files, plan.scale.runtime).model)
    model.init_weights()
    path = plan.run_folder(run_id, seed) / "final.pth"
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), path)

"""What the processes of tests/test_launch.py do; a module that a fresh process imports quickly."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import torch

from obc.config.plan import Plan


def loss_curve(plan: Plan, run: str, work: Path) -> None:
    """Losses of the first iterations, averaged over all processes, as each of them has them.

    A loss is an average over a process's samples, and gradients are averaged over the processes:
    that is the average over all samples only if every process has equally many. So here every
    anchor and exactly 40 proposals an image are samples, none drawn; nothing is flipped, and batch
    norm keeps its statistics. What is left to differ is rounding.
    """
    from mmengine.dist import all_reduce, get_rank, get_world_size
    from mmengine.hooks import Hook

    from obc.training.mmdet_config import build_config
    from obc.training.train import build_runner

    class Losses(Hook):
        curve: list[float] = []  # noqa: RUF012

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
            total = outputs["loss"].detach().clone()
            all_reduce(total)
            self.curve.append(total.item() / get_world_size())

    resolved = plan.runs[run].resolved
    files = plan.index_folder("voc").files()
    weights = plan.initial_weights(run, 0)
    config = build_config(resolved, 0, files, plan.scale.runtime, weights, get_world_size())
    config.work_dir = str(work)
    config.model.backbone.norm_eval = True
    config.train_dataloader.dataset.dataset.pipeline[3].prob = 0.0
    rpn, rcnn = config.model.train_cfg.rpn, config.model.train_cfg.rcnn
    rpn.assigner.update(pos_iou_thr=0.5, neg_iou_thr=0.5)
    rpn.sampler.update(num=10_000, pos_fraction=1.0)
    config.model.train_cfg.rpn_proposal.update(nms_pre=12, max_per_img=40)
    config.model.train_cfg.rpn_proposal.nms.iou_threshold = 1.0
    rcnn.assigner.update(pos_iou_thr=0.3, neg_iou_thr=0.3, min_pos_iou=0.3)
    rcnn.sampler.update(num=10_000, pos_fraction=1.0, add_gt_as_proposals=False)
    runner = build_runner(config, plan.scale.runtime)
    runner.register_hook(Losses())
    model = runner.train()
    weight = next(value for key, value in model.state_dict().items() if "fc_reg.weight" in key)
    result = {"curve": Losses.curve, "weight": weight.flatten().tolist()}
    (work / f"rank{get_rank()}.json").write_text(json.dumps(result))


def fail_on_rank_1() -> None:
    if os.environ["RANK"] == "0":
        torch.distributed.barrier()  # waits for the other one
    print("what rank 1 had to say")
    raise ValueError("cannot go on")


def stop_when_told(folder: Path) -> None:
    """Rank 0 saves and exits as a training does; the others are in the middle of a step."""
    rank = os.environ["RANK"]

    def save_and_exit(*_: object) -> None:
        (folder / "saved").touch()
        raise SystemExit(143)

    if rank == "0":
        signal.signal(signal.SIGTERM, save_and_exit)
    (folder / f"pid{rank}").write_text(str(os.getpid()))
    if rank == "0":
        signal.pause()
    torch.distributed.barrier()

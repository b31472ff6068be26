"""The whole MMDetection config of a resolved run's training.

Pure functions: the same run gives the same config text.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.config import Config

import obc.training.hooks
import obc.training.kept_images  # noqa: F401
from obc.config.run import ResolvedRun
from obc.config.scale import Runtime
from obc.datasets.index_folder import DataFiles
from obc.detector.model_config import (
    BASE_CONFIGS,
    coco_dataset,
    loading,
    of_protocol,
    runtime_model_config,
    start_from,
    test_config,
)
from obc.training.exact_resume import ORDER, seed_of


def build_config(
    run: ResolvedRun,
    seed: int,
    data: DataFiles,
    runtime: Runtime,
    initial_weights: Path | None = None,
    processes: int = 1,
    plugins: tuple[str, ...] = (),
) -> Config:
    """Build the MMDetection config of one training, complete for `tools/train.py`.

    Args:
        run: what to train.
        seed: of weights, data order and sampling.
        data: the indexed data set.
        runtime: how this machine loads data and how often it saves.
        initial_weights: weights file for backbone, neck and RPN, written by the run's initial_run.
        processes: number of processes that train together, each on its share of every batch; the
            batch size is divided by it.
        plugins: modules of the user that the config imports.
    """
    config = Config.fromfile(BASE_CONFIGS / "_base_/default_runtime.py")
    config.custom_imports = dict(
        imports=[
            "obc",
            "obc.detector.other_heads",
            "obc.detector.batched",
            "obc.detector.roi_align",
            "obc.detector.timm_backbone",
            "obc.training.hooks",
            "obc.training.kept_images",
            "obc.training.exact_resume",
            "obc.detector.whole_pixels",
            *plugins,
        ],
        allow_failed_imports=False,
    )
    config.model = runtime_model_config(run, len(data.classes), runtime)
    if initial_weights is not None:
        start_from(config.model, initial_weights)
    config.update(_train_loader(run, seed, data, runtime))
    config.update(test_config(run, data, runtime))
    config.update(_schedule_config(run))
    config.randomness = dict(seed=seed, deterministic=False)
    config.default_hooks = dict(
        timer=dict(type="IterTimerHook"),
        logger=dict(type="LoggerHook", interval=20),
        param_scheduler=dict(type="ParamSchedulerHook"),
        checkpoint=dict(type="IterationCheckpointHook", minutes=runtime.checkpoint_minutes),
        sampler_seed=dict(type="DistSamplerSeedHook"),
    )
    config.custom_hooks = [dict(type="NonFiniteLossHook")]
    config.visualizer = None
    if processes > 1:
        _share(config, processes)
    return config


def _share(config: Config, processes: int) -> None:
    """Let each process take its part of every batch; gradients are averaged over all of them."""
    config.launcher = "pytorch"
    config.train_dataloader.batch_size //= processes
    config.model_wrapper_cfg = dict(
        type="MMDistributedDataParallel",
        broadcast_buffers=False,
        device_ids=None,  # the model's device; MMEngine's default is a GPU, also on the CPU
    )


def _train_loader(run: ResolvedRun, seed: int, data: DataFiles, runtime: Runtime) -> dict[str, Any]:
    flip_and_pack = [dict(type="RandomFlip", prob=0.5), dict(type="PackDetInputs")]
    train = coco_dataset(data, data.train, of_protocol(run, [*loading(run), *flip_and_pack]))
    if runtime.keep_images:
        train["type"] = "KeptCocoDataset"
    train["filter_cfg"] = dict(filter_empty_gt=True, min_size=32)
    if run.schedule.repeat_times > 1:
        train = dict(type="RepeatDataset", times=run.schedule.repeat_times, dataset=train)
    return dict(
        train_dataloader=dict(
            batch_size=run.schedule.batch_size,
            num_workers=runtime.num_workers,
            persistent_workers=False,
            # MMEngine's sampler adds the epoch to its seed. Seeds of other trainings are far away.
            sampler=dict(type="DefaultSampler", shuffle=True, seed=seed_of(ORDER, seed)),
            batch_sampler=dict(type="ResumableBatchSampler"),
            worker_init_fn=dict(type="ignore_stop_signals"),
            dataset=dict(type="SeededDataset", seed=seed, dataset=train),
        ),
    )


def _schedule_config(run: ResolvedRun) -> dict[str, Any]:
    schedule = run.schedule
    optimizer = dict(
        type="SGD",
        lr=schedule.lr,
        momentum=schedule.momentum,
        weight_decay=schedule.weight_decay,
    )
    if schedule.optimizer == "adamw":
        optimizer = dict(type="AdamW", lr=schedule.lr, weight_decay=schedule.weight_decay)
    wrapper: dict[str, Any] = dict(type="OptimWrapper", optimizer=optimizer)
    if schedule.backbone_lr != 1:
        wrapper["paramwise_cfg"] = dict(
            custom_keys=dict(backbone=dict(lr_mult=schedule.backbone_lr))
        )
    if schedule.grad_clip is not None:
        wrapper["clip_grad"] = dict(max_norm=schedule.grad_clip, norm_type=2)
    warmup = dict(
        type="LinearLR",
        start_factor=schedule.warmup_ratio,
        by_epoch=False,
        begin=0,
        end=schedule.warmup_iters,
    )
    decay = dict(
        type="MultiStepLR",
        begin=0,
        end=schedule.epochs,
        by_epoch=True,
        milestones=list(schedule.steps),
        gamma=0.1,
    )
    return dict(
        optim_wrapper=wrapper,
        param_scheduler=[warmup, decay] if schedule.warmup_iters else [decay],
        train_cfg=dict(type="ResumableTrainLoop", max_epochs=schedule.epochs),
        load_from=None,
    )

"""Random draws and data order of a training that can resume within an epoch.

Every random choice is computed from its place in the training: the order of the images from (seed,
epoch), the augmentation of an image from (seed, epoch, image), and the random choices of a step
(which RoIs are sampled) from (seed, iteration, process). So a checkpoint needs no generator state,
and it does not matter which process loads an image.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.datasets.samplers import AspectRatioBatchSampler
from mmdet.registry import DATA_SAMPLERS, DATASETS
from mmengine.dist import get_rank
from mmengine.model import is_model_wrapper
from mmengine.registry import LOOPS
from mmengine.runner import EpochBasedTrainLoop
from torch import nn

from obc.training.checkpoints import newest_checkpoint, read_checkpoint, write_checkpoint

ORDER, AUGMENTATION, STEP = range(1, 4)


def seed_of(purpose: int, seed: int, *place: int) -> int:
    """A 32-bit seed that is independent of those for other purposes, seeds and places.

    Args:
        purpose: ORDER, AUGMENTATION or STEP.
        place: numbers that identify a place in the training; equally many for all seeds of one
            purpose.
    """
    return int(np.random.SeedSequence((purpose, seed, *place)).generate_state(1)[0])


def seed_generators(seed: int) -> None:
    """Seed Python's, NumPy's and torch's generators, those of GPUs in use included."""
    random.seed(seed)
    np.random.seed(seed)
    # Without a GPU in use torch.manual_seed takes twenty times as long as all of this: it records
    # the whole call stack, for an error that a GPU may raise later.
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)


@DATASETS.register_module()
class SeededDataset:
    """A data set that computes the augmentation of an image from (seed, epoch, image).

    Its items are indexed by pairs (epoch, index), as ResumableBatchSampler yields them.

    Args:
        dataset: config of the data set that loads and augments.
        seed: of the training.
    """

    def __init__(self, dataset: dict[str, Any], seed: int) -> None:
        self.dataset = DATASETS.build(dataset)
        self.seed = seed

    @property
    def metainfo(self) -> dict[str, Any]:
        """Metadata of the data set, e.g. class names."""
        return self.dataset.metainfo

    def full_init(self) -> None:
        """Load the annotations."""
        self.dataset.full_init()

    def get_data_info(self, index: int) -> dict[str, Any]:
        """Annotation of an image, not augmented."""
        return self.dataset.get_data_info(index)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, item: tuple[int, int]) -> dict[str, Any]:
        epoch, index = item
        seed_generators(seed_of(AUGMENTATION, self.seed, epoch, index))
        return self.dataset[index]


@DATA_SAMPLERS.register_module()
class ResumableBatchSampler(AspectRatioBatchSampler):
    """MMDetection's batches of images of similar aspect ratio, starting at any batch of an epoch.

    Yields lists of pairs (epoch, index). Images of skipped batches are not loaded.

    Attributes:
        first_batch: number of batches that the next pass skips; the length stays the whole epoch's.
    """

    first_batch = 0

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        self._aspect_ratio_buckets = [[], []]  # an unfinished pass leaves images in them
        epoch = self.sampler.epoch
        for batch in islice(super().__iter__(), self.first_batch, None):
            yield [(epoch, index) for index in batch]


@LOOPS.register_module()
class ResumableTrainLoop(EpochBasedTrainLoop):
    """MMEngine's training loop, which can resume after any iteration.

    It starts from the newest checkpoint in the runner's work folder, if there is one.
    """

    def run(self) -> nn.Module:
        """Train to the end, or from the checkpoint to the end."""
        checkpoint = newest_checkpoint(Path(self.runner.work_dir))
        if checkpoint is not None:
            self._restore(read_checkpoint(checkpoint))
        return super().run()

    def run_epoch(self) -> None:
        """Train the remaining batches of an epoch; none if the last batch is already done."""
        self.runner.call_hook("before_train_epoch")
        self.runner.model.train()
        done = self._iter - self._epoch * len(self.dataloader)
        self.dataloader.batch_sampler.first_batch = done
        for index, batch in enumerate(self.dataloader, start=done):
            self.run_iter(index, batch)
        self.runner.call_hook("after_train_epoch")
        self._epoch += 1

    def run_iter(self, idx: int, data_batch: Any) -> None:
        """Run one step; its random numbers do not depend on earlier steps."""
        seed_generators(seed_of(STEP, self.runner.seed, self._iter, get_rank()))
        super().run_iter(idx, data_batch)

    def save(self) -> Path:
        """Write a checkpoint; for hooks that run at the end of an iteration.

        Raises:
            CheckpointNotWritten: the disk is full.
        """
        runner, iteration = self.runner, self._iter + 1
        state = {
            "iteration": iteration,
            "state_dict": self.model.state_dict(),
            "optimizer": runner.optim_wrapper.state_dict(),
            "param_schedulers": [scheduler.state_dict() for scheduler in runner.param_schedulers],
        }
        runner.call_hook("before_save_checkpoint", checkpoint=state)
        return write_checkpoint(Path(runner.work_dir), iteration, state)

    @property
    def model(self) -> nn.Module:
        """The detector itself, without the wrapper of a distributed training."""
        model = self.runner.model
        return model.module if is_model_wrapper(model) else model

    def _restore(self, state: dict[str, Any]) -> None:
        runner = self.runner
        self.model.load_state_dict(state["state_dict"])
        runner.optim_wrapper.load_state_dict(state["optimizer"])
        for scheduler, saved in zip(
            runner.param_schedulers, state["param_schedulers"], strict=True
        ):
            scheduler.load_state_dict(saved)
        self._iter = state["iteration"]
        # The checkpoint after an epoch's last batch is written before the epoch is counted.
        self._epoch = (self._iter - 1) // len(self.dataloader)
        runner.optim_wrapper.initialize_count_status(runner.model, self._iter, self._max_iters)

"""Random draws and data order of a training that can resume within an epoch.

Nothing depends on what was drawn before: the order of the images follows from (seed, epoch), how
one is augmented from (seed, epoch, image), what a step draws, i.e. which RoIs, from (seed,
iteration, process). So a checkpoint holds no state of a generator, and which process loads an image
makes no difference.
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
    """A 32-bit seed that shares nothing with those of other purposes, seeds and places.

    Args:
        purpose: ORDER, AUGMENTATION or STEP.
        place: within the training; as many numbers for all seeds of one purpose.
    """
    return int(np.random.SeedSequence((purpose, seed, *place)).generate_state(1)[0])


def seed_generators(seed: int) -> None:
    """Seed Python's, NumPy's and torch's generators, those of GPUs in use included."""
    random.seed(seed)
    np.random.seed(seed)
    # torch.manual_seed takes twenty times as long as all of this where no GPU is in use: it notes
    # the whole call stack, for an error that a GPU may raise later.
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)


@DATASETS.register_module()
class SeededDataset:
    """A data set whose augmentations of an image follow from (seed, epoch, image).

    Its items are asked for by pairs (epoch, index), as ResumableBatchSampler yields them.

    Args:
        dataset: config of the data set that loads and augments.
        seed: of the training.
    """

    def __init__(self, dataset: dict[str, Any], seed: int) -> None:
        self.dataset = DATASETS.build(dataset)
        self.seed = seed

    @property
    def metainfo(self) -> dict[str, Any]:
        """Class names and so on."""
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
    """MMDetection's batches of images of like aspect ratio, from any batch of an epoch on.

    Yields lists of pairs (epoch, index). Images of batches that are left out are not loaded.

    Attributes:
        first_batch: how many batches the next pass leaves out; the length stays the whole epoch's.
    """

    first_batch = 0

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        self._aspect_ratio_buckets = [[], []]  # a pass that was given up leaves images in them
        epoch = self.sampler.epoch
        for batch in islice(super().__iter__(), self.first_batch, None):
            yield [(epoch, index) for index in batch]


@LOOPS.register_module()
class ResumableTrainLoop(EpochBasedTrainLoop):
    """MMEngine's training loop, going on after any iteration.

    It starts from the newest checkpoint in the runner's work folder, if there is one.
    """

    def run(self) -> nn.Module:
        """Train to the end, or from the checkpoint to the end."""
        checkpoint = newest_checkpoint(Path(self.runner.work_dir))
        if checkpoint is not None:
            self._restore(read_checkpoint(checkpoint))
        return super().run()

    def run_epoch(self) -> None:
        """Train what is left of an epoch: nothing, if it was interrupted after its last batch."""
        self.runner.call_hook("before_train_epoch")
        self.runner.model.train()
        done = self._iter - self._epoch * len(self.dataloader)
        self.dataloader.batch_sampler.first_batch = done
        for index, batch in enumerate(self.dataloader, start=done):
            self.run_iter(index, batch)
        self.runner.call_hook("after_train_epoch")
        self._epoch += 1

    def run_iter(self, idx: int, data_batch: Any) -> None:
        """One step, which draws the same numbers whatever came before it."""
        seed_generators(seed_of(STEP, self.runner.seed, self._iter, get_rank()))
        super().run_iter(idx, data_batch)

    def save(self) -> Path:
        """Write a checkpoint; for hooks that run at the end of an iteration.

        Raises:
            CheckpointNotWritten: no space.
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
        """The detector itself, also where processes share the training."""
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
        # Checkpoints are written before an epoch's end is dealt with, also after its last batch.
        self._epoch = (self._iter - 1) // len(self.dataloader)
        runner.optim_wrapper.initialize_count_status(runner.model, self._iter, self._max_iters)

"""Order and randomness of a training: functions of the place in it, whatever came before."""

from __future__ import annotations

import random
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.dataset import DefaultSampler
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from PIL import Image

from obc.io.files import write_json
from obc.training.exact_resume import (
    AUGMENTATION,
    ORDER,
    STEP,
    ResumableBatchSampler,
    seed_generators,
    seed_of,
)

IMAGES = 12


class Shapes:
    """As much of a data set as a batch sampler asks for."""

    def __init__(self, landscape: list[bool]) -> None:
        self.landscape = landscape

    def __len__(self) -> int:
        return len(self.landscape)

    def get_data_info(self, index: int) -> dict[str, int]:
        return {"width": 2 if self.landscape[index] else 1, "height": 1 if index else 2}


def sampler(landscape: list[bool], batch_size: int, epoch: int) -> ResumableBatchSampler:
    order = DefaultSampler(Shapes(landscape), shuffle=True, seed=3)
    order.set_epoch(epoch)
    return ResumableBatchSampler(order, batch_size)


@settings(deadline=None)
@given(
    landscape=st.lists(st.booleans(), min_size=1, max_size=30),
    batch_size=st.integers(1, 5),
    epoch=st.integers(0, 3),
    data=st.data(),
)
def test_leaving_out_batches_leaves_the_rest_of_the_epoch(
    landscape, batch_size, epoch, data
) -> None:
    whole = list(sampler(landscape, batch_size, epoch))
    done = data.draw(st.integers(0, len(whole)))
    rest = sampler(landscape, batch_size, epoch)
    rest.first_batch = done
    assert list(rest) == whole[done:]
    assert len(rest) == len(whole)
    seen = sorted(index for batch in whole for _, index in batch)
    assert seen == list(range(len(landscape)))
    assert {found for batch in whole for found, _ in batch} == {epoch}


def test_a_pass_that_was_given_up_does_not_change_the_next() -> None:
    batches = sampler([True, False] * 5, 4, 0)
    whole = list(batches)
    next(iter(batches))
    assert list(batches) == whole


def test_seeds_of_neighbouring_places_purposes_and_trainings_differ() -> None:
    places = list(product((AUGMENTATION, STEP), range(3), range(20), range(40)))
    seeds = {seed_of(*place) for place in places} | {seed_of(ORDER, seed) for seed in range(100)}
    # Among 4,900 numbers of 32 bits two are equal with a probability of 0.3 %: these are not.
    assert len(seeds) == len(places) + 100


def test_first_draws_of_neighbouring_places_are_uncorrelated() -> None:
    draws = []
    for index in range(2000):
        seed_generators(seed_of(AUGMENTATION, 0, 0, index))
        draws.append((random.random(), np.random.random(), torch.rand(()).item()))
    draws = np.array(draws)
    # 4 standard errors: of a mean of 2,000 uniform numbers .026, of a correlation .09.
    assert np.abs(draws.mean(axis=0) - 0.5).max() < 0.026
    between_generators = np.corrcoef(draws.T)[np.triu_indices(3, 1)]
    between_neighbours = [np.corrcoef(column[:-1], column[1:])[0, 1] for column in draws.T]
    assert np.abs([*between_generators, *between_neighbours]).max() < 0.09


@pytest.fixture(scope="module")
def annotated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dozen noisy images with a box each, annotated as COCO does."""
    folder = tmp_path_factory.mktemp("images")
    noise = np.random.default_rng(0)
    for number in range(IMAGES):
        pixels = noise.integers(0, 255, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    images = [
        {"id": number, "file_name": f"{number}.png", "width": 48, "height": 40}
        for number in range(IMAGES)
    ]
    boxes = [
        {"id": number + 1, "image_id": number, "category_id": 1, "bbox": [1, 2, 9, 8],
         "area": 72, "iscrowd": 0}
        for number in range(IMAGES)
    ]  # fmt: skip
    categories = [{"id": 1, "name": "thing"}]
    write_json(
        folder / "train.json", {"images": images, "annotations": boxes, "categories": categories}
    )
    return folder


def loaded(folder: Path, num_workers: int, epoch: int, first_batch: int = 0) -> dict[int, tuple]:
    """By image: whether it was flipped, and a random number that came after."""
    pipeline = [
        dict(type="LoadImageFromFile"),
        dict(type="LoadAnnotations", with_bbox=True),
        dict(type="RandomFlip", prob=0.5),
        dict(type="RandomCrop", crop_size=(20, 20)),
        dict(type="PackDetInputs"),
    ]
    coco = dict(
        type="CocoDataset",
        ann_file=str(folder / "train.json"),
        data_prefix=dict(img=str(folder)),
        metainfo=dict(classes=("thing",)),
        pipeline=pipeline,
    )
    with DefaultScope.overwrite_default_scope("mmdet"):
        loader = Runner.build_dataloader(
            dict(
                batch_size=2,
                num_workers=num_workers,
                sampler=dict(type="DefaultSampler", shuffle=True),
                batch_sampler=dict(type="ResumableBatchSampler"),
                worker_init_fn=dict(type="ignore_stop_signals"),
                dataset=dict(
                    type="SeededDataset",
                    seed=7,
                    dataset=dict(type="RepeatDataset", times=2, dataset=coco),
                ),
            ),
            seed=0,
        )
        loader.batch_sampler.sampler.set_epoch(epoch)
        loader.batch_sampler.first_batch = first_batch
        batches = list(loader)
    order = [index for batch in loader.batch_sampler for _, index in batch]
    pixels = [image for batch in batches for image in batch["inputs"]]
    return dict(zip(order, pixels, strict=True))


def same(first: dict[int, torch.Tensor], second: dict[int, torch.Tensor]) -> list[bool]:
    return [torch.equal(first[index], second[index]) for index in first.keys() & second.keys()]


def test_augmentations_are_the_same_whichever_process_loads_an_image(annotated: Path) -> None:
    assert all(same(loaded(annotated, 0, epoch=1), loaded(annotated, 2, epoch=1)))


def test_augmentations_are_the_same_where_an_epoch_is_gone_on_with(annotated: Path) -> None:
    rest = loaded(annotated, 0, epoch=1, first_batch=7)
    assert len(rest) == 2 * IMAGES - 14
    assert all(same(rest, loaded(annotated, 0, epoch=1)))


def test_augmentations_differ_between_epochs_and_between_repetitions(annotated: Path) -> None:
    first = loaded(annotated, 0, epoch=0)
    # Crops of 20 pixels from 40 x 48: chance makes about one in a thousand equal.
    assert not any(same(first, loaded(annotated, 0, epoch=1)))
    again = {index - IMAGES: image for index, image in first.items() if index >= IMAGES}
    assert not any(same(again, {k: image for k, image in first.items() if k < IMAGES}))

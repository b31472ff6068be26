"""DeltaCoder: MMDetection's deltas, without its copies to the device.

Decoding in whole pixels is compared with version 1's in test_whole_pixels.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.models.task_modules.coders import DeltaXYWHBBoxCoder, LegacyDeltaXYWHBBoxCoder
from torch import Tensor

from obc.head.box_deltas import DeltaCoder

MEANS, STDS = (0.0, 0.1, -0.2, 0.0), (0.1, 0.1, 0.2, 0.3)
seeds = st.integers(0, 2**32 - 1)
counts = st.integers(1, 70)  # also such as do not fill a vector register
# A busy machine is slow, not wrong.
no_deadline = settings(deadline=None, max_examples=50)
conventions = pytest.mark.parametrize("legacy", [False, True])


def coders(legacy: bool) -> tuple[DeltaCoder, DeltaXYWHBBoxCoder | LegacyDeltaXYWHBBoxCoder]:
    theirs = LegacyDeltaXYWHBBoxCoder if legacy else DeltaXYWHBBoxCoder
    return DeltaCoder(MEANS, STDS, legacy), theirs(target_means=MEANS, target_stds=STDS)


def random_boxes(count: int, seed: int) -> Tensor:
    low, size = torch.rand(2, count, 2, generator=torch.Generator().manual_seed(seed)) * 500
    return torch.cat([low, low + size], dim=1)


@conventions
@given(counts, seeds)
@no_deadline
def test_deltas_are_mmdetections_to_the_last_bit(legacy: bool, count: int, seed: int) -> None:
    ours, theirs = coders(legacy)
    boxes, gt_boxes = random_boxes(count, seed), random_boxes(count, seed + 1)
    assert torch.equal(ours.encode(boxes, gt_boxes), theirs.encode(boxes, gt_boxes))


@pytest.mark.parametrize("max_shape", [None, (300, 400)])
@given(counts, seeds)
@no_deadline
def test_boxes_are_mmdetections_to_the_last_bit(
    max_shape: tuple[int, int] | None, count: int, seed: int
) -> None:
    ours, theirs = coders(legacy=False)
    boxes = random_boxes(count, seed)
    deltas = torch.randn(count, 4, generator=torch.Generator().manual_seed(seed)) * 20
    expected = theirs.decode(boxes, deltas, max_shape=max_shape)
    assert torch.equal(ours.decode(boxes, deltas, max_shape), expected)


@given(counts, seeds)
@no_deadline
def test_in_whole_pixels_boxes_are_half_a_pixel_smaller_on_each_side_than_mmdetections(
    count: int, seed: int
) -> None:
    ours, theirs = coders(legacy=True)
    boxes = random_boxes(count, seed)
    deltas = torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))
    expected = theirs.decode(boxes, deltas) + torch.tensor([0.5, 0.5, -0.5, -0.5])
    torch.testing.assert_close(ours.decode(boxes, deltas), expected)


@conventions
@given(counts, seeds)
@no_deadline
def test_edges_are_taken_and_given_back(legacy: bool, count: int, seed: int) -> None:
    ours, _ = coders(legacy)
    boxes = random_boxes(count, seed).round()
    sizes = ours.edges(boxes)[:, 2:] - ours.edges(boxes)[:, :2]
    assert torch.equal(sizes, boxes[:, 2:] - boxes[:, :2] + int(legacy))
    assert torch.equal(ours.of_edges(ours.edges(boxes)), boxes)


@conventions
def test_a_box_without_area_gives_mmdetections_nan_and_infinity(legacy: bool) -> None:
    ours, theirs = coders(legacy)
    point, gt_box = torch.full((1, 4), 30.0), torch.tensor([[20.0, 20, 40, 40]])
    expected = theirs.encode(point, gt_box)
    torch.testing.assert_close(ours.encode(point, gt_box), expected, equal_nan=True, rtol=0, atol=0)


@conventions
def test_no_boxes_are_four_wide(legacy: bool) -> None:
    ours, _ = coders(legacy)
    none = torch.zeros(0, 4)
    assert ours.encode(none, none).shape == ours.decode(none, none, (9, 9)).shape == (0, 4)


def test_batches_of_boxes_keep_their_shape() -> None:
    ours, _ = coders(legacy=False)
    boxes, deltas = random_boxes(6, seed=0), torch.ones(6, 4)
    expected = ours.decode(boxes, deltas, (300, 400)).view(2, 3, 4)
    assert torch.equal(ours.decode(boxes.view(2, 3, 4), deltas.view(2, 3, 4), (300, 400)), expected)

"""OffsetBinBBoxCoder: boxes to deltas and logits to boxes."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from bin_strategies import any_bins
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from mmdet.models.task_modules.coders import DeltaXYWHBBoxCoder, LegacyDeltaXYWHBBoxCoder
from mmdet.registry import TASK_UTILS
from mmdet.structures.bbox import HorizontalBoxes
from obc_heads import (
    FAR,
    HUGE,
    LINE,
    POINT,
)
from reference_numbers import check_slopes
from torch import Tensor, nn

from obc.bins import OffsetBins
from obc.detector.whole_pixels import WholePixelDeltaCoder
from obc.head.coders import OffsetBinBBoxCoder

BOXES = torch.tensor([[10.0, 20.0, 50.0, 60.0], [5.0, 5.0, 25.0, 85.0]])
GT_BOXES = torch.tensor([[12.0, 18.0, 55.0, 66.0], [4.0, 9.0, 27.0, 80.0]])
STDS = (0.1, 0.1, 0.2, 0.2)
# A busy machine is slow, not wrong.
no_deadline = settings(deadline=None, max_examples=50)


def label_logits(coder: OffsetBinBBoxCoder, deltas: Tensor) -> Tensor:
    """Predictions (N, 4 * K * n) that are certain of the labels of ``deltas``."""
    labels = coder.bins.encode(deltas)
    return (torch.nn.functional.one_hot(labels, coder.bins.num_logits) * 200.0).flatten(1)


def test_a_config_builds_the_coder() -> None:
    coder = TASK_UTILS.build(
        {"type": "OffsetBinBBoxCoder", "bins": {"num_bins": 10, "num_stages": 2}}
    )
    assert coder.bins == OffsetBins(num_bins=10, num_stages=2)


def test_bins_may_be_given_as_they_are() -> None:
    bins = OffsetBins(num_bins=7)
    assert OffsetBinBBoxCoder(bins).bins is bins


@given(st.integers(1, 40), st.integers(1, 3))
@no_deadline
def test_encode_size_is_four_coordinates_by_stages_by_logits(m: int, num_stages: int) -> None:
    coder = OffsetBinBBoxCoder({"num_bins": m, "num_stages": num_stages})
    assert coder.encode_size == 4 * num_stages * (m + 2)


@pytest.mark.parametrize(
    ("legacy", "delta_coder"), [(False, DeltaXYWHBBoxCoder), (True, LegacyDeltaXYWHBBoxCoder)]
)
def test_encode_gives_the_deltas_of_mmdetection(legacy: bool, delta_coder: type) -> None:
    expected = delta_coder(target_stds=STDS).encode(BOXES, GT_BOXES)
    assert torch.equal(OffsetBinBBoxCoder(legacy=legacy).encode(BOXES, GT_BOXES), expected)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("num_stages", [1, 2])
def test_zero_logits_leave_the_box_unchanged(legacy: bool, num_stages: int) -> None:
    coder = OffsetBinBBoxCoder({"num_stages": num_stages}, legacy=legacy)
    decoded = coder.decode(BOXES, torch.zeros(2, coder.encode_size))
    torch.testing.assert_close(decoded, BOXES, atol=1e-4, rtol=0)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("decode_mode", ["expectation", "argmax"])
def test_certain_logits_decode_to_the_ground_truth(legacy: bool, decode_mode: str) -> None:
    # Three stages are exact to w3 / 2 = 0.000375 stds of at most 0.2 times 80 pixels: 0.006.
    coder = OffsetBinBBoxCoder(
        {"num_stages": 3}, decode_mode=decode_mode, composition="sum", legacy=legacy
    )
    decoded = coder.decode(BOXES, label_logits(coder, coder.encode(BOXES, GT_BOXES)))
    torch.testing.assert_close(decoded, GT_BOXES, atol=0.01, rtol=0)


@pytest.mark.parametrize("decode_mode", ["expectation", "argmax"])
@pytest.mark.parametrize("legacy", [False, True])
def test_decode_is_the_plain_coder_s_decode_of_the_offsets(legacy: bool, decode_mode: str) -> None:
    coder = OffsetBinBBoxCoder(
        {"num_stages": 2}, decode_mode=decode_mode, composition="sum", legacy=legacy
    )
    delta_coder = (WholePixelDeltaCoder if legacy else DeltaXYWHBBoxCoder)(target_stds=STDS)
    logits = torch.randn(2, coder.encode_size, generator=torch.Generator().manual_seed(0))
    deltas = coder.bins.decode(logits.view(2, 4, 2, 22), decode_mode)
    expected = delta_coder.decode(BOXES, deltas, max_shape=(64, 48))
    assert torch.equal(coder.decode(BOXES, logits, max_shape=(64, 48)), expected)


@pytest.mark.parametrize("legacy", [False, True])
def test_no_boxes_decode_to_no_boxes(legacy: bool) -> None:
    coder = OffsetBinBBoxCoder(legacy=legacy)
    decoded = coder.decode(torch.zeros(0, 4), torch.zeros(0, coder.encode_size), max_shape=(9, 9))
    assert decoded.shape == (0, 4)


@pytest.mark.parametrize("legacy", [False, True])
def test_clip_border_false_lets_boxes_leave_the_image(legacy: bool) -> None:
    coder = OffsetBinBBoxCoder(clip_border=False, legacy=legacy)
    decoded = coder.decode(BOXES, torch.zeros(2, coder.encode_size), max_shape=(30, 30))
    torch.testing.assert_close(decoded, BOXES, atol=1e-4, rtol=0)


def test_wh_ratio_clip_limits_the_change_of_size() -> None:
    # Offsets of 3 stds of 1 ask for e^3 = 20 times the size; the clip allows twice.
    coder = OffsetBinBBoxCoder(target_stds=(1, 1, 1, 1), wh_ratio_clip=0.5)
    logits = label_logits(coder, torch.tensor([[0.0, 0.0, 9.0, 9.0]]))
    x1, y1, x2, y2 = coder.decode(BOXES[:1], logits)[0].tolist()
    assert (x2 - x1, y2 - y1) == pytest.approx((80, 80))


def test_box_types_go_in_and_out() -> None:
    coder = OffsetBinBBoxCoder(use_box_type=True)
    decoded = coder.decode(HorizontalBoxes(BOXES), torch.zeros(2, coder.encode_size))
    assert isinstance(decoded, HorizontalBoxes)
    torch.testing.assert_close(decoded.tensor, BOXES, atol=1e-4, rtol=0)


def test_a_box_without_area_gives_offsets_that_no_stage_learns_from() -> None:
    # dx = 0 / 0 is NaN: ignored. dw = log(20 / 0) is infinite: the overflow bin.
    coder = OffsetBinBBoxCoder()
    point, gt_box = torch.tensor([[30.0, 30.0, 30.0, 30.0]]), torch.tensor([[20, 20, 40, 40]])
    deltas = coder.encode(point, gt_box)
    assert coder.bins.encode(deltas)[0].squeeze(-1).tolist() == [-100, -100, 21, 21]


# --- several stages together


some_offsets = arrays(np.float32, (3, 4), elements=st.floats(-3, 3, width=32))
some_stages = arrays(np.float32, (3, 4, 3), elements=st.floats(-1, 1, width=32))


@given(some_stages)
@no_deadline
def test_refining_is_decoding_from_box_to_box(stages: np.ndarray) -> None:
    coder, delta_coder = OffsetBinBBoxCoder({"num_stages": 3}), DeltaXYWHBBoxCoder(target_stds=STDS)
    proposals = expected = torch.tensor([[10.0, 20, 50, 60], [5, 5, 25, 85], [0, 0, 9, 9]])
    for stage in torch.from_numpy(stages).unbind(-1):
        expected = delta_coder.decode(expected, stage)
    composed = coder.compose(torch.from_numpy(stages))
    torch.testing.assert_close(
        delta_coder.decode(proposals, composed), expected, atol=1e-3, rtol=1e-4
    )


@given(some_stages)
@no_deadline
def test_summing_is_equation_11(stages: np.ndarray) -> None:
    coder = OffsetBinBBoxCoder({"num_stages": 3}, composition="sum")
    composed = coder.compose(torch.from_numpy(stages))
    torch.testing.assert_close(composed, torch.from_numpy(stages.sum(-1)))


@given(some_offsets, some_stages, st.sampled_from(["refine", "sum"]), st.integers(0, 2))
@no_deadline
def test_a_stage_that_predicts_its_residual_reaches_the_object(
    offsets: np.ndarray, stages: np.ndarray, composition: str, last: int
) -> None:
    coder = OffsetBinBBoxCoder({"num_stages": 3}, composition=composition)
    stages = torch.from_numpy(stages.copy())
    stages[..., last] = coder.residuals(torch.from_numpy(offsets), stages)[..., last]
    reached = coder.compose(stages[..., : last + 1])
    torch.testing.assert_close(reached, torch.from_numpy(offsets), atol=1e-4, rtol=1e-4)


def test_a_shift_of_a_later_stage_is_in_units_of_the_box_that_it_starts_from() -> None:
    # Stage 1 makes a box twice as wide: dw = log 2 / 0.2. Half of that width is then as much as one
    # width of the proposal: 0.5 / 0.1 = 5 normalised, and 10 in units of the proposal.
    coder = OffsetBinBBoxCoder({"num_stages": 2})
    stages = torch.tensor([[0.0, 5.0], [0.0, 5.0], [math.log(2) / 0.2, 0.0], [0.0, 0.0]])
    assert coder.compose(stages).tolist() == pytest.approx([10, 5, math.log(2) / 0.2, 0])


def test_means_belong_to_the_first_stage() -> None:
    # The box of two zero offsets is that of the means alone.
    coder = OffsetBinBBoxCoder({"num_stages": 2}, target_means=(0.1, 0.2, 0.3, 0.4))
    assert coder.compose(torch.zeros(4, 2)).tolist() == [0, 0, 0, 0]
    moved = coder.compose(torch.tensor([[0.0, 1.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]))
    assert moved.tolist() == pytest.approx([math.exp(0.3), 0, 0, 0])


def test_predictions_of_one_stage_are_refused_by_a_coder_of_two() -> None:
    with pytest.raises(ValueError, match=r"predictions are 88 wide.*OBCRoIHead"):
        OffsetBinBBoxCoder({"num_stages": 2}).decode(BOXES, torch.zeros(2, 88))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"target_stds": 0.1}, TypeError, "target_stds=0.1 is not a sequence of numbers"),
        ({"target_stds": "0.1"}, TypeError, "target_stds='0.1' is not a sequence of numbers"),
        ({"target_stds": (0.1, 0.2)}, ValueError, r"target_stds=\(0.1, 0.2\) must be four"),
        ({"target_means": (0, 0, 0, None)}, TypeError, "target_means=.* not a sequence of numbers"),
    ],
)
def test_normalisers_that_are_not_four_numbers_are_refused(
    arguments: dict, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        OffsetBinBBoxCoder(**arguments)


def test_an_unknown_decode_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="decode_mode='mean'"):
        OffsetBinBBoxCoder(decode_mode="mean")


def test_an_unknown_argument_of_the_bins_is_refused() -> None:
    with pytest.raises(TypeError, match="num_bin"):
        OffsetBinBBoxCoder({"num_bin": 20})


# --- limits: half precision, gradients, extreme boxes, any bins


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("decode_mode", ["expectation", "argmax"])
def test_boxes_of_half_precision_logits_are_those_of_the_same_values_in_float32_under_autocast(
    decode_mode: str, dtype: torch.dtype
) -> None:
    coder = OffsetBinBBoxCoder({"num_stages": 2}, decode_mode=decode_mode)
    boxes = torch.tensor([[10.0, 20.0, 500.0, 600.0]])
    logits = torch.randn(1, coder.encode_size, generator=torch.Generator().manual_seed(0)).to(dtype)
    expected = coder.decode(boxes, logits.float())
    with torch.autocast("cpu", dtype):
        decoded = coder.decode(boxes, logits)
    assert decoded.dtype == torch.float32
    assert torch.equal(decoded, expected)


@pytest.mark.parametrize("legacy", [False, True])
def test_gradient_of_decoded_boxes_is_that_of_finite_differences(legacy: bool) -> None:
    coder = OffsetBinBBoxCoder({"num_bins": 3, "num_stages": 2}, legacy=legacy)
    boxes = torch.tensor([[0.1, 0.2, 1.4, 1.9], [0.3, 0.1, 0.9, 1.2]])
    logits = torch.randn(2, coder.encode_size, generator=torch.Generator().manual_seed(0))
    weights = torch.arange(8.0).view(2, 4)  # every coordinate has a part of its own in the sum
    check_slopes(lambda logits: (coder.decode(boxes, logits) * weights).sum(), logits)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("decode_mode", ["expectation", "argmax"])
def test_any_proposal_decodes_to_finite_numbers(decode_mode: str, legacy: bool) -> None:
    coder = OffsetBinBBoxCoder({"num_stages": 2}, decode_mode=decode_mode, legacy=legacy)
    proposals = torch.tensor([POINT, LINE, FAR, [5.0, 5, 1, 1], HUGE])
    logits = torch.randn(5, coder.encode_size, generator=torch.Generator().manual_seed(0)) * 1e4
    boxes = coder.decode(proposals, logits, max_shape=(64, 48))
    assert torch.isfinite(boxes).all()
    assert (boxes >= 0).all() and (boxes <= torch.tensor([48.0, 64, 48, 64])).all()


@given(any_bins(), st.booleans(), st.integers(0, 2**32 - 1))
@no_deadline
def test_boxes_come_back_to_half_a_bin_of_the_last_stage(
    bins: OffsetBins, legacy: bool, seed: int
) -> None:
    bins = replace(bins, later_out_of_range="ignore")
    coder = OffsetBinBBoxCoder(bins, composition="sum", legacy=legacy, wh_ratio_clip=1e-9)
    generator = torch.Generator().manual_seed(seed)
    low, size = torch.rand(2, 32, 2, generator=generator) * 50 + 10
    boxes = torch.cat([low, low + size], dim=1)
    shifts, scales = torch.rand(2, 32, 2, generator=generator) - 0.5
    gt_low, gt_size = low + shifts * size, size * scales.exp()
    deltas = coder.encode(boxes, torch.cat([gt_low, gt_low + gt_size], dim=1))
    labels = coder.bins.encode(deltas)
    inside = ((labels >= 0) & (labels < bins.num_inner)).all(-1)
    logits = nn.functional.one_hot(labels.clamp(min=0), bins.num_logits) * 200.0
    decoded = coder.encode(boxes, coder.decode(boxes, logits.flatten(1)))
    error = (decoded - deltas).abs()[inside]
    assert (error <= bins.widths[-1] / 2 + 1e-3).all()

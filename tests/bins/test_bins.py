"""OffsetBins: offsets to labels and logits to offsets (sections 3.2.1 to 3.2.4)."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from bin_strategies import any_bins
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from reference_numbers import softmax
from torch import Tensor

from obc.bins import IGNORED, OffsetBins

INF, NAN = float("inf"), float("nan")

ranges = st.floats(0.1, 20.0)
inner_bins = st.integers(1, 40)
stages = st.integers(1, 3)
seeds = st.integers(0, 2**32 - 1)
# A busy machine is slow, not wrong.
no_deadline = settings(deadline=None, max_examples=50)


def one_hot_logits(labels: Tensor, num_logits: int) -> Tensor:
    """Logits that leave no doubt about ``labels``."""
    return torch.nn.functional.one_hot(labels, num_logits) * 200.0


def offsets_in(low: float, high: float, seed: int, size: int = 64) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).uniform(low, high, size)).float()


# --- the bins themselves


def test_centers_are_those_of_figure_4() -> None:
    # Figure 4: [-5, 5] in five bins of width 2, their middles, and the two endpoints.
    assert OffsetBins(num_bins=5, max_offset=5).centers.tolist() == [[-4, -2, 0, 2, 4, -5, 5]]


@given(ranges, inner_bins)
@no_deadline
def test_inner_centers_follow_equation_5(a: float, m: int) -> None:
    width = 2 * a / m
    expected = [-a + (bin_label + 0.5) * width for bin_label in range(m)]
    centers = OffsetBins(num_bins=m, max_offset=a).centers[0, :m]
    torch.testing.assert_close(centers, torch.tensor(expected), rtol=1e-5, atol=1e-6 * a)


@given(ranges, inner_bins, stages)
@no_deadline
def test_centers_are_symmetric_about_zero(a: float, m: int, num_stages: int) -> None:
    bins = OffsetBins(m, a, num_stages)
    assert torch.equal(bins.centers[:, :m], -bins.centers[:, :m].flip(1))
    assert torch.equal(bins.centers[:, m], -bins.centers[:, m + 1])


def test_a_later_stage_covers_one_bin_of_the_stage_before() -> None:
    # Section 4.1: a1 = 3, 20 bins. w1 = 6 / 20 = 0.3, a2 = w1 / 2; w2 = 0.3 / 20 = 0.015.
    bins = OffsetBins(num_bins=20, max_offset=3, num_stages=3)
    torch.testing.assert_close(bins.ranges, torch.tensor([3.0, 0.15, 0.0075]))
    torch.testing.assert_close(bins.widths, torch.tensor([0.3, 0.015, 0.00075]))


def test_num_bins_may_count_the_overflow_bins() -> None:
    # 20 bins in all leave 18 inner ones: a2 = (6 / 18) / 2 = 1/6.
    bins = OffsetBins(num_bins=20, num_stages=2, bins_include_overflow=True)
    assert (bins.num_inner, bins.num_logits) == (18, 20)
    torch.testing.assert_close(bins.ranges, torch.tensor([3.0, 1 / 6]))


def test_stage_ranges_replace_the_hierarchy() -> None:
    bins = OffsetBins(num_stages=3, stage_ranges=[3, 0.15, 0.015])
    torch.testing.assert_close(bins.ranges, torch.tensor([3.0, 0.15, 0.015]))
    torch.testing.assert_close(bins.widths, torch.tensor([0.3, 0.015, 0.0015]))


def test_max_offset_reads_as_the_first_stage_range() -> None:
    assert OffsetBins(num_stages=2, stage_ranges=[5, 1]).max_offset == 5


def test_bins_from_equal_arguments_are_equal_and_hash_alike() -> None:
    from_list = OffsetBins(num_stages=2, stage_ranges=[3, 0.15])
    from_tuple = OffsetBins(num_stages=2, stage_ranges=(3.0, 0.15))
    assert from_list == from_tuple
    assert hash(from_list) == hash(from_tuple)


def test_bins_survive_pickling() -> None:
    bins = OffsetBins(num_stages=2)
    bins.encode(torch.zeros(1))
    assert pickle.loads(pickle.dumps(bins)) == bins


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_bins": 0}, "num_bins=0"),
        ({"num_bins": 20.0}, "num_bins=20.0"),
        ({"num_bins": 2, "bins_include_overflow": True}, "at least 3"),
        ({"max_offset": 0}, "max_offset holds 0"),
        ({"max_offset": -1.0}, "max_offset holds -1.0"),
        ({"max_offset": INF}, "max_offset holds inf"),
        ({"max_offset": NAN}, "max_offset holds nan"),
        ({"num_stages": 0}, "num_stages=0"),
        ({"num_stages": 2, "stage_ranges": [3.0]}, "1 entries"),
        ({"num_stages": 2, "stage_ranges": [3.0, 0.0]}, "stage_ranges holds 0"),
        ({"stage_ranges": []}, "0 entries"),
        ({"out_of_range": "clip"}, "out_of_range='clip'"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OffsetBins(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_offset": "3"}, "max_offset='3' is not a number"),
        ({"stage_ranges": 3.0}, "stage_ranges=3.0 is not a sequence of numbers"),
        ({"stage_ranges": ("a", "b")}, "stage_ranges=.* is not a sequence of numbers"),
    ],
)
def test_arguments_of_another_type_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        OffsetBins(**arguments)


# --- offsets to labels


@given(ranges, inner_bins, stages, seeds)
@no_deadline
def test_round_trip_is_within_half_a_bin_of_the_last_stage(
    a: float, m: int, num_stages: int, seed: int
) -> None:
    bins = OffsetBins(m, a, num_stages)
    offsets = offsets_in(-a, a, seed)
    offsets = offsets[offsets.abs() < bins.ranges[0]]
    labels = bins.encode(offsets)
    assert labels.shape == (*offsets.shape, num_stages)
    assert ((labels >= 0) & (labels < m)).all()
    for mode in ("expectation", "argmax"):
        error = (bins.decode(one_hot_logits(labels, bins.num_logits), mode) - offsets).abs()
        assert error.max() <= bins.widths[-1] / 2 + 4e-6 * a


@given(ranges, inner_bins, seeds)
@no_deadline
def test_first_stage_label_is_that_of_a_float64_histogram(a: float, m: int, seed: int) -> None:
    bins = OffsetBins(m, a)
    offsets = offsets_in(-2 * a, 2 * a, seed)
    edges = np.linspace(-a, a, m + 1)
    expected = np.digitize(offsets.double().numpy(), edges) - 1  # -1 below, m above
    away_from_edges = np.abs(offsets.numpy()[:, None] - edges).min(axis=1) > 1e-5 * a
    expected = np.where(expected == m, m + 1, np.where(expected == -1, m, expected))
    labels = bins.encode(offsets).squeeze(-1).numpy()
    assert (labels == expected)[away_from_edges].all()


def test_both_stages_of_a_worked_example() -> None:
    # a = 3, m = 20: (1.0 + 3) / 0.3 = 13.3 -> bin 13 with centre -3 + 13.5 * 0.3 = 1.05.
    # Residual -0.05: (-0.05 + 0.15) / 0.015 = 6.67 -> bin 6.
    assert OffsetBins(num_stages=2).encode(torch.tensor(1.0)).tolist() == [13, 6]


@pytest.mark.parametrize(
    ("offset", "label"),
    [
        (-3.0, 20),
        (-3.5, 20),
        (-INF, 20),
        (3.0, 21),
        (1e30, 21),
        (INF, 21),
        (-2.999, 0),
        (2.999, 19),
    ],
)
def test_offsets_at_and_beyond_the_range_overflow(offset: float, label: int) -> None:
    assert OffsetBins().encode(torch.tensor([offset])).tolist() == [[label]]


@pytest.mark.parametrize("offset", [-3.0, 3.0, 7.0, -INF, INF])
def test_later_stages_may_ignore_an_overflowing_offset(offset: float) -> None:
    bins = OffsetBins(num_stages=3, later_out_of_range="ignore")
    labels = bins.encode(torch.tensor(offset))
    assert labels[0] >= 20
    assert labels[1:].tolist() == [IGNORED, IGNORED]


@pytest.mark.parametrize("offset", [-3.0, 3.0, 7.0, -INF, INF])
def test_out_of_range_ignore_drops_the_offset_in_every_stage(offset: float) -> None:
    bins = OffsetBins(num_stages=2, out_of_range="ignore", later_out_of_range="ignore")
    assert bins.encode(torch.tensor(offset)).tolist() == [IGNORED, IGNORED]


@pytest.mark.parametrize("later", ["overflow", "clamp", "ignore"])
@pytest.mark.parametrize("out_of_range", ["overflow", "ignore"])
def test_nan_is_ignored(out_of_range: str, later: str) -> None:
    bins = OffsetBins(num_stages=2, out_of_range=out_of_range, later_out_of_range=later)
    assert bins.encode(torch.tensor(NAN)).tolist() == [IGNORED, IGNORED]


def test_a_residual_beyond_a_custom_range_is_ignored_from_there_on() -> None:
    # a = 3, m = 20: 1.0 leaves -0.05 (see above), 1.04 leaves -0.01; stage 2 reaches 0.02 only.
    bins = OffsetBins(num_stages=3, stage_ranges=[3, 0.02, 0.02], later_out_of_range="ignore")
    labels = bins.encode(torch.tensor([1.0, 1.04]))
    assert labels[0].tolist() == [13, IGNORED, IGNORED]
    assert (labels[1] >= 0).all()


@given(ranges, inner_bins, st.integers(2, 3))
@no_deadline
def test_bin_edges_stay_within_the_next_stage(a: float, m: int, num_stages: int) -> None:
    # A residual at an edge may exceed a_k by float32 rounding; that must not lose the label.
    bins = OffsetBins(m, a, num_stages)
    edges = torch.from_numpy(np.linspace(-a, a, m + 1)[1:-1]).float()
    assert (bins.encode(edges) >= 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_labels_do_not_depend_on_the_floating_type(dtype: torch.dtype) -> None:
    bins = OffsetBins(num_stages=2)
    offsets = torch.linspace(-4, 4, 101).to(dtype)
    assert torch.equal(bins.encode(offsets), bins.encode(offsets.float()))


@pytest.mark.parametrize("shape", [(), (0,), (0, 4), (2, 3, 4)])
def test_encode_appends_the_stages_to_any_shape(shape: tuple[int, ...]) -> None:
    labels = OffsetBins(num_stages=2).encode(torch.zeros(shape))
    assert labels.shape == (*shape, 2)
    assert labels.dtype == torch.int64


def test_encode_against_exact_predictions_of_bin_centres_equals_encode() -> None:
    bins = OffsetBins(num_stages=2)
    offsets = offsets_in(-2.9, 2.9, seed=0)
    labels = bins.encode(offsets)
    predicted = bins.decode_stages(one_hot_logits(labels, bins.num_logits))
    assert torch.equal(bins.encode_against(offsets, predicted), labels)


def test_encode_against_labels_what_the_earlier_stages_left() -> None:
    # Stage 1 predicts 0.9 of 1.0; 0.1 is left: (0.1 + 0.15) / 0.015 = 16.67 -> bin 16. What stage
    # 2 itself predicts has no part in its label.
    predicted = torch.tensor([0.9, 123.0])
    assert OffsetBins(num_stages=2).encode_against(torch.tensor(1.0), predicted).tolist() == [
        13,
        16,
    ]


def test_encode_against_ignores_what_a_stage_cannot_reach() -> None:
    bins = OffsetBins(num_stages=3, later_out_of_range="ignore")
    predicted = torch.tensor([0.5, 0.0, 0.0])  # leaves 0.5, stage 2 reaches 0.15
    assert bins.encode_against(torch.tensor(1.0), predicted).tolist() == [13, IGNORED, IGNORED]


@pytest.mark.parametrize(
    ("later", "below", "inside", "above"),
    [("overflow", 20, 13, 21), ("clamp", 0, 13, 19), ("ignore", IGNORED, 13, IGNORED)],
)
def test_what_is_left_outside_of_a_later_range_is_labelled_as_asked(
    later: str, below: int, inside: int, above: int
) -> None:
    # Stage 2: a = 0.15, width 0.015. 0.05 lies (0.05 + 0.15) / 0.015 = 13.3 widths from its start.
    bins = OffsetBins(num_stages=2, later_out_of_range=later)
    left = torch.tensor([-0.2, 0.05, 0.2])
    residuals = torch.stack([torch.zeros(3), left], dim=-1)
    assert bins.labels(residuals)[:, 1].tolist() == [below, inside, above]


@pytest.mark.parametrize("later", ["overflow", "clamp"])
def test_a_later_stage_learns_from_an_offset_that_stage_one_does_not(later: str) -> None:
    bins = OffsetBins(num_stages=2, out_of_range="ignore", later_out_of_range=later)
    assert bins.labels(torch.tensor([5.0, 0.0])).tolist() == [IGNORED, 10]


def test_an_overflow_bin_is_refined_from_its_own_representative_offset() -> None:
    # 3.05 is labelled with the bin of +3 and leaves 0.05, as above: bin 13 of stage 2.
    bins = OffsetBins(num_stages=2)
    assert bins.encode(torch.tensor([3.05, -3.05])).tolist() == [[21, 13], [20, 6]]


def test_encode_against_refuses_predictions_of_another_shape() -> None:
    with pytest.raises(ValueError, match=r"predicted has shape \(3, 1\)"):
        OffsetBins(num_stages=2).encode_against(torch.zeros(3), torch.zeros(3, 1))


# --- logits to offsets


@given(ranges, inner_bins, stages)
@no_deadline
def test_zero_logits_decode_to_zero(a: float, m: int, num_stages: int) -> None:
    bins = OffsetBins(m, a, num_stages)
    assert bins.decode(torch.zeros(num_stages, bins.num_logits)).abs() <= 1e-6 * a


@given(ranges, inner_bins, stages, seeds)
@no_deadline
def test_expectation_equals_a_brute_force_sum_in_float64(
    a: float, m: int, num_stages: int, seed: int
) -> None:
    bins = OffsetBins(m, a, num_stages)
    logits = np.random.default_rng(seed).normal(0, 5, (3, num_stages, m + 2))
    expected, a_k = np.zeros(3), a
    for k in range(num_stages):
        width = 2 * a_k / m
        offsets = [-a_k + (bin_label + 0.5) * width for bin_label in range(m)] + [-a_k, a_k]
        for row in range(3):
            scores = np.exp(logits[row, k] - logits[row, k].max())
            expected[row] += sum(p * t for p, t in zip(scores / scores.sum(), offsets, strict=True))
        a_k = width / 2
    decoded = bins.decode(torch.from_numpy(logits).float())
    np.testing.assert_allclose(decoded.numpy(), expected, atol=1e-5 * a)


def test_argmax_takes_the_most_probable_bin_of_each_stage() -> None:
    bins = OffsetBins(num_bins=2, max_offset=4, num_stages=2)
    # Centres: stage 1 [-2, 2, -4, 4], stage 2 (a2 = w1 / 2 = 2) [-1, 1, -2, 2].
    logits = torch.tensor([[0.0, 1.0, 0.9, 0.9], [0.0, 0.0, 3.0, 2.0]])
    assert bins.decode_stages(logits, "argmax").tolist() == [2, -2]
    assert bins.decode(logits, "argmax") == 0


@given(stages, seeds)
@no_deadline
def test_decode_is_the_sum_of_its_stages(num_stages: int, seed: int) -> None:
    bins = OffsetBins(num_stages=num_stages)
    logits = torch.randn(5, num_stages, 22, generator=torch.Generator().manual_seed(seed))
    for mode in ("expectation", "argmax"):
        by_stage = bins.decode_stages(logits, mode)
        assert by_stage.shape == (5, num_stages)
        torch.testing.assert_close(bins.decode(logits, mode), by_stage.sum(-1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("mode", ["expectation", "argmax"])
def test_decode_computes_in_float32_whatever_the_type(dtype: torch.dtype, mode: str) -> None:
    bins = OffsetBins(num_stages=2)
    logits = torch.randn(7, 2, 22, generator=torch.Generator().manual_seed(0)).to(dtype)
    decoded = bins.decode(logits, mode)
    assert decoded.dtype == torch.float32
    assert torch.equal(decoded, bins.decode(logits.float(), mode))


@pytest.mark.parametrize("mode", ["expectation", "argmax"])
def test_decode_computes_in_float32_under_autocast(mode: str) -> None:
    bins = OffsetBins(num_stages=2)
    logits = torch.randn(7, 2, 22, generator=torch.Generator().manual_seed(0)).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        decoded = bins.decode(logits, mode)
    assert decoded.dtype == torch.float32
    assert torch.equal(decoded, bins.decode(logits.float(), mode))


def test_bins_first_used_in_inference_mode_can_train_afterwards() -> None:
    bins = OffsetBins(num_bins=7)  # not used elsewhere: the tables are made here
    with torch.inference_mode():
        bins.decode(torch.zeros(1, 9))
    logits = torch.randn(1, 9, requires_grad=True)
    bins.decode(logits).backward()
    assert logits.grad is not None and logits.grad.abs().sum() > 0


def test_changing_a_returned_table_does_not_change_the_bins() -> None:
    bins = OffsetBins(num_bins=5, max_offset=5)
    bins.centers.zero_()
    assert bins.centers[0, 0] == -4
    assert bins.decode(one_hot_logits(torch.tensor([0]), 7)) == -4


def test_mixed_decoding_takes_the_most_probable_bin_in_all_stages_but_the_last() -> None:
    bins, logits = OffsetBins(num_stages=3), torch.randn(5, 3, 22)
    mixed = bins.decode_stages(logits, "argmax_expectation")
    assert torch.equal(mixed[:, :2], bins.decode_stages(logits, "argmax")[:, :2])
    assert torch.equal(mixed[:, 2], bins.decode_stages(logits, "expectation")[:, 2])


def test_the_first_stage_alone_leaves_the_others_at_zero() -> None:
    bins, logits = OffsetBins(num_stages=3), torch.randn(5, 3, 22)
    alone = bins.decode_stages(logits, "first_stage")
    assert torch.equal(alone[:, 0], bins.decode_stages(logits)[:, 0])
    assert alone[:, 1:].eq(0).all()


@pytest.mark.parametrize("mode", ["expectation", "argmax"])
def test_the_first_stages_can_be_decoded_before_the_later_ones_are_there(mode: str) -> None:
    bins, logits = OffsetBins(num_stages=3), torch.randn(5, 3, 22)
    expected = bins.decode_stages(logits, mode)[:, :2]
    assert torch.equal(bins.decode_stages(logits[:, :2], mode), expected)


def test_mixed_decoding_of_the_stages_before_the_last_is_argmax() -> None:
    bins, logits = OffsetBins(num_stages=3), torch.randn(5, 2, 22)
    mixed = bins.decode_stages(logits, "argmax_expectation")
    assert torch.equal(mixed, bins.decode_stages(logits, "argmax"))


def test_decode_of_no_logits_is_empty() -> None:
    assert OffsetBins().decode(torch.zeros(0, 4, 1, 22)).shape == (0, 4)


def test_decode_refuses_logits_of_another_shape() -> None:
    with pytest.raises(ValueError, match=r"\(num_stages, num_logits\) = \(2, 22\)"):
        OffsetBins(num_stages=2).decode(torch.zeros(4, 22, 2))


def test_decode_refuses_an_unknown_mode() -> None:
    with pytest.raises(ValueError, match="mode='median'"):
        OffsetBins().decode(torch.zeros(1, 22), "median")


# --- half precision and gradients


LARGEST_HALF = 65504.0


def expectation(bins: OffsetBins, logits: np.ndarray) -> np.ndarray:
    """Equations 10 and 11 in float64, of logits (..., K, n)."""
    total, a = 0.0, bins.max_offset
    for k in range(bins.num_stages):
        width = 2 * a / bins.num_inner
        inner = -a + (np.arange(bins.num_inner) + 0.5) * width
        total = total + softmax(logits[..., k, :]) @ np.append(inner, [-a, a])
        a = width / 2
    return total


@given(
    arrays(np.float16, (3, 2, 22), elements=st.floats(-LARGEST_HALF, LARGEST_HALF, width=16)),
)
@no_deadline
def test_expectation_is_exact_over_the_whole_range_of_float16(logits: np.ndarray) -> None:
    bins = OffsetBins(num_stages=2)
    decoded = bins.decode(torch.from_numpy(logits)).numpy()
    np.testing.assert_allclose(decoded, expectation(bins, logits.astype(np.float64)), atol=2e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("mode", ["expectation", "argmax"])
def test_one_bin_at_the_largest_number_and_the_rest_at_the_smallest_is_that_bin(
    mode: str, dtype: torch.dtype
) -> None:
    bins = OffsetBins(num_bins=5, max_offset=5)
    largest = torch.finfo(dtype).max
    logits = torch.full((7, 1, 7), -largest, dtype=dtype)
    logits[range(7), 0, range(7)] = largest
    # Figure 4's middles and endpoints.
    assert bins.decode(logits, mode).tolist() == [-4, -2, 0, 2, 4, -5, 5]


@pytest.mark.parametrize("logit", [-LARGEST_HALF, LARGEST_HALF])
def test_logits_all_at_the_end_of_float16_are_undecided(logit: float) -> None:
    logits = torch.full((4, 1, 22), logit, dtype=torch.float16)
    assert OffsetBins().decode(logits).abs().max() <= 1e-6


def test_gradient_of_the_expectation_is_p_times_the_distance_to_it() -> None:
    bins = OffsetBins(num_stages=2)
    logits = torch.randn(5, 2, 22, generator=torch.Generator().manual_seed(0)).requires_grad_()
    bins.decode(logits).sum().backward()
    p = softmax(logits.detach().double().numpy())
    centers = bins.centers.double().numpy()
    expected = p * (centers - (p * centers).sum(-1, keepdims=True))
    np.testing.assert_allclose(logits.grad.numpy(), expected, atol=1e-6)


# --- any setting


def some_offsets(bins: OffsetBins, seed: int, size: int = 64) -> np.ndarray:
    """Float32 offsets within twice the range."""
    limit = 2 * bins.max_offset
    return np.random.default_rng(seed).uniform(-limit, limit, size).astype(np.float32)


@given(any_bins(), st.integers(0, 2**32 - 1))
@no_deadline
def test_labels_follow_the_definition_step_by_step_in_float64(bins: OffsetBins, seed: int) -> None:
    offsets, m = some_offsets(bins, seed), bins.num_inner
    labels = bins.encode(torch.from_numpy(offsets)).tolist()
    ranges = bins.stage_ranges or [bins.max_offset / m**k for k in range(bins.num_stages)]
    for offset, found in zip(offsets.astype(np.float64), labels, strict=True):
        residual, unclear = offset, 1e-5 * bins.max_offset
        for k, (a, label) in enumerate(zip(ranges, found, strict=True)):
            width = 2 * a / m
            position = (residual + a) / width
            if abs(position - round(position)) * width < unclear:
                break  # so near to an edge that float32 may choose the other bin
            nearest = int(np.clip(np.floor(position), 0, m - 1))
            center = -a + (nearest + 0.5) * width
            treatment = bins.later_out_of_range if k else bins.out_of_range
            expected = nearest
            if not 0 <= position < m and treatment == "ignore":
                expected = IGNORED
            elif not 0 <= position < m and treatment == "overflow":
                expected, center = (m, -a) if position < 0 else (m + 1, a)
            assert label == expected
            if not 0 <= position < m and bins.later_out_of_range == "ignore":
                assert set(found[k + 1 :]) <= {IGNORED}
                break
            residual -= center


@given(any_bins(), st.integers(0, 2**32 - 1))
@no_deadline
def test_labels_are_bins_of_their_stage_or_ignored_from_there_on(
    bins: OffsetBins, seed: int
) -> None:
    labels = bins.encode(torch.from_numpy(some_offsets(bins, seed)))
    inner = (labels >= 0) & (labels < bins.num_inner)
    overflow = (labels >= bins.num_inner) & (labels < bins.num_logits)
    assert (inner | overflow | (labels == IGNORED)).all()
    assert bins.later_out_of_range == "overflow" or not overflow[:, 1:].any()
    assert bins.out_of_range == "overflow" or not overflow[:, 0].any()
    if bins.later_out_of_range == "ignore":
        assert not (inner[:, 1:] & ~inner[:, :-1]).any()
    else:
        assert (labels[:, 1:] != IGNORED).all()


@given(any_bins(), st.integers(0, 2**32 - 1))
@no_deadline
def test_decoded_offsets_never_leave_the_ranges(bins: OffsetBins, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(8, bins.num_stages, bins.num_logits, generator=generator) * 100
    for mode in ("expectation", "argmax"):
        by_stage = bins.decode_stages(logits, mode)
        assert (by_stage.abs() <= bins.ranges * (1 + 1e-6)).all()

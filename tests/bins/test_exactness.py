"""Numbers at their limits: half precision, gradients, extreme boxes, compilation, determinism.

What the bins, the coder and the head do with ordinary numbers is in the tests of each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from obc_heads import BATCH, SHARED, TRAIN_CFG, loss_inputs, make_head, sampled
from torch import Tensor, nn

from obc.bins import IGNORED, OffsetBins
from obc.head.coders import OffsetBinBBoxCoder
from obc.head.obc_head import OBCHead

INF, NAN = float("inf"), float("nan")
LARGEST_HALF = 65504.0
# A busy machine is slow, not wrong.
no_deadline = settings(deadline=None, max_examples=50)


def stages_on_one_feature(num_stages: int = 2, num_bins: int = 20, **arguments) -> OBCHead:
    """What this head does by itself: later stages that share a feature, and ignore what leaves."""
    bins = {"num_bins": num_bins, "num_stages": num_stages, "later_out_of_range": "ignore"}
    return make_head(bins=bins, **{**SHARED, "composition": "sum", **arguments})


def softmax(logits: np.ndarray) -> np.ndarray:
    scores = np.exp(logits - logits.max(-1, keepdims=True))
    return scores / scores.sum(-1, keepdims=True)


def expectation(bins: OffsetBins, logits: np.ndarray) -> np.ndarray:
    """Equations 10 and 11 in float64, of logits (..., K, n)."""
    total, a = 0.0, bins.max_offset
    for k in range(bins.num_stages):
        width = 2 * a / bins.num_inner
        inner = -a + (np.arange(bins.num_inner) + 0.5) * width
        total = total + softmax(logits[..., k, :]) @ np.append(inner, [-a, a])
        a = width / 2
    return total


# --- half precision ----------------------------------------------------------------------------


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


@pytest.mark.parametrize("sign", [-1, 1])
def test_loss_of_logits_at_the_end_of_float16_is_exact(sign: int) -> None:
    # The true bin is 131,008 below the only other one with mass: that is the loss.
    head = make_head(num_classes=1)
    inputs = loss_inputs(head, labels=[0])
    inputs["bbox_targets"].fill_(0.1)  # bin 10
    logits = torch.full((4, 22), -LARGEST_HALF, dtype=torch.float16)
    logits[:, 10 + sign] = LARGEST_HALF
    inputs["bbox_pred"] = logits.reshape(1, -1)
    assert head.loss(**inputs)["loss_bbox"].item() == pytest.approx(4 * 2 * LARGEST_HALF, rel=1e-6)


# --- gradients ---------------------------------------------------------------------------------


def test_gradient_of_the_expectation_is_p_times_the_distance_to_it() -> None:
    bins = OffsetBins(num_stages=2)
    logits = torch.randn(5, 2, 22, generator=torch.Generator().manual_seed(0)).requires_grad_()
    bins.decode(logits).sum().backward()
    p = softmax(logits.detach().double().numpy())
    centers = bins.centers.double().numpy()
    expected = p * (centers - (p * centers).sum(-1, keepdims=True))
    np.testing.assert_allclose(logits.grad.numpy(), expected, atol=1e-6)


def test_gradient_of_the_loss_is_p_minus_the_true_bin() -> None:
    # Equation 8 with the sign of a loss that falls. Two of four RoIs are positive; the sum is over
    # sampled RoIs. Offsets 1.0 -> bins 13, 6 (worked in test_bins), 5.0 -> overflow, then ignored.
    head = stages_on_one_feature(num_classes=1, residual="gt_bin")
    inputs = loss_inputs(head, labels=[0, 1, 0, 1])
    inputs["bbox_targets"][0], inputs["bbox_targets"][2] = 1.0, 5.0
    head.loss(**inputs)["loss_bbox"].backward()
    p = softmax(inputs["bbox_pred"].detach().double().numpy().reshape(4, 4, 2, 22))
    expected = np.zeros_like(p)
    expected[0] = p[0]
    expected[0, :, 0, 13] -= 1
    expected[0, :, 1, 6] -= 1
    expected[2, :, 0] = p[2, :, 0]
    expected[2, :, 0, 21] -= 1
    gradient = inputs["bbox_pred"].grad.numpy().reshape(4, 4, 2, 22)
    np.testing.assert_allclose(gradient, expected / 4, atol=1e-7)


@pytest.mark.parametrize("residual", ["gt_bin", "pred"])
@pytest.mark.parametrize("class_agnostic", [True, False])
def test_gradient_of_the_loss_is_that_of_finite_differences(
    class_agnostic: bool, residual: str
) -> None:
    head = stages_on_one_feature(
        num_classes=2, num_bins=3, reg_class_agnostic=class_agnostic, residual=residual
    )
    inputs = loss_inputs(head, labels=[1, 2, 0])

    def loss(logits: Tensor) -> Tensor:
        return head.loss(**{**inputs, "bbox_pred": logits})["loss_bbox"]

    check_slopes(loss, inputs["bbox_pred"])


@pytest.mark.parametrize("legacy", [False, True])
def test_gradient_of_decoded_boxes_is_that_of_finite_differences(legacy: bool) -> None:
    coder = OffsetBinBBoxCoder({"num_bins": 3, "num_stages": 2}, legacy=legacy)
    boxes = torch.tensor([[0.1, 0.2, 1.4, 1.9], [0.3, 0.1, 0.9, 1.2]])
    logits = torch.randn(2, coder.encode_size, generator=torch.Generator().manual_seed(0))
    weights = torch.arange(8.0).view(2, 4)  # every coordinate has a part of its own in the sum
    check_slopes(lambda logits: (coder.decode(boxes, logits) * weights).sum(), logits)


def check_slopes(function: Callable[[Tensor], Tensor], at: Tensor) -> None:
    """Compare a gradient with central differences in random directions.

    The function computes in float32: the step is large enough for its rounding.
    """
    at = at.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(function(at), at)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _ in range(20):
            direction = torch.randn(at.shape, generator=generator)
            ahead, behind = function(at + 5e-3 * direction), function(at - 5e-3 * direction)
            slope = (ahead.double() - behind.double()) / 1e-2
            expected = (gradient * direction).sum().item()
            assert slope.item() == pytest.approx(expected, rel=5e-3, abs=2e-3)


def test_no_gradient_flows_through_the_labels_of_residual_pred() -> None:
    # Stage 1's loss with and without a stage after it that reads its prediction.
    one, two = (stages_on_one_feature(k, num_classes=1, residual="pred") for k in (1, 2))
    inputs = loss_inputs(two, labels=[0])
    two.loss(**inputs)["loss_bbox"].backward()
    first = inputs["bbox_pred"].detach().view(1, 4, 2, 22)[:, :, 0].reshape(1, -1).requires_grad_()
    one.loss(**{**inputs, "bbox_pred": first})["loss_bbox"].backward()
    of_first = inputs["bbox_pred"].grad.view(1, 4, 2, 22)[:, :, 0]
    torch.testing.assert_close(of_first.flatten(1), first.grad)


# --- extreme boxes and batches -----------------------------------------------------------------


def step(head: OBCHead, images: list[tuple[list, list]]) -> dict[str, Tensor]:
    """Losses of a batch, after the gradients of all layers have been found finite."""
    samples = [sampled(*image) for image in images]
    num_rois = sum(len(positives) + len(negatives) for positives, negatives in images)
    cls_score, bbox_pred = head(torch.ones(num_rois, 4, 2, 2))
    rois = torch.zeros(num_rois, 5)
    losses = head.loss_and_target(cls_score, bbox_pred, rois, samples, TRAIN_CFG)["loss_bbox"]
    sum(value for name, value in losses.items() if "loss" in name).backward()
    for parameter in head.parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all()
    return losses


BOX, POINT, LINE = [0.0, 0, 20, 20], [5.0, 5, 5, 5], [5.0, 5, 5, 25]
FAR, HUGE = [1e6, 1e6, 1e6 + 1, 1e6 + 1], [-1e30, -1e30, 1e30, 1e30]


@pytest.mark.parametrize("class_agnostic", [True, False])
@pytest.mark.parametrize("residual", ["gt_bin", "pred"])
@pytest.mark.parametrize(
    "images",
    [
        [([BOX], [])],
        [([], [BOX])],
        [([BOX] * 5, [])],
        [([], [BOX] * 5)],
        [([], [BOX]), ([BOX], [])],
        [([POINT], [BOX])],
        [([LINE, POINT, BOX], [POINT])],
        [([FAR], [FAR])],
        [([HUGE], [HUGE])],
    ],
    ids=["one positive", "one negative", "all positive", "all negative", "one image each",
         "no area", "no width", "far away", "huge"],
)  # fmt: skip
def test_any_batch_has_finite_losses_and_gradients(
    images: list[tuple[list, list]], residual: str, class_agnostic: bool
) -> None:
    head = stages_on_one_feature(residual=residual, reg_class_agnostic=class_agnostic)
    losses = step(head, images)
    assert torch.isfinite(losses["loss_cls"]) and torch.isfinite(losses["loss_bbox"])
    has_positives = any(positives for positives, _ in images)
    assert (losses["loss_bbox"] > 0) == has_positives


def test_no_roi_at_all_costs_nothing() -> None:
    losses = step(stages_on_one_feature(), [([], [])])
    assert losses.keys() == {"loss_bbox"}  # as MMDetection's heads, which leave out the classes
    assert losses["loss_bbox"] == 0


@pytest.mark.parametrize("offset", [INF, -INF, 3e38, -3e38, NAN])
@pytest.mark.parametrize("residual", ["gt_bin", "pred"])
def test_an_offset_without_measure_is_an_overflow_or_nothing(residual: str, offset: float) -> None:
    head = stages_on_one_feature(num_classes=1, residual=residual)
    inputs = loss_inputs(head, labels=[0])
    inputs["bbox_targets"].fill_(offset)
    loss = head.loss(**inputs)["loss_bbox"]
    loss.backward()
    assert torch.isfinite(inputs["bbox_pred"].grad).all()
    first_stage = inputs["bbox_pred"].detach().double().numpy().reshape(4, 2, 22)[:, 0]
    label = {True: 21, False: 20}[offset > 0]
    expected = 0.0 if np.isnan(offset) else -np.log(softmax(first_stage)[:, label]).sum()
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("decode_mode", ["expectation", "argmax"])
def test_any_proposal_decodes_to_finite_numbers(decode_mode: str, legacy: bool) -> None:
    coder = OffsetBinBBoxCoder({"num_stages": 2}, decode_mode=decode_mode, legacy=legacy)
    proposals = torch.tensor([POINT, LINE, FAR, [5.0, 5, 1, 1], HUGE])
    logits = torch.randn(5, coder.encode_size, generator=torch.Generator().manual_seed(0)) * 1e4
    boxes = coder.decode(proposals, logits, max_shape=(64, 48))
    assert torch.isfinite(boxes).all()
    assert (boxes >= 0).all() and (boxes <= torch.tensor([48.0, 64, 48, 64])).all()


# --- every convention --------------------------------------------------------------------------


@st.composite
def any_bins(draw: st.DrawFn) -> OffsetBins:
    include = draw(st.booleans())
    num_stages = draw(st.integers(1, 4))
    ranges = st.floats(0.01, 50)
    return OffsetBins(
        num_bins=draw(st.integers(3 if include else 1, 40)),
        max_offset=draw(ranges),
        num_stages=num_stages,
        stage_ranges=draw(st.none() | st.lists(ranges, min_size=num_stages, max_size=num_stages)),
        bins_include_overflow=include,
        out_of_range=draw(st.sampled_from(["overflow", "ignore"])),
        later_out_of_range=draw(st.sampled_from(["overflow", "clamp", "ignore"])),
    )


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


@given(any_bins(), st.integers(0, 2**32 - 1))
@no_deadline
def test_decoded_offsets_never_leave_the_ranges(bins: OffsetBins, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(8, bins.num_stages, bins.num_logits, generator=generator) * 100
    for mode in ("expectation", "argmax"):
        by_stage = bins.decode_stages(logits, mode)
        assert (by_stage.abs() <= bins.ranges * (1 + 1e-6)).all()


# --- compilation -------------------------------------------------------------------------------


class BoxPath(nn.Module):
    """From RoI features to boxes."""

    def __init__(self, decode_mode: str = "expectation", **arguments: object) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = make_head(bins={"num_stages": 2}, **SHARED, **arguments)
        self.head.bbox_coder.decode_mode = decode_mode

    def forward(self, features: Tensor, boxes: Tensor) -> Tensor:
        _, bbox_pred = self.head(features)
        return self.head.bbox_coder.decode(boxes, bbox_pred, max_shape=(640, 480))


def features_and_boxes(num_rois: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(num_rois)
    low, size = torch.rand(2, num_rois, 2, generator=generator) * 200
    features = torch.randn(num_rois, 4, 2, 2, generator=generator)
    return features, torch.cat([low, low + size + 1], dim=1)


decode_modes = pytest.mark.parametrize("decode_mode", ["expectation", "argmax"])


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@decode_modes
def test_a_traced_box_path_gives_the_same_boxes_for_any_number_of_rois(decode_mode: str) -> None:
    path = BoxPath(decode_mode)
    path(*features_and_boxes(5))  # a trace compares two runs, and the first one makes the bins
    traced = torch.jit.trace(path, features_and_boxes(5))
    for num_rois in (5, 3, 1, 0):
        batch = features_and_boxes(num_rois)
        assert torch.equal(traced(*batch), path(*batch))


@pytest.mark.usefixtures("fresh_compiler")
@decode_modes
def test_the_box_path_is_one_graph_with_the_same_boxes(decode_mode: str) -> None:
    path, batch = BoxPath(decode_mode), features_and_boxes(5)
    compiled = torch.compile(path, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(*batch), path(*batch))


def loss_and_gradient(loss: Callable[[Tensor], Tensor], logits: Tensor) -> tuple[Tensor, Tensor]:
    value = loss(logits)
    return value.detach(), torch.autograd.grad(value, logits)[0]


@pytest.mark.usefixtures("fresh_compiler")
def test_targets_and_loss_are_one_graph_with_the_same_numbers() -> None:
    head = stages_on_one_feature()
    inputs, samples = loss_inputs(head, [1, 1, 3, 3, 1]), [sampled(*image) for image in BATCH]
    cls_score, rois = inputs["cls_score"], inputs["rois"]

    def loss(logits: Tensor) -> Tensor:
        losses = head.loss_and_target(cls_score, logits, rois, samples, TRAIN_CFG)["loss_bbox"]
        return losses["loss_cls"] + losses["loss_bbox"]

    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    expected = loss_and_gradient(loss, inputs["bbox_pred"])
    for ours, theirs in zip(
        loss_and_gradient(compiled, inputs["bbox_pred"]), expected, strict=True
    ):
        assert torch.equal(ours, theirs)


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_compiler")
@decode_modes
def test_compiled_machine_code_gives_the_same_boxes(decode_mode: str) -> None:
    path, batch = BoxPath(decode_mode), features_and_boxes(5)
    compiled = torch.compile(path, fullgraph=True)
    torch.testing.assert_close(compiled(*batch), path(*batch))


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_compiler")
def test_compiled_machine_code_gives_the_same_loss_and_gradient() -> None:
    head = stages_on_one_feature()
    inputs = loss_inputs(head, [1, 3, 0])
    rows = torch.tensor([0, 2])

    def loss(logits: Tensor) -> Tensor:
        return head.loss(**{**inputs, "bbox_pred": logits}, pos_inds=rows)["loss_bbox"]

    expected = loss_and_gradient(loss, inputs["bbox_pred"])
    found = loss_and_gradient(torch.compile(loss, fullgraph=True), inputs["bbox_pred"])
    torch.testing.assert_close(found, expected)


# --- determinism -------------------------------------------------------------------------------


@pytest.fixture(params=[False, True], ids=["as is", "deterministic algorithms"])
def deterministic_algorithms(request: pytest.FixtureRequest) -> Iterator[None]:
    torch.use_deterministic_algorithms(request.param)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("deterministic_algorithms")
@pytest.mark.parametrize("class_agnostic", [True, False])
@pytest.mark.parametrize("residual", ["gt_bin", "pred"])
def test_two_steps_from_the_same_weights_are_equal_to_the_last_bit(
    residual: str, class_agnostic: bool
) -> None:
    results = []
    for _ in range(2):
        torch.manual_seed(0)
        head = stages_on_one_feature(residual=residual, reg_class_agnostic=class_agnostic)
        losses = step(head, BATCH)
        results.append([losses["loss_bbox"], *(p.grad for p in head.parameters())])
    for first, second in zip(*results, strict=True):
        assert torch.equal(first, second)


@pytest.mark.usefixtures("deterministic_algorithms")
@decode_modes
def test_two_decodings_are_equal_to_the_last_bit(decode_mode: str) -> None:
    path, batch = BoxPath(decode_mode), features_and_boxes(50)
    assert torch.equal(path(*batch), path(*batch))


# --- size --------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_stages", [1, 2, 3])
def test_logits_take_the_memory_of_their_numbers(num_stages: int) -> None:
    head = stages_on_one_feature(num_stages)
    _, logits = head(torch.ones(50, 4, 2, 2))
    theoretical = 50 * 4 * num_stages * 22 * 4
    assert logits.untyped_storage().nbytes() <= 1.1 * theoretical
    by_stage = head.bbox_coder.stage_logits(logits)
    assert by_stage.data_ptr() == logits.data_ptr()  # a view


def test_what_backpropagation_keeps_of_the_box_loss_grows_with_positives_only() -> None:
    head = stages_on_one_feature()
    kept: dict[int, int] = {}

    def measure(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.nbytes
        return tensor

    inputs = loss_inputs(head, labels=[1] + [3] * 999)
    with torch.autograd.graph.saved_tensors_hooks(measure, lambda tensor: tensor):
        head.loss(**{**inputs, "cls_score": None}, pos_inds=torch.tensor([0]))
    # The probabilities of one RoI, and its labels, weights and row beside them.
    assert 0 < sum(kept.values()) <= 2 * head.bbox_coder.encode_size * 4


@decode_modes
def test_weights_are_the_same_whatever_the_decoding_and_hold_no_buffers(decode_mode: str) -> None:
    head = stages_on_one_feature()
    before = list(head.state_dict())
    head.bbox_coder.decode_mode = decode_mode
    head.bbox_coder.decode(torch.zeros(1, 4), torch.zeros(1, head.bbox_coder.encode_size))
    assert list(head.state_dict()) == before
    assert not list(head.buffers())

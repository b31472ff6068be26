"""From RoI features to boxes and losses, traced, compiled and repeated: the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from obc_heads import (
    BATCH,
    SHARED,
    TRAIN_CFG,
    loss_inputs,
    make_head,
    sampled,
    stages_on_one_feature,
    step,
)
from torch import Tensor, nn


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


@pytest.mark.xdist_group("compile")
@pytest.mark.usefixtures("fresh_compiler")
@decode_modes
def test_the_box_path_is_one_graph_with_the_same_boxes(decode_mode: str) -> None:
    path, batch = BoxPath(decode_mode), features_and_boxes(5)
    compiled = torch.compile(path, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(*batch), path(*batch))


def loss_and_gradient(loss: Callable[[Tensor], Tensor], logits: Tensor) -> tuple[Tensor, Tensor]:
    value = loss(logits)
    return value.detach(), torch.autograd.grad(value, logits)[0]


@pytest.mark.xdist_group("compile")
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
@pytest.mark.xdist_group("compile")
@pytest.mark.usefixtures("fresh_compiler")
@decode_modes
def test_compiled_machine_code_gives_the_same_boxes(decode_mode: str) -> None:
    path, batch = BoxPath(decode_mode), features_and_boxes(5)
    compiled = torch.compile(path, fullgraph=True)
    torch.testing.assert_close(compiled(*batch), path(*batch))


@pytest.mark.slow
@pytest.mark.xdist_group("compile")
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


# --- repeated


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

"""Loss and decoding never make the host wait for a GPU.

Without a GPU they run on tensors without data: the host cannot read what is not there, so `item`,
`nonzero` and boolean indices fail. A copy between host and device, for which the host waits too, is
refused by `NoCopies` and `NoNumbers`. With a GPU, CUDA itself says where the host waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from mmdet.models.roi_heads.bbox_heads import Shared2FCBBoxHead
from mmdet.structures.bbox import bbox2roi
from obc_heads import BATCH, TRAIN_CFG, sampled
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from obc.head.coders import OffsetBinBBoxCoder
from obc.head.obc_head import OBCHead
from obc.head.roi_head import OBCRoIHead

NUM_ROIS = sum(len(positives) + len(negatives) for positives, negatives in BATCH)
DEVICES = [
    "meta",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
    ),
]
devices = pytest.mark.parametrize("device", DEVICES)


class NoCopies(TorchDispatchMode):
    """Refuses operations that take or give tensors on both the host and the device."""

    def __torch_dispatch__(
        self, operation: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        result = operation(*arguments, **(options or {}))
        tensors = [leaf for leaf in tree_leaves((arguments, result)) if isinstance(leaf, Tensor)]
        # A number that an operation takes comes as a tensor of the host without dimensions.
        places = {tensor.device.type for tensor in tensors if tensor.dim()}
        if len(places) > 1:
            raise RuntimeError(f"{operation} copies between host and device")
        return result


class NoNumbers(TorchFunctionMode):
    """Refuses tensors made of Python's numbers, which are copied from the host."""

    def __torch_function__(
        self, function: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        if function in (torch.tensor, torch.as_tensor, Tensor.new_tensor):
            raise RuntimeError(f"{function} copies numbers to the device")
        return function(*arguments, **(options or {}))


@contextmanager
def never_waiting(device: str) -> Iterator[None]:
    if device == "cuda":
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")
    else:
        with NoCopies(), NoNumbers():
            yield


def run_twice(step: Callable[[], Any], device: str) -> None:
    """Only the second time counts: bins are copied to a device once."""
    step()
    with never_waiting(device):
        step()


LAYERS = {"in_channels": 4, "roi_feat_size": 2, "fc_out_channels": 8, "num_classes": 3}


def bins_head(
    bins: dict[str, Any] | None = None, composition: str = "refine", **arguments: Any
) -> OBCHead:
    """A head of two stages."""
    coder = {
        "type": "OffsetBinBBoxCoder",
        "bins": {"num_stages": 2, **(bins or {})},
        "composition": composition,
    }
    return OBCHead(**LAYERS, bbox_coder=coder, **arguments)


def shared_head(residual: str = "pred", **arguments: Any) -> OBCHead:
    """A head whose two stages share a feature."""
    composition = "sum" if residual == "gt_bin" else "refine"
    return bins_head(
        composition=composition, residual=residual, stage_features="shared", stage_fcs=0,
        **arguments,
    )  # fmt: skip


class ReadyFeatures(nn.Module):
    """An extractor that does not wait; MMDetection's does, once for each feature level."""

    num_inputs = 1

    def forward(self, features: tuple[Tensor, ...], rois: Tensor) -> Tensor:
        return features[0][: len(rois)]


def roi_head_and_features(head: OBCHead, device: str) -> tuple[OBCRoIHead, tuple[Tensor, ...]]:
    """An ``OBCRoIHead`` with a given head, and RoI features of the batch."""
    extractor = {
        "type": "SingleRoIExtractor",
        "roi_layer": {"type": "RoIAlign", "output_size": 2, "sampling_ratio": 0},
        "out_channels": LAYERS["in_channels"],
        "featmap_strides": [4],
    }
    built = {"type": "OBCHead", **LAYERS}
    roi_head = OBCRoIHead(bbox_roi_extractor=extractor, bbox_head=built)
    roi_head.bbox_roi_extractor, roi_head.bbox_head = ReadyFeatures(), head
    roi_head.train_cfg = TRAIN_CFG
    features = torch.randn(NUM_ROIS, LAYERS["in_channels"], 2, 2, device=device)
    return roi_head.to(device), (features.requires_grad_(),)


def train_step(head: nn.Module, device: str) -> Callable[[], None]:
    """Targets, loss and gradients of a batch."""
    samples = [sampled(*image).to(device) for image in BATCH]
    width = head.fc_reg(torch.zeros(1, 8)).shape[1]
    cls_score = torch.randn(NUM_ROIS, head.num_classes + 1, device=device, requires_grad=True)
    bbox_pred = torch.randn(NUM_ROIS, width, device=device, requires_grad=True)
    rois = torch.zeros(NUM_ROIS, 5, device=device)

    def step() -> None:
        losses = head.loss_and_target(cls_score, bbox_pred, rois, samples, TRAIN_CFG)["loss_bbox"]
        (losses["loss_cls"] + losses["loss_bbox"]).backward()

    return step


def roi_head_step(head: OBCHead, device: str) -> Callable[[], None]:
    """Targets, both looks, loss and gradients of a batch."""
    roi_head, features = roi_head_and_features(head, device)
    samples = [sampled(*image).to(device) for image in BATCH]

    def step() -> None:
        losses = roi_head.bbox_loss(features, samples)["loss_bbox"]
        sum(value for name, value in losses.items() if "loss" in name).backward()

    return step


@devices
@pytest.mark.parametrize("class_agnostic", [True, False])
@pytest.mark.parametrize("residual", ["gt_bin", "pred"])
@pytest.mark.parametrize("bin_norm", ["sampled", "positive"])
@pytest.mark.parametrize("out_of_range", ["overflow", "ignore"])
def test_targets_loss_and_gradients_do_not_wait(
    out_of_range: str, bin_norm: str, residual: str, class_agnostic: bool, device: str
) -> None:
    head = shared_head(
        bins={"out_of_range": out_of_range},
        bin_norm=bin_norm,
        residual=residual,
        reg_class_agnostic=class_agnostic,
    )
    run_twice(train_step(head, device), device)


@devices
@pytest.mark.parametrize("class_agnostic", [True, False])
@pytest.mark.parametrize("residual", ["pred", "argmax_bin"])
@pytest.mark.parametrize("bin_norm", ["sampled", "positive"])
@pytest.mark.parametrize("later_out_of_range", ["overflow", "clamp", "ignore"])
@pytest.mark.parametrize("composition", ["refine", "sum"])
def test_loss_and_gradients_of_stages_that_look_again_do_not_wait(
    composition: str,
    later_out_of_range: str,
    bin_norm: str,
    residual: str,
    class_agnostic: bool,
    device: str,
) -> None:
    head = bins_head(
        bins={"later_out_of_range": later_out_of_range},
        composition=composition,
        bin_norm=bin_norm,
        residual=residual,
        reg_class_agnostic=class_agnostic,
    )
    run_twice(roi_head_step(head, device), device)


@devices
@pytest.mark.parametrize(
    "arguments",
    [
        {"class_scores": "mean"},
        {"class_scores": "mean", "stage_loss_weights": (1, 0.25)},
        {"stage_features": "proposal"},
        {"stage_fcs": 0},
        {"residual": "gt_bin", "composition": "sum"},
    ],
)
def test_the_other_readings_do_not_wait_either(arguments: dict[str, Any], device: str) -> None:
    run_twice(roi_head_step(bins_head(**arguments), device), device)


@devices
@pytest.mark.parametrize("class_agnostic", [True, False])
@pytest.mark.parametrize(
    "decode_mode", ["expectation", "argmax", "argmax_expectation", "first_stage"]
)
def test_predicting_boxes_in_two_looks_does_not_wait(
    decode_mode: str, class_agnostic: bool, device: str
) -> None:
    head = bins_head(reg_class_agnostic=class_agnostic)
    head.bbox_coder.decode_mode = decode_mode
    roi_head, features = roi_head_and_features(head, device)
    rois = bbox2roi([sampled(*image).to(device).priors for image in BATCH])
    boxes = rois[:, 1:].repeat_interleave(1 if class_agnostic else head.num_classes, dim=0)

    def predict() -> None:
        predictions = roi_head._bbox_forward(features, rois)["bbox_pred"]
        predictions = predictions.view(-1, head.bbox_coder.encode_size)
        head.bbox_coder.decode(boxes, predictions, max_shape=(64, 48))

    run_twice(predict, device)


@devices
@pytest.mark.parametrize("class_agnostic", [True, False])
def test_loss_without_the_rows_of_positives_does_not_wait(
    class_agnostic: bool, device: str
) -> None:
    head = shared_head(reg_class_agnostic=class_agnostic)
    width = head.fc_reg.out_features
    targets = head.get_targets([sampled(*image).to(device) for image in BATCH], TRAIN_CFG)
    cls_score, bbox_pred = (torch.randn(NUM_ROIS, n, device=device) for n in (4, width))
    rois = torch.zeros(NUM_ROIS, 5, device=device)
    run_twice(lambda: head.loss(cls_score, bbox_pred, rois, *targets), device)


@devices
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("composition", ["refine", "sum"])
@pytest.mark.parametrize(
    "decode_mode", ["expectation", "argmax", "argmax_expectation", "first_stage"]
)
def test_decoding_does_not_wait(
    decode_mode: str, composition: str, legacy: bool, device: str
) -> None:
    coder = OffsetBinBBoxCoder(
        {"num_stages": 2}, decode_mode=decode_mode, composition=composition, legacy=legacy
    )
    boxes = torch.zeros(NUM_ROIS, 4, device=device)
    logits = torch.randn(NUM_ROIS, coder.encode_size, device=device)
    run_twice(lambda: coder.decode(boxes, logits, max_shape=(64, 48)), device)


@devices
def test_mmdetections_own_head_waits(device: str) -> None:
    head = Shared2FCBBoxHead(in_channels=4, roi_feat_size=2, fc_out_channels=8, num_classes=3)
    with pytest.raises(RuntimeError):
        run_twice(train_step(head, device), device)


@devices
@pytest.mark.parametrize(
    "waiting",
    [
        lambda numbers: numbers.sum().item(),
        lambda numbers: float(numbers.sum()),
        lambda numbers: bool((numbers > 0).any()),
        lambda numbers: (numbers > 0).nonzero(),
        lambda numbers: numbers[numbers > 0],
        lambda numbers: numbers.masked_select(numbers > 0),
        lambda numbers: numbers.new_tensor([0.1, 0.2]),
        lambda numbers: numbers.cpu(),
        lambda numbers: numbers.tolist(),
    ],
)
def test_what_waits_is_noticed(waiting: Callable[[Tensor], object], device: str) -> None:
    numbers = torch.ones(3, device=device)
    with pytest.raises((RuntimeError, NotImplementedError)), never_waiting(device):
        waiting(numbers)

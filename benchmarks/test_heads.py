"""Speed of the box heads, side by side, on the CPU and on a GPU where there is one.

    python -m pytest benchmarks/test_heads.py --benchmark-quiet --benchmark-json=heads.json
    python benchmarks/head_table.py heads.json

The heads take turns, round after round, so that a machine that gets slower in between slows all of
them: a ratio is of times in the same round. On the CPU one thread, and its processor time, which
leaves out what other programs take.

RoI features are given to every head, so RoIAlign is in no time. OBCRoIHead's later stages are given
features of their own: of the positive RoIs in training, of all RoIs in a test.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import pytest
import torch
from mmdet.models.task_modules.assigners import AssignResult
from mmdet.models.task_modules.samplers import SamplingResult
from mmdet.registry import MODELS
from mmengine import ConfigDict
from mmengine.registry import DefaultScope
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from obc.evaluation.head_cost import head_cost
from obc.head.roi_head import OBCRoIHead

BASELINE = {"type": "Shared2FCBBoxHead"}  # smooth L1, class-specific: MMDetection's defaults
PEERS = {"baseline": BASELINE, "SABLHead": {"type": "SABLHead"}}


def bins_head(num_stages: int, **options: Any) -> dict[str, Any]:
    """Config of an OBCHead."""
    coder = {"type": "OffsetBinBBoxCoder", "bins": {"num_stages": num_stages}}
    return {"type": "OBCHead", "bbox_coder": coder, **options}


def sharing_head(num_stages: int) -> dict[str, Any]:
    """Config of an OBCHead whose stages share a feature, as bins of the ground truth's own bin."""
    head = bins_head(num_stages, stage_features="shared", stage_fcs=0, residual="gt_bin")
    head["bbox_coder"]["composition"] = "sum"
    head["bbox_coder"]["bins"]["later_out_of_range"] = "ignore"
    return head


SHARING = {f"OBC, K = {stages}, shared": sharing_head(stages) for stages in (2, 3)}
LOOKING_AGAIN = {f"OBCRoIHead, K = {stages}": bins_head(stages) for stages in (2, 3)}
HEADS = PEERS | {"OBC, K = 1": bins_head(1)} | SHARING | LOOKING_AGAIN
# Of the heads that are measured, by the number of classes: COCO's and VOC's.
MEASURED = {80: tuple(HEADS), 20: ("baseline", "OBC, K = 2, shared", "OBCRoIHead, K = 2")}
MACHINE = "machine"  # what the device itself can do: the floor
IMAGE = (800, 1333)
ROIS_OF_AN_IMAGE = 512
TRAIN_CFG = ConfigDict(pos_weight=-1)
POSITIVE_PART = 4  # one RoI in four is positive
EXTRACTOR = {
    "type": "SingleRoIExtractor",
    "roi_layer": {"type": "RoIAlign", "output_size": 7, "sampling_ratio": 0},
    "out_channels": 256,
    "featmap_strides": [4, 8, 16, 32],
}  # R50-FPN's
REPEATS = {"train": 1, "loss": 20, "decode": 20, "product": 2, "copy": 5}


@dataclass(frozen=True)
class Setting:
    """What the heads have in common."""

    device: str
    precision: str
    num_rois: int
    num_classes: int


@dataclass(frozen=True)
class Case:
    """One measurement: of a head, or of what the machine itself can do."""

    setting: Setting
    what: str
    round: int
    head: str

    def __str__(self) -> str:
        setting = "-".join(str(value) for value in asdict(self.setting).values())
        return f"{setting}-{self.what}-{self.head}-{self.round}"


def cases(rounds: int, rois: list[int]) -> Iterator[Case]:
    """In the order of measurement: the heads of a round one after the other, to and fro."""
    for device in ("cpu", *(["cuda"] if torch.cuda.is_available() else [])):
        for precision in ("float32", "bfloat16"):
            for num_rois in rois:
                for num_classes, heads in MEASURED.items():
                    setting = Setting(device, precision, num_rois, num_classes)
                    for what in REPEATS:
                        of_machine = what in ("product", "copy")
                        if not of_machine or num_classes == max(MEASURED):
                            for number in range(rounds):
                                for head in (MACHINE,) if of_machine else heads[:: (-1) ** number]:
                                    yield Case(setting, what, number, head)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each measurement."""
    options = metafunc.config.option
    timers = {"cpu": time.process_time, "cuda": time.perf_counter}
    measurements = [
        pytest.param(case, marks=pytest.mark.benchmark(timer=timers[case.setting.device]))
        for case in cases(options.rounds, options.rois)
    ]
    metafunc.parametrize("case", measurements, ids=str)


def test_speed(benchmark: Any, case: Case) -> None:
    """Time of one case; what it was is stored beside it."""
    torch.set_num_threads(1)
    step, extra = machine(case) if case.head == MACHINE else steps(case)

    def run() -> None:
        step()
        if case.setting.device == "cuda":
            torch.cuda.synchronize()

    benchmark.extra_info.update(
        asdict(case.setting), what=case.what, round=case.round, head=case.head, **extra,
        torch=torch.__version__, threads=torch.get_num_threads(),
        gpu=torch.cuda.get_device_name() if case.setting.device == "cuda" else None,
    )  # fmt: skip
    benchmark.pedantic(run, rounds=REPEATS[case.what], warmup_rounds=1 if case.round == 0 else 0)


def steps(case: Case) -> tuple[Callable[[], object], dict[str, float]]:
    """What a head does, and the floating point operations and bytes that it takes at least."""
    setting = case.setting
    head, batch = head_of(case.head, setting), batch_of(setting)
    autocast = torch.autocast(
        setting.device, torch.bfloat16, enabled=setting.precision == "bfloat16"
    )
    ready = predictions_of(case.head, setting)

    def train() -> None:
        head.zero_grad(set_to_none=True)
        batch.features.grad = None
        with autocast:
            losses_of(head, batch).backward()

    def targets_and_loss() -> None:
        for tensor in tensors(ready):
            tensor.grad = None
        with autocast, without_layers(head, ready):
            losses_of(head, batch).backward()

    @torch.inference_mode()
    def decode() -> None:
        with autocast, without_layers(head, ready):
            decode_boxes(head, batch)

    boxes = tensors([each[1] for each in ready])
    of_boxes = sum(tensor.nbytes for tensor in boxes)
    learning = of_boxes
    if case.head in LOOKING_AGAIN:
        # Later stages learn from the positive RoIs alone.
        learning = boxes[0].nbytes + sum(tensor.nbytes for tensor in boxes[1:]) // POSITIVE_PART
    numbers = {
        "train": (
            train,
            {
                "flop": flop_of(case.head, setting.num_rois, setting.num_classes),
                **cost_of(case.head, setting.num_classes),
            },
        ),
        "loss": (targets_and_loss, {"bytes": 2 * (learning + ready[0][0].nbytes)}),
        "decode": (decode, {"bytes": of_boxes + 2 * 4 * 4 * setting.num_rois}),
    }
    return numbers[case.what]


def looks_again(head: nn.Module) -> bool:
    """Whether a head's later stages have features of their own."""
    return getattr(head, "looks_again", False)


def losses_of(head: nn.Module, batch: Batch) -> Tensor:
    """Sum of the losses of the batch's RoIs."""
    if looks_again(head):
        losses = looking(head).bbox_loss((batch.features,), batch.samples)["loss_bbox"]
    else:
        losses = head.loss_and_target(
            *head(batch.features), batch.rois, batch.samples, TRAIN_CFG
        )["loss_bbox"]  # fmt: skip
    return sum(value for name, value in losses.items() if "loss" in name)


def decode_boxes(head: nn.Module, batch: Batch) -> None:
    """Boxes of the batch's RoIs; what lies between the looks of OBCRoIHead is a part of it."""
    if looks_again(head):
        bbox_pred = looking(head)._bbox_forward((batch.features,), batch.rois)["bbox_pred"]
    else:
        _, bbox_pred = head(batch.features)
    head.bbox_coder.decode(batch.rois[:, 1:], bbox_pred, max_shape=IMAGE)


class ReadyFeatures(nn.Module):
    """An extractor that gives the first of the features that there are, without RoIAlign."""

    num_inputs = 1

    def forward(self, features: tuple[Tensor], rois: Tensor) -> Tensor:
        """RoI features (R, 256, 7, 7) for RoIs (R, 5)."""
        return features[0][: len(rois)]


@lru_cache(maxsize=len(HEADS))
def looking(head: nn.Module) -> OBCRoIHead:
    """An OBCRoIHead with a head whose later stages have features of their own."""
    roi_head = OBCRoIHead(bbox_roi_extractor=EXTRACTOR, bbox_head=bins_head(1))
    roi_head.bbox_roi_extractor, roi_head.bbox_head = ReadyFeatures(), head
    roi_head.train_cfg = TRAIN_CFG
    return roi_head


@contextmanager
def without_layers(head: nn.Module, ready: list[tuple[Tensor, Any]]) -> Iterator[None]:
    """Let a head's layers give predictions that there are, of the first RoIs."""

    def stage_predictions(stage: int, features: Tensor) -> tuple[Tensor, None]:
        return ready[stage][1][: len(features)], None

    head.forward = lambda features: ready[0]
    head.stage_predictions = stage_predictions
    try:
        yield
    finally:
        del head.forward, head.stage_predictions


def machine(case: Case) -> tuple[Callable[[], object], dict[str, int]]:
    """The largest matrix product of the heads, or a copy of memory."""
    setting = case.setting
    dtype = getattr(torch, setting.precision)
    if case.what == "copy":
        source = torch.ones(2**24, device=setting.device)
        target = torch.empty_like(source)
        return lambda: target.copy_(source), {"bytes": 2 * source.nbytes}
    features = torch.randn(setting.num_rois, 256 * 49, device=setting.device, dtype=dtype)
    weights = torch.randn(256 * 49, 1024, device=setting.device, dtype=dtype)
    return lambda: features @ weights, {"flop": 2 * features.shape[0] * weights.numel()}


@dataclass(frozen=True)
class Batch:
    """What the heads of a setting work on: features, sampled RoIs, a quarter of them positive."""

    features: Tensor
    rois: Tensor
    samples: list[SamplingResult]


@lru_cache(maxsize=1)
def batch_of(setting: Setting) -> Batch:
    """Of images with at most 512 RoIs, as MMDetection samples them."""
    torch.manual_seed(0)
    sizes = [len(part) for part in torch.arange(setting.num_rois).split(ROIS_OF_AN_IMAGE)]
    samples = [sample(size, setting.num_classes).to(setting.device) for size in sizes]
    rois = [nn.functional.pad(one.priors, (1, 0), value=i) for i, one in enumerate(samples)]
    features = torch.randn(setting.num_rois, 256, 7, 7, device=setting.device, requires_grad=True)
    return Batch(features, torch.cat(rois), samples)


def sample(num_rois: int, num_classes: int) -> SamplingResult:
    """Random boxes of an image; the objects of the positive ones lie near them."""
    num_pos = num_rois // POSITIVE_PART
    low, size = torch.rand(2, num_rois, 2) * 400
    boxes = torch.cat([low, low + size + 16], dim=1)
    objects = boxes[:num_pos] + 4 * torch.randn(num_pos, 4)
    rows = torch.arange(num_rois)
    gt_inds = torch.where(rows < num_pos, rows + 1, 0)
    labels = torch.randint(num_classes, (num_rois,))
    assigned = AssignResult(num_pos, gt_inds, torch.ones(num_rois), labels)
    flags = torch.zeros(num_rois, dtype=torch.uint8)
    return SamplingResult(rows[:num_pos], rows[num_pos:], boxes, objects, assigned, flags)


@lru_cache(maxsize=len(HEADS))
def head_of(name: str, setting: Setting) -> nn.Module:
    """A head as it starts a training."""
    torch.manual_seed(0)
    head = MODELS.build({**HEADS[name], "num_classes": setting.num_classes})
    head.init_weights()
    if name != "SABLHead":
        head.shared_fcs = shared_layers(setting.device)
    return head.to(setting.device)


@lru_cache
def shared_layers(device: str) -> nn.ModuleList:
    """The two layers that the baseline and OBC have in common, in the same memory for all.

    Where the largest matrix happens to lie in memory moves a step by several percent.
    """
    return MODELS.build(BASELINE).shared_fcs.to(device)


@lru_cache(maxsize=len(HEADS))
def predictions_of(name: str, setting: Setting) -> list[tuple[Tensor, Any]]:
    """Class scores and box predictions of the batch, stage by stage, as if they were layers' own.

    A head whose stages share a feature predicts them together, and a later stage no class scores.
    """
    autocast = torch.autocast(
        setting.device, torch.bfloat16, enabled=setting.precision == "bfloat16"
    )
    with torch.no_grad(), autocast:
        ready = predict(head_of(name, setting), batch_of(setting).features, setting.num_rois)
    for tensor in tensors(ready):
        tensor.requires_grad_()
    return ready


def predict(head: nn.Module, features: Tensor, later_rois: int) -> list[tuple[Tensor, Any]]:
    """What a head's layers give, stage by stage; later stages for the first of the RoIs alone."""
    later = range(1, 1 + len(getattr(head, "later_stages", ())))
    again = [head.stage_predictions(stage, features[:later_rois])[0] for stage in later]
    first = head(features)
    return [first, *((first[0].new_empty(0), bbox_pred) for bbox_pred in again)]


@lru_cache
def flop_of(name: str, num_rois: int, num_classes: int) -> int:
    """Floating point operations of a head's layers in training, forward and backward.

    They are counted without data.
    """
    head = MODELS.build({**HEADS[name], "num_classes": num_classes}).to("meta")
    features = torch.empty(num_rois, 256, 7, 7, device="meta", requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        outputs = predict(head, features, num_rois // POSITIVE_PART)
        sum(tensor.sum() for tensor in tensors(outputs)).backward()
    return counter.get_total_flops()


@lru_cache
def cost_of(name: str, num_classes: int) -> dict[str, float]:
    """Parameters of a head, and operations of its layers for each RoI in a test."""
    model = nn.Module()
    kind = "OBCRoIHead" if name in LOOKING_AGAIN else "StandardRoIHead"
    with torch.device("meta"), DefaultScope.overwrite_default_scope("mmdet"):
        model.roi_head = MODELS.build(
            {
                "type": kind,
                "bbox_roi_extractor": EXTRACTOR,
                "bbox_head": {**HEADS[name], "num_classes": num_classes},
            }
        )
    return head_cost(model)


def tensors(predictions: Any) -> list[Tensor]:
    """All tensors of predictions; SABLHead predicts two for boxes, the others one."""
    return [leaf for leaf in tree_leaves(predictions) if isinstance(leaf, Tensor) and leaf.numel()]

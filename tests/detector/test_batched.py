"""The batched classes give MMDetection's own numbers, to the last bit."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.utils import register_all_modules
from mmengine.structures import InstanceData
from torch import nn

from obc.config.load_plan import load_plan
from obc.config.run import ResolvedRun
from obc.detector.batched import BATCHED, compute_in_batches
from obc.detector.model_config import model_config

CLASSES = 3
SQUARE = ((64, 64),) * 3
MIXED = ((64, 64), (64, 48), (40, 64))


@pytest.fixture(scope="module")
def runs() -> dict[str, ResolvedRun]:
    """A run of each detector at the smallest scale."""
    plan = load_plan({"scale": "smoke"})
    return {one.resolved.spec.detector: one.resolved for one in plan.runs.values()}


def detectors(run: ResolvedRun) -> tuple[nn.Module, nn.Module]:
    """MMDetection's detector and the batched one, with the same weights."""
    register_all_modules(init_default_scope=True)
    stock = model_config(run, CLASSES)
    batched = copy.deepcopy(stock)
    compute_in_batches(batched)
    torch.manual_seed(0)
    models = tuple(map(MODELS.build, (stock, batched)))
    models[1].load_state_dict(models[0].state_dict())
    assert type(models[0].rpn_head).__name__ == "RPNHead"
    assert type(models[1].rpn_head).__name__ == "BatchedRPNHead"
    return models


def batch(sizes: tuple[tuple[int, int], ...], objects: int = 2) -> dict[str, Any]:
    """Noise with some objects in each image; the first image may have one more."""
    generator = torch.Generator().manual_seed(1)
    images, samples = [], []
    for number, (height, width) in enumerate(sizes):
        images.append(torch.randint(256, (3, height, width), generator=generator).byte())
        count = objects + (number == 0 and objects > 0)
        corner = torch.rand(count, 2, generator=generator) * torch.tensor([width, height]) / 2
        size = 8 + torch.rand(count, 2, generator=generator) * torch.tensor([width, height]) / 3
        sample = DetDataSample(
            metainfo={
                "img_shape": (height, width),
                "ori_shape": (height, width),
                "scale_factor": (1.0, 1.0),
            }
        )
        sample.gt_instances = InstanceData(
            bboxes=torch.cat((corner, corner + size), 1),
            labels=torch.randint(CLASSES, (count,), generator=generator),
        )
        sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0))
        samples.append(sample)
    return {"inputs": images, "data_samples": samples}


def losses_and_gradients(model: nn.Module, data: dict[str, Any]) -> dict[str, Any]:
    torch.manual_seed(7)
    model.train()
    model.zero_grad()
    data = model.data_preprocessor(copy.deepcopy(data), True)
    losses = model(**data, mode="loss")
    total, named = model.parse_losses(losses)
    total.backward()
    gradients = {
        f"gradient of {name}": weight.grad
        for name, weight in model.named_parameters()
        if weight.grad is not None
    }
    return {**named, **gradients, "next random number": torch.rand(1)}


@pytest.mark.parametrize("objects", [2, 0], ids=["objects", "no objects"])
@pytest.mark.parametrize("sizes", [SQUARE, MIXED], ids=["one size", "several sizes"])
@pytest.mark.parametrize("detector", ["faster_rcnn", "cascade_rcnn"])
def test_losses_gradients_and_random_draws_are_the_stock_detectors(
    runs: dict[str, ResolvedRun],
    detector: str,
    sizes: tuple[tuple[int, int], ...],
    objects: int,
) -> None:
    stock, batched = (
        losses_and_gradients(model, batch(sizes, objects)) for model in detectors(runs[detector])
    )
    assert stock.keys() == batched.keys()
    assert len(stock) > 50
    for name, expected in stock.items():
        assert torch.equal(batched[name], expected), name


@pytest.mark.parametrize("sizes", [SQUARE, MIXED], ids=["one size", "several sizes"])
@pytest.mark.parametrize("detector", ["faster_rcnn", "cascade_rcnn"])
def test_detections_are_the_stock_detectors(
    runs: dict[str, ResolvedRun], detector: str, sizes: tuple[tuple[int, int], ...]
) -> None:
    found = []
    for model in detectors(runs[detector]):
        model.eval()
        with torch.inference_mode():
            found.append([one.pred_instances for one in model.test_step(batch(sizes))])
    for stock, batched in zip(*found, strict=True):
        assert len(stock)
        for key in ("bboxes", "scores", "labels"):
            assert torch.equal(batched[key], stock[key])


@pytest.mark.parametrize("detector", ["faster_rcnn", "cascade_rcnn"])
def test_kept_maps_of_frozen_stages_change_no_digit(
    runs: dict[str, ResolvedRun], detector: str
) -> None:
    stock, _ = detectors(runs[detector])
    config = model_config(runs[detector], CLASSES)
    config.backbone.frozen_stages = stock.backbone.frozen_stages = 2
    compute_in_batches(config, keep_frozen=True)
    keeping = MODELS.build(config)
    keeping.load_state_dict(stock.state_dict())
    data = batch(SQUARE)
    for number, sample in enumerate(data["data_samples"]):
        sample.set_metainfo({"img_id": number, "flip_direction": None})
    for _ in range(2):  # the second time the maps are kept ones
        losses = losses_and_gradients(keeping, data)
    expected = losses_and_gradients(stock, data)
    assert losses.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(losses[name], value), name


def test_too_small_boxes_are_left_out_as_the_stock_detector_leaves_them_out(
    runs: dict[str, ResolvedRun],
) -> None:
    proposals = []
    for model in detectors(runs["faster_rcnn"]):
        model.eval()
        data = model.data_preprocessor(batch(SQUARE), False)
        cfg = copy.deepcopy(model.test_cfg.rpn)
        cfg.min_bbox_size = 20
        head = model.rpn_head
        with torch.inference_mode():
            outputs = head(model.extract_feat(data["inputs"]))
            metas = [sample.metainfo for sample in data["data_samples"]]
            proposals.append(head.predict_by_feat(*outputs, batch_img_metas=metas, cfg=cfg))
    for stock, batched in zip(*proposals, strict=True):
        assert len(stock) > 0
        assert torch.equal(batched.bboxes, stock.bboxes)
        assert torch.equal(batched.scores, stock.scores)
        assert (stock.bboxes[:, 2:] - stock.bboxes[:, :2]).min() > 20


def test_an_assignment_that_has_no_batched_form_is_refused(runs: dict[str, ResolvedRun]) -> None:
    config = model_config(runs["faster_rcnn"], CLASSES)
    compute_in_batches(config)
    config.train_cfg.rpn.assigner.ignore_iof_thr = 0.5
    with pytest.raises(ValueError, match="BatchedRPNHead has no batched form of"):
        MODELS.build(config)


def test_every_batched_class_is_a_subclass_of_the_stock_one() -> None:
    register_all_modules(init_default_scope=True)
    for stock, batched in BATCHED.items():
        assert issubclass(MODELS.get(batched), MODELS.get(stock))

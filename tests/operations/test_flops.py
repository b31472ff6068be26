"""The closed form of operations and weights against torch's counter on MMDetection's own models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from report_fixtures import plan_of
from torch.utils.flop_counter import FlopCounterMode

from obc.config.run import ResolvedRun
from obc.detector.model_config import model_config
from obc.evaluation.head_cost import head_cost
from obc.operations.flops import image_size, layers, parameters, training_flops

TABLE = """
title: One of each
section: "4"
dataset: coco
metrics: [AP]
rows:
  - label: Faster R50
    detector: faster_rcnn
    backbone: r50
    box: {loss: smooth_l1}
  - label: Faster R101 in two stages
    detector: faster_rcnn
    backbone: r101
    box: {loss: offset_bin, num_stages: 2}
  - label: Faster X101 with layers of its own for each stage on a shared feature
    detector: faster_rcnn
    backbone: x101
    box: {loss: offset_bin, num_stages: 3, stage_features: shared}
  - label: Later stages take the first one's layers, by class
    detector: faster_rcnn
    backbone: r50
    box: {loss: offset_bin, num_stages: 3, stage_fcs: 0, reg_class_agnostic: false}
  - label: Every stage classifies
    detector: faster_rcnn
    backbone: r50
    box: {loss: offset_bin, num_stages: 2, stage_features: proposal, class_scores: mean}
  - label: Cascade R50, by class
    detector: cascade_rcnn
    backbone: r50
    box: {loss: offset_bin, reg_class_agnostic: false, bins_include_overflow: true}
  - label: Side-aware
    detector: faster_rcnn
    backbone: r50
    box: {loss: sabl}
  - label: Variances
    detector: faster_rcnn
    backbone: r50
    box: {loss: kl}
  - label: Distributions
    detector: cascade_rcnn
    backbone: r50
    box: {loss: dfl, num_intervals: 16}
  - label: One box for all classes
    detector: faster_rcnn
    backbone: r50
    box: {loss: giou, reg_class_agnostic: true}
  - label: Cascade X101
    detector: cascade_rcnn
    backbone: x101
    box: {loss: l2}
"""


@pytest.fixture(scope="module", params=["smoke", pytest.param("paper", marks=pytest.mark.slow)])
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    plan = plan_of(tmp_path_factory.mktemp("plan"), {"tables": TABLE}, scale=request.param)
    return [run.resolved for run in plan.runs.values()]


def counted(run: ResolvedRun, classes: int, size: tuple[int, int], rois: int) -> tuple[int, int]:
    """FLOPs of a forward pass, and weights, of the real model on torch's meta device."""
    register_all_modules(init_default_scope=True)
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        config = model_config(run, classes)
        config.backbone.init_cfg = None
        model = MODELS.build(config).eval()
        model.rpn_head(model.extract_feat(torch.empty(1, 3, *size)))
        heads = model.roi_head.bbox_head
        features = torch.empty(rois, run.sizes.neck_channels, 7, 7)
        for head in heads if isinstance(heads, torch.nn.ModuleList) else [heads]:
            head(features)
            for stage in range(1, 1 + len(getattr(head, "later_stages", ()))):
                head.stage_predictions(stage, features)
    return counter.get_total_flops(), sum(weights.numel() for weights in model.parameters())


def test_operations_and_weights_are_those_that_torch_counts(runs: list[ResolvedRun]) -> None:
    for run in runs:
        flops, weights = counted(run, 6, (64, 96), 5)
        assert sum(layer.flops for layer in layers(run, 6, (64, 96), 5)) == flops, run.run_id
        assert parameters(run, 6) == weights, run.run_id


def test_operations_and_weights_of_a_timm_backbone_are_those_that_torch_counts(
    tmp_path: Path,
) -> None:
    pytest.importorskip("timm")
    plan = plan_of(tmp_path, {"table1": TABLE}, scale="photos")
    runs = [run.resolved for run in plan.runs.values() if run.resolved.network.timm]
    assert {run.network.timm for run in runs} == {"tf_efficientnet_lite0", "tf_efficientnet_lite2"}
    for run in runs:
        flops, weights = counted(run, 6, (64, 96), 5)
        assert sum(layer.flops for layer in layers(run, 6, (64, 96), 5)) == flops, run.run_id
        assert parameters(run, 6) == weights, run.run_id


def test_what_an_evaluation_notes_of_a_head_is_the_closed_form_of_one_roi(
    runs: list[ResolvedRun],
) -> None:
    register_all_modules(init_default_scope=True)
    for run in runs:
        with torch.device("meta"):
            config = model_config(run, 6)
            config.backbone.init_cfg = None
            noted = head_cost(MODELS.build(config).eval())
        heads = [layer for layer in layers(run, 6, (64, 96), 1) if layer.part == "box"]
        assert noted["parameters"] == sum(layer.parameters for layer in heads), run.run_id
        assert noted["mflop_per_roi"] * 1e6 == sum(layer.flops for layer in heads), run.run_id


def test_frozen_layers_have_no_backward_pass(runs: list[ResolvedRun]) -> None:
    run = runs[0]
    size = image_size(run.sizes.image_scale["coco"], photographs=False)
    forward = {"frozen": 0, "trained": 0}
    for layer in layers(run, 6, size, run.sizes.sampled_rois):
        # Both scales freeze the stem and the first stage.
        forward["frozen" if layer.part in ("stem", "stage1") else "trained"] += layer.flops
    expected = forward["frozen"] + 3 * forward["trained"]
    assert training_flops(run, 6, photographs=False) == expected


@pytest.mark.parametrize(
    ("scale", "photographs", "expected"),
    [
        ((1333, 800), True, (800, 1088)),  # 4:3 at 800 is 1067 wide, padded to a multiple of 32
        ((1000, 600), True, (608, 800)),
        ((1000, 900), True, (768, 1024)),  # the longest side limits: 750 x 1000
        ((96, 96), False, (96, 96)),
    ],
)
def test_a_typical_image_keeps_its_ratio_and_is_padded(
    scale: tuple[int, int], photographs: bool, expected: tuple[int, int]
) -> None:
    assert image_size(scale, photographs) == expected

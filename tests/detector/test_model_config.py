"""The configs of the paper's 39 trainings against the ones that MMDetection ships."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from config_leaves import differences
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope

from obc.config.box_losses.l2 import L2
from obc.config.box_losses.offset_bin import OffsetBin
from obc.config.load_plan import load_plan
from obc.config.plan import Plan
from obc.config.run import ResolvedRun
from obc.config.scale import Runtime
from obc.datasets.index_folder import DataFiles
from obc.detector.model_config import BASE_CONFIGS, model_config
from obc.training.mmdet_config import build_config

PAPER = {run_id: run.resolved for run_id, run in load_plan({"scale": "paper"}).paper_runs.items()}
CLASSES = {"voc": 20, "coco": 80}
SHIPPED_BACKBONE = {
    ("faster_rcnn", "r50"): "faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py",
    ("faster_rcnn", "r101"): "faster_rcnn/faster-rcnn_r101_fpn_1x_coco.py",
    ("faster_rcnn", "x101"): "faster_rcnn/faster-rcnn_x101-64x4d_fpn_1x_coco.py",
    ("cascade_rcnn", "r50"): "cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py",
    ("cascade_rcnn", "r101"): "cascade_rcnn/cascade-rcnn_r101_fpn_1x_coco.py",
    ("cascade_rcnn", "x101"): "cascade_rcnn/cascade-rcnn_x101-32x4d_fpn_1x_coco.py",
}


@pytest.fixture(autouse=True)
def mmdet_scope() -> Iterator[None]:
    with DefaultScope.overwrite_default_scope("mmdet"):
        yield


@pytest.mark.parametrize("run_id", PAPER)
def test_each_of_the_39_models_builds_with_the_paper_s_heads(run_id: str) -> None:
    run = PAPER[run_id]
    config = model_config(run, CLASSES[run.spec.dataset])
    with torch.device("meta"):
        model = MODELS.build(config)
    heads = model.roi_head.bbox_head
    heads = list(heads) if run.spec.cascade else [heads]
    assert len(heads) == (2 if run.spec.cascade else 1)
    for head in heads:
        assert head.num_classes == CLASSES[run.spec.dataset]
        assert head.fc_cls.out_features == head.num_classes + 1
        if isinstance(run.spec.box, OffsetBin):
            # 4 coordinates x (inner bins and two overflow bins), for all classes at once
            logits = 4 * (run.spec.box.num_bins + 2)
            assert (type(head).__name__, head.fc_reg.out_features) == ("OBCHead", logits)
            later = [(len(stage.fcs), stage.fc_reg.out_features) for stage in head.later_stages]
            # Two FC layers, each with its ReLU.
            assert later == [(4, logits)] * (run.spec.box.num_stages - 1)
        else:
            boxes = 1 if run.spec.cascade else head.num_classes
            assert (type(head).__name__, head.fc_reg.out_features) == (
                "Shared2FCBBoxHead",
                4 * boxes,
            )


@pytest.mark.parametrize("run_id", PAPER)
def test_each_backbone_is_the_shipped_one(run_id: str) -> None:
    run = PAPER[run_id]
    name = SHIPPED_BACKBONE[run.spec.detector, run.spec.backbone]
    shipped = Config.fromfile(BASE_CONFIGS / name).model.backbone
    ours = model_config(run, 80).backbone
    # Defaults of the ResNet class that our config spells out.
    spelled_out = {"base_channels": 64, "stem_channels": 64}
    assert {key: ours.pop(key) for key in spelled_out} == spelled_out
    assert differences(ours, shipped) == {}


def of(detector: str, loss: str, dataset: str = "coco") -> ResolvedRun:
    return next(
        run
        for run in PAPER.values()
        if (run.spec.detector, run.spec.box.loss, run.spec.dataset, run.spec.backbone)
        == (detector, loss, dataset, "r50")
    )


def test_offset_bins_change_the_box_head_and_nothing_else() -> None:
    for detector in ("faster_rcnn", "cascade_rcnn"):
        regression = model_config(of(detector, "smooth_l1"), 80)
        bins = model_config(of(detector, "offset_bin"), 80)
        changed = differences(regression, bins)
        changed.pop("roi_head.type", None)
        assert changed and all(path.startswith("roi_head.bbox_head") for path in changed)


def test_only_a_hierarchy_that_looks_again_has_another_roi_head() -> None:
    types = {
        (run.spec.detector, getattr(run.spec.box, "num_stages", 0)): model_config(
            run, 80
        ).roi_head.type
        for run in PAPER.values()
    }
    assert types == {
        ("faster_rcnn", 0): "StandardRoIHead",
        ("faster_rcnn", 1): "StandardRoIHead",
        ("faster_rcnn", 2): "OBCRoIHead",
        ("faster_rcnn", 3): "OBCRoIHead",
        ("cascade_rcnn", 0): "CascadeRoIHead",
        ("cascade_rcnn", 1): "CascadeRoIHead",
    }


def test_l2_has_the_factor_one_half_unless_told_otherwise() -> None:
    spec = of("faster_rcnn", "smooth_l1").spec
    weights = [
        model_config(
            of("faster_rcnn", "smooth_l1").model_copy(
                update={"spec": spec.model_copy(update={"box": L2(loss="l2", **factor)})}
            ),
            80,
        ).roi_head.bbox_head.loss_bbox
        for factor in ({}, {"factor": 1.0})
    ]
    assert weights == [
        {"type": "MSELoss", "loss_weight": 0.5},
        {"type": "MSELoss", "loss_weight": 1.0},
    ]


def training_config(run: ResolvedRun) -> Config:
    data = DataFiles(Path("images"), Path("train.json"), Path("val.json"), ("a", "b"))
    return build_config(run, 0, data, Runtime())


def test_the_schedule_is_the_paper_s() -> None:
    # Section 4: 12 epochs, lr 0.005, x 0.1 after epochs 8 and 11, 2 GPUs x 2 images; MMDetection's
    # SGD (0.9, 1e-4), gradient clip 35 and 500 iterations of warm-up from a third.
    for run in PAPER.values():
        config = training_config(run)
        assert config.train_cfg.max_epochs == 12
        assert config.optim_wrapper.optimizer == dict(
            type="SGD", lr=0.005, momentum=0.9, weight_decay=1e-4
        )
        assert config.optim_wrapper.clip_grad == dict(max_norm=35, norm_type=2)
        warmup, decay = config.param_scheduler
        assert (warmup.end, round(warmup.start_factor, 6)) == (500, 0.333333)
        assert (decay.milestones, decay.gamma) == ([8, 11], 0.1)
        assert config.train_dataloader.batch_size == 4


@pytest.mark.parametrize(("dataset", "scale"), [("voc", (1000, 600)), ("coco", (1333, 800))])
def test_images_have_the_paper_s_size(dataset: str, scale: tuple[int, int]) -> None:
    pipeline = training_config(
        of("faster_rcnn", "offset_bin", dataset)
    ).train_dataloader.dataset.dataset.pipeline
    (resize,) = (step for step in pipeline if step["type"].endswith("Resize"))
    assert tuple(resize["scale"]) == scale and resize["keep_ratio"]


def test_the_same_run_gives_the_same_config_text() -> None:
    run = of("cascade_rcnn", "offset_bin")
    assert training_config(run).pretty_text == training_config(run).pretty_text


@pytest.mark.parametrize("scale", ["smoke", pytest.param("mini", marks=pytest.mark.slow)])
def test_every_model_of_the_small_scales_builds(scale: str) -> None:
    for run in load_plan({"scale": scale}).runs.values():
        with torch.device("meta"):
            MODELS.build(model_config(run.resolved, 5))


# --- shared starting weights and RoIAlign ------------------------------------------------------


def smoke_plan() -> Plan:
    return load_plan({"scale": "smoke"})


def test_the_head_of_starting_weights_only_classifies() -> None:
    (initial, *_) = smoke_plan().initial_runs.values()
    head = MODELS.build(model_config(initial.resolved, 5)).roi_head.bbox_head
    assert not head.with_reg and not hasattr(head, "fc_reg")


def test_backbone_neck_and_rpn_start_from_the_shared_weights_and_the_head_does_not(
    tmp_path: Path,
) -> None:
    plan = smoke_plan()
    run = next(run for run in plan.runs.values() if "faster-r50-obc" in run.run_id).resolved
    initial = MODELS.build(model_config(plan.initial_runs[run.initial_run].resolved, 5))
    torch.save(initial.state_dict(), tmp_path / "final.pth")
    data = DataFiles(Path("images"), Path("train.json"), Path("val.json"), ("a", "b"))
    model = MODELS.build(build_config(run, 0, data, Runtime(), tmp_path / "final.pth").model)
    model.init_weights()
    state, started = initial.state_dict(), model.state_dict()
    for name, value in started.items():
        if not name.startswith("roi_head"):
            assert torch.equal(value, state[name]), name
    head = "roi_head.bbox_head.shared_fcs.0.weight"
    assert not torch.equal(started[head], state[head])


def test_small_scales_pool_rois_by_matrix_products_and_paper_scale_by_mmcv() -> None:
    small = next(iter(smoke_plan().runs.values())).resolved
    assert model_config(small, 5).roi_head.bbox_roi_extractor.type == "SeparableRoIExtractor"
    paper = model_config(of("faster_rcnn", "offset_bin"), 5).roi_head.bbox_roi_extractor
    # MMDetection 1's RoIAlign: not aligned, two samples, RoIs in whole pixels.
    assert (paper.type, paper.roi_layer.sampling_ratio) == ("WholePixelRoIExtractor", 2)


def test_the_paper_s_protocol_pools_by_matrix_products_too() -> None:
    run = next(iter(smoke_plan().runs.values())).resolved
    small = model_config(run.model_copy(update={"protocol": "paper_v1"}), 5)
    assert small.roi_head.bbox_roi_extractor.type == "WholePixelSeparableRoIExtractor"
    MODELS.build(small)

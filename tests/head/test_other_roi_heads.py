"""OBCHead in MMDetection's other RoI heads: those that fit train and predict, the rest is refused.

Each detector is MMDetection's own config, made narrow, with the box head replaced.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import mmdet
import pytest
import torch
from example_configs import read_config
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from torch import nn

import obc.head.roi_head  # noqa: F401
from obc.detector.other_heads import VarianceHead
from obc.head.refused_roi_heads import UnfitRoIHead

CONFIGS = Path(mmdet.__file__).parent / ".mim/configs"
SIDE, CLASSES, CHANNELS, FCS = 64, 3, 16, 32
NARROW = {256: CHANNELS, 1024: FCS, 512: FCS, 576: 36}
WIDTHS = {
    "in_channels", "out_channels", "feat_channels", "fc_out_channels", "conv_out_channels",
    "fc_channels", "point_feat_channels",
}  # fmt: skip
FASTER = "faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py"


def narrow(config: Any) -> Any:
    """A config with few channels and classes, and nothing to load."""
    if isinstance(config, dict):
        for key, value in config.items():
            if key in WIDTHS and isinstance(value, int):
                config[key] = NARROW.get(value, value)
            elif key == "num_classes":
                config[key] = CLASSES
            elif key in ("nms_pre", "max_per_img"):
                config[key] = 30
            elif key == "score_thr":
                config[key] = 0.0
            elif key == "init_cfg" and "checkpoint" in (value or {}):
                config[key] = None
            else:
                narrow(value)
    elif isinstance(config, list | tuple):
        for value in config:
            narrow(value)
    return config


def obc_head(base: ConfigDict, **options: Any) -> ConfigDict:
    """OBCHead in the place of a box head, with the widths and class loss of that."""
    kept = ("in_channels", "fc_out_channels", "roi_feat_size", "num_classes", "loss_cls")
    head = {key: base[key] for key in kept if key in base}
    coder = {"type": "OffsetBinBBoxCoder", "target_stds": base.bbox_coder.target_stds}
    return ConfigDict(
        {"type": "OBCHead", "reg_class_agnostic": True, "bbox_coder": coder, **head, **options}
    )


def config_of(path: str, **options: Any) -> ConfigDict:
    """The model of one of MMDetection's configs, with OBCHead in every place of a box head."""
    model = narrow(deepcopy(read_config(CONFIGS / path).model))
    model.backbone.update(depth=18, base_channels=8)
    if "neck" in model:
        model.neck.in_channels = [8, 16, 32, 64]
    heads = model.roi_head.bbox_head
    model.roi_head.bbox_head = (
        [obc_head(head, **options) for head in heads]
        if isinstance(heads, list)
        else obc_head(heads, **options)
    )
    return model


def htc() -> ConfigDict:
    return config_of("htc/htc-without-semantic_r50_fpn_1x_coco.py")


def mask_scoring() -> ConfigDict:
    return config_of("ms_rcnn/ms-rcnn_r50_fpn_1x_coco.py")


def point_rend() -> ConfigDict:
    return config_of("point_rend/point-rend_r50-caffe_fpn_ms-1x_coco.py")


def grid() -> ConfigDict:
    model = config_of("grid_rcnn/grid-rcnn_r50_fpn_gn-head_2x_coco.py", with_reg=False)
    model.roi_head.grid_head.update(num_convs=1)
    model.roi_head.grid_head.norm_cfg.num_groups = 4
    return model


def ohem() -> ConfigDict:
    model = config_of(FASTER)
    model.train_cfg.rcnn.sampler.type = "OHEMSampler"
    return model


def ohem_with_two_stages() -> ConfigDict:
    model = ohem()
    model.roi_head.type = "OBCRoIHead"
    model.roi_head.bbox_head.bbox_coder.bins = {"num_stages": 2}
    return model


def c4() -> ConfigDict:
    model = config_of("faster_rcnn/faster-rcnn_r50-caffe_c4-1x_coco.py")
    # The shared layer has ResNet's own widths.
    model.backbone.base_channels = 64
    model.rpn_head.in_channels = 256
    model.roi_head.bbox_roi_extractor.out_channels = 256
    model.roi_head.shared_head.depth = 18
    model.roi_head.bbox_head.in_channels = 512
    return model


def c4_with_two_stages() -> ConfigDict:
    """As the config is written: the box head takes the mean of a RoI feature."""
    model = c4()
    model.roi_head.type = "OBCRoIHead"
    model.roi_head.bbox_head.update(with_avg_pool=True)
    model.roi_head.bbox_head.bbox_coder.bins = {"num_stages": 2}
    return model


def class_specific_cascade() -> ConfigDict:
    return config_of("cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py", reg_class_agnostic=False)


def seesaw() -> ConfigDict:
    loss = {"type": "SeesawLoss", "num_classes": CLASSES, "p": 0.8, "q": 2.0}
    return config_of(FASTER, loss_cls=loss, cls_predictor_cfg={"type": "NormedLinear"})


def seesaw_in_both_stages() -> ConfigDict:
    model = seesaw()
    model.roi_head.type = "OBCRoIHead"
    model.roi_head.bbox_head.update(class_scores="mean")
    model.roi_head.bbox_head.bbox_coder.bins = {"num_stages": 2}
    return model


def focal() -> ConfigDict:
    return config_of(FASTER, loss_cls={"type": "FocalLoss", "use_sigmoid": True})


def build(model: ConfigDict) -> nn.Module:
    with DefaultScope.overwrite_default_scope("mmdet"):
        torch.manual_seed(0)
        detector = MODELS.build(model)
        detector.init_weights()
        return detector


def inputs(detector: nn.Module, masks: bool) -> dict[str, Any]:
    data = demo_mm_inputs(2, (3, SIDE, SIDE), [2, 3], CLASSES, with_mask=masks)
    for sample in data["data_samples"]:
        sample.set_metainfo({"scale_factor": (1.0, 1.0)})
    return detector.data_preprocessor(data, training=detector.training)


FITTING = [
    htc, mask_scoring, point_rend, grid, ohem, ohem_with_two_stages, c4, c4_with_two_stages,
    class_specific_cascade, seesaw, seesaw_in_both_stages, focal,
]  # fmt: skip


@pytest.mark.parametrize("config", FITTING, ids=lambda config: config.__name__)
def test_a_fitting_roi_head_trains_and_predicts(config: Any) -> None:
    model = config()
    boxes_by_bins = config is not grid  # Grid R-CNN takes boxes from its grid
    masks = "mask_head" in model.roi_head
    detector = build(model).train()
    losses = detector(**inputs(detector, masks), mode="loss")
    total, _ = detector.parse_losses(losses)
    total.backward()
    assert torch.isfinite(total)
    box_losses = [value for name, value in losses.items() if name.endswith("loss_bbox")]
    heads = detector.roi_head.bbox_head
    heads = list(heads) if isinstance(heads, nn.ModuleList) else [heads]
    if boxes_by_bins:
        # An untrained head has logits near 0: cross entropy log(22) for each of four coordinates,
        # of each stage, of at most all sampled RoIs.
        for head, loss in zip(heads, box_losses[-len(heads) :], strict=True):
            assert 0 <= loss.sum() <= 4 * 3.1 * 1.1 * head.bbox_coder.bins.num_stages
        gradients = [head.fc_reg.weight.grad for head in heads]
        assert sum(float(gradient.abs().sum()) for gradient in gradients) > 0
    with torch.inference_mode():
        detector.eval()
        results = detector(**inputs(detector, masks), mode="predict")
    for result in results:
        boxes = result.pred_instances.bboxes
        assert len(boxes) > 0 and torch.isfinite(boxes).all()
        if boxes_by_bins:
            assert ((boxes >= 0) & (boxes <= SIDE)).all()


# --- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "losses",
    [
        {"carl": {"k": 1, "bias": 0.2}, "isr": None},
        {"carl": None, "isr": {"k": 2, "bias": 0}},
        {"carl": {"k": 1, "bias": 0.2}, "isr": {"k": 2, "bias": 0}},
        {"carl": None, "isr": None},  # its sampler decodes predictions too
    ],
    ids=lambda losses: "-".join(key for key, value in losses.items() if value) or "sampler",
)
def test_pisa_is_refused_when_the_detector_is_built(losses: Any) -> None:
    model = config_of("pisa/faster-rcnn_r50_fpn_pisa_1x_coco.py")
    model.train_cfg.rcnn.update(losses)
    with pytest.raises(UnfitRoIHead, match=r"PISARoIHead with bbox_head type OBCHead: its sampler"):
        build(model)


def test_dynamic_rcnn_is_refused() -> None:
    with pytest.raises(UnfitRoIHead, match="DynamicRoIHead with bbox_head type OBCHead: it adapts"):
        build(config_of("dynamic_rcnn/dynamic-rcnn_r50_fpn_1x_coco.py"))


def test_double_head_is_refused() -> None:
    with pytest.raises(UnfitRoIHead, match=r"DoubleHeadRoIHead .* two features"):
        build(config_of("double_heads/dh-faster-rcnn_r50_fpn_1x_coco.py"))


def test_multi_instance_is_refused() -> None:
    model = config_of(FASTER)
    model.roi_head.type = "MultiInstanceRoIHead"
    with pytest.raises(UnfitRoIHead, match=r"MultiInstanceRoIHead .* two objects for each RoI"):
        build(model)


def variance_head() -> ConfigDict:
    return ConfigDict(
        type=VarianceHead.__name__, in_channels=CHANNELS, fc_out_channels=FCS, num_classes=CLASSES
    )


def test_another_head_whose_predictions_are_no_deltas_is_refused_too() -> None:
    model = config_of("pisa/faster-rcnn_r50_fpn_pisa_1x_coco.py")
    model.roi_head.bbox_head = variance_head()
    with pytest.raises(UnfitRoIHead, match="bbox_head type VarianceHead"):
        build(model)


def test_dynamic_rcnn_adapts_a_smooth_l1_loss_of_any_head() -> None:
    model = config_of("dynamic_rcnn/dynamic-rcnn_r50_fpn_1x_coco.py")
    model.roi_head.bbox_head = variance_head()
    assert build(model)


def test_mmdetection_s_own_heads_are_built_as_before() -> None:
    for path in (
        "pisa/faster-rcnn_r50_fpn_pisa_1x_coco.py",
        "dynamic_rcnn/dynamic-rcnn_r50_fpn_1x_coco.py",
    ):
        model = narrow(deepcopy(read_config(CONFIGS / path).model))
        model.backbone.update(depth=18, base_channels=8)
        model.neck.in_channels = [8, 16, 32, 64]
        assert build(model)

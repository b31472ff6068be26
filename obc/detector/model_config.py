"""MMDetection configs of a resolved run: the model, and the loader of the validation set.

Pure functions: the same run gives the same config text. Everything starts from the base configs
that MMDetection ships, so a setting that is not edited here has MMDetection's value.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mmdet
from mmengine.config import Config, ConfigDict

import obc.detector.other_heads
import obc.detector.roi_align
import obc.detector.whole_pixels
import obc.head.roi_head  # noqa: F401
from obc.config.box_losses.layers import HeadShape
from obc.config.protocols import LEGACY_CODER, MODEL_EDITS, TRANSFORMS
from obc.config.run import Cascade, ResolvedRun, Stds
from obc.config.scale import Network, Runtime, Sizes
from obc.datasets.index_folder import DataFiles
from obc.detector.batched import compute_in_batches
from obc.detector.timm_backbone import feature_info, pixel_statistics

BASE_CONFIGS = Path(mmdet.__file__).parent / ".mim" / "configs"
BASE_MODEL = {
    "faster_rcnn": "_base_/models/faster-rcnn_r50_fpn.py",
    "cascade_rcnn": "_base_/models/cascade-rcnn_r50_fpn.py",
}
STARTED_PARTS = ("backbone", "neck", "rpn_head")
# For each RoI extractor with MMCV's operator the same extractor with `SeparableRoIAlign`.
SEPARABLE = {
    "SingleRoIExtractor": "SeparableRoIExtractor",
    "WholePixelRoIExtractor": "WholePixelSeparableRoIExtractor",
}


# --- the model ---------------------------------------------------------------------------------


def model_config(run: ResolvedRun, num_classes: int) -> ConfigDict:
    """MMDetection's Faster or Cascade R-CNN with the run's backbone, widths, losses, protocol."""
    spec, sizes = run.spec, run.sizes
    model = Config.fromfile(BASE_CONFIGS / BASE_MODEL[spec.detector]).model
    for path, value in MODEL_EDITS[run.protocol].items():
        _set(model, path, value)
    strides = [stride for stride in (4, 8, 16, 32) if stride >= sizes.finest_stride]
    if run.network.timm is None:
        model.backbone = _resnet(run.network, spec.detector, strides, sizes)
        expansion = 1 if run.network.depth < 50 else 4
        channels = [run.network.base_channels * expansion * stride // 4 for stride in strides]
    else:
        model.backbone = _timm(run.network.timm, run.network.pretrained, strides, sizes)
        info = feature_info(run.network.timm)
        channels = [one["num_chs"] for one in info if one["reduction"] in strides]
        mean, std = pixel_statistics(run.network.timm)
        model.data_preprocessor.update(mean=mean, std=std)
    model.neck.in_channels = channels
    if sizes.finest_stride != 4:
        model.neck.num_outs = len(strides) + 1
        model.rpn_head.anchor_generator.strides = [*strides, 2 * strides[-1]]
        model.roi_head.bbox_roi_extractor.featmap_strides = strides
    model.neck.out_channels = sizes.neck_channels
    if sizes.neck_norm is not None:
        model.neck.norm_cfg = dict(type="BN")
    model.rpn_head.in_channels = model.rpn_head.feat_channels = sizes.neck_channels
    model.rpn_head.anchor_generator.scales = [sizes.anchor_scale]
    extractor = model.roi_head.bbox_roi_extractor
    extractor.out_channels = sizes.neck_channels
    extractor.finest_scale = sizes.finest_scale
    if sizes.sampling_ratio is not None:
        extractor.roi_layer.sampling_ratio = sizes.sampling_ratio
    if sizes.roi_align == "separable":
        extractor.type = SEPARABLE[extractor.type]
    if sizes.train_proposals is not None:
        model.train_cfg.rpn_proposal.update(
            nms_pre=sizes.train_proposals, max_per_img=sizes.train_proposals
        )
    if sizes.test_proposals is not None:
        model.test_cfg.rpn.update(nms_pre=sizes.test_proposals, max_per_img=sizes.test_proposals)
    if spec.cascade is None:
        head, rcnn = model.roi_head.bbox_head, model.train_cfg.rcnn
        model.roi_head.bbox_head = _box_head(head, run, num_classes, spec.target_stds)
        if spec.box.roi_head is not None:
            model.roi_head.type = spec.box.roi_head
        model.train_cfg.rcnn = _rcnn(rcnn, run, rcnn.assigner.pos_iou_thr)
    else:
        _two_stages(model, run, spec.cascade, num_classes)
    return model


def runtime_model_config(run: ResolvedRun, num_classes: int, runtime: Runtime) -> ConfigDict:
    """`model_config`, with batched classes if the scale's runtime asks for them."""
    model = model_config(run, num_classes)
    if runtime.batched:
        compute_in_batches(model, keep_frozen=runtime.keep_images)
    return model


def start_from(model: ConfigDict, weights: Path) -> None:
    """Initialise backbone, neck and RPN of a model config from a detector's weights file."""
    for part in STARTED_PARTS:
        model[part].init_cfg = dict(type="Pretrained", checkpoint=str(weights), prefix=f"{part}.")


def _two_stages(model: ConfigDict, run: ResolvedRun, cascade: Cascade, num_classes: int) -> None:
    """Section 4.2: two stages at IoU .5 and .7; MMDetection's base has three."""
    heads, rcnns = model.roi_head.bbox_head, model.train_cfg.rcnn
    model.roi_head.num_stages = len(cascade.ious)
    model.roi_head.stage_loss_weights = list(cascade.stage_weights)
    model.roi_head.bbox_head = [
        _box_head(heads[0], run, num_classes, stds) for stds in cascade.stage_stds
    ]
    model.train_cfg.rcnn = [_rcnn(rcnns[0], run, iou) for iou in cascade.ious]


def _timm(name: str, weights: str | None, strides: list[int], sizes: Sizes) -> ConfigDict:
    return ConfigDict(
        type="TimmBackbone",
        name=name,
        strides=tuple(strides),
        frozen_stages=sizes.frozen_stages,
        norm_eval=sizes.norm_eval,
        weights=weights,
    )


def _resnet(network: Network, detector: Any, strides: list[int], sizes: Sizes) -> ConfigDict:
    backbone = dict(
        type="ResNet",
        depth=network.depth,
        base_channels=network.base_channels,
        stem_channels=network.base_channels,
        num_stages=4,
        out_indices=tuple(range(4 - len(strides), 4)),
        frozen_stages=sizes.frozen_stages,
        norm_cfg=dict(type="BN", requires_grad=True),
        norm_eval=sizes.norm_eval,
        style="pytorch",
        init_cfg=None,
    )
    if network.groups is not None:
        groups = network.groups[detector]
        backbone |= dict(type="ResNeXt", groups=groups, base_width=network.base_width)
    if network.pretrained is not None:
        backbone["init_cfg"] = dict(type="Pretrained", checkpoint=network.checkpoint(detector))
    return ConfigDict(backbone)


def _box_head(base: ConfigDict, run: ResolvedRun, num_classes: int, stds: Stds) -> ConfigDict:
    """One box head: MMDetection's two shared FC layers with the spec's localisation loss."""
    sizes = run.sizes
    deltas = dict(
        target_means=[0.0, 0.0, 0.0, 0.0],
        target_stds=list(stds),
        legacy=base.bbox_coder.type == LEGACY_CODER,
    )
    shape = HeadShape(
        num_classes, sizes.neck_channels, sizes.fc_channels, run.spec.cascade is not None
    )
    changed = run.spec.box.head(deltas, shape)
    if "_base_" in changed:
        base = Config.fromfile(BASE_CONFIGS / changed.pop("_base_")).model.roi_head.bbox_head
        head = ConfigDict(base.to_dict())
    else:
        head = ConfigDict(base.to_dict())
        head.num_classes = num_classes
        head.in_channels = sizes.neck_channels
        head.fc_out_channels = sizes.fc_channels
        head.bbox_coder.target_stds = list(stds)
    # Assigned, not updated: ConfigDict.update would merge nested dicts with the old values.
    for key, value in changed.items():
        head[key] = value
    return head


def _rcnn(base: ConfigDict, run: ResolvedRun, iou: float) -> ConfigDict:
    rcnn = ConfigDict(base.to_dict())
    rcnn.assigner.update(pos_iou_thr=iou, neg_iou_thr=iou, min_pos_iou=iou)
    rcnn.sampler.num = run.sizes.sampled_rois
    return rcnn


def _set(config: ConfigDict | list[ConfigDict], path: str, value: Any) -> None:
    """Assign a value at a dotted path; if the path reaches a list, in each entry."""
    if isinstance(config, list):
        for entry in config:
            _set(entry, path, value)
        return
    key, _, rest = path.partition(".")
    if rest:
        _set(config[key], rest, value)
    else:
        config[key] = value


# --- the data ----------------------------------------------------------------------------------


def evaluation_config(run: ResolvedRun, data: DataFiles, runtime: Runtime) -> Config:
    """The part of a run's config that an evaluation needs: `model` and `test_dataloader`.

    Args:
        run: the trained run.
        data: the indexed data set; its `val` is the test set.
        runtime: batch size and processes of the loader, and whether the model is batched.
    """
    model = runtime_model_config(run, len(data.classes), runtime)
    return Config(dict(model=model, **test_config(run, data, runtime)))


def test_config(run: ResolvedRun, data: DataFiles, runtime: Runtime) -> dict[str, Any]:
    """Loader, loop and evaluator of the validation set."""
    meta = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")
    load, _, resize = loading(run)
    pipeline = of_protocol(run, [load, resize, dict(type="PackDetInputs", meta_keys=meta)])
    return dict(
        test_dataloader=dict(
            batch_size=runtime.eval_batch_size,
            num_workers=runtime.num_workers,
            persistent_workers=False,
            drop_last=False,
            sampler=dict(type="DefaultSampler", shuffle=False),
            dataset=dict(coco_dataset(data, data.val, pipeline), test_mode=True),
        ),
        test_cfg=dict(type="TestLoop"),
        test_evaluator=dict(type="CocoMetric", ann_file=str(data.val), metric="bbox"),
    )


def loading(run: ResolvedRun) -> list[dict[str, Any]]:
    """Transforms that load an image, load its objects, and resize both."""
    return [
        dict(type="LoadImageFromFile"),
        dict(type="LoadAnnotations", with_bbox=True),
        dict(type="Resize", scale=run.sizes.image_scale[run.spec.dataset], keep_ratio=True),
    ]


def of_protocol(run: ResolvedRun, pipeline: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The pipeline, with today's transforms replaced by those of the run's protocol."""
    replaced = TRANSFORMS[run.protocol]
    return [{**step, "type": replaced.get(step["type"], step["type"])} for step in pipeline]


def coco_dataset(
    data: DataFiles, annotations: Path, pipeline: list[dict[str, Any]]
) -> dict[str, Any]:
    """Config of MMDetection's data set for one index file of an indexed data set."""
    return dict(
        type="CocoDataset",
        ann_file=str(annotations),
        data_prefix=dict(img=str(data.root)),
        metainfo=dict(classes=data.classes),
        pipeline=pipeline,
    )

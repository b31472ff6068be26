"""Both protocols against MMDetection's own configs, key by key, and the page that shows them."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from functools import cache, reduce
from pathlib import Path
from typing import Any

import pytest
from config_leaves import ABSENT, differences
from mmengine.config import Config

from obc.config.load_plan import load_plan
from obc.config.protocols import LAST_PIXEL, LEGACY_CODER, MODEL_EDITS, SCHEDULE, TRANSFORMS
from obc.config.run import ResolvedRun
from obc.config.scale import Scale
from obc.datasets.index_folder import DataFiles
from obc.detector.model_config import BASE_CONFIGS, BASE_MODEL, model_config
from obc.training.exact_resume import ORDER, seed_of
from obc.training.mmdet_config import build_config

DATA = DataFiles(Path("images"), Path("train.json"), Path("val.json"), tuple("abc"))

# Key, or pattern of keys, and why it differs: how a training is started, watched and kept. No
# learning setting may hide here.
AROUND_THE_TRAINING = {
    "auto_scale_lr.*": "for tools/train.py; here it is `scale_lr`, and not asked for",
    "backend_args": "a variable of the file; null",
    "*.backend_args": "null: files are read from the disk either way",
    "custom_hooks.*": "a stop on nan: no hook changes an update",
    "custom_imports.*": "registers the OBC head; the baselines do not use it",
    "data_root": "a variable of the file",
    "dataset_type": "a variable of the file",
    "default_hooks.*": "how often is logged, how many checkpoints are kept, nothing is drawn",
    "randomness.*": "the run's seed",
    "test_dataloader.dataset.pipeline.[23].*": "the evaluator reads the ground truth from the file",
    "test_dataloader.dataset.ann_file": "the checked index",
    "test_dataloader.dataset.data_*": "the checked index",
    "test_dataloader.dataset.metainfo.classes": "the checked index",
    "test_dataloader.persistent_workers": "evaluated once",
    "test_evaluator.ann_file": "the checked index",
    "test_evaluator.format_only": "false, the evaluator's default",
    "test_pipeline.*": "a variable of the file",
    "train_dataloader.dataset.ann_file": "the checked index",
    "train_dataloader.dataset.data_*": "the checked index",
    "train_dataloader.dataset.metainfo.classes": "the checked index",
    "train_dataloader.persistent_workers": "nothing is gained: an image's draws are its own",
    "train_dataloader.worker_init_fn.*": "a signal to stop is the training's",
    "train_pipeline.*": "a variable of the file",
    "train_cfg.val_interval": "nothing is chosen by validation; `obc evaluate` comes after",
    "val_cfg.*": "the same",
    "val_dataloader.*": "the same",
    "val_evaluator.*": "the same",
    "visualizer*": "nothing is drawn",
}
# Key: theirs, ours, why.
PAPER = {
    "optim_wrapper.optimizer.lr": (0.02, 0.005, "section 4; theirs is for 8 GPUs x 2 images"),
    "train_dataloader.batch_size": (2, 4, "section 4: 2 GPUs x 2 images, here on one"),
}
# What lets a training go on after any iteration: the same loop, order and batches, from seeds.
RESUMABLE = {
    "train_cfg.type": ("EpochBasedTrainLoop", "ResumableTrainLoop", "a subclass"),
    "train_dataloader.batch_sampler.type": (
        "AspectRatioBatchSampler", "ResumableBatchSampler", "a subclass",
    ),
    "train_dataloader.sampler.seed": (ABSENT, seed_of(ORDER, 0), "of the run, not drawn"),
}  # fmt: skip
SPELLED_OUT = {
    "model.backbone.base_channels": (ABSENT, 64, "ResNet's default"),
    "model.backbone.stem_channels": (ABSENT, 64, "ResNet's default"),
    "model.roi_head.bbox_roi_extractor.finest_scale": (ABSENT, 56, "the extractor's default"),
}
VERSION_1 = {
    "optim_wrapper.clip_grad.max_norm": (ABSENT, 35.0, "every config of 1.x clips"),
    "optim_wrapper.clip_grad.norm_type": (ABSENT, 2, "every config of 1.x clips"),
    "param_scheduler.0.start_factor": (0.001, 1 / 3, "every config of 1.x starts from a third"),
}
WHOLE_PIXELS = {
    "model.rpn_head.bbox_coder.type": (
        "LegacyDeltaXYWHBBoxCoder", LEGACY_CODER, "theirs decodes boxes a pixel too large",
    ),
    "model.roi_head.bbox_roi_extractor.type": (
        "SingleRoIExtractor", "WholePixelRoIExtractor", "x2 + 1 in level choice and RoIAlign",
    ),
    **{
        f"model.{part}.nms.offset": (ABSENT, 1, "overlap of whole pixels")
        for part in ("train_cfg.rpn_proposal", "test_cfg.rpn", "test_cfg.rcnn")
    },
    **{
        f"model.{part}.min_bbox_size": (0, -1, "0 drops boxes of one whole pixel")
        for part in ("train_cfg.rpn_proposal", "test_cfg.rpn")
    },
    "model.train_cfg.rpn.assigner.iou_calculator.type": (
        ABSENT, "WholePixelOverlaps2D", "overlap of whole pixels",
    ),
    "train_dataloader.dataset.pipeline.1.type": (
        "LoadAnnotations", "WholePixelAnnotations", "x2 = x1 + w - 1",
    ),
    "train_dataloader.dataset.pipeline.2.type": (
        "Resize", "WholePixelResize", "one factor for both axes, the last pixel is the border",
    ),
    "train_dataloader.dataset.pipeline.3.type": (
        "RandomFlip", "WholePixelFlip", "w - x - 1",
    ),
    "test_dataloader.dataset.pipeline.1.type": (
        "Resize", "WholePixelResize", "one factor for both axes",
    ),
}  # fmt: skip


def whole_pixel_heads(*stages: str) -> dict[str, tuple[Any, Any, str]]:
    """The same of the box head and its training, by stage: `""`, or `.0` and `.1` of a cascade."""
    coder = ("LegacyDeltaXYWHBBoxCoder", LEGACY_CODER, "theirs decodes boxes a pixel too large")
    overlaps = (ABSENT, "WholePixelOverlaps2D", "overlap of whole pixels")
    return {
        **{f"model.roi_head.bbox_head{stage}.bbox_coder.type": coder for stage in stages},
        **{
            f"model.train_cfg.rcnn{stage}.assigner.iou_calculator.type": overlaps
            for stage in stages
        },
    }


TWO_STAGES = {
    "model.roi_head.num_stages": (3, 2, "section 4.2"),
    "model.roi_head.stage_loss_weights": ([1, 0.5, 0.25], [1.0, 0.5], "of the first two stages"),
    **{
        f"model.train_cfg.rcnn.1.assigner.{key}": (0.6, 0.7, "section 4.2")
        for key in ("pos_iou_thr", "neg_iou_thr", "min_pos_iou")
    },
}
NO_THIRD_STAGE = {
    "model.roi_head.bbox_head.2.*": "section 4.2: two stages",
    "model.train_cfg.rcnn.2.*": "section 4.2: two stages",
}
NO_MASKS = {
    "model.data_preprocessor.pad_mask": "boxes alone",
    "model.roi_head.mask_*": "boxes alone",
    "model.test_cfg.rcnn.mask_thr_binary": "boxes alone",
    "model.train_cfg.rcnn.[01].mask_size": "boxes alone",
    "*pipeline.*.with_mask": "boxes alone",
}
LOST_LOSSES = {
    "model.roi_head.bbox_head.[01].loss_*": "the file replaces the heads and forgets their losses; "
    "ours are those of 1.x: cross entropy and smooth L1 with beta 1",
}

# (protocol, detector): the shipped file, differences with values, and differences by pattern.
SHIPPED: dict[tuple[str, str], tuple[str, dict[str, tuple[Any, Any, str]], dict[str, str]]] = {
    ("paper_v1", "faster_rcnn"): (
        "legacy_1.x/faster-rcnn_r50_fpn_1x_coco_v1.py",
        {
            **VERSION_1,
            **WHOLE_PIXELS,
            **whole_pixel_heads(""),
            "model.train_cfg.rpn.allowed_border": (-1, 0, "0 in every config of 1.x"),
        },
        {},
    ),
    ("modern", "faster_rcnn"): (
        "faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py",
        {
            "model.roi_head.bbox_head.loss_bbox.type": ("L1Loss", "SmoothL1Loss", "equation 3"),
            "model.roi_head.bbox_head.loss_bbox.beta": (ABSENT, 1.0, "equation 3"),
        },
        {},
    ),
    # Of Cascade R-CNN there is a legacy file with masks only.
    ("paper_v1", "cascade_rcnn"): (
        "legacy_1.x/cascade-mask-rcnn_r50_fpn_1x_coco_v1.py",
        {
            **VERSION_1,
            **WHOLE_PIXELS,
            **whole_pixel_heads(".0", ".1"),
            **TWO_STAGES,
            **{
                f"model.train_cfg.rcnn.{stage}.assigner.match_low_quality": (
                    False, True, "the assigner of 1.x always makes them; so has the Faster file",
                )
                for stage in (0, 1)
            },
            "test_evaluator.metric": (["bbox", "segm"], "bbox", "boxes alone"),
        },
        {**NO_THIRD_STAGE, **NO_MASKS, **LOST_LOSSES},
    ),
    ("modern", "cascade_rcnn"): (
        "cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py",
        TWO_STAGES,
        NO_THIRD_STAGE,
    ),
}  # fmt: skip


def coco_r50(protocol: str, detector: str, loss: str = "smooth_l1") -> tuple[ResolvedRun, Scale]:
    plan = load_plan({"scale": "paper", "protocol": protocol})
    (run,) = (
        run.resolved
        for run in plan.runs.values()
        if (run.resolved.spec.dataset, run.resolved.spec.detector, run.resolved.spec.backbone)
        == ("coco", detector, "r50")
        and run.resolved.spec.box.loss == loss
    )
    return run, plan.scale


@cache
def found(protocol: str, detector: str) -> dict[str, tuple[Any, Any]]:
    """Where our whole training config and the shipped one differ: theirs and ours by key."""
    run, scale = coco_r50(protocol, detector)
    data = DataFiles(DATA.root, DATA.train, DATA.val, tuple(map(str, range(80))))
    ours = build_config(run, 0, data, scale.runtime)
    # Hands its items' seeds to the data set that it wraps.
    seeded = ours.train_dataloader.pop("dataset")
    assert seeded.type == "SeededDataset"
    ours.train_dataloader.dataset = seeded.dataset
    shipped = Config.fromfile(BASE_CONFIGS / SHIPPED[protocol, detector][0])
    return differences(ours.to_dict(), shipped.to_dict())


@pytest.mark.parametrize(("protocol", "detector"), SHIPPED)
def test_a_training_differs_from_mmdetection_s_config_where_it_is_meant_to_and_nowhere_else(
    protocol: str, detector: str
) -> None:
    _, valued, patterns = SHIPPED[protocol, detector]
    patterns = {**AROUND_THE_TRAINING, **patterns}
    valued = {**PAPER, **RESUMABLE, **SPELLED_OUT, **valued}
    unlisted = {
        key: values
        for key, values in found(protocol, detector).items()
        if key not in valued and not any(fnmatchcase(key, pattern) for pattern in patterns)
    }
    assert unlisted == {}


@pytest.mark.parametrize(("protocol", "detector"), SHIPPED)
def test_every_listed_difference_is_one(protocol: str, detector: str) -> None:
    _, valued, patterns = SHIPPED[protocol, detector]
    differing = found(protocol, detector)
    for key, (theirs, ours, _) in {**PAPER, **RESUMABLE, **SPELLED_OUT, **valued}.items():
        assert differing.get(key) == (theirs, ours), key
    idle = [
        pattern
        for pattern in {**AROUND_THE_TRAINING, **patterns}
        if not any(fnmatchcase(key, pattern) for key in differing)
    ]
    assert idle == []


def test_what_is_around_a_training_hides_no_setting_of_it() -> None:
    settings = ("model.*", "optim_wrapper.*", "param_scheduler.*", "train_cfg.max_epochs")
    samplers = ("train_dataloader.sampler.*", "train_dataloader.batch_*", "*.filter_cfg.*")
    for protocol, detector in SHIPPED:
        for key in found(protocol, detector):
            if any(fnmatchcase(key, setting) for setting in (*settings, *samplers)):
                assert not any(fnmatchcase(key, pattern) for pattern in AROUND_THE_TRAINING), key


# --- what a protocol reaches -------------------------------------------------------------------


@pytest.mark.parametrize("detector", ["faster_rcnn", "cascade_rcnn"])
@pytest.mark.parametrize("protocol", MODEL_EDITS)
def test_offset_bins_and_the_baseline_use_the_same_kind_of_box(
    protocol: str, detector: str
) -> None:
    run, _ = coco_r50(protocol, detector, loss="offset_bin")
    heads = model_config(run, 80).roi_head.bbox_head
    heads = heads if isinstance(heads, list) else [heads]
    assert {head.bbox_coder.legacy for head in heads} == {protocol == "paper_v1"}


def test_a_schedule_s_own_warm_up_and_clip_stand_above_the_protocol_s() -> None:
    for protocol in SCHEDULE:
        schedule = load_plan({"scale": "smoke", "protocol": protocol}).scale.schedule
        assert (schedule.warmup_ratio, schedule.grad_clip) == (0.1, 35.0)


def test_no_clip_can_be_asked_for_in_either_protocol() -> None:
    change = {"schedule.grad_clip": None}
    plan = load_plan({"scale": "paper", "label": "x", "change": change})
    assert plan.scale.protocol == "paper_v1" and plan.scale.schedule.grad_clip is None


# --- docs/protocols.md -------------------------------------------------------------------------


def shown(value: Any) -> str:
    if isinstance(value, dict):
        beta = f"({value['beta']:.3g})" if "beta" in value else ""
        return value["type"] + beta
    return {None: "none"}.get(value, f"{value:.3g}" if isinstance(value, float) else str(value))


def shipped_values(path: str) -> str:
    """What MMDetection 3.x has at a path of the model, of Faster and, if it differs, of Cascade."""
    # Not in the base configs: the defaults of AnchorGenerator and RoIAlign.
    defaults = {"center_offset": 0.0, "aligned": True}
    values = []
    for base in BASE_MODEL.values():
        model = Config.fromfile(BASE_CONFIGS / base).model
        value = reduce(
            lambda part, key: (part[0] if isinstance(part, list) else part).get(
                key, defaults.get(key)
            ),
            path.split("."),
            model,
        )
        values.append(shown(value))
    return values[0] if len(set(values)) == 1 else f"{values[0]} (Cascade: {values[1]})"


def test_the_page_shows_both_protocols_as_they_are() -> None:
    page = Path("docs/protocols.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| [^|]+ \| `([\w.]+)` \| ([^|]+) \| ([^|]+) \|$", page, re.MULTILINE)
    edits = MODEL_EDITS["paper_v1"]
    expected = [(path, shown(value), shipped_values(path)) for path, value in edits.items()]
    expected += [
        (f"pipeline.{name}", replacement, name)
        for name, replacement in TRANSFORMS["paper_v1"].items()
    ]
    pixels = (str(LAST_PIXEL[protocol]) for protocol in ("paper_v1", "modern"))
    expected.append(("detections.last_pixel", *pixels))
    expected += [
        (f"schedule.{key}", shown(SCHEDULE["paper_v1"][key]), shown(value))
        for key, value in SCHEDULE["modern"].items()
    ]
    assert rows == expected

"""Deviations of a plan from the paper's setting; every table that they affect reports them.

The setting has three sources: the implementation details of section 4, which are the same for both
data sets except for the image scale; the networks that the paper's tables name; and MMDetection's
defaults of that time, to which section 4 refers for everything else. The learning rate follows by
the linear rule from MMDetection's 0.02 for 8 GPUs x 2 images, so it agrees with MMDetection's
schedule for COCO.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from obc.config.protocols import MODEL_EDITS, SCHEDULE, Protocol
from obc.config.scale import BackboneName, Network, Scale, Schedule, Sizes
from obc.datasets.settings import DatasetName


@dataclass(frozen=True)
class Setting:
    """The settings that decide a result, besides the method and the data.

    Attributes:
        gpus: number of GPUs that train one run together; 0 is the CPU.
        amp: the type of mixed precision; None: float32.
        tf32: whether the scale switches TF32 on; torch's default counts as off.
        networks: the ResNet behind each backbone, and the weights that it starts from.
    """

    gpus: int
    amp: str | None
    tf32: bool
    protocol: Protocol
    networks: dict[BackboneName, Network]
    schedule: Schedule
    sizes: Sizes


_PAPER_EDITS = MODEL_EDITS["paper_v1"]
PAPER = Setting(
    gpus=2,
    amp=None,
    tf32=False,
    protocol="paper_v1",
    networks={
        "r50": Network(depth=50, pretrained="torchvision://resnet50"),
        "r101": Network(depth=101, pretrained="torchvision://resnet101"),
        "x101": Network(
            depth=101,
            # Section 4 does not say which ResNeXt-101; these have the AP of its baselines.
            groups={"faster_rcnn": 64, "cascade_rcnn": 32},
            base_width=4,
            pretrained="open-mmlab://resnext101_{groups}x4d",
        ),
    },
    schedule=Schedule(
        epochs=12,
        steps=(8, 11),
        lr=0.005,
        batch_size=4,  # 2 GPUs x 2 images
        warmup_iters=500,
        **SCHEDULE["paper_v1"],
    ),
    sizes=Sizes(
        image_scale={"voc": (1000, 600), "coco": (1333, 800)},
        train_proposals=_PAPER_EDITS["train_cfg.rpn_proposal.max_per_img"],
        test_proposals=1000,
        sampling_ratio=_PAPER_EDITS["roi_head.bbox_roi_extractor.roi_layer.sampling_ratio"],
    ),
)
# Sizes that a scale may leave to its protocol; the protocol is compared as a key of its own.
PROTOCOL_S = ("train_proposals", "test_proposals", "sampling_ratio")
STATED = ("gpus", "epochs", "steps", "lr", "batch_size", "image_scale", "depth")
STATED_SOURCE = "section 4"
DEFAULT_SOURCE = "MMDetection's default of January 2020, to which section 4 refers"
WORDS = {
    "amp": "mixed precision",
    "tf32": "matrix products in TF32",
    "gpus": "GPUs that train one run",
    "batch_size": "images a step",
    "lr": "learning rate",
    "steps": "epochs after which the learning rate falls",
}


@dataclass(frozen=True)
class Deviation:
    """A value that is not the paper's.

    Attributes:
        name: name of the key, e.g. `lr`.
        remark: a clause to append; may be empty.
    """

    name: str
    ours: Any
    paper: Any
    remark: str = ""

    def __str__(self) -> str:
        """A sentence without its full stop, e.g. for a footnote."""
        words = WORDS.get(self.name, self.name.replace("_", " "))
        source = STATED_SOURCE if self.name in STATED else DEFAULT_SOURCE
        return (
            f"deviates from the paper: {words}: {_shown(self.ours)} instead of "
            f"{_shown(self.paper)} ({source}){self.remark}"
        )


def deviations(
    scale: Scale,
    dataset: DatasetName,
    backbones: Sequence[BackboneName],
    gpus: int,
    scale_lr: bool = False,
) -> tuple[Deviation, ...]:
    """Every value in which the trainings on a data set differ from the paper's.

    Args:
        scale: the scale, changes included.
        backbones: the backbones that are trained.
        gpus: number of GPUs that train one run together.
        scale_lr: whether the learning rate of the scale was scaled with the batch.
    """
    runtime = scale.runtime
    ours = Setting(
        gpus, runtime.amp, bool(runtime.tf32), scale.protocol, scale.networks, scale.schedule,
        scale.sizes,
    )  # fmt: skip
    theirs = dict(_values(PAPER, dataset, backbones))
    remarks = {}
    if scale.schedule.batch_size == PAPER.schedule.batch_size:
        remarks["gpus"] = f", with the same {PAPER.schedule.batch_size} images a step"
    if scale_lr and scale.schedule.batch_size != PAPER.schedule.batch_size:
        remarks["lr"] = ", scaled with the images a step"
    return tuple(
        Deviation(name, value, theirs[name, where], where or remarks.get(name, ""))
        for (name, where), value in _values(ours, dataset, backbones)
        if value != theirs[name, where] and not (value is None and name in PROTOCOL_S)
    )


def scaled_lr(schedule: Schedule) -> float:
    """The learning rate by the linear rule: times batch size, divided by the paper's batch size."""
    return schedule.lr * (schedule.batch_size / PAPER.schedule.batch_size)


def _values(
    setting: Setting, dataset: DatasetName, backbones: Sequence[BackboneName]
) -> Iterator[tuple[tuple[str, str], Any]]:
    """Yield ((name, remark or empty text), value) of everything that is compared."""
    for name in ("gpus", "amp", "tf32", "protocol"):
        yield (name, ""), getattr(setting, name)
    for name, value in setting.schedule:
        yield (name, ""), value
    for name, value in setting.sizes:
        if name == "image_scale":
            yield (name, f", on {dataset}"), value[dataset]
        else:
            yield (name, ""), value
    for backbone in backbones:
        for name, value in setting.networks[backbone]:
            yield (name, f", in {backbone}"), value


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(map(_shown, value)) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_shown(entry)}" for key, entry in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)

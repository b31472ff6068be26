"""The typed specifications of the suite: what a run, a table, a figure and a scale *are*.

A table row says what the paper says (`RunSpec`); a scale says with how much (`Scale`);
`resolve` joins the two into a `ResolvedRun`, and the hash of that is the run id. Nothing else
decides a run. Every model forbids unknown keys and is immutable.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

METRICS = ("AP", "AP50", "AP60", "AP70", "AP75", "AP80", "AP90", "AP_S", "AP_M", "AP_L")
VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor",
)  # fmt: skip

Metric = Literal["AP", "AP50", "AP60", "AP70", "AP75", "AP80", "AP90", "AP_S", "AP_M", "AP_L"]
DatasetName = Literal["voc", "coco"]
DetectorName = Literal["faster_rcnn", "cascade_rcnn"]
BackboneName = Literal["r50", "r101", "x101"]
Decode = Literal["expectation", "argmax", "regression"]
Protocol = Literal["paper_v1", "modern"]
Difficult = Literal["gt", "ignore"]
Stds = tuple[float, float, float, float]


class Strict(BaseModel):
    """Immutable model that refuses keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


# --- the method: what the paper varies ---------------------------------------------------------


class SmoothL1(Strict):
    """Box regression with smooth L1 (equation 3)."""

    loss: Literal["smooth_l1"]
    beta: float = Field(1.0, gt=0, description="where the quadratic part ends (equation 3)")
    loss_weight: float = Field(1.0, gt=0)


class L2(Strict):
    """Box regression with the squared error, without the factor 1/2 (MMDetection's MSELoss)."""

    loss: Literal["l2"]
    loss_weight: float = Field(1.0, gt=0)


class OffsetBin(Strict):
    """Offset bin classification (section 3.2) and every switch the paper leaves open."""

    loss: Literal["offset_bin"]
    max_offset: float = Field(3.0, gt=0, description="a: half width of the first stage's range")
    num_bins: int = Field(20, ge=3, le=1000, description="n of the paper, see overflow switch")
    num_stages: int = Field(1, ge=1, le=5, description="K of section 3.2.4")
    stage_ranges: tuple[float, ...] | None = Field(
        None, description="a_1..a_K; null: a_{k+1} = w_k / 2"
    )
    bins_include_overflow: bool = Field(False, description="does num_bins count (-inf,-a], [a,inf)")
    out_of_range: Literal["overflow", "ignore"] = "overflow"
    residual: Literal["gt_bin", "pred"] = "gt_bin"
    stage_fcs: Literal[0, 2] = 0
    bin_norm: Literal["sampled", "positive"] = "sampled"
    coord_reduction: Literal["sum", "mean"] = "sum"
    reg_class_agnostic: bool = True
    loss_weight: float = Field(1.0, gt=0, description="lambda_bin of equation 9")

    @model_validator(mode="after")
    def _ranges_match_stages(self) -> OffsetBin:
        if self.stage_ranges is not None and len(self.stage_ranges) != self.num_stages:
            raise ValueError(
                f"stage_ranges {self.stage_ranges} has {len(self.stage_ranges)} entries, "
                f"allowed: exactly num_stages = {self.num_stages}"
            )
        return self


Box = Annotated[SmoothL1 | L2 | OffsetBin, Field(discriminator="loss")]


class Cascade(Strict):
    """The two-stage Cascade R-CNN of section 4.2."""

    ious: tuple[float, ...] = (0.5, 0.7)
    stage_stds: tuple[Stds, ...] = ((0.1, 0.1, 0.2, 0.2), (0.05, 0.05, 0.1, 0.1))
    stage_weights: tuple[float, ...] = (1.0, 0.5)

    @model_validator(mode="after")
    def _same_length(self) -> Cascade:
        lengths = {len(self.ious), len(self.stage_stds), len(self.stage_weights)}
        if len(lengths) != 1:
            raise ValueError("ious, stage_stds and stage_weights must have one entry per stage")
        return self


class RunSpec(Strict):
    """What one training *is*, in the paper's words; independent of scale and seed."""

    dataset: DatasetName
    detector: DetectorName
    backbone: BackboneName
    box: Box
    target_stds: Stds = Field((0.1, 0.1, 0.2, 0.2), description="normalisation of the offsets")
    cascade: Cascade | None = Field(None, description="only with detector: cascade_rcnn")

    @model_validator(mode="before")
    @classmethod
    def _default_cascade(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and raw.get("detector") == "cascade_rcnn":
            return {**raw, "cascade": raw.get("cascade") or {}}
        return raw

    @model_validator(mode="after")
    def _cascade_only_for_cascade(self) -> RunSpec:
        if self.cascade is not None and self.detector != "cascade_rcnn":
            raise ValueError(f"cascade is allowed only with cascade_rcnn, not {self.detector}")
        return self

    @property
    def decodes(self) -> tuple[Decode, ...]:
        """The decodings that a trained run of this spec can be evaluated with, default first."""
        if isinstance(self.box, OffsetBin):
            return ("expectation", "argmax")
        return ("regression",)


# --- the data ----------------------------------------------------------------------------------


class ShapesData(Strict):
    """The embedded data set: scenes that the project draws itself."""

    kind: Literal["shapes"]
    layout: DatasetName
    version: Literal[1] = 1
    seed: int = Field(ge=0)
    image_size: int = Field(ge=32, le=1024, description="pixels, square")
    train_images: int = Field(ge=1)
    val_images: int = Field(ge=1)
    num_classes: int = Field(ge=2, le=12)
    objects: tuple[int, int] = Field(description="fewest and most objects in an image")
    difficult: Difficult = "gt"
    object_size: tuple[float, float] = Field(
        description="smallest and largest object, longer side as a fraction of the image"
    )

    @model_validator(mode="after")
    def _ordered(self) -> ShapesData:
        if not 1 <= self.objects[0] <= self.objects[1]:
            raise ValueError(f"objects {self.objects}: allowed is 1 <= fewest <= most")
        if not 0 < self.object_size[0] <= self.object_size[1] <= 1:
            raise ValueError(f"object_size {self.object_size}: allowed is 0 < min <= max <= 1")
        return self


class VocData(Strict):
    """A folder in PASCAL VOC layout; splits are `train` or, in a devkit, `VOC2007/trainval`."""

    kind: Literal["voc"]
    root: Path
    train: tuple[str, ...] = Field(("train",), min_length=1)
    val: tuple[str, ...] = Field(("val",), min_length=1)
    classes: tuple[str, ...] = Field(VOC_CLASSES, min_length=1)
    difficult: Difficult = "gt"
    max_train_images: int | None = Field(None, ge=1)
    max_val_images: int | None = Field(None, ge=1)
    expected_train_images: int | None = Field(None, description="as published; checked")
    expected_val_images: int | None = None


class CocoData(Strict):
    """A folder in COCO layout: `annotations/instances_<split>.json` and `<split>/` images."""

    kind: Literal["coco"]
    root: Path
    train: str = "train2017"
    val: str = "val2017"
    max_train_images: int | None = Field(None, ge=1)
    max_val_images: int | None = Field(None, ge=1)
    expected_train_images: int | None = Field(None, description="as published; checked")
    expected_val_images: int | None = None


Data = Annotated[ShapesData | VocData | CocoData, Field(discriminator="kind")]


# --- the scale: with how much ------------------------------------------------------------------


class Network(Strict):
    """The ResNet or ResNeXt that stands for `r50`, `r101` or `x101` at a scale."""

    depth: Literal[18, 34, 50, 101, 152]
    base_channels: int = Field(64, ge=4)
    groups: dict[DetectorName, int] | None = Field(
        None, description="ResNeXt cardinality per detector; null: a plain ResNet"
    )
    base_width: int = Field(4, ge=1, description="ResNeXt width of a group")
    pretrained: str | None = Field(
        None, description="checkpoint to start from; {groups} is filled in; null: from scratch"
    )


class Schedule(Strict):
    """SGD with step decay; an epoch is one pass over the (possibly repeated) training set."""

    epochs: int = Field(ge=1)
    steps: tuple[int, ...] = Field(description="epochs after which lr is multiplied by 0.1")
    lr: float = Field(gt=0)
    batch_size: int = Field(ge=1, description="images a step, over all devices")
    warmup_iters: int = Field(ge=0)
    warmup_ratio: float = Field(gt=0, le=1)
    momentum: float = 0.9
    weight_decay: float = 1e-4
    grad_clip: float | None = Field(None, gt=0, description="largest gradient norm; null: none")
    repeat_times: int = Field(1, ge=1)


class Sizes(Strict):
    """Widths and counts of the detector around the box head."""

    image_scale: dict[DatasetName, tuple[int, int]] = Field(description="longest, shortest side")
    neck_channels: int = 256
    fc_channels: int = 1024
    anchor_scale: int = Field(8, ge=1, description="anchor side / stride")
    finest_scale: int = Field(56, ge=1, description="RoIs under twice this go to the finest level")
    sampled_rois: int = Field(512, ge=4, description="RoIs an image that the box head trains on")
    train_proposals: int | None = Field(None, ge=1, description="null: the protocol's")
    test_proposals: int | None = Field(None, ge=1, description="null: the protocol's")
    norm_eval: bool = Field(True, description="batch norm keeps the statistics it started with")
    frozen_stages: int = Field(1, ge=-1, le=4)


class Runtime(Strict):
    """How a job uses its machine; never part of a run id."""

    gpus: int = Field(0, ge=0, description="GPUs that a training asks the scheduler for")
    num_workers: int = Field(0, ge=0, description="processes that load images")
    eval_batch_size: int = Field(1, ge=1)
    keep_weights: bool = Field(
        False, description="do not train again because code or data changed; tables say it instead"
    )


class OwnData(Strict):
    """How much of a user's own folder (voc_root, coco_root) this scale uses, and how large."""

    train_images: int | None = Field(None, ge=1, description="null: all of them")
    val_images: int | None = Field(None, ge=1, description="null: all of them")
    image_scale: tuple[int, int] | None = Field(None, description="null: as sizes.image_scale")


class Scale(Strict):
    """One of `smoke`, `mini`, `paper`, or a file of one's own in config/scales."""

    name: str
    description: str
    protocol: Protocol
    data: dict[DatasetName, Data]
    networks: dict[BackboneName, Network]
    schedule: Schedule
    sizes: Sizes
    own_data: OwnData = OwnData()
    runtime: Runtime = Runtime()


# --- tables and figures ------------------------------------------------------------------------


class Row(Strict):
    """A line of a table: the paper's label and numbers, and the spec (or a citation)."""

    label: str
    columns: dict[str, str] = Field({}, description="further label columns, e.g. Backbone")
    block: str = Field("", description="rows of one block compete for the bold print")
    cited: bool = Field(False, description="a number from the literature; never trained")
    run: RunSpec | None = None
    decode: Decode | None = None
    paper: tuple[float | None, ...] | None = None

    @model_validator(mode="after")
    def _spec_or_citation(self) -> Row:
        if self.cited == (self.run is not None):
            raise ValueError("a row is either cited: true or has a spec (detector, backbone, box)")
        if self.cited and self.paper is None:
            raise ValueError("a cited row needs its published numbers in paper:")
        if self.run is not None and self.decode not in self.run.decodes:
            raise ValueError(
                f"decode {self.decode!r} does not fit box loss {self.run.box.loss!r}, "
                f"allowed: {', '.join(self.run.decodes)}"
            )
        return self


class Plot(Strict):
    """How a figure draws its rows: one line per series value, one point per x value."""

    x: str = Field(description="dotted key of the spec on the horizontal axis")
    x_label: str
    series: str = Field(description="dotted key of the spec that separates the lines")
    series_label: str
    colors: dict[str, str] = Field(description="series value: colour, as in the paper")


class TableSpec(Strict):
    """A table of the paper: one file in config/experiments."""

    kind: Literal["table"] = "table"
    name: str
    title: str
    section: str
    dataset: DatasetName
    metrics: tuple[Metric, ...] = Field(min_length=1)
    rows: tuple[Row, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _one_number_per_metric(self) -> TableSpec:
        for row in self.rows:
            if row.paper is not None and len(row.paper) != len(self.metrics):
                raise ValueError(
                    f"row {row.label!r}: paper has {len(row.paper)} numbers, "
                    f"allowed: one per metric = {len(self.metrics)} ({', '.join(self.metrics)})"
                )
            if row.run is not None and row.run.dataset != self.dataset:
                raise ValueError(f"row {row.label!r} is on {row.run.dataset}, not {self.dataset}")
        return self


class FigureSpec(TableSpec):
    """A figure of the paper that is a grid of runs; its rows are also written as a table."""

    kind: Literal["figure"] = "figure"
    plot: Plot


# --- one resolved run and its id ---------------------------------------------------------------


class ResolvedRun(Strict):
    """Everything that decides the weights of a run but its seed; the run id hashes this."""

    spec: RunSpec
    protocol: Protocol
    network: Network
    schedule: Schedule
    sizes: Sizes
    data: dict[str, Any] = Field(description="identity of the data set, see data_identity")

    @property
    def run_id(self) -> str:
        """Readable slug plus 8 hex digits of the hash of every field."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return f"{slug(self.spec)}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def data_identity(data: ShapesData | VocData | CocoData, fingerprint: str | None) -> dict[str, Any]:
    """What makes a data set this data set, wherever it lies: its settings without the folder.

    Args:
        fingerprint: quick digest of a user's own folder; None for the embedded data and for
            published data sets, which their counts identify (so that a plan needs no download).
    """
    return {**data.model_dump(mode="json", exclude={"root"}), "fingerprint": fingerprint}


def resolve(spec: RunSpec, scale: Scale, identity: dict[str, Any]) -> ResolvedRun:
    """Join a spec with the parts of a scale that concern it (and no others: see run_id)."""
    network = scale.networks[spec.backbone]
    if network.groups is not None:
        network = network.model_copy(
            update={"groups": {spec.detector: network.groups[spec.detector]}}
        )
    image_scale = {spec.dataset: scale.sizes.image_scale[spec.dataset]}
    return ResolvedRun(
        spec=spec,
        protocol=scale.protocol,
        network=network,
        schedule=scale.schedule,
        sizes=scale.sizes.model_copy(update={"image_scale": image_scale}),
        data=identity,
    )


def slug(spec: RunSpec) -> str:
    """Readable name of a spec, e.g. `voc-faster-r50-obc-a3-n20-k2`; not unique by itself."""
    box, method = spec.box, "l2"
    if isinstance(box, OffsetBin):
        method = f"obc-a{box.max_offset:g}-n{box.num_bins}-k{box.num_stages}"
    elif isinstance(box, SmoothL1):
        method = f"smoothl1-b{box.beta:g}"
    return f"{spec.dataset}-{spec.detector.removesuffix('_rcnn')}-{spec.backbone}-{method}"

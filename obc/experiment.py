"""What a run, a table and a figure *are*: the method in the paper's words, and run ids.

A table row says what the paper says (`RunSpec`); a scale says with how much (`obc.scale`);
`resolve` joins the two into a `ResolvedRun`, and the hash of that is the run id. Nothing else
decides a run. Every model forbids unknown keys and is immutable.
"""

from __future__ import annotations

import hashlib
import json
from functools import reduce
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from obc.box_losses import Box, NoBox, OffsetBin, SideAware, SmoothL1
from obc.protocols import Protocol
from obc.scale import (
    BackboneName,
    DatasetName,
    DetectorName,
    Fraction,
    Network,
    Scale,
    Schedule,
    Sizes,
    Strict,
)

METRICS = ("AP", "AP50", "AP60", "AP70", "AP75", "AP80", "AP90", "AP_S", "AP_M", "AP_L")

Metric = Literal["AP", "AP50", "AP60", "AP70", "AP75", "AP80", "AP90", "AP_S", "AP_M", "AP_L"]
Decode = Literal["expectation", "argmax", "argmax_expectation", "first_stage", "regression"]
Stds = tuple[PositiveFloat, PositiveFloat, PositiveFloat, PositiveFloat]
Percent = Annotated[float, Field(ge=0, le=100)]
DEFAULT_STDS = (0.1, 0.1, 0.2, 0.2)


# --- what one training is -----------------------------------------------------------------------


class Cascade(Strict):
    """The two-stage Cascade R-CNN of section 4.2."""

    ious: tuple[Fraction, ...] = Field(
        (0.5, 0.7), min_length=1, description="IoU from which a RoI counts as an object, a stage"
    )
    stage_stds: tuple[Stds, ...] = Field(
        (DEFAULT_STDS, (0.05, 0.05, 0.1, 0.1)), description="normalisation of the offsets, a stage"
    )
    stage_weights: tuple[PositiveFloat, ...] = Field((1.0, 0.5), description="of a stage's loss")

    @model_validator(mode="after")
    def _same_length(self) -> Cascade:
        lengths = {len(self.ious), len(self.stage_stds), len(self.stage_weights)}
        if len(lengths) != 1:
            raise ValueError("ious, stage_stds and stage_weights must have one entry per stage")
        return self


class RunSpec(Strict):
    """What one training *is*, in the paper's words; independent of scale and seed."""

    dataset: DatasetName = Field(description="of the table")
    detector: DetectorName = Field(description="what is around the box head")
    backbone: BackboneName = Field(description="a network of the scale")
    box: Box = Field(description="how boxes are learnt, see below")
    target_stds: Stds = Field(DEFAULT_STDS, description="normalisation of the offsets")
    cascade: Cascade | None = Field(None, description="only with detector: cascade_rcnn")
    protocol: Protocol | None = Field(None, description="null: the scale's")
    repeat_times: PositiveInt | None = Field(
        None, description="how often an epoch goes over the training set; null: the scale's"
    )

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
        if self.cascade is not None and self.target_stds != DEFAULT_STDS:
            raise ValueError("target_stds has no effect in a cascade; use cascade.stage_stds")
        return self

    @model_validator(mode="after")
    def _stages_of_a_cascade_share_a_feature(self) -> RunSpec:
        if self.cascade is not None and isinstance(self.box, OffsetBin) and self.box.looks_again:
            raise ValueError(
                f"num_stages {self.box.num_stages} with stage_features {self.box.stage_features} "
                "in a cascade, allowed there: num_stages 1 (section 4.2), or stage_features shared"
            )
        return self

    @model_validator(mode="after")
    def _sabl_only_by_itself(self) -> RunSpec:
        if isinstance(self.box, SideAware) and (
            self.cascade is not None or self.target_stds != DEFAULT_STDS
        ):
            raise ValueError(
                "box loss sabl is allowed with faster_rcnn only, and without target_stds: "
                "it learns buckets of the sides, not normalised offsets"
            )
        return self

    @property
    def decodes(self) -> tuple[Decode, ...]:
        """The decodings that a trained run of this spec can be evaluated with, default first."""
        if isinstance(self.box, NoBox):
            return ()
        if isinstance(self.box, OffsetBin):
            of_stages = ("argmax_expectation", "first_stage") if self.box.num_stages > 1 else ()
            return ("expectation", "argmax", *of_stages)
        return ("regression",)


# --- tables and figures ------------------------------------------------------------------------


class Row(Strict):
    """A line of a table: the paper's label and numbers, and the spec (or a citation)."""

    label: str = Field(description="as the paper prints it")
    key: str | None = Field(
        None, pattern=r"^[a-z]\w*$", description="how claims.yaml and `against` name it"
    )
    against: str | None = Field(
        None,
        description="key of a row that this one is compared with, in <table>_compared.md",
    )
    columns: dict[str, str] = Field({}, description="further label columns, e.g. Backbone")
    block: str = Field("", description="rows of one block compete for the bold print")
    cited: bool = Field(False, description="a number from the literature; never trained")
    run: RunSpec | None = Field(None, description="what is trained")
    decode: Decode | None = Field(
        None,
        description="how bins become offsets; left out: expectation for bins, regression otherwise",
    )
    paper: tuple[Percent | None, ...] | None = Field(
        None, description="the published numbers, one for each metric; null: not published"
    )

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
    x_label: str = Field(description="at the horizontal axis")
    series: str = Field(description="dotted key of the spec that separates the lines")
    series_label: str = Field(description="what the lines are, in the legend")
    colors: dict[str, Annotated[str, Field(pattern="^#[0-9a-fA-F]{6}$")]] = Field(
        description="series value: colour, as in the paper"
    )

    def value(self, run: RunSpec, axis: Literal["x", "series"]) -> float:
        """The number at the dotted key of an axis; ValueError when there is none."""
        key: str = getattr(self, axis)
        found = reduce(lambda part, name: getattr(part, name, None), key.split("."), run)
        if isinstance(found, bool) or not isinstance(found, int | float):
            raise ValueError(f"plot.{axis}: {key} is {found!r} in a row, allowed: a number")
        return found

    def line(self, run: RunSpec) -> str:
        """The series value of a row as `colors` and the legend name it."""
        return f"{self.value(run, 'series'):g}"


class Resembles(Strict):
    """Which row of a table of the paper each row here resembles, in its difference to one row."""

    table: str = Field(description="a table of the paper")
    less: str = Field(description="key of its row that its other rows are compared with")
    ours: str = Field(description="key of the row here that stands for that row")


class TableSpec(Strict):
    """A table of the paper: one file in config/experiments."""

    kind: Literal["table"] = "table"
    name: str = Field(pattern=r"^[A-Za-z]\w*$", description="of the file; also the target")
    title: str = Field(description="of the caption")
    section: str = Field("", description="of the paper; left out with `beyond`")
    dataset: DatasetName = Field(description="of all rows")
    beyond: bool = Field(
        False,
        description="not the paper's: made when it is named, and not by `all`; brings no seeds to "
        "runs that it shares with the paper's tables",
    )
    resembles: Resembles | None = Field(
        None,
        description="names in <table>_compared.md the paper's row that each row with the detector "
        "and box loss of `ours` is nearest to, by differences in the metrics of both tables",
    )
    metrics: tuple[Metric, ...] = Field(min_length=1, description="the columns")
    rows: tuple[Row, ...] = Field(min_length=1, description="the lines, see below")

    @model_validator(mode="after")
    def _keys_differ(self) -> TableSpec:
        keys = [row.key for row in self.rows if row.key is not None]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise ValueError(f"key {', '.join(twice)} names two rows; each row needs its own")
        return self

    @model_validator(mode="after")
    def _the_paper_s_have_a_section(self) -> TableSpec:
        if self.beyond == bool(self.section):
            raise ValueError(
                "a table has either a section of the paper or beyond: true, which is made only "
                "when it is named"
            )
        return self

    @model_validator(mode="after")
    def _compared_with_rows_that_are_there(self) -> TableSpec:
        trained = [key for key, row in self.keyed_rows.items() if not row.cited]
        for row in self.compared_rows:
            if row.against not in trained or row.against == row.key or row.key is None:
                raise ValueError(
                    f"row {row.label!r}: against is {row.against!r}, allowed: the key of another "
                    f"row that is trained ({', '.join(trained)}), and a key of its own"
                )
        return self

    @model_validator(mode="after")
    def _resembles_by_a_trained_row(self) -> TableSpec:
        key = None if self.resembles is None else self.resembles.ours
        if key is not None and (key not in self.keyed_rows or self.keyed_rows[key].cited):
            known = ", ".join(name for name, row in self.keyed_rows.items() if not row.cited)
            raise ValueError(f"resembles.ours is {key!r}, allowed: the key of a row ({known})")
        return self

    @model_validator(mode="after")
    def _one_number_per_metric(self) -> TableSpec:
        if len(set(self.metrics)) != len(self.metrics):
            raise ValueError(f"metrics {', '.join(self.metrics)}: one is named twice")
        for row in self.rows:
            if row.paper is not None and len(row.paper) != len(self.metrics):
                raise ValueError(
                    f"row {row.label!r}: paper has {len(row.paper)} numbers, "
                    f"allowed: one per metric = {len(self.metrics)} ({', '.join(self.metrics)})"
                )
            if row.run is not None and row.run.dataset != self.dataset:
                raise ValueError(f"row {row.label!r} is on {row.run.dataset}, not {self.dataset}")
        return self

    @property
    def keyed_rows(self) -> dict[str, Row]:
        """The rows that claims can name."""
        return {row.key: row for row in self.rows if row.key is not None}

    @property
    def compared_rows(self) -> tuple[Row, ...]:
        """The rows that name another one to be compared with."""
        return tuple(row for row in self.rows if row.against is not None)

    def published(self, row: Row, metric: str) -> float | None:
        """The paper's number of a cell, in percent; None where it prints none."""
        return None if row.paper is None else row.paper[self.metrics.index(metric)]


class FigureSpec(TableSpec):
    """A figure of the paper that is a grid of runs; its rows are also written as a table."""

    kind: Literal["figure"] = "figure"
    plot: Plot = Field(description="how it is drawn")

    @model_validator(mode="after")
    def _every_row_can_be_drawn(self) -> FigureSpec:
        for row in self.rows:
            if row.run is None:
                continue
            self.plot.value(row.run, "x")
            series = self.plot.line(row.run)
            if series not in self.plot.colors:
                raise ValueError(
                    f"plot.colors has no colour for {self.plot.series} = {series}, "
                    f"it has: {', '.join(self.plot.colors)}"
                )
        return self


# --- one resolved run and its id ---------------------------------------------------------------

# Part of every run id: raise it when a default or the meaning of a setting changes.
RUN_ID_VERSION = 2


class ResolvedRun(Strict):
    """Everything that decides the weights of a run but its seed; the run id hashes this."""

    spec: RunSpec
    protocol: Protocol
    network: Network
    schedule: Schedule
    sizes: Sizes
    data: dict[str, Any] = Field(description="identity of the data set, see data_identity")
    initial_run: str | None = Field(
        None, description="run id of the training that backbone, neck and RPN start from"
    )

    @property
    def run_id(self) -> str:
        """Readable slug plus 8 hex digits of the hash of every setting that is not a default.

        Defaults are left out so that a switch added later renames no run of before.
        """
        settings = self.model_dump(mode="json", exclude_defaults=True)
        return f"{slug(self.spec)}-{digest({'version': RUN_ID_VERSION, **settings})}"


def digest(content: Any) -> str:
    """8 hex digits that depend on JSON content, not on the order of its keys."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def resolve(
    spec: RunSpec, scale: Scale, identity: dict[str, Any], initial_run: str | None = None
) -> ResolvedRun:
    """Join a spec with the parts of a scale that concern it (and no others: see run_id).

    Raises:
        KeyError: the scale has no such network, data set or ResNeXt group count.
    """
    network = scale.networks[spec.backbone]
    if network.groups is not None:
        groups = {spec.detector: network.groups[spec.detector]}
        network = network.model_copy(update={"groups": groups})
    image_scale = {spec.dataset: scale.sizes.image_scale[spec.dataset]}
    schedule = scale.schedule
    if spec.repeat_times is not None:
        schedule = schedule.model_copy(update={"repeat_times": spec.repeat_times})
    return ResolvedRun(
        spec=spec,
        protocol=spec.protocol or scale.protocol,
        network=network,
        schedule=schedule,
        sizes=scale.sizes.model_copy(update={"image_scale": image_scale}),
        data=identity,
        initial_run=initial_run,
    )


def resolve_initial(spec: RunSpec, scale: Scale, identity: dict[str, Any]) -> ResolvedRun:
    """The training whose backbone, neck and RPN the runs of `spec` start from at a scale.

    It stands in for ImageNet weights: one for each backbone, shared by all box losses, and itself
    without one (only the RPN, whose loss no row varies, regresses).

    Args:
        scale: one with an `initialisation`.
        identity: of `data.init`.

    Raises:
        KeyError: as `resolve`.
    """
    network = scale.networks[spec.backbone]
    if network.groups is not None:
        groups = {"faster_rcnn": network.groups[spec.detector]}
        network = network.model_copy(update={"groups": groups})
    trained_whole = scale.sizes.model_copy(update={"frozen_stages": -1, "norm_eval": False})
    initial = scale.model_copy(
        update={
            "networks": {spec.backbone: network},
            "schedule": scale.initialisation,
            "sizes": trained_whole,
        }
    )
    classifier = RunSpec(
        dataset="init", detector="faster_rcnn", backbone=spec.backbone, box=NoBox(loss="none")
    )
    return resolve(classifier, initial, identity)


def slug(spec: RunSpec) -> str:
    """Readable name of a spec, e.g. `voc-faster-r50-obc-a3-n20-k2`; not unique by itself."""
    return (
        f"{spec.dataset}-{spec.detector.removesuffix('_rcnn')}-{spec.backbone}-{_method(spec.box)}"
    )


def _method(box: Box) -> str:
    if isinstance(box, OffsetBin):
        return f"obc-a{box.max_offset:g}-n{box.num_bins}-k{box.num_stages}"
    if isinstance(box, SmoothL1):
        return f"smoothl1-b{box.beta:g}"
    if isinstance(box, NoBox):
        return "weights"
    return box.loss.replace("_", "")

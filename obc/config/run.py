"""One training: its spec in the paper's words, the spec resolved at a scale, and the run id.

A table row gives the settings that the paper states (`RunSpec`). A scale gives data, networks,
schedule and sizes (`obc.config.scale`). `resolve` joins the two into a `ResolvedRun`, whose hash is
part of the run id. Nothing else decides a run. Every model forbids unknown keys and is immutable.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from obc.config.box_losses.none import NoBox
from obc.config.box_losses.registry import Box, Decode
from obc.config.protocols import Protocol
from obc.config.scale import BackboneName, DetectorName, Network, Scale, Schedule, Sizes
from obc.datasets.settings import DatasetName, Fraction
from obc.io.typed_yaml import Strict

Stds = tuple[PositiveFloat, PositiveFloat, PositiveFloat, PositiveFloat]
DEFAULT_STDS = (0.1, 0.1, 0.2, 0.2)


# --- the spec of a training ---------------------------------------------------------------------


class Cascade(Strict):
    """The two-stage Cascade R-CNN of section 4.2."""

    ious: tuple[Fraction, ...] = Field(
        (0.5, 0.7),
        min_length=1,
        description="for each stage, the smallest IoU at which an RoI counts as an object",
    )
    stage_stds: tuple[Stds, ...] = Field(
        (DEFAULT_STDS, (0.05, 0.05, 0.1, 0.1)),
        description="for each stage, divisors of the four offsets (normalisation)",
    )
    stage_weights: tuple[PositiveFloat, ...] = Field(
        (1.0, 0.5), description="for each stage, the weight of its loss"
    )

    @model_validator(mode="after")
    def _same_length(self) -> Cascade:
        lengths = {len(self.ious), len(self.stage_stds), len(self.stage_weights)}
        if len(lengths) != 1:
            raise ValueError("ious, stage_stds and stage_weights must have one entry per stage")
        return self


class RunSpec(Strict):
    """The settings of one training in the paper's words; independent of scale and seed."""

    dataset: DatasetName = Field(description="data set of the table")
    detector: DetectorName = Field(description="detector around the box head")
    backbone: BackboneName = Field(description="backbone; the scale's `networks` sets its network")
    box: Box = Field(description="box loss with its settings, see below")
    target_stds: Stds = Field(
        DEFAULT_STDS, description="divisors of the four offsets (normalisation)"
    )
    cascade: Cascade | None = Field(
        None, description="settings of the cascade; only with detector: cascade_rcnn"
    )
    protocol: Protocol | None = Field(
        None, description="training protocol, see docs/protocols.md; null: the scale's"
    )
    repeat_times: PositiveInt | None = Field(
        None,
        description="number of times that an epoch goes over the training set; null: the scale's",
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
    def _box_fits_the_detector(self) -> RunSpec:
        self.box.check_detector(self.cascade is not None, self.target_stds != DEFAULT_STDS)
        return self

    @property
    def decodes(self) -> tuple[Decode, ...]:
        """The decodings that a trained run of this spec can be evaluated with, default first."""
        return self.box.decodes


# --- one resolved run and its id ---------------------------------------------------------------

# Part of every run id: raise it when a default or the meaning of a setting changes.
RUN_ID_VERSION = 2


class ResolvedRun(Strict):
    """Everything except the seed that decides the weights of a run; the run id hashes it."""

    spec: RunSpec
    protocol: Protocol
    network: Network
    schedule: Schedule
    sizes: Sizes
    data: dict[str, Any] = Field(description="identity of the data set, see `data_identity`")
    initial_run: str | None = Field(
        None, description="run id of the training that backbone, neck and RPN start from"
    )
    starting_weights_per_seed: bool = Field(
        False, description="start each seed from the training of `initial_run` with that seed"
    )

    @property
    def run_id(self) -> str:
        """Readable slug plus 8 hex digits of a hash of the settings that are not at their default.

        Defaults are left out, so that a switch added later does not change existing run ids. The
        package that has a network's weights is left out too, because only messages need it.
        """
        settings = self.model_dump(
            mode="json", exclude={"network": {"package"}}, exclude_defaults=True
        )
        return f"{slug(self.spec)}-{digest({'version': RUN_ID_VERSION, **settings})}"


def digest(content: Any) -> str:
    """8 hex digits of a hash of JSON content, independent of the order of keys."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def resolve(
    spec: RunSpec, scale: Scale, identity: dict[str, Any], initial_run: str | None = None
) -> ResolvedRun:
    """Join a spec with the parts of a scale that it uses; other parts must not change its run id.

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
        starting_weights_per_seed=initial_run is not None and scale.starting_weights_per_seed,
    )


def resolve_initial(spec: RunSpec, scale: Scale, identity: dict[str, Any]) -> ResolvedRun:
    """Resolve the training whose backbone, neck and RPN the runs of `spec` start from at a scale.

    There is one such training for each backbone. All box losses share it, and it has no box loss
    itself: only the RPN regresses, with a loss that no row varies. A network without `pretrained`
    weights is trained as a whole.

    Args:
        scale: a scale with an `initialisation`.
        identity: identity of `data.init`.

    Raises:
        KeyError: as `resolve`.
    """
    network = scale.networks[spec.backbone]
    if network.groups is not None:
        groups = {"faster_rcnn": network.groups[spec.detector]}
        network = network.model_copy(update={"groups": groups})
    sizes = scale.sizes
    if network.pretrained is None:  # nothing is pretrained, so nothing is frozen
        sizes = sizes.model_copy(update={"frozen_stages": -1, "norm_eval": False})
    initial = scale.model_copy(
        update={
            "networks": {spec.backbone: network},
            "schedule": scale.initialisation,
            "sizes": sizes,
        }
    )
    classifier = RunSpec(
        dataset="init", detector="faster_rcnn", backbone=spec.backbone, box=NoBox(loss="none")
    )
    return resolve(classifier, initial, identity)


def method_of(run_id: str) -> str:
    """The part of a run id that names the box loss, e.g. `obc-a3-n20-k2`; needs no plan.

    Raises:
        ValueError: the id is not of the form `<data>-<detector>-<backbone>-<method>-<hash>`.
    """
    parts = run_id.split("-")
    if len(parts) < 5:
        raise ValueError(f"run id {run_id!r}, allowed: data-detector-backbone-method-hash")
    return "-".join(parts[3:-1])


def slug_of(run_id: str) -> str:
    """A run id without its hash, equal to the `slug` of its spec; needs no plan."""
    return run_id.rpartition("-")[0]


def slug(spec: RunSpec) -> str:
    """Readable name of a spec, e.g. `voc-faster-r50-obc-a3-n20-k2`; not unique."""
    detector = spec.detector.removesuffix("_rcnn")
    return f"{spec.dataset}-{detector}-{spec.backbone}-{spec.box.slug}"

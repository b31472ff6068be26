"""Offset bin classification, the paper's method."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from pydantic import Field, PositiveFloat, model_validator

from obc.config.box_losses.layers import HeadShape, Layer, linear
from obc.config.box_losses.registry import BoxLoss, Decode, register_box


@register_box
class OffsetBin(BoxLoss):
    """Offset bin classification (section 3.2), with a switch for all that the paper leaves open."""

    default_decode: ClassVar[Decode] = "expectation"
    loss: Literal["offset_bin"]
    max_offset: PositiveFloat = Field(3.0, description="a: half width of the first stage's range")
    num_bins: int = Field(20, ge=3, le=1000, strict=True, description="n of the paper")
    num_stages: int = Field(1, ge=1, le=5, strict=True, description="K of section 3.2.4")
    stage_ranges: tuple[PositiveFloat, ...] | None = Field(
        None, description="a_1..a_K; null: a_{k+1} = w_k / 2"
    )
    bins_include_overflow: bool = Field(False, description="does num_bins count (-inf,-a], [a,inf)")
    out_of_range: Literal["overflow", "ignore"] = Field(
        "overflow",
        description="offsets outside of the range in the first stage: the overflow bins, or not "
        "trained on",
    )
    later_out_of_range: Literal["overflow", "clamp", "ignore"] = Field(
        "overflow",
        description="what is left to a later stage outside of its range: the overflow bins, the "
        "nearest inner bin, or not trained on",
    )
    stage_features: Literal["refined", "proposal", "shared"] = Field(
        "refined",
        description="what a later stage sees: RoI features extracted again at the box so far, the "
        "RoI feature of the proposal, or the feature of stage 1 after its shared layers",
    )
    stage_fcs: Literal[0, 2] = Field(
        2, description="layers of its own that a later stage has; 0: the shared layers"
    )
    residual: Literal["pred", "gt_bin", "argmax_bin"] = Field(
        "pred",
        description="what a later stage learns: the offset from the expectation so far, from the "
        "centre of the true bin, or from the most probable bin",
    )
    composition: Literal["refine", "sum"] = Field(
        "refine",
        description="a later stage's offset is in units of the box so far, or of the proposal "
        "(equation 11)",
    )
    stage_loss_weights: tuple[PositiveFloat, ...] | None = Field(
        None, description="of each stage's loss; null: 1 each"
    )
    class_scores: Literal["first", "mean"] = Field(
        "first", description="class scores of stage 1, or their mean over stages that all classify"
    )
    bin_norm: Literal["sampled", "positive"] = Field(
        "sampled",
        description="RoIs that the loss is divided by: all that were sampled, or those with an "
        "object",
    )
    coord_reduction: Literal["sum", "mean"] = Field(
        "sum", description="of the loss over the four coordinates; stages are summed"
    )
    reg_class_agnostic: bool = Field(True, description="one set of bins for all classes")
    loss_weight: PositiveFloat = Field(1.0, description="lambda_bin of equation 9")
    spacing: Literal["uniform", "weighted"] = Field(
        "uniform",
        description="bins of equal width, or narrow around 0 by D-FINE's weighting function",
    )

    @model_validator(mode="after")
    def _weighted_bins_have_one_stage(self) -> OffsetBin:
        if self.spacing == "weighted" and self.num_stages > 1:
            raise ValueError(
                f"spacing weighted with num_stages {self.num_stages}, allowed: num_stages 1"
            )
        return self

    @model_validator(mode="after")
    def _readings_fit(self) -> OffsetBin:
        weights = self.stage_loss_weights
        if weights is not None and len(weights) != self.num_stages:
            raise ValueError(
                f"stage_loss_weights {weights} has {len(weights)} entries, "
                f"allowed: exactly num_stages = {self.num_stages}"
            )
        if self.num_stages == 1:
            return self
        if self.residual == "gt_bin" and self.composition != "sum":
            raise ValueError(
                "residual gt_bin needs composition sum: it is in units of the proposal"
            )
        if self.class_scores == "mean" and self.stage_features == "shared":
            raise ValueError(
                "class_scores mean with stage_features shared, allowed: refined, proposal; stages "
                "that share a feature have one class score"
            )
        return self

    @property
    def looks_again(self) -> bool:
        """Whether later stages take RoI features instead of stage 1's shared features."""
        return self.num_stages > 1 and self.stage_features != "shared"

    @model_validator(mode="after")
    def _ranges_fit(self) -> OffsetBin:
        if self.stage_ranges is None:
            return self
        if len(self.stage_ranges) != self.num_stages:
            raise ValueError(
                f"stage_ranges {self.stage_ranges} has {len(self.stage_ranges)} entries, "
                f"allowed: exactly num_stages = {self.num_stages}"
            )
        if self.stage_ranges[0] != self.max_offset:
            raise ValueError(
                f"stage_ranges starts with {self.stage_ranges[0]:g}, "
                f"allowed: max_offset = {self.max_offset:g}"
            )
        return self

    @property
    def slug(self) -> str:
        """The name of the method with a, n and K."""
        return f"obc-a{self.max_offset:g}-n{self.num_bins}-k{self.num_stages}"

    @property
    def decodes(self) -> tuple[Decode, ...]:
        """Expectation and argmax; with several stages also the decodings that need several."""
        of_stages: tuple[Decode, ...] = ("argmax_expectation", "first_stage")
        return ("expectation", "argmax", *(of_stages if self.num_stages > 1 else ()))

    @property
    def roi_head(self) -> str | None:
        """`OBCRoIHead` where later stages take RoI features; None otherwise: the detector's own."""
        return "OBCRoIHead" if self.looks_again else None

    def check_detector(self, cascade: bool, own_stds: bool) -> None:
        """Raise ValueError for later stages that take RoI features in a cascade.

        The stages of a cascade extract RoI features again themselves.
        """
        if cascade and self.looks_again:
            raise ValueError(
                f"num_stages {self.num_stages} with stage_features {self.stage_features} "
                "in a cascade, allowed there: num_stages 1 (section 4.2), or stage_features shared"
            )

    def head(self, deltas: dict[str, Any], shape: HeadShape) -> dict[str, Any]:
        """An OBCHead with its coder and loss."""
        bins = dict(
            num_bins=self.num_bins,
            max_offset=self.max_offset,
            num_stages=self.num_stages,
            stage_ranges=self.stage_ranges,
            bins_include_overflow=self.bins_include_overflow,
            out_of_range=self.out_of_range,
            later_out_of_range=self.later_out_of_range,
            spacing=self.spacing,
        )
        return dict(
            type="OBCHead",
            reg_class_agnostic=self.reg_class_agnostic,
            stage_features=self.stage_features,
            stage_fcs=self.stage_fcs,
            residual=self.residual,
            stage_loss_weights=self.stage_loss_weights,
            class_scores=self.class_scores,
            bin_norm=self.bin_norm,
            coord_reduction=self.coord_reduction,
            bbox_coder=dict(
                type="OffsetBinBBoxCoder", bins=bins, composition=self.composition, **deltas
            ),
            loss_bbox=dict(
                type="CrossEntropyLoss", use_sigmoid=False, loss_weight=self.loss_weight
            ),
        )

    def layers(self, shape: HeadShape, rois: int) -> Iterator[Layer]:
        """The second shared layer, the logits of all stages, and the layers of later stages."""
        width = shape.width
        yield linear(width, width, rois)
        logits = 4 * (self.num_bins + (0 if self.bins_include_overflow else 2))
        logits *= 1 if self.reg_class_agnostic else shape.num_classes
        if self.looks_again:
            yield from self._later_stages(shape, logits, rois)
            yield linear(width, logits, rois)
            return
        for _ in range(self.stage_fcs * (self.num_stages - 1)):
            yield linear(width, width, rois)
        yield linear(width, self.num_stages * logits, rois)

    def _later_stages(self, shape: HeadShape, logits: int, rois: int) -> Iterator[Layer]:
        """Layers of later stages that take RoI features, counted for all RoIs, as in evaluation.

        Unless `class_scores` is `mean`, training applies them to positive RoIs only, at most a
        quarter of the sampled RoIs.
        """
        for _ in range(self.num_stages - 1):
            for channels in (shape.region, shape.width):
                layer = linear(channels, shape.width, rois)
                # With stage_fcs 0 a stage reuses stage 1's layers, which are counted already.
                yield Layer("box", layer.flops, layer.parameters if self.stage_fcs else 0)
            yield linear(shape.width, logits, rois)
            if self.class_scores == "mean":
                yield linear(shape.width, shape.num_classes + 1, rois)

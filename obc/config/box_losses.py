"""The box losses that a table row can name under `box:`, with their settings.

The paper's own are regression and offset bins; the others are what the suite compares them with.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, model_validator

from obc.io.typed_yaml import Strict


class _Regression(Strict):
    """What every loss of a regressed offset or box has."""

    loss_weight: PositiveFloat = Field(1.0, description="of the box loss")
    reg_class_agnostic: bool | None = Field(
        None,
        description="one box for all classes; null: as MMDetection, which has one a class in "
        "Faster and one for all in Cascade R-CNN",
    )


class SmoothL1(_Regression):
    """Box regression with smooth L1 (equation 3)."""

    loss: Literal["smooth_l1"]
    beta: PositiveFloat = Field(1.0, description="where the quadratic part ends (equation 3)")


class L2(_Regression):
    """Box regression with the squared error (MMDetection's MSELoss times a factor)."""

    loss: Literal["l2"]
    factor: PositiveFloat = Field(
        0.5, description="of the squared error: 1/2, as of smooth L1's quadratic part, or 1"
    )


class BalancedL1(_Regression):
    """Box regression with the balanced L1 loss of Libra R-CNN, its alpha, gamma and beta."""

    loss: Literal["balanced_l1"]


class BoxIoU(_Regression):
    """Box regression with a loss of the decoded box, weighted as in MMDetection's configs."""

    loss: Literal["iou", "giou"]
    loss_weight: PositiveFloat = Field(10.0, description="of the box loss")


class Variance(_Regression):
    """Box regression that predicts a variance too (KL loss): `obc.detector.other_heads`."""

    loss: Literal["kl"]


class Distribution(Strict):
    """A distribution over points and its integral (GFL): `obc.detector.other_heads`."""

    loss: Literal["dfl"]
    max_offset: PositiveFloat = Field(3.0, description="the points are from -a to a")
    num_intervals: int = Field(20, ge=1, le=1000, strict=True, description="between the points")
    loss_weight: PositiveFloat = Field(1.0, description="of the box loss")


class SideAware(Strict):
    """Side-aware boundary localisation: MMDetection's SABLHead with the settings of its config."""

    loss: Literal["sabl"]


class OffsetBin(Strict):
    """Offset bin classification (section 3.2) and every switch the paper leaves open."""

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
        """Whether later stages have RoI features of their own."""
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


class NoBox(Strict):
    """No box loss: the box head only classifies. For initialisations, which favour no method."""

    loss: Literal["none"]


Box = Annotated[
    SmoothL1 | L2 | OffsetBin | BalancedL1 | BoxIoU | Variance | Distribution | SideAware | NoBox,
    Field(discriminator="loss"),
]

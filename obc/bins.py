"""Offset bins: the mathematics of sections 3.2.1 to 3.2.4, in plain torch.

Shape shorthand: K stages, m inner bins, n = m + 2 logits per stage; ``...`` is any leading shape.
Offsets are the normalised deltas of equation 1 (after ``target_means`` and ``target_stds``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from numbers import Real
from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

DecodeMode = Literal["expectation", "argmax", "argmax_expectation", "first_stage"]
OutOfRange = Literal["overflow", "ignore"]
LaterOutOfRange = Literal["overflow", "clamp", "ignore"]
Spacing = Literal["uniform", "weighted"]
# c / a of D-FINE's weighting function (its a = 1/2, c = 1/4).
CURVATURE = 0.5
IGNORED = -100
"""Label of an offset that a stage does not learn from; cross entropy's default ignore index."""


def check_choice(name: str, value: object, allowed: object) -> None:
    """Raise ValueError unless ``value`` is one of the options of the Literal type ``allowed``."""
    if not any(type(value) is type(one) and value == one for one in get_args(allowed)):
        raise ValueError(f"{name}={value!r} is not one of {list(get_args(allowed))}")


def floats(name: str, values: object) -> tuple[float, ...]:
    """The argument ``name`` as floats; TypeError unless ``values`` is a sequence of numbers."""
    try:
        if isinstance(values, str):
            raise TypeError
        return tuple(float(value) for value in values)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        raise TypeError(f"{name}={values!r} is not a sequence of numbers") from None


@dataclass(frozen=True)
class OffsetBins:
    """Converts offsets to bin labels and bin logits to offsets; an immutable, hashable value.

    Stage k divides (-a_k, a_k) into m inner bins of width w_k = 2 a_k / m (section 3.2.1) and
    adds two overflow bins, so that a stage has n = m + 2 logits in this order: inner bins
    0..m-1 from -a_k to +a_k, then m for (-inf, -a_k] and m + 1 for [a_k, inf). Equation 5 prints
    labels up to m + 2, which is one label too many for n logits; here labels end at m + 1. A
    later stage covers one bin of the stage before it: a_{k+1} = w_k / 2 (section 3.2.4).

    Args:
        num_bins: inner bins m of every stage, at least 1; with ``bins_include_overflow`` the
            paper's n instead, at least 3, so that m = num_bins - 2.
        max_offset: a_1, positive and finite, in units of the normalised delta.
        num_stages: K, at least 1; 1 is a head without hierarchical focusing.
        stage_ranges: a_1..a_K, which replace ``max_offset`` and the rule a_{k+1} = w_k / 2;
            ``max_offset`` is then set to the first entry.
        bins_include_overflow: whether ``num_bins`` counts the two overflow bins.
        out_of_range: label of an offset outside (-a_1, a_1) in stage 1: its overflow bin
            (equation 5) or ignored (section 4.1).
        later_out_of_range: label in stage k > 1 of a residual outside (-a_k, a_k): its overflow
            bin (equation 5, which section 3.2.4 applies to every stage), the nearest inner bin
            ("clamp"), or ignored, also in every later stage.
        spacing: inner bins of equal width, as in the paper ("uniform"), or narrow around 0 and
            wide at the ends ("weighted"). Weighted edges follow the weighting function of D-FINE
            (arXiv 2410.13842, section 4.1) with its ratio of curvature to range. Weighted bins
            differ in width, so they allow only one stage.

    Raises:
        ValueError: an argument is not among the values allowed above.
        TypeError: ``max_offset`` is not a number, or ``stage_ranges`` are not numbers.
    """

    num_bins: int = 20
    max_offset: float = 3.0
    num_stages: int = 1
    stage_ranges: tuple[float, ...] | None = None
    bins_include_overflow: bool = False
    out_of_range: OutOfRange = "overflow"
    later_out_of_range: LaterOutOfRange = "overflow"
    spacing: Spacing = "uniform"

    def __post_init__(self) -> None:
        if self.stage_ranges is not None:
            # A frozen dataclass allows no plain assignment. A list from a config is not hashable,
            # a tuple is; and ``max_offset`` must equal a_1.
            object.__setattr__(self, "stage_ranges", floats("stage_ranges", self.stage_ranges))
            if self.stage_ranges:
                object.__setattr__(self, "max_offset", self.stage_ranges[0])
        self._validate()

    def _validate(self) -> None:
        fewest = 3 if self.bins_include_overflow else 1
        if not isinstance(self.num_bins, int) or self.num_bins < fewest:
            raise ValueError(
                f"num_bins={self.num_bins!r} must be an integer of at least {fewest} "
                f"(bins_include_overflow={self.bins_include_overflow})"
            )
        if not isinstance(self.num_stages, int) or self.num_stages < 1:
            raise ValueError(f"num_stages={self.num_stages!r} must be an integer of at least 1")
        if self.stage_ranges is not None and len(self.stage_ranges) != self.num_stages:
            raise ValueError(
                f"stage_ranges={self.stage_ranges} has {len(self.stage_ranges)} entries; "
                f"num_stages={self.num_stages} needs one for each stage"
            )
        name = "max_offset" if self.stage_ranges is None else "stage_ranges"
        for a in self.stage_ranges or (self.max_offset,):
            if not isinstance(a, Real):
                raise TypeError(f"{name}={a!r} is not a number")
            if not (math.isfinite(a) and a > 0):
                raise ValueError(f"{name} holds {a!r}; a range must be positive and finite")
        check_choice("out_of_range", self.out_of_range, OutOfRange)
        check_choice("later_out_of_range", self.later_out_of_range, LaterOutOfRange)
        check_choice("spacing", self.spacing, Spacing)
        if self.spacing == "weighted" and self.num_stages > 1:
            raise ValueError(
                f"spacing='weighted' with num_stages={self.num_stages}: its bins differ in width, "
                "so no range of a second stage fits them all; only num_stages=1 is allowed"
            )

    @property
    def num_inner(self) -> int:
        """m, the bins inside (-a, a)."""
        return self.num_bins - 2 if self.bins_include_overflow else self.num_bins

    @property
    def num_logits(self) -> int:
        """n = m + 2, the logits of one coordinate in one stage."""
        return self.num_inner + 2

    @property
    def ranges(self) -> Tensor:
        """a_1..a_K, float32 (K,)."""
        return self._exact_ranges().float()

    @property
    def widths(self) -> Tensor:
        """w_1..w_K, float32 (K,); for weighted bins the mean width."""
        return (2 * self._exact_ranges() / self.num_inner).float()

    @property
    def centers(self) -> Tensor:
        """Representative offset of every bin (equation 5), float32 (K, n)."""
        ranges = self._exact_ranges()[:, None]
        # -a + (l + 1/2) w, written so that it is symmetric to the last bit
        steps = torch.arange(self.num_inner, dtype=torch.float64) - (self.num_inner - 1) / 2
        inner = steps * (2 * ranges / self.num_inner)
        if self.spacing == "weighted":
            half = ranges / self.num_inner
            inner = (_spread(inner - half, ranges) + _spread(inner + half, ranges)) / 2
        return torch.cat([inner, -ranges, ranges], dim=1).float()

    def encode(self, offsets: Tensor) -> Tensor:
        """Bin labels when each stage refines the centre of the bin that holds the ground truth.

        Args:
            offsets: (...), any floating type; infinities lie in the overflow bins.

        Returns:
            Labels (..., K), int64, as from ``labels``.
        """
        tables = _tables(self, offsets.device)
        residuals = [offsets.float()]
        for stage in range(self.num_stages - 1):
            own_bin = self._nearest_center(residuals[-1], stage, tables)
            residuals.append(residuals[-1] - own_bin)
        return self.labels(torch.stack(residuals, dim=-1))

    def encode_against(self, offsets: Tensor, predicted: Tensor) -> Tensor:
        """Bin labels when each stage refines the prediction of the earlier stages.

        Args:
            offsets: (...), any floating type.
            predicted: offsets that the stages predict (``decode_stages``), (..., K). No gradient
                flows into them.

        Returns:
            Labels (..., K), int64, as from ``labels``, of each stage's residual: the offset minus
            the sum of the earlier predictions.

        Raises:
            ValueError: ``predicted`` is not of shape (..., K).
        """
        if predicted.shape != (*offsets.shape, self.num_stages):
            raise ValueError(
                f"predicted has shape {tuple(predicted.shape)}; offsets of shape "
                f"{tuple(offsets.shape)} need {(*offsets.shape, self.num_stages)}"
            )
        earlier = F.pad(predicted.detach().float()[..., :-1].cumsum(-1), (1, 0))
        return self.labels(offsets.float()[..., None] - earlier)

    def labels(self, residuals: Tensor) -> Tensor:
        """Bin labels of each stage's residual, the part of the offset left for it to predict.

        Args:
            residuals: (..., K), any floating type; for stage 1 the offset itself.

        Returns:
            Labels (..., K), int64. A label is ``IGNORED`` for NaN. If ``out_of_range`` is "ignore",
            it is ``IGNORED`` in stage 1 outside (-a_1, a_1). If ``later_out_of_range`` is "ignore",
            it is ``IGNORED`` in stage k > 1 if the residual of any stage up to k, stage 1 included,
            is outside that stage's range.
        """
        tables = _tables(self, residuals.device)
        residuals = residuals.float()
        inside = residuals.abs() <= tables.reaches
        labels = self._inner_bins(residuals, tables.ranges, tables.widths)
        known = ~labels.isnan()
        if self.later_out_of_range == "ignore":
            known = inside.cumprod(-1).bool()
        if self.out_of_range == "ignore":
            known = torch.cat([known[..., :1] & inside[..., :1], known[..., 1:]], dim=-1)
        labels = torch.where(known, labels, float(IGNORED)).long()
        overflowing = slice(
            0 if self.out_of_range == "overflow" else 1,
            None if self.later_out_of_range == "overflow" else 1,
        )
        for bin_index, beyond in (
            (self.num_inner, residuals < -tables.reaches),
            (self.num_inner + 1, residuals > tables.reaches),
        ):
            labels[..., overflowing].masked_fill_(beyond[..., overflowing], bin_index)
        return labels

    def decode(self, logits: Tensor, mode: DecodeMode = "expectation") -> Tensor:
        """Offsets (...) of logits (..., K, n): the sum over stages (equation 11), float32.

        For arguments and errors see ``decode_stages``.
        """
        return self.decode_stages(logits, mode).sum(-1)

    def decode_stages(self, logits: Tensor, mode: DecodeMode = "expectation") -> Tensor:
        """Offset that each stage predicts, float32 for any type of logits and under autocast.

        Args:
            logits: scores before the softmax, (..., k, n), of the first k stages, usually all K.
            mode: "expectation" of the bins' representative offsets (equation 10); "argmax", the
                representative offset of the most probable bin; "argmax_expectation", argmax in
                every stage before stage K and expectation in stage K; or "first_stage",
                expectation in stage 1 and 0 in every later stage.

        Returns:
            Offsets (..., k), float32.

        Raises:
            ValueError: the mode is unknown, or the logits do not end in (k, n) with k from 1 to K.
        """
        check_choice("mode", mode, DecodeMode)
        stages = logits.shape[-2] if logits.dim() > 1 else 0
        if not 1 <= stages <= self.num_stages or logits.shape[-1] != self.num_logits:
            raise ValueError(
                f"logits have shape {tuple(logits.shape)}; the last two dimensions must be "
                f"(num_stages, num_logits) = {(self.num_stages, self.num_logits)}, or fewer stages"
            )
        centers = _tables(self, logits.device).centers[:stages]
        if mode in ("argmax", "argmax_expectation"):
            rows = torch.arange(stages, device=logits.device)
            likeliest = centers[rows, logits.argmax(-1)]
            if mode == "argmax" or stages < self.num_stages:
                return likeliest
        # A product and a sum: autocast would run a matmul in half precision.
        expected = (logits.softmax(-1, dtype=torch.float32) * centers).sum(-1)
        if mode == "argmax_expectation":
            return torch.cat([likeliest[..., :-1], expected[..., -1:]], dim=-1)
        if mode == "first_stage":
            return F.pad(expected[..., :1], (0, stages - 1))
        return expected

    def _exact_ranges(self) -> Tensor:
        """a_1..a_K in float64."""
        if self.stage_ranges is not None:
            return torch.tensor(self.stage_ranges, dtype=torch.float64)
        ranges = [self.max_offset / self.num_inner**k for k in range(self.num_stages)]
        return torch.tensor(ranges, dtype=torch.float64)

    def _reaches(self) -> Tensor:
        """Largest residual that each stage has an inner bin for, float32 (K,)."""
        first, later = self.ranges[:1], self.ranges[1:]
        # A residual at the edge of its bin exceeds a_k by the rounding of a_1-sized numbers.
        rounding = 16 * torch.finfo(torch.float32).eps * first
        return torch.cat([first.nextafter(torch.zeros(1)), later + rounding])

    def _inner_bins(self, residuals: Tensor, ranges: Tensor, widths: Tensor) -> Tensor:
        """Nearest inner bin of each residual, as a float so that NaN stays NaN."""
        if self.spacing == "weighted":
            residuals = _gathered(residuals, ranges)
        return ((residuals + ranges) / widths).floor().clamp(0, self.num_inner - 1)

    def _nearest_center(self, residuals: Tensor, stage: int, tables: _Tables) -> Tensor:
        """Representative offset of the bin that each residual is labelled with in a stage."""
        a, w, reach = tables.ranges[stage], tables.widths[stage], tables.reaches[stage]
        centers = (self._inner_bins(residuals, a, w) - (self.num_inner - 1) / 2) * w
        treatment = self.later_out_of_range if stage else self.out_of_range
        # If later stages ignore residuals out of range, no stage uses the centre returned for one.
        if treatment != "overflow" or self.later_out_of_range == "ignore":
            return centers
        return torch.where(residuals.abs() > reach, residuals.sign() * a, centers)


def _spread(even: Tensor, ranges: Tensor) -> Tensor:
    """D-FINE's weighting function: maps edges of equal bins to edges of weighted bins."""
    curvature = CURVATURE * ranges
    return even.sign() * curvature * ((1 + 1 / CURVATURE) ** (even.abs() / ranges) - 1)


def _gathered(offsets: Tensor, ranges: Tensor) -> Tensor:
    """The inverse of ``_spread``: maps weighted bins to equal bins, whose labels are arithmetic."""
    curvature = CURVATURE * ranges
    return offsets.sign() * ranges * (offsets.abs() / curvature).log1p() / math.log1p(1 / CURVATURE)


class _Tables(NamedTuple):
    ranges: Tensor
    widths: Tensor
    reaches: Tensor
    centers: Tensor


@lru_cache(maxsize=64)
def _tables(bins: OffsetBins, device: torch.device) -> _Tables:
    """The tables of ``bins`` on ``device``, copied only once: a copy makes the device wait."""
    # Training cannot use a tensor that was created in inference mode.
    with torch.inference_mode(False):
        tables = _Tables(bins.ranges, bins.widths, bins._reaches(), bins.centers)
        return _Tables(*(table.to(device) for table in tables))

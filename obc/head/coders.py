"""The box coder of offset bins: proposals and ground truth in, deltas out; logits in, boxes out.

Shape shorthand: N boxes, E the width of a prediction, K stages, n logits per stage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch.nn.functional as F
from mmdet.models.task_modules.coders import BaseBBoxCoder
from mmdet.registry import TASK_UTILS
from mmdet.structures.bbox import BaseBoxes, HorizontalBoxes, get_box_tensor
from torch import Tensor

from obc.bins import DecodeMode, OffsetBins, check_choice, floats
from obc.head.box_deltas import DeltaCoder, normaliser

Composition = Literal["refine", "sum"]


class DecodedDeltaCoder(BaseBBoxCoder):
    """Encodes boxes as the deltas of equation 1 and decodes them from predictions of any width.

    ``encode_size`` is that width, E. MMDetection's prediction and cascade refinement read it, so
    they work with this coder unchanged. The deltas are those of
    ``obc.head.box_deltas.DeltaCoder``. Subclasses implement ``encode_size`` and ``deltas``.

    Args:
        target_means: means that normalise the deltas (dx, dy, dw, dh).
        target_stds: standard deviations that normalise them.
        clip_border: whether ``decode`` clips boxes to ``max_shape``.
        legacy: boxes in whole pixels, x2 - x1 + 1 wide, as in MMDetection 1.x.
        wh_ratio_clip: smallest factor by which ``decode`` may change width or height; the largest
            is its inverse.
        use_box_type: whether ``decode`` returns ``HorizontalBoxes`` instead of a tensor.

    Raises:
        TypeError: ``target_means`` or ``target_stds`` are not numbers.
        ValueError: they are not four.
    """

    def __init__(
        self,
        target_means: Sequence[float] = (0.0, 0.0, 0.0, 0.0),
        target_stds: Sequence[float] = (0.1, 0.1, 0.2, 0.2),
        clip_border: bool = True,
        legacy: bool = False,
        wh_ratio_clip: float = 16 / 1000,
        use_box_type: bool = False,
    ) -> None:
        super().__init__(use_box_type=use_box_type)
        self.clip_border = clip_border
        self.wh_ratio_clip = wh_ratio_clip
        self.delta_coder = DeltaCoder(
            _four("target_means", target_means), _four("target_stds", target_stds), legacy
        )

    @property
    def encode_size(self) -> int:
        """E, the width of a prediction for one box and class."""
        raise NotImplementedError

    def deltas(self, predictions: Tensor) -> Tensor:
        """Normalised deltas (N, 4) of predictions (N, E), float32."""
        raise NotImplementedError

    def encode(self, bboxes: Tensor | BaseBoxes, gt_bboxes: Tensor | BaseBoxes) -> Tensor:
        """Normalised deltas (N, 4) from boxes (N, 4) to ground truth boxes (N, 4), in pixels."""
        return self.delta_coder.encode(get_box_tensor(bboxes), get_box_tensor(gt_bboxes))

    def decode(
        self,
        bboxes: Tensor | BaseBoxes,
        pred_bboxes: Tensor,
        max_shape: Sequence[int] | None = None,
    ) -> Tensor | BaseBoxes:
        """Apply predictions to boxes.

        Args:
            bboxes: proposals or RoIs (x1, y1, x2, y2), (N, 4), in pixels.
            pred_bboxes: predictions, (N, E).
            max_shape: image height and width that the result is clipped to, in pixels.

        Returns:
            Boxes (N, 4) in pixels; (0, 4) when there are none.
        """
        boxes = self.delta_coder.decode(
            get_box_tensor(bboxes),
            self.deltas(pred_bboxes),
            max_shape=max_shape if self.clip_border else None,
            wh_ratio_clip=self.wh_ratio_clip,
        )
        return HorizontalBoxes(boxes) if self.use_box_type else boxes


@TASK_UTILS.register_module()
class OffsetBinBBoxCoder(DecodedDeltaCoder):
    """Decodes boxes from logits of offset bins.

    A prediction is 4 * K * n wide, in the order coordinate (x, y, w, h), stage, bin.

    Args:
        bins: the bins, or the arguments of ``OffsetBins``; None for the paper's defaults.
        decode_mode: how logits become offsets, see ``OffsetBins.decode_stages``. Training without
            a cascade does not use it. In a cascade each head has its own coder; the heads before
            the last should keep "expectation", because the next head starts from their boxes.
        composition: reference of the offset of stage k > 1: the box that the earlier stages
            predict, in units of that box ("refine"), or the sum of their offsets, in units of the
            proposal ("sum", equation 11).
        **kwargs: the arguments of ``DecodedDeltaCoder``.

    Raises:
        ValueError: an unknown ``decode_mode`` or ``composition``, or bins that ``OffsetBins``
            refuses.
    """

    def __init__(
        self,
        bins: OffsetBins | Mapping[str, Any] | None = None,
        decode_mode: DecodeMode = "expectation",
        composition: Composition = "refine",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_choice("decode_mode", decode_mode, DecodeMode)
        check_choice("composition", composition, Composition)
        self.bins = bins if isinstance(bins, OffsetBins) else OffsetBins(**(bins or {}))
        self.decode_mode = decode_mode
        self.composition = composition

    @property
    def encode_size(self) -> int:
        """Width of a prediction for one box and class: 4 * K * n."""
        return 4 * self.bins.num_stages * self.bins.num_logits

    def deltas(self, predictions: Tensor) -> Tensor:
        """Normalised deltas (N, 4) of logits (N, 4 * K * n), float32."""
        logits = self.stage_logits(predictions)
        return self.compose(self.bins.decode_stages(logits, self.decode_mode))

    def stage_logits(self, predictions: Tensor) -> Tensor:
        """View predictions (..., 4 * K * n) as logits (..., 4, K, n).

        Raises:
            ValueError: the predictions do not have the width for K stages.
        """
        if predictions.shape[-1] != self.encode_size:
            raise ValueError(
                f"predictions are {predictions.shape[-1]} wide; {self.bins.num_stages} stages of "
                f"{self.bins.num_logits} logits need {self.encode_size} (an OBCHead whose later "
                "stages have features of their own needs the roi_head type OBCRoIHead)"
            )
        return predictions.unflatten(-1, (4, self.bins.num_stages, self.bins.num_logits))

    def compose(self, stages: Tensor) -> Tensor:
        """Offsets from the proposals to the boxes that the first k stages predict together.

        Args:
            stages: offsets that the stages predict, (..., 4, k), k from 1 to K.

        Returns:
            Offsets (..., 4) in units of the proposals.
        """
        return (stages * self._units(stages)).sum(-1)

    def residuals(self, offsets: Tensor, stages: Tensor) -> Tensor:
        """Residual of each stage: the part of the offset that the earlier stages leave to it.

        Args:
            offsets: true offsets, (..., 4).
            stages: offsets that the stages predict, (..., 4, K).

        Returns:
            Residuals (..., 4, K); those of stage 1 are the offsets. ``compose`` of the first k - 1
            stages and the residual of stage k returns the offsets.
        """
        units = self._units(stages)
        earlier = _before(stages * units)
        return (offsets[..., None] - earlier) / units

    def _units(self, stages: Tensor) -> Tensor:
        """Factors (..., 4, k), or (1,), that convert each stage's offsets to the proposal's units.

        Shifts of the centre are in units of the size of the stage's reference box: their factor is
        that size over the proposal's. Changes of size are logarithms: their factor is 1.
        """
        if self.composition == "sum" or stages.shape[-1] == 1:
            return stages.new_ones(1)
        means, stds = (part[2:, None] for part in normaliser(self.delta_coder, stages.device))
        sizes = (_before(stages[..., 2:, :] * stds) + means).exp()
        # Stage 1 measures from the proposal.
        sizes = F.pad(sizes[..., 1:], (1, 0), value=1.0)
        return F.pad(sizes, (0, 0, 0, 2), value=1.0)


def _four(name: str, values: Sequence[float]) -> tuple[float, float, float, float]:
    numbers = floats(name, values)
    if len(numbers) != 4:
        raise ValueError(f"{name}={numbers} must be four numbers, for dx, dy, dw and dh")
    return numbers


def _before(stages: Tensor) -> Tensor:
    """For each of k stages the sum over the earlier stages, (..., k)."""
    return F.pad(stages[..., :-1].cumsum(-1), (1, 0))

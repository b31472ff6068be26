"""Boxes as deltas from other boxes (equation 1), in plain torch; no call makes a GPU wait.

The results equal those of MMDetection's ``DeltaXYWHBBoxCoder``, or of version 1's ``bbox2delta``
and ``delta2bbox``. MMDetection's coder copies means and standard deviations to the device in every
call, and the host waits for each copy.

Shape shorthand: ``...`` is any leading shape, e.g. N boxes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor


def pixel_edges(boxes: Tensor) -> Tensor:
    """Edges (..., 4) of boxes (..., 4) given by the first and the last pixel that they cover."""
    low, high = boxes.chunk(2, dim=-1)
    return torch.cat([low, high + 1.0], dim=-1)


@dataclass(frozen=True)
class DeltaCoder:
    """Normalised deltas (dx, dy, dw, dh) between boxes (x1, y1, x2, y2) in pixels.

    Args:
        means: means that normalise the deltas.
        stds: standard deviations that normalise them.
        legacy: boxes in whole pixels, x2 - x1 + 1 wide, as in MMDetection 1.x (see
            `obc.detector.whole_pixels`); decoding clips to the last pixel instead of the border.
    """

    means: tuple[float, float, float, float]
    stds: tuple[float, float, float, float]
    legacy: bool = False

    def encode(self, boxes: Tensor, gt_boxes: Tensor) -> Tensor:
        """Normalised deltas (..., 4), float32, from boxes to ground truth boxes, (..., 4) each."""
        centers, sizes = self._centers_and_sizes(boxes.float())
        gt_centers, gt_sizes = self._centers_and_sizes(gt_boxes.float())
        deltas = torch.cat([(gt_centers - centers) / sizes, (gt_sizes / sizes).log()], dim=-1)
        means, stds = normaliser(self, deltas.device)
        return (deltas - means) / stds

    def decode(
        self,
        boxes: Tensor,
        deltas: Tensor,
        max_shape: Sequence[int] | None = None,
        wh_ratio_clip: float = 16 / 1000,
    ) -> Tensor:
        """Apply normalised deltas (..., 4) to boxes (..., 4).

        This is the inverse of ``encode``, as long as nothing is clipped.

        Args:
            boxes: in pixels.
            deltas: normalised.
            max_shape: image height and width that the result is clipped to, in pixels.
            wh_ratio_clip: smallest factor by which width or height may change; the largest is its
                inverse.

        Returns:
            Boxes (..., 4) in pixels.
        """
        means, stds = normaliser(self, deltas.device)
        shifts, log_scales = (deltas * stds + means).chunk(2, dim=-1)
        limit = abs(math.log(wh_ratio_clip))
        centers, sizes = self._centers_and_sizes(boxes)
        centers = centers + sizes * shifts
        half_sizes = sizes * log_scales.clamp(-limit, limit).exp() * 0.5
        if self.legacy:
            half_sizes = half_sizes - 0.5
        decoded = torch.cat([centers - half_sizes, centers + half_sizes], dim=-1)
        if max_shape is not None:
            decoded[..., 0::2].clamp_(0, max_shape[1] - self.legacy)
            decoded[..., 1::2].clamp_(0, max_shape[0] - self.legacy)
        return decoded

    def edges(self, boxes: Tensor) -> Tensor:
        """Edges (..., 4) of this coder's boxes (..., 4), for overlaps and pictures."""
        return pixel_edges(boxes) if self.legacy else boxes

    def of_edges(self, edges: Tensor) -> Tensor:
        """Boxes (..., 4) in this coder's convention, from their edges (..., 4)."""
        low, high = edges.chunk(2, dim=-1)
        return torch.cat([low, high - 1.0], dim=-1) if self.legacy else edges

    def _centers_and_sizes(self, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Centres (x, y) and sizes (w, h) of boxes (..., 4), (..., 2) each."""
        low, high = boxes.chunk(2, dim=-1)
        sizes = high - low
        return (low + high) * 0.5, sizes + 1.0 if self.legacy else sizes


@lru_cache(maxsize=64)
def normaliser(coder: DeltaCoder, device: torch.device) -> tuple[Tensor, Tensor]:
    """Means and standard deviations on ``device``, copied only once: the host waits for a copy."""
    # Training cannot use a tensor that was created in inference mode.
    with torch.inference_mode(False):
        means, stds = torch.tensor([coder.means, coder.stds], dtype=torch.float32, device=device)
        return means, stds

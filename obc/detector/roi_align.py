"""RoIAlign as one weighted sum of pixels for each output bin, for training on a CPU.

Bilinear sampling followed by average pooling is a weighted sum of 4 S^2 pixels of a map per bin;
each weight is the product of a weight along x and one along y. The sums of all RoIs on all levels
are one lookup (``embedding_bag``) in a table of pixels, whose channels are adjacent in memory.
MMCV's CPU operator visits every sample of every channel in scalar code.

Shape shorthand: B images, C channels, map H x W, N RoIs, P output bins and S samples per bin along
each side, T = 2 S pixels per bin along each side, R pixels of all maps together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.registry import MODELS
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx


class SeparableRoIAlign(nn.Module):
    """``mmcv.ops.RoIAlign(pool_mode="avg")`` with a fixed number of samples.

    Args:
        output_size: P.
        spatial_scale: feature pixels per image pixel, 1 / stride.
        sampling_ratio: S, at least 1; MMCV's adaptive 0, where S depends on the RoI, is excluded.
        aligned: False for MMCV's older variant, whose pixel centres lie at whole numbers and whose
            RoIs are at least one feature pixel large.

    Raises:
        ValueError: ``sampling_ratio`` is less than 1.
    """

    def __init__(
        self, output_size: int, spatial_scale: float, sampling_ratio: int, aligned: bool = True
    ) -> None:
        super().__init__()
        if sampling_ratio < 1:
            raise ValueError(f"sampling_ratio={sampling_ratio}: separable RoIAlign needs 1 or more")
        self.output_size = (output_size, output_size)
        self.spatial_scale = spatial_scale
        self.sampling_ratio = sampling_ratio
        self.aligned = aligned

    def forward(self, features: Tensor, rois: Tensor) -> Tensor:
        """Pool features (B, C, H, W) of RoIs (N, 5), image index and box, to (N, C, P, P)."""
        return pool([self], [features], rois, torch.zeros_like(rois[:, 0], dtype=torch.long))


def pool(
    layers: Sequence[SeparableRoIAlign], maps: Sequence[Tensor], rois: Tensor, levels: Tensor
) -> Tensor:
    """Pool every RoI on its level.

    Args:
        layers: one for each level; they differ only in their scale.
        maps: features of each level (B, C, H, W).
        rois: (N, 5), image index and box in image pixels, in any order.
        levels: (N,), index of each RoI's level.

    Returns:
        (N, C, P, P).
    """
    bins, samples = layers[0].output_size[0], layers[0].sampling_ratio
    channels, device = maps[0].shape[1], rois.device
    extents = torch.tensor([level.shape[:1:-1] for level in maps], device=device)  # W, H
    scales = rois.new_tensor([layer.spatial_scale for layer in layers])
    areas = extents.prod(1)
    before = (areas * len(maps[0])).cumsum(0) - areas * len(maps[0])
    first = before[levels] + rois[:, 0].long() * areas[levels]
    extents = extents[levels]
    boxes = rois[:, 1:] * scales[levels, None] - (0.5 if layers[0].aligned else 0.0)
    starts, sizes = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
    if not layers[0].aligned:
        sizes = sizes.clamp(min=1)
    pixels, weights = axis_pixels(starts, sizes, extents, bins, samples)
    rows = pixels[:, 1] * extents[:, :1, None].int() + first[:, None, None].int()
    index = rows[:, :, None, :, None] + pixels[:, 0, None, :, None, :]  # (N, P, P, T, T)
    weight = weights[:, 1, :, None, :, None] * weights[:, 0, None, :, None, :]
    table = torch.cat([level.permute(0, 2, 3, 1).reshape(-1, channels) for level in maps])
    pooled = _WeightedSums.apply(table, index.flatten(0, 2).flatten(1), weight.view(*index.shape))
    return pooled.view(-1, bins, bins, channels).permute(0, 3, 1, 2).contiguous()


def axis_pixels(
    starts: Tensor, sizes: Tensor, extents: Tensor, bins: int, samples: int
) -> tuple[Tensor, Tensor]:
    """Columns and rows of a map that each output bin uses, and their weights.

    A sample at position y gives the two pixels next to it the weights 1 - |y - pixel|. As in MMCV,
    positions are clamped to the map, and a sample more than one pixel outside has weight 0.

    Args:
        starts, sizes: (N, 2), of the RoIs along x and y, in feature pixels; pixel 0 is at 0.
        extents: (N, 2), pixels of each RoI's map along x and y.
        bins: P.
        samples: S.

    Returns:
        Pixels (N, 2, P, T), integers, and their weights (N, 2, P, T). The weights of a bin add up
        to 1 if all its samples lie on the map.
    """
    steps = torch.arange(bins * samples, dtype=starts.dtype, device=starts.device) + 0.5
    positions = starts[..., None] + sizes[..., None] * (steps / (bins * samples))
    inside = (positions >= -1) & (positions <= extents[..., None])
    last = (extents[..., None] - 1).to(starts.dtype)
    positions = positions.clamp(min=0).minimum(last)
    lower = positions.floor()
    upper = (lower + 1).minimum(last)
    fraction = positions - lower
    pixels = torch.stack((lower, upper), -1).int()
    weights = torch.stack((1 - fraction, fraction), -1) * (inside[..., None] / samples)
    shape = (-1, 2, bins, 2 * samples)
    return pixels.view(shape), weights.to(starts.dtype).view(shape)


class _WeightedSums(torch.autograd.Function):
    """Weighted sums of rows of a table; ``embedding_bag`` with a faster gradient on a CPU.

    The gradient of ``embedding_bag`` sorts the index with one thread and adds row by row. Here the
    gradient is computed by ``embedding_bag`` too: for each pixel a weighted sum over bins.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, table: Tensor, index: Tensor, weight: Tensor) -> Tensor:
        """Weighted sums (M, C) of the rows of ``table`` (R, C) that ``index`` (M, K) selects."""
        weight = weight.view(index.shape)
        ctx.save_for_backward(index, weight)
        ctx.rows = len(table)
        return F.embedding_bag(index, table, per_sample_weights=weight, mode="sum")

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """The gradient (R, C) of the table."""
        index, weight = ctx.saved_tensors
        sums, starts, weights = _transposed(index, weight, ctx.rows)
        of_table = F.embedding_bag(
            sums, gradient.contiguous(), starts, per_sample_weights=weights, mode="sum"
        )
        return of_table, None, None


def _transposed(index: Tensor, weight: Tensor, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """The sums that use each row of the table: their indices, each row's start, their weights."""
    number, each = index.shape
    if index.device.type != "cpu":
        order = index.flatten().argsort(stable=True)
        counts = torch.bincount(index.flatten(), minlength=rows)
        return order // each, counts.cumsum(0) - counts, weight.flatten()[order]
    from scipy.sparse import csr_matrix

    values = weight.to(torch.float64 if weight.dtype == torch.float64 else torch.float32)
    begins = torch.arange(0, index.numel() + 1, each, dtype=torch.int32)
    transposed = csr_matrix(
        (values.flatten().numpy(), index.flatten().numpy(), begins.numpy()), (number, rows)
    ).tocsc()
    sums, starts, weights = map(
        torch.from_numpy, (transposed.indices, transposed.indptr[:-1], transposed.data)
    )
    return sums, starts, weights.to(weight.dtype)


@MODELS.register_module()
class SeparableRoIExtractor(SingleRoIExtractor):
    """``SingleRoIExtractor`` whose levels are pooled by ``SeparableRoIAlign``, all at once."""

    def build_roi_layers(
        self, layer_cfg: dict[str, Any], featmap_strides: list[int]
    ) -> nn.ModuleList:
        """One layer per level; ``type`` of ``layer_cfg`` is not read."""
        options = {key: value for key, value in layer_cfg.items() if key != "type"}
        return nn.ModuleList(
            SeparableRoIAlign(spatial_scale=1 / stride, **options) for stride in featmap_strides
        )

    def forward(
        self, feats: tuple[Tensor, ...], rois: Tensor, roi_scale_factor: float | None = None
    ) -> Tensor:
        """Pool each RoI of (N, 5) on its level, to (N, C, P, P)."""
        # A subclass may have wrapped the layers; then each pools its own level.
        plain = all(isinstance(layer, SeparableRoIAlign) for layer in self.roi_layers)
        if len(rois) == 0 or roi_scale_factor is not None or not plain:
            return super().forward(feats, rois, roi_scale_factor)
        rois = rois.type_as(feats[0])
        maps = feats[: len(self.roi_layers)]
        return pool(self.roi_layers, maps, rois, self.map_roi_levels(rois, len(maps)))

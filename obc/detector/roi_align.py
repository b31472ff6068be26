"""RoIAlign as two matrix products, for small feature maps on a CPU.

Bilinear sampling followed by average pooling is separable: with the weights Wy (P, H) and Wx (P, W)
of a map's rows and columns in each output bin, the feature of an RoI is Wy X Wx^T. MMCV's CPU
operator visits every sample of every channel in scalar code and is the largest cost of a training
step on small maps. On large maps it is the faster one: the products touch the whole map for every
RoI.

Shape shorthand: B images, C channels, map H x W, N RoIs, P output bins and S samples a bin along
each side.
"""

from __future__ import annotations

from typing import Any

import torch
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.registry import MODELS
from torch import Tensor, nn


class SeparableRoIAlign(nn.Module):
    """``mmcv.ops.RoIAlign(pool_mode="avg")`` with a fixed number of samples.

    Args:
        output_size: P.
        spatial_scale: feature pixels per image pixel, 1 / stride.
        sampling_ratio: S, at least 1; the adaptive 0 of MMCV differs from RoI to RoI.
        aligned: False for MMDetection 1's RoIAlign, whose pixel centres lie at whole numbers and
            whose RoIs are at least one feature pixel large.

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
        """Pool features (B, C, H, W) of RoIs (N, 5), image index and box, to (N, C, P, P).

        RoIs must come in the order of their images, as MMDetection's ``bbox2roi`` makes them.
        """
        images, channels, height, width = features.shape
        bins = self.output_size[0]
        boxes = rois[:, 1:] * self.spatial_scale - (0.5 if self.aligned else 0.0)
        starts, sizes = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
        if not self.aligned:
            sizes = sizes.clamp(min=1)
        columns = axis_weights(starts[:, 0], sizes[:, 0], bins, width, self.sampling_ratio)
        rows = axis_weights(starts[:, 1], sizes[:, 1], bins, height, self.sampling_ratio)
        counts = torch.bincount(rois[:, 0].long(), minlength=images).tolist()
        maps = features.permute(0, 2, 3, 1).reshape(images, height, width * channels)
        pooled = torch.cat(
            [
                of_image.reshape(-1, height) @ maps[image]
                for image, of_image in enumerate(rows.split(counts))
            ]
        ).view(-1, width, channels)
        columns = columns[:, None].expand(-1, bins, -1, -1).reshape(-1, bins, width)
        return (columns @ pooled).view(len(rois), bins, bins, channels).permute(0, 3, 1, 2)


def axis_weights(start: Tensor, length: Tensor, bins: int, extent: int, samples: int) -> Tensor:
    """How much each row (or column) of a map contributes to each output bin.

    A sample at position y weighs the pixels next to it by 1 - |y - pixel|; positions are clamped to
    the map, and count nothing more than one pixel outside of it, as in MMCV.

    Args:
        start, length: (N,), of the RoIs along this axis, in feature pixels; pixel 0 is at 0.
        bins: P.
        extent: number of pixels E of the map along this axis.
        samples: S.

    Returns:
        (N, P, E).
    """
    steps = torch.arange(bins * samples, dtype=start.dtype, device=start.device) + 0.5
    positions = start[:, None] + length[:, None] * (steps / (bins * samples))
    inside = (positions >= -1) & (positions <= extent)
    pixels = torch.arange(extent, dtype=start.dtype, device=start.device)
    distances = (positions.clamp(0, extent - 1)[..., None] - pixels).abs()
    weights = (1 - distances).clamp(min=0) * inside[..., None]
    return weights.unflatten(1, (bins, samples)).mean(2)


@MODELS.register_module()
class SeparableRoIExtractor(SingleRoIExtractor):
    """``SingleRoIExtractor`` whose levels are pooled by ``SeparableRoIAlign``."""

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
        """Pool each RoI of (N, 5) on its level, to (N, C, P, P); without copies of levels."""
        if len(rois) == 0 or roi_scale_factor is not None:
            return super().forward(feats, rois, roi_scale_factor)
        rois = rois.type_as(feats[0])
        levels = self.map_roi_levels(rois, len(feats))
        order = levels.argsort(stable=True)
        counts = torch.bincount(levels, minlength=len(feats)).tolist()
        pooled = [
            layer(features, of_level)
            for layer, features, of_level in zip(
                self.roi_layers, feats, rois[order].split(counts), strict=True
            )
            if len(of_level)
        ]
        return torch.cat(pooled)[order.argsort()].contiguous()

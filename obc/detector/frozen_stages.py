"""Feature maps of a backbone's frozen stages, computed once for each training image and kept.

Frozen stages give the same maps of an image in every epoch. On a CPU, with few small images, the
maps fit into memory.

Shape shorthand: B images, C channels, map H x W.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Protocol, runtime_checkable

import torch
from mmdet.models.backbones import ResNet
from mmdet.structures import DetDataSample
from torch import Tensor, nn


@runtime_checkable
class SplitBackbone(Protocol):
    """A backbone that can stop after its frozen stages and continue from their maps."""

    def frozen_outputs(self, images: Tensor) -> list[Tensor]:
        """Maps (B, C, H, W) of the frozen stages that the rest needs; none if nothing is frozen."""

    def from_frozen(self, outputs: list[Tensor]) -> tuple[Tensor, ...]:
        """The backbone's maps, computed from the maps of its frozen stages."""


class _SplitResNet:
    """MMDetection's ResNet and ResNeXt as a `SplitBackbone`."""

    def __init__(self, backbone: ResNet) -> None:
        self.backbone = backbone
        self.frozen = max(backbone.frozen_stages, 0)
        self.kept = [i for i in range(self.frozen) if self._is_needed(i)]

    def _is_needed(self, stage: int) -> bool:
        return stage in self.backbone.out_indices or stage == self.frozen - 1

    def frozen_outputs(self, images: Tensor) -> list[Tensor]:
        net, outputs = self.backbone, []
        if self.frozen == 0:
            return []
        maps = net.stem(images) if net.deep_stem else net.relu(net.norm1(net.conv1(images)))
        maps = net.maxpool(maps)
        for stage in range(self.frozen):
            maps = getattr(net, net.res_layers[stage])(maps)
            if stage in self.kept:
                outputs.append(maps)
        return outputs

    def from_frozen(self, outputs: list[Tensor]) -> tuple[Tensor, ...]:
        net, maps = self.backbone, outputs[-1]
        wanted = dict(zip(self.kept, outputs, strict=True))
        for stage in range(self.frozen, len(net.res_layers)):
            maps = wanted[stage] = getattr(net, net.res_layers[stage])(maps)
        return tuple(wanted[stage] for stage in net.out_indices)


def split(backbone: nn.Module) -> SplitBackbone | None:
    """The backbone as a `SplitBackbone`; None if it cannot be split."""
    if type(backbone).forward is ResNet.forward:
        return _SplitResNet(backbone)
    return backbone if isinstance(backbone, SplitBackbone) else None


class KeptMaps:
    """Cache of the frozen stages' maps, by image, flip direction and size of the padded batch."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, list[Tensor]] = {}

    def backbone_maps(
        self, backbone: nn.Module, images: Tensor, samples: Sequence[DetDataSample]
    ) -> tuple[Tensor, ...]:
        """The result of `backbone(images)`, computed from kept maps where possible.

        Args:
            backbone: its frozen stages must not change between calls.
            images: (B, 3, H, W), normalised.
            samples: data samples, which identify the images.
        """
        parts = split(backbone)
        if parts is None:
            return backbone(images)
        names = [_name(sample, images) for sample in samples]
        missing = [index for index, name in enumerate(names) if name not in self._kept]
        if missing:
            # At least two images: a convolution may sum in another order for a single image, and
            # the grouping of images must not change the digits of an interrupted training.
            with torch.no_grad():
                outputs = parts.frozen_outputs(images[missing if missing[1:] else 2 * missing])
            if not outputs:
                return backbone(images)
            for of_image, index in enumerate(missing):
                self._kept[names[index]] = [_channels_last(maps[of_image]) for maps in outputs]
        of_images = [self._kept[name] for name in names]
        stacked = [torch.stack(maps).permute(0, 3, 1, 2) for maps in zip(*of_images, strict=True)]
        if not images.is_contiguous(memory_format=torch.channels_last):
            stacked = [maps.contiguous() for maps in stacked]
        return parts.from_frozen(stacked)


def _channels_last(maps: Tensor) -> Tensor:
    """Copy of maps (C, H, W) as (H, W, C)."""
    return maps.permute(1, 2, 0).clone(memory_format=torch.contiguous_format)


def _name(sample: DetDataSample, images: Tensor) -> Hashable:
    meta = sample.metainfo
    return meta["img_id"], meta.get("flip_direction"), tuple(images.shape[2:])

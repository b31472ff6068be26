"""What the frozen stages of a backbone make of a training image, computed once and kept.

The stages that a training leaves as they are give the same maps of an image at every epoch. On a
CPU, with few small images, the maps fit into memory.

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
    """A backbone that can stop after its frozen stages, and go on from there."""

    def frozen_outputs(self, images: Tensor) -> list[Tensor]:
        """Maps (B, C, H, W) of the frozen stages that the rest needs; none if nothing is frozen."""

    def from_frozen(self, outputs: list[Tensor]) -> tuple[Tensor, ...]:
        """The backbone's maps, from those of its frozen stages."""


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
    """A backbone as one that can be split; None: there is no such form of it."""
    if type(backbone).forward is ResNet.forward:
        return _SplitResNet(backbone)
    return backbone if isinstance(backbone, SplitBackbone) else None


class KeptMaps:
    """Maps of the frozen stages, by image, mirroring and size of the padded batch."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, list[Tensor]] = {}

    def backbone_maps(
        self, backbone: nn.Module, images: Tensor, samples: Sequence[DetDataSample]
    ) -> tuple[Tensor, ...]:
        """What `backbone(images)` returns, from kept maps where there are such.

        Args:
            backbone: its frozen stages must not change between calls.
            images: (B, 3, H, W), normalised.
            samples: which images these are.
        """
        parts = split(backbone)
        if parts is None:
            return backbone(images)
        names = [_name(sample, images) for sample in samples]
        missing = [index for index, name in enumerate(names) if name not in self._kept]
        if missing:
            # Two at least: a convolution may sum one image in an order of its own, and which images
            # come together must not show in the digits of a training that was interrupted.
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
    """(C, H, W) as (H, W, C), in memory of its own."""
    return maps.permute(1, 2, 0).clone(memory_format=torch.contiguous_format)


def _name(sample: DetDataSample, images: Tensor) -> Hashable:
    meta = sample.metainfo
    return meta["img_id"], meta.get("flip_direction"), tuple(images.shape[2:])

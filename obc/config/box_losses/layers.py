"""Layers of a box head as numbers, so that a box loss states its cost without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Part = Literal["stem", "stage1", "stage2", "stage3", "stage4", "neck", "rpn", "box"]
ROI_SIDE = 7


@dataclass(frozen=True)
class Layer:
    """A convolution or linear layer with what normalises it: its part, operations, weights."""

    part: Part
    flops: int
    parameters: int


@dataclass(frozen=True)
class HeadShape:
    """The detector around a box head, as far as a box loss depends on it.

    Attributes:
        num_classes: without the background.
        channels: of a RoI feature.
        width: of the shared fully connected layers.
        cascade: whether the detector is a Cascade R-CNN.
    """

    num_classes: int
    channels: int
    width: int
    cascade: bool

    @property
    def region(self) -> int:
        """Numbers of one RoI feature."""
        return self.channels * ROI_SIDE**2


def linear(channels: int, out: int, rois: int) -> Layer:
    """A fully connected layer of the box head, applied to `rois` vectors."""
    return Layer("box", 2 * channels * out * rois, channels * out + out)


def convolution(
    part: Part,
    channels: int,
    out: int,
    kernel: int,
    after: tuple[int, int],
    groups: int = 1,
    bias: bool = False,
) -> Layer:
    """A convolution whose output is `after` (height, width); without bias it has a batch norm."""
    weights = out * channels // groups * kernel**2
    return Layer(part, 2 * weights * after[0] * after[1], weights + out * (1 if bias else 2))

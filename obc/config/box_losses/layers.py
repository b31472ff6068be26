"""Operations and parameters of layers, so that a box loss can state its cost without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Part = Literal["stem", "stage1", "stage2", "stage3", "stage4", "neck", "rpn", "box"]
ROI_SIDE = 7


@dataclass(frozen=True)
class Layer:
    """A convolution or linear layer with its batch norm, if any: part, operations, parameters."""

    part: Part
    flops: int
    parameters: int


@dataclass(frozen=True)
class HeadShape:
    """The properties of the detector that a box loss depends on.

    Attributes:
        num_classes: number of classes without the background.
        channels: channels of a RoI feature.
        width: outputs of each shared fully connected layer.
        cascade: whether the detector is a Cascade R-CNN.
    """

    num_classes: int
    channels: int
    width: int
    cascade: bool

    @property
    def region(self) -> int:
        """Number of values in one RoI feature."""
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
    """A convolution whose output is `after` (height, width); without a bias it has a batch norm."""
    weights = out * channels // groups * kernel**2
    return Layer(part, 2 * weights * after[0] * after[1], weights + out * (1 if bias else 2))

"""Compute a detector's operations per image and its number of weights from closed formulas.

Convolutions and matrix products are counted, a multiply-add as two operations, as torch's
FlopCounterMode does. RoIAlign, NMS, losses and other small operations are not counted. With
formulas `obc plan` needs neither torch nor MMDetection; a test compares them with both.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, floor

from obc.config.box_losses.layers import HeadShape, Layer, Part, convolution, linear
from obc.config.run import ResolvedRun
from obc.config.scale import Network, Sizes

BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
# EfficientNet-Lite in timm: channels and number of blocks of its seven groups. Another timm network
# is counted as the first one; measurements of finished trainings correct the estimated time.
EFFICIENTNETS = {
    "tf_efficientnet_lite0": ((16, 24, 40, 80, 112, 192, 320), (1, 2, 2, 3, 3, 4, 1)),
    "tf_efficientnet_lite1": ((16, 24, 40, 80, 112, 192, 320), (1, 3, 3, 4, 4, 5, 1)),
    "tf_efficientnet_lite2": ((16, 24, 48, 88, 120, 208, 352), (1, 3, 3, 4, 4, 5, 1)),
}
# For each group: kernel size, number of halvings of the image after it, part of the network.
GROUPS: tuple[tuple[int, int, Part], ...] = (
    (3, 1, "stem"),
    (3, 2, "stage1"),
    (5, 3, "stage2"),
    (3, 4, "stage3"),
    (5, 4, "stage3"),
    (5, 5, "stage4"),
    (3, 5, "stage4"),
)
STEM, EXPANSION = 32, 6
LEVELS = 5
ANCHORS = 3
PAD = 32
# Width : height of a typical photograph of VOC and COCO; embedded scenes are square.
PHOTOGRAPH = 4 / 3
# Used if a scale leaves the number to the protocol: the value of MMDetection's base config.
TEST_PROPOSALS = 1000


def image_size(scale: tuple[int, int], photographs: bool) -> tuple[int, int]:
    """Padded height and width of a typical image, resized to `scale` with its aspect ratio kept."""
    longest, shortest = max(scale), min(scale)
    ratio = PHOTOGRAPH if photographs else 1.0
    width = min(longest, round(shortest * ratio))
    return tuple(ceil(side / PAD) * PAD for side in (round(width / ratio), width))


def training_flops(run: ResolvedRun, num_classes: int, photographs: bool) -> int:
    """Operations per image in training.

    The backward pass takes twice as many as the forward pass; frozen stages have no backward pass.
    """
    frozen = ("stem", "stage1", "stage2", "stage3", "stage4")[: run.sizes.frozen_stages + 1]
    size = image_size(run.sizes.image_scale[run.spec.dataset], photographs)
    return sum(
        layer.flops * (1 if layer.part in frozen else 3)
        for layer in layers(run, num_classes, size, run.sizes.sampled_rois)
    )


def evaluation_flops(run: ResolvedRun, num_classes: int, photographs: bool) -> int:
    """Operations per image in evaluation."""
    size = image_size(run.sizes.image_scale[run.spec.dataset], photographs)
    rois = run.sizes.test_proposals or TEST_PROPOSALS
    return sum(layer.flops for layer in layers(run, num_classes, size, rois))


def parameters(run: ResolvedRun, num_classes: int) -> int:
    """Number of weights of the run's detector."""
    return sum(layer.parameters for layer in layers(run, num_classes, (PAD, PAD), 1))


def layers(run: ResolvedRun, num_classes: int, size: tuple[int, int], rois: int) -> Iterator[Layer]:
    """Yield every layer of a run's detector for an image of `size` (height, width) and `rois` RoIs.

    A layer that is applied to several levels, or in several stages, is yielded once for each; only
    the first has its weights.
    """
    yield from _backbone(run.network, run.spec.detector, size)
    yield from _neck(run.network, run.sizes, size)
    yield from _rpn(run.sizes, size)
    heads = 1 if run.spec.cascade is None else len(run.spec.cascade.ious)
    for _ in range(heads):
        yield from _box_head(run, num_classes, rois)


def _backbone(network: Network, detector: str, size: tuple[int, int]) -> Iterator[Layer]:
    if network.timm is not None:
        yield from _efficientnet(network.timm, size)
        return
    base, bottleneck = network.base_channels, network.depth >= 50
    groups = network.groups[detector] if network.groups else 1
    yield convolution("stem", 3, base, 7, _halved(size, 1))
    channels = base
    for index, blocks in enumerate(BLOCKS[network.depth]):
        part: Part = ("stage1", "stage2", "stage3", "stage4")[index]
        planes = base * 2**index
        width = planes if groups == 1 else floor(planes * network.base_width / base) * groups
        out = planes * (4 if bottleneck else 1)
        after = _halved(size, 2 + index)
        for block in range(blocks):
            before = _halved(size, 2 + index - (index > 0 and block == 0))
            if bottleneck:
                yield convolution(part, channels, width, 1, before)
                yield convolution(part, width, width, 3, after, groups)
                yield convolution(part, width, out, 1, after)
            else:
                yield convolution(part, channels, planes, 3, after)
                yield convolution(part, planes, planes, 3, after)
            if block == 0 and (index > 0 or channels != out):
                yield convolution(part, channels, out, 1, after)
            channels = out


def _efficientnet(name: str, size: tuple[int, int]) -> Iterator[Layer]:
    groups, repeats = _described(name)
    yield convolution("stem", 3, STEM, 3, _halved(size, 1))
    channels, before = STEM, _halved(size, 1)
    for (kernel, halvings, part), out, blocks in zip(GROUPS, groups, repeats, strict=True):
        after = _halved(size, halvings)
        for _ in range(blocks):
            width = channels
            if part != "stem":
                width = EXPANSION * channels
                yield convolution(part, channels, width, 1, before)
            yield convolution(part, width, width, kernel, after, width)
            yield convolution(part, width, out, 1, after)
            channels, before = out, after


def _described(name: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return EFFICIENTNETS.get(name, next(iter(EFFICIENTNETS.values())))


def _map_channels(network: Network) -> tuple[int, ...]:
    """Channels of the backbone's feature maps of stride 4, 8, 16 and 32."""
    if network.timm is not None:
        groups, _ = _described(network.timm)
        return groups[1], groups[2], groups[4], groups[6]
    expansion = 4 if network.depth >= 50 else 1
    return tuple(network.base_channels * expansion * 2**level for level in range(4))


def _neck(network: Network, sizes: Sizes, size: tuple[int, int]) -> Iterator[Layer]:
    bias = sizes.neck_norm is None
    for level in range(_finest_level(sizes), 4):
        channels, after = _map_channels(network)[level], _halved(size, 2 + level)
        yield convolution("neck", channels, sizes.neck_channels, 1, after, bias=bias)
        yield convolution("neck", sizes.neck_channels, sizes.neck_channels, 3, after, bias=bias)


def _finest_level(sizes: Sizes) -> int:
    return sizes.finest_stride.bit_length() - 3


def _rpn(sizes: Sizes, size: tuple[int, int]) -> Iterator[Layer]:
    channels = sizes.neck_channels
    finest = _finest_level(sizes)
    for level in range(finest, LEVELS):
        for out, kernel in ((channels, 3), (ANCHORS, 1), (4 * ANCHORS, 1)):
            layer = convolution("rpn", channels, out, kernel, _halved(size, 2 + level), bias=True)
            yield Layer(layer.part, layer.flops, layer.parameters if level == finest else 0)


def _box_head(run: ResolvedRun, num_classes: int, rois: int) -> Iterator[Layer]:
    shape = HeadShape(
        num_classes, run.sizes.neck_channels, run.sizes.fc_channels, run.spec.cascade is not None
    )
    yield linear(shape.region, shape.width, rois)
    yield linear(shape.width, num_classes + 1, rois)
    yield from run.spec.box.layers(shape, rois)


def _halved(size: tuple[int, int], times: int) -> tuple[int, int]:
    """Size of a feature map after `times` layers of stride two."""
    return tuple(ceil(side / 2**times) for side in size)

"""Separable RoIAlign is MMCV's RoIAlign, computed otherwise."""

from __future__ import annotations

import pytest
import torch
from mmcv.ops import RoIAlign
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from torch import Tensor

from obc.detector.roi_align import SeparableRoIAlign, SeparableRoIExtractor, axis_pixels

STRIDE = 4
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


def features(images: int = 3) -> Tensor:
    return torch.randn(images, 5, 9, 12, generator=torch.Generator().manual_seed(0))


def rois(images: int = 3, each: int = 6) -> Tensor:
    """Boxes inside, across and far outside of the map (48 x 36 image pixels)."""
    generator = torch.Generator().manual_seed(1)
    corner = torch.rand(images * each, 2, generator=generator) * 80 - 25
    size = torch.rand(images * each, 2, generator=generator) * 40
    index = torch.arange(images).repeat_interleave(each)[:, None].float()
    return torch.cat((index, corner, corner + size), 1)


def both(samples: int, aligned: bool = True) -> tuple[SeparableRoIAlign, RoIAlign]:
    options = {"spatial_scale": 1 / STRIDE, "sampling_ratio": samples, "aligned": aligned}
    return SeparableRoIAlign(7, **options), RoIAlign(7, **options)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("samples", [1, 2, 3])
def test_pools_as_mmcv_does(samples: int, aligned: bool) -> None:
    separable, reference = both(samples, aligned)
    torch.testing.assert_close(
        separable(features(), rois()), reference(features(), rois()), atol=1e-5, rtol=1e-5
    )


def test_sends_the_gradient_back_as_mmcv_does() -> None:
    gradients = []
    for layer in both(2):
        inputs = features().requires_grad_()
        layer(inputs, rois()).square().sum().backward()
        gradients.append(inputs.grad)
    torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-4)


def test_an_image_without_rois_leaves_the_others_alone() -> None:
    separable, reference = both(2)
    boxes = rois()
    boxes = boxes[boxes[:, 0] != 1]
    torch.testing.assert_close(
        separable(features(), boxes), reference(features(), boxes), atol=1e-5, rtol=1e-5
    )


def test_no_rois_give_no_features() -> None:
    assert both(2)[0](features(), rois()[:0]).shape == (0, 5, 7, 7)


def test_a_sample_between_two_pixels_weighs_both() -> None:
    # One bin of length 1 that starts at 2.25 and 0, one sample: its middles are 2.75, which is a
    # quarter of pixel 2 and three quarters of pixel 3, and 0.5, half of pixel 0 and of pixel 1.
    pixels, weights = axis_pixels(
        torch.tensor([[2.25, 0.0]]), torch.ones(1, 2), torch.tensor([[5, 5]]), bins=1, samples=1
    )
    assert pixels.tolist() == [[[[2, 3]], [[0, 1]]]]
    assert weights.tolist() == [[[[0.25, 0.75]], [[0.5, 0.5]]]]


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_gpu)])
def test_rois_of_several_levels_are_pooled_on_their_own(device: str) -> None:
    maps = [torch.randn(2, 5, side, side, device=device, requires_grad=True) for side in (16, 8, 4)]
    options = {"out_channels": 5, "featmap_strides": [4, 8, 16], "finest_scale": 8}
    layer = {"type": "RoIAlign", "output_size": 7, "sampling_ratio": 2}
    sides = torch.tensor([40.0, 4.0, 20.0, 30.0, 12.0])
    boxes = torch.zeros(5, 5, device=device)
    boxes[:, 0] = torch.tensor([1, 0, 1, 0, 0])  # in no order of images or levels
    boxes[:, 3:] = sides[:, None]
    seen = []
    for extractor in (
        SeparableRoIExtractor(layer, **options),
        SingleRoIExtractor(layer, **options),
    ):
        pooled = extractor(tuple(maps), boxes)
        seen.append((pooled, *torch.autograd.grad(pooled.square().sum(), maps)))
    for here, there in zip(*seen, strict=True):
        torch.testing.assert_close(here, there, atol=1e-4, rtol=1e-4)


def test_half_precision_comes_back_in_half_precision() -> None:
    inputs = features().bfloat16().requires_grad_()
    pooled = both(2)[0](inputs, rois().bfloat16())
    pooled.sum().backward()
    assert pooled.dtype == inputs.grad.dtype == torch.bfloat16


def test_adaptive_sampling_is_refused() -> None:
    with pytest.raises(ValueError, match="sampling_ratio=0"):
        SeparableRoIAlign(7, spatial_scale=0.25, sampling_ratio=0)


def test_the_extractor_gives_each_level_its_stride() -> None:
    extractor = SeparableRoIExtractor(
        {"type": "RoIAlign", "output_size": 7, "sampling_ratio": 2}, 5, [4, 8]
    )
    assert [layer.spatial_scale for layer in extractor.roi_layers] == [1 / 4, 1 / 8]

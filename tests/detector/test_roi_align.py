"""Separable RoIAlign is MMCV's RoIAlign, computed otherwise."""

from __future__ import annotations

import pytest
import torch
from mmcv.ops import RoIAlign
from torch import Tensor

from obc.detector.roi_align import SeparableRoIAlign, SeparableRoIExtractor, axis_weights

STRIDE = 4


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
    # One bin of length 1 that starts at 2.25, one sample: its middle, 2.75, is a quarter of pixel 2
    # and three quarters of pixel 3.
    weights = axis_weights(torch.tensor([2.25]), torch.tensor([1.0]), bins=1, extent=5, samples=1)
    torch.testing.assert_close(weights, torch.tensor([[[0.0, 0.0, 0.25, 0.75, 0.0]]]))


def test_adaptive_sampling_is_refused() -> None:
    with pytest.raises(ValueError, match="sampling_ratio=0"):
        SeparableRoIAlign(7, spatial_scale=0.25, sampling_ratio=0)


def test_the_extractor_gives_each_level_its_stride() -> None:
    extractor = SeparableRoIExtractor(
        {"type": "RoIAlign", "output_size": 7, "sampling_ratio": 2}, 5, [4, 8]
    )
    assert [layer.spatial_scale for layer in extractor.roi_layers] == [1 / 4, 1 / 8]

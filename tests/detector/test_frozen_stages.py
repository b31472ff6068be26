"""Maps of frozen stages that are kept are those that the backbone would compute again."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mmdet.models.backbones import ResNet, ResNeXt
from mmdet.structures import DetDataSample
from torch import Tensor, nn

from obc.detector.frozen_stages import KeptMaps, split

SMALL = {"depth": 18, "base_channels": 8, "stem_channels": 8}
NETWORKS = {
    "ResNet": lambda **options: ResNet(**SMALL, **options),
    "ResNet with deep stem": lambda **options: ResNet(**SMALL, deep_stem=True, **options),
    "ResNeXt": lambda **options: ResNeXt(
        depth=50, base_channels=8, stem_channels=8, groups=2, base_width=4, **options
    ),
}


def images(*numbers: int) -> Tensor:
    """Noise, the same for the same number."""
    return torch.stack(
        [torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(n)) for n in numbers]
    )


def samples(*numbers: int, flipped: bool = False) -> list[DetDataSample]:
    direction = "horizontal" if flipped else None
    return [DetDataSample(metainfo={"img_id": n, "flip_direction": direction}) for n in numbers]


class Counted(nn.Module):
    """A stem that counts the images that it sees."""

    def __init__(self, stem: nn.Module) -> None:
        super().__init__()
        self.stem, self.seen = stem, 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen += len(x)
        return self.stem(x)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("frozen_stages", [0, 1, 2])
@pytest.mark.parametrize("name", NETWORKS)
def test_maps_are_the_backbone_s_own_whatever_batch_the_images_come_in(
    name: str, frozen_stages: int, channels_last: bool
) -> None:
    torch.manual_seed(0)
    net = NETWORKS[name](frozen_stages=frozen_stages)
    layout: Any = torch.channels_last if channels_last else torch.contiguous_format
    net = net.to(memory_format=layout)
    net.train()  # MMDetection's returns nothing
    kept = KeptMaps()
    # In training mode batch norm of the stages that train sees the batch: both see the same one.
    for numbers in ((1, 2), (3, 4), (4, 1), (5, 2)):
        batch = images(*numbers).to(memory_format=layout)
        state = {key: value.clone() for key, value in net.state_dict().items()}
        expected = net(batch)
        net.load_state_dict(state)
        for found, wanted in zip(
            kept.backbone_maps(net, batch, samples(*numbers)), expected, strict=True
        ):
            torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_an_image_passes_the_frozen_stages_once() -> None:
    net = ResNet(**SMALL, frozen_stages=1)
    net.conv1 = stem = Counted(net.conv1)
    kept = KeptMaps()
    for _ in range(3):
        kept.backbone_maps(net, images(1, 2), samples(1, 2))
    assert stem.seen == 2


def test_maps_are_the_same_to_the_last_bit_whoever_an_image_came_with() -> None:
    torch.manual_seed(0)
    net = ResNet(**SMALL, frozen_stages=2)
    net.eval()
    everything = KeptMaps().backbone_maps(net, images(1, 2, 3, 4), samples(1, 2, 3, 4))
    one_by_one = KeptMaps()
    for number in (1, 2, 3, 4):
        one_by_one.backbone_maps(net, images(number), samples(number))
    again = one_by_one.backbone_maps(net, images(1, 2, 3, 4), samples(1, 2, 3, 4))
    for found, expected in zip(again, everything, strict=True):
        assert torch.equal(found, expected)


def test_a_mirrored_image_is_another_one() -> None:
    net = ResNet(**SMALL, frozen_stages=1)
    kept = KeptMaps()
    plain = kept.backbone_maps(net, images(1), samples(1))
    mirrored = kept.backbone_maps(net, images(1).flip(3), samples(1, flipped=True))
    assert not torch.equal(plain[0], mirrored[0])


def test_gradients_reach_the_stages_that_train_and_no_others() -> None:
    net = ResNet(**SMALL, frozen_stages=2)
    net.train()
    maps = KeptMaps().backbone_maps(net, images(1, 2), samples(1, 2))
    sum(level.square().mean() for level in maps).backward()
    trained = {name for name, p in net.named_parameters() if p.grad is not None}
    assert trained and all(name.startswith(("layer3", "layer4")) for name in trained)


def test_a_backbone_without_frozen_stages_is_called_as_it_is() -> None:
    net = ResNet(**SMALL, frozen_stages=-1)
    net.eval()
    batch = images(1)
    for found, wanted in zip(
        KeptMaps().backbone_maps(net, batch, samples(1)), net(batch), strict=True
    ):
        assert torch.equal(found, wanted)


def test_a_backbone_that_cannot_be_split_is_called_as_it_is() -> None:
    net = nn.Conv2d(3, 4, 3)
    assert split(net) is None
    batch = images(1)
    assert torch.equal(KeptMaps().backbone_maps(net, batch, samples(1)), net(batch))

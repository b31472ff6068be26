"""A timm network as backbone: its maps, what is frozen, batch norm within convolutions, weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from obc.config.load_plan import load_plan
from obc.config.scale import Network
from obc.detector import timm_backbone
from obc.detector.model_config import model_config
from obc.detector.timm_backbone import (
    BackboneWeightsError,
    FoldedConv2d,
    TimmBackbone,
    from_efficientnet_pytorch,
    load_classifier,
)

NAME = "tf_efficientnet_lite0"


@pytest.fixture
def timm() -> Any:
    return pytest.importorskip("timm")


def with_random_statistics(net: nn.Module) -> None:
    """Batch norm that is no identity."""
    generator = torch.Generator().manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.weight.data, module.running_var):
                values.copy_(torch.rand(values.shape, generator=generator) + 0.5)
            for values in (module.bias.data, module.running_mean):
                values.copy_(torch.rand(values.shape, generator=generator) - 0.5)


@pytest.mark.parametrize("norm_eval", [True, False])
def test_maps_and_gradients_are_timm_s_own(timm: Any, norm_eval: bool) -> None:
    backbone = TimmBackbone(NAME, strides=(8, 16, 32), norm_eval=norm_eval).train()
    with_random_statistics(backbone.net)
    theirs = timm.create_model(NAME, features_only=True, out_indices=(2, 3, 4))
    theirs.load_state_dict(backbone.net.state_dict())
    theirs.train(not norm_eval)
    for net in (backbone, theirs):
        net.double()
    images = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    ours, expected = backbone(images), theirs(images)
    assert [tuple(one.shape[1:]) for one in ours] == [(40, 8, 12), (112, 4, 6), (320, 2, 3)]
    torch.testing.assert_close(list(ours), list(expected))
    for maps in (ours, expected):
        sum(one.square().sum() for one in maps).backward()
    torch.testing.assert_close(
        {name: weight.grad for name, weight in backbone.net.named_parameters()},
        {name: weight.grad for name, weight in theirs.named_parameters()},
    )


def test_every_batch_norm_of_an_efficientnet_is_folded_and_keeps_its_names(timm: Any) -> None:
    net = TimmBackbone(NAME).net
    assert sum(isinstance(one, FoldedConv2d) for one in net.modules()) == sum(
        isinstance(one, nn.BatchNorm2d) for one in net.modules()
    )
    assert (
        net.state_dict().keys() == timm.create_model(NAME, features_only=True).state_dict().keys()
    )


@pytest.mark.parametrize(
    ("frozen_stages", "first"),
    [(-1, "conv_stem"), (0, "blocks.1"), (1, "blocks.2"), (2, "blocks.3"), (3, "blocks.5")],
)
def test_a_network_is_frozen_up_to_a_map(timm: Any, frozen_stages: int, first: str) -> None:
    backbone = TimmBackbone(NAME, frozen_stages=frozen_stages, norm_eval=False).train()
    trained = [name for name, one in backbone.net.named_parameters() if one.requires_grad]
    assert trained[0].startswith(f"{first}.")
    names = [name for name, _ in backbone.net.named_parameters()]
    assert trained == names[names.index(trained[0]) :]
    in_training = [
        name
        for name, one in backbone.net.named_modules()
        if isinstance(one, nn.BatchNorm2d) and one.training
    ]
    assert {name.rpartition(".")[0] for name in in_training} == {
        name.rpartition(".")[0].rpartition(".")[0] for name in trained if ".bn" in f".{name}"
    }


def test_a_network_that_timm_rebuilds_is_frozen_too(timm: Any) -> None:
    backbone = TimmBackbone("resnet18", frozen_stages=2)
    trained = [name for name, one in backbone.net.named_parameters() if one.requires_grad]
    assert trained[0].startswith("layer3.")


def test_weights_of_efficientnet_pytorch_are_renamed_in_their_order() -> None:
    state = {
        "_conv_stem.weight": torch.zeros(2, 3),
        "_bn0.running_var": torch.zeros(2),
        "_bn0.num_batches_tracked": torch.zeros(()),
        "_fc.weight": torch.zeros(5, 2),
    }
    expected = {
        "conv_stem.weight": torch.ones(2, 3),
        "bn1.running_var": torch.ones(2),
        "bn1.num_batches_tracked": torch.ones(()),
        "classifier.weight": torch.ones(5, 2),
    }
    found = from_efficientnet_pytorch(state, expected, "x.pth")
    assert list(found) == ["conv_stem.weight", "bn1.running_var", "classifier.weight"]
    assert found["classifier.weight"] is state["_fc.weight"]
    assert from_efficientnet_pytorch(expected, expected, "x.pth") is expected
    with pytest.raises(BackboneWeightsError, match=r"x\.pth: 3 weights whose shapes"):
        from_efficientnet_pytorch(state, expected | {"bn1.running_var": torch.ones(4)}, "x.pth")


def test_weights_of_another_network_are_refused() -> None:
    net = nn.Sequential(nn.Linear(2, 3))
    with pytest.raises(
        BackboneWeightsError, match=r"x\.pth: no .* 1 of 2 entries .* e\.g\. 0\.bias"
    ):
        load_classifier(net, {"0.weight": torch.ones(3, 2), "classifier": torch.ones(1)}, "x.pth")
    load_classifier(net, {"0.weight": torch.ones(3, 2), "0.bias": torch.ones(3)}, "x.pth")
    assert net[0].weight.eq(1).all()


def test_a_file_of_weights_is_loaded_and_the_classifier_left_out(timm: Any, tmp_path: Path) -> None:
    file = tmp_path / "net.pth"
    state = {
        key: torch.full_like(value, 2)
        for key, value in timm.create_model(NAME).state_dict().items()
    }
    torch.save(state, file)
    backbone = TimmBackbone(NAME, strides=(4, 8), weights=str(file))
    backbone.init_weights()
    assert all(parameter.eq(2).all() for parameter in backbone.parameters())


def test_a_model_takes_maps_and_pixel_statistics_from_its_backbone(monkeypatch: Any) -> None:
    info = [
        {"num_chs": channels, "reduction": 2 ** (1 + at), "module": f"blocks.{at}"}
        for at, channels in enumerate((16, 24, 40, 112, 320))
    ]
    monkeypatch.setattr("obc.detector.model_config.feature_info", lambda name: info)
    monkeypatch.setattr(
        "obc.detector.model_config.pixel_statistics", lambda name: ([1.0] * 3, [2.0] * 3)
    )
    plan = load_plan({"scale": "photos"})
    run = next(run for run in plan.runs.values() if run.resolved.spec.backbone == "r50").resolved
    model = model_config(run, 6)
    strides = [8, 16, 32]
    assert model.data_preprocessor.mean == [1.0] * 3 and model.data_preprocessor.std == [2.0] * 3
    assert model.backbone.type == "TimmBackbone" and model.backbone.name == NAME
    assert model.neck.in_channels == [40, 112, 320]
    assert model.rpn_head.anchor_generator.strides == [*strides, 64]
    assert model.roi_head.bbox_roi_extractor.featmap_strides == strides


def test_pixel_statistics_are_of_pixels_up_to_255(timm: Any) -> None:
    assert timm_backbone.pixel_statistics(NAME) == ([127.5] * 3, [127.5] * 3)


@pytest.mark.parametrize("wrong", [{}, {"depth": 18, "backbone": "timm://x"}, {"backbone": "x"}])
def test_a_network_is_a_resnet_or_of_timm(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="allowed"):
        Network(**wrong)


def test_torchvision_s_resnets_may_be_called_by_name() -> None:
    assert Network(backbone="torchvision://resnet18") == Network(
        depth=18, pretrained="torchvision://resnet18"
    )


@pytest.mark.parametrize("strides", [(8, 16, 32), (16, 32)])
@pytest.mark.parametrize("frozen_stages", [1, 2])
def test_frozen_blocks_can_be_computed_apart(
    timm: Any, frozen_stages: int, strides: tuple[int, ...]
) -> None:
    backbone = TimmBackbone(NAME, strides=strides, frozen_stages=frozen_stages).train()
    with_random_statistics(backbone.net)
    images = torch.randn(2, 3, 64, 64)
    outputs = backbone.frozen_outputs(images)
    assert outputs
    for found, expected in zip(backbone.from_frozen(outputs), backbone(images), strict=True):
        assert torch.equal(found, expected)


def test_nothing_is_computed_apart_where_nothing_is_frozen(timm: Any) -> None:
    for options in ({"frozen_stages": -1}, {"frozen_stages": 2, "name": "resnet18"}):
        backbone = TimmBackbone(**{"name": NAME, "strides": (8, 16, 32), **options})
        assert backbone.frozen_outputs(torch.randn(1, 3, 64, 64)) == []

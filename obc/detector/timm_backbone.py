"""A convolutional network of timm as an MMDetection backbone, such as EfficientNet on ImageNet.

timm is imported when a backbone is built, so only scales with a timm backbone need it.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

import torch
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional

from obc.config.scale import HUB
from obc.io.errors import SuiteError


class BackboneWeightsError(SuiteError):
    """A weights file does not belong to the backbone that should start from it."""


@MODELS.register_module()
class TimmBackbone(BaseModule):
    """Feature maps of a timm network at the given strides.

    Batch norm in evaluation mode is computed within the convolution before it.

    Args:
        name: of the network in timm, e.g. `tf_efficientnet_lite0`.
        strides: of the feature maps (B, C, H / stride, W / stride) to return, finest first.
        frozen_stages: n freezes the network up to its feature map of stride 2^(n + 1), like stage
            n of a ResNet; -1 freezes nothing.
        norm_eval: batch norm keeps its initial statistics, also in layers that are trained.
        weights: a file, or "hub" for timm's own; None: random. An `init_cfg` takes precedence.
        init_cfg: of MMEngine.
    """

    def __init__(
        self,
        name: str,
        strides: tuple[int, ...] = (4, 8, 16, 32),
        frozen_stages: int = -1,
        norm_eval: bool = True,
        weights: str | None = None,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        import timm

        super().__init__(init_cfg)
        self.name, self.weights, self.norm_eval = name, weights, norm_eval
        info = feature_info(name)
        wanted = tuple(index for index, one in enumerate(info) if one["reduction"] in strides)
        self.net = timm.create_model(name, features_only=True, out_indices=wanted)
        fold_batch_norm(self.net)
        frozen = [one["module"] for one in info if one["reduction"] <= 2 ** (frozen_stages + 1)]
        if frozen_stages < 0:
            frozen = []
        self.frozen = _up_to(self.net, frozen[-1]) if frozen else []
        self._frozen_blocks = _blocks_up_to(self.net, frozen[-1]) if frozen else 0
        for module in self.frozen:
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad = False

    def init_weights(self) -> None:
        """Load `weights`, unless there is an `init_cfg`."""
        if self.init_cfg is not None or self.weights is None:
            super().init_weights()
            return
        load_classifier(self.net, classifier_state(self.name, self.weights), self.weights)
        self._is_init = True

    def train(self, mode: bool = True) -> TimmBackbone:
        """Set training mode; frozen batch norm, or all with `norm_eval`, stays in eval mode."""
        super().train(mode)
        for module in self.net.modules() if self.norm_eval else self.frozen:
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Feature maps of images (B, 3, H, W)."""
        return tuple(self.net(images))

    def frozen_outputs(self, images: Tensor) -> list[Tensor]:
        """Maps of the frozen blocks that `forward` returns, and of the last frozen block.

        Empty if nothing is frozen or the network is no EfficientNet. This method is part of
        `frozen_stages.SplitBackbone`.
        """
        if self._frozen_blocks == 0:
            return []
        maps, outputs = self.net.bn1(self.net.conv_stem(images)), []
        for block in range(self._frozen_blocks):
            maps = self.net.blocks[block](maps)
            if self._is_kept(block):
                outputs.append(maps)
        return outputs

    def from_frozen(self, outputs: list[Tensor]) -> tuple[Tensor, ...]:
        """The feature maps that `forward` returns, from the result of `frozen_outputs`."""
        kept = [block for block in range(self._frozen_blocks) if self._is_kept(block)]
        found, maps = dict(zip(kept, outputs, strict=True)), outputs[-1]
        for block in range(self._frozen_blocks, len(self.net.blocks)):
            maps = found[block] = self.net.blocks[block](maps)
        return tuple(maps for block, maps in found.items() if self._is_wanted(block))

    def _is_kept(self, block: int) -> bool:
        return self._is_wanted(block) or block == self._frozen_blocks - 1

    def _is_wanted(self, block: int) -> bool:
        return block + 1 in self.net._stage_out_idx  # 0 is the stem


@cache
def feature_info(name: str) -> list[dict[str, Any]]:
    """timm's feature maps of a network: `num_chs`, `reduction` (stride) and `module` of each."""
    import timm

    return list(timm.create_model(name, features_only=True).feature_info.info)


def pixel_statistics(name: str) -> tuple[list[float], list[float]]:
    """Mean and standard deviation, of pixels from 0 to 255, that a network was trained with."""
    import timm

    config = timm.get_pretrained_cfg(name)
    return [255 * value for value in config.mean], [255 * value for value in config.std]


def classifier_state(name: str, weights: str) -> dict[str, Tensor]:
    """State dict of the whole classifier, with timm's key names."""
    import timm

    if weights == HUB:
        return timm.create_model(name, pretrained=True).state_dict()
    state = torch.load(weights, map_location="cpu", weights_only=True)
    return from_efficientnet_pytorch(state, timm.create_model(name).state_dict(), weights)


def from_efficientnet_pytorch(
    state: dict[str, Tensor], expected: dict[str, Tensor], where: str
) -> dict[str, Tensor]:
    """Rename the keys of a state dict from the package efficientnet_pytorch to timm's names.

    Both packages define an EfficientNet's layers in the order of execution, so their entries
    correspond in order. A state dict with other names is returned unchanged.

    Args:
        state: the loaded state dict.
        expected: state dict of timm's classifier.
        where: the file, for messages.

    Raises:
        BackboneWeightsError: number or shapes of the entries differ.
    """
    if "_conv_stem.weight" not in state:
        return state
    theirs = [key for key in state if not key.endswith("num_batches_tracked")]
    ours = [key for key in expected if not key.endswith("num_batches_tracked")]
    if [state[key].shape for key in theirs] != [expected[key].shape for key in ours]:
        raise BackboneWeightsError(
            f"{where}: {len(theirs)} weights whose shapes are not those of timm's network, which "
            f"has {len(ours)}; allowed is a file of the same EfficientNet"
        )
    return {ours_key: state[key] for ours_key, key in zip(ours, theirs, strict=True)}


def load_classifier(net: nn.Module, state: dict[str, Tensor], where: str) -> None:
    """Load into a feature extractor its part of a classifier's weights.

    Raises:
        BackboneWeightsError: the state dict lacks some of them, or their shapes differ.
    """
    own = net.state_dict()
    needed = [key for key in own if not key.endswith("num_batches_tracked")]
    missing = [key for key in needed if key not in state or state[key].shape != own[key].shape]
    if missing:
        raise BackboneWeightsError(
            f"{where}: no weights of this shape for {len(missing)} of {len(needed)} entries of the "
            f"backbone, e.g. {missing[0]}; allowed is a file of the same network"
        )
    net.load_state_dict({key: state[key] for key in needed}, strict=False)


def _up_to(net: nn.Module, last: str) -> list[nn.Module]:
    """The modules up to module `last` and its submodules, in the order of execution."""
    if last not in dict(net.named_modules()):
        last = last.replace(".", "_")  # timm's name for it in networks that timm rebuilds
    names = list(dict(net.named_modules()))
    end = max(at for at, name in enumerate(names) if name == last or name.startswith(f"{last}."))
    return [net.get_submodule(name) for name in names[: end + 1]]


def _blocks_up_to(net: nn.Module, last: str) -> int:
    """Number of blocks of an EfficientNet up to block `last`; 0 for any other network."""
    from timm.models.efficientnet import EfficientNetFeatures

    if type(net) is not EfficientNetFeatures or net.feature_hooks is not None:
        return 0
    if 0 in net._stage_out_idx or not last.startswith("blocks."):
        return 0
    return int(last.split(".")[1]) + 1


# --- batch norm within convolutions ------------------------------------------------------------


class FoldedConv2d(nn.Conv2d):
    """A convolution that also computes the following batch norm while that is in evaluation mode.

    The weights keep their names and values; the folded weight is computed at each call.
    """

    norm: tuple[nn.BatchNorm2d]  # in a tuple, so that it is not registered as a submodule
    same: bool

    @classmethod
    def of(cls, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> FoldedConv2d:
        """Build the replacement of a convolution that `norm` follows, with the same weight."""
        from timm.layers import Conv2dSame

        folded = cls(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,
            conv.stride,
            conv.padding,
            conv.dilation,
            conv.groups,
            bias=False,
        )
        folded.weight = conv.weight
        folded.norm, folded.same = (norm,), isinstance(conv, Conv2dSame)
        return folded

    def forward(self, x: Tensor) -> Tensor:
        """Convolve x (B, C, H, W); apply the batch norm too while that is in evaluation mode."""
        from timm.layers import pad_same

        norm = self.norm[0]
        weight, bias = self.weight, None
        if not norm.training:
            scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
            weight, bias = weight * scale.view(-1, 1, 1, 1), norm.bias - norm.running_mean * scale
        padding: Any = self.padding
        if self.same:
            x, padding = pad_same(x, self.kernel_size, self.stride, self.dilation), 0
        return functional.conv2d(x, weight, bias, self.stride, padding, self.dilation, self.groups)


def fold_batch_norm(net: nn.Module) -> None:
    """Replace every convolution without bias before a timm batch norm by a `FoldedConv2d`."""
    from timm.layers import BatchNormAct2d

    class FoldedNorm(BatchNormAct2d):
        """Only the activation, while the convolution before it computes the batch norm."""

        def forward(self, x: Tensor) -> Tensor:
            return self.act(self.drop(x)) if not self.training else super().forward(x)

    for parent in list(net.modules()):
        for (name, conv), (_, norm) in pairwise(list(parent.named_children())):
            plain = type(conv).__name__ in ("Conv2d", "Conv2dSame") and conv.bias is None
            if plain and type(norm) is BatchNormAct2d:
                setattr(parent, name, FoldedConv2d.of(conv, norm))
                norm.__class__ = FoldedNorm

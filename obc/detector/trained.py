"""Load the weights of a trained run into its detector."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import MODELS
from mmengine.device import get_device
from torch import nn

from obc.config.run import Decode
from obc.io.errors import SuiteError


class WeightsError(SuiteError):
    """A weights file is not a plain state dict of this run's model."""


def load_model(model_config: Any, weights: Path) -> nn.Module:
    """Build a detector and load its weights with `weights_only=True`."""
    model = MODELS.build(model_config)
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
        model.load_state_dict(state)
    except FileNotFoundError:
        raise WeightsError(f"{weights}: not there; train the run first (`obc train`)") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise WeightsError(
            f"{weights}: not the weights of this run ({error}); delete it and train again"
        ) from error
    return model.to(get_device()).eval()


def set_decode(model: nn.Module, decode: Decode) -> None:
    """Choose the decoding of the last box head; a cascade refines by expectation in any case."""
    heads = model.roi_head.bbox_head
    last = heads[-1] if isinstance(heads, nn.ModuleList) else heads
    if decode != "regression":
        last.bbox_coder.decode_mode = decode

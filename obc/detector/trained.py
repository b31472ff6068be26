"""Load the detector of a trained run."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.device import get_device
from torch import nn

from obc.config.plan import Plan
from obc.config.run import Decode
from obc.datasets.index_folder import DataFiles
from obc.detector.model_config import evaluation_config
from obc.detector.precision import prepare
from obc.io.errors import SuiteError


class WeightsError(SuiteError):
    """A weights file is not a plain state dict of this run's model."""


def load_trained_run(
    plan: Plan, run_id: str, seed: int, files: DataFiles | None = None
) -> tuple[nn.Module, Config]:
    """The detector of a trained run, ready to be tested, and the config that it was built from.

    Args:
        plan: the plan that names the run.
        run_id: id of the run.
        seed: of its training.
        files: other images with the same categories in the same order; None: the run's data set.

    Raises:
        WeightsError: the run is not trained, or its weights are of another model.
        NotIndexed: the run's data set has not been indexed.
    """
    run, runtime = plan.run(run_id, seed), plan.scale.runtime
    config = evaluation_config(run.resolved, files or run.index.files(), runtime)
    register_all_modules(init_default_scope=True)
    model = load_model(config.model, run.folder.weights)
    prepare(model, runtime)
    return model, config


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
    """Choose the decoding of the last box head; earlier heads of a cascade keep expectation."""
    heads = model.roi_head.bbox_head
    last = heads[-1] if isinstance(heads, nn.ModuleList) else heads
    if decode != "regression":
        last.bbox_coder.decode_mode = decode

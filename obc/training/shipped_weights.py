"""Installs starting weights that come with the suite, and makes files of such weights.

A file holds backbone, neck and RPN of one training without a box loss, as half-precision tensors in
safetensors format, which holds no code.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from obc.config.plan import Plan
from obc.config.run_folder import RunFolder
from obc.config.shipped_weights import ShippedWeights
from obc.detector.model_config import STARTED_PARTS
from obc.io.errors import SuiteError
from obc.io.files import atomic_path, write_json
from obc.runs.lock import training_lock
from obc.runs.records import untrained_record


class ShippedWeightsRefused(SuiteError):
    """A file of starting weights is not the one that its card describes."""


def place_weights(plan: Plan, run_id: str, seed: int) -> RunFolder:
    """Write the weights and the record of a training from its file of shipped weights.

    Args:
        plan: a plan whose `shipped` has the run.

    Raises:
        ShippedWeightsRefused: the file has another hash than its card, or holds no weights.
        RunBusy: another process is training this run.
    """
    shipped, folder = plan.shipped[run_id], plan.run_folder(run_id, seed)
    weights = read_weights(shipped)
    with training_lock(folder):
        folder.record.unlink(missing_ok=True)  # written last, when the weights are complete
        with atomic_path(folder.weights) as path, path.open("wb") as file:
            torch.save(weights, file)
        record = untrained_record(plan, run_id, seed, shipped.path)
        write_json(folder.record, {**record, "shipped": shipped.model_dump(mode="json")})
        shutil.rmtree(folder.work, ignore_errors=True)
    return folder


def read_weights(shipped: ShippedWeights) -> dict[str, Tensor]:
    """Check the hash of a file and return its tensors in single precision.

    Raises:
        ShippedWeightsRefused: see `place_weights`.
    """
    content = shipped.path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != shipped.sha256:
        raise ShippedWeightsRefused(
            f"{shipped.path}: its sha256 is {found}, its card says {shipped.sha256}; "
            f"{shipped.remedy}"
        )
    try:
        weights = load(content)
    except SafetensorError as error:
        raise ShippedWeightsRefused(
            f"{shipped.path}: not a safetensors file ({error}); {shipped.remedy}"
        ) from error
    return {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in sorted(weights.items())
    }


def write_weights(weights: Path, target: Path) -> None:
    """Write a file of starting weights from the weights of a training.

    Args:
        weights: `final.pth` of a training without a box loss.
        target: the file to write.

    Raises:
        ValueError: a weight is too large for half precision.
    """
    started = {
        name: tensor
        for name, tensor in torch.load(weights, map_location="cpu", weights_only=True).items()
        if name.partition(".")[0] in STARTED_PARTS
    }
    rounded = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in started.items()
    }
    for name, tensor in rounded.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{weights}: {name} has values beyond half precision's 65504")
    with atomic_path(target) as path:
        path.write_bytes(save(rounded))

"""Import a user's weights as those of a run, after a check against the run's model.

Only tensors are read from a checkpoint: pickled code in it is refused, not run.
"""

from __future__ import annotations

import pickle
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

import torch
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from torch import Tensor, nn
from torch.serialization import safe_globals

from obc.config.plan import Plan
from obc.config.run_folder import RunFolder
from obc.io.errors import SuiteError
from obc.io.files import atomic_path, write_json
from obc.io.typed_yaml import ConfigError
from obc.runs.lock import training_lock
from obc.runs.records import is_imported, untrained_record
from obc.runs.status import run_status
from obc.runs.versions import code_version
from obc.training.mmdet_config import build_config
from obc.training.written_config import written_config

SHOWN = 5
# Errors of torch's reader for objects that it refuses, and for bytes that are no checkpoint.
UNREADABLE = (pickle.UnpicklingError, RuntimeError, EOFError, LookupError, ValueError, TypeError)


class NotAStateDict(SuiteError):
    """A checkpoint is not a plain state dict of the run's model; the message says why."""


class WouldReplaceTraining(SuiteError):
    """The run is trained or has a checkpoint, and the caller did not allow replacing it."""


class _Inert:
    """Placeholder for objects that MMEngine logs beside the weights: ignores any state."""

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, _: object) -> None: ...


# Names that are read as `_Inert`: the real objects, e.g. `getattr`, are never created.
_LOGGED = [
    (_Inert, name)
    for name in (
        "mmengine.logging.history_buffer.HistoryBuffer",
        "builtins.getattr",
        "numpy.ndarray",
        "numpy.dtype",
        *(
            f"numpy.{core}.multiarray.{function}"
            for core in ("core", "_core")
            for function in ("_reconstruct", "scalar")
        ),
    )
]


def import_weights(
    plan: Plan, run_id: str, seed: int, checkpoint: Path, again: bool, terminal: TextIO
) -> RunFolder:
    """Write a run's weights, config and record from a checkpoint.

    Args:
        checkpoint: a state dict as `torch.save` writes it, or MMEngine's with a `state_dict`.
        again: replace a training, finished or not; imported weights are replaced in any case.
        terminal: receives a line about the imported weights.

    Returns:
        The run's folder.

    Raises:
        ConfigError: no row of a table reads this run with this seed.
        NotAStateDict: the file is not a state dict, or not of this model.
        WouldReplaceTraining: the run is trained or has a checkpoint, and `again` is false.
        NotIndexed: the run's data set, which names the classes, is not indexed yet.
        RunBusy: another process is training this run.
    """
    if run_id not in plan.runs or seed not in plan.seeds_of(run_id):
        raise ConfigError(f"{run_id} seed {seed}: no row of the plan's tables reads it")
    run = plan.run(run_id, seed)
    folder = run.folder
    if not again:
        _refuse_to_replace(folder)  # before the model is built, which takes seconds
    config = build_config(
        run.resolved, seed, run.index.files(), plan.scale.runtime, plugins=plan.config.plugins
    )
    register_all_modules(init_default_scope=True)
    model = MODELS.build(config.model)
    load(model, read_state_dict(checkpoint), checkpoint)
    with training_lock(folder):
        if not again:
            _refuse_to_replace(folder)
        # The log and the times of a training that is replaced; its losses are drawn otherwise.
        for old in (*folder.evaluations(), folder.log, folder.benchmark):
            old.unlink(missing_ok=True)
        folder.record.unlink(missing_ok=True)  # written last: the other files are complete then
        with atomic_path(folder.weights) as path, path.open("wb") as file:
            torch.save(model.state_dict(), file)
        with atomic_path(folder.config) as path:
            written = written_config(config, run.index.files().classes, run.resolved.protocol)
            path.write_text(written.pretty_text, encoding="utf-8")
        manifest = run.index.read_manifest()
        record = untrained_record(plan, run_id, seed, checkpoint.absolute())
        data = {"sha256": manifest["sha256"], "splits": manifest["splits"]}
        write_json(folder.record, {**record, "data": data, "code": code_version()})
        # NFS keeps the name of the open lock for a while; that must not be an error.
        shutil.rmtree(folder.work, ignore_errors=True)
    print(f"{run}: weights of {checkpoint} in {folder}; snakemake evaluates them", file=terminal)
    return folder


def read_state_dict(checkpoint: Path) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint by name.

    Raises:
        NotAStateDict: the file is missing, not of `torch.save`, or holds more than tensors.
    """
    try:
        with safe_globals(_LOGGED):
            content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise NotAStateDict(f"{checkpoint}: not there") from None
    except UNREADABLE as error:
        objects = re.search(r"GLOBAL (\S+)", str(error))
        if objects is not None:
            raise NotAStateDict(
                f"{checkpoint}: holds Python objects ({objects[1]}), which could run code when "
                "they are read; where it was made, save the tensors only: "
                "torch.save(model.state_dict(), file)"
            ) from error
        raise NotAStateDict(
            f"{checkpoint}: not a file that torch.save wrote, or cut off ({type(error).__name__})"
        ) from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not content:
        raise NotAStateDict(
            f"{checkpoint}: holds a {type(content).__name__}, allowed is a dict of tensors"
        )
    others = [f"{key} ({type(value).__name__})" for key, value in content.items()
              if not isinstance(value, Tensor)]  # fmt: skip
    if others:
        raise NotAStateDict(
            f"{checkpoint}: {len(others)} of its entries are no tensors: {_few(others)}; allowed "
            "is a state dict, or MMEngine's checkpoint with one under `state_dict`"
        )
    return dict(content)


def load(model: nn.Module, weights: Mapping[str, Tensor], source: Path) -> None:
    """Load weights into a model; names and shapes must match exactly.

    Raises:
        NotAStateDict: names or shapes differ; the message lists the first few.
    """
    expected = model.state_dict()
    problems = {
        "missing": [name for name in expected if name not in weights],
        "unexpected": [name for name in weights if name not in expected],
        "of another shape": [
            f"{name} {tuple(weights[name].shape)}, the run has {tuple(tensor.shape)}"
            for name, tensor in expected.items()
            if name in weights and weights[name].shape != tensor.shape
        ],
    }
    if any(problems.values()):
        lines = [
            f"  {len(names)} {what}: {_few(names)}" for what, names in problems.items() if names
        ]
        raise NotAStateDict(f"{source}: not the weights of this run's model:\n" + "\n".join(lines))
    model.load_state_dict(weights)


def _refuse_to_replace(folder: RunFolder) -> None:
    if run_status(folder) == "trained" and not is_imported(folder):
        raise WouldReplaceTraining(
            f"{folder}: has weights that were trained here; --again replaces them"
        )
    checkpoint = next(iter(folder.work.checkpoints()), None)
    if checkpoint is not None:
        raise WouldReplaceTraining(
            f"{checkpoint}: a training that is not finished goes on from there; --again deletes it"
        )


def _few(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", .." if len(names) > SHOWN else "")

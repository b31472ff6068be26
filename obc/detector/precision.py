"""Numerics of a training: mixed precision, memory layout, TF32, compilation, memory errors.

None of it changes what is trained, so none of it is part of a run id; but each may change the last
digits of a result, so a run's record names them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.config import Config
from torch import nn

from obc.config.scale import Runtime
from obc.io.errors import SuiteError

AMP_TYPES = {"bf16": "bfloat16", "fp16": "float16"}


class PrecisionError(SuiteError):
    """A switch of the scale's runtime that this machine cannot follow."""


class OutOfMemory(SuiteError):
    """The GPU's memory did not suffice; the message says what to make smaller."""


def prepare(model: nn.Module, runtime: Runtime) -> nn.Module:
    """Let a detector compute as its runtime says; the names of its weights stay.

    Before it is wrapped for several processes, whose buckets of gradients take over the layout.

    Returns:
        The same model.
    """
    if runtime.tf32 is not None:
        torch.backends.cudnn.allow_tf32 = runtime.tf32
        torch.set_float32_matmul_precision("high" if runtime.tf32 else "highest")
    if runtime.channels_last:
        model.to(memory_format=torch.channels_last)
    if runtime.compile:
        # The heads choose boxes: their sizes differ from image to image, so each would be compiled
        # again and again.
        model.backbone.compile()
        model.neck.compile()
    return model


def with_amp(config: Config, runtime: Runtime) -> Config:
    """The training config in mixed precision, if the runtime says so.

    bfloat16 has float32's range, so its loss is not scaled.

    Raises:
        PrecisionError: there is no GPU; MMEngine mixes precision only there.
    """
    if runtime.amp is None:
        return config
    if not torch.cuda.is_available():
        raise PrecisionError(
            f"runtime.amp is {runtime.amp!r}, and this job sees no GPU; allowed there is null"
        )
    config.optim_wrapper.update(
        type="AmpOptimWrapper",
        dtype=AMP_TYPES[runtime.amp],
        loss_scale=dict(enabled=False) if runtime.amp == "bf16" else "dynamic",
    )
    return config


@contextmanager
def out_of_memory_explained(what: str, remedies: str) -> Iterator[None]:
    """Turn torch's error into one that says what to change.

    Args:
        what: was done, with its sizes, e.g. "training with 4 images of 1333 x 800 a device".
        remedies: what needs less memory, one sentence.

    Raises:
        OutOfMemory: in place of torch.OutOfMemoryError.
    """
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise OutOfMemory(
            f"out of GPU memory while {what}. {remedies} Or another process uses this GPU: see "
            f"`nvidia-smi`. torch says: {str(error).partition('.')[0]}"
        ) from error

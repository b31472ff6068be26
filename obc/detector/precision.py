"""Numerics of a training: mixed precision, memory layout, TF32, compilation, memory errors.

None of these switches changes what is trained, so none is part of a run id. Each may change the
last digits of a result, so a run's record lists them.
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
    """This machine does not support a switch of the scale's runtime."""


class OutOfMemory(SuiteError):
    """The GPU ran out of memory; the message says what to make smaller."""


def prepare(model: nn.Module, runtime: Runtime) -> nn.Module:
    """Apply the switches of a runtime to a detector; the names of its weights stay the same.

    Call this before the model is wrapped for several processes: the wrapper's gradient buckets
    take over the memory layout of the weights.

    Returns:
        The same model.
    """
    if runtime.tf32 is not None:
        torch.backends.cudnn.allow_tf32 = runtime.tf32
        torch.set_float32_matmul_precision("high" if runtime.tf32 else "highest")
    if runtime.channels_last:
        model.to(memory_format=torch.channels_last)
    if runtime.compile:
        # The heads select boxes, so their tensor sizes differ from image to image, and they would
        # be compiled again and again.
        model.backbone.compile()
        model.neck.compile()
    return model


def with_amp(config: Config, runtime: Runtime) -> Config:
    """Switch a training config to mixed precision if the runtime asks for it.

    bfloat16 has float32's range, so its loss is not scaled.

    Raises:
        PrecisionError: there is no GPU; MMEngine supports mixed precision only on one.
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
    """Replace torch's out-of-memory error by one that says what to change.

    Args:
        what: the activity and its sizes, e.g. "training with 4 images of 1333 x 800 a device".
        remedies: changes that need less memory, as one sentence.

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

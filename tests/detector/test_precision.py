"""Switches of how a training computes: what each does, what stays exact, what is said and noted."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from torch import nn

from obc.bins import OffsetBins
from obc.config.load_plan import load_plan
from obc.config.scale import Runtime
from obc.detector.precision import (
    OutOfMemory,
    PrecisionError,
    out_of_memory_explained,
    prepare,
    with_amp,
)


class Detector(nn.Module):
    """As much of a detector as the switches touch."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Conv2d(3, 8, 3)
        self.neck = nn.Conv2d(8, 8, 3)
        self.head = nn.Linear(8, 2)


@pytest.fixture
def tf32() -> None:
    """Gives the process its TF32 settings back."""
    kept = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    yield
    torch.backends.cudnn.allow_tf32 = kept[0]
    torch.set_float32_matmul_precision(kept[1])


def test_no_switch_is_part_of_a_run_id(config_folder: Path) -> None:
    base = load_plan({"scale": "smoke"}, config_folder)
    switched = load_plan(
        {
            "scale": "smoke",
            "label": "switched",
            "gpus_per_run": 2,
            "change": {"runtime.amp": "bf16", "runtime.tf32": True, "runtime.compile": True},
        },
        config_folder,
    )
    assert set(switched.runs) == set(base.runs)
    assert switched.scale.runtime.numerics == {
        "amp": "bf16", "channels_last": True, "tf32": True, "compile": True,
    }  # fmt: skip


def test_a_plan_s_gpus_are_the_scale_s_unless_said_otherwise() -> None:
    assert load_plan({"scale": "paper"}).gpus_per_run == 1
    assert load_plan({"scale": "paper", "gpus_per_run": 0}).gpus_per_run == 0
    assert load_plan({"scale": "paper", "gpus_per_run": 4}).gpus_per_run == 4
    assert load_plan({"scale": "smoke"}).gpus_per_run == 0


def test_channels_last_is_a_layout_of_the_weights_and_not_another_model() -> None:
    model = Detector()
    names, values = zip(*model.state_dict().items(), strict=True)
    assert prepare(model, Runtime(channels_last=True)) is model
    assert model.neck.weight.is_contiguous(memory_format=torch.channels_last)
    assert tuple(model.state_dict()) == names
    assert all(map(torch.equal, model.state_dict().values(), values))


def test_compilation_is_of_backbone_and_neck_in_place(monkeypatch) -> None:
    # In place: torch.compile(module) would prefix the names of all weights.
    compiled: list[nn.Module] = []
    monkeypatch.setattr(nn.Module, "compile", lambda module: compiled.append(module))
    model = Detector()
    prepare(model, Runtime())
    assert compiled == []
    prepare(model, Runtime(compile=True))
    assert compiled == [model.backbone, model.neck]


@pytest.mark.parametrize(("chosen", "matmul"), [(True, "high"), (False, "highest")])
def test_tf32_is_chosen_for_convolutions_and_matrix_products(tf32, chosen, matmul) -> None:
    prepare(Detector(), Runtime(tf32=chosen))
    assert torch.backends.cudnn.allow_tf32 is chosen
    assert torch.get_float32_matmul_precision() == matmul


def test_without_a_choice_tf32_is_as_torch_ships_it(tf32) -> None:
    torch.backends.cudnn.allow_tf32 = False
    prepare(Detector(), Runtime())
    assert not torch.backends.cudnn.allow_tf32


def test_mixed_precision_scales_the_loss_for_half_precision_only(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)

    def wrapper(amp: str | None) -> dict:
        config = Config(dict(optim_wrapper=dict(type="OptimWrapper", clip_grad=dict(max_norm=35))))
        return with_amp(config, Runtime(amp=amp)).optim_wrapper.to_dict()

    clip = {"clip_grad": {"max_norm": 35}}
    assert wrapper(None) == {"type": "OptimWrapper", **clip}
    assert wrapper("fp16") == {
        "type": "AmpOptimWrapper", "dtype": "float16", "loss_scale": "dynamic", **clip,
    }  # fmt: skip
    assert wrapper("bf16") == {
        "type": "AmpOptimWrapper", "dtype": "bfloat16", "loss_scale": {"enabled": False}, **clip,
    }  # fmt: skip


def test_mixed_precision_without_a_gpu_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(PrecisionError, match=r"runtime\.amp is 'bf16', and this job sees no GPU"):
        with_amp(Config(dict(optim_wrapper=dict(type="OptimWrapper"))), Runtime(amp="bf16"))


@pytest.mark.parametrize("mode", ["expectation", "argmax"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_offsets_are_decoded_in_float32_under_autocast(mode: str, dtype: torch.dtype) -> None:
    """Two decimal digits, which is what bfloat16 has, would undo what the finer bins are for."""
    bins = OffsetBins(num_bins=20, max_offset=3.0, num_stages=2)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(50, 4, 2, bins.num_logits, generator=generator).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        decoded = bins.decode(logits, mode)
    assert decoded.dtype == torch.float32
    assert torch.equal(decoded, bins.decode(logits.float(), mode))


def test_running_out_of_memory_says_what_to_change() -> None:
    with (
        pytest.raises(OutOfMemory) as error,
        out_of_memory_explained("training with 4 images a device", "Set runtime.amp: bf16."),
    ):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    assert str(error.value) == (
        "out of GPU memory while training with 4 images a device. Set runtime.amp: bf16. Or "
        "another process uses this GPU: see `nvidia-smi`. torch says: CUDA out of memory"
    )


def test_other_errors_pass_the_memory_explanation() -> None:
    with pytest.raises(ZeroDivisionError), out_of_memory_explained("x", "y"):
        io.StringIO().write(str(1 / 0))

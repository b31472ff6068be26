"""Numbers computed another way: probabilities in float64, slopes by finite differences."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor


def softmax(logits: np.ndarray) -> np.ndarray:
    scores = np.exp(logits - logits.max(-1, keepdims=True))
    return scores / scores.sum(-1, keepdims=True)


def check_slopes(function: Callable[[Tensor], Tensor], at: Tensor) -> None:
    """Compare a gradient with central differences in random directions.

    The function computes in float32: the step is large enough for its rounding.
    """
    at = at.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(function(at), at)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _ in range(20):
            direction = torch.randn(at.shape, generator=generator)
            ahead, behind = function(at + 5e-3 * direction), function(at - 5e-3 * direction)
            slope = (ahead.double() - behind.double()) / 1e-2
            expected = (gradient * direction).sum().item()
            assert slope.item() == pytest.approx(expected, rel=5e-3, abs=2e-3)

"""Options of the benchmarks that pytest runs."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """How much is measured."""
    group = parser.getgroup("heads")
    group.addoption("--rounds", type=int, default=5, help="times that the heads take turns")
    group.addoption("--rois", type=int, nargs="+", default=[512, 1024], help="sampled RoIs")

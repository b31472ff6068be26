"""Offset Bin Classification (Qiu et al., CVPR 2020) for MMDetection, and its reproduction suite.

The head is a plug-in: `from obc import OffsetBins, OffsetBinBBoxCoder, OBCHead`, or
`custom_imports = dict(imports=['obc'])` in any MMDetection config.

MMDetection takes seconds to import and most of the suite does not need it, so the three names are
imported when first used. Head and coder are registered at once in a process that already uses
MMEngine (where `custom_imports` is read), otherwise as soon as it imports MMDetection's models.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from obc.bins import OffsetBins
    from obc.coder import OffsetBinBBoxCoder
    from obc.head import OBCHead

__all__ = ["OBCHead", "OffsetBinBBoxCoder", "OffsetBins"]

_HOME = {"OffsetBins": "obc.bins", "OffsetBinBBoxCoder": "obc.coder", "OBCHead": "obc.head"}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'obc' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_HOME[name]), name)


class _RegistersWithMMDetection(MetaPathFinder):
    """Imports the head right after MMDetection's models.

    `custom_imports` does nothing where this package was imported before, as in a notebook that
    begins with `from obc import OffsetBins`.
    """

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if fullname != "mmdet.models":
            return None
        spec = PathFinder.find_spec(fullname, path)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_and_register(module: ModuleType) -> None:
                load(module)
                import_module("obc.head")

            spec.loader.exec_module = load_and_register  # type: ignore[method-assign]
        return spec


if "mmengine.registry" in sys.modules:
    import_module("obc.head")
else:
    sys.meta_path.insert(0, _RegistersWithMMDetection())

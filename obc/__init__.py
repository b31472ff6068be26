"""Offset Bin Classification (Qiu et al., CVPR 2020) for MMDetection, and its reproduction suite.

The head is a plug-in: `from obc import OffsetBins, OffsetBinBBoxCoder, OBCHead, OBCRoIHead`, or
`custom_imports = dict(imports=['obc'])` in any MMDetection config.

MMDetection takes seconds to import and most of the suite does not need it, so the four names are
imported when first used. If MMEngine is already imported, as it is when `custom_imports` is read,
they are registered at once, unless MMDetection is not installed; then the use of a head is an error
that says so. A script that imports `obc` before MMEngine must also `import obc.head.roi_head`:
Python imports a package only once, so `custom_imports` then does nothing.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from obc.bins import OffsetBins
    from obc.head.coders import OffsetBinBBoxCoder
    from obc.head.obc_head import OBCHead
    from obc.head.roi_head import OBCRoIHead

__all__ = ["OBCHead", "OBCRoIHead", "OffsetBinBBoxCoder", "OffsetBins"]

_HOME = {
    "OffsetBins": "obc.bins",
    "OffsetBinBBoxCoder": "obc.head.coders",
    "OBCHead": "obc.head.obc_head",
    "OBCRoIHead": "obc.head.roi_head",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'obc' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_HOME[name]), name)


if "mmengine.registry" in sys.modules:
    try:
        import_module("obc.head.roi_head")
    except ModuleNotFoundError as error:
        if error.name not in ("mmdet", "mmcv"):
            raise

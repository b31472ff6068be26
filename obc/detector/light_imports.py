"""Import MMDetection without the packages that no detector of this suite needs.

MMEngine and MMDetection import everything that one of their parts could need: sharded training,
lane augmentations, DETR's assignment, drawing. These imports take more than half of the CPU time
that a job needs to start, and a small scale starts many jobs. While MMDetection is imported, those
packages are replaced by stand-ins; afterwards they can be imported as usual.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any, ClassVar

MMDETECTION = (
    "mmengine.runner",
    "mmdet.datasets",
    "mmdet.engine",
    "mmdet.evaluation",
    "mmdet.models",
    "mmdet.utils",
    "mmdet.visualization",
)
# Modules to leave out, and the part that needs each of them.
LEFT_OUT = (
    "torch.distributed.optim",  # MMEngine's ZeroRedundancyOptimizer
    "torch.distributed.fsdp",  # MMEngine's FSDP strategy and wrapper
    "torch.distributed.fsdp.api",
    "torch.distributed.fsdp.fully_sharded_data_parallel",
    "imgaug",  # lane detection
    "imgaug.augmenters",
    "imgaug.augmentables",
    "imgaug.augmentables.lines",
    "imgaug.augmentables.segmaps",
    "lap",  # tracking
    "matplotlib.pyplot",  # drawing
    "imagecorruptions",  # a benchmark of corrupted images
    "mmdet.utils.mot_error_visualize",  # tracking
    "scipy.interpolate",  # lane detection
    "scipy.linalg",  # tracking
    "scipy.optimize",  # DETR, tracking
    "scipy.sparse",  # pedestrians in crowds
    "scipy.sparse.csgraph",
    "shapely",  # lane detection, polygons of masks
    "shapely.geometry",
    "skimage",  # lane detection
    "sklearn.mixture",  # PAA
    "sklearn.gaussian_process",  # tracking
    "sklearn.gaussian_process.kernels",
)


class _StandIn(ModuleType):
    """A module from which any name can be imported, as an empty class."""

    __path__: ClassVar[list[str]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def import_mmdetection() -> None:
    """Import the parts of MMDetection that a training and an evaluation need.

    Does nothing if MMDetection is already imported.
    """
    if "mmdet.models" in sys.modules:
        return
    absent = {name: _StandIn(name) for name in LEFT_OUT if name not in sys.modules}
    sys.modules.update(absent)
    try:
        for name in MMDETECTION:
            importlib.import_module(name)
    finally:
        for name, stand_in in absent.items():
            if sys.modules.get(name) is stand_in:
                del sys.modules[name]
    _leave_compiler_out()


def _leave_compiler_out() -> None:
    """Avoid the import of torch's compiler by optimisers and the FLOP counter.

    They exclude some of their functions from compilation: the first call of such a function imports
    the compiler and caches the excluded form in an attribute. This function sets that attribute to
    the plain function. A torch that does not read it imports the compiler, and nothing else
    changes. `SGD.step` imports the compiler to mark the begin and end of a step; it is replaced by
    the function without these marks.
    """
    import torch
    from torch.optim import SGD, Optimizer
    from torch.utils import flop_counter

    counter = getattr(flop_counter, "_FlopCounterMode", flop_counter.FlopCounterMode)
    for asked in (
        Optimizer.add_param_group,
        Optimizer.load_state_dict,
        Optimizer.state_dict,
        Optimizer.zero_grad,
        counter.__torch_dispatch__,
    ):
        function = getattr(asked, "__wrapped__", None)
        if function is not None:
            function.__dict__.setdefault("__dynamo_disable", function)
    step = getattr(SGD.step, "__wrapped__", None)
    if step is not None:
        SGD.step = torch.no_grad()(step)

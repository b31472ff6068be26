"""Import MMDetection without the packages of its that no detector of this suite needs.

MMEngine and MMDetection import everything that one of their parts could need: sharded training,
lane augmentations, DETR's assignment, drawing. That is more than half of the processor time in
which a job starts, and a small scale starts many jobs. While MMDetection is imported, those
packages are replaced by stand-ins; afterwards they can be imported as ever.
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
# With what needs them.
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
    """Has every class that one imports from it, each of them empty."""

    __path__: ClassVar[list[str]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def import_mmdetection() -> None:
    """Import the parts of MMDetection that a training and an evaluation need.

    Does nothing where MMDetection is imported already.
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
    """Spare the import of torch's compiler, which optimisers and the FLOP counter ask for.

    They ask it not to compile some functions of theirs, and keep its answer in an attribute. The
    answer is given here: each function as it is. Another torch may not look there; then the
    compiler is imported, and nothing else changes. A step of SGD imports it to mark its ends; the
    step itself is the function that these marks enclose.
    """
    import torch
    from torch.optim import SGD, Optimizer
    from torch.utils import flop_counter

    counter = getattr(flop_counter, "_FlopCounterMode", flop_counter.FlopCounterMode)
    for asked in (
        Optimizer.add_param_group,
        Optimizer.load_state_dict,
        Optimizer.state_dict,
        counter.__torch_dispatch__,
    ):
        function = getattr(asked, "__wrapped__", None)
        if function is not None:
            function.__dict__.setdefault("__dynamo_disable", function)
    step = getattr(SGD.step, "__wrapped__", None)
    if step is not None:
        SGD.step = torch.no_grad()(step)

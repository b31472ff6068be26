"""A data set that keeps its training images in memory after loading, for small data sets."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmcv.transforms import RandomFlip
from mmdet.datasets import CocoDataset
from mmdet.registry import DATASETS

from obc.io.errors import SuiteError


class NotOnlyFlipped(SuiteError):
    """A pipeline has other steps than loading, resizing, one flip and packing."""


@DATASETS.register_module()
class KeptCocoDataset(CocoDataset):
    """``CocoDataset`` that loads each image, and its mirror image, once.

    Items and random draws equal those of ``CocoDataset``. Callers must not change the items.

    Raises:
        NotOnlyFlipped: the pipeline has other steps than loading, resizing, one flip and packing.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._kept: dict[tuple[int, str | None], dict[str, Any]] = {}
        names = [type(step).__name__ for step in self.pipeline.transforms]
        flips = [step for step in self.pipeline.transforms if isinstance(step, RandomFlip)]
        plain = ("Load", "WholePixelAnnotations", "Resize", "WholePixelResize", "PackDetInputs")
        rest = [
            name
            for name, step in zip(names, self.pipeline.transforms, strict=True)
            if step not in flips and not name.startswith(plain)
        ]
        if len(flips) != 1 or rest:
            raise NotOnlyFlipped(
                f"runtime.keep_images: the pipeline is {', '.join(names)}; allowed are loading, "
                "Resize, one RandomFlip and PackDetInputs. Set runtime.keep_images: false"
            )
        self._flip = flips[0]

    def prepare_data(self, idx: int) -> Any:
        """The packed image of an index, mirrored or not by a random draw."""
        before = np.random.get_state()
        direction = self._flip._choose_direction()
        if (idx, direction) not in self._kept:
            np.random.set_state(before)
            self._kept[idx, direction] = super().prepare_data(idx)
        return self._kept[idx, direction]

"""Files with stored views of a trained head, which can be shown without the weights.

A file is written by `numpy.savez_compressed`: `about`, a JSON text, and for image i of the file the
arrays of `obc.evaluation.head_view.HeadView`, each under `<i>/<name>`. Probabilities are stored in
half precision, other real numbers in single precision.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.registry import TASK_UTILS
from torch import Tensor

from obc.config.plan import Plan
from obc.detector.model_config import model_config
from obc.evaluation.head_view import POSITIVE_IOU, Decoded, HeadView, load_trained, look
from obc.io.errors import SuiteError
from obc.io.files import atomic_path, require_record

IMAGES = 16
PROPOSALS = 20  # the RPN's best, kept even if they overlap no object
_TENSORS = (
    "proposals",
    "scores",
    "probabilities",
    "objects",
    "object_labels",
    "matched",
    "ious",
    "offsets",
)
_HALF = "probabilities"
_DECODED = ("expectation", "argmax")


class ViewsFileError(SuiteError):
    """A file of stored views cannot be read; the message names it."""


@dataclass(frozen=True)
class StoredViews:
    """Stored views of some images, and the training that they belong to.

    Attributes:
        run_id, seed: of the training.
        record: its run.json.
        views: of the first images of the validation set; their `image_path` is relative to the
            folder of the data set.
    """

    run_id: str
    seed: int
    record: dict[str, Any]
    views: list[HeadView]


def look_and_store(plan: Plan, run_id: str, seed: int, path: Path) -> None:
    """Store the predictions of a trained head for the first images of its validation set.

    Raises:
        InsideError, WeightsError: see `load_trained`.
    """
    trained = load_trained(plan, run_id, seed)
    run = plan.run(run_id, seed)
    root = Path(run.index.read_manifest()["root"])
    heads = model_config(run.resolved, len(trained.classes)).roi_head.bbox_head
    first = heads[0] if isinstance(heads, list) else heads  # a cascade has a list
    about = {
        "run_id": run_id,
        "seed": seed,
        "record": require_record(run.folder.record),
        "classes": trained.classes,
        "coder": first.bbox_coder.to_dict(),
    }
    views = [_worth_showing(look(trained, image)) for image in [*trained.image_rows][:IMAGES]]
    save_views(path, about, views, root)


def save_views(path: Path, about: dict[str, Any], views: Sequence[HeadView], root: Path) -> None:
    """Write views to a file that `load_views` reads.

    Args:
        about: `run_id`, `seed`, `record`, `classes` and `coder`, the config of the head's coder.
        root: folder of the data set.
    """
    images = [
        {
            "image_id": view.image_id,
            "size": view.size,
            "path": view.image_path.absolute().relative_to(root.absolute()).as_posix(),
        }
        for view in views
    ]
    arrays: dict[str, Any] = {"about": json.dumps({**about, "images": images})}
    for index, view in enumerate(views):
        for name in _TENSORS:
            array = getattr(view, name).numpy()
            arrays[f"{index}/{name}"] = array.astype(np.float16) if name == _HALF else array
        for name in _DECODED:
            decoded = getattr(view, name)
            arrays[f"{index}/{name}/offsets"] = decoded.offsets.numpy()
            arrays[f"{index}/{name}/boxes"] = decoded.boxes.numpy()
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, **arrays)


def load_views(path: Path) -> StoredViews:
    """Read a file that `save_views` wrote.

    Raises:
        ViewsFileError: the file is damaged, or this version of the code lacks its coder.
    """
    import obc.head.coders  # noqa: F401 - registers the coder

    try:
        with np.load(path) as file:
            arrays = dict(file)
        about = json.loads(str(arrays["about"]))
        coder = TASK_UTILS.build(about["coder"])
        views = [
            _view(arrays, index, image, tuple(about["classes"]), coder)
            for index, image in enumerate(about["images"])
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ViewsFileError(f"{path}: not a file of views ({error})") from None
    return StoredViews(about["run_id"], about["seed"], about["record"], views)


def _view(
    arrays: dict[str, Any], index: int, image: dict[str, Any], classes: tuple[str, ...], coder: Any
) -> HeadView:
    def tensor(name: str) -> Tensor:
        return torch.from_numpy(arrays[f"{index}/{name}"])

    tensors = {name: tensor(name) for name in _TENSORS}
    tensors[_HALF] = tensors[_HALF].float()
    decoded = {
        name: Decoded(tensor(f"{name}/offsets"), tensor(f"{name}/boxes")) for name in _DECODED
    }
    return HeadView(
        image_id=image["image_id"],
        image_path=Path(image["path"]),
        size=tuple(image["size"]),
        classes=classes,
        coder=coder,
        **tensors,
        **decoded,
    )


def _worth_showing(view: HeadView) -> HeadView:
    """The view of the positive RoIs and of the RPN's first `PROPOSALS`."""
    first = torch.arange(len(view)) < PROPOSALS
    return view.take(first | (view.ious >= POSITIVE_IOU))

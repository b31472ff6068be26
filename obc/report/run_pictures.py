"""Pictures on the page of a run: its loss curves, and its detections in an example image.

The page's template draws both as SVG of a few kilobytes, because a page has dozens of runs. All
runs of a data set show the same image, which the page contains once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from obc.analysis.evaluations import objects_to_find
from obc.config.plan import Plan
from obc.config.run import Decode
from obc.datasets.settings import DatasetName
from obc.evaluation.detections_file import DetectionsFileError
from obc.evaluation.metrics import counts_difficult
from obc.report.figures.training_curves import LogError, read_curve
from obc.report.pictures import grey_uri, image_uri
from obc.runs.status import run_status

# Width and height of the frame that curves are drawn in, without the labels around it.
CURVE_SIZE = (400.0, 180.0)
LOSSES = {"loss": "all losses", "loss_bbox": "box loss"}
POINTS = 60
"""Largest number of points of a curve."""
IMAGE_WIDTH = 480  # pixels
DECODES: tuple[Decode, ...] = ("expectation", "argmax", "regression")
"""The first decoding that was evaluated gives the detections that are shown."""


@dataclass(frozen=True)
class Line:
    """One loss of one training; `points` is the attribute of an SVG polyline."""

    loss: str
    seed: int
    points: str


@dataclass(frozen=True)
class LossCurves:
    """The losses of all seeds of a run in one frame, whose upper left corner is at (0, 0).

    Attributes:
        lines: one for each loss and seed.
        ticks: place and text of each tick of the vertical axis.
        iterations: last iteration, the end of the horizontal axis.
    """

    lines: list[Line]
    ticks: list[tuple[float, str]]
    iterations: int


@dataclass(frozen=True)
class Box:
    """A box in pixels of its image; only detections have a label."""

    x: float
    y: float
    width: float
    height: float
    label: str = ""


@dataclass(frozen=True)
class ExampleImage:
    """An image of a data set with its ground-truth boxes, and its picture as a data URI."""

    dataset: DatasetName
    image_id: int
    name: str
    width: int
    height: int
    uri: str
    objects: list[Box]
    categories: dict[int, str]


@dataclass(frozen=True)
class Found:
    """Detections of a run in the example image of its data set."""

    image: ExampleImage
    decode: Decode
    seed: int
    boxes: list[Box]


# --- losses ------------------------------------------------------------------------------------


def loss_curves(plan: Plan, run_id: str) -> LossCurves | None:
    """Return the losses that the trained seeds of a run logged; None if there are none."""
    frames = []
    for run in plan.seeded(run_id):
        if run_status(run.folder) != "trained":
            continue
        try:
            frames.append(read_curve(run.folder.log).assign(seed=run.seed))
        except LogError:
            continue  # the weights were imported, or the log was deleted
    return frame_curves(pd.concat(frames)) if frames else None


def frame_curves(curves: pd.DataFrame) -> LossCurves | None:
    """Scale curves of `read_curve`, joined with a column `seed`, into a frame of CURVE_SIZE.

    The vertical axis begins at 0. Return None if no loss is a finite number.
    """
    width, height = CURVE_SIZE
    finite = curves[list(LOSSES)].replace([np.inf, -np.inf], np.nan)
    if finite.isna().all(axis=None):
        return None
    ticks = [at for at in MaxNLocator(4).tick_values(0, finite.max(axis=None)) if at >= 0]
    top, last = max(ticks[-1], finite.max(axis=None)), int(curves["iteration"].max())
    lines = []
    for (seed, curve), name in product(curves.groupby("seed"), LOSSES):
        there = curve[["iteration", name]].replace([np.inf, -np.inf], np.nan).dropna()
        if len(there):
            at = np.linspace(0, len(there) - 1, POINTS).round().astype(int)
            kept = there.iloc[np.unique(at)]
            x, y = kept["iteration"] * width / last, height - kept[name] * height / top
            points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
            lines.append(Line(name, int(seed), points))
    return LossCurves(lines, [(height - at * height / top, f"{at:g}") for at in ticks], last)


# --- example images ----------------------------------------------------------------------------


def example_images(plan: Plan, datasets: Iterable[DatasetName]) -> dict[DatasetName, ExampleImage]:
    """Return the example image of each data set; omit data sets without a readable image."""
    found = ((name, example_image(plan, name)) for name in dict.fromkeys(datasets))
    return {name: image for name, image in found if image is not None}


def example_image(plan: Plan, dataset: DatasetName) -> ExampleImage | None:
    """Return the first validation image with two objects or more, or else the first with one.

    The picture is grey if the plan shows no images. Return None if the data set is not indexed, if
    no image has an object, or if the image file cannot be read.
    """
    index = plan.index_folder(dataset)
    manifest = index.find_manifest()
    if manifest is None or not index.val.exists():
        return None
    truth = objects_to_find(index.val, not counts_difficult(plan.difficult(dataset)))
    counts = pd.Series([one["image_id"] for one in truth["annotations"]], dtype=int).value_counts()
    order = [image for image in truth["images"] if image["id"] in counts.index]
    order.sort(key=lambda image: (counts[image["id"]] < 2, image["id"]))
    if not order:
        return None
    image = order[0]
    if plan.config.show_images:
        try:
            uri = image_uri(Path(manifest["root"]) / image["file_name"], IMAGE_WIDTH)
        except OSError:
            return None
    else:
        uri = grey_uri(image["width"], image["height"])
    boxes = [one["bbox"] for one in truth["annotations"] if one["image_id"] == image["id"]]
    return ExampleImage(
        dataset=dataset,
        image_id=image["id"],
        name=Path(image["file_name"]).name,
        width=image["width"],
        height=image["height"],
        uri=uri,
        objects=[Box(*(round(side, 1) for side in box)) for box in boxes],
        categories={category["id"]: category["name"] for category in truth["categories"]},
    )


def found_in(plan: Plan, run_id: str, image: ExampleImage, min_score: float) -> Found | None:
    """Return the detections of a run's first evaluated seed; None if no seed is evaluated.

    Args:
        min_score: detections with a lower score are left out.

    Raises:
        DetectionsFileError: the detections file is damaged.
    """
    for run in plan.seeded(run_id):
        for decode in DECODES:
            path = run.folder.detections(decode)
            if path.exists():
                return Found(image, decode, run.seed, _boxes(path, image, min_score))
    return None


def _boxes(path: Path, image: ExampleImage, min_score: float) -> list[Box]:
    """Return the detections in one image by rising score, so that the best are drawn on top.

    The function filters the arrays of the detections file directly, because a file can hold 500,000
    detections and there is a file for each run.
    """
    fields = ("category_id", "score", "bbox")
    try:
        with np.load(path) as arrays:
            shown = (arrays["image_id"] == image.image_id) & (arrays["score"] >= min_score)
            names, scores, boxes = (arrays[name][shown] for name in fields)
    except (ValueError, KeyError, EOFError, BadZipFile) as error:
        raise DetectionsFileError(
            f"{path}: not a detections file ({error}); remove it to have it measured again"
        ) from None
    return [
        Box(*_rounded(boxes[at]), label=f"{image.categories[int(names[at])]} {scores[at]:.2f}")
        for at in np.argsort(scores, kind="stable")
    ]


def _rounded(box: Sequence[float]) -> list[float]:
    return [round(float(side), 1) for side in box]

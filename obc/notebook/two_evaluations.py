"""Compare two evaluations by class, by object size and by image.

An evaluation is one decoding of one trained run. Average precision is read from its metrics file.
For single images the boxes of its detections file are matched to the objects of the image.

Shape shorthand: D detections, G objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from obc.analysis.evaluations import measured, objects_to_find
from obc.config.plan import Plan
from obc.config.run import slug
from obc.config.table import METRICS
from obc.evaluation.detections_file import load_detections
from obc.evaluation.metrics import counts_difficult
from obc.io.files import require_record
from obc.io.typed_yaml import ConfigError
from obc.notebook.read_results import ResultsMissing
from obc.report.figures import style
from obc.report.figures.example_images import best_fits

SIZES = {"AP": "all", "AP_S": "small", "AP_M": "medium", "AP_L": "large"}
# Detections with a lower score are not drawn or matched: detectors list up to 100 boxes per image.
MIN_SCORE = 0.3


@dataclass(frozen=True)
class Evaluation:
    """One decoding of one trained run, read from its files.

    Attributes:
        name: e.g. `obc-a3-n20-k2, expectation, seed 0`.
        dataset: the data set that it was evaluated on.
        metrics: in percent, None where undefined.
        per_class: the same metrics for each class, by class name.
        detections: COCO-format results: image_id, category_id, bbox (x, y, w, h), score.
    """

    name: str
    dataset: str
    metrics: dict[str, float | None]
    per_class: dict[str, dict[str, float | None]]
    detections: list[dict[str, Any]]


@dataclass(frozen=True)
class TestSet:
    """The test images that several evaluations share.

    Attributes:
        root: folder that `file_name`s are relative to.
        images: COCO's image entries, by id.
        objects: COCO's annotations of the objects to find, by image id: without crowds and, if the
            plan ignores them, without difficult objects.
        classes: class names, by category id.
    """

    root: Path
    images: dict[int, dict[str, Any]]
    objects: dict[int, list[dict[str, Any]]]
    classes: dict[int, str]


def evaluated(plan: Plan) -> pd.DataFrame:
    """List every evaluation of a plan whose files exist.

    Returns:
        Columns `run_id`, `seed`, `decode`, `tables` (the tables that read the evaluation) and `AP`
        (percent). Lines are sorted by seed, then by table name, figures last.

    Raises:
        ResultsMissing: there are fewer than two evaluations, so nothing can be compared.
        MetricsFileError: a metrics file is damaged or belongs to another evaluation.
    """
    frame = measured(plan, sorted(plan.tables, key=lambda name: (name in plan.figures, name)))
    there = frame[frame["status"].isin(("ok", "undefined"))].astype({"seed": int})
    there = there.assign(AP=there["value"].where(there["metric"] == "AP"))
    found = there.groupby(["run_id", "seed", "decode"], sort=False, as_index=False).agg(
        tables=("table", lambda names: ", ".join(dict.fromkeys(names))), AP=("AP", "first")
    )
    if len(found) < 2:
        raise ResultsMissing(
            f"{plan.results}: {len(found)} evaluations there, two are needed; first run "
            f"`make reproduce SCALE={plan.scale.name} TARGETS={plan.config.detail_table}`"
        )
    return found.sort_values("seed", kind="stable", ignore_index=True)


def read_evaluation(plan: Plan, run_id: str, seed: int, decode: str) -> Evaluation:
    """Read the metrics and the detections of one evaluation.

    Raises:
        DetectionsFileError: its detections file is damaged.
    """
    folder = plan.run_folder(run_id, seed)
    content = require_record(folder.metrics(decode))
    spec = plan.trainings[run_id].resolved.spec
    method = slug(spec).removeprefix(f"{spec.dataset}-")
    return Evaluation(
        name=f"{method}, {decode}, seed {seed}",
        dataset=plan.dataset_of(run_id),
        metrics=content["metrics"],
        per_class=content["per_class"],
        detections=load_detections(folder.detections(decode)),
    )


def read_test_set(plan: Plan, *evaluations: Evaluation) -> TestSet:
    """Read the test images and objects that several evaluations share.

    Raises:
        ConfigError: the evaluations are of different data sets.
        ResultsMissing: the index of the data set is missing.
    """
    datasets = {evaluation.dataset for evaluation in evaluations}
    if len(datasets) != 1:
        raise ConfigError(
            f"evaluations on {' and '.join(sorted(datasets))}: allowed are those of one data set"
        )
    (dataset,) = datasets
    index = plan.index_folder(dataset)
    if not index.manifest.exists():
        raise ResultsMissing(
            f"{index}: no index of the data there; first run `make reproduce "
            f"SCALE={plan.scale.name}`"
        )
    difficult_ignored = not counts_difficult(plan.difficult(dataset))
    return shared_test_set(index.val, Path(index.read_manifest()["root"]), difficult_ignored)


def shared_test_set(annotations: Path, root: Path, difficult_ignored: bool) -> TestSet:
    """Read the images and objects of an index's validation set.

    Args:
        annotations: annotation file in COCO's format.
        root: folder of the images.
        difficult_ignored: whether difficult objects are left out.
    """
    truth = objects_to_find(annotations, difficult_ignored)
    objects: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in truth["images"]}
    for annotation in truth["annotations"]:
        objects[annotation["image_id"]].append(annotation)
    return TestSet(
        root=root,
        images={image["id"]: image for image in truth["images"]},
        objects=objects,
        classes={category["id"]: category["name"] for category in truth["categories"]},
    )


# --- from the metrics files --------------------------------------------------------------------


def by_metric(first: Evaluation, second: Evaluation) -> pd.DataFrame:
    """AP at each IoU threshold: index metric, columns first, second, difference (points)."""
    names = [name for name in METRICS if name not in SIZES or name == "AP"]
    return _beside({name: (first.metrics[name], second.metrics[name]) for name in names})


def by_size(first: Evaluation, second: Evaluation) -> pd.DataFrame:
    """AP of all, small, medium and large objects, sized as in the evaluation; NaN without any."""
    return _beside({name: (first.metrics[key], second.metrics[key]) for key, name in SIZES.items()})


def by_class(first: Evaluation, second: Evaluation, metric: str = "AP") -> pd.DataFrame:
    """A metric of each class; the largest gain of the second evaluation comes first."""
    frame = _beside(
        {
            name: (values[metric], second.per_class[name][metric])
            for name, values in first.per_class.items()
        }
    )
    return frame.sort_values("difference", ascending=False)


def _beside(values: dict[str, tuple[float | None, float | None]]) -> pd.DataFrame:
    frame = pd.DataFrame.from_dict(
        values, orient="index", columns=["first", "second"], dtype="float64"
    )
    return frame.assign(difference=frame["second"] - frame["first"])


# --- image by image ----------------------------------------------------------------------------


def matched_iou(
    objects: list[dict[str, Any]], detections: list[dict[str, Any]], min_score: float = MIN_SCORE
) -> list[float]:
    """Compute the matched IoU of each object, as in Figure 6.

    Args:
        objects: G COCO annotations, of any images.
        detections: D COCO results; those with a lower score than `min_score` are ignored.

    Returns:
        For each object the largest IoU, in [0, 1], with a detection of its image and class; 0 if
        no detection overlaps. Objects may share a detection: this is for inspection, not a metric.
    """
    return [iou for iou, _ in best_fits(objects, _above(detections, min_score))]


def by_image(
    test_set: TestSet, first: Evaluation, second: Evaluation, min_score: float = MIN_SCORE
) -> pd.DataFrame:
    """Compare how well two evaluations find the objects of each image.

    Returns:
        Index `image_id`; columns `file_name`, `objects` (their number), `first` and `second` (mean
        `matched_iou` of the objects, in [0, 1]) and `difference`. The largest gain of the second
        comes first; images without objects are left out.
    """
    objects = [each for of_image in test_set.objects.values() for each in of_image]
    frame = pd.DataFrame(
        {
            "image_id": [each["image_id"] for each in objects],
            "first": matched_iou(objects, first.detections, min_score),
            "second": matched_iou(objects, second.detections, min_score),
        }
    )
    means = frame.groupby("image_id").agg(
        objects=("first", "size"), first=("first", "mean"), second=("second", "mean")
    )
    names = [test_set.images[image_id]["file_name"] for image_id in means.index]
    means.insert(0, "file_name", names)
    means["difference"] = means["second"] - means["first"]
    return means.sort_values("difference", ascending=False, kind="stable")


def _above(detections: list[dict[str, Any]], min_score: float) -> list[dict[str, Any]]:
    return [detection for detection in detections if detection["score"] >= min_score]


# --- drawing -----------------------------------------------------------------------------------


def draw_image(
    test_set: TestSet,
    image_id: int,
    first: Evaluation,
    second: Evaluation,
    min_score: float = MIN_SCORE,
) -> Figure:
    """Draw an image twice: the boxes of each evaluation over those of the objects (dashed).

    Each detection is marked with its class, its score and its largest IoU with an object of its
    class.
    """
    drawing = Figure(figsize=(8.0, 4.3), dpi=100, layout="constrained")
    with Image.open(test_set.root / test_set.images[image_id]["file_name"]) as image:
        pixels = np.asarray(image.convert("RGB"))
    for axes, evaluation in zip(drawing.subplots(1, 2), (first, second), strict=True):
        axes.imshow(pixels)
        axes.set_axis_off()
        axes.set_title(evaluation.name, fontsize=9)
        objects = test_set.objects[image_id]
        for annotation in objects:
            _box(axes, annotation["bbox"], style.TRUTH, "--")
        found = _above(evaluation.detections, min_score)
        found = [detection for detection in found if detection["image_id"] == image_id]
        for detection, (iou, _) in zip(found, best_fits(found, objects), strict=True):
            _box(axes, detection["bbox"], style.HIERARCHY, "-")
            _mark(axes, detection, iou, test_set)
    return drawing


def _box(axes: Axes, bbox: list[float], colour: str, dashes: str) -> None:
    x, y, width, height = bbox
    for line_colour, line_width in (("white", 3.0), (colour, 1.5)):
        axes.add_patch(
            Rectangle((x, y), width, height, fill=False, edgecolor=line_colour, linestyle=dashes,
                      linewidth=line_width)
        )  # fmt: skip


def _mark(axes: Axes, detection: dict[str, Any], overlap: float, test_set: TestSet) -> None:
    name = test_set.classes[detection["category_id"]]
    axes.text(
        detection["bbox"][0], detection["bbox"][1],
        f"{name} {detection['score']:.2f}, IoU {overlap:.2f}",
        fontsize=7, color="black", va="bottom",
        bbox={"facecolor": "white", "alpha": 0.7, "pad": 0.8, "edgecolor": "none"},
    )  # fmt: skip

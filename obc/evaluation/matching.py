"""Matching of detections to objects, by the same evaluator as in `metrics`.

Shape shorthand: C classes, D detections of a class, I images, P true positives, R recalls, T IoU
thresholds (those of `obc.evaluation.metrics.IOU_THRESHOLDS`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from obc.evaluation.metrics import IOU_THRESHOLDS
from obc.io.errors import SuiteError


class DetectionsError(SuiteError):
    """Detections name images or categories that the ground truth does not have."""


@dataclass(frozen=True)
class ClassMatches:
    """The detections of one class by decreasing score, up to the last true positive.

    Detections after the last true positive of all thresholds do not change average precision.

    Attributes:
        images: (D,) int, index in `Matches.image_ids` of each detection's image.
        hits: (T, D) bool, true positives.
        ignored: (T, D) bool, matches with a crowd or an ignored object: neither true nor false
            positives.
        objects: (I,) int, number of objects in each image, without the ignored objects.
    """

    images: np.ndarray
    hits: np.ndarray
    ignored: np.ndarray
    objects: np.ndarray


@dataclass(frozen=True)
class Matches:
    """The detections of one evaluation, matched to objects.

    Attributes:
        image_ids: I ids, ascending; the columns of `image_weights` have this order. All
            evaluations of a ground truth have the same ids, also for images without detections.
        classes: one for each category, in the order of the category ids.
    """

    image_ids: tuple[int, ...]
    classes: tuple[ClassMatches, ...]


@dataclass(frozen=True)
class TruePositives:
    """The true positives at one IoU threshold, in no particular order.

    Attributes:
        detections: (P,) int, indices in the given detections.
        objects: (P,) int, indices of the matched objects in the given annotations, without repeats.
        ious: (P,) IoU of detection and object, from the threshold to 1.
    """

    detections: np.ndarray
    objects: np.ndarray
    ious: np.ndarray


def match(ground_truth: dict[str, Any], detections: Sequence[dict[str, Any]]) -> Matches:
    """Match detections to objects image by image, by the same evaluator as in `metrics`.

    Args:
        ground_truth: COCO-format dict (images, annotations, categories); pass it through
            `obc.evaluation.metrics.difficult_ignored` where difficult objects are ignored.
        detections: COCO-format results: image_id, category_id, bbox (x, y, w, h), score. Equal
            scores are ranked by the order given.

    Raises:
        DetectionsError: a detection has an image or category that the ground truth lacks.
    """
    evaluation = _evaluated(ground_truth, detections, IOU_THRESHOLDS)
    size = len(ground_truth["images"])
    states = _states(evaluation)
    return Matches(
        tuple(sorted(image["id"] for image in ground_truth["images"])),
        tuple(_class_matches(states[at : at + size]) for at in range(0, len(states), size)),
    )


def true_positives(
    ground_truth: dict[str, Any], detections: Sequence[dict[str, Any]], iou: float = 0.5
) -> TruePositives:
    """The detections that are true positives at an IoU threshold, with their objects.

    Args:
        ground_truth, detections: see `match`.
        iou: threshold.

    Raises:
        DetectionsError: see `match`.
    """
    found: list[tuple[int, int, float]] = []
    for matched, _, _, _, ignored, pairs in _states(_evaluated(ground_truth, detections, [iou])):
        counted = {
            annotation
            for annotation, passed_over in zip(matched, ignored, strict=True)
            if not passed_over
        }
        found += [pair for pair in pairs if pair[1] in counted]
    columns = np.array(found).reshape(-1, 3)
    index = {each["id"]: position for position, each in enumerate(ground_truth["annotations"])}
    return TruePositives(
        detections=columns[:, 0].astype(int) - 1,
        objects=np.array([index[annotation] for _, annotation, _ in found], dtype=int),
        ious=columns[:, 2],
    )


def precision_at_recalls(
    ground_truth: dict[str, Any], detections: Sequence[dict[str, Any]]
) -> np.ndarray:
    """The evaluator's precision-recall curves, whose mean over everything is AP.

    Args:
        ground_truth, detections: see `match`.

    Returns:
        (T, R, C) in [0, 1]: the highest precision at a recall of at least 0, 0.01, ..., 1; 0 beyond
        the highest recall reached. Classes are in the order of their ids; classes without objects
        have NaN.

    Raises:
        DetectionsError: see `match`.
    """
    evaluation = _evaluated(ground_truth, detections, IOU_THRESHOLDS)
    evaluation.accumulate()
    precision = evaluation.eval["precision"][..., 0, -1]
    return np.where(precision < 0, np.nan, precision)


def _evaluated(
    ground_truth: dict[str, Any],
    detections: Sequence[dict[str, Any]],
    thresholds: Sequence[float] | np.ndarray,
) -> COCOeval_faster:
    """The evaluator after the matching; the id of a detection is its index + 1."""
    image_ids = sorted(image["id"] for image in ground_truth["images"])
    category_ids = [category["id"] for category in ground_truth["categories"]]
    for key, known in (("image_id", image_ids), ("category_id", category_ids)):
        _require_known(key, (detection[key] for detection in detections), known)
    found = [
        {**detection, "id": index, "area": detection["bbox"][2] * detection["bbox"][3]}
        for index, detection in enumerate(detections, start=1)
    ]
    evaluation = COCOeval_faster(
        _coco(ground_truth, ground_truth["annotations"]),
        _coco(ground_truth, found),
        iouType="bbox",
        separate_eval=True,
    )
    evaluation.params.iouThrs = np.asarray(thresholds)
    evaluation.params.areaRng = [[0, 1e10]]
    evaluation.evaluate()
    return evaluation


def _states(evaluation: COCOeval_faster) -> list[tuple[list, ...]]:
    """The evaluator's result for each class and image, ordered by class, then by image.

    A state is (id of the matched object or 0 (T x detections), ids of the matched detections,
    scores, ignored objects, ignored detections (T x detections), pairs matched at any threshold
    (id of the detection, id of the object, IoU)); detections by decreasing score.
    """
    # The evaluator's C++ objects expose their content only as pickled state.
    return [image.__getstate__() for image in evaluation._evalImgs_cpp]


def _require_known(key: str, ids: Iterable[int], known: Sequence[int]) -> None:
    unknown = sorted(set(ids) - set(known))
    if unknown:
        raise DetectionsError(
            f"detections with {key} {', '.join(map(str, unknown[:5]))}"
            f"{', ...' if len(unknown) > 5 else ''}: not among the {len(known)} of the ground "
            "truth; they belong to another data set, evaluate the run again"
        )


def _coco(ground_truth: dict[str, Any], annotations: Iterable[dict[str, Any]]) -> COCO:
    """Annotations of the ground truth's images; copies, because the evaluator changes them."""
    return COCO({**ground_truth, "annotations": [dict(each) for each in annotations]})


def _class_matches(states: Sequence[tuple[list, ...]]) -> ClassMatches:
    """Join the states (see `_states`) of the images of one class, in the order of the images."""
    matched, _, scores, ignored_objects, ignored, _ = zip(*states, strict=True)
    thresholds = len(IOU_THRESHOLDS)

    def joined(flags: Iterable[list]) -> np.ndarray:
        return np.hstack([np.array(image, dtype=bool).reshape(thresholds, -1) for image in flags])

    images = np.repeat(np.arange(len(states)), [len(image) for image in scores])
    order = np.argsort(-np.concatenate(scores), kind="stable")
    passed_over = joined(ignored)[:, order]
    hits = joined(matched)[:, order] & ~passed_over
    end = 1 + max(np.flatnonzero(hits.any(axis=0)), default=-1)
    return ClassMatches(
        images=images[order][:end],
        hits=hits[:, :end],
        ignored=passed_over[:, :end],
        objects=np.array([image.count(False) for image in ignored_objects]),
    )

"""Localisation errors of found objects, which decide AP at high IoU thresholds.

An object counts as found if a detection of any score is its true positive at an IoU of 0.5. Errors
are given in the coordinates that the box head predicts (equation 1): centre x and y, width and
height. The error in pixels is the absolute difference. The error as a normalised offset is
|dx| / (w s_x), |dy| / (h s_y), |log(w' / w)| / s_w and |log(h' / h)| / s_h, where s are the spec's
target_stds. The errors of width and height are exact. For x and y, equation 1 divides by the size
of the proposal. Detections do not record it, so the size of the ground truth box is used instead.

Shape shorthand: P true positives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd

from obc.analysis.evaluations import evaluations, lines_of, load, over_seeds
from obc.bins import OffsetBins
from obc.config.box_losses.offset_bin import OffsetBin
from obc.config.plan import Plan
from obc.config.table import TableSpec
from obc.evaluation.matching import true_positives
from obc.io.typed_yaml import ConfigError

COORDINATES = ("x", "y", "w", "h")
NUMBERS = (
    "found",
    "mean_iou",
    "fail_at_90",
    *(f"{name}_{unit}" for unit in ("px", "bins") for name in COORDINATES),
)
_EDGES = np.linspace(0.5, 1, 11)  # of the histogram's bins, IoU
_STRICT = 0.9


@dataclass(frozen=True)
class Diagnosis:
    """Localisation errors of a table's rows: means and sample deviations (`_sd`) over seeds.

    Attributes:
        numbers: one line per measured row: `row` (index in the table), then each of NUMBERS with
            its deviation, then `seeds`, the number of seeds. `found` is the percentage of objects
            that were found. The other columns cover found objects only and are NaN if none was
            found: `mean_iou` and `fail_at_90` (IoU below 0.9) in percent, and the mean absolute
            errors of centre (x, y), width and height in pixels (`x_px`, ...) and in bin widths
            (`x_bins`, ...).
        histogram: columns `row`, `low`, `high` (IoU), `share` (percent of the found objects),
            `share_sd` and `seeds`.
        bin_width: the bin width in normalised offsets.
    """

    numbers: pd.DataFrame
    histogram: pd.DataFrame
    bin_width: float


def diagnose(plan: Plan, table: TableSpec, frame: pd.DataFrame) -> Diagnosis:
    """Measure the localisation errors of a table's available evaluations.

    Args:
        frame: lines of `obc.analysis.evaluations.measured`, of this table.

    Raises:
        ConfigError: the table has no row with offset bins.
        DatasetError, DetectionsFileError, DetectionsError: files are missing, damaged, or of
            another data set.
    """
    unit = bin_width(table)
    numbers, histograms = [], []
    for evaluation in evaluations(plan, frame):
        truth, detections = load(evaluation)
        spec = plan.runs[evaluation.run_id].resolved.spec
        # The detections of a cascade are the boxes of its last stage.
        stds = spec.cascade.stage_stds[-1] if spec.cascade else spec.target_stds
        found = errors(truth, detections, stds)
        counts, _ = np.histogram(found["iou"], _EDGES)
        bars = {"low": _EDGES[:-1].round(3), "high": _EDGES[1:].round(3)}
        histogram = pd.DataFrame({**bars, "share": 100 * counts / max(len(found), 1)})
        for row in lines_of(evaluation, frame)["row"].unique():
            place = {"row": row, "seed": evaluation.seed}
            numbers.append({**place, **_summary(found, _objects(truth), unit)})
            histograms.append(histogram.assign(**place))
    by_seed = pd.DataFrame(numbers, columns=["row", "seed", *NUMBERS])
    columns = ["row", "seed", "low", "high", "share"]
    bars_by_seed = pd.concat(histograms) if histograms else pd.DataFrame(columns=columns)
    return Diagnosis(
        over_seeds(by_seed, ["row"], list(NUMBERS)).sort_values("row", ignore_index=True),
        over_seeds(bars_by_seed, ["row", "low", "high"], ["share"]),
        unit,
    )


def errors(
    ground_truth: dict[str, Any], detections: Sequence[dict[str, Any]], stds: Sequence[float]
) -> pd.DataFrame:
    """IoU and errors of the true positives at an IoU of 0.5.

    Args:
        ground_truth, detections: as in `obc.evaluation.matching.match`.
        stds: target_stds of x, y, w and h.

    Returns:
        P lines of `iou`, `x_px`, `y_px`, `w_px`, `h_px` (pixels) and `x_offset`, ..., `h_offset`
        (normalised offsets); all at least 0.
    """
    found = true_positives(ground_truth, detections)
    predicted = _centred([detections[index]["bbox"] for index in found.detections])
    truth = _centred([ground_truth["annotations"][index]["bbox"] for index in found.objects])
    pixels = predicted - truth
    offsets = np.hstack(
        [pixels[:, :2] / truth[:, 2:], np.log(predicted[:, 2:] / truth[:, 2:])]
    ) / np.asarray(stds)
    columns = {
        f"{name}_{unit}": np.abs(values[:, index])
        for unit, values in (("px", pixels), ("offset", offsets))
        for index, name in enumerate(COORDINATES)
    }
    return pd.DataFrame({"iou": found.ious, **columns})


def bin_width(table: TableSpec) -> float:
    """Width of a first-stage bin of the table's first row with offset bins, in normalised offsets.

    All rows use this unit, so that they can be compared.

    Raises:
        ConfigError: the table has no row with offset bins.
    """
    for row in table.rows:
        if row.run is not None and isinstance(row.run.box, OffsetBin):
            settings = {each.name: getattr(row.run.box, each.name) for each in fields(OffsetBins)}
            bins = OffsetBins(**settings)
            return 2 * bins.max_offset / bins.num_inner
    raise ConfigError(
        f"{table.name}: no row with loss: offset_bin, in whose bin widths errors are measured"
    )


def _summary(found: pd.DataFrame, objects: int, unit: float) -> dict[str, float]:
    """NUMBERS of one evaluation."""
    means = found.mean()
    return {
        "found": 100 * len(found) / objects,
        "mean_iou": 100 * means["iou"],
        "fail_at_90": 100 * (found["iou"] < _STRICT).mean(),
        **{f"{name}_px": means[f"{name}_px"] for name in COORDINATES},
        **{f"{name}_bins": means[f"{name}_offset"] / unit for name in COORDINATES},
    }


def _objects(truth: dict[str, Any]) -> int:
    """Number of objects to find, as the evaluator counts; at least 1, because AP is defined."""
    return sum(not each["iscrowd"] and each["area"] <= 1e10 for each in truth["annotations"])


def _centred(boxes: list[list[float]]) -> np.ndarray:
    """Convert boxes (P, 4) from corner x, y, width, height to centre x, y, width, height."""
    corners = np.array(boxes, dtype=float).reshape(-1, 4)
    return np.hstack([corners[:, :2] + corners[:, 2:] / 2, corners[:, 2:]])

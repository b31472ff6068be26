"""Precision-recall curves, and AP against the IoU threshold, of the rows of a table.

Both use the precisions of the evaluator: the mean of a row's curves over recalls and thresholds is
the row's AP.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from obc.analysis.evaluations import (
    evaluations,
    lines_of,
    load,
    measured,
    missing_rows,
    named,
    over_seeds,
    require_same,
)
from obc.config.plan import Plan
from obc.config.table import TableSpec, row_label
from obc.evaluation.matching import precision_at_recalls
from obc.evaluation.metrics import IOU_THRESHOLDS
from obc.report.captions import badge, provenance
from obc.report.figures.caption import caption
from obc.report.figures.style import figure, legend_above, mark_every, method_look

PRECISION_RECALL = "precision_recall"
AP_BY_IOU = "ap_by_iou"
DRAWN_IOUS = (0.5, 0.75, 0.9)
_RECALLS = np.arange(101)


def precisions(plan: Plan, frame: pd.DataFrame) -> pd.DataFrame:
    """Compute the precision-recall curves of every available evaluation.

    Args:
        frame: lines of one table from `obc.analysis.evaluations.measured`.

    Returns:
        Columns `row` (index within the table), `seed`, `iou` (0.5, 0.55, ..., 0.95), `recall` (0,
        1, ..., 100 percent) and `precision` (percent, the mean over classes with objects of the
        best precision at that recall or above).

    Raises:
        DatasetError, DetectionsFileError, DetectionsError: files are missing, damaged, or belong
            to another evaluation than the metrics.
    """
    parts = []
    for evaluation in evaluations(plan, frame):
        curves = 100 * np.nanmean(precision_at_recalls(*load(evaluation)), axis=-1)  # (T, R)
        by_iou = zip(IOU_THRESHOLDS, curves.mean(axis=1), strict=True)
        at_iou = {f"AP{round(100 * iou)}": ap for iou, ap in by_iou}
        require_same(evaluation, frame, {"AP": curves.mean(), **at_iou})
        grid = pd.MultiIndex.from_product([IOU_THRESHOLDS.round(2), _RECALLS])
        for row in lines_of(evaluation, frame)["row"].unique():
            lines = pd.DataFrame({"precision": curves.ravel()}, grid)
            lines = lines.rename_axis(["iou", "recall"]).reset_index()
            parts.append(lines.assign(row=row, seed=evaluation.seed))
    columns = ["row", "seed", "iou", "recall", "precision"]
    joined = pd.concat(parts) if parts else pd.DataFrame(columns=columns, dtype=float)
    return joined.sort_values(["row", "seed"], kind="stable", ignore_index=True)[columns]


def precision_recall(precisions: pd.DataFrame) -> pd.DataFrame:
    """Average the curves at `DRAWN_IOUS`: `row, iou, recall, precision, precision_sd, seeds`."""
    drawn = precisions[precisions["iou"].isin(DRAWN_IOUS)]
    return over_seeds(drawn, ["row", "iou", "recall"], ["precision"])


def ap_by_iou(precisions: pd.DataFrame) -> pd.DataFrame:
    """Compute AP at each IoU threshold: `row, iou, AP, AP_sd, seeds`, `gain` and `gain_sd`.

    `gain` is AP minus the AP of the table's first row; NaN if the first row was not measured.
    `gain_sd` is the standard deviation of this difference over the seeds that both rows have; NaN
    for the first row, and for fewer than two common seeds.
    """
    by_seed = precisions.groupby(["row", "seed", "iou"], as_index=False)["precision"].mean()
    by_seed = by_seed.rename(columns={"precision": "AP"})
    joined = over_seeds(by_seed, ["row", "iou"], ["AP"])
    first = joined[joined["row"] == 0].set_index("iou")["AP"]
    joined = joined.assign(gain=joined["AP"] - joined["iou"].map(first))
    return joined.merge(_gain_deviations(by_seed), "left", on=["row", "iou"])


def _gain_deviations(by_seed: pd.DataFrame) -> pd.DataFrame:
    """Columns `row`, `iou` and `gain_sd`, see `ap_by_iou`."""
    others, first = by_seed[by_seed["row"] != 0], by_seed[by_seed["row"] == 0]
    pairs = others.merge(first, on=["seed", "iou"], suffixes=("", "_first"))
    pairs = pairs.assign(gain_sd=pairs["AP"] - pairs["AP_first"])
    return pairs.groupby(["row", "iou"], as_index=False)["gain_sd"].std()


def draw(plan: Plan, name: str, folder: Path) -> None:
    """Draw `precision_recall` and `ap_by_iou` of a table: svg, png, pdf, and the numbers as csv.

    The captions name the rows that were not measured.

    Raises:
        ConfigError, MetricsFileError: as in `obc.analysis.collect.collect`.
        DatasetError, DetectionsFileError, DetectionsError: as in `precisions`.
    """
    frame = measured(plan, [name])
    table = plan.tables[name]
    found = precisions(plan, frame)
    missing = missing_rows(table, frame)
    _draw_precision_recall(plan, table, precision_recall(found), missing, folder)
    _draw_ap_by_iou(plan, table, ap_by_iou(found), missing, folder)


# --- drawing -----------------------------------------------------------------------------------


def _draw_precision_recall(
    plan: Plan, table: TableSpec, frame: pd.DataFrame, missing: str, folder: Path
) -> None:
    said = "Means over seeds." if (frame["seeds"] > 1).any() else ""
    with figure(
        folder,
        PRECISION_RECALL,
        "Precision against recall",
        caption(provenance(plan, table, said), missing=missing),
        badge=badge(plan, table),
        data=named(table, frame),
    ) as drawing:
        panels = drawing.subplots(1, len(DRAWN_IOUS), sharey=True)
        for iou, axes in zip(DRAWN_IOUS, panels, strict=True):
            lines = frame[frame["iou"] == iou].groupby("row")
            for number, (row, line) in enumerate(lines):
                marks = mark_every(number, len(line), 4)
                axes.plot(line["recall"], line["precision"], markevery=marks, **_look(table, row))
            axes.set_title(f"IoU {iou:g}", fontsize=10)
            axes.set(xlim=(0, 100), ylim=(0, 103), xticks=(0, 50, 100))
        panels[0].set_ylabel("precision (%)")
        panels[1].set_xlabel("recall (%)")
        legend_above(drawing, panels[0], columns=2)


def _draw_ap_by_iou(
    plan: Plan, table: TableSpec, frame: pd.DataFrame, missing: str, folder: Path
) -> None:
    said = (
        "Means over seeds; bars: standard deviation over seeds, right: of the differences from "
        "the baseline of the same seed."
        if (frame["seeds"] > 1).any()
        else ""
    )
    with figure(
        folder,
        AP_BY_IOU,
        "Average precision against the IoU threshold",
        caption(provenance(plan, table, said), missing=missing),
        badge=badge(plan, table),
        data=named(table, frame),
    ) as drawing:
        panels = drawing.subplots(1, 2)
        for quantity, axes in zip(("AP", "gain"), panels, strict=True):
            for row, line in frame.groupby("row"):
                deviations = line[f"{quantity}_sd"]
                bars = None if deviations.isna().all() else deviations
                look = {**_look(table, row), "elinewidth": 1, "capsize": 2}
                axes.errorbar(line["iou"], line[quantity], yerr=bars, **look)
            axes.set_xlabel("IoU threshold")
            axes.set_xticks(DRAWN_IOUS)
        panels[0].set_ylabel("AP (%)")
        panels[1].set_ylabel("AP minus baseline (points)")
        legend_above(drawing, panels[0], columns=2)


def _look(table: TableSpec, row: int) -> dict[str, object]:
    spec = table.rows[row]
    return {"label": row_label(spec), **method_look(spec.run.box, spec.decode)}

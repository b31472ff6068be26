"""Detections and ground truth of the evaluations behind a table's rows.

Claims, curves and diagnosis are computed from these files. Metrics computed from the detections
must equal those of the metrics file (`require_same`); otherwise the two files belong to different
evaluations.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from obc.analysis.collect import DONE, collect, summarise
from obc.config.plan import Plan
from obc.config.table import TableSpec, row_label
from obc.datasets.errors import DatasetError
from obc.datasets.index_folder import read_annotations
from obc.datasets.settings import DatasetName
from obc.evaluation.detections_file import DetectionsFileError, load_detections
from obc.evaluation.metrics import counts_difficult, difficult_ignored


@dataclass(frozen=True)
class Evaluation:
    """The identity of an evaluation and the paths of its files.

    Attributes:
        run_id, decode, seed: the run, decoding and training.
        truth: the ground truth annotations, COCO format.
        detections: the detections, see `obc.evaluation.detections_file`.
        difficult_ignored: whether objects marked difficult were ignored.
    """

    run_id: str
    decode: str
    seed: int
    truth: Path
    detections: Path
    difficult_ignored: bool


def measured(plan: Plan, tables: Iterable[str]) -> pd.DataFrame:
    """Run `obc.analysis.collect.collect`; status "not evaluated" if the detections are missing.

    Raises:
        ConfigError, MetricsFileError: as in `collect`.
    """
    frame = collect(plan, tables)
    lost = [
        line.status == "ok"
        and not plan.run_folder(line.run_id, line.seed).detections(line.decode).exists()
        for line in frame.itertuples()
    ]
    return frame.assign(
        value=frame["value"].mask(lost), status=frame["status"].mask(lost, "not evaluated")
    )


def evaluations(plan: Plan, frame: pd.DataFrame) -> tuple[Evaluation, ...]:
    """Return every evaluation with status `ok`, each once even if several rows show it.

    Args:
        frame: lines of `measured`, all or some.

    Raises:
        DatasetError: the index of an evaluated data set is missing.
    """
    there = frame[frame["status"] == "ok"]
    keys = dict.fromkeys(zip(there["run_id"], there["decode"], there["seed"], strict=True))
    for dataset in dict.fromkeys(plan.dataset_of(run_id) for run_id, _, _ in keys):
        _require_index(plan, dataset)
    return tuple(
        Evaluation(
            run_id,
            decode,
            seed,
            truth=plan.index_folder(plan.dataset_of(run_id)).val,
            detections=plan.run_folder(run_id, seed).detections(decode),
            difficult_ignored=not counts_difficult(plan.difficult(plan.dataset_of(run_id))),
        )
        for run_id, decode, seed in keys
    )


def load(evaluation: Evaluation) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Load ground truth and detections in COCO's formats; difficult objects as in the metrics.

    Raises:
        DetectionsFileError: the detections file is damaged.
    """
    truth = read_annotations(evaluation.truth)
    if evaluation.difficult_ignored:
        truth = difficult_ignored(truth)
    return truth, load_detections(evaluation.detections)


def objects_to_find(path: Path, difficult_ignored: bool) -> dict[str, Any]:
    """Read the ground truth without crowds and, if they are ignored, without difficult objects."""
    truth = read_annotations(path)
    annotations = [
        each
        for each in truth["annotations"]
        if not each.get("iscrowd") and not (difficult_ignored and each.get("difficult"))
    ]
    return {**truth, "annotations": annotations}


def lines_of(evaluation: Evaluation, frame: pd.DataFrame) -> pd.DataFrame:
    """Return the lines of `frame` for an evaluation, from all rows that show it."""
    return frame[
        (frame["run_id"] == evaluation.run_id)
        & (frame["decode"] == evaluation.decode)
        & (frame["seed"] == evaluation.seed)
    ]


def require_same(evaluation: Evaluation, frame: pd.DataFrame, recomputed: dict[str, float]) -> None:
    """Check that the metrics recomputed from the detections equal those that the tables show.

    Args:
        frame: lines of `measured`.
        recomputed: metrics from the detections, in percent, by name; other metrics of `frame` are
            not compared.

    Raises:
        DetectionsFileError: a metric differs, so the detections are of another evaluation.
    """
    for line in lines_of(evaluation, frame).itertuples():
        if line.metric in recomputed and abs(recomputed[line.metric] - line.value) > 1e-6:
            raise DetectionsFileError(
                f"{evaluation.detections}: its {line.metric} is {recomputed[line.metric]:.3f}, its "
                f"metrics file says {line.value:.3f}; remove both to have them measured again"
            )


def over_seeds(frame: pd.DataFrame, keys: list[str], values: list[str]) -> pd.DataFrame:
    """Average values over seeds.

    Args:
        frame: one line for each combination of `keys` and seed.

    Returns:
        Columns `keys`, then for each of `values` its mean and, as `<value>_sd`, its standard
        deviation (n - 1; NaN for one seed), then `seeds`, the number of seeds. The lines are in
        the order of `frame`.
    """
    groups = frame.groupby(keys, sort=False)
    numbers = {value: (value, "mean") for value in values}
    numbers |= {f"{value}_sd": (value, "std") for value in values}
    order = [column for value in values for column in (value, f"{value}_sd")]
    joined = groups.agg(**numbers, seeds=(values[0], "size"))
    return joined[[*order, "seeds"]].reset_index()


def named(table: TableSpec, frame: pd.DataFrame) -> pd.DataFrame:
    """Return a copy of `frame` with a column `name` after `row`: the row's label in the table."""
    copied = frame.copy()
    names = [row_label(table.rows[row]) for row in frame["row"]]
    copied.insert(frame.columns.get_loc("row") + 1, "name", names)
    return copied


def missing_rows(table: TableSpec, frame: pd.DataFrame) -> str:
    """List the rows that lack the numbers of some or all seeds: `not run: Bin Classification`.

    Args:
        frame: lines of `measured`.

    Returns:
        The text, empty if no number is missing. A status is preceded by `some seeds` if other
        seeds of the row have numbers.
    """
    cells = summarise(frame[frame["table"] == table.name]).xs(
        (table.name, table.metrics[0]), level=("table", "metric")
    )
    names: dict[str, list[str]] = {}
    for index, statuses in cells["statuses"].items():
        reasons = [status for status in statuses if status not in DONE]
        if reasons:
            some = "some seeds " if "ok" in statuses else ""
            names.setdefault(some + ", ".join(reasons), []).append(row_label(table.rows[index]))
    return "; ".join(f"{reason}: {', '.join(rows)}" for reason, rows in names.items())


def _require_index(plan: Plan, dataset: DatasetName) -> None:
    index = plan.index_folder(dataset)
    for path in (index.val, index.manifest):
        if not path.exists():
            raise DatasetError(
                f"{path}: not found, and {dataset} was evaluated by it; "
                f"`obc index {plan.results / 'plan.json'} {dataset}` makes it"
            )

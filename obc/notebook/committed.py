"""Read single evaluations and a trained head's predictions from a folder of committed results.

The images are not committed. They are scenes that the suite draws, so missing images are drawn
again.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from obc.config.plan import digest
from obc.config.reference import ReferenceFolder
from obc.config.run import method_of, slug_of
from obc.datasets.drawn.shapes import generate
from obc.datasets.index import index_dataset
from obc.datasets.index_folder import IndexFolder
from obc.datasets.settings import ShapesData
from obc.evaluation.head_view import HeadView
from obc.evaluation.metrics import counts_difficult
from obc.evaluation.stored_views import load_views
from obc.io.typed_yaml import ConfigError
from obc.notebook.read_results import ResultsMissing
from obc.notebook.two_evaluations import Evaluation, TestSet, shared_test_set
from obc.operations.stored_runs import StoredEvaluation, stored_evaluations
from obc.runs.runs_file import read_runs

DRAWN = Path("data/shapes")


@dataclass(frozen=True)
class CommittedEvaluations:
    """The evaluations of a folder of committed results."""

    folder: ReferenceFolder

    @cached_property
    def table(self) -> pd.DataFrame:
        """One line per evaluation; evaluations with stored detections come first.

        Columns `method`, `decode`, `seed`, `AP` (percent), `boxes` (whether its detections are
        stored) and `run_id`.
        """
        lines = [
            (slug_of(run_id), decode, seed, content["metrics"]["AP"], key in self._stored, run_id)
            for key, content in self._metrics.items()
            for run_id, seed, decode in [key]
        ]
        names = ["method", "decode", "seed", "AP", "boxes", "run_id"]
        frame = pd.DataFrame(lines, columns=names)
        frame["AP"] = frame["AP"].astype(float).round(1)
        return frame.sort_values("boxes", ascending=False, kind="stable", ignore_index=True)

    @property
    def pair(self) -> tuple[int, int]:
        """Lines of the baseline and of the method if both are stored, or the first two lines."""
        return 0, 1

    def read(self, line: int) -> Evaluation:
        """Read the evaluation of a line of `table`; detections are empty if they are not stored."""
        at = self.table.iloc[line]
        key = (at["run_id"], int(at["seed"]), at["decode"])
        content = self._metrics[key]
        return Evaluation(
            name=f"{method_of(at['run_id'])}, {at['decode']}, seed {at['seed']}",
            dataset=at["run_id"].partition("-")[0],
            metrics=content["metrics"],
            per_class=content["per_class"],
            detections=self._stored[key].detections if key in self._stored else [],
        )

    def test_set(self, *lines: int) -> TestSet:
        """Return the test images that the evaluations of some lines share; draw missing images.

        Raises:
            ResultsMissing: the folder has no detections of one of the evaluations.
            ConfigError: the evaluations are on different data.
        """
        keys = [tuple(self.table.iloc[line][["run_id", "seed", "decode"]]) for line in lines]
        missing = [key for key in keys if key not in self._stored]
        if missing:
            raise ResultsMissing(
                f"{self.folder}: has no detections of {missing[0][0]}; choose lines with boxes, "
                'or results that were made here (RESULTS = "mini")'
            )
        stored = [self._stored[key] for key in keys]
        if len({one.record["data"]["sha256"] for one in stored}) != 1:
            raise ConfigError("evaluations on different data; allowed are those of one data set")
        difficult_ignored = not counts_difficult(stored[0].metrics["difficult"])
        root, index = drawn_again(stored[0].record)
        return shared_test_set(index, root, difficult_ignored)

    @cached_property
    def _stored(self) -> dict[tuple[str, int, str], StoredEvaluation]:
        files = [self.folder.examples] if self.folder.examples.exists() else []
        found = [
            one for path in (*files, *self.folder.archives()) for one in stored_evaluations(path)
        ]
        return {(one.run_id, one.seed, one.decode): one for one in found}

    @cached_property
    def _metrics(self) -> dict[tuple[str, int, str], dict[str, Any]]:
        of_examples = {key: one.metrics for key, one in self._stored.items()}
        of_runs = {
            (run.run_id, run.seed, decode): content
            for run in read_runs(self.folder.runs)
            for decode, content in run.metrics.items()
        }
        return {**of_examples, **of_runs}


def committed_views(folder: ReferenceFolder) -> tuple[str, int, list[HeadView]]:
    """Read run id and seed of a trained run, and its head's stored predictions for some images.

    Raises:
        ResultsMissing: the folder stores no predictions of a head.
    """
    if not folder.head.exists():
        raise ResultsMissing(
            f"{folder.head}: not there: these results store no output of a trained head. First run "
            '`make reproduce TARGETS=table1`, then set RESULTS to your results, e.g. "quick"'
        )
    stored = load_views(folder.head)
    root, _ = drawn_again(stored.record)
    views = [replace(view, image_path=root / view.image_path) for view in stored.views]
    return stored.run_id, stored.seed, views


def drawn_again(record: dict[str, Any]) -> tuple[Path, Path]:
    """Return the image folder of a training's data set and its validation annotations.

    Missing images are drawn, in seconds, into the folder in which the workflow looks for them.

    Args:
        record: run.json of the training.

    Raises:
        ResultsMissing: the data are photographs, or the current code draws other scenes.
    """
    settings = record["resolved"]["data"]
    if settings["kind"] != "shapes":
        raise ResultsMissing("these results are of photographs, which are not committed")
    data = ShapesData.model_validate(settings)
    root = DRAWN / f"{data.layout}-{digest(data.drawing)}"
    index = IndexFolder(DRAWN / f"{root.name}-index")
    expected = record["data"]["sha256"]
    manifest = index.find_manifest() if root.exists() else None
    if manifest is None or manifest["sha256"] != expected:
        with contextlib.redirect_stderr(io.StringIO()):  # progress
            if not root.exists():
                generate(data, root)
            manifest = index_dataset(data, root, index)
    if manifest["sha256"] != expected:
        raise ResultsMissing(
            f"{root}: the present code draws other scenes than those that were evaluated; check "
            f"out commit {record['code']['commit']}"
        )
    return root, index.val

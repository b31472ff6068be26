"""Precision-recall curves and AP against IoU: the numbers that are drawn, and the files."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from evaluation_fixtures import detect, evaluated_plan, index, near, plan_with_table, shapes

from obc.analysis.evaluations import measured
from obc.cli.main import main
from obc.config.plan import Plan
from obc.evaluation.detections_file import DetectionsFileError, save_detections
from obc.report.figures.curves import ap_by_iou, draw, precision_recall, precisions

SPREADS = {0: (0.10, 0.12), 1: (0.08, 0.06), 2: (0.05, 0.04)}  # by row, of each seed


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """Two seeds of every row, the later rows nearer to the truth."""
    return evaluated_plan(tmp_path_factory.mktemp("curves"), SPREADS)


@pytest.fixture(scope="module")
def found(plan: Plan) -> pd.DataFrame:
    return precisions(plan, measured(plan, ["table1"]))


def test_every_measured_row_and_seed_has_a_curve_at_each_threshold(found: pd.DataFrame) -> None:
    assert len(found) == 3 * 2 * 10 * 101 and not found.isna().any(axis=None)
    assert found["precision"].between(0, 100).all()
    assert found["iou"].unique().tolist() == pytest.approx(np.arange(0.5, 1, 0.05).tolist())


def test_the_mean_over_recalls_and_thresholds_is_the_metrics_files_ap(
    plan: Plan, found: pd.DataFrame
) -> None:
    for row, line in ap_by_iou(found).groupby("row"):
        spec = plan.tables["table1"].rows[row]
        files = [
            json.loads(
                (plan.run_folder(plan.run_of(spec).run_id, seed) / f"metrics.{spec.decode}.json")
                .read_text()
            )["metrics"]
            for seed in (0, 1)
        ]  # fmt: skip
        assert line["AP"].mean() == pytest.approx(np.mean([each["AP"] for each in files]))
        at_90 = line[line["iou"] == 0.9].iloc[0]
        assert at_90["AP"] == pytest.approx(np.mean([each["AP90"] for each in files]))
        assert at_90["AP_sd"] == pytest.approx(np.std([each["AP90"] for each in files], ddof=1))


def test_the_gain_is_over_the_first_row(found: pd.DataFrame) -> None:
    joined = ap_by_iou(found).set_index(["row", "iou"])
    assert (joined.loc[0]["gain"] == 0).all()
    assert joined.loc[(2, 0.75), "gain"] == pytest.approx(
        joined.loc[(2, 0.75), "AP"] - joined.loc[(0, 0.75), "AP"]
    )


def test_the_deviation_of_the_gain_is_that_of_the_pairs_of_a_seed(found: pd.DataFrame) -> None:
    joined = ap_by_iou(found).set_index(["row", "iou"])["gain_sd"]
    means = found[found["iou"] == 0.75].groupby(["row", "seed"])["precision"].mean()
    differences = means[2] - means[0]
    assert joined[2, 0.75] == pytest.approx(abs(differences[0] - differences[1]) / np.sqrt(2))
    assert joined[0].isna().all()


def test_curves_are_drawn_at_three_thresholds_and_fall_with_recall(found: pd.DataFrame) -> None:
    drawn = precision_recall(found)
    assert drawn["iou"].unique().tolist() == [0.5, 0.75, 0.9]
    for _, line in drawn.groupby(["row", "iou"]):
        assert line["recall"].tolist() == list(range(101))
        assert (line["precision"].diff().dropna() <= 1e-9).all()


def test_detections_of_another_evaluation_are_refused(tmp_path: Path) -> None:
    plan, truth = plan_with_table(tmp_path), shapes()
    index(plan, truth)
    save_detections(detect(plan, 0, truth, near(truth, 0.1)), near(truth, 0.2))
    with pytest.raises(DetectionsFileError, match="its AP is"):
        precisions(plan, measured(plan, ["table1"]))


def test_the_command_writes_figures_and_their_numbers(plan: Plan, tmp_path: Path) -> None:
    plan.save(tmp_path / "plan.json")
    assert main(["figure", str(tmp_path / "plan.json"), "curves"]) == 0
    folder = plan.results / "figures"
    assert sorted(path.name for path in folder.iterdir()) == [
        f"{name}.{kind}"
        for name in ("ap_by_iou", "precision_recall")
        for kind in ("csv", "pdf", "png", "svg")
    ]
    for name in ("ap_by_iou", "precision_recall"):
        assert ElementTree.parse(folder / f"{name}.svg").getroot().tag.endswith("svg")
        numbers = pd.read_csv(folder / f"{name}.csv")
        assert numbers["name"].unique().tolist() == ["Regression", "Bins", "Bins (Expectation ✓)"]
        assert (numbers["seeds"] == 2).all()


def test_before_anything_is_measured_the_figures_say_so(tmp_path: Path) -> None:
    draw(plan_with_table(tmp_path), "table1", tmp_path / "figures")
    assert len(pd.read_csv(tmp_path / "figures/ap_by_iou.csv")) == 0
    assert (tmp_path / "figures/precision_recall.png").exists()

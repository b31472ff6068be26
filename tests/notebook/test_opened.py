"""A results folder as a notebook opens it: one made here, and a committed one."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from report_fixtures import FIGURE, TABLE, measure, plan_of

from obc.evaluation.detections_file import save_detections
from obc.notebook.committed import CommittedEvaluations
from obc.notebook.opened import OpenedResults
from obc.notebook.read_results import ResultsMissing
from obc.report.tables.paper_tables import write

REFERENCE = Path("results/reference")


@pytest.fixture
def own(tmp_path: Path) -> OpenedResults:
    plan = plan_of(tmp_path, {"table1": TABLE, "figure9": FIGURE}, seeds=[0])
    for row, ap in ((0, 41.0), (2, 44.0)):
        metrics = measure(plan, "table1", row, {"AP": ap, "AP_S": 9.0})
        decode = metrics.name.split(".")[1]
        save_detections(metrics.with_name(f"detections.{decode}.npz"), [])
    write(plan, ["table1"], plan.results / "partial" / "tables", strict=False)
    plan.save(plan.results / "plan.json")
    return OpenedResults(plan.results)


def test_gains_are_differences_to_the_first_row(own: OpenedResults) -> None:
    gains = own.gains("table1", ("AP",))
    assert gains.index.tolist()[0] == "L2 | squared, ResNet_50 & co"
    assert gains["AP", "ours"].tolist()[2] == 3.0
    assert gains["AP", "paper"].tolist() == [0.0, 5.0, 7.5, -10.0]


def test_results_say_what_they_are(own: OpenedResults) -> None:
    assert str(own.folder) in own._repr_markdown_()
    committed = OpenedResults(REFERENCE / "mini")._repr_markdown_()
    assert "results/reference/mini" in committed
    card = yaml.safe_load((REFERENCE / "mini/run.yaml").read_text(encoding="utf-8"))
    assert f"{card['trainings']} trainings" in committed


def test_own_evaluations_are_compared_by_line(own: OpenedResults) -> None:
    table = own.evaluations.table
    assert table["decode"].tolist() == ["regression", "expectation"]
    assert table["AP"].tolist() == [41.0, 44.0]
    assert own.evaluations.pair == (0, 1)


def test_committed_evaluations_are_those_of_runs_jsonl_and_of_the_examples() -> None:
    evaluations = OpenedResults(REFERENCE / "quick").evaluations
    assert isinstance(evaluations, CommittedEvaluations)
    table = evaluations.table
    assert table["boxes"].tolist()[:3] == [True, True, False]
    assert table["decode"].tolist()[:2] == ["regression", "expectation"]
    first, second = map(evaluations.read, evaluations.pair)
    assert first.dataset == second.dataset == "voc"
    assert len(first.detections) > 600
    assert first.metrics["AP"] == pytest.approx(table["AP"].iloc[0], abs=0.05)


def test_evaluations_without_stored_boxes_have_no_images() -> None:
    evaluations = OpenedResults(REFERENCE / "second-stage-readings").evaluations
    assert not evaluations.table["boxes"].any()
    assert evaluations.read(0).metrics["AP"] is not None
    with pytest.raises(ResultsMissing, match="has no detections of"):
        evaluations.test_set(0, 1)


def test_results_without_a_stored_head_say_what_to_run() -> None:
    with pytest.raises(ResultsMissing, match="make reproduce TARGETS=table1"):
        OpenedResults(REFERENCE / "second-stage-readings").look_into()

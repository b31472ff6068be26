"""Which row of the paper a row of ours resembles."""

from __future__ import annotations

from pathlib import Path

import pytest
from report_fixtures import measure, plan_of

from obc.analysis.resemblance import Resemblance, resemblances
from obc.config.plan import Plan
from obc.io.typed_yaml import ConfigError
from obc.report.tables.row_differences import _nearest_legend

# The paper's steps from K = 1: K = 2 (+2, -1, +6), K = 3 (+1, -1, +3).
PAPER = """
title: Stages
section: "4.1"
dataset: voc
metrics: [AP, AP50, AP90]
common: {detector: faster_rcnn, backbone: r50}
rows:
  - {label: K = 1, key: k1, box: {loss: offset_bin}, paper: [40, 70, 10]}
  - {label: K = 2, key: k2, box: {loss: offset_bin, num_stages: 2}, paper: [42, 69, 16]}
  - {label: K = 3, key: k3, box: {loss: offset_bin, num_stages: 3}, paper: [41, 69, 13]}
"""
READINGS = """
title: Readings
beyond: true
dataset: voc
metrics: [AP, AP75, AP90]
resembles: {table: table7, less: %s, ours: %s}
common: {detector: faster_rcnn, backbone: r50}
rows:
  - {label: One stage, key: one, box: {loss: offset_bin}}
  - {label: Two stages, key: two, box: {loss: offset_bin, num_stages: 2}}
  - {label: L2, key: l2, box: {loss: l2}}
"""


def plan_with(folder: Path, less: str = "k1", ours: str = "one") -> Plan:
    return plan_of(folder, {"table7": PAPER, "readings": READINGS % (less, ours)})


def measured(plan: Plan, row: int, ap: float, ap90: float) -> None:
    measure(plan, "readings", row, {"AP": ap, "AP75": 0.0, "AP90": ap90})


def test_the_nearest_row_is_that_of_the_nearest_differences_not_levels(tmp_path: Path) -> None:
    plan = plan_with(tmp_path)
    measured(plan, 0, 20.0, 2.0)
    measured(plan, 1, 21.5, 7.0)
    # +1.5 and +5: 0.5 and 1 from K = 2, 0.5 and 2 from K = 3, 1.5 and 5 from K = 1.
    found = resemblances(plan, plan.tables["readings"])
    assert found[1] == Resemblance("K = 2", pytest.approx(0.75), ("AP", "AP90"))
    assert found[0] == Resemblance("K = 1", 0.0, ("AP", "AP90"))


def test_a_row_of_another_box_loss_has_none(tmp_path: Path) -> None:
    plan = plan_with(tmp_path)
    for row in range(3):
        measured(plan, row, 20.0, 2.0)
    assert set(resemblances(plan, plan.tables["readings"])) == {0, 1}


def test_a_row_that_was_not_measured_has_none(tmp_path: Path) -> None:
    plan = plan_with(tmp_path)
    measured(plan, 0, 20.0, 2.0)
    assert set(resemblances(plan, plan.tables["readings"])) == {0}


def test_a_table_that_does_not_ask_has_none(tmp_path: Path) -> None:
    plan = plan_with(tmp_path)
    assert resemblances(plan, plan.tables["table7"]) == {}


def test_a_row_that_the_paper_has_not_is_refused(tmp_path: Path) -> None:
    plan = plan_with(tmp_path, less="k9")
    with pytest.raises(ConfigError, match="readings: resembles names row 'k9' of 'table7'"):
        resemblances(plan, plan.tables["readings"])


def test_a_row_that_stands_for_it_must_be_one_of_the_table(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"resembles\.ours is 'none', allowed: .*one, two, l2"):
        plan_with(tmp_path, ours="none")


def test_the_page_says_row_and_distance_and_what_they_mean(tmp_path: Path) -> None:
    plan = plan_with(tmp_path)
    found = Resemblance("K = 2", 0.75, ("AP", "AP90"))
    assert str(found) == "K = 2 (0.8)"
    legend = _nearest_legend(plan, plan.tables["readings"], {1: found})
    assert "differences to One stage" in legend and "Table 7 to K = 1, in AP, AP90" in legend


SAME_LABELS = PAPER.replace("label: K = 2", "label: K").replace("label: K = 3", "label: K")


def test_rows_of_the_paper_with_one_label_are_told_apart(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {"table7": SAME_LABELS, "readings": READINGS % ("k1", "one")})
    measured(plan, 0, 20.0, 2.0)
    measured(plan, 1, 22.0, 8.0)  # exactly the step of the first row named K
    assert resemblances(plan, plan.tables["readings"])[1].distance == 0.0


def test_a_row_whose_numbers_the_paper_does_not_print_is_refused(tmp_path: Path) -> None:
    silent = PAPER.replace(", paper: [40, 70, 10]", "")
    plan = plan_of(tmp_path, {"table7": silent, "readings": READINGS % ("k1", "one")})
    measured(plan, 0, 20.0, 2.0)
    with pytest.raises(ConfigError, match="the paper does not print all of its numbers in AP"):
        resemblances(plan, plan.tables["readings"])

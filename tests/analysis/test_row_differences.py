"""Tables beyond the paper: made when named, changing nothing of the paper's, rows compared."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from claim_fixtures import evaluated, plan_with, resampler
from report_fixtures import measure, plan_of, run_folder

from obc.analysis.collect import collect
from obc.analysis.row_differences import Compared, compare
from obc.config.load_plan import load_plan
from obc.config.plan import Plan
from obc.config.table import Row
from obc.io.typed_yaml import ConfigError
from obc.operations.plan_page import summary
from obc.operations.status import states
from obc.operations.why import find_run
from obc.report.captions import title
from obc.report.tables import row_differences as page
from obc.report.tables.paper_tables import render, write_long
from obc.report.tables.row_differences import csv, markdown
from obc.runs.status import shown_tables

BEYOND = """
title: More
beyond: true
dataset: voc
metrics: [AP, AP90]
common: {detector: faster_rcnn, backbone: r50}
rows:
  - {label: Smooth L1, key: l1, box: {loss: smooth_l1}}
  - {label: L2, key: l2, against: l1, box: {loss: l2}}
  - {label: GIoU, key: giou, against: l1, box: {loss: giou}}
  - {label: IoU, key: iou, against: giou, box: {loss: iou}}
"""
CLAIM = "kind: higher, pairs: [[bins, l1]]"


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return plan_with(tmp_path, CLAIM, seeds=(0, 1, 2), more=BEYOND)


# --- the suite's own ---------------------------------------------------------------------------


@pytest.mark.parametrize("scale", ["smoke", "mini", "paper"])
def test_the_suite_s_tables_beyond_the_paper_add_nothing_to_the_paper_s(scale: str) -> None:
    plan = load_plan({"scale": scale})
    assert {"beyond_paper", "ambiguities"} == set(plan.tables) - set(plan.paper_tables)
    assert len(plan.paper_runs) == 39
    assert all(row.paper is None for name in ("beyond_paper", "ambiguities")
               for row in plan.tables[name].rows)  # fmt: skip


def settings(row: Row) -> dict[str, Any]:
    """Every setting of a row, those of its box loss and cascade by their own names."""
    spec = row.run.model_dump()
    parts = {**(spec.pop("box") or {}), **(spec.pop("cascade") or {})}
    return {**spec, **parts, "decode": row.decode}


def test_each_ambiguity_differs_from_its_reference_in_the_switches_that_it_names() -> None:
    table = load_plan({}).tables["ambiguities"]
    for row in table.compared_rows:
        ours, reference = settings(row), settings(table.keyed_rows[row.against])
        changed = {name for name in ours if ours[name] != reference[name]}
        named = set(re.findall(r"([a-z_]+):", row.columns["Switch"]))
        assert changed == named, row.label


def test_every_reading_of_the_later_stages_is_a_row() -> None:
    table = load_plan({}).tables["ambiguities"]
    rows = [settings(row) for row in table.rows if row.run.box.loss == "offset_bin"]
    values = {name: {row[name] for row in rows} for name in rows[0]}
    assert values["stage_features"] == {"refined", "proposal", "shared"}
    assert values["residual"] == {"pred", "gt_bin", "argmax_bin"}
    assert values["later_out_of_range"] == {"overflow", "clamp", "ignore"}
    assert values["composition"] == {"refine", "sum"}
    assert values["class_scores"] == {"first", "mean"}
    assert values["stage_loss_weights"] == {None, (0.5, 0.5), (1.0, 0.25)}
    assert {(3.0, 0.6), (3.0, 1.0)} <= values["stage_ranges"]
    assert {"first_stage", "argmax_expectation", "argmax"} <= values["decode"]
    assert any(row["num_stages"] == 1 and row["loss_weight"] == 2 for row in rows)


def test_every_row_of_the_ambiguities_has_three_seeds_at_mini() -> None:
    plan = load_plan({"scale": "mini"})
    assert plan.seeds_of_table("ambiguities") == (0, 1, 2)


# --- what a plan makes of them -----------------------------------------------------------------


def test_they_bring_no_seeds_to_runs_that_the_paper_s_tables_have(tmp_path: Path) -> None:
    seeds = {"default": [0], "more": [0, 1, 2]}
    plan = plan_with(tmp_path, CLAIM, seeds=seeds, more=BEYOND)
    l1, _, giou, _ = (plan.run_of(row).run_id for row in plan.tables["more"].rows)
    assert (plan.seeds_of(l1), plan.seeds_of(giou)) == ((0,), (0, 1, 2))


def test_the_summary_counts_them_apart(plan: Plan) -> None:
    assert "12 trainings (4 runs with 3 seeds each)" in summary(plan)[0]
    assert summary(plan)[1] == ("beyond the paper, made only when named: more (6 trainings more)")


def test_they_are_shown_once_a_run_of_their_own_has_begun(plan: Plan) -> None:
    run_folder(plan, "more", 0)  # Table 7's run too
    assert shown_tables(plan) == ("table7",)
    run_folder(plan, "more", 2)
    assert set(shown_tables(plan)) == {"table7", "more"}


def test_status_tells_of_their_runs_once_one_has_begun(plan: Plan) -> None:
    assert not any("giou" in state.run_id for state in states(plan))
    run_folder(plan, "more", 2)
    assert any("giou" in state.run_id for state in states(plan))


def test_the_complete_long_file_needs_none_of_them(tmp_path: Path) -> None:
    table = BEYOND.replace("beyond: true", 'section: "4"')
    plan = plan_of(tmp_path, {"more": BEYOND, "table7": table})
    for row in range(4):
        measure(plan, "table7", row, {"AP": 1.0, "AP90": 1.0})
    write_long(plan, tmp_path / "all.csv", strict=True)
    assert set(pd.read_csv(tmp_path / "all.csv")["table"]) == {"table7"}


def test_a_table_has_a_section_or_is_beyond_the_paper(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="either a section of the paper or beyond: true"):
        plan_of(tmp_path, {"more": BEYOND.replace("beyond: true\n", "")})


@pytest.mark.parametrize("against", ["nobody", "iou"])
def test_a_row_is_compared_with_another_row_that_is_there(tmp_path: Path, against: str) -> None:
    text = BEYOND.replace("against: giou", f"against: {against}")
    with pytest.raises(ConfigError, match=f"against is '{against}', allowed: .*l1, l2, giou"):
        plan_of(tmp_path, {"more": text})


def test_a_beginning_that_several_runs_share_means_the_paper_s(tmp_path: Path) -> None:
    half = BEYOND.replace("{loss: giou}", "{loss: l2, loss_weight: 0.5}")
    plan = plan_with(tmp_path, CLAIM, more=half)
    assert find_run(plan, "voc-faster-r50-l2") == plan.run_of(plan.tables["table7"].rows[0]).run_id
    with pytest.raises(ConfigError, match="several runs start"):
        find_run(plan, "voc-faster-r50")


# --- how they are printed ----------------------------------------------------------------------


def test_its_title_says_that_it_is_not_the_paper_s(plan: Plan) -> None:
    assert title(plan.tables["more"]) == "More. More (not in the paper)."


def test_its_cells_are_ours_alone(plan: Plan) -> None:
    measure(plan, "more", 2, {"AP": 41.0, "AP90": 4.0})
    texts = render(plan, plan.tables["more"], collect(plan, ["more"]))
    assert "41.0 [1 of 3 seeds, not run]" in texts["md"]
    assert not any("not published" in texts[kind] for kind in ("md", "tex"))
    assert "the paper's" not in texts["md"].split("|")[-1]


# --- rows against each other -------------------------------------------------------------------

FLAT = {"l1": [50.0, 50.5, 49.5], "l2": [40.0, 40.5, 39.5], "giou": [50.1, 50.6, 49.6]}


def found_in(plan: Plan) -> tuple[Compared, ...]:
    """`compare` with resamples that move all evaluations alike."""
    return compare(plan, plan.tables["more"], strict=True, resample=resampler())


def test_a_difference_is_called_one_where_its_interval_leaves_out_0(plan: Plan) -> None:
    evaluated(plan, "more", **FLAT, iou=[60.0, 60.5, 59.5])
    found = {(one.key, one.metric): one.found for one in found_in(plan)}
    assert found["l2", "AP"] == "lower"  # 10 points apart, trainings half a point
    assert found["giou", "AP"] == "not told apart"  # 0.1 apart
    assert found["iou", "AP"] == "higher"
    assert set(found.values()) == {"lower", "higher", "not told apart"}


def test_each_row_is_compared_with_the_one_that_it_names(plan: Plan) -> None:
    evaluated(plan, "more", **FLAT, iou=[60.0, 60.5, 59.5])
    differences = {
        one.key: round(one.difference, 6) for one in found_in(plan) if one.metric == "AP"
    }
    assert differences == {"l2": -10.0, "giou": 0.1, "iou": 9.9}


def test_the_page_has_intervals_marks_costs_and_sentences(plan: Plan) -> None:
    evaluated(plan, "more", **FLAT, iou=[60.0, 60.5, 59.5])
    found = found_in(plan)
    costs = {row: {"parameters": 1234 + row, "mflop_per_roi": 0.5} for row in range(4)}
    page = markdown(plan, plan.tables["more"], found, costs)
    (line,) = (line for line in page.splitlines() if line.startswith("| L2"))
    assert "−10.0 [" in line and "▼" in line and "1,235" in line
    assert "- AP, against Smooth L1: lower: L2 −10.0; not told apart: GIoU." in page
    assert "- AP, against GIoU: higher: IoU +9.9." in page


def test_the_csv_has_a_line_for_each_difference(plan: Plan, tmp_path: Path) -> None:
    evaluated(plan, "more", **FLAT, iou=[60.0, 60.5, 59.5])
    path = tmp_path / "page.csv"
    path.write_text(csv(plan.tables["more"], found_in(plan), {i: {} for i in range(4)}))
    frame = pd.read_csv(path)
    assert frame[["row", "metric"]].drop_duplicates().shape[0] == len(frame) == 6
    assert (frame["low"] <= frame["difference"]).all()


def test_what_is_missing_is_not_run_and_not_compared(plan: Plan) -> None:
    found = compare(plan, plan.tables["more"], strict=False)
    assert {one.found for one in found} == {"not run"}
    assert "not evaluated" in markdown(plan, plan.tables["more"], found, {i: {} for i in range(4)})


def test_ap_by_object_size_which_has_no_interval_is_not_compared(tmp_path: Path) -> None:
    sizes = BEYOND.replace("[AP, AP90]", "[AP, AP_S]")
    plan = plan_with(tmp_path, CLAIM, more=sizes)
    found = compare(plan, plan.tables["more"], strict=False)
    assert {one.metric for one in found} == {"AP"}


def test_a_table_without_compared_rows_is_refused(plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'table7' is no table .* allowed: more"):
        page.write(plan, "table7", tmp_path, strict=False)

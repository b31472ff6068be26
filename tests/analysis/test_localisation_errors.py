"""The localisation diagnosis: errors against derived values, the table, the figure's numbers."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from evaluation_fixtures import TABLE, detect, evaluated_plan, index, near, plan_with_table, shapes
from report_fixtures import TABLE as OTHER_TABLE
from report_fixtures import plan_of

from obc.analysis.evaluations import measured
from obc.analysis.localisation_errors import Diagnosis, bin_width, diagnose, errors
from obc.cli.main import main
from obc.config.plan import Plan
from obc.head.coders import OffsetBinBBoxCoder
from obc.io.typed_yaml import ConfigError
from obc.report.figures.diagnosis import plotted, table_rows, write

STDS = (0.1, 0.1, 0.2, 0.2)
SPREADS = {0: (0.10, 0.12), 2: (0.05, 0.04)}  # by row, of each seed; row 1 is not measured


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return evaluated_plan(tmp_path_factory.mktemp("diagnosis"), SPREADS)


@pytest.fixture(scope="module")
def found(plan: Plan) -> Diagnosis:
    return diagnose(plan, plan.tables["table1"], measured(plan, ["table1"]))


def one(box: list[float], detected: list[float]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """One object and one detection, boxes as x, y, width, height."""
    truth = shapes(objects=1, images=1)
    truth["annotations"][0] |= {"bbox": box, "area": box[2] * box[3]}
    place = {"image_id": 0, "category_id": truth["annotations"][0]["category_id"]}
    return truth, [{**place, "bbox": detected, "score": 0.3}]


def test_errors_are_of_centre_and_size_in_pixels() -> None:
    truth, detections = one([10, 10, 20, 40], [12, 8, 20, 48])
    line = errors(truth, detections, STDS).iloc[0]
    # Centres (20, 30) and (22, 32).
    assert line[["x_px", "y_px", "w_px", "h_px"]].tolist() == [2, 2, 0, 8]
    assert line["iou"] == pytest.approx(18 * 40 / (20 * 40 + 20 * 48 - 18 * 40))


def test_errors_are_offsets_of_the_objects_size_over_the_deviations() -> None:
    truth, detections = one([10, 10, 20, 40], [12, 8, 20, 48])
    line = errors(truth, detections, STDS).iloc[0]
    assert line["x_offset"] == pytest.approx(2 / 20 / 0.1)
    assert line["y_offset"] == pytest.approx(2 / 40 / 0.1)
    assert line["w_offset"] == pytest.approx(0)
    assert line["h_offset"] == pytest.approx(math.log(48 / 40) / 0.2)


def test_offsets_are_those_of_the_coder_where_the_proposal_has_the_objects_size() -> None:
    coder = OffsetBinBBoxCoder(target_stds=STDS)
    truth, proposal, detected = ([10.0, 10.0, 30.0, 50.0], [14.0, 5.0, 34.0, 45.0],
                                 [12.0, 8.0, 32.0, 47.0])  # fmt: skip
    wanted, given = (
        coder.encode(torch.tensor([proposal]), torch.tensor([box]))[0] for box in (truth, detected)
    )
    boxes = [[x, y, right - x, bottom - y] for x, y, right, bottom in (truth, detected)]
    line = errors(*one(*boxes), STDS).iloc[0]
    left = [line[f"{name}_offset"] for name in "xywh"]
    assert left == pytest.approx((wanted - given).abs().tolist(), abs=1e-5)


def test_a_perfect_detection_has_no_error() -> None:
    truth = shapes()
    found = errors(truth, near(truth, 0.0), STDS)
    assert len(found) == 12 and found["iou"].tolist() == pytest.approx([1] * 12)
    assert found.drop(columns="iou").to_numpy() == pytest.approx(0, abs=1e-9)


def test_a_bin_is_as_wide_as_the_first_stages(tmp_path: Path) -> None:
    # 2 * 3 / 20, and without the two overflow bins in the count of 20: 2 * 3 / 18.
    assert bin_width(plan_with_table(tmp_path).tables["table1"]) == pytest.approx(0.3)
    changed = TABLE.replace("offset_bin}", "offset_bin, bins_include_overflow: true}")
    plan = plan_of(tmp_path, {"table1": changed})
    assert bin_width(plan.tables["table1"]) == pytest.approx(1 / 3)


def test_a_table_without_bins_has_no_unit(tmp_path: Path) -> None:
    text = "\n".join(line for line in OTHER_TABLE.split("\n") if "offset_bin" not in line)
    text = text.replace('  - label: Bins\n    columns: {Expectation: "✓"}\n', "")
    table = plan_of(tmp_path, {"table7": text.replace("    paper: [47.5, 12.0]\n", "")})
    with pytest.raises(ConfigError, match="table7: no row with loss: offset_bin"):
        bin_width(table.tables["table7"])


def test_each_measured_row_has_means_and_deviations_over_its_seeds(
    plan: Plan, found: Diagnosis
) -> None:
    numbers = found.numbers.set_index("row")
    assert numbers.index.tolist() == [0, 2] and (numbers["seeds"] == 2).all()
    truth = shapes()
    each = [errors(truth, near(truth, SPREADS[2][seed], seed), STDS) for seed in (0, 1)]
    shares = [100 * (line["iou"] < 0.9).mean() for line in each]
    assert numbers.loc[2, "fail_at_90"] == pytest.approx(np.mean(shares))
    assert numbers.loc[2, "fail_at_90_sd"] == pytest.approx(np.std(shares, ddof=1))
    widths = [line["w_offset"].mean() / 0.3 for line in each]
    assert numbers.loc[2, "w_bins"] == pytest.approx(np.mean(widths))
    assert numbers.loc[2, "found"] == pytest.approx(100)


def test_the_histogram_holds_every_found_object(found: Diagnosis) -> None:
    for _, bars in found.histogram.groupby("row"):
        assert bars["low"].tolist() == pytest.approx(np.arange(0.5, 1, 0.05).tolist())
        assert bars["share"].sum() == pytest.approx(100)


def test_the_share_that_fails_at_90_lies_left_of_it_in_the_histogram(found: Diagnosis) -> None:
    left = found.histogram[found.histogram["high"] <= 0.9].groupby("row")["share"].sum()
    assert left.tolist() == pytest.approx(found.numbers["fail_at_90"].tolist())


def test_objects_that_do_not_count_are_not_missed(tmp_path: Path) -> None:
    plan, truth = plan_with_table(tmp_path), shapes()
    detections = near(truth, 0.05)
    truth["annotations"][0]["iscrowd"] = 1
    index(plan, truth)
    detect(plan, 0, truth, detections)
    numbers = diagnose(plan, plan.tables["table1"], measured(plan, ["table1"])).numbers
    assert numbers["found"].tolist() == [pytest.approx(100)]


def test_where_nothing_is_found_there_is_no_error_to_average(tmp_path: Path) -> None:
    plan, truth = plan_with_table(tmp_path), shapes()
    index(plan, truth)
    detect(plan, 0, truth, [])
    write(plan, "table1", tmp_path)
    line = pd.read_csv(tmp_path / "tables/diagnosis.csv").iloc[0]
    assert line["found"] == 0 and np.isnan(line["mean_iou"]) and line["status"] == "ok"
    assert "| undefined" in (tmp_path / "tables/diagnosis.md").read_text()


def test_rows_that_are_not_measured_say_so(plan: Plan, found: Diagnosis) -> None:
    rows = table_rows(plan, plan.tables["table1"], found, measured(plan, ["table1"]))
    assert rows["name"].tolist() == ["Regression", "Bins", "Bins (Expectation ✓)"]
    assert rows["status"].tolist() == ["ok", "not evaluated", "ok"]
    assert rows["seeds"].tolist() == [2, 0, 2] and np.isnan(rows["mean_iou"][1])


def test_the_figure_shows_the_tables_numbers(found: Diagnosis) -> None:
    drawn = plotted(found)
    assert drawn["quantity"].value_counts().to_dict() == {"histogram": 20, "error": 8, "fail": 2}
    failing = drawn[drawn["quantity"] == "fail"]["value"]
    assert failing.tolist() == found.numbers["fail_at_90"].tolist()
    widths = drawn[(drawn["quantity"] == "error") & (drawn["at"] == "w")]["value"]
    assert widths.tolist() == found.numbers["w_bins"].tolist()


def test_the_command_writes_table_and_figure(plan: Plan, tmp_path: Path) -> None:
    plan.save(tmp_path / "plan.json")
    assert main(["figure", str(tmp_path / "plan.json"), "diagnosis"]) == 0
    written = [path for kind in ("figures", "tables") for path in (plan.results / kind).iterdir()]
    assert sorted(str(path.relative_to(plan.results)) for path in written) == [
        "figures/diagnosis.csv", "figures/diagnosis.pdf", "figures/diagnosis.png",
        "figures/diagnosis.svg",
        "tables/diagnosis.csv", "tables/diagnosis.md",
    ]  # fmt: skip
    assert ElementTree.parse(plan.results / "figures/diagnosis.svg").getroot().tag.endswith("svg")
    page = (plan.results / "tables/diagnosis.md").read_text()
    assert "SMOKE scale" in page and "Not comparable with the paper's numbers." in page
    assert "A bin is 0.3 of a normalised offset wide" in page
    assert "Without a number: not evaluated: Bins." in page

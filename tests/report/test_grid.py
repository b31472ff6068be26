"""Figure 5: the points that are drawn, the words for those that are not, the files."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import matplotlib.image
import pandas as pd
import pytest
from report_fixtures import FIGURE, TABLE, fail, measure, plan_of

from obc.analysis.collect import collect
from obc.config.plan import Plan
from obc.config.table import FigureSpec
from obc.io.typed_yaml import ConfigError
from obc.report.figures.grid import figure, missing_points, series, spread_note


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return plan_of(tmp_path, {"figure5": FIGURE})


def spec(plan: Plan) -> FigureSpec:
    table = plan.tables["figure5"]
    assert isinstance(table, FigureSpec)
    return table


def test_each_row_is_a_point_of_its_series(plan: Plan) -> None:
    # The grid's order: a = 1 with n = 20, 10, then a = 3 with n = 20, 10.
    for row, value in enumerate((41.0, 42.0, 43.0, 44.0)):
        measure(plan, "figure5", row, {"AP": value})
    points = series(spec(plan), collect(plan))
    assert points[["series", "x", "mean"]].values.tolist() == [
        ["1", 20, 41.0],
        ["1", 10, 42.0],
        ["3", 20, 43.0],
        ["3", 10, 44.0],
    ]
    assert points["sd"].isna().all() and set(points["statuses"]) == {("ok",)}


def test_several_seeds_give_mean_and_sample_deviation(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {"figure5": FIGURE}, seeds=[0, 1])
    measure(plan, "figure5", 0, {"AP": 41.0}, seed=0)
    measure(plan, "figure5", 0, {"AP": 43.0}, seed=1)
    point = series(spec(plan), collect(plan)).iloc[0]
    assert (point["mean"], point["sd"]) == (42.0, pytest.approx(math.sqrt(2)))


def test_a_point_without_a_number_has_a_status_instead(plan: Plan) -> None:
    fail(plan, "figure5", 1)
    points = series(spec(plan), collect(plan))
    assert points["mean"].isna().all()
    assert points["statuses"].tolist() == [("not run",), ("failed",), ("not run",), ("not run",)]


def test_missing_points_are_listed_by_status_and_series(plan: Plan) -> None:
    fail(plan, "figure5", 1)
    table = spec(plan)
    missing = missing_points(table, series(table, collect(plan)))
    assert missing == "not run: a=1 n=20, a=3 n=20, 10; failed: a=1 n=10"


def test_a_point_that_lacks_some_seeds_is_listed_as_such(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {"figure5": FIGURE}, seeds=[0, 1])
    for row in range(4):
        measure(plan, "figure5", row, {"AP": 41.0}, seed=0)
        if row:
            measure(plan, "figure5", row, {"AP": 41.0}, seed=1)
    table = spec(plan)
    points = series(table, collect(plan))
    assert missing_points(table, points) == "some seeds not run: a=1 n=20"


def test_nothing_is_listed_when_all_is_measured(plan: Plan) -> None:
    for row in range(4):
        measure(plan, "figure5", row, {"AP": 41.0})
    assert missing_points(spec(plan), series(spec(plan), collect(plan))) == ""


@pytest.mark.parametrize("measured", [0, 3, 4])
def test_the_files_are_valid_whatever_is_missing(plan: Plan, tmp_path: Path, measured: int) -> None:
    for row in range(measured):
        measure(plan, "figure5", row, {"AP": 40.0 + row})
    figure(plan, "figure5", collect(plan), tmp_path / "figures")
    # 6.4 x 4.2 inches at 300 dots per inch.
    assert matplotlib.image.imread(tmp_path / "figures" / "figure5.png").shape[:2] == (1260, 1920)
    assert (tmp_path / "figures" / "figure5.pdf").read_bytes().startswith(b"%PDF")
    assert ElementTree.parse(tmp_path / "figures" / "figure5.svg").getroot().tag.endswith("svg")


def test_bars_are_explained_and_a_lone_one_is_told_instead(plan: Plan) -> None:
    points = pd.DataFrame(
        {"series": ["1", "1", "3"], "x": [10, 20, 10], "mean": [41.0, 42.0, math.nan]}
    )
    table = spec(plan)
    assert spread_note(table, points.assign(sd=math.nan)) == ""
    assert spread_note(table, points.assign(sd=[math.nan, 0.714, math.nan])) == (
        "a = 1, n = 20: mean over seeds, standard deviation 0.71; all other points: single "
        "trainings."
    )
    both = points.assign(sd=[0.5, 0.7, math.nan])
    assert spread_note(table, both) == "Bars: standard deviation over seeds."
    more = pd.concat([both, both.assign(mean=40.0, sd=math.nan)])
    assert spread_note(table, more).endswith("Points without a bar: single trainings.")


def test_a_table_is_no_figure(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {"figure5": FIGURE, "table7": TABLE})
    with pytest.raises(ConfigError, match="'table7' is no figure of this plan; allowed: figure5"):
        figure(plan, "table7", collect(plan), tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"3": "#ff0000"', '"5": "#ff0000"', "plot.colors has no colour for box.max_offset = 3"),
        ("x: box.num_bins", "x: box.bins", "plot.x: box.bins"),
        ('"#ff0000"', '"notacolor"', "plot.colors.3"),
        ("x: box.num_bins", "x: box.loss", "box.loss is 'offset_bin' in a row, allowed: a number"),
    ],
)
def test_a_plot_section_that_does_not_fit_the_rows_is_refused_with_the_plan(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_of(tmp_path, {"figure5": FIGURE.replace(old, new)})

"""Figure 6: which images are chosen, which boxes are drawn, and what stops it."""

from __future__ import annotations

import base64
import io
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import matplotlib.image
import pandas as pd
import pytest
from example_image_fixtures import TABLE, box, evaluate, truth_of, two_evaluations
from PIL import Image
from report_fixtures import measure, plan_of, run_folder

from obc.analysis.collect import IncompleteError
from obc.cli.main import main
from obc.config.plan import Plan
from obc.datasets.errors import DatasetError
from obc.io.typed_yaml import ConfigError
from obc.report.figures.example_images import (
    Found,
    best_fits,
    choose,
    drawn_boxes,
    figure6,
    image_gains,
)
from obc.report.run_pictures import example_image


def found(objects: list[dict], baseline: list[dict], method: list[dict], images: int = 6) -> Found:
    return Found(truth_of(*objects, images=images), {"baseline": baseline, "method": method})


# --- the rule ----------------------------------------------------------------------------------


def test_a_box_is_fitted_best_by_the_largest_iou_of_its_image_and_class() -> None:
    others = [box(1, 10), box(1, 5), box(2, 0), box(1, 0, category=2)]
    # Of [0, 20]: [5, 25] overlaps 15 of 25, [10, 30] 10 of 30.
    assert best_fits([box(1, 0)], others) == [(pytest.approx(15 / 25), 1)]


def test_a_box_that_nothing_of_its_class_overlaps_is_fitted_by_none() -> None:
    assert best_fits([box(1, 0), box(3, 0)], [box(1, 40), box(1, 0, category=2)]) == [
        (0.0, None),
        (0.0, None),
    ]


def test_an_images_matched_iou_is_the_mean_over_its_objects() -> None:
    table = image_gains(found([box(1, 0), box(1, 40)], [box(1, 5)], [box(1, 0), box(1, 45)]))
    # Baseline: 15 / 25 and nothing. Method: exact, and 15 / 25.
    assert table.to_dict("records") == [
        {
            "image_id": 1,
            "objects": 2,
            "baseline": pytest.approx(0.3),
            "method": pytest.approx(0.8),
            "gain": pytest.approx(0.5),
            "kind": "finding",
        }
    ]


def test_a_gain_is_in_fit_where_both_find_every_object() -> None:
    objects = [box(1, 0), box(2, 0)]
    table = image_gains(found(objects, [box(1, 5), box(2, 15)], [box(1, 0), box(2, 0)]))
    # In image 2 the baseline's 5 / 35 is below 0.5.
    assert dict(zip(table["image_id"], table["kind"], strict=True)) == {1: "fit", 2: "finding"}


def test_an_image_without_objects_is_none_to_choose() -> None:
    assert list(image_gains(found([box(2, 0)], [box(1, 0)], []))["image_id"]) == [2]


def gains(*values: float, kind: str = "fit") -> pd.DataFrame:
    return pd.DataFrame({"image_id": range(1, len(values) + 1), "gain": values, "kind": kind})


def test_chosen_are_the_largest_gains_of_each_kind_and_then_the_largest_losses() -> None:
    fit = gains(0.1, -0.2, 0.3, -0.1, 0.2)
    finding = gains(-0.5, 0.9, -0.6, kind="finding").assign(image_id=[11, 12, 13])
    chosen = choose(pd.concat([finding, fit]), images=3)
    assert chosen[["choice", "image_id"]].values.tolist() == [
        ["gain in fit 1", 3],
        ["gain in fit 2", 5],
        ["gain in finding 1", 12],
        ["loss in fit 1", 2],
        ["loss in finding 1", 13],
        ["loss in finding 2", 11],
    ]


@pytest.mark.parametrize(
    ("better", "worse", "images", "shown"),
    [
        (5, 5, 4, (2, 2)),
        (30, 10, 4, (3, 1)),
        (99, 1, 4, (3, 1)),
        (1, 99, 4, (1, 3)),
        (5, 0, 4, (4, 0)),
        (0, 2, 4, (0, 2)),
        (2, 1, 4, (2, 1)),
        (1, 2, 1, (0, 1)),
    ],
)
def test_gains_and_losses_are_shown_in_the_ratio_in_which_they_occur(
    better: int, worse: int, images: int, shown: tuple[int, int]
) -> None:
    chosen = choose(gains(*[0.1] * better, *[-0.1] * worse), images)
    assert ((chosen["gain"] > 0).sum(), (chosen["gain"] < 0).sum()) == shown


def test_of_equal_gains_and_losses_the_smaller_image_id_comes_first() -> None:
    table = gains(0.1, 0.2, 0.2, -0.3, -0.3).sample(frac=1, random_state=0)
    assert list(choose(table, images=4)["image_id"]) == [2, 3, 4, 5]
    assert list(choose(table, images=2)["image_id"]) == [2, 4]


def test_where_nothing_differs_nothing_is_chosen() -> None:
    chosen = choose(gains(0.0, 0.0, 0.0), images=2)
    assert chosen.columns[0] == "choice" and chosen.empty


def test_the_boxes_drawn_say_which_fit_best_and_their_iou() -> None:
    method = [box(1, 5, score=0.9), box(1, 0, score=0.4), box(1, 0, category=2, score=0.8)]
    both = found([box(1, 0)], [], method)
    boxes = drawn_boxes(both, choose(image_gains(both), 1))
    assert list(boxes["of"]) == ["truth", "method", "method", "method"]
    assert list(boxes["best"]) == [False, False, True, False]
    # The dog is no object of its class, so its IoU is 0.
    assert boxes["iou"].tolist()[1:] == [pytest.approx(0.6), pytest.approx(1.0), 0.0]
    assert set(boxes["file_name"]) == {"000001.png"}


# --- from what was measured --------------------------------------------------------------------


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return two_evaluations(tmp_path)


def test_the_figure_is_drawn_with_its_boxes_beside_it(plan: Plan, tmp_path: Path) -> None:
    figure6(plan, tmp_path / "first")
    names = ["figure6.csv", "figure6.pdf", "figure6.png", "figure6.svg"]
    assert sorted(path.name for path in (tmp_path / "first").iterdir()) == names
    assert matplotlib.image.imread(tmp_path / "first/figure6.png").shape[1] == 1920
    assert ElementTree.parse(tmp_path / "first/figure6.svg").getroot().tag.endswith("svg")
    boxes = pd.read_csv(tmp_path / "first/figure6.csv")
    # Image 1 has a difficult object, which counts as ground truth and which neither finds.
    assert boxes[["choice", "image_id"]].drop_duplicates().values.tolist() == [
        ["gain in finding 1", 1],
        ["loss in fit 1", 2],
    ]
    # Class and score are at each detection, the IoU at those that fit best.
    words = (tmp_path / "first/figure6.svg").read_text()
    assert words.count(">cat 0.90</") == 4 and words.count(">IoU 1.00</") == 2
    assert boxes.loc[boxes["of"] == "truth", "x"].tolist() == [0, 40, 0]
    assert boxes.loc[boxes["choice"] == "gain in finding 1", "gain"].iloc[0] == pytest.approx(
        (1 - 16 / 24) / 2
    )


def test_the_command_draws_into_the_plan_s_figures(plan: Plan, tmp_path: Path) -> None:
    plan.save(tmp_path / "plan.json")
    assert main(["figure", str(tmp_path / "plan.json"), "figure6"]) == 0
    assert (plan.results / "figures/figure6.csv").exists()


def test_difficult_objects_that_are_ignored_are_not_looked_for(plan: Plan, tmp_path: Path) -> None:
    data = plan.scale.data["voc"].model_copy(update={"difficult": "ignore"})
    scale = plan.scale.model_copy(update={"data": {**plan.scale.data, "voc": data}})
    ignoring = plan.model_copy(update={"scale": scale})
    for row in (0, 1):
        measure(plan, "table1", row, {"AP": 50.0}, change={"difficult": "ignore"})
    figure6(ignoring, tmp_path / "out")
    boxes = pd.read_csv(tmp_path / "out/figure6.csv")
    assert set(boxes["choice"]) == {"gain in fit 1", "loss in fit 1"}


@pytest.mark.parametrize(
    ("score", "why"),
    [
        (0.2, "neither has a detection that scores at least 0.3"),
        (0.9, "their detections fit the objects equally well"),
    ],
)
def test_where_the_methods_do_not_differ_a_sentence_says_so(
    plan: Plan, tmp_path: Path, score: float, why: str
) -> None:
    for row in (0, 1):
        evaluate(plan, row, [box(1, 0, score=score)])
    figure6(plan, tmp_path / "out")
    assert pd.read_csv(tmp_path / "out/figure6.csv").empty
    words = (tmp_path / "out/figure6.svg").read_text()
    assert why in words and "<image" not in words


def test_an_image_that_is_gone_is_named_with_the_remedy(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "images/000001.png").unlink()
    with pytest.raises(DatasetError, match=r"images/000001.png: cannot be read .* \(image 1\)"):
        figure6(plan, tmp_path / "out")


def test_an_image_that_is_cut_off_is_named_too(plan: Plan, tmp_path: Path) -> None:
    image = tmp_path / "images/000001.png"
    image.write_bytes(image.read_bytes()[:-40])
    with pytest.raises(DatasetError, match=r"images/000001.png: cannot be read .* \(image 1\)"):
        figure6(plan, tmp_path / "out")


def test_a_plan_that_shows_no_images_draws_its_boxes_without_reading_one(
    plan: Plan, tmp_path: Path
) -> None:
    for path in (tmp_path / "images").iterdir():
        path.unlink()
    config = plan.config.model_copy(update={"show_images": False})
    figure6(plan.model_copy(update={"config": config}), tmp_path / "out")
    words = (tmp_path / "out/figure6.svg").read_text()
    assert words.count(">cat 0.90</") == 4 and "may not be passed on" in words
    assert len(pd.read_csv(tmp_path / "out/figure6.csv"))


def test_a_page_that_shows_no_images_has_a_grey_example(plan: Plan, tmp_path: Path) -> None:
    for path in (tmp_path / "images").iterdir():
        path.unlink()
    assert example_image(plan, "voc") is None
    config = plan.config.model_copy(update={"show_images": False})
    example = example_image(plan.model_copy(update={"config": config}), "voc")
    assert example is not None and example.objects
    picture = Image.open(io.BytesIO(base64.b64decode(example.uri.partition(",")[2])))
    assert picture.size == (example.width, example.height)
    assert len(set(picture.convert("L").getdata())) == 1


def test_an_evaluation_that_is_missing_is_named(plan: Plan, tmp_path: Path) -> None:
    (run_folder(plan, "table1", 1) / "metrics.expectation.json").unlink()
    with pytest.raises(IncompleteError, match=r"not evaluated: .*obc-a3-n20-k2.* \(expectation"):
        figure6(plan, tmp_path / "out")


@pytest.mark.parametrize(
    "tables", [{"table7": TABLE}, {"table1": TABLE.replace("key: full, ", "")}]
)
def test_a_plan_without_the_rows_has_no_figure_6(tmp_path: Path, tables: dict) -> None:
    plan = plan_of(tmp_path, tables)
    assert plan.example_rows == {}
    with pytest.raises(ConfigError, match="full of table1, and this plan has no such rows"):
        figure6(plan, tmp_path / "out")


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        ({"method": "best"}, "best is the key of no row of table1 that is trained; allowed: full"),
        ({"table": "table9"}, "'table9' is no table in config/experiments; allowed: table1"),
        ({"images": 0}, "examples.images"),
    ],
)
def test_examples_that_name_nothing_are_refused_with_the_plan(
    tmp_path: Path, examples: dict, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_of(tmp_path, {"table1": TABLE}, examples=examples)

"""Two evaluations side by side, on made-up measurements."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_fixtures import FIGURE, TABLE, measure, plan_of

from obc.config.plan import Plan
from obc.evaluation.detections_file import save_detections
from obc.io.typed_yaml import ConfigError
from obc.notebook.read_results import ResultsMissing
from obc.notebook.two_evaluations import (
    Evaluation,
    TestSet,
    by_class,
    by_image,
    by_metric,
    by_size,
    draw_image,
    evaluated,
    matched_iou,
    read_evaluation,
    read_test_set,
)

TestSet.__test__ = False  # a class of the package, not of tests

STAR, CIRCLE = 1, 2
OBJECT = {"id": 1, "image_id": 1, "category_id": STAR, "bbox": [10.0, 10.0, 20.0, 20.0]}
METRICS = dict.fromkeys(
    ("AP", "AP50", "AP60", "AP70", "AP75", "AP80", "AP90", "AP_S", "AP_M", "AP_L")
)


def detection(image_id: int, bbox: list[float], score: float = 0.9, category: int = STAR) -> dict:
    return {"image_id": image_id, "category_id": category, "bbox": bbox, "score": score}


def evaluation(name: str, detections: list[dict] = (), **metrics: float) -> Evaluation:
    per_class = {"star": {**METRICS, **metrics}, "circle": {**METRICS, "AP": 50.0}}
    return Evaluation(name, "voc", {**METRICS, **metrics}, per_class, list(detections))


@pytest.fixture
def scene(tmp_path: Path) -> TestSet:
    """Two images of one star each, and one without objects."""
    for image_id in (1, 2, 3):
        Image.new("RGB", (64, 64), "gray").save(tmp_path / f"{image_id}.png")
    return TestSet(
        root=tmp_path,
        images={i: {"id": i, "file_name": f"{i}.png"} for i in (1, 2, 3)},
        objects={1: [OBJECT], 2: [{**OBJECT, "id": 2, "image_id": 2}], 3: []},
        classes={STAR: "star", CIRCLE: "circle"},
    )


# --- by metric, size, class --------------------------------------------------------------------


def test_metrics_stand_beside_each_other_with_the_second_minus_the_first() -> None:
    frame = by_metric(evaluation("a", AP=40.0, AP90=5.0), evaluation("b", AP=42.0, AP90=11.0))
    assert frame.loc["AP90"].tolist() == [5.0, 11.0, 6.0]
    assert np.isnan(frame.loc["AP50", "difference"])
    assert not {"AP_S", "AP_M", "AP_L"} & set(frame.index)


def test_sizes_are_named_and_one_that_no_object_has_is_nan() -> None:
    frame = by_size(evaluation("a", AP=40.0, AP_L=50.0), evaluation("b", AP=42.0, AP_L=49.0))
    assert list(frame.index) == ["all", "small", "medium", "large"]
    assert frame.loc["large"].tolist() == [50.0, 49.0, -1.0]
    assert frame.loc["small"].isna().all()


def test_classes_come_with_the_largest_gain_first() -> None:
    frame = by_class(evaluation("a", AP=40.0), evaluation("b", AP=42.0))
    assert frame["difference"].to_dict() == {"star": 2.0, "circle": 0.0}
    assert list(frame.index) == ["star", "circle"]


# --- image by image ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        ([], 0.0),
        ([detection(1, [10, 10, 20, 20])], 1.0),
        # Half of the object, no more: 200 / 400.
        ([detection(1, [10, 10, 10, 20])], 0.5),
        ([detection(1, [10, 10, 10, 20]), detection(1, [10, 10, 20, 16])], 0.8),
        ([detection(1, [10, 10, 20, 20], category=CIRCLE)], 0.0),
        ([detection(1, [10, 10, 20, 20], score=0.29)], 0.0),
    ],
    ids=["nothing", "exact", "half", "the best", "another class", "too low a score"],
)
def test_an_object_is_found_as_well_as_the_best_box_of_its_class(
    boxes: list[dict], expected: float
) -> None:
    assert matched_iou([OBJECT], boxes) == pytest.approx([expected])


def test_images_come_with_the_largest_gain_first_and_those_without_objects_do_not(
    scene: TestSet,
) -> None:
    first = evaluation("a", [detection(1, [10, 10, 20, 20]), detection(2, [10, 10, 10, 20])])
    second = evaluation("b", [detection(1, [10, 10, 10, 20]), detection(2, [10, 10, 20, 20])])
    frame = by_image(scene, first, second)
    assert frame["difference"].to_dict() == {2: 0.5, 1: -0.5}
    assert frame.loc[2, ["file_name", "objects"]].tolist() == ["2.png", 1]


def test_an_image_is_drawn_once_for_each_with_its_boxes_over_the_objects(scene: TestSet) -> None:
    first = evaluation("a", [detection(1, [10, 10, 10, 20]), detection(1, [0, 0, 5, 5], 0.1)])
    drawing = draw_image(scene, 1, first, evaluation("b"))
    left, right = drawing.axes
    assert [axes.get_title() for axes in (left, right)] == ["a", "b"]
    boxes = [patch.get_bbox().bounds for patch in left.patches]
    assert boxes[::2] == [(10, 10, 20, 20), (10, 10, 10, 20)]  # each with a white rim
    assert [text.get_text() for text in left.texts] == ["star 0.90, IoU 0.50"]
    assert len(right.patches) == 2 and not right.texts


# --- from a results folder ---------------------------------------------------------------------


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Two rows are evaluated; the second has boxes."""
    plan = plan_of(tmp_path, {"table9": TABLE})
    for row, value in ((0, 41.0), (2, 45.0)):
        path = measure(plan, "table9", row, {**METRICS, "AP": value})
        path.write_text(json.dumps({**json.loads(path.read_text()), "per_class": {}}))
        npz = path.with_name(path.name.replace("metrics", "detections")).with_suffix(".npz")
        save_detections(npz, [detection(1, [0.0, 0.0, value, 1.0])])
    return plan


def test_what_can_be_compared_are_the_evaluations_that_are_there(plan: Plan) -> None:
    frame = evaluated(plan)
    assert frame["AP"].tolist() == [41.0, 45.0]
    assert frame["decode"].tolist() == ["regression", "expectation"]
    assert frame["tables"].tolist() == ["table9", "table9"]
    line = frame.iloc[1]
    read = read_evaluation(plan, line["run_id"], line["seed"], line["decode"])
    assert read.name == "faster-r50-obc-a3-n20-k1, expectation, seed 0"
    assert read.detections == [detection(1, [0.0, 0.0, 45.0, 1.0])]


def test_they_come_by_seed_and_those_of_tables_before_those_of_figures(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {"figure9": FIGURE, "table9": TABLE}, seeds=[0, 1])
    for table, row, seed in (("figure9", 0, 0), ("table9", 0, 1), ("table9", 0, 0)):
        path = measure(plan, table, row, METRICS, seed)
        save_detections(path.with_name(path.name.replace("metrics", "detections")[:-4] + "npz"), [])
    frame = evaluated(plan)
    assert frame[["seed", "tables"]].values.tolist() == [
        [0, "table9"],
        [0, "figure9"],
        [1, "table9"],
    ]


def test_less_than_two_evaluations_say_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(ResultsMissing, match="SCALE=smoke TARGETS=table1"):
        evaluated(plan_of(tmp_path, {"table9": TABLE}))


def test_crowds_and_ignored_difficult_objects_need_not_be_found(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {"table9": TABLE}, difficult="ignore")
    folder = plan.index_folder("voc").path
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text('{"root": "somewhere"}')
    marked = [{}, {"iscrowd": 1}, {"difficult": True}, {"iscrowd": 0, "difficult": False}]
    truth = {
        "images": [{"id": 1, "file_name": "1.png"}],
        "annotations": [{**OBJECT, "id": i, **mark} for i, mark in enumerate(marked)],
        "categories": [{"id": STAR, "name": "star"}],
    }
    (folder / "val.json").write_text(json.dumps(truth))
    test_set = read_test_set(plan, evaluation("a"))
    assert [annotation["id"] for annotation in test_set.objects[1]] == [0, 3]
    assert test_set.root == Path("somewhere")


def test_evaluations_of_two_data_sets_are_refused(plan: Plan) -> None:
    other = replace(evaluation("b"), dataset="coco")
    with pytest.raises(ConfigError, match="coco and voc"):
        read_test_set(plan, evaluation("a"), other)


def test_a_missing_index_says_what_to_run(plan: Plan) -> None:
    with pytest.raises(ResultsMissing, match="make reproduce"):
        read_test_set(plan, evaluation("a"))

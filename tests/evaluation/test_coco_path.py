"""A COCO folder of one's own through everything, as a user calls it: index, train, evaluate, table.

All of Table 5's trainings are planned; two are done, which have both detectors and both kinds of
box loss in them. `snakemake table5 --config coco_root=FOLDER` does all twelve in minutes.
"""

from __future__ import annotations

import json
import re
import shutil
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import Workspace, edit
from PIL import Image

pytestmark = pytest.mark.xdist_group("workflow")

WIDTH, HEIGHT = 160, 120
# Ids with gaps, as COCO's 80 classes have them.
CATEGORIES = [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}, {"id": 90, "name": "brush"}]
# x, y, width, height and whether it is a crowd: an object of each of COCO's sizes (sides up to 32
# pixels, up to 96, beyond) and a crowd.
OBJECTS = [
    (1, (10, 90, 20, 20), 0),
    (3, (100, 60, 50, 55), 0),
    (90, (5, 5, 120, 100), 0),
    (1, (120, 5, 35, 30), 1),
]
TRAINED = ("faster_r50", "cascade_r50_obc")
CHANGE = {
    "schedule.epochs": 1,
    "schedule.steps": [],
    "schedule.batch_size": 2,
    "own_data.image_scale": [WIDTH, HEIGHT],
}


def coco_folder(root: Path) -> Path:
    """Four images to train on and two to evaluate on, each with OBJECTS; another one has none."""
    (root / "annotations").mkdir(parents=True)
    for split, count in (("train2017", 4), ("val2017", 2)):
        (root / split).mkdir()
        images = [
            {"id": 7 * number, "file_name": f"{7 * number:012}.jpg", "width": WIDTH,
             "height": HEIGHT, "license": 1, "coco_url": ""}
            for number in range(1, count + 2)
        ]  # fmt: skip
        annotations = [
            {"id": 1000 + len(OBJECTS) * image["id"] + number, "image_id": image["id"],
             "category_id": category, "bbox": box, "area": 0.8 * box[2] * box[3], "iscrowd": crowd,
             "segmentation": run_lengths(box) if crowd else [outline(box)]}
            for image in images[:-1]
            for number, (category, box, crowd) in enumerate(OBJECTS)
        ]  # fmt: skip
        content = {"info": {}, "licenses": [], "images": images, "annotations": annotations}
        content["categories"] = CATEGORIES
        (root / f"annotations/instances_{split}.json").write_text(json.dumps(content))
        for image in images:
            seed = [len(split), image["id"]]  # an image in both splits would be refused
            noise = np.random.default_rng(seed).integers(0, 255, (HEIGHT, WIDTH, 3))
            Image.fromarray(noise.astype(np.uint8)).save(root / split / image["file_name"])
    return root


def outline(box: tuple[int, int, int, int]) -> list[int]:
    x, y, width, height = box
    return [x, y, x + width, y, x + width, y + height, x, y + height]


def run_lengths(box: tuple[int, int, int, int]) -> dict[str, list[int]]:
    """A box as COCO writes crowds: lengths of runs of 0 and 1, column after column."""
    x, y, width, height = box
    between = [HEIGHT - height] * (width - 1)
    inside = [
        length for pair in zip([height] * (width - 1), between, strict=True) for length in pair
    ]
    counts = [x * HEIGHT + y, *inside, height]
    return {"size": [HEIGHT, WIDTH], "counts": [*counts, WIDTH * HEIGHT - sum(counts)]}


@pytest.fixture(scope="module")
def suite(workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A copy of the tiny suite, with a COCO folder beside it."""
    folder = tmp_path_factory.mktemp("coco") / "suite"
    shutil.copytree(workspace.folder, folder)
    coco_folder(folder.parent / "mine")
    return Workspace(folder)


def options(suite: Workspace) -> list[str]:
    root = suite.folder.parent / "mine"
    return ["--config", f"coco_root={root}", "label=mine", f"change={json.dumps(CHANGE)}"]


@pytest.mark.slow
def test_every_row_of_table_5_is_planned_on_a_coco_folder_of_one_s_own(suite: Workspace) -> None:
    done = suite.snakemake("-n", *options(suite))
    assert done.returncode == 0, done.stderr
    # Starting weights of r101, and of x101 for either detector; those of r50 are there.
    assert re.search(r"^train +15$", done.stdout + done.stderr, re.M)
    plan = suite.plan(coco_root=str(suite.folder.parent / "mine"))
    specs = [run.resolved.spec for run in plan.runs.values()]
    assert sorted((spec.detector, spec.backbone, spec.box.loss) for spec in specs) == sorted(
        product(
            ("faster_rcnn", "cascade_rcnn"),
            ("r50", "r101", "x101"),
            ("smooth_l1", "offset_bin"),
        )
    )


@pytest.mark.slow
def test_a_coco_folder_of_one_s_own_becomes_a_table(suite: Workspace) -> None:
    edit(
        suite.folder / "config/experiments/table5.yaml",
        lambda table: table.update(
            rows=[row for row in table["rows"] if row["key"] in TRAINED or row.get("cited")]
        ),
    )
    (suite.folder / "config/claims.yaml").unlink()  # they name rows that are gone now
    done = suite.snakemake("--cores", "2", "table5", *options(suite))
    assert done.returncode == 0, done.stdout + done.stderr
    results = suite.folder / "results/smoke-mine"

    (manifest,) = (json.loads(path.read_text()) for path in results.glob("data/*/manifest.json"))
    counts = ("images", "boxes", "crowd", "without_objects")
    assert [[manifest["splits"][split][name] for name in counts] for split in ("train", "val")] == [
        [5, 16, 4, 1],
        [3, 8, 2, 1],
    ]
    assert manifest["classes"] == ["person", "car", "brush"]

    table = pd.read_csv(results / "tables/table5.csv")
    ours = table[table["status"] != "cited"]
    assert list(ours["status"]) == ["ok"] * 2
    assert len(table) - len(ours) == 11
    for line in ours.itertuples():
        measured = results / "runs" / line.run_id / f"seed0/metrics.{line.decode}.json"
        metrics = json.loads(measured.read_text())["metrics"]
        for name in ("AP", "AP_S", "AP_M", "AP_L"):  # a number each: no size is without objects
            assert getattr(line, name) == pytest.approx(metrics[name])
    assert "SMOKE" in (results / "tables/table5.md").read_text()

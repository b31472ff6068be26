"""Evaluations with real detections: files as `obc evaluate` leaves them, without a detector."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from report_fixtures import measure, plan_of

from obc.config.plan import Plan
from obc.evaluation.detections_file import save_detections
from obc.evaluation.metrics import average_precision

TABLE = """
title: Components
section: "4.1"
dataset: voc
metrics: [AP, AP50, AP90]
common: {detector: faster_rcnn, backbone: r50}
rows:
  - {label: Regression, box: {loss: smooth_l1}}
  - {label: Bins, box: {loss: offset_bin}, decode: argmax}
  - {label: Bins, columns: {Expectation: "✓"}, box: {loss: offset_bin}}
  - {label: Known, cited: true, paper: [30.0, 50.0, 1.0]}
"""


def plan_with_table(folder: Path, **config: Any) -> Plan:
    """A plan of TABLE."""
    return plan_of(folder, {"table1": TABLE}, **config)


def index(plan: Plan, truth: dict[str, Any]) -> None:
    """Leave the annotations that the table is evaluated on."""
    folder = plan.index_folder("voc").path
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "val.json").write_text(json.dumps(truth))
    (folder / "manifest.json").write_text('{"sha256": "data", "splits": {"val": {"images": 13}}}')


def detect(
    plan: Plan, row: int, truth: dict[str, Any], found: list[dict[str, Any]], seed: int = 0
) -> Path:
    """Leave detections of a row and the metrics that they have; returns the detections' file."""
    metrics, _ = average_precision(truth, found)
    path = measure(plan, "table1", row, metrics, seed)
    detections = path.with_name(f"detections{path.stem.removeprefix('metrics')}.npz")
    save_detections(detections, found)
    return detections


def evaluated_plan(folder: Path, spreads: dict[int, tuple[float, ...]]) -> Plan:
    """A plan of TABLE, evaluated with two seeds: by row, how far off each seed's boxes are."""
    plan, truth = plan_with_table(folder, seeds=[0, 1]), shapes()
    index(plan, truth)
    for row, of_seeds in spreads.items():
        for seed, spread in enumerate(of_seeds):
            detect(plan, row, truth, near(truth, spread, seed), seed)
    return plan


def shapes(objects: int = 12, images: int = 6) -> dict[str, Any]:
    """Ground truth of two classes, objects far from each other."""
    random = np.random.default_rng(0)
    return {
        "images": [{"id": i, "width": 300, "height": 100} for i in range(images)],
        "categories": [{"id": 1, "name": "one"}, {"id": 2, "name": "two"}],
        "annotations": [
            {"id": i + 1, "image_id": i % images, "category_id": 1 + i % 2, "iscrowd": 0}
            | {"bbox": [100.0 * (i // images), 5.0, *size], "area": float(size[0] * size[1])}
            for i, size in enumerate(random.uniform(20, 60, (objects, 2)).tolist())
        ],
    }


def near(truth: dict[str, Any], spread: float, seed: int = 0) -> list[dict[str, Any]]:
    """A detection of each object, `spread` of its size off."""
    random = np.random.default_rng(seed)
    found = []
    for each in truth["annotations"]:
        x, y, width, height = each["bbox"]
        dx, dy, dw, dh = random.normal(0, spread, 4)
        box = [x + dx * width, y + dy * height, width * np.exp(dw), height * np.exp(dh)]
        found.append(
            {"image_id": each["image_id"], "category_id": each["category_id"]}
            | {"bbox": box, "score": float(random.random())}
        )
    return found

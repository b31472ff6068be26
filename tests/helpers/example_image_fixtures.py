"""Two evaluations of three images, and boxes side by side: what Figure 6 chooses from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image
from report_fixtures import measure, plan_of, run_folder

from obc.config.plan import Plan
from obc.evaluation.detections_file import save_detections

TABLE = """
title: Components
section: "4.1"
dataset: voc
metrics: [AP]
common: {detector: faster_rcnn, backbone: r50}
rows:
  - {label: Regression, key: regression, box: {loss: smooth_l1}, paper: [45.0]}
  - {label: Bins, key: full, box: {loss: offset_bin, num_stages: 2}, paper: [49.0]}
"""
SIDE = 64


def box(image: int, x: float, width: float = 20.0, category: int = 1, **more: Any) -> dict:
    """A box 20 pixels high; two of them side by side overlap by their widths."""
    return {"image_id": image, "category_id": category, "bbox": [x, 10.0, width, 20.0], **more}


def truth_of(*annotations: dict, images: int = 6) -> dict[str, Any]:
    numbered = [
        {"id": index, "iscrowd": 0, "difficult": 0, "area": 400.0, **annotation}
        for index, annotation in enumerate(annotations)
    ]
    return {
        "images": [
            {"id": image, "file_name": f"{image:06d}.png", "width": SIDE, "height": SIDE}
            for image in range(1, images + 1)
        ],
        "annotations": numbered,
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }


def two_evaluations(tmp_path: Path) -> Plan:
    """Two evaluations of three images: a better fit, a loss, and one that only scores differ in."""
    plan = plan_of(tmp_path, {"table1": TABLE})
    index, root = plan.index_folder("voc").path, tmp_path / "images"
    index.mkdir(parents=True)
    root.mkdir()
    objects = [box(1, 0), box(2, 0), box(3, 0), box(3, 30, iscrowd=1), box(1, 40, difficult=1)]
    truth = truth_of(*objects, images=3)
    (index / "val.json").write_text(json.dumps(truth))
    (index / "manifest.json").write_text(json.dumps({"root": str(root), "sha256": "data"}))
    for image in truth["images"]:
        Image.new("RGB", (SIDE, SIDE), "gray").save(root / image["file_name"])
    sure, unsure = {"score": 0.9}, {"score": 0.2}
    evaluate(plan, 0, [box(1, 4, **sure), box(2, 0, **sure), box(3, 5, **sure)])
    evaluate(
        plan, 1, [box(1, 0, **sure), box(2, 5, **sure), box(3, 5, **sure), box(3, 0, **unsure)]
    )
    return plan


def evaluate(plan: Plan, row: int, detections: list[dict]) -> None:
    measure(plan, "table1", row, {"AP": 50.0})
    decode = plan.tables["table1"].rows[row].decode
    save_detections(run_folder(plan, "table1", row) / f"detections.{decode}.npz", detections)

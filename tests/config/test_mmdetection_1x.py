"""Protocol `paper_v1` against MMDetection 1.0's own values, key by key."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from obc.config.box_losses.smooth_l1 import SmoothL1
from obc.config.load_plan import load_plan
from obc.datasets.index_folder import DataFiles
from obc.training.mmdet_config import build_config

TABLE = yaml.safe_load((Path(__file__).parent / "mmdetection_1x.yaml").read_text())
CLASSES = {"voc": 20, "coco": 80}


@cache
def training(dataset: str, detector: str) -> dict[str, Any]:
    """The resolved config of the smooth L1 baseline with ResNet-50 at scale `paper`."""
    plan = load_plan({"scale": "paper"})
    baseline = (dataset, detector, "r50", SmoothL1(loss="smooth_l1"))
    (run,) = (
        run.resolved
        for run in plan.paper_runs.values()
        if (spec := run.resolved.spec)
        and (spec.dataset, spec.detector, spec.backbone, spec.box) == baseline
    )
    classes = tuple(map(str, range(CLASSES[dataset])))
    data = DataFiles(Path("images"), Path("train.json"), Path("val.json"), classes)
    return build_config(run, 0, data, plan.scale.runtime).to_dict()


def at(config: Any, key: str) -> Any:
    """The value at a dotted key, lists for tuples; None where the config has no such key."""
    for part in key.split("."):
        if isinstance(config, list):
            config = config[int(part)]
        elif part not in config:
            return None
        else:
            config = config[part]
    return list(config) if isinstance(config, tuple) else config


SETTINGS = [
    pytest.param(config["run"], entry, id=f"{config['file']}:{entry['line']} {entry['theirs']}")
    for config in TABLE["configs"]
    for entry in config["settings"]
]


@pytest.mark.parametrize(("run", "entry"), SETTINGS)
def test_a_setting_is_version_1_s_or_the_table_says_why_not(
    run: dict[str, str], entry: dict[str, Any]
) -> None:
    if "key" not in entry:
        assert entry["why"] and "ours" not in entry
        return
    if "ours" in entry:
        assert entry["why"] and entry["ours"] != entry["value"]
    assert at(training(**run), entry["key"]) == entry.get("ours", entry["value"])


@pytest.mark.parametrize("entry", TABLE["arithmetic"], ids=lambda entry: entry["key"])
def test_what_version_1_s_code_does_is_asked_for(entry: dict[str, Any]) -> None:
    assert at(training("coco", "faster_rcnn"), entry["key"]) == entry["ours"]


def test_the_two_stages_of_a_cascade_do_it_too() -> None:
    cascade = training("coco", "cascade_rcnn")
    for stage in (0, 1):
        head = at(cascade, f"model.roi_head.bbox_head.{stage}")
        rcnn = at(cascade, f"model.train_cfg.rcnn.{stage}")
        assert head["bbox_coder"]["type"] == "WholePixelDeltaCoder"
        assert rcnn["assigner"]["iou_calculator"] == {"type": "WholePixelOverlaps2D"}
        assert rcnn["assigner"]["match_low_quality"] is True


def test_every_line_of_the_table_names_one_setting_once() -> None:
    for config in TABLE["configs"]:
        names = [entry["theirs"] for entry in config["settings"]]
        assert len(names) == len(set(names)) > 90

"""Small plans and made-up measurements for the tests of tables and figures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from obc.config.load_plan import load_plan
from obc.config.plan import Plan
from obc.runs.versions import TRAINING_CODE, code_digest

TABLE = """
title: Losses
section: "4.1"
dataset: voc
metrics: [AP, AP_S]
common: {detector: faster_rcnn, backbone: r50}
rows:
  - label: L2 | squared
    columns: {Backbone: ResNet_50 & co}
    box: {loss: l2}
    paper: [40.0, 10.0]
  - label: Smooth L1 (β = 1.0)*
    box: {loss: smooth_l1, beta: 1.0}
    paper: [45.0, null]
  - label: Bins
    columns: {Expectation: "✓"}
    box: {loss: offset_bin}
    paper: [47.5, 12.0]
  - label: Known elsewhere
    block: cited
    cited: true
    paper: [30.0, null]
"""

# A table beyond the paper: another decoding of TABLE's run, and runs of its own.
BEYOND = """
title: More
beyond: true
dataset: voc
metrics: [AP, AP_S]
common: {detector: faster_rcnn, backbone: r50}
rows:
  - label: Bins by argmax
    box: {loss: offset_bin}
    decode: argmax
  - label: Half the bins
    box: {loss: offset_bin, num_bins: 10}
  - label: Another backbone
    backbone: r101
    box: {loss: offset_bin}
"""

FIGURE = """
kind: figure
title: Bins
section: "4.1"
dataset: voc
metrics: [AP]
common: {detector: faster_rcnn, backbone: r50}
rows:
  - label: a = {max_offset}, n = {num_bins}
    box: {loss: offset_bin}
    grid: {box.max_offset: [1, 3], box.num_bins: [20, 10]}
plot:
  x: box.num_bins
  x_label: number of bins n
  x_symbol: n
  series: box.max_offset
  series_label: a
  colors: {"1": "#0000ff", "3": "#ff0000"}
"""


def plan_of(folder: Path, tables: dict[str, str], **config: Any) -> Plan:
    """A plan of the given YAML texts at the project's own scales, with results in `folder`."""
    shutil.copytree("config/scales", folder / "config" / "scales", dirs_exist_ok=True)
    experiments = folder / "config" / "experiments"
    experiments.mkdir(exist_ok=True)
    for name, text in tables.items():
        (experiments / f"{name}.yaml").write_text(text)
    return load_plan(
        {"scale": "smoke", "results": str(folder / "results"), **config}, folder / "config"
    )


def run_folder(plan: Plan, table: str, row: int, seed: int = 0) -> Path:
    """The folder of the run that a row reads; made if missing."""
    folder = plan.run_folder(plan.run_of(plan.tables[table].rows[row]).run_id, seed).path
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def measure(
    plan: Plan,
    table: str,
    row: int,
    metrics: dict[str, Any],
    seed: int = 0,
    change: dict[str, Any] | None = None,
) -> Path:
    """Write the metrics file of a row as an evaluation does; `change` spoils its fields."""
    spec = plan.tables[table].rows[row]
    content = {
        "scale": plan.scale.name,
        "run_id": plan.run_of(spec).run_id,
        "seed": seed,
        "decode": spec.decode,
        "images": 16,
        "difficult": "gt",
        "weights_sha256": "weights",
        "metrics": metrics,
        **(change or {}),
    }
    trained(plan, table, row, seed)
    path = run_folder(plan, table, row, seed) / f"metrics.{spec.decode}.json"
    path.write_text(json.dumps(content))
    return path


def trained(plan: Plan, table: str, row: int, seed: int = 0, **record: Any) -> None:
    """Leave the files of a finished training."""
    folder = run_folder(plan, table, row, seed)
    (folder / "final.pth").touch()
    content = {
        "weights_sha256": "weights",
        "code": {"training_code": code_digest(TRAINING_CODE)},
        "data": {"sha256": "data"},
        **record,
    }
    (folder / "run.json").write_text(json.dumps(content))


def fail(plan: Plan, table: str, row: int, seed: int = 0) -> Path:
    """Leave the note of a failed training; returns the log that it names."""
    folder = run_folder(plan, table, row, seed)
    log = folder / "log.txt"
    (folder / "work").mkdir()
    note = {"error": "NonFiniteLoss: iteration 12", "log": str(log)}
    (folder / "work" / "failed.json").write_text(json.dumps(note))
    return log

"""A table, claims about it, evaluations of its rows and a bootstrap that needs no detections."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_fixtures import measure, plan_of

from obc.analysis.seed_spread import Sampled
from obc.analysis.verdicts import JudgedContrast, Resampling, judge
from obc.config.plan import Plan

TABLE = """
title: Losses
section: "4.1"
dataset: voc
metrics: [AP, AP90]
common: {detector: faster_rcnn, backbone: r50}
rows:
  - {label: L2 | squared, key: l2, box: {loss: l2}, paper: [40.0, 5.0]}
  - {label: Smooth L1, key: l1, box: {loss: smooth_l1}, paper: [45.0, 6.0]}
  - {label: Bins, key: bins, box: {loss: offset_bin}, paper: [47.5, 13.0]}
  - {label: Bins, key: argmax, box: {loss: offset_bin}, decode: argmax, paper: [46.0, 9.0]}
  - {label: Known, key: known, cited: true, paper: [30.0, null]}
  - {label: Two, key: two, box: {loss: offset_bin, num_stages: 2}, decode: argmax}
"""
ROWS = {"l2": 0, "l1": 1, "bins": 2}

OTHER = """
title: Other data
section: "4.2"
dataset: coco
metrics: [AP, AP90]
common: {detector: faster_rcnn, backbone: r50}
rows:
  - {label: L2, key: l2, box: {loss: l2}}
  - {label: L1, key: l1, box: {loss: smooth_l1}}
"""

CLAIMS = """
resamples: 100
seed: 0
confidence: 0.95
topics:
  - table: table7
    title: Losses
    claims:
"""

NOISE = np.random.default_rng(0).normal(size=100)

REASON = "margin_reason: As small."

# Student's t at 0.975, from printed tables.
T = {1: 12.7062, 2: 4.30265, 3: 3.18245, 4: 2.77645}


def claims_text(*claims: str) -> str:
    """A claims file of flow mappings without id, section and statement."""
    common = 'section: "4.1", statement: "One | beats the other."'
    return CLAIMS + "".join(
        f"      - {{id: claim{index}, {common}, {claim}}}\n" for index, claim in enumerate(claims)
    )


def plan_with(folder: Path, *claims: str, seeds: Any = (0,), **tables: str) -> Plan:
    """A plan of TABLE and of other tables, with claims about TABLE only."""
    (folder / "config").mkdir(exist_ok=True)
    (folder / "config" / "claims.yaml").write_text(claims_text(*claims))
    chosen = list(seeds) if isinstance(seeds, tuple) else seeds
    plan = plan_of(folder, {"table7": TABLE, **tables}, seeds=chosen)
    # Scale smoke, which is as small as a test wants it, but allows verdicts.
    return plan.model_copy(update={"scale": plan.scale.model_copy(update={"judges": True})})


def evaluated(plan: Plan, table: str = "table7", **aps: list[float]) -> None:
    """Evaluations by row key, one AP for each of the first seeds; AP90 is always 10."""
    keys = [row.key for row in plan.tables[table].rows]
    for key, values in aps.items():
        for seed, ap in enumerate(values):
            path = measure(plan, table, keys.index(key), {"AP": ap, "AP90": 10.0}, seed)
            path.with_name(path.name.replace("metrics", "detections")).with_suffix(".npz").touch()
    index = plan.index_folder(plan.tables[table].dataset).path
    index.mkdir(parents=True, exist_ok=True)
    (index / "val.json").touch()
    (index / "manifest.json").write_text('{"sha256": "data", "splits": {"val": {"images": 16}}}')


def resampler(*, shared: bool = True) -> Callable[[Resampling], Sampled]:
    """Resamples that move around the metrics file's numbers: all evaluations alike, or opposed."""

    def resample(asked: Resampling) -> Sampled:
        detections = asked.evaluation.detections
        name = detections.with_suffix(".json").name.replace("detections", "metrics")
        metrics = json.loads(detections.with_name(name).read_text())["metrics"]
        sign = -1 if not shared and "-l2-" in asked.evaluation.run_id else 1
        return {k: v + sign * np.concatenate([[0.0], NOISE]) for k, v in metrics.items()}

    return resample


def judged(plan: Plan, *, strict: bool = True, shared: bool = True) -> list[JudgedContrast]:
    """The contrasts of all claims of a plan."""
    topics = judge(plan, strict, resample=resampler(shared=shared))
    return [contrast for topic in topics for found in topic.claims for contrast in found.contrasts]


def several(monkeypatch: pytest.MonkeyPatch, *runs: str, number: int = 2) -> None:
    """Several seeds for the runs with one of these in their id, one for the others."""
    many = tuple(range(number))
    seeds = lambda self, run_id: many if any(name in run_id for name in runs) else (0,)  # noqa: E731
    monkeypatch.setattr(Plan, "seeds_of", seeds)

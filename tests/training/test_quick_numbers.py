"""Training on from the starting weights that come with the suite gives the documented numbers."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from conftest import PROJECT, Workspace, copy_project

from obc.config.load_plan import load_plan

# More than twice the standard deviation of the three seeds.
SPREAD = 3.5


@pytest.mark.slow
def test_the_baseline_of_quick_has_the_ap_of_the_notes(tmp_path: Path) -> None:
    copy_project(tmp_path)
    suite = Workspace(tmp_path)
    plan = load_plan({"scale": "quick"}, tmp_path / "config")
    run_id = next(name for name in plan.runs if name.startswith("voc-faster-r50-smoothl1-b1-"))
    metrics = plan.run(run_id, 0).folder.metrics("regression")
    done = suite.snakemake("--cores", "2", "--config", "scale=quick", "--", str(metrics))
    assert done.returncode == 0, done.stderr
    notes = (PROJECT / "docs/reproduction-notes.md").read_text(encoding="utf-8")
    (row,) = re.findall(r"baseline of `quick`.*\n.*\n\| AP \|(.*)\|$", notes, re.MULTILINE)
    documented = float(row.split("|")[-1])
    ours = json.loads((tmp_path / metrics).read_text())["metrics"]["AP"]
    assert ours == pytest.approx(documented, abs=SPREAD)

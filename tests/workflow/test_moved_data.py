"""A folder of data that was moved is indexed and trained from its new place."""

from __future__ import annotations

import json
from pathlib import Path

import foreign_fixtures as foreign
import pytest
from conftest import Workspace, copy_project

from obc.datasets.index_folder import IndexFolder
from obc.training.mmdet_config import build_config


@pytest.mark.slow
def test_a_moved_folder_is_indexed_anew_and_trained_from_its_new_place(tmp_path: Path) -> None:
    suite = Workspace(tmp_path / "suite")
    copy_project(suite.folder)
    data = foreign.write(tmp_path / "old/mine", foreign.content(1), foreign.content(50))

    def manifest_of(root: Path) -> dict[str, str]:
        plan = suite.plan(coco_root=str(root))
        target = plan.index_folder("coco") / "manifest.json"
        done = suite.snakemake("--cores", "1", target, "--config", f"coco_root={root}")
        assert done.returncode == 0, done.stderr
        return json.loads((suite.folder / target).read_text(encoding="utf-8"))

    before = manifest_of(data.root)
    new = tmp_path / "new/mine"
    new.parent.mkdir()
    data.root.rename(new)
    after = manifest_of(new)
    assert (before["root"], after["root"]) == (str(data.root), str(new))
    assert before["sha256"] == after["sha256"]  # the content is the same

    plan = suite.plan(coco_root=str(new))
    run_id = next(iter(plan.runs))
    files = IndexFolder(suite.folder / plan.index_folder("coco")).files()
    run = plan.runs[run_id].resolved
    text = build_config(run, 0, files, plan.scale.runtime).pretty_text
    assert str(new) in text and str(data.root) not in text

"""The workflow goes from nothing to indexed data by itself where the data are published."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Workspace, copy_project, edit
from local_server import Server, serving
from published_archives import published_files, write_datasets


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        running.files = published_files()
        yield running


def test_data_are_fetched_checked_unpacked_and_indexed(tmp_path: Path, server: Server) -> None:
    copy_project(tmp_path)
    write_datasets(tmp_path / "config/datasets.yaml", server)

    def one_image_each(scale: dict) -> None:
        scale["data"]["voc"] |= {"train": ["VOC2007/trainval"], "expected_train_images": 1}
        scale["data"]["voc"] |= {"expected_val_images": 1}

    edit(tmp_path / "config/scales/paper.yaml", one_image_each)
    suite = Workspace(tmp_path)
    plan = suite.plan(scale="paper")
    manifest = plan.index_folder("voc") / "manifest.json"
    done = suite.snakemake("--cores", 1, manifest, "--config", "scale=paper")
    assert done.returncode == 0, done.stderr
    splits = json.loads((tmp_path / manifest).read_text())["splits"]
    assert [splits[split]["images"] for split in ("train", "val")] == [1, 1]
    assert sorted(path for path, _ in server.asked) == ["/test.tar", "/trainval.tar"]

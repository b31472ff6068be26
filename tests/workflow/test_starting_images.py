"""The user's images for the starting weights are compared with those of the tables."""

from __future__ import annotations

from pathlib import Path

from conftest import Workspace, copy_project
from voc_folders import CAT, make_year


def test_a_table_s_data_are_indexed_after_the_images_for_its_starting_weights(
    tmp_path: Path,
) -> None:
    suite = Workspace(tmp_path / "suite")
    copy_project(suite.folder)
    splits = {name: {name: [CAT]} for name in ("train", "val", "init")}
    root = make_year(tmp_path / "VOC2007", splits)
    chosen = {"scale": "photos", "voc_root": str(root), "voc_train": "train", "voc_val": "val"}
    chosen |= {"voc_init": "init"}
    plan = suite.plan(**chosen)
    config = [f"{key}={value}" for key, value in chosen.items()]
    done = suite.snakemake("-n", plan.index_folder("voc").manifest, "--config", *config)
    assert done.returncode == 0, done.stderr
    assert f"input: {plan.index_folder('init').manifest}" in done.stdout + done.stderr

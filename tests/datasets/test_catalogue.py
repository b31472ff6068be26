"""config/datasets.yaml: what a scale needs of it, and that it names what MMEngine would fetch."""

from __future__ import annotations

import json
from pathlib import Path

import mmengine
import pytest
import yaml
from conftest import edit

from obc.config.downloads import of_run, with_fetched_weights
from obc.config.load_plan import load_plan
from obc.config.plan import Plan
from obc.datasets.published.catalogue import read_datasets
from obc.io.typed_yaml import ConfigError

PAPER_DATA = ("voc2007", "voc2012", "coco_annotations", "coco_train2017", "coco_val2017")


def needed_names(**config: object) -> list[str]:
    return list(load_plan(config).published)


def test_scale_paper_needs_its_data_and_the_weights_of_its_networks() -> None:
    weights = ["resnet50", "resnet101", "resnext101_64x4d", "resnext101_32x4d"]
    assert needed_names(scale="paper") == [*PAPER_DATA, *weights]


@pytest.mark.parametrize("scale", ["smoke", "mini"])
def test_scales_that_draw_their_data_need_nothing(scale: str) -> None:
    assert needed_names(scale=scale) == []


def test_published_data_that_lie_elsewhere_are_not_fetched(tmp_path: Path) -> None:
    names = needed_names(scale="paper", coco_root=str(tmp_path), voc_root=str(tmp_path))
    assert not set(names) & set(PAPER_DATA)


def test_weights_are_those_that_mmengine_would_fetch() -> None:
    hub = Path(mmengine.__file__).parent / "hub"
    zoos = {
        "torchvision": json.loads((hub / "torchvision_0.12.json").read_text()),
        "open-mmlab": json.loads((hub / "openmmlab.json").read_text()),
    }
    weights = [one for one in read_datasets().values() if one.checkpoint]
    assert len(weights) == 4
    for published in weights:
        zoo, _, name = published.checkpoint.partition("://")
        assert published.files[0].urls[0] == zoos[zoo][name]
        # Both zoos put the beginning of the sha256 into the file's name.
        assert published.files[0].checksum == f"sha256:{published.target.stem[-8:]}"


def test_a_run_starts_from_the_fetched_file_and_keeps_its_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainings = load_plan({"scale": "paper"}).trainings.values()
    by_network = {
        (one.resolved.spec.backbone, one.resolved.spec.detector): one for one in trainings
    }
    runs = [one.resolved for one in by_network.values()]
    datasets = read_datasets()
    monkeypatch.chdir(tmp_path)
    assert [with_fetched_weights(run, datasets) for run in runs] == runs
    for published in datasets.values():
        for path in (published.target, published.stamp) if published.checkpoint else ():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"there")
    for run in runs:
        started = with_fetched_weights(run, datasets)
        published = of_run(run, datasets)
        assert started.network.checkpoint(run.spec.detector) == str(published.target)
        assert started.network.pretrained != run.network.pretrained
        assert started.spec == run.spec


def test_a_plan_names_what_its_own_config_folder_publishes(
    config_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(config_folder / "datasets.yaml", lambda entries: entries.pop("resnet101"))
    config_folder.rename(tmp_path / "mine")
    load_plan({"scale": "paper"}, tmp_path / "mine").save(tmp_path / "plan.json")
    monkeypatch.chdir(tmp_path)  # where there is no config/datasets.yaml
    published = Plan.load(tmp_path / "plan.json").published
    assert "resnet50" in published and "resnet101" not in published


def test_a_faster_and_a_cascade_resnext_start_from_their_own_weights() -> None:
    datasets = read_datasets()
    runs = [run.resolved for run in load_plan({"scale": "paper"}).trainings.values()]
    found = {
        (run.spec.detector, of_run(run, datasets).name)
        for run in runs
        if run.spec.backbone == "x101"
    }
    assert found == {("faster_rcnn", "resnext101_64x4d"), ("cascade_rcnn", "resnext101_32x4d")}


FILE = {"urls": ["https://example.org/a.zip"], "checksum": f"md5:{'0' * 32}"}
ENTRY = {
    "title": "a", "licence": "b", "target": "data/a", "folder": "a", "shows": ["1.jpg"],
    "files": [FILE],
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sahdow": 1}, r"a.sahdow|sahdow: unknown key"),
        ({"shows": []}, "`shows` must name files"),
        ({"folder": None, "shows": []}, r"target data/a must be its one file a\.zip"),
        ({"files": [{**FILE, "checksum": None}]}, "a.zip has no checksum; `why` must say"),
        ({"files": [{**FILE, "checksum": "md5:123"}]}, "checksum"),
        ({"files": [{**FILE, "urls": ["ftp://example.org/a.zip"]}]}, "urls"),
        ({"files": [{**FILE, "urls": [*FILE["urls"], "http://b.org/b.zip"]}]}, "same file name"),
    ],
)
def test_a_wrong_entry_is_named(tmp_path: Path, change: dict, message: str) -> None:
    path = tmp_path / "datasets.yaml"
    path.write_text(yaml.safe_dump({"a": {**ENTRY, **change}}))
    with pytest.raises(ConfigError, match=message):
        read_datasets(path)

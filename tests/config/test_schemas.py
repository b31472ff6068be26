"""The JSON schemas in config/schemas: as the models are now, and what they say of files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from obc.config.schemas import as_text, schemas

CONFIG = Path("config")
FILES = sorted(CONFIG.rglob("*.yaml"))


def errors(kind: str, content: dict[str, Any]) -> list[str]:
    return [one.message for one in Draft202012Validator(schemas()[kind]).iter_errors(content)]


def test_the_exported_files_are_current() -> None:
    written = {path.name: path.read_text() for path in (CONFIG / "schemas").glob("*")}
    assert written == {name: as_text(one) for name, one in schemas().items()}, "call `make docs`"


@pytest.mark.parametrize("file", FILES, ids=str)
def test_a_file_names_its_schema_and_fits_it(file: Path) -> None:
    first = file.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# yaml-language-server: $schema=")
    schema = file.parent / first.partition("=")[2]
    assert schema.parent.resolve() == (CONFIG / "schemas").resolve()
    assert errors(schema.name, yaml.safe_load(file.read_text(encoding="utf-8"))) == []


TABLE = yaml.safe_load(
    "{title: T, section: '1', dataset: voc, metrics: [AP], common: {detector: faster_rcnn},"
    " rows: [{label: one, backbone: r50, box: {loss: offset_bin, num_bins: 10}}]}"
)


@pytest.mark.parametrize(
    ("row", "refused"),
    [
        ({}, None),
        ({"box": {"num_stages": 2}}, None),  # the loss is that of `common`
        ({"grid": {"box.num_bins": [1, 2]}, "key": "n{num_bins}"}, None),
        ({"box": {"loss": "of_a_plugin", "own": 1}}, None),
        ({"boks": {}}, "'boks' was unexpected"),
        ({"box": {"loss": "offset_bin", "bins": 1}}, "'bins' was unexpected"),
        ({"box": {"loss": "offset_bin", "num_bins": "ten"}}, "'ten'"),
        ({"backbone": 50}, "50"),
    ],
)
def test_a_row_is_checked(row: dict[str, Any], refused: str | None) -> None:
    found = errors("table.json", {**TABLE, "rows": [{**TABLE["rows"][0], **row}]})
    assert bool(found) == (refused is not None) and all(refused in one for one in found)


def test_one_value_may_stand_for_a_list() -> None:
    one = {"voc_train": "train", "voc_init": "init", "plugins": "mine"}
    assert errors("config.json", one) == []
    assert errors("config.json", {"seeds": 3})
    assert errors("config.json", {"voc_trian": "train"})

"""Wrong configuration: one message with the file, the key and what is allowed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from conftest import edit

from obc.cli.main import main
from obc.config.load_plan import load_plan
from obc.io.typed_yaml import ConfigError


def failing(raw: dict, folder: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_plan(raw, folder)
    return str(caught.value)


def assert_refused(folder: Path, file: str, change, expected: list[str]) -> None:
    """After a change of a file the message names it and says all that is expected."""
    edit(folder / file, change)
    message = failing({"scale": "smoke"}, folder)
    assert f"{file}: " in message
    for part in expected:
        assert part in message


def test_an_unknown_config_key_names_itself_and_the_allowed_ones(config_folder: Path) -> None:
    message = failing({"sclae": "smoke"}, config_folder)
    assert "config.yaml: sclae: unknown key (did you mean 'scale'?)" in message
    assert "voc_root" in message


def test_an_unknown_scale_lists_the_known_ones(config_folder: Path) -> None:
    assert "allowed: mini, paper, photos, quick, smoke" in failing({"scale": "huge"}, config_folder)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda c: c["rows"][1]["box"].update(num_bin=3),
            ["rows[1].box.num_bin: unknown key", "num_bins"],
        ),
        (
            lambda c: c["rows"][1]["box"].update(num_bins=0),
            ["rows[1].box.num_bins", "greater than or equal to 3", "got 0"],
        ),
        (
            lambda c: c["rows"][0].update(backbne="r50"),
            ["rows[0].backbne: unknown key", "did you mean 'backbone'"],
        ),
        (
            lambda c: c["rows"][0].update(backbone="r18"),
            ["rows[0].backbone", "'r50', 'r101' or 'x101'"],
        ),
        (
            lambda c: c["rows"][0].update(decode="argmax"),
            ["decode 'argmax' does not fit", "allowed: regression"],
        ),
        (lambda c: c["rows"][0].update(paper=[1.0]), ["paper has 1 numbers", "one per metric = 6"]),
        (
            lambda c: c["rows"][1]["box"].update(num_stages=2, stage_ranges=[1.0]),
            ["stage_ranges", "exactly num_stages = 2"],
        ),
        (
            lambda c: c["rows"][0].update(cascade={"ious": [0.5, 0.6]}),
            ["cascade is allowed only with cascade_rcnn"],
        ),
        (lambda c: c["metrics"].append("AP42"), ["metrics[6]", "'AP'"]),
        (lambda c: c.update(tittle="x"), ["tittle: unknown key", "did you mean 'title'"]),
        (lambda c: c.pop("title"), ["title: is required and missing"]),
        (lambda c: c["rows"][0].update(cited=True), ["rows[0].box: unknown key"]),
        (lambda c: c.update(common=[1]), ["common: must be a mapping"]),
        (lambda c: c.update(name="x"), ["a table is called as its file"]),
        (lambda c: c["rows"][0].update(paper=[450.0] * 6), ["rows[0].paper[0]", "100"]),
        (lambda c: c["rows"][0].update(paper=[float("nan")] * 6), ["finite number"]),
        (lambda c: c.update(metrics=["AP"] * 6), ["one is named twice"]),
        (lambda c: c["rows"][1]["box"].update(max_offset=float("inf")), ["finite number"]),
        (lambda c: c["rows"][1]["box"].update(num_stages=True), ["rows[1].box.num_stages"]),
        (
            lambda c: c["rows"][1]["box"].update(num_stages=2, stage_ranges=[2, 0.1]),
            ["stage_ranges starts with 2, allowed: max_offset = 3"],
        ),
        (lambda c: c["rows"][0].update(target_stds=[0, 1, 1, 1]), ["rows[0].target_stds[0]"]),
        (
            lambda c: c["rows"][0].update(detector="cascade_rcnn", target_stds=[1, 1, 1, 1]),
            ["use cascade.stage_stds"],
        ),
        (
            lambda c: c["rows"][0].update(detector="cascade_rcnn", cascade={"ious": []}),
            ["rows[0].cascade.ious"],
        ),
    ],
)
def test_a_wrong_table_file_is_named_with_the_key_and_what_is_allowed(
    config_folder: Path, change, expected: list[str]
) -> None:
    assert_refused(config_folder, "experiments/table1.yaml", change, expected)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda c: c["schedule"].update(lr=-1), ["schedule.lr", "greater than 0"]),
        (lambda c: c["schedule"].update(steps=[100]), ["increasing epochs up to epochs = 2"]),
        (lambda c: c["schedule"].update(steps=[2, 1]), ["increasing epochs"]),
        (lambda c: c["schedule"].update(momentum=5), ["schedule.momentum"]),
        (lambda c: c["sizes"].update(neck_channels=0), ["sizes.neck_channels"]),
        (lambda c: c["sizes"]["image_scale"].update(voc=[-1, 5]), ["sizes.image_scale.voc[0]"]),
        (lambda c: c["sizes"]["image_scale"].pop("coco"), ["has no entry for coco"]),
        (lambda c: c["networks"]["r50"].update(groups={"faster_rcnn": 2}), ["starts at depth 50"]),
        (lambda c: c["data"]["voc"].update(layout="coco"), ["data.voc is in coco layout"]),
        (lambda c: c.update(name="paper"), ["a scale is called as its file"]),
    ],
)
def test_a_wrong_scale_file_is_named_with_the_key_and_what_is_allowed(
    config_folder: Path, change, expected: list[str]
) -> None:
    assert_refused(config_folder, "scales/smoke.yaml", change, expected)


def test_a_scale_without_a_detector_s_groups_says_so(config_folder: Path) -> None:
    edit(
        config_folder / "scales/smoke.yaml",
        lambda c: c["networks"]["x101"]["groups"].pop("cascade_rcnn"),
    )
    message = failing({"scale": "smoke"}, config_folder)
    assert "table5 needs cascade_rcnn with x101" in message


@pytest.mark.parametrize("seeds", [-1, "abc", [0, 0], [], 1.5])
def test_seeds_are_different_whole_numbers(config_folder: Path, seeds: object) -> None:
    assert "config.yaml: seeds" in failing({"seeds": seeds}, config_folder)


@pytest.mark.parametrize("label", ["", "../x", "a/b"])
def test_a_label_is_a_plain_name(config_folder: Path, label: str) -> None:
    assert "config.yaml: label" in failing({"label": label}, config_folder)


def test_a_key_that_stands_twice_is_refused(config_folder: Path) -> None:
    path = config_folder / "experiments/table3.yaml"
    path.write_text(path.read_text() + "rows: []\n")
    assert "the key rows stands there twice" in failing({}, config_folder)


def test_a_table_file_that_is_not_text_is_named(config_folder: Path) -> None:
    (config_folder / "experiments/table2.yaml").write_bytes("title: é".encode("latin-1"))
    assert "experiments/table2.yaml: not valid YAML" in failing({}, config_folder)


@pytest.mark.parametrize("name", ["train", "my table", "all"])
def test_a_table_may_not_be_called_as_a_rule(config_folder: Path, name: str) -> None:
    experiments = config_folder / "experiments"
    shutil.copy(experiments / "table3.yaml", experiments / f"{name}.yaml")
    assert f"experiments/{name}.yaml: " in failing({}, config_folder)


def test_a_grid_label_with_a_dangling_name_is_an_error(config_folder: Path) -> None:
    edit(config_folder / "experiments/figure5.yaml", lambda c: c["rows"][0].update(label="a = {a}"))
    assert "no grid key 'a', allowed: max_offset, num_bins" in failing({}, config_folder)


def test_broken_yaml_names_the_file(config_folder: Path) -> None:
    (config_folder / "experiments/table2.yaml").write_text("rows: [")
    assert "experiments/table2.yaml: not valid YAML" in failing({}, config_folder)


def test_a_split_without_a_root_is_refused(config_folder: Path) -> None:
    assert "voc_train is given without voc_root" in failing({"voc_train": "train"}, config_folder)


@pytest.mark.parametrize("settings", ["{", '{"kind": "shapes"}', '{"kind": "shapes", "sed": 1}'])
def test_wrong_drawing_settings_are_a_message(tmp_path: Path, capsys, settings: str) -> None:
    assert main(["draw", str(tmp_path / "drawn"), "--settings", settings]) == 1
    assert "obc draw: --settings: " in capsys.readouterr().err
    assert not (tmp_path / "drawn").exists()

"""The README's promises that a test can hold."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope

from obc.detector.model_config import BASE_CONFIGS

README = Path("README.md").read_text(encoding="utf-8")


def block(language: str, containing: str, page: str = README) -> str:
    """The one code block of a language that contains a text."""
    blocks = re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)
    (found,) = (text for text in blocks if containing in text)
    return found


def test_the_head_works_in_a_config_as_shown(tmp_path: Path) -> None:
    base = BASE_CONFIGS / "faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py"
    mine = tmp_path / "mine.py"
    mine.write_text(f"_base_ = [{str(base)!r}]\n" + block("python", "OBCHead"))
    config = Config.fromfile(mine)
    config.model.backbone.init_cfg = None
    with DefaultScope.overwrite_default_scope("mmdet"):
        roi_head = MODELS.build(config.model).roi_head
    assert type(roi_head).__name__ == "OBCRoIHead"
    assert type(roi_head.bbox_head).__name__ == "OBCHead"
    assert roi_head.bbox_head.fc_reg.out_features == 4 * 22
    assert [stage.fc_reg.out_features for stage in roi_head.bbox_head.later_stages] == [4 * 22]


def test_the_row_to_add_is_a_row(tmp_path: Path) -> None:
    from obc.config.table import read_table

    table = tmp_path / "table3.yaml"
    text = Path("config/experiments/table3.yaml").read_text(encoding="utf-8")
    page = Path("docs/extending.md").read_text(encoding="utf-8")
    table.write_text(text.rstrip() + "\n" + block("yaml", "K = 4", page))
    assert read_table(table).rows[-1].run.box.num_stages == 4


def test_no_placeholder_is_left() -> None:
    assert not re.findall(r"@[A-Z]+@|\{\{\w+\}\}", README)


def test_the_make_targets_exist() -> None:
    targets = set(
        re.findall(r"^([\w-]+):", Path("Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert set(re.findall(r"^make (\w+)", README, re.MULTILINE)) <= targets


def test_every_config_key_is_explained() -> None:
    from obc.config.plan import SuiteConfig

    reference = Path("docs/configuration.md").read_text(encoding="utf-8")
    assert not [key for key in SuiteConfig.model_fields if f"`{key}`" not in reference]


def test_every_box_switch_is_in_the_notes() -> None:
    from obc.config.box_losses.offset_bin import OffsetBin

    text = Path("docs/reproduction-notes.md").read_text(encoding="utf-8")
    methods = {"loss", "max_offset", "num_bins", "num_stages"}  # what the paper itself varies
    assert not [
        key for key in OffsetBin.model_fields if key not in methods and f"`{key}" not in text
    ]


def test_the_scales_of_the_table_are_the_scales_there_are() -> None:
    listed = set(re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE))
    assert listed == {path.stem for path in Path("config/scales").glob("*.yaml")}
    assert yaml.safe_load(Path("config/config.yaml").read_text(encoding="utf-8"))["scale"] in listed


# --- the numbers of the reference results ------------------------------------------------------

MINI = Path("results/reference/mini/claims.json")
PHOTOS = Path("results/reference/photos-voc2012-animals/partial/claims.json")
FULL = "full method (two stages, expectation)"


@pytest.mark.parametrize(
    ("reference", "claim", "compared"),
    [
        (PHOTOS, "full_at_high_iou", f"AP90: {FULL} less box regression"),
        (PHOTOS, "full_beats_regression", f"AP: {FULL} less box regression"),
        (MINI, "full_beats_regression", f"AP: {FULL} less box regression"),
        (MINI, "full_at_high_iou", f"AP90: {FULL} less box regression"),
        (MINI, "two_stages_beat_one", "AP: two stages less one stage"),
        (MINI, "hierarchy_at_high_iou", f"AP90: {FULL} less bins (expectation)"),
        (MINI, "bins_beat_regression", "AP: bins (most likely bin) less box regression"),
    ],
)
def test_the_answer_to_does_it_work_has_the_reference_s_numbers(
    reference: Path, claim: str, compared: str
) -> None:
    answer = " ".join(README.split("## Does it work?")[1].split("## ")[0].split())
    (contrast,) = (
        contrast
        for topic in json.loads(reference.read_text())["topics"]
        for each in topic["claims"]
        if each["id"] == claim
        for contrast in each["contrasts"]
        if contrast["compared"] == compared
    )
    ours, low, high = (signed(contrast[name]) for name in ("difference", "low", "high"))
    metric = compared.partition(":")[0]
    forms = (f"{ours} {metric} [{low}, {high}]", f"{ours} [{low}, {high}]")
    assert any(form in answer for form in forms)
    assert signed(contrast["paper"]) in answer


def test_the_readme_is_read_in_minutes() -> None:
    assert len(README.split()) <= 900


def signed(number: float) -> str:
    return f"{number:+.1f}".replace("-", "−")

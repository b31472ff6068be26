"""A box loss in a module of the user: what docs/extending.md has is copied, planned and built."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from conftest import PROJECT
from mmdet.models.losses import L1Loss
from mmdet.registry import MODELS
from mmengine.registry import DefaultScope

from obc.config.box_losses.registry import BOX_LOSSES, BoxLoss, register_box
from obc.config.load_plan import load_plan
from obc.config.plan import Plan
from obc.config.scale import Runtime
from obc.datasets.index_folder import DataFiles
from obc.detector.model_config import model_config
from obc.io.typed_yaml import ConfigError
from obc.operations.flops import parameters
from obc.runs.versions import TRAINING_CODE, code_digest
from obc.training.mmdet_config import build_config

RAW = {"scale": "smoke", "plugins": ["my_losses"]}
TABLE = {
    "title": "Own", "beyond": True, "dataset": "voc", "metrics": ["AP"],
    "rows": [
        {"label": loss, "key": loss, "detector": "faster_rcnn", "backbone": "r50",
         "box": {"loss": loss}}
        for loss in ("l1", "l2")
    ],
}  # fmt: skip


@pytest.fixture
def project(config_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project's folder with the page's file and a table whose rows name its loss."""
    page = (PROJECT / "docs/extending.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.S)
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "my_losses.py").write_text(code, encoding="utf-8")
    (config_folder / "experiments/own.yaml").write_text(yaml.safe_dump(TABLE), encoding="utf-8")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield folder
    forget()


def forget() -> None:
    """As in a new process: neither the module nor what it registered."""
    sys.modules.pop("my_losses", None)
    BOX_LOSSES.pop("l1", None)


def test_a_copied_file_and_its_name_are_all_that_a_box_loss_needs(
    project: Path, config_folder: Path
) -> None:
    without = load_plan({"scale": "smoke"}, PROJECT / "config")
    code = code_digest(TRAINING_CODE)
    load_plan(RAW, config_folder).save(project / "plan.json")
    forget()
    plan = Plan.load(project / "plan.json")
    own, l2 = (plan.run_of(row) for row in plan.tables["own"].rows)
    assert re.fullmatch(r"voc-faster-r50-l1-[0-9a-f]{8}", own.run_id)
    assert own.decodes == ("regression",)
    assert set(without.runs) == set(plan.runs) - {own.run_id}
    assert l2.run_id in without.runs
    assert parameters(own.resolved, 3) == parameters(l2.resolved, 3)
    assert code_digest(TRAINING_CODE) != code
    with DefaultScope.overwrite_default_scope("mmdet"), torch.device("meta"):
        model = MODELS.build(model_config(own.resolved, 3))
    assert type(model.roi_head.bbox_head.loss_bbox) is L1Loss
    data = DataFiles(Path("."), Path("train.json"), Path("val.json"), ("a", "b", "c"))
    config = build_config(own.resolved, 0, data, Runtime(), plugins=plan.config.plugins)
    assert config.custom_imports["imports"][-1] == "my_losses"


def test_a_wrong_key_of_the_loss_is_named_as_in_the_file(
    project: Path, config_folder: Path
) -> None:
    wrong = yaml.safe_dump(TABLE).replace("loss: l1", "loss: l1\n    loss_wieght: 2")
    (config_folder / "experiments/own.yaml").write_text(wrong, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_plan(RAW, config_folder)
    assert (
        "own.yaml: rows[0].box.loss_wieght: unknown key (did you mean 'loss_weight'?); "
        "allowed: loss, loss_weight, reg_class_agnostic"
    ) in str(caught.value)


def test_an_unknown_loss_lists_the_known_ones(project: Path, config_folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"own\.yaml: rows\[0\]\.box: .*'l1'.*'smooth_l1'"):
        load_plan({"scale": "smoke"}, config_folder)


@pytest.mark.parametrize("content", [None, "import nowhere\n", "x = (\n"])
def test_a_plugin_that_cannot_be_imported_is_named(
    project: Path, config_folder: Path, content: str | None
) -> None:
    (project / "my_losses.py").unlink()
    if content is not None:
        (project / "my_losses.py").write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_plan(RAW, config_folder)
    assert "config.yaml: plugins: 'my_losses' cannot be imported" in str(caught.value)


def test_a_name_that_another_loss_has_is_refused() -> None:
    class Mine(BOX_LOSSES["l2"]):
        pass

    with pytest.raises(ValueError, match=r"loss 'l2' is that of obc\.config\.box_losses\.l2\.L2"):
        register_box(Mine)


def test_a_loss_without_a_name_is_refused() -> None:
    class Nameless(BoxLoss):
        pass

    with pytest.raises(ValueError, match="loss is not a Literal of names"):
        register_box(Nameless)

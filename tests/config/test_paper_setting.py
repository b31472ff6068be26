"""Deviations from the paper's setting: what they are, where they are said; scaling of lr."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from conftest import edit
from report_fixtures import FIGURE, TABLE, plan_of

from obc.analysis.collect import collect
from obc.config.comparable import deviation_notes
from obc.config.load_plan import load_plan
from obc.config.paper_setting import PAPER
from obc.config.plan import Plan
from obc.io.typed_yaml import ConfigError
from obc.operations.plan_page import summary
from obc.report.figures.caption import read_caption
from obc.report.figures.grid import figure
from obc.report.tables import paper_tables as tables

COCO_TABLE = TABLE.replace("dataset: voc", "dataset: coco")


def deviating(change: dict[str, Any] | None = None, **config: Any) -> Plan:
    """Scale paper on the paper's two GPUs, but for what is given."""
    changed = {"label": "x", "change": change} if change else {}
    return load_plan({"scale": "paper", "gpus_per_run": 2, **changed, **config})


# --- what the paper states ---------------------------------------------------------------------


def test_the_paper_s_setting_is_what_section_4_prints() -> None:
    # "2 GPUs (2 images per GPU) for 12 epoch. The initial learning rate is set to 0.005 and
    # decreased by a factor 0.1 after 8 epochs and 11 epochs": one sentence for both data sets.
    assert PAPER.gpus == 2
    schedule = PAPER.schedule
    assert (schedule.batch_size, schedule.epochs, schedule.lr) == (4, 12, 0.005)
    assert schedule.steps == (8, 11)
    assert PAPER.sizes.image_scale == {"voc": (1000, 600), "coco": (1333, 800)}


def test_coco_s_schedule_is_mmdetection_s_by_the_linear_rule() -> None:
    # MMDetection's 1x for COCO: lr 0.02 at 8 GPUs x 2 images, 12 epochs, steps 8 and 11.
    assert PAPER.schedule.lr == pytest.approx(0.02 * PAPER.schedule.batch_size / 16)


def of(plan: Plan, table: str) -> tuple[str, ...]:
    return deviation_notes(plan, plan.tables[table])


# --- deviations --------------------------------------------------------------------------------


def test_scale_paper_on_two_gpus_is_the_paper_s_setting() -> None:
    plan = deviating()
    assert {table: of(plan, table) for table in plan.tables} == dict.fromkeys(plan.tables, ())


def test_one_gpu_with_all_images_of_a_step_is_a_deviation() -> None:
    plan = load_plan({"scale": "paper"})
    assert plan.gpus_per_run == 1
    assert of(plan, "table1") == (
        "deviates from the paper: GPUs that train one run: 1 instead of 2 (section 4), "
        "with the same 4 images a step",
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schedule.epochs": 24}, "epochs: 24 instead of 12 (section 4)"),
        ({"schedule.lr": 0.01}, "learning rate: 0.01 instead of 0.005 (section 4)"),
        ({"schedule.batch_size": 16}, "images a step: 16 instead of 4 (section 4)"),
        ({"schedule.steps": [9]}, "9 instead of 8, 11 (section 4)"),
        ({"schedule.warmup_iters": 0}, "warmup iters: 0 instead of 500 (MMDetection's default"),
        ({"schedule.grad_clip": None}, "grad clip: none instead of 35 (MMDetection's default"),
        ({"schedule.repeat_times": 3}, "repeat times: 3 instead of 1 (MMDetection's default"),
        ({"runtime.amp": "bf16"}, "mixed precision: bf16 instead of none (MMDetection's default"),
        (
            {"runtime.tf32": True},
            "matrix products in TF32: yes instead of no (MMDetection's default",
        ),
        ({"networks.r101.depth": 50}, "depth: 50 instead of 101 (section 4), in r101"),
        (
            {"networks.x101.groups.cascade_rcnn": 64},
            "cascade_rcnn 64 instead of faster_rcnn 64, casc",
        ),
        ({"networks.r50.pretrained": "mine.pth"}, "pretrained: mine.pth instead of torchvision://"),
        (
            {"sizes.train_proposals": 1000},
            "train proposals: 1000 instead of 2000 (MMDetection's def",
        ),
        ({"sizes.sampled_rois": 256}, "sampled rois: 256 instead of 512 (MMDetection's default"),
    ],
)
def test_whatever_decides_a_result_is_compared(change: dict[str, Any], said: str) -> None:
    (sentence,) = of(deviating(change), "table5")
    assert said in sentence


def test_an_edited_scale_file_deviates_like_a_change_on_the_command_line(
    config_folder: Path,
) -> None:
    edit(config_folder / "scales/paper.yaml", lambda scale: scale["schedule"].update(epochs=6))
    edit(config_folder / "scales/paper.yaml", lambda scale: scale["schedule"].update(steps=[4]))
    plan = load_plan({"scale": "paper", "gpus_per_run": 2}, config_folder)
    assert len(of(plan, "table1")) == 2


def test_the_other_protocol_deviates_by_its_name_its_warm_up_and_its_missing_clip() -> None:
    said = of(deviating(protocol="modern"), "table1")
    assert [re.split(": ", sentence)[1] for sentence in said] == [
        "protocol",
        "warmup ratio",
        "grad clip",
    ]


def test_a_size_that_is_the_protocol_s_may_be_said() -> None:
    change = {"sizes.train_proposals": 2000, "sizes.test_proposals": 1000}
    assert of(deviating({**change, "sizes.sampling_ratio": 2}), "table1") == ()


def test_another_network_touches_the_tables_that_train_it_and_no_other() -> None:
    plan = deviating({"networks.r101.depth": 50})
    touched = {table for table in plan.tables if of(plan, table)}
    assert touched == {"table4", "table5"}  # the others are ResNet-50 alone


@pytest.mark.parametrize("switch", ["channels_last", "compile"])
def test_a_switch_that_keeps_float32_is_no_deviation(switch: str) -> None:
    assert of(deviating({f"runtime.{switch}": True}), "table1") == ()


def test_images_of_another_size_touch_their_own_data_set_alone() -> None:
    plan = deviating({"sizes.image_scale.voc": [1333, 800]})
    (sentence,) = of(plan, "table4")
    assert "image scale: 1333, 800 instead of 1000, 600 (section 4), on voc" in sentence
    assert of(plan, "table5") == ()


@pytest.mark.parametrize("scale", ["smoke", "mini"])
def test_the_small_scales_deviate_in_everything_and_list_nothing(scale: str) -> None:
    assert of(load_plan({"scale": scale}), "table1") == ()


# --- where they are said -----------------------------------------------------------------------


def test_a_deviation_of_all_tables_is_printed_once() -> None:
    said = summary(load_plan({"scale": "paper"}))
    assert sum("GPUs that train one run" in line for line in said) == 1


@pytest.mark.parametrize("extension", ["md", "tex"])
def test_a_deviation_is_a_footnote_of_each_table_that_it_touches_and_of_no_other(
    tmp_path: Path, extension: str
) -> None:
    plan = plan_of(
        tmp_path,
        {"table1": TABLE, "table5": COCO_TABLE},
        scale="paper",
        label="x",
        change={"sizes.image_scale.voc": [1333, 800]},
    )
    frame = collect(plan)
    voc, coco = (tables.render(plan, plan.tables[name], frame) for name in ("table1", "table5"))
    assert "Deviates from the paper: image scale: 1333, 800" in voc[extension]
    assert "Deviates from the paper: GPUs" in voc[extension]
    assert "Deviates from the paper: image scale" not in coco[extension]
    assert "Deviates from the paper: GPUs" in coco[extension]


def test_a_deviation_is_in_the_caption_of_a_figure(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {"figure5": FIGURE}, scale="paper")
    figure(plan, "figure5", collect(plan), tmp_path)
    text = read_caption(tmp_path / "figure5.svg").text
    assert "Deviates from the paper: GPUs that train one run: 1 instead of 2" in text


def test_a_table_is_written_again_when_its_deviations_change() -> None:
    one, two = (load_plan({"scale": "paper", "gpus_per_run": gpus}) for gpus in (1, 2))
    assert one.table_digest("table1") != two.table_digest("table1")


# --- GPUs, batch and learning rate -------------------------------------------------------------


def test_the_number_of_gpus_renames_no_run() -> None:
    assert set(load_plan({"scale": "paper"}).runs) == set(deviating().runs)


def test_the_learning_rate_is_scaled_only_when_asked() -> None:
    batch = {"schedule.batch_size": 16}
    left, scaled = deviating(batch), deviating(batch, scale_lr=True)
    assert left.scale.schedule.lr == 0.005
    assert scaled.scale.schedule.lr == pytest.approx(0.02)  # 0.005 x 16 / 4
    assert not set(left.runs) & set(scaled.runs)


def test_a_scaled_learning_rate_is_said_to_be_one() -> None:
    plan = deviating({"schedule.batch_size": 16}, scale_lr=True)
    assert (
        "deviates from the paper: learning rate: 0.02 instead of 0.005 (section 4), "
        "scaled with the images a step"
    ) in of(plan, "table1")


def test_scaling_for_the_paper_s_own_batch_renames_no_run() -> None:
    assert set(deviating(scale_lr=True).runs) == set(deviating().runs)


def test_a_scale_with_a_learning_rate_of_its_own_is_not_scaled() -> None:
    with pytest.raises(ConfigError, match="scale_lr: scale mini has a learning rate of its own"):
        load_plan({"scale": "mini", "scale_lr": True})

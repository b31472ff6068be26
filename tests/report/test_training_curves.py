"""Training curves: what is read from a log, from which trainings, and the files."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pandas as pd
import pytest
from report_fixtures import fail, plan_of, run_folder, trained

from obc.cli.main import main
from obc.config.plan import Plan
from obc.report.figures.training_curves import (
    LogError,
    curves,
    draw,
    read_curve,
    relative,
)

TABLE = """
title: Components
section: "4.1"
dataset: voc
metrics: [AP]
common: {detector: faster_rcnn, backbone: r50}
rows:
  - {label: Regression, box: {loss: smooth_l1}}
  - {label: Bins, box: {loss: offset_bin}, decode: argmax}
  - {label: Bins, box: {loss: offset_bin}}
  - {label: Known, cited: true, paper: [30.0]}
"""
HEADER = "\n== obc train voc-faster-r50 seed 0, 2026-11-24 10:46:21\n"
CPU = (
    "11/24 10:47:22 - mmengine - INFO - Epoch(train) [{epoch}][{at:>3}/113]  lr: {lr:.4e}  eta: "
    "0:00:44  time: 0.1227  data_time: 0.0066  grad_norm: 2.0615  loss: {loss:.4f}  loss_rpn_cls: "
    "0.0088  loss_rpn_bbox: 0.0030  loss_cls: 0.4518  acc: 82.5521  loss_bbox: {box:.4f}\n"
)
# As MMEngine logs on a GPU, a cascade in more than nine epochs.
GPU_CASCADE = (
    "2026/11/24 10:47:22 - mmengine - INFO - Epoch(train) [10][  50/4138]  base_lr: 2.0000e-02 "
    "lr: 5.0000e-03  eta: 1 day, 0:00:44  time: 0.1227  data_time: 0.0066  memory: 3512  "
    "grad_norm: 2.0615  loss: 1.5000  loss_rpn_bbox: 0.0030  s0.loss_cls: 0.4  s0.acc: 82.5  "
    "s0.loss_bbox: 0.5000  s1.loss_cls: 0.2  s1.loss_bbox: 0.2500\n"
)


def line(epoch: int, at: int, loss: float = 2.5, box: float = 2.0, lr: float = 0.04) -> str:
    return CPU.format(epoch=epoch, at=at, loss=loss, box=box, lr=lr)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log.txt"


# --- a log -------------------------------------------------------------------------------------


def test_a_logged_line_is_a_point_counted_over_the_epochs(log: Path) -> None:
    log.write_text(
        HEADER + "Config:\nloss: x\n" + line(1, 20, lr=0.008) + line(2, 20, 2.25, 1.75),
        encoding="utf-8",
    )
    assert read_curve(log).to_dict("list") == {
        "iteration": [20, 133],
        "lr": [0.008, 0.04],
        "loss": [2.5, 2.25],
        "loss_bbox": [2.0, 1.75],
    }


def test_the_box_losses_of_a_cascade_are_added(log: Path) -> None:
    log.write_text(GPU_CASCADE, encoding="utf-8")
    assert read_curve(log).values.tolist() == [[9 * 4138 + 50, 0.005, 1.5, 0.75]]


def test_a_training_without_a_box_loss_has_none(log: Path) -> None:
    log.write_text(line(1, 20).replace("  loss_bbox: 2.0000", ""), encoding="utf-8")
    assert math.isnan(read_curve(log)["loss_bbox"].item())


def test_going_on_from_a_checkpoint_replaces_what_was_lost(log: Path) -> None:
    killed = line(1, 20, 9.0) + line(1, 40, 8.0) + line(1, 60, 7.0)
    log.write_text(HEADER + killed + HEADER + line(1, 40, 6.0) + line(1, 60, 5.0), encoding="utf-8")
    assert read_curve(log)["loss"].tolist() == [9.0, 6.0, 5.0]


def test_starting_over_replaces_everything(log: Path) -> None:
    log.write_text(
        HEADER + line(1, 20, 9.0) + line(1, 40, 8.0) + HEADER + line(1, 20, 7.0), encoding="utf-8"
    )
    assert read_curve(log)["loss"].tolist() == [7.0]


def test_a_log_without_a_curve_is_named(log: Path) -> None:
    with pytest.raises(LogError, match=r"log\.txt: cannot be read"):
        read_curve(log)
    log.write_text(HEADER, encoding="utf-8")
    with pytest.raises(LogError, match=r"log\.txt: no line of a training iteration"):
        read_curve(log)


# --- the trainings of a table ------------------------------------------------------------------


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Regression is trained with two seeds, bins with one and failed with the other."""
    plan = plan_of(tmp_path, {"table1": TABLE}, seeds=[0, 1])
    for row, seed, loss in ((0, 0, 1.0), (0, 1, 1.5), (1, 0, 3.0)):
        trained(plan, "table1", row, seed)
        text = line(1, 20, loss) + line(1, 40, loss / 2)
        (run_folder(plan, "table1", row, seed) / "log.txt").write_text(text)
    fail(plan, "table1", 1, seed=1)
    return plan


def test_each_training_is_there_once_however_many_rows_show_it(plan: Plan) -> None:
    frame, _ = curves(plan, plan.tables["table1"])
    assert frame[["label", "seed", "iteration", "loss"]].values.tolist() == [
        ["Regression", 0, 20, 1.0],
        ["Regression", 0, 40, 0.5],
        ["Regression", 1, 20, 1.5],
        ["Regression", 1, 40, 0.75],
        ["Bins, K = 1", 0, 20, 3.0],
        ["Bins, K = 1", 0, 40, 1.5],
    ]


def test_trainings_without_a_curve_say_why(plan: Plan) -> None:
    trained(plan, "table1", 0, 1, imported={"from": "elsewhere.pth"})
    run_ids = [plan.run_of(plan.tables["table1"].rows[row]).run_id for row in (0, 1)]
    _, missing = curves(plan, plan.tables["table1"])
    assert missing == [f"imported: {run_ids[0]} seed 1", f"failed: {run_ids[1]} seed 1"]


def test_losses_are_drawn_relative_to_their_first_value() -> None:
    curve = pd.DataFrame(
        {"iteration": [20, 40], "lr": [0.1, 0.1], "loss": [4.0, 1.0], "loss_bbox": [math.nan, 2.0]}
    )
    drawn = relative(curve)
    assert drawn["loss"].tolist() == [1.0, 0.25]
    assert drawn["loss_bbox"].tolist()[1:] == [1.0]
    assert drawn["lr"].tolist() == [0.1, 0.1]


def test_the_figure_is_drawn_with_its_points_beside_it(plan: Plan, tmp_path: Path) -> None:
    draw(plan, plan.tables["table1"], tmp_path / "out")
    names = [f"training_curves.{kind}" for kind in ("csv", "pdf", "png", "svg")]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    assert ElementTree.parse(tmp_path / "out/training_curves.svg").getroot().tag.endswith("svg")
    written = pd.read_csv(tmp_path / "out/training_curves.csv")
    frame, _ = curves(plan, plan.tables["table1"])
    pd.testing.assert_frame_equal(written, frame.reset_index(drop=True), check_dtype=False)


def test_the_command_draws_those_of_a_table_into_the_plan_s_figures(
    plan: Plan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan.save(tmp_path / "plan.json")
    command = ["figure", str(tmp_path / "plan.json"), "training_curves"]
    assert main(command) == 0
    assert (plan.results / "figures/training_curves.csv").exists()
    assert main([*command, "--table", "table9"]) == 1
    assert "no table or figure table9" in capsys.readouterr().err


def test_the_figure_of_no_training_is_drawn_too(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {"table1": TABLE})
    draw(plan, plan.tables["table1"], tmp_path / "out")
    assert (tmp_path / "out/training_curves.png").exists()

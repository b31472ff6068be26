"""What `obc plan` says a plan costs, and where it has that from."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from report_fixtures import BEYOND, TABLE, measure, plan_of, run_folder, trained

from obc.cli.main import main
from obc.config.plan import Plan
from obc.io.typed_yaml import ConfigError
from obc.operations.costs import DEVICES, START_SECONDS, bytes_to_come, costs, finished_rates
from obc.operations.flops import evaluation_flops, parameters, training_flops
from obc.operations.plan_page import report

OTHER = TABLE.replace("loss: l2", "loss: smooth_l1, beta: 2.0")
CLASSES = 20


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Two tables at scale `paper` that share two of their three rows."""
    return plan_of(tmp_path, {"table1": TABLE, "table2": OTHER}, scale="paper")


def finish(plan: Plan, row: int, **record: Any) -> None:
    """A finished run as its record says, evaluated."""
    run = plan.run_of(plan.tables["table1"].rows[row]).resolved
    measure(plan, "table1", row, {"AP": 1.0, "AP_S": 1.0})
    trained(plan, "table1", row, resolved=run.model_dump(mode="json"), **record)


def cost(plan: Plan, row: int, gpu: str | None = None) -> Any:
    run_id = plan.run_of(plan.tables["table1"].rows[row]).run_id
    return next(found for found in costs(plan, gpu) if found.run_id == run_id)


def flops(plan: Plan, row: int) -> float:
    """Operations of 12 epochs over VOC 07+12 and of an evaluation on 2007's test images."""
    run = plan.run_of(plan.tables["table1"].rows[row]).resolved
    return 12 * 16551 * training_flops(run, CLASSES, True) + 4952 * evaluation_flops(
        run, CLASSES, True
    )


def test_without_history_a_device_s_stated_throughput_counts(plan: Plan) -> None:
    found = cost(plan, 2, "v100")
    expected = flops(plan, 2) / (15.7e12 * 0.54) + 2 * START_SECONDS
    assert found.basis == "estimated"
    assert found.seconds == pytest.approx(expected)


def test_the_stated_throughput_of_a_v100_is_torchvision_s() -> None:
    # Its Faster R-CNN R50: two images of 1333 x 800 in 0.2288 s, 968 GFLOP each in training.
    assert DEVICES["v100"].flops_per_second == pytest.approx(2 * 968e9 / 0.2288, rel=0.01)


def test_a_finished_run_takes_what_it_took_and_tells_the_time_of_the_same_network(
    plan: Plan,
) -> None:
    finish(plan, 0, seconds=7200.0, images_per_second=50.0, hardware={"gpu": "NVIDIA H100 80GB"})
    done, alike = cost(plan, 0), cost(plan, 1)
    assert (done.basis, done.seconds) == ("done", 7200.0)
    assert alike.basis == "measured"
    # 12 epochs at 50 images/s, and an evaluation, which is some percent of that.
    assert 12 * 16551 / 50 < alike.seconds < 1.05 * 12 * 16551 / 50


def test_another_network_is_scaled_from_what_was_measured(tmp_path: Path) -> None:
    text = TABLE.replace("- label: Bins\n", "- label: Bins\n    backbone: r101\n")
    plan = plan_of(tmp_path, {"table1": text}, scale="paper")
    finish(plan, 0, seconds=1.0, images_per_second=50.0, hardware={"gpu": "NVIDIA H100"})
    r50, r101 = (plan.run_of(plan.tables["table1"].rows[row]).resolved for row in (0, 2))
    throughput = 50 * training_flops(r50, CLASSES, True)
    found = cost(plan, 2)
    assert r101.network.depth == 101
    assert found.basis == "scaled"
    assert found.seconds == pytest.approx(flops(plan, 2) / throughput + 2 * START_SECONDS)


@pytest.mark.parametrize(
    ("gpu", "basis"), [("h100", "measured"), ("a100", "estimated"), ("cpu", "estimated")]
)
def test_history_of_another_device_does_not_count(plan: Plan, gpu: str, basis: str) -> None:
    finish(plan, 0, seconds=1.0, images_per_second=50.0, hardware={"gpu": "NVIDIA H100 80GB"})
    assert cost(plan, 1, gpu).basis == basis


def test_several_processes_of_a_run_are_several_devices(plan: Plan) -> None:
    history = {"images_per_second": 50.0, "hardware": {"gpu": "NVIDIA H100"}}
    finish(plan, 0, seconds=100.0, processes=1, **history)
    one = cost(plan, 1).seconds
    finish(plan, 0, seconds=100.0, processes=2, **history)
    assert cost(plan, 0).seconds == 200.0
    assert cost(plan, 1).seconds - 2 * START_SECONDS == pytest.approx(2 * (one - 2 * START_SECONDS))


@pytest.mark.parametrize("spoilt", ['{"images_per_second": 5}', "{", '{"resolved": {"spec": 1}}'])
def test_records_of_older_code_and_damaged_ones_are_no_history(plan: Plan, spoilt: str) -> None:
    finish(plan, 0, images_per_second=50.0)
    (run_folder(plan, "table1", 0) / "run.json").write_text(spoilt)
    assert cost(plan, 1).basis == "estimated"


def test_history_on_data_that_the_scale_has_no_more_does_not_count(plan: Plan) -> None:
    finish(plan, 0, images_per_second=50.0, hardware={"gpu": "NVIDIA H100"})
    without = plan.scale.model_copy(update={"data": {"coco": plan.scale.data["coco"]}})
    assert finished_rates(plan)
    assert finished_rates(plan.model_copy(update={"scale": without})) == []


def test_imported_weights_cost_nothing_and_are_no_history(plan: Plan) -> None:
    finish(plan, 0, seconds=None, images_per_second=None, imported={"path": "mine.pth"})
    assert (cost(plan, 0).basis, cost(plan, 0).seconds) == ("done", 0.0)
    assert cost(plan, 1).basis == "estimated"
    assert (cost(plan, 0, "h100").basis, cost(plan, 0, "h100").seconds) == ("done", 0.0)


def test_hours_of_another_kind_of_device_are_estimated_for_the_one_asked_for(plan: Plan) -> None:
    expected = cost(plan, 0, "h100").seconds
    finish(plan, 0, seconds=9e9, images_per_second=0.1, hardware={"gpu": None})
    for gpu, basis in (("h100", "estimated"), (None, "estimated"), ("cpu", "done")):
        assert (cost(plan, 0, gpu).done, cost(plan, 0, gpu).basis) == (True, basis)
    assert cost(plan, 0, "h100").seconds == expected
    page = report(plan, ["table1"], "h100")
    *_, done, hours, to_do, _, _ = line(page, "table1")
    assert done == "1"
    assert 0 < float(to_do) < float(hours) < 1000
    assert "Hours: 3 estimated for one h100" in page
    assert line(page, cost(plan, 0).run_id)[-2:] == ["estimated,", "done"]


def test_a_run_is_done_without_decodings_for_tables_beyond_the_paper_only(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {"table1": TABLE, "more": BEYOND}, scale="paper")
    finish(plan, 2)
    assert plan.run_of(plan.tables["table1"].rows[2]).decodes == ("argmax", "expectation")
    assert cost(plan, 2).done
    assert line(report(plan, ["table1"]), "table1")[4] == "1"
    before = bytes_to_come(plan, at_once=1)
    run_folder(plan, "more", 1)  # a run of the table's own begins: `argmax` is asked for
    assert not cost(plan, 2).done
    assert bytes_to_come(plan, at_once=1) > before


def test_disk_is_weights_and_detections_and_while_training_checkpoints(plan: Plan) -> None:
    run = plan.run_of(plan.tables["table1"].rows[2]).resolved
    weights = 4 * parameters(run, CLASSES)
    found = cost(plan, 2)
    # At most 100 detections of 23 bytes on each of 4952 images. Weights and momentum three times:
    # two checkpoints are kept, and the older one until the next is written.
    assert found.disk == weights + 4952 * 100 * 23
    assert found.peak_disk == 3 * 2 * weights


def test_disk_to_come_is_of_all_and_of_the_largest_in_progress(plan: Plan) -> None:
    peaks = sorted(one.peak_disk for one in costs(plan))
    stays = sum(one.disk for one in costs(plan))
    assert bytes_to_come(plan, at_once=1) == stays + peaks[-1]
    assert bytes_to_come(plan, at_once=2) == stays + peaks[-1] + peaks[-2]
    assert bytes_to_come(plan, at_once=99) == stays + sum(peaks)


def test_a_folder_of_one_s_own_is_counted_when_it_is_indexed(plan: Plan) -> None:
    manifest = plan.index_folder("voc") / "manifest.json"
    manifest.parent.mkdir(parents=True)
    before = cost(plan, 0).seconds
    manifest.write_text(json.dumps({"splits": {"train": {"images": 1}, "val": {"images": 1}}}))
    assert cost(plan, 0).seconds < before / 1000 + 2 * START_SECONDS


# --- the page ----------------------------------------------------------------------------------


def line(page: str, name: str) -> list[str]:
    return next(line.split() for line in page.splitlines() if line.startswith(name))


def test_the_page_says_what_is_shared_and_what_that_spares(plan: Plan) -> None:
    page = report(plan, plan.tables, "h100")
    # Rows, trainings, of which another table reads two, of which none is done.
    assert line(page, "table1")[1:5] == ["3", "3", "2", "0"]
    assert line(page, "together")[1:4] == ["6", "4", "0"]
    assert "one training: 4 in place of 6, " in page
    assert "4 estimated for one h100 at 24.8 TFLOP/s, 5% of its peak" in page


def test_what_sharing_spares_is_of_the_seeds_that_each_table_asks_for(tmp_path: Path) -> None:
    tables = {"table1": TABLE, "table2": OTHER}
    seeds = {"default": [0], "table1": [0, 1, 2]}
    plan = plan_of(tmp_path, tables, scale="paper", seeds=seeds)
    # table1: 3 runs with 3 seeds. table2: one run more; two it shares, with one of their seeds.
    assert "one training: 10 in place of 12, " in report(plan, plan.tables)


def test_the_page_counts_what_is_done(plan: Plan) -> None:
    finish(plan, 0, seconds=36000.0, images_per_second=50.0, hardware={"gpu": "H100"})
    page = report(plan, ["table1"])
    _, rows, trainings, shared, done, hours, to_do, *_ = line(page, "table1")
    assert (rows, trainings, shared, done) == ("3", "3", "2", "1")
    assert float(hours) == pytest.approx(float(to_do) + 10, abs=1)
    assert "Hours: 1 as they took; 2 by images/s of finished runs of the same network" in page


def test_a_cpu_scale_has_core_hours_and_starting_weights(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {"table1": TABLE})
    page = report(plan, ["table1"])
    assert "core hours" in page
    assert line(page, "starting weights")[2] == "1"


def test_a_figure_that_is_not_asked_for_is_left_out(plan: Plan) -> None:
    page = report(plan, ["table2"])
    assert "table1 " not in page.splitlines()[1]
    assert line(page, "together")[1:3] == ["3", "3"]


@pytest.mark.parametrize(
    ("tables", "gpu", "message"),
    [
        (["table9"], None, "--table table9: no such table; allowed: table1, table2"),
        (["table1"], "h1000", "--gpu h1000: not known; allowed: v100, "),
    ],
)
def test_unknown_tables_and_devices_are_refused(
    plan: Plan, tables: list[str], gpu: str | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        report(plan, tables, gpu)


def test_the_command_takes_a_scale_and_tables_by_number(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["plan", "--scale", "paper", "--table", "3", "figure5", "--gpu", "h100"]) == 0
    page = capsys.readouterr().out
    assert page.startswith("The paper's own setting")
    assert "table3 " in page and "figure5 " in page and "table5 " not in page


def test_the_command_writes_only_whole_plans(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "--table", "3", "--out", str(tmp_path / "plan.json")]) == 1
    assert "--out writes the whole plan" in capsys.readouterr().err


def test_a_plan_and_a_status_need_neither_torch_nor_pandas() -> None:
    code = (
        "import sys; from obc.cli.main import main; main(['plan', '--scale', 'paper']);"
        "import obc.operations.status, obc.operations.why;"
        "print({'torch', 'mmdet', 'pandas', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("set()")

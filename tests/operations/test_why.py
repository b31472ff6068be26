"""The one screen of `obc why`: each cause is named, with the command that mends it."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from report_fixtures import BEYOND, TABLE, fail, measure, plan_of, run_folder, trained

from obc.cli.main import main
from obc.config.plan import Plan
from obc.config.run_folder import RunFolder
from obc.io.typed_yaml import ConfigError
from obc.operations.why import explain_run, find_run, last_lines
from obc.runs.lock import training_lock
from obc.runs.records import failure_noted

FILE = Path("results/smoke/plan.json")


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return plan_of(tmp_path, {"loss_table": TABLE})


def why(plan: Plan, row: int, seed: int | None = None) -> str:
    return explain_run(plan, FILE, plan.run_of(plan.tables["loss_table"].rows[row]).run_id, seed)


def note(plan: Plan, row: int, name: str, content: Any) -> None:
    work = run_folder(plan, "loss_table", row) / "work"
    work.mkdir(exist_ok=True)
    (work / name).write_text(json.dumps(content))


def test_a_run_is_named_by_an_unambiguous_beginning(plan: Plan) -> None:
    (l2,) = (run_id for run_id in plan.runs if "-l2-" in run_id)
    assert find_run(plan, "voc-faster-r50-l2") == l2
    assert find_run(plan, l2) == l2
    with pytest.raises(ConfigError, match="several runs start with 'voc'") as error:
        find_run(plan, "voc")
    assert l2 in str(error.value)
    with pytest.raises(ConfigError, match="no run starts with 'coco'"):
        find_run(plan, "coco")


def test_a_run_that_never_started_says_what_it_waits_for(plan: Plan) -> None:
    page = why(plan, 0)
    assert ": waiting  (for loss_table)" in page
    assert "it waits for data voc (not checked and indexed yet" in page
    assert f"starting weights {next(iter(plan.initial_runs))} (not run)" in page


def test_a_run_names_what_is_to_be_fetched_for_it(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    shutil.copy("config/datasets.yaml", tmp_path / "config")
    plan = plan_of(tmp_path, {"loss_table": TABLE}, scale="paper")
    page = why(plan, 0)
    for name in ("voc2007", "voc2012", "resnet50"):
        assert f"{name}, which `obc fetch {name}` gets" in page
    assert "coco" not in page and "resnet101" not in page


def test_a_run_that_could_start_says_so(plan: Plan) -> None:
    for path in (
        plan.index_folder("voc") / "manifest.json",
        plan.initial_weights(next(iter(plan.runs)), 0),
    ):
        path.parent.mkdir(parents=True)
        path.touch()
    assert "never started; all that it needs is there" in why(plan, 0)


def test_a_failed_run_shows_error_exit_status_job_checkpoint_and_log(plan: Plan) -> None:
    log = fail(plan, "loss_table", 0)
    log.write_text("".join(f"line {index}\n" for index in range(100)))
    for iteration in (900, 1000):
        (log.parent / "work" / f"iteration_{iteration}.pth").touch()
    note(plan, 0, "sessions.json", [{"started": "t", "host": "node3", "job": "4711"}])
    page = why(plan, 0)
    assert "why: NonFiniteLoss: iteration 12" in page
    assert "exit status: 1 (error)" in page
    assert "SLURM job: 4711" in page and "on node3" in page
    assert f"checkpoint: {log.parent / 'work/iteration_1000.pth'}" in page
    assert "| line 99" in page and "| line 88" in page and "| line 87" not in page


def test_the_command_to_try_again_plans_the_same(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {"loss_table": TABLE}, seeds=[0, 1], label="pilot")
    target = run_folder(plan, "loss_table", 2, seed=1) / "metrics.expectation.json"
    page = why(plan, 2, seed=1)
    assert f"snakemake --cores 1 {target} --config scale=smoke 'seeds=[0,1]'" in page
    assert "label=pilot" in page
    assert f"obc train {FILE} {target.parent.parent.name} --seed 1" in page


def test_a_run_stopped_by_a_signal_says_where_it_goes_on(plan: Plan) -> None:
    note(plan, 0, "interrupted.json", {"signal": "SIGTERM", "iteration": 1000, "time": "noon"})
    (run_folder(plan, "loss_table", 0) / "work" / "iteration_1000.pth").touch()
    page = why(plan, 0)
    assert "why: stopped by SIGTERM after iteration 1000 (noon)" in page
    assert "exit status: 143 (SIGTERM, saved)" in page
    assert "work/iteration_1000.pth" in page


def test_a_run_that_was_killed_says_what_that_may_have_been(plan: Plan) -> None:
    note(plan, 0, "sessions.json", [{"resumed_from": 0}])
    assert "killed without a note: SIGKILL, out of memory or power loss" in why(plan, 0)
    assert "checkpoint: none: it would start over" in why(plan, 0)


def test_a_running_one_needs_no_command(plan: Plan) -> None:
    with training_lock(RunFolder(run_folder(plan, "loss_table", 0))):
        page = why(plan, 0)
    assert "it is being trained" in page
    assert "try again" not in page


def test_a_trained_one_without_numbers_is_to_be_evaluated(plan: Plan) -> None:
    trained(plan, "loss_table", 2)
    page = why(plan, 2)
    assert "why: not evaluated: expectation" in page
    assert "obc evaluate" in page and "--decode expectation" in page


def test_a_done_one_needs_no_command(plan: Plan) -> None:
    measure(plan, "loss_table", 0, {"AP": 1.0})
    page = why(plan, 0)
    assert "why: nothing is missing" in page
    assert "try again" not in page


def test_decodings_for_a_table_that_has_not_begun_are_not_missing(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {"loss_table": TABLE, "more": BEYOND})
    page = why(plan, 2)
    assert "metrics.expectation.json" in page and "metrics.argmax.json" not in page
    measure(plan, "loss_table", 2, {"AP": 1.0})
    assert ": done" in why(plan, 2)
    assert "why: nothing is missing" in why(plan, 2)


def test_a_run_of_a_table_that_has_not_begun_is_explained(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {"loss_table": TABLE, "more": BEYOND})
    own = plan.run_of(plan.tables["more"].rows[1]).run_id
    page = explain_run(plan, FILE, own)
    assert ": waiting  (for more)" in page
    assert f"runs/{own}/seed0/metrics.expectation.json" in page


def test_a_stale_one_says_what_changed_and_how_to_train_it_anew(plan: Plan) -> None:
    measure(plan, "loss_table", 0, {"AP": 1.0})
    trained(plan, "loss_table", 0, code={"training_code": "11112222"})
    folder = run_folder(plan, "loss_table", 0)
    page = why(plan, 0)
    assert ": done" in page
    assert "stale: made with other code than the present one" in page
    forced = f"{folder / 'metrics.regression.json'} --forcerun {folder / 'final.pth'} --config"
    assert forced in page
    assert f"obc train {FILE} {folder.parent.name} --seed 0 --again" in page


def test_a_record_that_cannot_be_read_says_how_to_train_it_anew(plan: Plan) -> None:
    measure(plan, "loss_table", 0, {"AP": 1.0})
    (run_folder(plan, "loss_table", 0) / "run.json").write_text('{"weights_sha')
    page = why(plan, 0)
    assert "run.json cannot be read" in page
    assert "--forcerun" in page and "--again" in page


@pytest.mark.parametrize("spoilt", ['{"weights_sha256": "others"}', '{"weights_sha', ""])
def test_metrics_of_other_weights_or_damaged_are_named_and_measured_anew(
    plan: Plan, spoilt: str
) -> None:
    metrics = measure(plan, "loss_table", 0, {"AP": 1.0})
    metrics.write_text(spoilt)
    page = why(plan, 0)
    assert "metrics.regression.json is of other weights or damaged" in page
    assert f"snakemake --cores 1 {metrics} --forcerun {metrics} --config" in page
    assert f"obc evaluate {FILE} {metrics.parent.parent.name} --seed 0 --decode regression" in page
    assert "obc train" not in page


def test_a_failed_evaluation_shows_error_log_and_command(plan: Plan) -> None:
    trained(plan, "loss_table", 2, sessions=[{"host": "node1", "job": "1"}])
    folder = run_folder(plan, "loss_table", 2)
    (folder / "evaluate.expectation.log").write_text("the last words\n")
    with suppress(RuntimeError), failure_noted(RunFolder(folder), "expectation"):
        raise RuntimeError("CUDA error")
    page = why(plan, 2)
    assert "why: evaluation (expectation): RuntimeError: CUDA error" in page
    assert "exit status: 1 (error)" in page
    assert "SLURM job: 1 " not in page  # the training's
    assert "| the last words" in page
    assert "obc evaluate" in page and "obc train" not in page


def test_the_first_seed_that_is_not_done_is_explained(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {"loss_table": TABLE}, seeds=[0, 5])
    measure(plan, "loss_table", 0, {"AP": 1.0}, seed=0)
    assert "seed 5: waiting" in why(plan, 0)
    with pytest.raises(ConfigError, match=r"--seed 1: .* is trained with 0, 5 only"):
        why(plan, 0, seed=1)


def test_a_log_that_is_no_text_and_has_no_line_ends_still_fits_a_screen(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_bytes(b"\xff\x00" * 100_000)
    assert [len(line) for line in last_lines(log)] == [160]


def test_the_command_prints_the_page_or_what_is_wrong(
    plan: Plan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "plan.json"
    plan.save(file)
    assert main(["why", str(file), "voc-faster-r50-l2"]) == 0
    assert "never started" in capsys.readouterr().out
    assert main(["why", str(file), "nothing"]) == 1
    assert "obc why: no run starts with 'nothing'" in capsys.readouterr().err

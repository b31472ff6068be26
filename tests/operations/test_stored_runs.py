"""Finished runs without weights in an archive, and back: Snakemake must take them for done."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from finished_runs import DATA, files_below, finish, write_data
from report_fixtures import TABLE, plan_of

from obc.config.plan import Plan
from obc.operations import stored_runs
from obc.operations.stored_runs import (
    CannotRestore,
    changed,
    finished_runs,
    restore,
    store,
    stored,
)
from obc.runs.status import has_weights, run_status


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """A plan of three runs; two of them, and their starting weights, are trained and evaluated."""
    plan = plan_of(tmp_path, {"table1": TABLE}, seeds=[0])
    write_data(plan)
    (initial,) = plan.initial_runs
    finish(plan, initial)
    for run_id in [*plan.runs][:2]:
        finish(plan, run_id)
    drawn = plan.results / "figures/stages.svg"
    drawn.parent.mkdir()
    drawn.write_text("<svg/>")
    return plan


@pytest.fixture
def archive(plan: Plan, tmp_path: Path) -> Path:
    path = tmp_path / "runs-1.tar.xz"
    store(plan, finished_runs(plan), path)
    return path


def elsewhere(plan: Plan) -> None:
    """The results folder as on another machine, whose data are indexed."""
    shutil.rmtree(plan.results)
    write_data(plan)


def test_all_files_come_back_but_the_weights(plan: Plan, archive: Path) -> None:
    before = files_below(plan.results / "runs")
    elsewhere(plan)
    restored = restore(plan, [archive])
    assert len(restored.written) == 3
    assert not restored.refused
    after = files_below(plan.results / "runs")
    gone = [name for name in before if name not in after]
    assert {Path(name).name for name in gone} == {"final.pth"}
    assert len(gone) == 2
    assert after == {name: before[name] for name in after}
    assert (plan.results / "figures/stages.svg").read_text() == "<svg/>"


def test_starting_weights_come_back_because_other_trainings_start_from_them(
    plan: Plan, archive: Path
) -> None:
    elsewhere(plan)
    restore(plan, [archive])
    (initial,) = plan.initial_runs
    assert has_weights(plan.run_folder(initial, 0))


def test_a_restored_run_is_trained_but_has_no_weights(plan: Plan, archive: Path) -> None:
    elsewhere(plan)
    restore(plan, [archive])
    first, _, third = plan.runs
    assert run_status(plan.run_folder(first, 0)) == "trained"
    assert not has_weights(plan.run_folder(first, 0))
    assert run_status(plan.run_folder(third, 0)) == "not run"


def test_no_restored_file_is_older_than_another_or_than_the_data(plan: Plan, archive: Path) -> None:
    elsewhere(plan)
    restore(plan, [archive])
    times = {path.stat().st_mtime_ns for path in (plan.results / "runs").rglob("*.*")}
    assert len(times) == 1
    manifests = (plan.results / "data").rglob("manifest.json")
    assert all(path.stat().st_mtime_ns <= min(times) for path in manifests)


def test_the_same_runs_are_the_same_bytes(plan: Plan, archive: Path, tmp_path: Path) -> None:
    store(plan, finished_runs(plan), tmp_path / "again.tar.xz")
    assert (tmp_path / "again.tar.xz").read_bytes() == archive.read_bytes()


def test_a_second_sitting_stores_only_what_is_new(
    plan: Plan, archive: Path, tmp_path: Path
) -> None:
    known = stored([archive])
    third = [*plan.runs][2]
    finish(plan, third)
    new = [key for key in finished_runs(plan) if key not in known]
    assert new == [(third, 0)]
    second = tmp_path / "runs-2.tar.xz"
    store(plan, new, second, [archive])
    assert stored([second]).keys() == {(third, 0)}
    elsewhere(plan)
    assert len(restore(plan, [archive, second]).written) == 4


def test_a_run_with_a_further_decoding_has_changed(tmp_path: Path) -> None:
    row = "  - {label: Bins, box: {loss: offset_bin}, decode: argmax}\n"
    plan = plan_of(tmp_path, {"table1": TABLE + row}, seeds=[0])
    (run_id,) = (name for name, run in plan.runs.items() if len(run.decodes) == 2)
    folder, archive = finish(plan, run_id).folder, tmp_path / "runs-1.tar.xz"
    further = folder.metrics("argmax")
    further.rename(tmp_path / further.name)
    store(plan, [(run_id, 0)], archive)
    files = stored([archive])[run_id, 0]
    assert not changed(plan, run_id, 0, files)
    (tmp_path / further.name).rename(further)
    assert changed(plan, run_id, 0, files)


def test_a_run_that_is_there_is_left_alone(plan: Plan, archive: Path) -> None:
    first, second, _ = plan.runs
    shutil.rmtree(plan.run_folder(first, 0).path)
    weights = plan.run_folder(second, 0).weights.read_bytes()
    restored = restore(plan, [archive])
    assert restored.written == [(first, 0)]
    assert (second, 0) in restored.there
    assert plan.run_folder(second, 0).weights.read_bytes() == weights


def test_runs_of_other_training_code_or_data_are_left_out(plan: Plan, tmp_path: Path) -> None:
    first, second, third = plan.runs
    for run_id in (first, second):
        shutil.rmtree(plan.run_folder(run_id, 0).path)
    code = {"commit": "c" * 40, "clean": True, "training_code": "00000000"}
    finish(plan, first, code=code)
    finish(plan, second, data={"sha256": "e" * 64})
    finish(plan, third)
    store(plan, finished_runs(plan), tmp_path / "runs-1.tar.xz")
    elsewhere(plan)
    restored = restore(plan, [tmp_path / "runs-1.tar.xz"])
    assert (third, 0) in restored.written
    reasons = {run_id: why for run_id, _, why in restored.refused}
    assert "other code than the present one" in reasons[first]
    assert f"other data than the present one ({DATA[:8]})" in reasons[second]
    assert not plan.run_folder(first, 0).path.exists()


def test_evaluations_of_other_code_are_refused(
    plan: Plan, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_runs, "EVALUATION_CODE", ("evaluation.metrics",))
    with pytest.raises(CannotRestore, match=r"runs-1.tar.xz: evaluated by other code"):
        restore(plan, [archive])


def test_an_archive_whose_runs_a_later_one_has_may_be_of_other_evaluation_code(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archives = [tmp_path / "runs-1.tar.xz", tmp_path / "runs-2.tar.xz"]
    runs = finished_runs(plan)
    with monkeypatch.context() as patch:
        patch.setattr(stored_runs, "EVALUATION_CODE", ("evaluation.metrics",))
        store(plan, runs, archives[0])
    again = [file for key in runs for file in plan.run_folder(*key).path.glob("metrics.*")]
    for path in again:
        path.write_text(json.dumps({**json.loads(path.read_text()), "metrics": {"AP": 41.0}}))
    store(plan, runs[1:], archives[1], archives[:1])  # all but the starting weights
    elsewhere(plan)
    assert restore(plan, archives).written == runs
    assert [json.loads(path.read_text())["metrics"] for path in again] == [{"AP": 41.0}] * 2


def test_without_indexed_data_nothing_is_restored_and_the_command_is_named(
    plan: Plan, archive: Path
) -> None:
    shutil.rmtree(plan.results)
    with pytest.raises(CannotRestore, match=r"manifest.json.*--until index start fetch"):
        restore(plan, [archive])
    assert not (plan.results / "runs").exists()


def test_an_import_that_failed_is_completed_by_the_next(
    plan: Plan, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files_below(plan.results)
    elsewhere(plan)

    def full(content: bytes) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(stored_runs, "unpack", full)
        restore(plan, [archive])
    first, second, _ = plan.runs
    assert [*plan.run_folder(first, 0).path.glob("*.py")]  # half a run
    assert {key[0] for key in restore(plan, [archive]).written} == {first, second}
    after = files_below(plan.results)
    assert {Path(name).name for name in before if name not in after} == {"final.pth"}


def test_figures_that_a_failed_import_lacks_come_with_the_next(plan: Plan, archive: Path) -> None:
    elsewhere(plan)
    restore(plan, [archive])
    drawn = plan.results / "figures/stages.svg"
    drawn.unlink()
    assert not restore(plan, [archive]).written
    assert drawn.exists()


def test_a_damaged_archive_is_named(plan: Plan, archive: Path) -> None:
    archive.write_bytes(archive.read_bytes()[:-100])
    with pytest.raises(CannotRestore, match=r"runs-1\.tar\.xz: cannot be read"):
        restore(plan, [archive])

"""Own weights as a run: what is accepted, what is refused and why, and that nothing retrains it."""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import BIN, PROJECT
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from report_fixtures import TABLE, measure, plan_of, run_folder, trained
from torch import Tensor

from obc.cli.main import main
from obc.config.plan import Plan
from obc.config.run_folder import RunFolder
from obc.detector.model_config import model_config
from obc.io.files import file_sha256
from obc.operations.import_weights import NotAStateDict, read_state_dict
from obc.runs.lock import training_lock
from obc.runs.records import is_imported
from obc.runs.staleness import weights_notes

ROW = 2
CLASSES = list("abcd")


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """A plan whose data are indexed as far as an import looks."""
    plan = plan_of(tmp_path, {"loss_table": TABLE})
    plan.save(plan.results / "plan.json")
    manifest = plan.index_folder("voc") / "manifest.json"
    manifest.parent.mkdir(parents=True)
    content = {"root": "images", "classes": CLASSES, "sha256": "data", "splits": {}}
    manifest.write_text(json.dumps(content))
    return plan


@pytest.fixture
def weights(plan: Plan) -> dict[str, Tensor]:
    """Random weights of the model of ROW."""
    register_all_modules(init_default_scope=True)
    run = plan.run_of(plan.tables["loss_table"].rows[ROW]).resolved
    return MODELS.build(model_config(run, len(CLASSES))).state_dict()


def bring(plan: Plan, content: Any, *options: str) -> tuple[int, Path]:
    """Save a checkpoint, import it as ROW; the exit status and the run's folder."""
    checkpoint = plan.results / "mine.pth"
    torch.save(content, checkpoint)
    folder = run_folder(plan, "loss_table", ROW)
    file = str(plan.results / "plan.json")
    arguments = ["import", str(checkpoint), "--plan", file, "--run", folder.parent.name]
    return main([*arguments, *options]), folder


def test_a_state_dict_becomes_the_weights_config_and_record_of_a_run(
    plan: Plan, weights: dict[str, Tensor]
) -> None:
    status, folder = bring(plan, weights)
    assert status == 0
    written = torch.load(folder / "final.pth", weights_only=True)
    assert list(written) == list(weights)
    assert all(torch.equal(written[name], weights[name]) for name in weights)
    assert Config.fromfile(folder / "config.py").model.roi_head.bbox_head.num_classes == 4
    record = json.loads((folder / "run.json").read_text())
    assert record["imported"]["path"] == str(plan.results / "mine.pth")
    assert record["imported"]["sha256"] == file_sha256(plan.results / "mine.pth")
    assert record["weights_sha256"] == file_sha256(folder / "final.pth")
    assert record["run_id"] == folder.parent.name
    assert (record["seconds"], record["images_per_second"]) == (None, None)
    assert record["data"]["sha256"] == "data"
    assert not (folder / "work").exists()


def test_a_training_that_is_not_finished_keeps_its_checkpoint_unless_told_otherwise(
    plan: Plan, weights: dict[str, Tensor], capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = run_folder(plan, "loss_table", ROW) / "work/iteration_7.pth"
    checkpoint.parent.mkdir()
    checkpoint.touch()
    status, folder = bring(plan, weights)
    assert status == 1
    assert f"{checkpoint}: a training that is not finished" in capsys.readouterr().err
    assert checkpoint.exists() and not (folder / "final.pth").exists()
    assert bring(plan, weights, "--again")[0] == 0
    assert not checkpoint.exists()


def test_mmengine_s_checkpoint_is_read_without_making_its_log_objects(
    plan: Plan, weights: dict[str, Tensor]
) -> None:
    history = HistoryBuffer()
    history.update(1.0)
    beside = {"message_hub": {"loss": history, "last": np.float64(2.0)}, "meta": {"epoch": 12}}
    status, folder = bring(plan, {"state_dict": weights, **beside})
    assert status == 0
    assert is_imported(RunFolder(folder))


class Malicious:
    def __reduce__(self) -> tuple[Callable, tuple[str]]:
        return (print, ("this must not run",))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (torch.nn.Linear(2, 2), r"holds Python objects \(torch.nn.modules.linear.Linear\)"),
        ({"a": Malicious()}, r"holds Python objects \(print\)"),
        ([1, 2], "holds a list, allowed is a dict of tensors"),
        ({}, "holds a dict"),
        ({"epoch": 3, "a": torch.ones(1)}, r"1 of its entries are no tensors: epoch \(int\)"),
        ({"state_dict": {"a": "text"}}, r"1 of its entries are no tensors: a \(str\)"),
    ],
)
def test_what_is_no_plain_state_dict_is_refused_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: Any, reason: str
) -> None:
    torch.save(content, tmp_path / "mine.pth")
    with pytest.raises(NotAStateDict, match=reason):
        read_state_dict(tmp_path / "mine.pth")
    assert capsys.readouterr().out == ""


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("spoil", ["text", "pickle", "cut", "absent"])
def test_a_file_that_torch_did_not_write_is_refused(tmp_path: Path, spoil: str) -> None:
    path = tmp_path / "mine.pth"
    torch.save({"a": torch.ones(100)}, path)
    contents = {
        "text": b"hello",
        "pickle": pickle.dumps({"a": np.ones(3)}),
        "cut": path.read_bytes()[:300],
    }
    path.unlink() if spoil == "absent" else path.write_bytes(contents[spoil])
    with pytest.raises(NotAStateDict, match=str(path)):
        read_state_dict(path)


def test_other_names_and_shapes_are_listed_and_nothing_is_written(
    plan: Plan, weights: dict[str, Tensor], capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, *_ = weights
    others = {**weights, "extra.weight": torch.ones(1), second: torch.ones(9, 9)}
    del others[first]
    status, folder = bring(plan, others)
    said = capsys.readouterr().err
    assert status == 1
    assert f"1 missing: {first}" in said
    assert "1 unexpected: extra.weight" in said
    assert (
        f"1 of another shape: {second} (9, 9), the run has {tuple(weights[second].shape)}" in said
    )
    assert not (folder / "final.pth").exists()


def test_only_the_first_few_of_many_differences_are_listed(
    plan: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    bring(plan, {"a": torch.ones(1)})
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "missing" in line)
    assert line.count(",") == 5
    assert line.endswith(", ..")


def test_trained_weights_are_replaced_only_when_that_is_said(
    plan: Plan, weights: dict[str, Tensor], capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = measure(plan, "loss_table", ROW, {"AP": 1.0})
    former = RunFolder(metrics.parent)
    for path in (former.log, former.benchmark):
        path.touch()
    assert bring(plan, weights)[0] == 1
    assert "--again replaces them" in capsys.readouterr().err
    assert bring(plan, weights, "--again")[0] == 0
    for path in (metrics, former.log, former.benchmark):
        assert not path.exists()  # it was of the weights before
    assert bring(plan, weights)[0] == 0  # imported ones are the user's own


def test_a_work_folder_that_cannot_be_removed_yet_is_no_error(
    plan: Plan, weights: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.rmdir

    def rmdir(path: Any, **options: Any) -> None:
        if Path(path).name == "work":  # as on NFS, where the open lock keeps a name
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), str(path))
        real(path, **options)

    monkeypatch.setattr(os, "rmdir", rmdir)
    status, folder = bring(plan, weights)
    assert status == 0
    assert is_imported(RunFolder(folder))


def test_a_seed_that_no_row_reads_is_refused(
    plan: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bring(plan, {"a": torch.ones(1)}, "--seed", "7")[0] == 1
    assert "seed 7: no row of the plan's tables reads it" in capsys.readouterr().err


def test_a_run_that_is_being_trained_is_left_alone(
    plan: Plan, weights: dict[str, Tensor], capsys: pytest.CaptureFixture[str]
) -> None:
    with training_lock(RunFolder(run_folder(plan, "loss_table", ROW))):
        assert bring(plan, weights)[0] == 1
    assert "another process is training this run" in capsys.readouterr().err


def test_tables_say_how_many_rows_weights_were_imported(plan: Plan) -> None:
    for row in range(3):
        trained(plan, "loss_table", row)
    own = {"imported": {"path": "mine.pth"}, "code": {"training_code": "of another"}}
    trained(plan, "loss_table", ROW, **own)
    imported = [note for note in weights_notes(plan, plan.tables["loss_table"]) if "import" in note]
    (note,) = imported
    assert note.startswith("1 of 3 rows' weights were imported")
    # Weights from elsewhere are not of an older version of this code.
    assert not [note for note in weights_notes(plan, plan.tables["loss_table"]) if "code" in note]


def test_snakemake_evaluates_imported_weights_and_never_trains_over_them(
    plan: Plan, tmp_path: Path
) -> None:
    for name in ("Snakefile", "workflow", "config/config.yaml", "config/datasets.yaml"):
        copy = shutil.copytree if (PROJECT / name).is_dir() else shutil.copy
        copy(PROJECT / name, tmp_path / name)
    trained(plan, "loss_table", ROW, imported={"path": "mine.pth"})
    folder = run_folder(plan, "loss_table", ROW)
    os.utime(folder / "final.pth", (1, 1))  # older than its data, which would be a reason to train
    done = subprocess.run(
        [BIN / "snakemake", "-n", "--quiet", "host", "--config", "scale=smoke",
         f"results={plan.results.parent}",
         "--", str(folder / "metrics.expectation.json")],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    assert "rule evaluate:" in output
    assert "rule train:" not in output

"""`obc export --format coco`: what pycocotools and MMDetection's analysis tools open."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import mmdet
import pytest
from coco_reference import reference
from conftest import ENVIRONMENT, PATIENCE
from evaluation_fixtures import detect, index, near, plan_with_table, shapes
from pycocotools.coco import COCO

from obc.cli.main import main
from obc.config.plan import Plan
from obc.evaluation.coco_export import published_ids
from obc.evaluation.metrics import average_precision


def exported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The two files of row 1, whose images and categories have other ids in the data set."""
    plan, truth = plan_with_table(folder), shapes()
    for image in truth["images"]:
        image |= {"file_name": f"{image['id']}.jpg", "original_id": 100 + image["id"]}
    for category, original in zip(truth["categories"], (18, 90), strict=True):
        category["original_id"] = original
    index(plan, truth)
    detect(plan, 1, truth, near(truth, 0.1))
    plan.save(plan.results / "plan.json")
    run_id = plan.run_of(plan.tables["table1"].rows[1]).run_id
    monkeypatch.chdir(folder)
    words = ["export", str(plan.results / "plan.json"), run_id, "--format", "coco"]
    assert main([*words, "--decode", "argmax", "--out", "coco"]) == 0
    return folder / "coco/ground_truth.json", folder / "coco/detections.json"


def test_pycocotools_reads_both_files_and_finds_the_same_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth, detections = exported(tmp_path, monkeypatch)
    published = COCO(truth)
    assert sorted(published.getImgIds()) == [100, 101, 102, 103, 104, 105]
    assert sorted(published.getCatIds()) == [18, 90]
    found = published.loadRes(str(detections))
    assert len(found.anns) == 12
    evaluation = reference(published.dataset, list(found.anns.values()))
    evaluation.summarize()
    ours, _ = average_precision(shapes(), near(shapes(), 0.1))
    assert 100 * evaluation.stats[0] == pytest.approx(ours["AP"], abs=1e-6)


@pytest.mark.slow
def test_mmdetections_error_analysis_draws_its_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth, detections = exported(tmp_path, monkeypatch)
    tool = Path(mmdet.__file__).parent / ".mim/tools/analysis_tools/coco_error_analysis.py"
    done = subprocess.run(
        [sys.executable, tool, detections, "figures", "--ann", truth],
        cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False,
        timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "figures/bbox").glob("*.png"))


def test_ids_that_are_not_all_integers_stay_those_of_the_index() -> None:
    assert published_ids([{"id": 1, "original_id": 7}, {"id": 2}]) == {1: 7, 2: 2}
    assert published_ids([{"id": 1, "original_id": "7"}, {"id": 2}]) == {1: 1, 2: 2}


def test_a_decoding_that_was_not_evaluated_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    exported(tmp_path, monkeypatch)
    (file,) = tmp_path.rglob("plan.json")
    plan = Plan.load(file)
    run_id = plan.run_of(plan.tables["table1"].rows[1]).run_id
    words = ["export", str(file), run_id, "--format", "coco"]
    assert main([*words, "--decode", "expectation"]) == 1
    assert "detections.expectation.npz: not there; `obc evaluate`" in capsys.readouterr().err
    assert main([*words, "--decode", "regression"]) == 1
    assert "--decode regression" in capsys.readouterr().err

"""`obc export` of many runs: MMDetection's metafile.yml and an RO-Crate of a results folder."""

from __future__ import annotations

import json
from pathlib import Path

import mmdet
import pytest
import yaml
from report_fixtures import TABLE, measure, plan_of, run_folder, trained

from obc.cli.main import main
from obc.config.plan import Plan


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """A plan of which rows 0 and 2 are trained and row 2 is evaluated."""
    plan = plan_of(tmp_path, {"losses_table": TABLE}, seeds=[0])
    for row in (0, 2):
        trained(plan, "losses_table", row)
        folder = run_folder(plan, "losses_table", row)
        (folder / "config.py").write_text("model = dict()\n")
        (folder / "work").mkdir()
        (folder / "work/progress.json").write_text("{}")
    measure(plan, "losses_table", 2, {"AP": 47.04, "AP50": 70.0, "AP_S": None})
    plan.save(plan.results / "plan.json")
    monkeypatch.chdir(tmp_path)
    return plan


def test_a_metafile_lists_what_is_trained_as_mmdetections_do(plan: Plan) -> None:
    assert main(["export", str(plan.results / "plan.json"), "--format", "metafile"]) == 0
    found = yaml.safe_load((plan.results / "metafile.yml").read_text(encoding="utf-8"))
    zoo = Path(mmdet.__file__).parent / ".mim/configs/faster_rcnn/metafile.yml"
    theirs = yaml.safe_load(zoo.read_text(encoding="utf-8"))
    assert found.keys() == theirs.keys()
    ours = {model["Name"].split("-")[3]: model for model in found["Models"]}
    assert ours.keys() == {"l2", "obc"}
    assert all(model.keys() == theirs["Models"][0].keys() for model in ours.values())
    (result,) = ours["obc"]["Results"]
    assert (result["Task"], result["Metrics"]) == (
        "Object Detection", {"box AP": 47.0, "box AP50": 70.0},
    )  # fmt: skip
    for model in ours.values():
        assert (plan.results / model["Weights"]).exists()
        assert (plan.results / model["Config"]).exists()


def test_a_metafile_of_one_run_lies_in_its_folder(plan: Plan) -> None:
    run_id = plan.run_of(plan.tables["losses_table"].rows[2]).run_id
    file = str(plan.results / "plan.json")
    assert main(["export", file, run_id, "--format", "metafile"]) == 0
    text = (plan.run_folder(run_id, 0) / "metafile.yml").read_text(encoding="utf-8")
    (model,) = yaml.safe_load(text)["Models"]
    assert (model["Weights"], model["Config"]) == ("final.pth", "config.py")


def test_nothing_trained_is_no_metafile(plan: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    run_id = plan.run_of(plan.tables["losses_table"].rows[1]).run_id
    file = str(plan.results / "plan.json")
    assert main(["export", file, run_id, "--format", "metafile"]) == 1
    assert "no run to list has weights" in capsys.readouterr().err


def test_damaged_metrics_are_named_with_the_remedy(
    plan: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder(plan, "losses_table", 2)
    (path,) = folder.glob("metrics.*.json")
    path.write_text('{"metr')
    assert main(["export", str(plan.results / "plan.json"), "--format", "metafile"]) == 1
    error = capsys.readouterr().err
    assert str(path) in error and "remove the file" in error


def test_restored_runs_are_actions_without_weights_and_no_models(
    plan: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(plan.results / "plan.json")
    for path in plan.results.rglob("final.pth"):
        path.unlink()
    assert main(["export", file, "--format", "ro-crate"]) == 0
    crate = json.loads((plan.results / "ro-crate-metadata.json").read_text(encoding="utf-8"))
    ids = {one["@id"] for one in crate["@graph"]}
    actions = [one for one in crate["@graph"] if one["@type"] == "CreateAction"]
    assert [one["name"].split()[0] for one in actions] == ["training", "evaluation"]
    for action in actions:
        assert {one["@id"] for one in [*action["result"], *action.get("object", [])]} <= ids
        assert not any(one["@id"].endswith("final.pth") for one in action["result"])
    assert main(["export", file, "--format", "metafile"]) == 1
    assert "runs that `obc import` restored have metrics only" in capsys.readouterr().err


def test_a_crate_describes_every_file_and_how_it_was_made(plan: Plan) -> None:
    assert main(["export", str(plan.results / "plan.json"), "--format", "ro-crate"]) == 0
    path = plan.results / "ro-crate-metadata.json"
    crate = json.loads(path.read_text(encoding="utf-8"))
    entities = {one["@id"]: one for one in crate["@graph"]}
    assert len(entities) == len(crate["@graph"])
    assert entities[path.name]["about"] == {"@id": "./"}
    assert entities[path.name]["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    root = entities["./"]
    assert {"name", "description", "datePublished", "license"} <= root.keys()
    listed = {one["@id"] for one in root["hasPart"]}
    there = {
        str(file.relative_to(plan.results)) for file in plan.results.rglob("*") if file.is_file()
    }
    assert listed == {name for name in there if "/work/" not in name} - {path.name}
    assert all((plan.results / name).stat().st_size == int(entities[name]["contentSize"])
               for name in listed)  # fmt: skip
    actions = [entities[one["@id"]] for one in root["mentions"]]
    assert [one["name"].split()[0] for one in actions] == ["training", "training", "evaluation"]
    for action in actions:
        assert action["result"] and all(one["@id"] in listed for one in action["result"])
        assert action["instrument"]["@id"] in entities


def test_the_rocrate_package_reads_the_crate(plan: Plan) -> None:
    rocrate = pytest.importorskip("rocrate.rocrate")
    assert main(["export", str(plan.results / "plan.json"), "--format", "ro-crate"]) == 0
    crate = rocrate.ROCrate(plan.results)
    assert len(crate.root_dataset["hasPart"]) == len(crate.data_entities)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--format", "coco"], "is of one run"),
        (["voc-faster-r50-l2", "--format", "ro-crate"], "leave out voc-faster-r50-l2"),
    ],
)
def test_what_a_format_is_of_is_said(
    plan: Plan, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "--plan", str(plan.results / "plan.json"), *words]) == 1
    assert said in capsys.readouterr().err

"""`obc export --format reference`: the committed folder of results, and the page about all."""

from __future__ import annotations

import json
import shutil
from datetime import date
from pathlib import Path

import pytest
from finished_runs import finish, write_data
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from report_fixtures import TABLE, plan_of

from obc.cli.main import main
from obc.config.load_plan import load_plan
from obc.config.plan import Plan
from obc.config.reference import ReferenceFolder, read_card, reference_folders
from obc.datasets.settings import VocData
from obc.io.typed_yaml import read_yaml
from obc.operations import reference_readme
from obc.operations.reference import Told, write_reference
from obc.operations.reference_readme import readme
from obc.operations.stored_runs import stored
from obc.report.captions import NOT_SHOWN
from obc.report.shown_images import shows_images
from obc.runs.runs_file import read_runs

COMMITTED = Path("results/reference")
TOLD = ("--made-by", "make check", "make report", "--purpose", "To test.")


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Results of two runs with seeds 0 and 1, their starting weights, a table and figures."""
    plan = plan_of(tmp_path, {"table1": TABLE}, seeds=[0, 1])
    write_data(plan)
    (initial,) = plan.initial_runs
    finish(plan, initial)
    for run_id in [*plan.runs][:2]:
        for seed in (0, 1):
            finish(plan, run_id, seed)
    for name in ("tables/table1.csv", "tables/table1.md", "partial/tables/table1.csv",
                 "partial/tables/table2.csv", "claims.json", "report.html"):  # fmt: skip
        (plan.results / name).parent.mkdir(parents=True, exist_ok=True)
        (plan.results / name).write_text(name)
    figures = plan.results / "figures"
    figures.mkdir()
    for name, width in (("figure5", 2000), ("figure6", 2400)):
        Image.new("RGB", (width, 100)).save(figures / f"{name}.png")
    (figures / "figure5.svg").write_text("<svg/>")
    (figures / "figure6.svg").write_text("<svg>" + " " * 600_000 + "</svg>")
    (figures / "figure5.pdf").touch()
    plan.save(plan.results / "plan.json")
    return plan


@pytest.fixture
def target(tmp_path: Path) -> ReferenceFolder:
    return ReferenceFolder(tmp_path / "reference/smoke")


def export(plan: Plan, target: ReferenceFolder, *options: str) -> int:
    file = str(plan.results / "plan.json")
    return main(["export", file, "--format", "reference", "--out", str(target), *options])


def test_a_reference_has_small_files_only(plan: Plan, target: ReferenceFolder) -> None:
    assert export(plan, target, *TOLD) == 0
    names = {str(path.relative_to(target)) for path in target.path.rglob("*") if path.is_file()}
    assert names == {
        "run.yaml", "config.yaml", "runs.jsonl", "claims.json", "report.html",
        "tables/table1.csv", "tables/table1.md",
        "partial/tables/table2.csv",  # a complete table replaces the partial one
        "figures/figure5.svg", "figures/figure6.png",  # too large as SVG
    }  # fmt: skip
    with Image.open(target / "figures/figure6.png") as picture:
        assert picture.size == (1200, 50)


def test_the_card_has_what_records_tell_and_what_a_person_told(
    plan: Plan, target: ReferenceFolder
) -> None:
    assert export(plan, target, *TOLD, "--finding", "It works.") == 0
    card = read_card(target)
    assert (card.purpose, card.finding) == ("To test.", "It works.")
    assert card.commands == ("make check", "make report")
    assert card.commits == ("c" * 40,)
    assert (card.first_day, card.last_day) == (date(2026, 11, 20), date(2026, 11, 21))
    assert card.machines == ("Some CPU, 2 cores, no GPU",)
    assert (card.trainings, card.evaluations) == (5, 4)
    assert card.device_minutes == 5 * 1.5 + 4 * 0.5
    assert card.packages == {"torch": ("2.13.0",)}


def test_what_a_person_told_is_kept_when_the_folder_is_made_anew(
    plan: Plan, target: ReferenceFolder
) -> None:
    assert export(plan, target, *TOLD, "--finding", "It works.") == 0
    (target / "old.txt").touch()
    assert export(plan, target, "--finding", "It works well.") == 0
    card = read_card(target)
    assert (card.purpose, card.finding) == ("To test.", "It works well.")
    assert not (target / "old.txt").exists()


def test_without_a_command_nothing_is_made(
    plan: Plan, target: ReferenceFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(plan, target) == 1
    assert "--made-by and --purpose" in capsys.readouterr().err
    assert not target.path.exists()


def test_the_options_of_the_call_make_the_same_plan_again(
    plan: Plan, target: ReferenceFolder, tmp_path: Path
) -> None:
    assert export(plan, target, *TOLD) == 0
    again = load_plan(read_yaml(target.choices), tmp_path / "config")
    assert again.content_digest == plan.content_digest


# --- the target ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["precious.txt", "run.yaml"])
def test_a_folder_of_other_files_is_not_replaced(
    plan: Plan, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / name).write_text("of: another program\n")
    assert export(plan, ReferenceFolder(mine), *TOLD) == 1
    assert str(mine) in capsys.readouterr().err
    assert [path.name for path in mine.iterdir()] == [name]


def test_an_empty_folder_is_filled(plan: Plan, target: ReferenceFolder) -> None:
    target.path.mkdir(parents=True)
    assert export(plan, target, *TOLD) == 0
    assert target.card.exists()


def test_the_results_and_the_present_folder_are_never_replaced(
    plan: Plan, target: ReferenceFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert export(plan, target, *TOLD) == 0
    for folder in (plan.results, plan.results.parent):
        shutil.copy(target.card, folder)
        assert export(plan, ReferenceFolder(folder), *TOLD) == 1
    monkeypatch.chdir(target.path)
    assert export(plan, ReferenceFolder(Path()), *TOLD) == 1
    assert (plan.results / "runs").is_dir() and target.runs.exists()


def test_a_readme_of_others_is_kept(plan: Plan, target: ReferenceFolder) -> None:
    target.path.parent.mkdir()
    page = target.path.parent / "README.md"
    page.write_text("# My thesis\n")
    assert export(plan, target, *TOLD) == 0
    assert page.read_text() == "# My thesis\n"
    page.unlink()
    assert export(plan, target) == 0  # the folder has nothing else than committed results
    assert export(plan, target, "--purpose", "To try.") == 0
    assert "To try." in page.read_text()


def test_a_folder_with_other_files_gets_no_readme_but_results_reference_does(
    plan: Plan, target: ReferenceFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    target.path.parent.mkdir()
    (target.path.parent / "thesis.tex").touch()
    page = target.path.parent / "README.md"
    assert export(plan, target, *TOLD) == 0
    assert not page.exists()
    monkeypatch.setattr(reference_readme, "ROOT", target.path.parent)
    assert export(plan, target) == 0
    assert page.exists()


# --- runs ---------------------------------------------------------------------------------------


def test_every_training_is_a_line(plan: Plan, target: ReferenceFolder) -> None:
    assert export(plan, target, *TOLD) == 0
    runs = {(run.run_id, run.seed): run for run in read_runs(target.runs)}
    (initial,) = plan.initial_runs
    first, second, _ = plan.runs
    assert runs.keys() == {
        (initial, 0),
        *((run, seed) for run in (first, second) for seed in (0, 1)),
    }
    assert runs[first, 1].metrics["regression"]["metrics"] == {"AP": 40.0, "AP_S": None}


def test_stored_runs_are_kept_and_added_to(plan: Plan, target: ReferenceFolder) -> None:
    assert export(plan, target, *TOLD, "--keep-runs") == 0
    first = target.archive(1).read_bytes()
    finish(plan, [*plan.runs][2])
    assert export(plan, target, "--keep-runs") == 0
    assert target.archives() == [target.archive(1), target.archive(2)]
    assert target.archive(1).read_bytes() == first
    assert export(plan, target, "--keep-runs") == 0
    assert len(target.archives()) == 2  # nothing is new


def test_a_new_archive_replaces_none_when_an_older_one_was_deleted(
    plan: Plan, target: ReferenceFolder
) -> None:
    assert export(plan, target, *TOLD, "--keep-runs") == 0
    finish(plan, [*plan.runs][2])
    assert export(plan, target, "--keep-runs") == 0
    target.archive(1).unlink()
    second = target.archive(2).read_bytes()
    assert export(plan, target, "--keep-runs") == 0
    assert target.archives() == [target.archive(2), target.archive(3)]
    assert target.archive(2).read_bytes() == second
    assert len(stored(target.archives())) == 6


def test_new_evaluations_of_stored_runs_are_stored(plan: Plan, target: ReferenceFolder) -> None:
    assert export(plan, target, *TOLD, "--keep-runs") == 0
    first = next(iter(plan.runs))
    again = plan.run_folder(first, 0).metrics(plan.trainings[first].decodes[0])
    again.write_text(json.dumps({**json.loads(again.read_text()), "metrics": {"AP": 41.0}}))
    assert export(plan, target, "--keep-runs") == 0
    assert stored([target.archive(2)]).keys() == {(first, 0)}
    kept = stored(target.archives())
    assert json.loads(kept[first, 0][again.name])["metrics"] == {"AP": 41.0}
    assert export(plan, target, "--keep-runs") == 0
    assert len(target.archives()) == 2


def test_damaged_detections_are_named_with_the_remedy(
    plan: Plan, target: ReferenceFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = next(iter(plan.runs))
    path = plan.run_folder(run_id, 0).detections(plan.trainings[run_id].decodes[0])
    path.write_bytes(path.read_bytes()[:100])
    assert export(plan, target, *TOLD, "--keep-runs") == 1
    error = capsys.readouterr().err
    assert f"{path}: not a detections file" in error and "remove it" in error
    assert not target.path.exists()


def test_only_imported_runs_are_no_reference(
    plan: Plan, target: ReferenceFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(plan.results / "runs")
    (initial,) = plan.initial_runs
    for run_id in (initial, next(iter(plan.runs))):
        finish(plan, run_id, imported={"path": "mine.pth"}, seconds=None)
    assert export(plan, target, *TOLD) == 1
    assert "all 2 finished runs have imported weights" in capsys.readouterr().err


def test_runs_that_the_plan_lacks_take_no_minutes(plan: Plan, target: ReferenceFolder) -> None:
    run = plan.run_folder(next(iter(plan.runs)), 0).path
    shutil.copytree(run, run.parent.with_name("voc-old-run-00000000") / run.name)
    assert export(plan, target, *TOLD) == 0
    assert read_card(target).device_minutes == 5 * 1.5 + 4 * 0.5


def test_runs_that_only_an_archive_has_are_not_lost(
    plan: Plan, target: ReferenceFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(plan, target, *TOLD, "--keep-runs") == 0
    run = plan.run(next(iter(plan.runs)), 1)
    for path in run.folder.path.iterdir():
        path.unlink()
    assert export(plan, target, "--keep-runs") == 1
    error = capsys.readouterr().err
    assert f"{run.run_id} seed 1" in error
    assert f"obc import {target}" in error


def test_pictures_of_photographs_stay_out(plan: Plan, target: ReferenceFolder) -> None:
    data = {**plan.scale.data, "voc": VocData(kind="voc", root=Path("photographs"))}
    scale = plan.scale.model_copy(update={"data": data})
    without = plan.config.model_copy(update={"show_images": False})
    own = plan.model_copy(update={"scale": scale, "config": without})
    # Both were drawn before `show_images` was set to false.
    (plan.results / "report.html").write_text('<figure id="figure-figure6">It shows.</figure>')
    told = Told(("make check",), "To test.")
    write_reference(own, target, told, keep_runs=False, shows_images=shows_images)
    assert {path.name for path in (target / "figures").iterdir()} == {"figure5.svg"}
    assert not target.page.exists()
    note = PngInfo()
    note.add_text("Description", f"Two rows. {NOT_SHOWN}")
    Image.new("RGB", (2400, 100)).save(plan.results / "figures/figure6.png", pnginfo=note)
    (plan.results / "report.html").write_text(f'<figure id="figure-figure6">{NOT_SHOWN}</figure>')
    write_reference(own, target, told, keep_runs=False, shows_images=shows_images)
    assert {path.stem for path in (target / "figures").iterdir()} == {"figure5", "figure6"}
    assert target.page.exists()


# --- the committed folders ---------------------------------------------------------------------


def test_every_committed_folder_has_a_card_and_its_runs() -> None:
    folders = [path for path in COMMITTED.iterdir() if path.is_dir()]
    assert {folder.path for folder in reference_folders(COMMITTED)} == set(folders)
    for folder in reference_folders(COMMITTED):
        card, runs = read_card(folder), read_runs(folder.runs)
        assert card.evaluations == sum(len(run.metrics) for run in runs)


def test_the_page_about_committed_results_is_that_of_their_cards() -> None:
    assert (COMMITTED / "README.md").read_text(encoding="utf-8") == readme(COMMITTED)


def test_a_page_shows_each_folder_and_its_command(plan: Plan, target: ReferenceFolder) -> None:
    assert export(plan, target, *TOLD) == 0
    page = (target.path.parent / "README.md").read_text(encoding="utf-8")
    assert "| [smoke](#smoke) | To test. | 5 | 4 |" in page
    assert "```shell\nmake check\nmake report\n```" in page
    assert "[report.html](smoke/report.html)" in page


def test_what_a_killed_export_left_is_not_listed(plan: Plan, target: ReferenceFolder) -> None:
    assert export(plan, target, *TOLD) == 0
    shutil.copytree(target.path, target.path.with_name(".smoke.123-abcdef12"))
    assert export(plan, target) == 0
    page = (target.path.parent / "README.md").read_text(encoding="utf-8")
    assert [line for line in page.splitlines() if line.startswith("## ")] == ["## smoke"]

"""Names that mean something to a shell or to Snakemake: they work, or are refused by name."""

from __future__ import annotations

import json
import re
from pathlib import Path

import foreign_fixtures as foreign
import pytest
from conftest import Workspace, copy_project

from obc.config.user_choices import SuiteConfig
from obc.datasets.settings import CocoData
from obc.io.typed_yaml import ConfigError, validate

HOSTILE = "a b;$(touch pwned)`touch pwned`$HOME'\"*?[x]&|#~é猫\\"
PRINT_COMMANDS = """
import json
for each in workflow.rules:
    print("COMMAND", json.dumps([each.name, each.shellcmd]))
"""
# Numbers, and wildcards whose constraints are lists of names that this suite makes or checks.
PLAIN_FIELDS = {
    "threads", "wildcards.run_id", "wildcards.seed", "wildcards.decode", "wildcards.index",
    "wildcards.drawn", "wildcards.published", "wildcards.table", "wildcards.figure",
    "params.dataset", "params.partial",
}  # fmt: skip


def suite_in(folder: Path) -> Workspace:
    """A copy of the workflow in which nothing was run."""
    copy_project(folder)
    return Workspace(folder)


@pytest.fixture
def suite(tmp_path: Path) -> Workspace:
    return suite_in(tmp_path / "suite")


def folder_of_data(root: Path) -> CocoData:
    return foreign.write(root, foreign.content(1), foreign.content(50))


# --- commands ----------------------------------------------------------------------------------


def test_every_field_of_a_command_is_quoted_or_plain(suite: Workspace) -> None:
    with (suite.folder / "Snakefile").open("a", encoding="utf-8") as file:
        file.write(PRINT_COMMANDS)
    done = suite.snakemake("--list", "--quiet")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("COMMAND ")]
    commands = dict(json.loads(line.removeprefix("COMMAND ")) for line in lines)
    assert {"index", "train", "evaluate", "page", "claims_report"} <= set(commands)
    unquoted = {
        (rule, field)
        for rule, command in commands.items()
        for field in re.findall(r"\{([^{}]+)\}", command or "")
        if not field.endswith(":q") and field not in PLAIN_FIELDS
    }
    assert unquoted == set()


@pytest.mark.slow
def test_a_hostile_project_indexes_a_hostile_folder(tmp_path: Path) -> None:
    suite = suite_in(tmp_path / HOSTILE)
    data = folder_of_data(tmp_path / f"data {{x}} {HOSTILE}")
    plan = suite.plan(coco_root=str(data.root))
    manifest = plan.index_folder("coco") / "manifest.json"
    figure = plan.results / "figures/figure4.png"
    done = suite.snakemake("--cores", "1", manifest, figure, "--config", f"coco_root={data.root}")
    assert done.returncode == 0, done.stdout + done.stderr
    written = json.loads((suite.folder / manifest).read_text(encoding="utf-8"))
    assert written["root"] == str(data.root)
    assert (suite.folder / figure).exists()
    assert not list(tmp_path.rglob("pwned"))


# --- names of results --------------------------------------------------------------------------


@pytest.mark.parametrize("results", ["a b", "a;b", "$HOME", "a'b", "a*", "{a}", "-a", "", "a\nb"])
def test_results_with_a_meaning_to_others_are_refused_by_name(results: str) -> None:
    with pytest.raises(ConfigError, match=r"results: results is .*; allowed: letters"):
        validate(SuiteConfig, {"results": results}, Path("config.yaml"))


@pytest.mark.parametrize("results", ["results", "/scratch/me/r-1", "../r_1", "ergebnisse/größe"])
def test_other_results_are_allowed(results: str) -> None:
    assert validate(SuiteConfig, {"results": results}, Path("config.yaml")).results == results


@pytest.mark.parametrize(
    ("folder", "results"),
    [
        ("mine", "smoke-mine"),
        ("Größe.2", "smoke-größe.2"),
        ("my data", "smoke-my-data"),
        ("a$(x);'*{b}", "smoke-a-x-b"),
        ("$$$", "smoke-own"),
    ],
)
def test_results_are_called_after_a_folder_without_what_shells_read(
    suite: Workspace, tmp_path: Path, folder: str, results: str
) -> None:
    data = folder_of_data(tmp_path / folder)
    assert suite.plan(coco_root=str(data.root)).results == Path("results") / results


@pytest.mark.parametrize("label", ["a b", "$(x)", "{x}", "a/b", "é;"])
def test_a_label_with_a_meaning_to_others_is_refused(label: str) -> None:
    with pytest.raises(ConfigError, match=r"label: String should match pattern"):
        validate(SuiteConfig, {"label": label}, Path("config.yaml"))


def test_a_project_in_a_folder_with_braces_is_refused_by_name(tmp_path: Path) -> None:
    done = suite_in(tmp_path / "a{b}").snakemake("-n", "figure4")
    assert done.returncode == 1
    assert "a{b}'; Snakemake takes braces" in done.stdout + done.stderr


# --- a plan with some of the tables ------------------------------------------------------------


@pytest.mark.parametrize("kind", ["coco", "voc"])
def test_a_folder_alone_plans_without_a_word_of_other_tables(
    suite: Workspace, tmp_path: Path, kind: str
) -> None:
    """COCO has no figure of the paper: a wildcard of figures must fit nothing."""
    if kind == "coco":
        options = [f"coco_root={folder_of_data(tmp_path / 'mine').root}"]
    else:
        from voc_folders import CAT, make_year

        root = make_year(tmp_path / "VOC2007", {"train": {"1": [CAT]}, "val": {"2": [CAT]}})
        options = [f"voc_root={root}", "voc_classes=cat"]
    done = suite.snakemake("-n", "--config", *options)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    for complaint in ("InputFunctionException", "Error", "not present in the Snakefile"):
        assert complaint not in said

"""Which outputs are made again after an edit of the package: those that the edited code decides."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import BIN, ENVIRONMENT, PATIENCE, PROJECT, copy_project

from obc.runs import versions
from obc.runs.versions import EVALUATION_CODE, TRAINING_CODE, code_behind, code_digest

FIGURES = ("losses", "figure4")
RULES = sorted((PROJECT / "workflow/rules").glob("*.smk"))


def with_package(folder: Path) -> Path:
    """A copy of the package in a folder."""
    return shutil.copytree(
        PROJECT / "obc", folder / "obc", ignore=shutil.ignore_patterns("__pycache__")
    )


def edit_module(path: Path) -> None:
    """Change what a module does, in a way that harms nothing."""
    with path.open("a", encoding="utf-8") as module:
        module.write("\nEDITED = True\n")


def digests() -> dict[str, str]:
    """The digests of the code that decides weights and metrics."""
    return {"training": code_digest(TRAINING_CODE), "evaluation": code_digest(EVALUATION_CODE)}


def shown_modules() -> set[str]:
    """The module behind each output that is no training and no evaluation, as the rules have it."""
    text = "".join(path.read_text(encoding="utf-8") for path in RULES)
    return set(re.findall(r'shown_by\("([\w.]+)"\)', text))


@pytest.mark.slow
def test_an_edit_of_a_figure_s_module_makes_that_figure_again_and_no_other(tmp_path: Path) -> None:
    copy_project(tmp_path)
    package = with_package(tmp_path)

    def snakemake(*arguments: str) -> str:
        done = subprocess.run(
            [BIN / "snakemake", *arguments, *FIGURES],
            cwd=tmp_path,
            env={**ENVIRONMENT, "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
            timeout=PATIENCE,
        )
        return done.stdout + done.stderr

    snakemake("--cores", "1")
    assert "Nothing to be done" in snakemake("-n")
    edit_module(package / "report/figures/losses.py")
    jobs = re.findall(r"^(\w+) +\d+$", snakemake("-n"), re.MULTILINE)
    assert set(jobs) - {"total"} == {"losses"}


@pytest.mark.parametrize("module", sorted(shown_modules()))
def test_the_code_of_an_output_is_its_module_with_what_that_imports(module: str) -> None:
    assert module in code_behind(module)
    assert not {"report.page"} & set(code_behind(module)) - {module}


def test_an_edit_of_one_figure_changes_the_code_of_no_other_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "PACKAGE", with_package(tmp_path))
    before = {module: code_digest(code_behind(module)) for module in shown_modules()}
    edit_module(tmp_path / "obc/report/figures/curves.py")
    after = {module: code_digest(code_behind(module)) for module in shown_modules()}
    assert {module for module in before if before[module] != after[module]} == {
        "report.figures.curves"
    }


def test_an_edit_of_the_head_makes_trainings_and_evaluations_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "PACKAGE", with_package(tmp_path))
    before = digests()
    edit_module(tmp_path / "obc/head/obc_head.py")
    after = digests()
    assert after["training"] != before["training"]
    assert after["evaluation"] != before["evaluation"]


def test_an_edit_of_the_page_makes_no_training_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "PACKAGE", with_package(tmp_path))
    before = digests()
    edit_module(tmp_path / "obc/report/page.py")
    assert digests() == before

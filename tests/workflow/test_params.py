"""Params of the workflow's rules: whatever one depends on has to trigger the rule."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Workspace, copy_project

# Appended to a copy of the Snakefile: Snakemake records, and compares, nothing but plain values.
PRINT_KINDS = """
from types import SimpleNamespace
for each in workflow.rules:
    wildcards = SimpleNamespace(
        index=PLAN.index_folder("voc").path.name,
        drawn=PLAN.data_folder("voc").name,
        run_id=next(iter(PLAN.runs)), seed="0", decode="argmax", table="table1", figure="figure5",
        part="table1",
    )
    for name, value in each.params.items():
        value = value(wildcards) if callable(value) else value
        print("PARAM", each.name, name, type(value).__name__)
"""
PLAIN = {"str", "int", "float", "bool", "NoneType"}


@pytest.fixture
def suite(tmp_path: Path) -> Workspace:
    """A copy of the workflow in which nothing was run."""
    folder = tmp_path / "suite"
    copy_project(folder)
    return Workspace(folder)


def test_every_param_is_of_a_kind_that_snakemake_records(suite: Workspace) -> None:
    with (suite.folder / "Snakefile").open("a", encoding="utf-8") as file:
        file.write(PRINT_KINDS)
    done = suite.snakemake("--list", "--quiet")
    assert done.returncode == 0, done.stderr
    found = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("PARAM ")]
    assert {"index", "page", "figure4", "losses", "train"} <= {rule for rule, _, _ in found}
    assert [each for each in found if each[2] not in PLAIN] == []


@pytest.mark.slow
def test_a_param_that_changed_triggers_its_rule(suite: Workspace) -> None:
    made = suite.snakemake("--cores", "1", "results/smoke/figures/figure4.png")
    assert made.returncode == 0, made.stderr
    again = suite.snakemake("-n", "results/smoke/figures/figure4.png")
    assert "Nothing to be done" in again.stdout + again.stderr
    rules = suite.folder / "workflow/rules/examples.smk"
    text = rules.read_text(encoding="utf-8")
    other = text.replace('str(RESULTS / "figures")', 'f"{RESULTS}/figures/."')
    assert other != text
    rules.write_text(other, encoding="utf-8")
    again = suite.snakemake("-n", "results/smoke/figures/figure4.png")
    said = again.stdout + again.stderr
    assert "Nothing to be done" not in said and "params" in said.lower()

"""Wrong choices are refused by make itself, before it sets anything up."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from conftest import PROJECT
from snakemake.cli import get_argument_parser


def make(folder: Path, *choices: str) -> subprocess.CompletedProcess[str]:
    """`make reproduce` where nothing is set up, and no Python is there to do it."""
    return subprocess.run(
        ["make", "-C", folder, "reproduce", "PYTHON=/nonexistent", "GPUS=", *choices],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("Makefile", "requirements.lock", "config"):
        (tmp_path / name).symlink_to(PROJECT / name)
    return tmp_path


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("SCALE=smok", r"SCALE=smok: allowed is one of (\w+ )*mini paper "),
        ("SCALE=mini smoke", r"SCALE=mini smoke: allowed"),
        ("SCALE=", r"SCALE=: allowed"),
        ("SEEDS=x", r"SEEDS=x: allowed is a number from 1 on"),
        ("SEEDS=0", r"SEEDS=0: allowed"),
        ("SEEDS=-1", r"SEEDS=-1: allowed"),
        ("SEEDS=1,2", r"SEEDS=1,2: allowed .*'seeds=\[3\]'"),
        ("TARGETS=table1 tabel2", r"TARGETS: no tabel2; allowed: .*\btable2 .*\bclaims\b"),
        ("TARGETS=table1 label=x", r"TARGETS: no label=x; .* targets before --config"),
    ],
)
def test_a_wrong_choice_is_refused_with_what_is_allowed(
    checkout: Path, choice: str, message: str
) -> None:
    done = make(checkout, choice)
    assert done.returncode == 2
    assert re.search(message, done.stderr)
    assert "not found" not in done.stdout  # the set-up's first message


@pytest.mark.parametrize(
    "choice", ["SEEDS=3", "SEEDS=", "TARGETS=table1 figure5 claims", "TARGETS=results/smoke/x.md"]
)
def test_a_right_choice_goes_on_to_the_set_up(checkout: Path, choice: str) -> None:
    assert "/nonexistent not found" in make(checkout, choice).stdout


def test_the_advice_after_resume_names_the_targets_as_snakemake_reads_them() -> None:
    makefile = (PROJECT / "Makefile").read_text()
    (advice,) = re.findall(r'"go on with: snakemake (.*)"', makefile)
    arguments = advice.replace("[targets]", "table1 table3").replace(" N ", " 2 ").split()
    found = get_argument_parser().parse_args(arguments)
    assert list(found.targets) == ["table1", "table3"]
    assert len(found.configfile) == 1


def test_the_targets_that_make_allows_are_rules() -> None:
    makefile = (PROJECT / "Makefile").read_text()
    listed = re.findall(r"^TARGET_NAMES := .*\\\n +(.*)$", makefile, re.M)[0].split()
    workflow = PROJECT / "workflow"
    files = [PROJECT / "Snakefile", *workflow.glob("Snakefile"), *workflow.rglob("*.smk")]
    rules = {name for path in files for name in re.findall(r"rule (\w+):", path.read_text())}
    assert set(listed) <= rules

"""The command line: help that teaches, suggestions for wrong words, and a plan by default."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import get_args

import pytest
from report_fixtures import TABLE, plan_of

from obc.cli.main import COMMANDS, build_parser, main
from obc.cli.options import Group
from obc.config.plan import Plan


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """A plan of one table, its folder being where the command is called."""
    plan = plan_of(tmp_path, {"table9": TABLE})
    monkeypatch.chdir(tmp_path)
    return plan


def refusal(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    return capsys.readouterr().err


def test_there_are_at_most_seventeen_commands_in_two_groups() -> None:
    assert len(COMMANDS) <= 17
    assert {command.group for command in COMMANDS.values()} == set(get_args(Group))


def test_obc_alone_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    listed = capsys.readouterr().out
    assert all(f"  {name} " in listed and one.summary in listed for name, one in COMMANDS.items())
    assert max(map(len, listed.splitlines())) <= 80


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_has_an_example_of_it(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    assert stopped.value.code == 0
    assert f"  obc {name}" in capsys.readouterr().out.split("examples:")[1]


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"obc {version('offset-bin-classification')}\n"


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["stauts"], "status"),
        (["tabel", "table1"], "table"),
        (["status", "--wacth"], "--watch"),
        (["train", "a-run", "--sed", "1"], "--seed"),
    ],
)
def test_a_wrong_word_gets_a_suggestion(
    arguments: list[str], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"did you mean '{meant}'?" in refusal(arguments, capsys)


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["table", "tabel9"], "table9"),
        (["figure", "figure44"], "figure4"),
        (["plan", "--set", "sceds=[1]"], "seeds"),
    ],
)
def test_a_wrong_name_gets_a_suggestion(
    plan: Plan,
    arguments: list[str],
    meant: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    plan.save(Path("results/smoke/plan.json"))
    if arguments[0] == "plan":
        arguments = [*arguments, "--config-folder", str(Path(__file__).parents[2] / "config")]
    assert main(arguments) == 1
    assert f"did you mean '{meant}'?" in capsys.readouterr().err


def test_a_plan_may_stand_first() -> None:
    parser = build_parser()
    first = parser.parse_args(["trace", "results/x/plan.json", "table1"])
    named = parser.parse_args(["trace", "--plan", "results/x/plan.json", "table1"])
    assert first == named
    assert (named.plan, named.table) == (Path("results/x/plan.json"), "table1")


def test_without_a_plan_the_newest_is_read(plan: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    for age, name in enumerate(("new", "old")):
        path = Path(f"results/{name}/plan.json")
        plan.save(path)
        os.utime(path, (1_000_000 - age, 1_000_000 - age))
    assert main(["status"]) == 0
    assert capsys.readouterr().err == "plan: results/new/plan.json\n"


def test_without_any_plan_the_remedy_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["status"]) == 1
    assert "name one with --plan" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["plan"], ["--help"]], ids=" ".join)
def test_a_reader_that_closes_the_pipe_is_no_error(arguments: list[str]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "obc", *arguments],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    errors = process.stderr.read().decode()
    assert (process.wait(), errors) == (141, "")


def test_a_figure_that_needs_no_table_asks_for_none(
    plan: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    plan.save(Path("results/smoke/plan.json"))  # it has no table1, the default of detail_table
    assert main(["figure", "curves"]) == 1
    assert "no table or figure table1" in capsys.readouterr().err
    assert main(["figure", "inside"]) == 1
    assert "no table or figure" not in capsys.readouterr().err

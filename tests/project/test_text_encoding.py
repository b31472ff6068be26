"""Text is UTF-8 wherever the suite reads or writes it, whatever the locale of a machine is."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from claim_fixtures import plan_with
from conftest import PROJECT
from report_fixtures import TABLE, measure

from obc.config.plan import Plan

LOCALES = {
    "ASCII": {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    "Latin-1": {"PYTHONIOENCODING": "latin-1", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0",
                "PYTHONUTF8": "0"},
}  # fmt: skip
NO_TEXT_FILES = {"os", "Image", "tarfile", "zipfile", "archive"}  # what else has an `open`


# --- the source --------------------------------------------------------------------------------


def without_encoding(tree: ast.AST) -> Iterator[ast.Call]:
    """Calls that open a text file, or a program's output as text, and leave the encoding out."""
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        if name_of(call) == "fdopen" and len(call.args) >= 4:
            continue  # the encoding by its place
        keywords = {keyword.arg: keyword.value for keyword in call.keywords}
        if "encoding" in keywords:
            continue
        owner = call.func.value if isinstance(call.func, ast.Attribute) else None
        name = name_of(call)
        of_no_text = isinstance(owner, ast.Name) and owner.id in NO_TEXT_FILES and name == "open"
        modes = [*call.args, *keywords.values()]
        binary = any(
            isinstance(mode, ast.Constant)
            and isinstance(mode.value, str)
            and set(mode.value) <= set("rwxab+")
            and "b" in mode.value
            for mode in modes
        )
        reads = name in ("read_text", "write_text") and not _is_of_suite(owner, name)
        opens = name in ("open", "fdopen") and not (binary or of_no_text)
        if reads or opens or isinstance(keywords.get("text"), ast.Constant):
            yield call


def name_of(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _is_of_suite(owner: ast.expr | None, name: str) -> bool:
    """`write_text` of obc.io.files, a function, writes UTF-8."""
    return owner is None and name == "write_text"


@pytest.mark.parametrize(
    ("code", "count"),
    [
        ("path.read_text()", 1),
        ("path.read_text(encoding='utf-8')", 0),
        ("path.write_text(text)", 1),
        ("write_text(path, text)", 0),
        ("open(path)", 1),
        ("path.open('w')", 1),
        ("path.open('rb')", 0),
        ("open(path, mode='wb')", 0),
        ("Image.open(path)", 0),
        ("os.fdopen(number, 'w')", 1),
        ("subprocess.run(['ls'], text=True)", 1),
        ("subprocess.run(['ls'], text=True, encoding='utf-8')", 0),
    ],
)
def test_the_search_finds_what_it_must(code: str, count: int) -> None:
    assert len(list(without_encoding(ast.parse(code)))) == count


def test_no_file_is_read_or_written_in_the_locale_s_encoding() -> None:
    found = [
        f"{path.relative_to(PROJECT)}:{call.lineno}"
        for path in sorted((PROJECT / "obc").rglob("*.py"))
        for call in without_encoding(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert found == []


# --- commands ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """Measured tables with letters beyond ASCII and Latin-1: β and ✓."""
    plan = plan_with(
        tmp_path_factory.mktemp("plan"), "kind: higher, pairs: [[two, argmax]]", table8=TABLE
    )
    for row in range(3):
        measure(plan, "table8", row, {"AP": 40.0 + row, "AP_S": 10.0, "AP90": 5.0})
    plan.save(plan.results / "plan.json")
    return plan


def run(plan: Plan, locale: str | None, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("LC_", "LANG"))}
    environment = kept | (LOCALES[locale] if locale else {"PYTHONUTF8": "1"})
    command, *rest = arguments
    return subprocess.run(
        [sys.executable, "-m", "obc", command, str(plan.results / "plan.json"), *rest],
        cwd=PROJECT, env=environment, capture_output=True, check=False,
    )  # fmt: skip


def written(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.suffix in (".md", ".csv", ".tex", ".json")
    }


def made(plan: Plan, locale: str | None) -> dict[str, dict[str, bytes]]:
    """Contents of the files that `obc table` and `obc claims` write under a locale."""
    for name in ("tables", "partial"):
        shutil.rmtree(plan.results / name, ignore_errors=True)
    for arguments in (("table", "table8"), ("claims", "--partial")):
        done = run(plan, locale, *arguments)
        assert done.returncode == 0, done.stderr
    return {name: written(plan.results / name) for name in ("tables", "partial")}


@pytest.fixture(scope="module")
def under_utf_8(plan: Plan) -> dict[str, dict[str, bytes]]:
    return made(plan, None)


@pytest.mark.slow
@pytest.mark.parametrize("locale", LOCALES)
def test_tables_and_claims_are_the_same_in_every_locale(
    plan: Plan, under_utf_8: dict[str, dict[str, bytes]], locale: str
) -> None:
    found = made(plan, locale)
    assert found == under_utf_8
    table = found["tables"]["table8.md"].decode("utf-8")
    assert "Smooth L1 (β = 1.0)" in table and "✓" in table


@pytest.mark.parametrize("locale", LOCALES)
def test_letters_that_a_terminal_lacks_are_printed_otherwise(plan: Plan, locale: str) -> None:
    for arguments in (("status",), ("trace", "table8", "--row", "1", "--metric", "AP")):
        done = run(plan, locale, *arguments)
        assert done.returncode == 0, done.stderr
        assert b"Traceback" not in done.stderr
    assert rb"(\u03b2 = 1.0)" in done.stdout

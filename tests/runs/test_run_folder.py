"""A run is an object: its files are named in one module, and a plan gives what reads them."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from obc.config.load_plan import load_plan
from obc.config.plan import INITIAL_SEED, Plan
from obc.config.run_folder import RunFolder, WorkFolder

# Where each file of a run and of an index is named; the names as documentation and results have
# them.
NAMED_IN = {
    "obc/config/run_folder.py": (
        r"final\.pth", r"run\.json", r"config\.py", r"log\.txt", r"train\.benchmark\.tsv",
        r"\bmetrics\..*json", r"detections\..*npz", r"evaluate\..*log", r"evaluate\..*failed\.json",
        r"evaluate\..*tsv", r"submit\..*log", r"^work$", r"^lock$", r"sessions\.json",
        r"progress\.json", r"failed\.json", r"interrupted\.json", r"iteration_.*pth",
        r"rank.*\.log", r"^runs/|/runs/", r"/seed\{|/seed\*",
    ),
    "obc/datasets/index_folder.py": (r"manifest\.json", r"\bval\.json", r"\btrain\.json"),
}  # fmt: skip


def sources() -> list[Path]:
    return [
        *sorted(Path("obc").rglob("*.py")),
        *sorted(Path("workflow/rules").glob("*.smk")),
        Path("workflow/Snakefile"),
    ]


@cache
def texts(path: Path) -> list[str]:
    """The string literals of a module, docstrings left out; placeholders of f-strings as `{}`."""
    if path.suffix != ".py":
        lines = path.read_text(encoding="utf-8").splitlines()
        quoted = [re.findall(r'"([^"]*)"', line.partition(" # ")[0]) for line in lines]
        return [text for line in quoted for text in line]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and ast.get_docstring(node) is not None
    }
    parts = {
        id(value) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)
        for value in node.values
    }  # fmt: skip
    found = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and not {id(node)} & (docstrings | parts)
    ]
    joined = [
        "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
    ]
    return found + joined


@pytest.mark.parametrize(
    ("module", "name"), [(module, name) for module, names in NAMED_IN.items() for name in names]
)
def test_a_files_name_is_written_in_one_module_only(module: str, name: str) -> None:
    found = {
        f"{path}: {text}"
        for path in sources()
        for text in texts(path)
        if re.search(name, text) and str(path) != module
    }
    assert found == set()


@pytest.fixture(scope="module")
def plan() -> Plan:
    return load_plan({"scale": "smoke"})


def test_every_file_of_a_run_has_the_name_that_the_documentation_gives_it() -> None:
    folder = RunFolder(Path("run"))
    assert [
        str(path)
        for path in (
            folder.weights, folder.record, folder.config, folder.log, folder.benchmark,
            folder.metrics("argmax"), folder.detections("argmax"), folder.evaluation_log("argmax"),
            folder.evaluation_failure("argmax"), folder.work.lock, folder.work.sessions,
            folder.work.progress, folder.work.failed, folder.work.interrupted,
            folder.work.checkpoint(12),
        )
    ] == [
        "run/final.pth", "run/run.json", "run/config.py", "run/log.txt", "run/train.benchmark.tsv",
        "run/metrics.argmax.json", "run/detections.argmax.npz", "run/evaluate.argmax.log",
        "run/evaluate.argmax.failed.json", "run/work/lock", "run/work/sessions.json",
        "run/work/progress.json", "run/work/failed.json", "run/work/interrupted.json",
        "run/work/iteration_12.pth",
    ]  # fmt: skip


def test_checkpoints_are_listed_newest_first_by_their_number(tmp_path: Path) -> None:
    work = WorkFolder(tmp_path)
    for iteration in (2, 10, 9):
        work.checkpoint(iteration).touch()
    (tmp_path / ".iteration_11.pth").touch()  # being written
    assert [path.name for path in work.checkpoints()] == [
        "iteration_10.pth", "iteration_9.pth", "iteration_2.pth",
    ]  # fmt: skip


def test_runs_are_found_again_where_they_are_put(tmp_path: Path) -> None:
    runs = [RunFolder.of(tmp_path, "a", 0), RunFolder.of(tmp_path, "b", 1)]
    for run in runs:
        run.path.mkdir(parents=True)
    assert RunFolder.all_in(tmp_path) == runs
    assert str(runs[1]) == f"{tmp_path}/runs/b/seed1"


def test_a_copy_beside_a_run_is_no_run(tmp_path: Path) -> None:
    for name in ("seed0", "seed0.bak", "seed0-old", "seeds"):
        (tmp_path / "runs/a" / name).mkdir(parents=True)
    assert [run.seed for run in RunFolder.all_in(tmp_path)] == [0]


def test_a_run_knows_its_data_and_the_weights_that_it_starts_from(plan: Plan) -> None:
    run_id = plan.run_of(plan.tables["table1"].rows[0]).run_id
    run = plan.run(run_id, 1)
    initial = run.resolved.initial_run
    assert run.folder.path == Path("results/smoke/runs") / run_id / "seed1"
    assert run.index == plan.index_folder("voc")
    assert run.starts_from == plan.run(initial, INITIAL_SEED).folder.weights
    assert plan.run(initial, INITIAL_SEED).starts_from is None


def test_a_tables_evaluations_are_its_trained_rows_with_each_seed(plan: Plan) -> None:
    for name, table in plan.tables.items():
        expected = [
            (index, plan.run_of(row).run_id, seed, row.decode)
            for index, row in enumerate(table.rows)
            if not row.cited
            for seed in plan.seeds_of(plan.run_of(row).run_id)
        ]
        found = plan.evaluations(name)
        assert [(e.index, e.run.run_id, e.run.seed, e.decode) for e in found] == expected
        assert all(e.metrics == e.run.folder.metrics(e.decode) for e in found)

"""The digest of code, and what tables say of trainings that another version made."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
import torch
from report_fixtures import TABLE, plan_of, trained

from obc.io.files import DamagedRecord
from obc.runs import versions as provenance
from obc.runs.staleness import weights_notes
from obc.runs.versions import TRAINING_CODE, code_digest, code_version, hardware


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path)
    return tmp_path / "module.py"


def digest_of(module: Path, text: str) -> str:
    module.write_text(text, encoding="utf-8")
    return code_digest((module.stem,))


def test_comments_docstrings_and_layout_do_not_change_the_digest(package: Path) -> None:
    plain = digest_of(package, "def f(x):\n    return x + 1\n")
    dressed = digest_of(
        package, '"""Doc."""\ndef f(x):\n    """Add."""\n    # one\n    return (x+1)\n'
    )
    assert plain == dressed


def test_a_module_of_this_package_may_be_imported_from_elsewhere(package: Path) -> None:
    body = "def f(x):\n    return g(x)\n"
    here = digest_of(package, f"import obc.roi_align\nfrom obc.deltas import g\n{body}")
    there = digest_of(package, f"from obc.head.deltas import g\n{body}")
    assert here == there == digest_of(package, body)


def test_an_import_of_another_package_counts(package: Path) -> None:
    body = "def f(x):\n    return g(x)\n"
    one = digest_of(package, f"from torch import sin as g\n{body}")
    assert one != digest_of(package, f"from torch import cos as g\n{body}")
    assert one != digest_of(package, f"import obc, torch\nfrom torch import sin as g\n{body}")


def test_what_the_code_does_changes_the_digest(package: Path) -> None:
    one = digest_of(package, "def f(x):\n    return x + 1\n")
    assert one != digest_of(package, "def f(x):\n    return x + 2\n")


def test_the_digest_is_the_same_with_python_3_11_and_3_12(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "class A:\n    async def f(self): ...\n\ndef g(x: int) -> int:\n    return x\n"
    expected = digest_of(package, text)
    assert expected == "43d6a8a4"  # computed with Python 3.11.7
    of_3_12 = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    for kind in of_3_12:
        if "type_params" not in kind._fields:
            monkeypatch.setattr(kind, "_fields", (*kind._fields, "type_params"))

    def parse(text: str) -> ast.Module:
        tree = compile(text, "", "exec", ast.PyCF_ONLY_AST)
        for node in ast.walk(tree):
            if isinstance(node, of_3_12):
                node.type_params = []
        return tree

    monkeypatch.setattr(ast, "parse", parse)
    provenance._read.cache_clear()
    assert digest_of(package, text) == expected


def test_the_code_version_names_the_training_code() -> None:
    assert code_version()["training_code"] == code_digest(TRAINING_CODE)


def test_tables_say_which_trainings_another_version_made(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {"table9": TABLE})
    table = plan.tables["table9"]
    assert weights_notes(plan, table) == []
    manifest = plan.index_folder("voc") / "manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text(json.dumps({"sha256": "now"}))
    trained(plan, "table9", 0, data={"sha256": "now"})
    assert weights_notes(plan, table) == []
    trained(plan, "table9", 1, data={"sha256": "now"}, code={"training_code": "11112222"})
    trained(plan, "table9", 2, data={"sha256": "before"})
    code, data = weights_notes(plan, table)
    assert code.startswith("1 of 3 trainings were made with other code")
    assert data.startswith("1 of 3 trainings were made with other data")


def test_tables_say_which_trainings_began_under_other_code(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {"table9": TABLE})
    now = code_digest(TRAINING_CODE)
    trained(plan, "table9", 0, sessions=[{"training_code": now}, {"training_code": now}])
    trained(plan, "table9", 1, sessions=[{"training_code": "11112222"}, {"training_code": now}])
    (note,) = weights_notes(plan, plan.tables["table9"])
    assert note.startswith("1 of 2 trainings were made with other code")


@pytest.mark.parametrize("spoilt", ["run", "manifest", "starting weights"])
def test_a_record_that_is_cut_off_is_named_with_what_to_do(tmp_path: Path, spoilt: str) -> None:
    plan = plan_of(tmp_path, {"table9": TABLE})
    trained(plan, "table9", 0)
    run_id = plan.run_of(plan.tables["table9"].rows[0]).run_id
    path = {
        "run": plan.run_folder(run_id, 0) / "run.json",
        "manifest": plan.index_folder("voc") / "manifest.json",
        "starting weights": plan.initial_weights(run_id, 0).with_name("run.json"),
    }[spoilt]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('{"sha256": "no')
    with pytest.raises(DamagedRecord, match=f"{path}: not the JSON object .*; remove the file"):
        weights_notes(plan, plan.tables["table9"])


def test_tables_say_which_trainings_had_another_number_of_gpus(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {"table9": TABLE}, gpus_per_run=2)
    trained(plan, "table9", 0, processes=2)
    trained(plan, "table9", 1, processes=1)
    trained(plan, "table9", 2, processes=2, sessions=[{"processes": 1}, {"processes": 2}])
    (note,) = weights_notes(plan, plan.tables["table9"])
    assert note.startswith(
        "2 of 3 trainings were made with other numbers of processes than the plan's (2)"
    )


def test_tables_say_which_trainings_had_other_switches_of_precision(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {"table9": TABLE})
    trained(plan, "table9", 0, numerics=plan.scale.runtime.numerics)
    trained(plan, "table9", 1, numerics={**plan.scale.runtime.numerics, "amp": "bf16"})
    (note,) = weights_notes(plan, plan.tables["table9"])
    assert note.startswith("1 of 2 trainings were made with other switches of precision")


def test_tables_say_which_trainings_started_from_weights_that_are_gone(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {"table9": TABLE})
    table = plan.tables["table9"]
    runs = [plan.run_of(table.rows[index]).run_id for index in (0, 1)]
    weights = plan.initial_weights(runs[0], 0)
    weights.parent.mkdir(parents=True)
    (weights.parent / "run.json").write_text(json.dumps({"weights_sha256": "now"}))
    trained(plan, "table9", 0, initial_weights_sha256="now")
    assert weights_notes(plan, table) == []
    trained(plan, "table9", 1, initial_weights_sha256="before")
    (note,) = weights_notes(plan, table)
    assert note.startswith("1 of 2 trainings were made with other starting weights")


def test_the_machine_has_the_vector_instructions_that_rounding_depends_on() -> None:
    assert hardware()["vector_instructions"] == torch.backends.cpu.get_cpu_capability()

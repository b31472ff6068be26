"""What is drawn or written twice from the same results is the same bytes."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from claim_fixtures import plan_with
from figure_fixtures import FIGURES

from obc.report.tables import claims


def written(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("name", FIGURES)
def test_a_second_drawing_is_the_same_bytes(name: str, tmp_path: Path) -> None:
    draw = FIGURES[name](tmp_path)
    for folder in ("first", "second"):
        draw(tmp_path / folder)
    first = written(tmp_path / "first")
    assert first == written(tmp_path / "second")
    assert {".svg", ".png", ".pdf"} <= {Path(file).suffix for file in first}


def test_a_second_page_of_claims_is_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    analytic = SimpleNamespace(analytic_claims=lambda: [])  # the real one imports MMDetection
    monkeypatch.setitem(sys.modules, "obc.analysis.analytic_claims", analytic)
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2]]")
    for folder in ("first", "second"):
        claims.write(plan, tmp_path / folder, strict=False)
    first = written(tmp_path / "first")
    assert first == written(tmp_path / "second")
    assert first.keys() == {"claims.json", "claims.md"}

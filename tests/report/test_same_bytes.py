"""What is drawn or written twice from the same results is the same bytes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from claim_fixtures import plan_with
from example_image_fixtures import two_evaluations
from report_fixtures import FIGURE, measure, plan_of

from obc.analysis.collect import collect
from obc.report.figures import bin_construction, example_images, grid, losses, style
from obc.report.tables import claims

Draw = Callable[[Path], object]


def line(tmp_path: Path) -> Draw:
    def draw(folder: Path) -> None:
        with style.figure_style("line"):
            drawing = style.blank((2, 2))
            drawing.add_subplot().plot([0, 1], label="a line")
            style.save_both(drawing, folder, "line")

    return draw


def loss_curves(tmp_path: Path) -> Draw:
    return losses.draw


def figure4(tmp_path: Path) -> Draw:
    return bin_construction.draw


def figure5(tmp_path: Path) -> Draw:
    plan = plan_of(tmp_path, {"figure5": FIGURE})
    measure(plan, "figure5", 0, {"AP": 41.0})
    return lambda folder: grid.figure(plan, "figure5", collect(plan), folder)


def figure6(tmp_path: Path) -> Draw:
    plan = two_evaluations(tmp_path)
    return lambda folder: example_images.figure6(plan, folder)


def claims_page(tmp_path: Path) -> Draw:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2]]")
    return lambda folder: claims.write(plan, folder, strict=False)


@pytest.mark.parametrize(
    ("prepare", "files"),
    [
        (line, {"line.svg", "line.png"}),
        (loss_curves, {"losses.svg", "losses.png"}),
        (figure4, {"figure4.csv", "figure4.svg", "figure4.png"}),
        (figure5, {"figure5.svg", "figure5.png"}),
        (figure6, {"figure6.csv", "figure6.svg", "figure6.png"}),
        (claims_page, {"claims.json", "claims.md"}),
    ],
    ids=["line", "losses", "figure4", "figure5", "figure6", "claims"],
)
def test_a_second_drawing_is_the_same_bytes(
    prepare: Callable[[Path], Draw],
    files: set[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    analytic = SimpleNamespace(analytic_claims=lambda: [])  # the real one imports MMDetection
    monkeypatch.setitem(sys.modules, "obc.analysis.analytic_claims", analytic)
    draw = prepare(tmp_path)
    for name in ("first", "second"):
        draw(tmp_path / name)
    first, second = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        for name in ("first", "second")
    )
    assert first == second
    assert files <= first.keys()

"""Figures: a palette for colour-blind readers, lines that differ in grey, real text, same bytes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import PROJECT
from figure_fixtures import FIGURES, Draw
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from obc.config.load_plan import load_plan
from obc.report.figures import style


@dataclass(frozen=True)
class Drawn:
    """A figure after its first drawing: its files, what they were saved from, and what draws it."""

    folder: Path
    drawings: list[Figure]
    draw: Draw

    @property
    def svgs(self) -> list[str]:
        return [path.read_text() for path in self.folder.glob("*.svg")]


# A figure's tests go to one worker, which draws it once.
@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in FIGURES],
)
def drawn(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    folder = tmp_path_factory.mktemp(request.param)
    drawings: list[Figure] = []
    save = style.save

    def keep(drawing: Figure, *rest: object) -> None:
        drawings.append(drawing)
        save(drawing, *rest)

    draw = FIGURES[request.param](folder / "of")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(style, "save", keep)
        draw(folder / "drawn")
    return Drawn(folder / "drawn", drawings, draw)


def is_grey(color: str) -> bool:
    return color[1:3] == color[3:5] == color[5:7]


def test_every_colour_is_of_the_palette_or_grey(drawn: Drawn) -> None:
    for svg in drawn.svgs:
        colors = set(re.findall(r"(?:fill|stroke|color): (#[0-9a-f]{6})", svg))
        others = {color for color in colors if not is_grey(color)}
        assert others <= set(style.OKABE_ITO.values())


def test_lines_with_different_labels_differ_without_colour(drawn: Drawn) -> None:
    for drawing in drawn.drawings:
        for axes in drawing.axes:
            looks = {}
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
                line = handle[0] if isinstance(handle, tuple) else handle
                if isinstance(line, Line2D):
                    fill = line.get_markerfacecolor() in ("white", "none")
                    looks[label] = (line.get_marker(), line.get_linestyle(), fill)
            assert len(set(looks.values())) == len(looks)


def test_text_is_text_and_no_line_of_it_is_a_caption(drawn: Drawn) -> None:
    for svg in drawn.svgs:
        words = re.findall("<text[^>]*>([^<]*)</text>", svg)
        assert words and max(map(len, words)) < 100
        assert "DejaVuSans-" not in svg  # a letter's outline, as matplotlib names it


def test_a_second_drawing_is_the_same_bytes(drawn: Drawn, tmp_path: Path) -> None:
    drawn.draw(tmp_path)
    first = files(drawn.folder)
    assert first == files(tmp_path)
    assert {".svg", ".png", ".pdf"} <= {Path(file).suffix for file in first}


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_colours_of_the_grids_are_of_the_palette() -> None:
    plan = load_plan({"scale": "smoke"}, PROJECT / "config")
    for name in plan.figures:
        assert set(plan.tables[name].plot.colors.values()) <= set(style.OKABE_ITO.values())

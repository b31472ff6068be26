"""All figures: a palette for colour-blind readers, lines that differ in grey, real text."""

from __future__ import annotations

import re

import pytest
from conftest import PROJECT
from figure_fixtures import FIGURES
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from obc.config.load_plan import load_plan
from obc.report.figures import style


@pytest.fixture(scope="module", params=FIGURES)
def drawn(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[str], list[Figure]]:
    """The SVGs of a figure as text, and what they were saved from."""
    folder = tmp_path_factory.mktemp(request.param)
    drawings: list[Figure] = []
    save = style.save

    def keep(drawing: Figure, *rest: object) -> None:
        drawings.append(drawing)
        save(drawing, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(style, "save", keep)
        FIGURES[request.param](folder / "of")(folder / "drawn")
    return [path.read_text() for path in (folder / "drawn").glob("*.svg")], drawings


def is_grey(color: str) -> bool:
    return color[1:3] == color[3:5] == color[5:7]


def test_every_colour_is_of_the_palette_or_grey(drawn: tuple[list[str], list[Figure]]) -> None:
    for svg in drawn[0]:
        colors = set(re.findall(r"(?:fill|stroke|color): (#[0-9a-f]{6})", svg))
        others = {color for color in colors if not is_grey(color)}
        assert others <= set(style.OKABE_ITO.values())


def test_lines_with_different_labels_differ_without_colour(
    drawn: tuple[list[str], list[Figure]],
) -> None:
    for drawing in drawn[1]:
        for axes in drawing.axes:
            looks = {}
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
                line = handle[0] if isinstance(handle, tuple) else handle
                if isinstance(line, Line2D):
                    fill = line.get_markerfacecolor() in ("white", "none")
                    looks[label] = (line.get_marker(), line.get_linestyle(), fill)
            assert len(set(looks.values())) == len(looks)


def test_text_is_text_and_no_line_of_it_is_a_caption(
    drawn: tuple[list[str], list[Figure]],
) -> None:
    for svg in drawn[0]:
        words = re.findall("<text[^>]*>([^<]*)</text>", svg)
        assert words and max(map(len, words)) < 100
        assert "DejaVuSans-" not in svg  # a letter's outline, as matplotlib names it


def test_the_colours_of_the_grids_are_of_the_palette() -> None:
    plan = load_plan({"scale": "smoke"}, PROJECT / "config")
    for name in plan.figures:
        assert set(plan.tables[name].plot.colors.values()) <= set(style.OKABE_ITO.values())

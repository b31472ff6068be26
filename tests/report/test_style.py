"""The common look of figures: colours that differ, text that fits, files made again."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from obc.config.box_losses.l2 import L2
from obc.config.box_losses.offset_bin import OffsetBin
from obc.config.box_losses.smooth_l1 import SmoothL1
from obc.report.figures import style

COLOURS = ("REGRESSION", "SQUARED", "BINS", "HIERARCHY", "EXPECTATION", "ARGMAX", "TRUTH")


def test_each_meaning_has_a_colour_of_its_own() -> None:
    assert len({getattr(style, name) for name in COLOURS}) == len(COLOURS)


@pytest.mark.parametrize(
    ("box", "color"),
    [
        (SmoothL1(loss="smooth_l1"), style.REGRESSION),
        (L2(loss="l2"), style.SQUARED),
        (OffsetBin(loss="offset_bin"), style.BINS),
        (OffsetBin(loss="offset_bin", num_stages=2), style.HIERARCHY),
    ],
)
def test_a_method_has_the_colour_of_its_box_loss(box: object, color: str) -> None:
    assert style.method_look(box)["color"] == color


def test_argmax_is_dashed() -> None:
    box = OffsetBin(loss="offset_bin")
    assert style.method_look(box, "argmax")["linestyle"] == "--"
    assert style.method_look(box, "expectation")["linestyle"] == "-"


@pytest.mark.parametrize("width", [3.2, 6.4, 12.8])
def test_the_text_under_a_figure_is_as_wide_as_the_figure(width: float) -> None:
    drawing = style.blank((width, 3))
    style.write_around(drawing, "Title", "word " * 200, missing="row 1")
    drawing.canvas.draw()
    text = drawing._supxlabel
    assert 0.7 < text.get_window_extent().width / drawing.bbox.width < 1
    assert text.get_text().endswith("Without a number: row 1.")


def test_plotted_data_say_where_a_number_is_missing(tmp_path: Path) -> None:
    style.save_data(pd.DataFrame({"row": ["a", "b"], "AP": [41.25, None]}), tmp_path, "line")
    assert (tmp_path / "line.csv").read_text() == "row,AP\na,41.25\nb,n/a\n"

"""The common look of figures: colours that differ, text that fits, files made again."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from obc.config.box_losses.l2 import L2
from obc.config.box_losses.offset_bin import OffsetBin
from obc.config.box_losses.smooth_l1 import SmoothL1
from obc.report.figures import style
from obc.report.figures.caption import caption, read_caption

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


def test_methods_differ_in_their_markers_and_decodings_in_fill() -> None:
    boxes = [SmoothL1(loss="smooth_l1"), L2(loss="l2"), OffsetBin(loss="offset_bin")]
    boxes.append(OffsetBin(loss="offset_bin", num_stages=2))
    assert len({style.method_look(box)["marker"] for box in boxes}) == len(boxes)
    assert style.method_look(boxes[2], "argmax")["markerfacecolor"] == "white"


@pytest.mark.parametrize("points", [1, 2, 5, 101, 1000])
def test_a_long_line_has_few_markers_and_a_short_one_all(points: int) -> None:
    for line in range(9):
        start, step = style.mark_every(line, points)
        marks = range(points)[start::step]
        assert min(points, 5) <= len(marks) <= 12


def test_a_figure_has_real_text_a_badge_and_its_caption_as_metadata(tmp_path: Path) -> None:
    with style.figure(tmp_path, "line", "Title", "a < b & c", badge="SMOKE scale") as drawing:
        drawing.add_subplot().set_xlabel("number of bins")
    assert {path.name for path in tmp_path.iterdir()} == {"line.svg", "line.png", "line.pdf"}
    drawn = re.findall("<text[^>]*>([^<]*)</text>", (tmp_path / "line.svg").read_text())
    assert {"number of bins", "SMOKE scale"} <= set(drawn) and "Title" not in drawn
    for kind in ("svg", "png"):
        assert read_caption(tmp_path / f"line.{kind}") == ("Title", "a < b & c")
    with Image.open(tmp_path / "line.png") as image:
        assert [round(dots) for dots in image.info["dpi"]] == [300, 300]


def test_a_drawing_of_another_program_has_no_caption(tmp_path: Path) -> None:
    for name in ("a.svg", "b.png"):
        (tmp_path / name).write_text("<svg")
        assert read_caption(tmp_path / name) == ("", "")


def test_a_caption_ends_with_what_is_missing() -> None:
    assert caption("One.", "", "Two.", missing="row 1") == "One. Two. Without a number: row 1."
    assert caption("One.") == "One."


def test_plotted_data_say_where_a_number_is_missing(tmp_path: Path) -> None:
    style.save_data(pd.DataFrame({"row": ["a", "b"], "AP": [41.25, None]}), tmp_path, "line")
    assert (tmp_path / "line.csv").read_text() == "row,AP\na,41.25\nb,n/a\n"

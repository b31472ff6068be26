"""The figure of the losses: its curves, and how it is drawn."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import matplotlib.image
import pandas as pd
import pytest

from obc.report.figures.losses import BINS_OFFSET, BINS_SCORE, L2, LOOKS, curves, draw

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return curves()


def at(frame: pd.DataFrame, name: str, error: float, column: str) -> float:
    line = frame[(frame["name"] == name) & ((frame["error"] - error).abs() < 1e-9)]
    return line[column].item()


def test_every_curve_has_a_look_and_the_same_errors(frame: pd.DataFrame) -> None:
    assert list(frame.columns) == ["name", "error", "loss", "gradient"]
    assert list(frame["name"].unique()) == list(LOOKS)
    assert (
        frame.groupby("name")["error"].agg(["min", "max", "size"]).drop_duplicates().shape[0] == 1
    )
    assert not frame.isna().any(axis=None)


def test_curves_hold_the_losses_and_gradients_of_their_names(frame: pd.DataFrame) -> None:
    assert at(frame, L2, 2.0, "loss") == pytest.approx(4)
    assert at(frame, L2, 2.0, "gradient") == pytest.approx(4)
    assert at(frame, "Smooth L1, β = 2", 1.0, "gradient") == pytest.approx(0.5)
    assert at(frame, "Smooth L1, β = 1", 2.0, "loss") == pytest.approx(1.5)
    assert at(frame, BINS_OFFSET, 0.9, "gradient") == pytest.approx(0.9 / 0.09, rel=1e-4)
    # p_true = exp(-9 / 2) / sqrt(2 pi), three bins off.
    p_true = math.exp(-4.5) / math.sqrt(2 * math.pi)
    assert at(frame, BINS_SCORE, 0.9, "gradient") == pytest.approx(1 - p_true, abs=1e-5)


def test_the_two_curves_of_the_bins_differ_in_their_gradient_only(frame: pd.DataFrame) -> None:
    offset, score = (frame[frame["name"] == name] for name in (BINS_OFFSET, BINS_SCORE))
    assert offset["loss"].tolist() == score["loss"].tolist()
    assert score["gradient"].between(0, 1).all()


def test_the_figure_is_drawn_as_svg_png_and_pdf(tmp_path: Path) -> None:
    draw(tmp_path / "figures")
    # 6.4 x 4.2 inches at 300 dots per inch, as every figure.
    assert matplotlib.image.imread(tmp_path / "figures/losses.png").shape[:2] == (1260, 1920)
    assert ElementTree.parse(tmp_path / "figures/losses.svg").getroot().tag == f"{SVG}svg"
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == [
        "losses.pdf",
        "losses.png",
        "losses.svg",
    ]


def test_a_line_that_leaves_the_frame_says_what_it_reaches(
    tmp_path: Path, frame: pd.DataFrame
) -> None:
    draw(tmp_path)
    words = (tmp_path / "losses.svg").read_text()
    last = frame[frame["error"] == frame["error"].max()].set_index("name")
    for quantity in ("loss", "gradient"):
        frame_top = 1.05 * last.loc[L2, quantity]
        assert last.loc[BINS_OFFSET, quantity] > frame_top
        assert f">to {last.loc[BINS_OFFSET, quantity]:.0f}</text>" in words


def test_lines_differ_in_their_markers() -> None:
    markers = [look["marker"] for look in LOOKS.values()]
    assert len(set(markers)) == len(markers)

"""Figure 4: the bins that it draws are those of `OffsetBins`, and its files."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import matplotlib.image
import pandas as pd
import pytest
import torch

from obc.bins import OffsetBins
from obc.cli.main import main
from obc.report.figures.bin_construction import BINS, bin_table, draw


def test_the_papers_example_has_five_bins_and_two_that_overflow() -> None:
    # The caption of the paper's Figure 4: [-5, 5] in five bins, their middles, the endpoints.
    assert bin_table(BINS).values.tolist() == [
        [5, -math.inf, -5, -5],
        [0, -5, -3, -4],
        [1, -3, -1, -2],
        [2, -1, 1, 0],
        [3, 1, 3, 2],
        [4, 3, 5, 4],
        [6, 5, math.inf, 5],
    ]


@pytest.mark.parametrize("bins", [BINS, OffsetBins(num_bins=20, max_offset=3.0)])
def test_each_bin_holds_the_offsets_that_are_labelled_with_it(bins: OffsetBins) -> None:
    table = bin_table(bins)
    limit = 2 * bins.max_offset
    inside = (table["low"].clip(lower=-limit) + table["high"].clip(upper=limit)) / 2
    just_above, just_below = table["low"].iloc[1:] + 1e-4, table["high"].iloc[:-1] - 1e-4
    for offsets, labels in (
        (inside, table["label"]),
        (just_above, table["label"].iloc[1:]),
        (just_below, table["label"].iloc[:-1]),
    ):
        encoded = bins.encode(torch.tensor(offsets.to_numpy()))[:, 0]
        assert encoded.tolist() == labels.tolist()


def test_a_bin_stands_for_what_its_label_decodes_to() -> None:
    table = bin_table(BINS)
    for label, representative in zip(table["label"], table["representative"], strict=True):
        logits = torch.zeros(1, BINS.num_logits)
        logits[0, label] = 1.0
        assert BINS.decode(logits, "argmax").item() == representative


def test_the_figure_is_drawn_with_the_data_beside_it(tmp_path: Path) -> None:
    draw(tmp_path / "first")
    names = ["figure4.csv", "figure4.pdf", "figure4.png", "figure4.svg"]
    assert sorted(path.name for path in (tmp_path / "first").iterdir()) == names
    # 6.4 inches wide, as every figure, and 0.45 of their height, at 300 dots per inch.
    assert matplotlib.image.imread(tmp_path / "first/figure4.png").shape[:2] == (567, 1920)
    root = ElementTree.parse(tmp_path / "first/figure4.svg").getroot()
    assert root.tag.endswith("svg")
    written = pd.read_csv(tmp_path / "first/figure4.csv")
    pd.testing.assert_frame_equal(written, bin_table(BINS), check_dtype=False)


def test_the_command_draws_into_the_folder_named(tmp_path: Path) -> None:
    assert main(["figure", "figure4", "--folder", str(tmp_path / "figures")]) == 0
    assert (tmp_path / "figures/figure4.csv").exists()

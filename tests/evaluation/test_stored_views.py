"""Views into a head in a file: what figures and tables read of them comes back."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from inside_fixtures import FIVE_BINS, PROPOSAL, made_up_view

from obc.evaluation.head_view import HeadView
from obc.evaluation.stored_views import ViewsFileError, load_views, save_views

BINS = {"num_bins": 5, "max_offset": 5.0}
CODER = {"type": "OffsetBinBBoxCoder", "bins": BINS}
ABOUT = {"run_id": "voc-faster-r50-obc-1234abcd", "seed": 3, "record": {"seconds": 1.5},
         "classes": ["cat", "dog"], "coder": CODER}  # fmt: skip


@pytest.fixture
def view(tmp_path: Path) -> HeadView:
    torch.manual_seed(0)
    probabilities = torch.rand(2, 4, 1, 7).softmax(-1)
    far = torch.tensor([[100.0, 20.0, 120.0, 60.0]])
    found = made_up_view(probabilities, FIVE_BINS, torch.cat([PROPOSAL, far]))
    return replace(found, image_path=tmp_path / "images/7.png")


def test_what_was_stored_comes_back(view: HeadView, tmp_path: Path) -> None:
    save_views(tmp_path / "head.npz", ABOUT, [view], tmp_path)
    stored = load_views(tmp_path / "head.npz")
    assert (stored.run_id, stored.seed, stored.record) == (ABOUT["run_id"], 3, {"seconds": 1.5})
    (again,) = stored.views
    assert (again.image_id, again.size, again.classes) == (7, view.size, ("cat", "dog"))
    assert again.image_path == Path("images/7.png")
    half = "probabilities"
    torch.testing.assert_close(again.probabilities, view.probabilities, atol=1e-3, rtol=1e-3)
    tensors = [
        one.name for one in fields(view) if isinstance(getattr(view, one.name), torch.Tensor)
    ]
    for name in (name for name in tensors if name != half):
        torch.testing.assert_close(getattr(again, name), getattr(view, name), equal_nan=True)
    torch.testing.assert_close(again.expectation.boxes, view.expectation.boxes)
    torch.testing.assert_close(again.stage_ranges(0), view.stage_ranges(0))


def test_a_file_of_something_else_is_named(tmp_path: Path) -> None:
    (tmp_path / "head.npz").write_text("nothing")
    with pytest.raises(ViewsFileError, match=r"head\.npz: not a file of views"):
        load_views(tmp_path / "head.npz")

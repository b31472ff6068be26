"""Whether a figure or a page shows images is read from the file, whatever the plan is now."""

from __future__ import annotations

from pathlib import Path

import pytest
from example_image_fixtures import two_evaluations

from obc.config.plan import Plan
from obc.report.figures.example_images import figure6
from obc.report.page import write
from obc.report.shown_images import shows_images


@pytest.fixture
def plans(tmp_path: Path) -> dict[bool, Plan]:
    """The same plan by `show_images`."""
    plan = two_evaluations(tmp_path)
    (tmp_path / "captions").mkdir()
    configs = {shown: plan.config.model_copy(update={"show_images": shown}) for shown in (0, 1)}
    return {bool(one): plan.model_copy(update={"config": of}) for one, of in configs.items()}


@pytest.mark.parametrize("drawn_with", [True, False])
@pytest.mark.parametrize("written_with", [True, False])
def test_a_figure_and_a_page_show_what_they_were_drawn_with(
    plans: dict[bool, Plan], tmp_path: Path, drawn_with: bool, written_with: bool
) -> None:
    figures, page = plans[True].results / "figures", tmp_path / "report.html"
    figure6(plans[drawn_with], figures)
    assert shows_images(figures / "figure6.svg") is drawn_with
    assert shows_images(figures / "figure6.png") is drawn_with
    write(plans[written_with], page, tmp_path / "captions")
    assert 'id="figure-figure6"' in page.read_text(encoding="utf-8")
    assert shows_images(page) is (drawn_with or written_with)


def test_other_figures_show_no_images(tmp_path: Path) -> None:
    (tmp_path / "figure5.svg").write_text("<svg/>")
    assert not shows_images(tmp_path / "figure5.svg")

"""The report's text: every number with its run, what is missing said, nothing from the network."""

from __future__ import annotations

import base64
import io
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from page_fixtures import FILES, SVG, measured_plan
from PIL import Image
from report_fixtures import FIGURE, TABLE, plan_of

from obc.analysis.collect import collect
from obc.cli.main import main
from obc.config.plan import Plan
from obc.io.files import write_json
from obc.report.figures.grid import figure
from obc.report.page import render
from obc.report.pictures import LIMIT, STEPS, figure_uri
from obc.report.provenance.measurements import Provenance
from obc.report.run_pictures import POINTS, frame_curves
from obc.report.tables.claims import RULES
from obc.report.tables.readable import readable


class Page(HTMLParser):
    """Ids, links, images and the text of each element with an id."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[tuple[str, str]] = []
        self.sources: list[str] = []
        self.text = ""
        self._link: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if found.get("id"):
            self.ids.append(found["id"])
        if tag == "a":
            self._link = found["href"]
            self.links.append((self._link, ""))
        if tag in ("img", "script", "link"):
            self.sources.append(found.get("src") or found.get("href") or "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "a":
            self._link = None
        if tag in ("td", "th", "li", "p", "summary"):
            self.text += " "

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._link is not None:
            href, text = self.links.pop()
            self.links.append((href, text + data))


pytestmark = pytest.mark.xdist_group("page")  # whose worker renders it, once


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Path]:
    return measured_plan(tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def text(made: tuple[Plan, Path]) -> str:
    return render(*made)


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def section(text: str, identifier: str) -> str:
    """From an id to the end of its section, as plain text."""
    start = text.index(f'id="{identifier}"')
    tags = ("</figure>",) if identifier.startswith("figure-") else ("</section>", "</article>")
    ends = [text.find(end, start) for end in tags]
    return re.sub(r"\s+", " ", Page(text[start : min(e for e in ends if e > 0)]).text)


# --- numbers -----------------------------------------------------------------------------------


def test_every_measured_cell_leads_to_the_page_of_its_run(
    made: tuple[Plan, Path], page: Page
) -> None:
    plan, _ = made
    run_id = plan.run_of(plan.tables["table8"].rows[0]).run_id
    assert page.links.count((f"#run-{run_id}", "46.0 ± 1.4")) == 6
    for name, table in plan.tables.items():
        assert name in page.ids
        for row in table.rows:
            assert row.cited or f"run-{plan.run_of(row).run_id}" in page.ids


def test_a_difference_has_a_sign_and_a_colour(text: str) -> None:
    assert '<span class="difference up">+1.0</span>' in text  # 46.0 - 45.0
    assert '<span class="difference down">−28.5</span>' in text  # 46.0 - 74.5
    assert "not published" in section(text, "table8")


def test_a_cell_without_a_number_says_why(text: str) -> None:
    assert "failed, not run" in section(text, "table8")
    assert "Known (literature)" in section(text, "table7")


def test_a_run_page_has_each_seed_and_what_it_was_made_with(
    made: tuple[Plan, Path], text: str
) -> None:
    plan, _ = made
    row = plan.tables["table8"].rows[0]
    run_id = plan.run_of(row).run_id
    said = section(text, f"run-{run_id}")
    for expected in (
        "seed 0 seed 1", "expectation, seed 0 45.00 45.00", "expectation, seed 1 47.00",
        "torch 2.13.0", "Abacus", "12.5",
        "host 600 MiB", "data manifest data", "weights sha256 weights", "last <line>",
        "metrics.expectation.json", "Table 8: A method with a long name", "not recorded",
        '"num_stages": 3', "Starts from init-faster-r50",
    ):  # fmt: skip
        assert expected in said, expected


def test_the_list_of_runs_has_their_states(text: str) -> None:
    assert "failed" in section(text, "runs") and "2026-01-02 03:04" in section(text, "runs")


# --- figures, verdicts, further tables ---------------------------------------------------------


def test_any_figure_in_the_folder_is_shown_with_its_caption(text: str) -> None:
    assert "It is blue & plain." in section(text, "figure-blue")


def test_a_figure_that_is_not_drawn_is_missed(tmp_path: Path) -> None:
    text = render(plan_of(tmp_path, {"table7": TABLE, "figure9": FIGURE}), tmp_path)
    assert "figure9 has not been drawn" in text


def test_a_figure_has_one_caption_which_begins_with_its_heading(text: str) -> None:
    figures = re.findall(r"<figure.*?</figure>", text, re.DOTALL)
    assert figures and all(figure.count("<figcaption>") == 1 for figure in figures)
    said = section(text, "figure-blue")
    assert said.count("AP < n") == said.count("It is blue") == said.count("Seeds: 0 & 1.") == 1
    assert said.index("AP < n") < said.index("How to read it.") < said.index("Seeds: 0 & 1.")


def test_a_drawing_is_taken_as_svg_unless_it_is_mostly_pixels(page: Page) -> None:
    images = [source for source in page.sources if len(source) > len("data:,")]
    assert [source[:15] for source in images] == [
        "data:image/svg+", "data:image/svg+", "data:image/webp", "data:image/svg+",
    ]  # fmt: skip


@pytest.mark.parametrize(("grain", "width"), [(8, STEPS[0][0]), (1, STEPS[-1][0])])
def test_a_large_picture_is_scaled_until_it_is_small(
    tmp_path: Path, grain: int, width: int
) -> None:
    """The finer its grain, the more bytes; noise is more than any photograph has."""
    path = tmp_path / "large.svg"
    path.write_text(SVG + " " * LIMIT)
    noise = Image.effect_noise((1920 // grain, 1080 // grain), 25)
    noise.resize((1920, 1080)).save(path.with_suffix(".png"))
    content = base64.b64decode(figure_uri(path).partition(",")[2])
    with Image.open(io.BytesIO(content)) as image:
        assert image.width == width
    assert len(content) <= LIMIT


def test_verdicts_are_shown_with_their_intervals(text: str) -> None:
    assert "Other statements of the paper: 1 reproduced." in section(text, "verdicts")
    said = section(text, "claims")
    assert "AP: Bins less L2 | squared" in said and "+20.5 [" in said
    assert "not excluded" in said or "excluded, ours is" in said


def test_verdicts_by_former_rules_are_not_shown(made: tuple[Plan, Path]) -> None:
    plan, captions = made
    path = plan.results / "claims.json"
    now = path.read_text()
    try:
        path.write_text(now.replace(f'"rules": {RULES}', '"rules": 1'))
        assert "Not judged, or by other rules" in section(render(plan, captions), "verdicts")
    finally:
        path.write_text(now)


def test_other_tables_of_the_folder_are_shown_with_the_figure_of_their_name(text: str) -> None:
    start, end = text.index('id="further"'), text.index('id="claims"')
    said = re.sub(r"\s+", " ", Page(text[start:end]).text)
    assert "It is blue & plain." in said
    assert (
        text.count('id="figure-diagnosis"') == text[start:end].count('id="figure-diagnosis"') == 1
    )


def test_they_have_named_columns_units_and_rounded_values(text: str) -> None:
    said = section(text, "table-diagnosis")
    assert "Method Objects found (%) Mean IoU (%) IoU below 0.9 (%) Error of x (px)" in said
    assert "Regression 95.8 ± 0.2 80.3 ± 0.3 79.2 ± 1.6 2.37 ± 0.03 1.45 ± 0.02" in said
    assert "Bins – – – – –" in said
    said = section(text, "table-table8_compared")
    assert "Bins Regression AP90 −1.2 [−2.5, +0.04] not told apart 1,234,567 12.35" in said


def test_a_table_that_nobody_knows_is_rounded_too(text: str) -> None:
    said = section(text, "table-my_own")
    assert "what it is mean error count first 0.8765 ± 0.01235 12,345 second – 7" in said


def test_no_column_of_a_file_is_shown_as_it_is_called_there(text: str) -> None:
    of_files = {name for content in FILES.values() for name in content.split("\n")[0].split(",")}
    headers = re.findall(r"<th[^>]*>([^<]*)</th>", text[text.index('id="further"') :])
    labels = re.findall('data-label="([^"]*)"', text)
    assert not {name for name in of_files if "_" in name} & {*headers, *labels}
    assert "some-run-1" not in text


def test_every_measured_table_of_the_suite_is_known_to_the_page() -> None:
    """Columns that a user's file would have are guessed; those of the suite are named."""
    for name in ("diagnosis", "calibration"):
        header = Path(f"results/reference/mini/tables/{name}.csv").read_text().splitlines()[0]
        table = readable(name, pd.DataFrame(columns=header.split(",")))
        assert not [column for column in table.header if "_" in column]
        assert sum("(" in column for column in table.header) >= 5


# --- runs ------------------------------------------------------------------------------------


def test_a_run_page_shows_its_losses_and_what_it_finds(made: tuple[Plan, Path], text: str) -> None:
    plan, _ = made
    run_id = plan.run_of(plan.tables["table8"].rows[0]).run_id
    start = text.index(f'id="run-{run_id}"')
    article = text[start : text.index("</article>", start)]
    # Two losses of two seeds: 8, 4, 2 at a third, two thirds and the end of 400 x 180.
    whole = '<polyline class="loss" points="133.3,0.0 266.7,90.0 400.0,135.0"/>'
    assert article.count(whole) == 2 and article.count('class="loss_bbox" points') == 2
    # No detections were left of this run.
    assert "<use" not in article


def test_all_runs_show_one_image_with_its_objects_and_sure_detections(
    made: tuple[Plan, Path], text: str
) -> None:
    plan, _ = made
    assert text.count('<symbol id="image-voc"') == text.count("<image ") == 1
    for row in (0, 2):
        start = text.index(f'id="run-{plan.run_of(plan.tables["table7"].rows[row]).run_id}"')
        article = text[start : text.index("</article>", start)]
        assert article.count('<use href="#image-voc"/>') == 1
        # The second image has two objects, and one detection that scores enough.
        assert article.count('class="object"') == 2
        assert article.count('class="detection"') == 1 and "cat 0.90" in article


def test_a_loss_that_is_no_number_is_left_out() -> None:
    curve = {"seed": 0, "iteration": [1, 2, 3], "loss": [4.0, float("inf"), 2.0]}
    found = frame_curves(pd.DataFrame({**curve, "loss_bbox": float("nan")}))
    assert [(line.loss, line.points) for line in found.lines] == [("loss", "133.3,0.0 400.0,90.0")]
    nothing = pd.DataFrame({**curve, "loss": float("nan"), "loss_bbox": float("nan")})
    assert frame_curves(nothing) is None


def test_a_long_curve_is_thinned_out_and_keeps_its_ends() -> None:
    steps = range(1, 5001)
    curve = {"seed": 0, "iteration": steps, "loss": [1.0] * 5000, "loss_bbox": [0.5] * 5000}
    (points, _) = (line.points.split() for line in frame_curves(pd.DataFrame(curve)).lines)
    assert len(points) == POINTS
    assert points[0].startswith("0.1,") and points[-1].startswith("400.0,")


def test_an_image_that_is_gone_leaves_its_place_empty(tmp_path: Path) -> None:
    made = measured_plan(tmp_path)
    shutil.rmtree(tmp_path / "images")
    assert "<symbol" not in render(*made)


# --- the whole ---------------------------------------------------------------------------------


def test_what_answers_first_is_first(text: str) -> None:
    order = [
        "verdicts", "first", "figure-figure9", "tables", "figures", "further", "claims", "runs",
        "environment",
    ]  # fmt: skip
    places = [text.index(f'id="{identifier}"') for identifier in order]
    assert places == sorted(places)


def test_table_1_and_figure_5_come_first_of_the_tables(tmp_path: Path) -> None:
    tables = {"table0": TABLE, "table1": TABLE, "figure5": FIGURE}
    plan = plan_of(tmp_path, tables)
    figure(plan, "figure5", collect(plan), plan.results / "figures")
    text = render(plan, tmp_path)
    places = [
        text.index(f'id="{identifier}"') for identifier in ("table1", "figure-figure5", "table0")
    ]
    assert places == sorted(places)


def test_a_claim_is_a_sentence_with_its_verdict_and_both_sizes(text: str) -> None:
    said = section(text, "verdicts")
    assert "1 ✓ reproduced" in said
    assert re.search(
        r"✓ reproduced One \| beats the other. Ours: \+20.5 \[.*\] †; paper: \+7.5.", said
    )


def test_the_contents_name_every_section_in_the_order_of_the_page(text: str, page: Page) -> None:
    contents = Page(text[text.index("<nav") : text.index("</nav>")])
    anchors = [href.removeprefix("#") for href, _ in contents.links]
    assert anchors == sorted(anchors, key=page.ids.index)
    assert {"verdicts", "table8", "figure-figure9", "table-diagnosis", "runs"} <= set(anchors)


def test_a_page_of_twenty_figures_can_be_committed(text: str) -> None:
    """What twenty pictures of the largest size come to, and the page around them."""
    assert len(text) + 20 * 4 / 3 * LIMIT < 4e6


def test_committed_pages_are_small_and_none_of_their_links_is_broken() -> None:
    for path in Path("results/reference").glob("*/report.html"):
        text = path.read_text(encoding="utf-8")
        committed = Page(text)
        assert len(text) < 4e6
        assert {href for href, _ in committed.links} <= {f"#{one}" for one in committed.ids}
        assert all(source.startswith("data:") for source in committed.sources)


def test_it_says_on_top_that_the_scale_is_not_comparable(text: str) -> None:
    top = text[text.index("<main") : text.index('id="verdicts"')]
    assert "Not comparable with the paper's numbers." in Page(top).text


def test_nothing_comes_from_a_network_and_no_link_leads_nowhere(page: Page, text: str) -> None:
    assert all(source.startswith("data:") for source in page.sources)
    assert not re.findall(r"(?:src|href)=[\"']?(?:https?:)?//|url\(|@import|<script", text)
    assert {href for href, _ in page.links} <= {f"#{identifier}" for identifier in page.ids}
    assert len(page.ids) == len(set(page.ids))


def test_the_same_results_make_the_same_page(made: tuple[Plan, Path], text: str) -> None:
    assert render(*made) == text


def test_a_plan_of_which_nothing_ran_has_a_page(tmp_path: Path) -> None:
    text = render(plan_of(tmp_path, {"table7": TABLE}), tmp_path)
    assert "not run" in section(text, "table7")
    assert "Nothing has been trained." in text and "Not judged" in text


def test_the_command_writes_page_and_provenance(made: tuple[Plan, Path]) -> None:
    plan, captions = made
    file = plan.results / "plan.json"
    plan.save(file)
    assert main(["report", str(file), "--captions", str(captions)]) == 0
    assert (plan.results / "report.html").read_text().startswith("<!DOCTYPE html>")
    assert Provenance.model_validate_json((plan.results / "provenance.json").read_text()).runs


def test_every_table_of_the_project_has_a_caption() -> None:
    names = {path.stem for path in Path("config/experiments").glob("*.yaml")} | {"losses", "claims"}
    assert names <= {path.stem for path in Path("workflow/report").glob("*.rst")}


# --- what is not trained on --------------------------------------------------------------------

COUNTS = {
    "images": 12, "boxes": 30, "trained_images": 3, "trained_boxes": 8, "without_objects": 2,
    "small_images": 7, "small_boxes": 4, "ignored_boxes": 0, "crowd": 1,
}  # fmt: skip


def indexed_with(folder: Path, **counts: int) -> tuple[Plan, Path]:
    plan = plan_of(folder, {"table8": TABLE})
    manifest = {"sha256": "data", "splits": {"train": {**COUNTS, **counts}, "val": {}}}
    write_json(plan.index_folder("voc") / "manifest.json", manifest)
    return plan, folder


def test_the_page_counts_what_is_not_trained_on(tmp_path: Path) -> None:
    """12 - 3 images and 30 - 8 objects, with those reasons whose count is not 0."""
    assert (
        "Data voc: 9 of 12 training images and 22 of 30 objects are not trained on (2 images "
        "without objects, 7 images with a side below 32 pixels, 4 objects below a pixel, 1 crowds)."
    ) in render(*indexed_with(tmp_path))


def test_the_page_says_nothing_where_all_is_trained_on(tmp_path: Path) -> None:
    made = indexed_with(tmp_path, trained_images=12, trained_boxes=30)
    assert "not trained on" not in render(*made)

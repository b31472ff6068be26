"""The report's text: every number with its run, what is missing said, nothing from the network."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from page_fixtures import measured_plan
from report_fixtures import TABLE, plan_of

from obc.cli.main import main
from obc.config.plan import Plan
from obc.io.files import write_json
from obc.report.page import render
from obc.report.provenance.measurements import Provenance
from obc.report.tables.claims import RULES


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
    ends = [text.find(end, start) for end in ("</section>", "</article>", "</figure>")]
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
        "seed 0 seed 1", "AP, expectation 45.0000 47.0000", "torch 2.13.0", "Abacus", "12.5",
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
    assert "figure9 has not been drawn" in section(text, "figures")


def test_the_heading_and_the_text_that_a_drawing_carries_stand_beside_it(text: str) -> None:
    said = section(text, "figure-blue")
    assert said.index("AP < n") < said.index("It is blue") < said.index("Seeds: 0 & 1.")


def test_a_drawing_is_taken_as_svg_unless_it_is_mostly_pixels(page: Page) -> None:
    images = [source for source in page.sources if len(source) > len("data:,")]
    assert [source[:14] for source in images] == ["data:image/svg"] * 2 + ["data:image/png"]


def test_verdicts_are_shown_with_their_intervals(text: str) -> None:
    said = section(text, "claims")
    assert "Other statements of the paper: 1 reproduced." in said
    assert "AP: Bins less L2 | squared" in said and "+20.5 [" in said
    assert "not excluded" in said or "excluded, ours is" in said


def test_verdicts_by_former_rules_are_not_shown(made: tuple[Plan, Path]) -> None:
    plan, captions = made
    path = plan.results / "claims.json"
    now = path.read_text()
    try:
        path.write_text(now.replace(f'"rules": {RULES}', '"rules": 1'))
        assert "Not judged, or by other rules" in section(render(plan, captions), "claims")
    finally:
        path.write_text(now)


def test_other_tables_of_the_folder_are_shown_with_the_figure_of_their_name(text: str) -> None:
    start, end = text.index('id="further"'), text.index('id="claims"')
    said = re.sub(r"\s+", " ", Page(text[start:end]).text)
    assert "It is blue & plain." in said
    assert "bins 0.8765 l2 ✓ n/a" in said
    assert (
        text.count('id="figure-diagnosis"') == text[start:end].count('id="figure-diagnosis"') == 1
    )


# --- the whole ---------------------------------------------------------------------------------


def test_it_says_on_top_that_the_scale_is_not_comparable(text: str) -> None:
    top = text[: text.index("<nav")]
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

"""The report in a real browser, headless: looks at desktop and phone width, follows its links.

A page of the test's own holds the report in a frame, looks at it and writes down what it sees.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE
from page_fixtures import measured_plan

from obc.report import page

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
pytestmark = [
    pytest.mark.xdist_group("browser"),  # whose worker opens the page, once
    pytest.mark.skipif(BROWSER is None, reason="no chromium here (Debian: apt install chromium)"),
]
DESKTOP, PHONE = 1200, 390  # CSS pixels

LOOK = """
<!DOCTYPE html><meta charset="utf-8">
<iframe src="report.html" style="width:{width}px;height:800px;border:0"></iframe>
<pre id="seen"></pre>
<script>
const frame = document.querySelector("iframe");
const shown = element => element.getClientRects().length > 0;
frame.onload = async () => {{
  const page = frame.contentDocument, root = page.documentElement;
  const all = selector => [...page.querySelectorAll(selector)];
  const seen = {{
    tables: all("main section[id] .results").length,
    images: all("img").map(image => image.complete && image.naturalWidth > 0),
    page_scrolls: root.scrollWidth > root.clientWidth,
    wide_tables: all(".scroll").filter(box => box.scrollWidth > box.clientWidth)
      .map(box => box.getAttribute("aria-label")),
    broken_links: all("a").map(link => link.getAttribute("href"))
      .filter(href => !href.startsWith("#") || !page.getElementById(href.slice(1))),
    small_text: all("main *").filter(shown).filter(element => element.childNodes.length === 1
      && element.firstChild.nodeType === 3
      && parseFloat(frame.contentWindow.getComputedStyle(element).fontSize) < 11).length,
    runs: [],
  }};
  frame.contentWindow.scrollTo(0, root.scrollHeight);
  await new Promise(done => setTimeout(done, 50));
  const nav = page.querySelector("nav").getBoundingClientRect();
  const last = page.querySelector("main").getBoundingClientRect();
  seen.contents = {{top: nav.top, width: nav.width, height: nav.height, main: last.left,
    scrolled: frame.contentWindow.scrollY}};
  const cells = all(".results td a"), main = page.querySelector("main");
  for (const link of [cells[0], cells[cells.length - 1]]) {{
    link.click();
    await new Promise(done => setTimeout(done, 50));
    const runs = all(".run").filter(shown);
    seen.runs.push({{
      asked: link.getAttribute("href").slice(1),
      shown: runs.map(run => run.id),
      main_is_shown: shown(main),
      page_scrolls: root.scrollWidth > root.clientWidth,
    }});
    runs[0].querySelector("a").click();
    await new Promise(done => setTimeout(done, 50));
    seen.runs.at(-1).back = shown(main);
  }}
  document.getElementById("seen").textContent = JSON.stringify(seen);
}};
</script>
"""


def look(report: Path, width: int) -> tuple[dict[str, Any], list[str]]:
    """What the browser sees in the report at a width, and what it has to complain about."""
    harness = report.with_name(f"look-{width}.html")
    harness.write_text(LOOK.format(width=width))
    done = subprocess.run(
        [
            BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--allow-file-access-from-files", "--enable-logging=stderr",
            f"--user-data-dir={report.parent / f'profile-{width}'}",
            "--virtual-time-budget=10000", f"--window-size={width + 100},900", "--dump-dom",
            harness.as_uri(),
        ],
        capture_output=True, text=True, timeout=PATIENCE, check=True,
    )  # fmt: skip
    (seen,) = re.findall(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    assert seen, f"the browser saw nothing:\n{done.stderr[-2000:]}"
    return json.loads(unescape(seen)), re.findall(r"CONSOLE.*", done.stderr)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    plan, captions = measured_plan(tmp_path_factory.mktemp("browser"))
    path = plan.results / "report.html"
    page.write(plan, path, captions)
    return path


@pytest.fixture(scope="module", params=[DESKTOP, pytest.param(PHONE, marks=pytest.mark.slow)])
def seen(report: Path, request: pytest.FixtureRequest) -> tuple[int, dict[str, Any], list[str]]:
    return request.param, *look(report, request.param)


def test_the_browser_has_nothing_to_complain_about(
    seen: tuple[int, dict[str, Any], list[str]],
) -> None:
    assert seen[2] == []


def test_tables_are_there_and_every_image_loads(
    seen: tuple[int, dict[str, Any], list[str]],
) -> None:
    assert seen[1]["tables"] == 3
    assert seen[1]["images"] == [True] * 4


def test_neither_the_page_nor_a_table_scrolls_sideways(
    seen: tuple[int, dict[str, Any], list[str]],
) -> None:
    what = seen[1]
    assert not what["page_scrolls"]
    assert what["wide_tables"] == []
    assert not any(run["page_scrolls"] for run in what["runs"])


def test_the_contents_stay_at_the_side_or_on_a_phone_as_one_line_on_top(
    seen: tuple[int, dict[str, Any], list[str]],
) -> None:
    width, what, _ = seen
    contents = what["contents"]
    assert contents["scrolled"] > 2000 and contents["top"] == 0
    if width == PHONE:
        assert contents["height"] < 60
    else:
        assert contents["width"] < 250 and contents["main"] >= contents["width"]


def test_text_is_large_enough_to_read(seen: tuple[int, dict[str, Any], list[str]]) -> None:
    assert seen[1]["small_text"] == 0


def test_every_link_stays_in_the_file_and_leads_somewhere(
    seen: tuple[int, dict[str, Any], list[str]],
) -> None:
    assert seen[1]["broken_links"] == []


def test_a_cell_opens_the_page_of_its_run_and_back(
    seen: tuple[int, dict[str, Any], list[str]],
) -> None:
    for run in seen[1]["runs"]:
        assert run["shown"] == [run["asked"]]
        assert not run["main_is_shown"]
        assert run["back"]

"""The documentation's site: which pages it has, and what it changes of their Markdown.

`make site`, which CI runs, builds it and fails at a broken link. These tests need no MkDocs.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from conftest import PROJECT

CONFIG = yaml.safe_load((PROJECT / "mkdocs.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def site() -> ModuleType:
    spec = importlib.util.spec_from_file_location("site_hooks", PROJECT / "docs/site_hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a page that links into, out of and above docs/."""
    files = {
        "docs/page.md": "[a](../code/run.py) [b](../results/one) [c](https://x.org) [d](../../up)",
        "docs/other.md": "```\n[not a link](../code/left_out.py)\n```\n",
        "code/run.py": "",
        "code/left_out.py": "",
        "results/one/claims.md": "[e](../../LICENSE)",
        "results/one/runs/r/a.json": "",
        "results/one/runs/r/b.json": "",
        "results/one/tables/t.csv": "",
        "results/two/README.md": "",
        "LICENSE": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def pages_of(nav: list[Any]) -> Iterator[str]:
    for entry in nav:
        for value in entry.values() if isinstance(entry, dict) else [entry]:
            yield from pages_of(value) if isinstance(value, list) else [value]


def test_the_navigation_has_every_page_of_docs_once(site: ModuleType) -> None:
    pages = list(pages_of(CONFIG["nav"]))
    written = {f"docs/{path.name}" for path in (PROJECT / "docs").glob("*.md")}
    assert len(pages) == len(set(pages))
    assert {page for page in pages if page.startswith("docs/")} == written | set(site.api_pages())
    assert not [
        page for page in pages if page not in site.api_pages() and not (PROJECT / page).exists()
    ]


def test_the_navigation_begins_with_what_a_newcomer_needs() -> None:
    sections = [name for entry in CONFIG["nav"] for name in entry]
    assert sections == [
        "Start", "Use the head", "Run the experiments", "Results", "Extend", "Reference",
    ]  # fmt: skip


def test_the_index_of_docs_has_the_sections_of_the_navigation() -> None:
    index = (PROJECT / "docs/README.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.+)$", index, re.MULTILINE)
    assert headings[:-1] == [name for entry in CONFIG["nav"] for name in entry]


def test_every_package_has_a_page_of_its_docstrings(site: ModuleType) -> None:
    packages = {path.parent.name for path in (PROJECT / "obc").glob("*/__init__.py")}
    assert {f"docs/api/{name}.md" for name in packages} <= set(site.api_pages())


def test_a_broken_link_stops_the_build_in_ci() -> None:
    assert CONFIG["validation"]["anchors"] == CONFIG["validation"]["omitted_files"] == "warn"
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    assert "mkdocs build --strict" in makefile
    assert "\nmake site\n" in (PROJECT / ".ci/run").read_text(encoding="utf-8")


def test_nothing_is_loaded_from_elsewhere() -> None:
    assert CONFIG["theme"]["font"] is False
    assert "http" not in (PROJECT / "mkdocs.yml").read_text(encoding="utf-8")


def test_what_pages_link_to_is_in_the_site_and_nothing_else(
    site: ModuleType, project: Path
) -> None:
    files, listed = site.reached(["docs/page.md", "docs/other.md"], project)
    assert files == {
        "docs/page.md", "docs/other.md", "code/run.py", "results/one/claims.md",
        "results/one/runs/r/a.json", "results/one/runs/r/b.json", "results/one/tables/t.csv",
        "LICENSE",
    }  # fmt: skip
    assert listed == {"results/one"}


def test_a_folder_is_listed_with_few_files_first(site: ModuleType, project: Path) -> None:
    assert site.listing("results/one", project).splitlines() == [
        "# results/one", "",
        "- [claims.md](claims.md)", "",
        "## tables", "",
        "- [t.csv](tables/t.csv)", "",
        "## runs", "",
        "- [r/a.json](runs/r/a.json)",
        "- [r/b.json](runs/r/b.json)",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[x](../results/one)", "[x](../results/one/index.md)"),
        ("[x](../results/two)", "[x](../results/two/README.md)"),
        ("[x](page.md#part) [y](https://x.org)", "[x](page.md#part) [y](https://x.org)"),
        ("- a\n  - b\n", "- a\n    - b\n"),
        ("<!-- note -->\n- a", "\n- a"),
        ("```yaml\n  - a: <!-- b -->\n```", "```yaml\n  - a: <!-- b -->\n```"),
    ],
)
def test_python_markdown_reads_what_a_forge_reads(
    site: ModuleType, project: Path, text: str, expected: str
) -> None:
    assert site.for_mkdocs(text, "docs/page.md", project) == expected

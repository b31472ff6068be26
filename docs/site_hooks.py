"""Hooks of MkDocs, named in mkdocs.yml: the site from the Markdown that a forge shows.

The site has the layout of the project's folder, so every relative link holds in both. What pages
link to outside of docs/ is copied: Markdown becomes a page, other files stay files, and a folder
becomes a page that lists its files. `make site` builds it; nothing here imports `obc` or torch.
"""

from __future__ import annotations

import posixpath
import re
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import File, Files
    from mkdocs.structure.pages import Page

PROJECT = Path(__file__).resolve().parent.parent
HOME = "README.md"
LINK = re.compile(r"(?<=\]\()([^)\s#]+)(?=[)#])")
FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
LEFT_OUT = {"__pycache__"}


# --- what belongs to the site ------------------------------------------------------------------


def outside_of_fences(change: Callable[[str], str], text: str) -> str:
    """Markdown with its text changed and its code blocks as they were."""
    parts = FENCE.split(text)
    return "".join(part if part.startswith("```") else change(part) for part in parts)


def linked(page: str, project: Path = PROJECT) -> Iterator[str]:
    """Files and folders of the project that a page links to, as paths from the project's folder."""
    text = FENCE.sub("", (project / page).read_text(encoding="utf-8"))
    for link in LINK.findall(text):
        path = posixpath.normpath(posixpath.join(posixpath.dirname(page), link))
        if "://" not in link and not path.startswith("..") and (project / path).exists():
            yield path


def index_of(folder: str, project: Path = PROJECT) -> str:
    """The page that stands for a folder: its own, or one that `listing` fills."""
    return f"{folder}/README.md" if (project / folder / HOME).exists() else f"{folder}/index.md"


def files_in(folder: str, project: Path = PROJECT) -> list[str]:
    """Every file below a folder, as paths from the project's folder."""
    found = (path for path in (project / folder).rglob("*") if path.is_file())
    return sorted(
        str(path.relative_to(project)) for path in found if not LEFT_OUT & set(path.parts)
    )


def listing(folder: str, project: Path = PROJECT) -> str:
    """A page that lists the files below a folder: its own, then a heading for each folder in it.

    Folders with few files, such as tables, come before folders with many, such as runs.
    """
    groups: dict[str, list[str]] = {}
    for path in files_in(folder, project):
        name = posixpath.relpath(path, folder)
        groups.setdefault(name.partition("/")[0] if "/" in name else "", []).append(name)
    lines = [f"# {folder}"]
    for group, names in sorted(groups.items(), key=lambda item: (item[0] != "", len(item[1]))):
        lines += ["", f"## {group}"] * bool(group)
        lines += ["", *(f"- [{posixpath.relpath(name, group or '.')}]({name})" for name in names)]
    return "\n".join(lines) + "\n"


def reached(pages: list[str], project: Path = PROJECT) -> tuple[set[str], set[str]]:
    """Files that pages and what they link to lead to, and folders that need a listing."""
    files, listed, waiting = set(pages), set(), list(pages)
    while waiting:
        for path in linked(waiting.pop(), project):
            if (project / path).is_file():
                found = {path}
            elif (project / path / HOME).exists():
                found = {f"{path}/{HOME}"}
            else:
                listed.add(path)
                found = set(files_in(path, project))
            waiting += [file for file in sorted(found - files) if file.endswith(".md")]
            files |= found
    return files, listed


# --- what MkDocs reads otherwise than a forge ---------------------------------------------------


def for_mkdocs(text: str, page: str, project: Path = PROJECT) -> str:
    """A page's Markdown as Python-Markdown needs it.

    Comments are left out, because a list right below one would be part of it. Lists within lists
    are indented by four. Links to folders name the page that stands for the folder.
    """

    def to_page(match: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(page), match[0]))
        if "://" in match[0] or not (project / path).is_dir():
            return match[0]
        return posixpath.relpath(index_of(path, project), posixpath.dirname(page) or ".")

    def change(part: str) -> str:
        part = re.sub(r"<!--.*?-->", "", part, flags=re.DOTALL)
        part = re.sub(r"^  (?=(-|\d+\.) )", "    ", part, flags=re.MULTILINE)
        return LINK.sub(to_page, part)

    return outside_of_fences(change, text)


def drawing(source: str, *_: Any, **__: Any) -> str:
    """A Mermaid block as a picture, so that readers need neither a script nor a network."""
    import mmdr
    from pymdownx.superfences import SuperFencesException

    try:
        svg = b64encode(mmdr.render(source).svg().encode()).decode()
    except Exception as error:  # any other exception would show the source as if it were text
        raise SuperFencesException(f"a Mermaid block cannot be drawn: {error}") from error
    return f'<img class="drawing" alt="Drawing" src="data:image/svg+xml;base64,{svg}">'


def api_pages() -> dict[str, str]:
    """A page for each package of `obc`: what its docstrings say."""
    names = sorted(
        path.stem
        for path in (PROJECT / "obc").iterdir()
        if not path.name.startswith("_") and (path.suffix == ".py" or path.is_dir())
    )
    return {f"docs/api/{name}.md": f"# obc.{name}\n\n::: obc.{name}\n" for name in names}


# --- hooks -------------------------------------------------------------------------------------


def on_config(config: MkDocsConfig) -> None:
    """Headings are named as forges name them, and Mermaid blocks are drawn."""
    from pymdownx.slugs import slugify

    config.mdx_configs.setdefault("toc", {})["slugify"] = slugify(case="lower")
    config.mdx_configs["pymdownx.superfences"] = {
        "custom_fences": [{"name": "mermaid", "class": "drawing", "format": drawing}]
    }


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Give the site the layout of the project's folder, with what pages link to."""
    from mkdocs.structure.files import File, Files

    def file(path: str) -> File:
        return File(path, str(PROJECT), config.site_dir, config.use_directory_urls)

    docs = Path(config.docs_dir)
    own = [one for one in files if one.src_dir == config.docs_dir and one.inclusion.is_included()]
    others = [one for one in files if one.src_dir != config.docs_dir]
    pages = [f"{docs.name}/{one.src_uri}" for one in own]
    found, listed = reached([HOME, *(path for path in pages if path.endswith(".md"))])
    made = {index_of(path): listing(path) for path in listed} | api_pages()
    generated = [File.generated(config, path, content=text) for path, text in made.items()]
    return Files([*map(file, sorted(found | set(pages))), *generated, *others])


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Python-Markdown reads what a forge reads; the search finds pages, not single results."""
    if page.file.src_uri.startswith("results/") and page.file.name != "index":
        page.meta["search"] = {"exclude": True}
    return for_mkdocs(markdown, page.file.src_uri)

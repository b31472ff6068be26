"""The pages for people: commands are real, links lead somewhere, what is generated is up to date.

A command in a `bash` block is parsed by the program that it calls, and planned by Snakemake unless
its comment says what a machine must have: `# needs a GPU`, `SLURM`, `a network` or `your files`.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from conftest import BIN, PROJECT
from snakemake.cli import get_argument_parser, parse_config

from obc.cli.main import build_parser, main
from obc.config.load_plan import load_plan
from obc.config.table import read_table

PAGES = (
    PROJECT / "README.md",
    PROJECT / "config/README.md",
    PROJECT / "results/reference/README.md",
    PROJECT / "examples/README.md",
    *sorted((PROJECT / "docs").glob("*.md")),
)
NEEDS = ("a GPU", "SLURM", "a network", "a plugin", "your files")
RULE_FILES = (PROJECT / "workflow/Snakefile", *sorted((PROJECT / "workflow/rules").glob("*.smk")))
RULES = {
    name for path in RULE_FILES for name in re.findall(r"^ *rule (\w+):", path.read_text(), re.M)
}
TARGETS = RULES | {path.stem for path in (PROJECT / "config/experiments").glob("*.yaml")}


@dataclass(frozen=True)
class Command:
    """One command of a page: its words, and what its comment says that it needs."""

    page: str
    words: tuple[str, ...]
    needs: str | None

    def __str__(self) -> str:
        return f"{self.page}: {shlex.join(self.words)}"


def commands() -> Iterator[Command]:
    for page in PAGES:
        for block in re.findall(r"^```bash\n(.*?)^```", page.read_text(), re.M | re.S):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                mark = re.search(r"#.*\bneeds ([\w ]+)$", line)
                if words:
                    yield Command(str(page.relative_to(PROJECT)), tuple(words), mark and mark[1])


COMMANDS = tuple(commands())


def of(program: str) -> tuple[Command, ...]:
    return tuple(command for command in COMMANDS if command.words[0] == program)


def asked_of_snakemake(command: Command) -> tuple[set[str], dict[str, object]]:
    """Targets and configuration of a command; SystemExit where Snakemake knows no such option."""
    options = get_argument_parser().parse_args(command.words[1:])
    for name in ("profile", "workflow_profile"):
        assert (getattr(options, name) or "profiles/default").startswith("profiles/")
        assert (PROJECT / (getattr(options, name) or "profiles/default")).is_dir()
    return set(options.targets), parse_config(options.config)


def raw_config(config: dict[str, object]) -> dict[str, object]:
    return {**yaml.safe_load((PROJECT / "config/config.yaml").read_text()), **config}


def test_there_are_commands_of_every_program() -> None:
    assert min(len(of(program)) for program in ("snakemake", "obc", "make")) >= 5


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_a_command_is_one_that_a_test_knows_or_says_what_it_needs(command: Command) -> None:
    assert command.needs is None or command.needs in NEEDS
    known = command.words[0] in ("snakemake", "obc", "make", ".")
    assert known or command.needs, f"{command}: say what it needs, one of {', '.join(NEEDS)}"


@pytest.mark.parametrize("command", of("obc"), ids=str)
def test_obc_understands_it(command: Command) -> None:
    if "--help" not in command.words:
        options = build_parser().parse_args(command.words[1:])
        assert getattr(options, "seed", 0) in (0, None)


@pytest.mark.parametrize("command", [c for c in of("obc") if c.words[1] == "plan"], ids=str)
def test_obc_plans_it(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(list(command.words[1:])) == 0
    assert "trainings" in capsys.readouterr().out


@pytest.mark.parametrize("command", of("snakemake"), ids=str)
def test_snakemake_understands_it_and_there_are_such_keys_and_targets(command: Command) -> None:
    targets, config = asked_of_snakemake(command)
    if command.needs != "your files":
        assert targets <= TARGETS
        load_plan(raw_config(config))


def planned_together() -> dict[str, set[str]]:
    """Targets by configuration, of commands that need nothing: a dry run for each suffices."""
    together: dict[str, set[str]] = {}
    for command in of("snakemake"):
        if command.needs is None:
            try:
                targets, _ = asked_of_snakemake(command)
            except SystemExit:
                continue  # the test above names it
            words = list(command.words)
            config = words[words.index("--config") + 1 :] if "--config" in words else []
            together.setdefault(shlex.join(config), set()).update(targets or {"all"})
    return together


@pytest.mark.slow
@pytest.mark.parametrize(("config", "targets"), planned_together().items())
def test_snakemake_plans_it(config: str, targets: set[str]) -> None:
    chosen = ["--config", *shlex.split(config)] if config else []
    done = subprocess.run(
        [BIN / "snakemake", "-n", *sorted(targets), *chosen],
        cwd=PROJECT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("words", sorted({command.words for command in of("make")}), ids=shlex.join)
def test_make_knows_the_target_and_its_variables(words: tuple[str, ...]) -> None:
    makefile = (PROJECT / "Makefile").read_text()
    for word in words[1:]:
        variable, equals, _ = word.partition("=")
        pattern = rf"\$\({variable}\)" if equals else rf"^{word}:.*##|^{word}: "
        assert re.search(pattern, makefile, re.M), word


def test_commands_in_running_text_exist_too() -> None:
    text = "\n".join(page.read_text() for page in PAGES)
    steps = build_parser()._subparsers._group_actions[0].choices
    makefile = (PROJECT / "Makefile").read_text()
    targets = set(re.findall(r"^([\w-]+):", makefile, re.M))
    assert set(re.findall(r"`obc ([a-z][a-z0-9-]*)", text)) <= set(steps)
    assert set(re.findall(r"`make ([a-z-]+)", text)) <= targets


def test_a_test_that_a_page_names_exists() -> None:
    named = {name for page in PAGES for name in re.findall(r"tests/[\w/]+\.py", page.read_text())}
    assert named and not [name for name in named if not (PROJECT / name).exists()]


# --- links -------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """What can be linked to in a page: its headings as forges name them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = link.partition("#")
        if "://" in link or (page.name == "tables-notebook.md" and path.startswith("../docs")):
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


def test_every_page_is_in_the_index_and_the_index_in_the_readme() -> None:
    index = (PROJECT / "docs/README.md").read_text()
    pages = {path.name for path in (PROJECT / "docs").glob("*.md")} - {"README.md"}
    assert not [name for name in pages if f"]({name})" not in index]
    assert "(docs/README.md)" in (PROJECT / "README.md").read_text()


# --- messages and code that pages quote --------------------------------------------------------


def test_the_messages_of_troubleshooting_are_those_of_the_code() -> None:
    page = (PROJECT / "docs/troubleshooting.md").read_text()
    sources = [PROJECT / "Makefile", *(PROJECT / "obc").rglob("*.py")]
    # As one text: literals that stand next to each other joined, values and quotes cut out.
    code = "\n".join(path.read_text() for path in sources)
    code = re.sub(r'"\s*\n\s*f?"', "", code)
    parts = {
        part.strip(" .;:")
        for line in re.findall(r"^\| `([^|]+)` \|", page, re.M)
        for part in line.split("…")
    }
    elsewhere = {"Error: Directory cannot be locked", "ImportError: libGL.so.1", "running"}
    missing = sorted(part for part in parts - elsewhere if part and part not in code)
    assert not missing


def test_the_head_s_page_shows_what_runs() -> None:
    page = (PROJECT / "docs/head.md").read_text()
    *_, mathematics = re.findall(r"```python\n(.*?)```", page, re.S)
    found: dict = {}
    exec(mathematics, found)
    assert found["labels"].shape == (2, 2)
    assert found["decoded"].shape == (2,)


def test_the_table_to_add_is_a_table(tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (PROJECT / "docs/extending.md").read_text(), re.S)
    (block,) = (block for block in blocks if "wide_range.yaml" in block)
    (tmp_path / "wide_range.yaml").write_text(block)
    labels = [row.label for row in read_table(tmp_path / "wide_range.yaml").rows]
    assert labels == ["a = 2", "a = 4", "a = 8"]


# --- what is generated -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", PROJECT / "docs/generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_key_reference_is_that_of_the_models(generate: ModuleType) -> None:
    page = (PROJECT / "docs/configuration.md").read_text()
    assert page == generate.configuration(), "call `make docs`"


@pytest.mark.parametrize("page", ["reproduction-notes.md", "beyond.md"])
def test_measured_tables_on_a_page_are_those_of_committed_results(
    generate: ModuleType, page: str
) -> None:
    text = (PROJECT / "docs" / page).read_text(encoding="utf-8")
    assert text == generate.PAGES[page](), "call `make docs`"


def test_every_key_says_what_it_means(generate: ModuleType) -> None:
    assert generate.undocumented() == []


@pytest.mark.slow
def test_the_architecture_is_that_of_the_package(generate: ModuleType) -> None:
    page = (PROJECT / "docs/architecture.md").read_text(encoding="utf-8")
    assert page == generate.architecture_page(), "call `make docs`"


def test_the_words_name_things_that_exist() -> None:
    page = (PROJECT / "docs/architecture.md").read_text(encoding="utf-8")
    names = re.findall(r"\| `obc\.([\w.]+)\.(\w+)` \|$", page, re.MULTILINE)
    assert len(names) == 12
    for module, name in names:
        assert hasattr(importlib.import_module(f"obc.{module}"), name), f"{module}.{name}"


def test_the_picture_is_that_of_the_rules(generate: ModuleType) -> None:
    page = (PROJECT / "docs/workflow.md").read_text()
    assert page == generate.workflow_page(), "call `make docs`"


def test_every_rule_is_on_the_page_of_the_workflow() -> None:
    page = (PROJECT / "docs/workflow.md").read_text()
    drawn = {name for edge in re.findall(r"(\w+) --> (\w+)", page) for name in edge}
    assert not [rule for rule in sorted(RULES - drawn) if f"`{rule}`" not in page]


@pytest.mark.slow
def test_the_rendered_notebook_is_that_of_the_notebook_and_the_results(
    generate: ModuleType,
) -> None:
    page = (PROJECT / "docs/tables-notebook.md").read_text()
    assert page == generate.tables_notebook(), "call `make docs`"

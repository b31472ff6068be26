"""The notebooks: without outputs, run on committed and on own results, helpful without any."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import nbformat
import pytest
from conftest import PATIENCE, PROJECT, Workspace
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

pytestmark = pytest.mark.xdist_group("workflow")

NOTEBOOKS = sorted(path.name for path in (PROJECT / "notebooks").glob("*.ipynb"))


def read(name: str) -> nbformat.NotebookNode:
    return nbformat.read(PROJECT / "notebooks" / name, as_version=4)


def parameters(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The cell that papermill replaces."""
    (cell,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ()))
    return cell


def execute(name: str, project: Path, results: str) -> nbformat.NotebookNode:
    """The notebook with its outputs, executed as Jupyter does: in its own folder."""
    folder = project / "notebooks"
    folder.mkdir(exist_ok=True)
    notebook = read(name)
    parameters(notebook).source = f'RESULTS = "{results}"'
    place = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=PATIENCE, kernel_name="python3", resources=place).execute()
    return notebook


def outputs(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_committed_without_outputs(name: str) -> None:
    cells = [cell for cell in read(name).cells if cell.cell_type == "code"]
    assert not [cell for cell in cells if cell.outputs or cell.execution_count]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_opens_committed_results_and_says_how_to_open_others(name: str) -> None:
    notebook = read(name)
    first_text, first_code = notebook.cells[:2]
    assert "Needs no training" in first_text.source and "make reproduce" in first_text.source
    assert parameters(notebook) is first_code
    assert first_code.source.startswith('RESULTS = "reference/mini"')


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_imports_one_thing(name: str) -> None:
    code = [cell.source for cell in read(name).cells if cell.cell_type == "code"]
    imports = re.findall(r"^(?:import|from) .*$", "\n".join(code), re.M)
    assert imports == ["from obc.notebook import open_results"]


def test_every_notebook_is_on_the_page_about_them() -> None:
    page = (PROJECT / "docs/notebooks.md").read_text()
    assert not [name for name in NOTEBOOKS if f"](../notebooks/{name})" not in page]


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_without_results_stops_and_says_what_to_run(name: str, tmp_path: Path) -> None:
    (tmp_path / "Snakefile").touch()
    with pytest.raises(CellExecutionError, match="make reproduce SCALE=smoke") as raised:
        execute(name, tmp_path, "smoke")
    assert "Traceback" not in str(raised.value)


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_shows_committed_results_without_noise(name: str, tmp_path: Path) -> None:
    (tmp_path / "Snakefile").touch()
    (tmp_path / "results").mkdir()
    (tmp_path / "results/reference").symlink_to(PROJECT / "results/reference")
    (tmp_path / "workflow").symlink_to(PROJECT / "workflow")
    shown = outputs(execute(name, tmp_path, "reference/mini"))
    assert shown
    assert not [output for output in shown if output.output_type in ("error", "stream")]


@pytest.fixture(scope="module")
def project(workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with one trained run, of bins in two stages, both of its decodings evaluated."""
    folder = tmp_path_factory.mktemp("notebooks") / "suite"
    shutil.copytree(workspace.folder, folder)
    suite = Workspace(folder)
    plan = suite.plan(scale="smoke")
    file = plan.results / "plan.json"
    runs = plan.paper_runs.values()
    (run,) = (run for run in runs if "voc-faster-r50-obc-a3-n20-k2-" in run.run_id)
    steps = [("train", file, run.run_id)]
    steps += [("evaluate", file, run.run_id, "--decode", decode) for decode in run.decodes]
    for step in (*steps, ("table", file, "--partial")):
        done = suite.obc(*step)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs_from_top_to_bottom_on_smoke_results(name: str, project: Path) -> None:
    shown = outputs(execute(name, project, "smoke"))
    assert shown
    assert not [output for output in shown if output.output_type in ("error", "stream")]

"""Snakemake's own report: caption, category and labels of what the rules mark; no network."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from conftest import BIN, ENVIRONMENT, PROJECT, copy_project

pytestmark = pytest.mark.xdist_group("snakemake_report")  # whose worker writes it, once

# What the rules mark, made up: the report reads files and does not make them.
MARKED = {
    "tables/table1.csv": "row,AP\n0,50.0\n",
    "tables/table1.md": "| AP |",
    "tables/table1.tex": "",
    "tables/figure5.csv": "row,AP\n0,50.0\n",
    "tables/figure5.md": "| AP |",
    "tables/figure5.tex": "",
    "figures/figure5.svg": '<svg xmlns="http://www.w3.org/2000/svg"/>',
    "figures/figure5.png": "",
    "figures/figure5.pdf": "",
    "figures/losses.svg": '<svg xmlns="http://www.w3.org/2000/svg"/>',
    "figures/losses.png": "",
    "figures/losses.pdf": "",
    "claims.json": "{}",
    "claims.md": "# claims",
}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Snakemake's report on made-up files, made behind a proxy that is not there."""
    folder = tmp_path_factory.mktemp("report")
    copy_project(folder)
    for name, text in MARKED.items():
        path = folder / "results/smoke" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    nowhere = {name: "http://127.0.0.1:9" for name in ("http_proxy", "https_proxy")}
    path = Path("results/smoke/snakemake-report.html")
    done = subprocess.run(
        [BIN / "snakemake", "table1", "figure5", "claims", "losses", "--report", path],
        cwd=folder, env={**ENVIRONMENT, **nowhere}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return (folder / path).read_text()


@pytest.mark.parametrize("name", ["table1", "figure5", "claims", "losses", "workflow"])
def test_a_result_has_its_caption(report: str, name: str) -> None:
    caption = (PROJECT / f"workflow/report/{name}.rst").read_text()
    # The first words; Snakemake writes the rest with its own line breaks and escapes.
    words = caption.lstrip("*").split("*")[0].split("\n")[0].split("'")[0]
    assert words in report


@pytest.mark.parametrize("category", ["Tables", "Figures", "Claims"])
def test_results_are_sorted_into_categories(report: str, category: str) -> None:
    assert f'"{category}"' in report


def test_results_have_labels(report: str) -> None:
    assert '{"table": "table1", "format": "csv"}' in report
    assert '{"figure": "losses and their gradients"}' in report

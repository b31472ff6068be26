"""LaTeX itself takes the tables: they compile without a complaint and fit the page."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import PATIENCE
from report_fixtures import TABLE, fail, measure, plan_of

from obc.config.plan import Plan
from obc.report.tables.paper_tables import write

pytestmark = pytest.mark.skipif(
    not shutil.which("pdflatex"), reason="needs pdflatex (Debian: texlive-latex-recommended)"
)

DOCUMENT = r"""\documentclass{article}
%s
\begin{document}
\listoftables
%s
\end{document}
"""
PACKAGE = re.compile(r"^% (\\usepackage\{\w+\})", re.MULTILINE)
PAPER_TABLES = sorted(path.stem for path in Path("config/experiments").glob("*.yaml"))
SPECIAL = TABLE.replace("L2 | squared", r"'50% & $5 #1 a_b {c} \d ~e ^f <g> – β [either kind]'")


def compiled(folder: Path, plan: Plan) -> str:
    """What LaTeX says of a document with every table of a plan; its PDF lies in `folder`."""
    write(plan, plan.tables, folder, strict=False)
    return compiled_files(folder)


def compiled_files(folder: Path) -> str:
    names = sorted(path.stem for path in folder.glob("*.tex"))
    inputs = "\n".join(rf"\input{{{name}}}\clearpage" for name in names)
    # Only what the tables say that they need.
    texts = [(folder / f"{name}.tex").read_text() for name in names]
    packages = dict.fromkeys(line for text in texts for line in PACKAGE.findall(text))
    # Tables of the committed results can be of before they said so.
    packages = packages or {r"\usepackage{booktabs,graphicx}": None}
    (folder / "all.tex").write_text(DOCUMENT % ("\n".join(packages), inputs))
    for _ in range(2):  # the list of tables is there from the second time on
        done = subprocess.run(
            ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"],
            cwd=folder, capture_output=True, text=True, errors="replace", check=False,
            timeout=PATIENCE,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-2000:]
    return (folder / "all.log").read_text(errors="replace")


def complaints(log: str) -> list[str]:
    return re.findall(r"^(?:Overfull|Missing character|LaTeX Warning: Ref).*", log, re.M)


def page_text(folder: Path) -> str:
    if not shutil.which("pdftotext"):
        pytest.skip("needs pdftotext (Debian: poppler-utils)")
    subprocess.run(["pdftotext", "-layout", "all.pdf"], cwd=folder, check=True, timeout=PATIENCE)
    return (folder / "all.txt").read_text()


def test_the_papers_tables_without_a_number_compile_and_fit(tmp_path: Path) -> None:
    texts = {
        name: Path(f"config/experiments/{name}.yaml").read_text(encoding="utf-8")
        for name in PAPER_TABLES
    }
    plan = plan_of(tmp_path, texts)
    assert complaints(compiled(tmp_path / "tables", plan)) == []


@pytest.mark.parametrize(
    "reference",
    [
        "mini",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("quick", "mini-beyond")),
    ],
)
def test_the_reference_tables_compile_and_fit(tmp_path: Path, reference: str) -> None:
    folder = tmp_path / "tables"
    shutil.copytree(f"results/reference/{reference}/tables", folder)
    assert complaints(compiled_files(folder)) == []


def test_special_characters_and_missing_seeds_compile_fit_and_can_be_read(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {"table7": SPECIAL}, seeds=[0, 1])
    measure(plan, "table7", 0, {"AP": 35.0, "AP_S": None}, seed=0)
    fail(plan, "table7", 0, seed=1)
    for seed in (0, 1):
        measure(plan, "table7", 1, {"AP": 40.0 + seed, "AP_S": 9.0}, seed=seed)
    folder = tmp_path / "tables"
    assert complaints(compiled(folder, plan)) == []
    text = " ".join(page_text(folder).split())
    for part in (
        "50% & $5 #1",
        "{c} \\d",
        "<g> – β",
        "[either kind]",
        "[1 of 2 seeds, failed]",
        "40.5 ± 0.7",
    ):
        assert part in text
    assert "Table 1: Losses (section 4.1)." in text
    assert "Not comparable with the paper’s numbers." in text

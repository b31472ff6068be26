"""A made-up plan with something of everything that the report shows."""

from __future__ import annotations

from pathlib import Path

from claim_fixtures import evaluated, plan_with, resampler
from PIL import Image
from report_fixtures import FIGURE, fail, measure, run_folder, trained

from obc.analysis.verdicts import judge
from obc.config.plan import Plan
from obc.io.files import write_json
from obc.report.page import LARGE
from obc.report.tables import claims

METRICS = ("AP", "AP50", "AP60", "AP70", "AP80", "AP90")
WIDE = f"""
title: Wide
section: "4.1"
dataset: voc
metrics: [{", ".join(METRICS)}]
common: {{detector: faster_rcnn, backbone: r50}}
rows:
  - label: A method with a long name
    columns: {{Expectation: "✓", Hierarchical: "✓"}}
    box: {{loss: offset_bin, num_stages: 3}}
    paper: [45.0, 74.5, 69.5, 57.6, 36.0, null]
  - {{label: Failed <once>, box: {{loss: smooth_l1, beta: 2.0}}}}
"""
SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="640" height="420"><title>AP &lt; n</title>'
    '<metadata><d:description xmlns:d="http://purl.org/dc/elements/1.1/">Seeds: 0 &amp; 1.'
    "</d:description></metadata>"
    '<rect width="640" height="420" fill="#0072b2"/></svg>'
)
CAPTION = "How to read it.\n\nIt is *blue* & ``plain``.\n"
RECORD = {
    "packages": {"torch": "2.13.0"},
    "hardware": {"processor": "Abacus", "cores": 2, "gpu": None},
    "started": "2026-01-02T03:04:05+00:00",
    "seconds": 12.5,
    "images_per_second": 80.0,
    "iterations": 12,
    "peak_memory_mib": {"host": 600.0},
}


def measured_plan(folder: Path) -> tuple[Plan, Path]:
    """A plan with two seeds, judged claims, figures and a failed run; and its captions."""
    plan = plan_with(
        folder, "kind: higher, pairs: [[bins, l2]]", seeds=(0, 1), table8=WIDE, figure9=FIGURE
    )
    evaluated(plan, l2=[30.0, 31.0], bins=[50.0, 52.0])
    for seed in (0, 1):
        number = {metric: 45.0 + 2 * seed for metric in METRICS}
        measure(plan, "table8", 0, number, seed)
        trained(plan, "table8", 0, seed, **RECORD)
        (run_folder(plan, "table8", 0, seed) / "log.txt").write_text("start\nlast <line>\n")
    fail(plan, "table8", 1)
    judged = judge(plan, strict=False, resample=resampler())
    write_json(plan.results / "claims.json", claims.report(plan, judged, []))
    _draw(plan.results / "figures")
    tables = plan.results / "tables"
    tables.mkdir()
    (tables / "diagnosis.csv").write_text("row,mark,mean IoU\nbins,,0.87654321\nl2,✓,n/a\n")
    captions = folder / "captions"
    captions.mkdir()
    for name in ("table8", "blue", "diagnosis_table"):
        (captions / f"{name}.rst").write_text(CAPTION)
    return plan, captions


def _draw(folder: Path) -> None:
    """Two small drawings, and one whose SVG is so large that its PNG is taken."""
    folder.mkdir()
    for name in ("blue", "diagnosis"):
        (folder / f"{name}.svg").write_text(SVG)
    (folder / "photographs.svg").write_text(SVG + " " * LARGE)
    Image.new("RGB", (640, 420), "white").save(folder / "photographs.png")

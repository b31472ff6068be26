"""A made-up plan with something of everything that the report shows."""

from __future__ import annotations

from pathlib import Path

from claim_fixtures import evaluated, plan_with, resampler
from PIL import Image
from report_fixtures import FIGURE, fail, measure, run_folder, trained

from obc.analysis.verdicts import judge
from obc.config.plan import Plan
from obc.evaluation.detections_file import save_detections
from obc.io.files import write_json
from obc.report.pictures import LIMIT
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
# As the commands leave them, for programs.
FILES = {
    "diagnosis": "row,name,found,found_sd,mean_iou,mean_iou_sd,fail_at_90,fail_at_90_sd,x_px,"
    "x_px_sd,x_bins,x_bins_sd,seeds,bin_width,run_id,decode,status,scale\n"
    "0,Regression,95.81036384,0.2205071665,80.33109239,0.2739556963,79.19444124,1.562638193,"
    "2.365550761,0.02838323755,1.445590309,0.01605479786,5,0.3,some-run-1,regression,ok,smoke\n"
    "1,Bins,n/a,n/a,n/a,n/a,n/a,n/a,n/a,n/a,n/a,n/a,0,0.3,some-run-2,argmax,not run,smoke\n",
    "table8_compared": "row,name,against,metric,difference,low,high,found,spread,head_parameters,"
    "head_mflop_per_roi\n1,Bins,Regression,AP90,-1.234567891,-2.5,0.04,not told apart,own,1234567,"
    "12.3456\n",
    "my_own": "row,what_it_is,mean_error,mean_error_sd,count\n0,first,0.87654321,0.01234567,12345\n"
    "1,second,n/a,n/a,7\n",
}
FOUND = [
    {"image_id": 2, "category_id": 1, "bbox": [12.0, 9.0, 88.0, 61.0], "score": score}
    for score in (0.9, 0.05)
]
LOG = (
    "".join(
        f"Epoch(train) [1][{at}/12]  lr: 4.0e-02  loss: {loss:.4f}  loss_bbox: {loss / 2:.4f}\n"
        for at, loss in ((4, 8.0), (8, 4.0), (12, 2.0))
    )
    + "last <line>\n"
)
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
    for path in plan.results.glob("runs/*/seed*/detections.*.npz"):
        save_detections(path, FOUND)
    _index(plan, folder / "images")
    for seed in (0, 1):
        number = {metric: 45.0 + 2 * seed for metric in METRICS}
        measure(plan, "table8", 0, number, seed)
        trained(plan, "table8", 0, seed, **RECORD)
        (run_folder(plan, "table8", 0, seed) / "log.txt").write_text(LOG)
    fail(plan, "table8", 1)
    judged = judge(plan, strict=False, resample=resampler())
    write_json(plan.results / "claims.json", claims.report(plan, judged, []))
    _draw(plan.results / "figures")
    tables = plan.results / "tables"
    tables.mkdir()
    for name, text in FILES.items():
        (tables / f"{name}.csv").write_text(text)
    captions = folder / "captions"
    captions.mkdir()
    for name in ("table8", "figure9", "blue", "diagnosis_table"):
        (captions / f"{name}.rst").write_text(CAPTION)
    return plan, captions


def _index(plan: Plan, root: Path) -> None:
    """Leave the test images: one object in the first, two in the second."""
    root.mkdir()
    images = [
        {"id": at, "file_name": f"{at:06d}.png", "width": 640, "height": 320} for at in (1, 2)
    ]
    objects = [
        (1, [5.0, 5.0, 20.0, 20.0]),
        (2, [10.0, 10.0, 90.0, 60.0]),
        (2, [200.0, 9.0, 50.0, 50.0]),
    ]
    truth = {
        "images": images,
        "annotations": [
            {
                "id": at,
                "image_id": image,
                "category_id": 1,
                "bbox": box,
                "area": 400.0,
                "iscrowd": 0,
            }
            for at, (image, box) in enumerate(objects)
        ],
        "categories": [{"id": 1, "name": "cat"}],
    }
    index = plan.index_folder("voc")
    write_json(index.val, truth)
    manifest = {"root": str(root), "sha256": "data", "splits": {"val": {"images": 16}}}
    write_json(index.manifest, manifest)
    for image in images:
        Image.new("RGB", (640, 320), "gray").save(root / image["file_name"])


def _draw(folder: Path) -> None:
    """Three small drawings, and one whose SVG is so large that its PNG is taken."""
    folder.mkdir()
    for name in ("figure9", "blue", "diagnosis"):
        (folder / f"{name}.svg").write_text(SVG)
    (folder / "photographs.svg").write_text(SVG + " " * LIMIT)
    Image.new("RGB", (1920, 1260), "white").save(folder / "photographs.png")

"""Write a submission to COCO's test-dev server.

The server takes a zip with one file, `detections_test-dev2017_<name>_results.json`, in COCO's
result format.
"""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

from obc.config.plan import Plan
from obc.config.run import Decode
from obc.datasets.errors import DatasetError
from obc.datasets.numbering import original_id
from obc.evaluation.evaluate import detect_in
from obc.io.files import atomic_path, write_json

IMAGE_INFO = "annotations/image_info_test-dev2017.json"
IMAGES = "test2017"


def submit(
    plan: Plan, run_id: str, seed: int, decode: Decode, root: Path, out: Path, terminal: TextIO
) -> Path:
    """Detect in COCO's test-dev images and write the zip for the server.

    Args:
        plan: the plan that names the run, which must be on COCO.
        run_id: id of the run, which must be trained.
        decode: see `evaluate`.
        root: COCO folder with annotations/image_info_test-dev2017.json and test2017/.
        out: folder that the zip goes to.

    Raises:
        DatasetError: no test-dev in `root`, or the run was not trained on COCO's categories.
        WeightsError: see `evaluate`.
    """
    run = plan.run(run_id, seed)
    files = run.index.files()
    categories = files.ground_truth()["categories"]
    images = images_of_test_dev(root, categories)
    with tempfile.TemporaryDirectory() as folder:
        index = Path(folder) / "test-dev.json"
        write_json(index, {"images": images, "annotations": [], "categories": categories})
        test = replace(files, root=root.absolute(), val=index)
        detections, _ = detect_in(test, plan, run_id, seed, decode, terminal)
    name = f"detections_test-dev2017_{run_id}-seed{seed}-{decode}_results"
    path = out / f"{name}.zip"
    with (
        atomic_path(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        published = {one["id"]: original_id(one) for one in categories}
        found = [_submitted(one, published) for one in detections]
        archive.writestr(f"{name}.json", json.dumps(found))
    return path


def images_of_test_dev(root: Path, categories: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The test-dev images in COCO folder `root`, as entries of an index.

    Raises:
        DatasetError: the list or an image in it is missing, or the list has other categories.
    """
    path = root / IMAGE_INFO
    if not path.is_file() or not (root / IMAGES).is_dir():
        raise DatasetError(
            f"{root}: {IMAGE_INFO} or {IMAGES}/ is missing; "
            "`obc fetch coco_test_info coco_test2017` gets both, or --root names a folder with them"
        )
    info = json.loads(path.read_bytes())
    published = {one["id"]: one["name"] for one in info["categories"]}
    trained = {original_id(one): one["name"] for one in categories}
    if trained != published:
        other = [f"{key} ({name})" for key, name in trained.items() if published.get(key) != name]
        raise DatasetError(
            f"{path}: has {len(published)} categories, the run was trained on {len(trained)}, not "
            f"among them: {', '.join(other[:5]) or 'none'}; the server takes COCO's 80 only"
        )
    there = {file.name for file in os.scandir(root / IMAGES)}  # test-dev is half of test2017
    absent = [one["file_name"] for one in info["images"] if one["file_name"] not in there]
    if absent:
        raise DatasetError(
            f"{root / IMAGES}: {len(absent)} of the {len(info['images'])} images that {path.name} "
            f"lists are not there: {', '.join(absent[:5])}{', ..' if absent[5:] else ''}; the "
            "server wants all of them: complete the folder, or move it away and have it fetched"
        )
    keys = ("id", "width", "height")
    return [
        {**{key: one[key] for key in keys}, "file_name": f"{IMAGES}/{one['file_name']}"}
        for one in info["images"]
    ]


def _submitted(detection: dict[str, Any], category_ids: dict[int, Any]) -> dict[str, Any]:
    """A detection with COCO's category id, rounded to what matters at IoU .95: half the upload."""
    return {
        **detection,
        "category_id": category_ids[detection["category_id"]],
        "bbox": [round(value, 2) for value in detection["bbox"]],
        "score": round(detection["score"], 5),
    }

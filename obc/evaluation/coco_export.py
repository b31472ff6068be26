"""An evaluation in COCO's file formats, for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from obc.config.plan import Plan
from obc.config.run import Decode
from obc.datasets.index_folder import read_annotations
from obc.datasets.numbering import original_id
from obc.evaluation.detections_file import load_detections
from obc.io.errors import SuiteError
from obc.io.files import write_json

GROUND_TRUTH = "ground_truth.json"
DETECTIONS = "detections.json"


class NotEvaluated(SuiteError):
    """A decoding of a run was not evaluated, so there are no detections to export."""


def export_coco(plan: Plan, run_id: str, seed: int, decode: Decode, folder: Path) -> None:
    """Write the validation set and a run's detections in it, in COCO's formats.

    `ground_truth.json` is a COCO data set and `detections.json` a list of COCO results. Images and
    categories have the data set's ids if all of these are integers, otherwise the index's ids.

    Args:
        decode: an evaluated decoding.

    Raises:
        NotEvaluated: there is no evaluation of this decoding.
        NotIndexed: the run's data set has not been indexed.
    """
    run = plan.run(run_id, seed)
    path = run.folder.detections(decode)
    if not path.exists():
        raise NotEvaluated(f"{path}: not there; `obc evaluate` this decoding first")
    run.index.read_manifest()  # raises NotIndexed if there is none
    truth = read_annotations(run.index.val)
    images, categories = (published_ids(truth[kind]) for kind in ("images", "categories"))

    def published(row: dict[str, Any]) -> dict[str, Any]:
        return {
            **row,
            "image_id": images[row["image_id"]],
            "category_id": categories[row["category_id"]],
        }

    content = {
        **truth,
        "images": [{**one, "id": images[one["id"]]} for one in truth["images"]],
        "annotations": [published(one) for one in truth["annotations"]],
        # MMDetection's coco_error_analysis.py compares the supercategories of all classes.
        "categories": [
            {"supercategory": one["name"], **one, "id": categories[one["id"]]}
            for one in truth["categories"]
        ],
    }
    write_json(folder / GROUND_TRUTH, content)
    write_json(folder / DETECTIONS, [published(one) for one in load_detections(path)])


def published_ids(rows: list[dict[str, Any]]) -> dict[int, int]:
    """Map each id of an index to the data set's id if all of these are integers, else to itself.

    Args:
        rows: the images or the categories of an index.
    """
    originals = {row["id"]: original_id(row) for row in rows}
    whole = all(type(one) is int and one >= 0 for one in originals.values())
    return originals if whole else {row["id"]: row["id"] for row in rows}

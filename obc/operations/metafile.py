"""`metafile.yml`: trained runs in the format of MMDetection's model zoo."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from obc.config.plan import Plan, Run
from obc.io.errors import SuiteError
from obc.io.files import require_record, write_text
from obc.runs.status import has_weights

COLLECTION = "Offset Bin Classification"
TECHNIQUES = {"sgd": "SGD with Momentum", "adamw": "AdamW"}
DETECTORS = {"faster_rcnn": "Faster R-CNN", "cascade_rcnn": "Cascade R-CNN"}


class NothingTrained(SuiteError):
    """None of the runs to be listed has weights."""


def write_metafile(plan: Plan, runs: Iterable[Run], path: Path) -> None:
    """List the trained runs: config, weights, epochs, memory, AP of each decoding.

    Args:
        runs: runs to list, an entry for each seed; runs without weights are left out.
        path: file to write; paths of configs and weights are relative to its folder.

    Raises:
        NothingTrained: none of the runs has weights.
        DamagedRecord: a record or a metrics file is damaged.
    """
    trained = [run for run in runs if has_weights(run.folder)]
    if not trained:
        raise NothingTrained(
            f"{path}: no run to list has weights in its folder; `obc status` shows which runs are "
            "trained, and runs that `obc import` restored have metrics only"
        )
    optimizers = dict.fromkeys(run.resolved.schedule.optimizer for run in trained)
    techniques = [*(TECHNIQUES[optimizer] for optimizer in optimizers), "Weight Decay"]
    collection = {
        "Name": COLLECTION,
        "Metadata": {"Training Techniques": techniques},
        "Paper": {"Title": "Offset Bin Classification Network for Accurate Object Detection"},
    }
    content = {
        "Collections": [collection],
        "Models": [_model(plan, run, path.parent) for run in trained],
    }
    write_text(path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def _model(plan: Plan, run: Run, folder: Path) -> dict[str, Any]:
    spec, record = run.resolved.spec, require_record(run.folder.record)
    memory = (record.get("peak_memory_mib") or {}).get("device")
    metadata = {
        "Architecture": [DETECTORS[spec.detector], "FPN"],
        "Epochs": run.resolved.schedule.epochs,
        "Batch Size": run.resolved.schedule.batch_size,
        **({} if memory is None else {"Training Memory (GB)": round(memory / 1024, 1)}),
    }
    dataset = f"{spec.dataset} of scale {plan.scale.name}"
    results = [
        {"Task": "Object Detection", "Dataset": dataset, "Decoding": decode, "Metrics": metrics}
        for decode in spec.decodes
        if (metrics := _metrics(run.folder.metrics(decode)))
    ]
    return {
        "Name": f"{run.run_id}-seed{run.seed}",
        "In Collection": COLLECTION,
        "Config": run.folder.config.relative_to(folder).as_posix(),
        "Metadata": metadata,
        "Results": results,
        "Weights": run.folder.weights.relative_to(folder).as_posix(),
    }


def _metrics(path: Path) -> dict[str, float]:
    """AP and AP50 of an evaluation, in percent; empty if the run was not evaluated."""
    if not path.exists():
        return {}
    found = require_record(path)["metrics"]
    names = {"AP": "box AP", "AP50": "box AP50"}
    return {
        shown: round(found[name], 1) for name, shown in names.items() if found[name] is not None
    }

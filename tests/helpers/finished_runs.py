"""Files of finished runs, as trainings and evaluations leave them, made up."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from obc.config.plan import Plan, Run
from obc.evaluation.detections_file import save_detections
from obc.runs.versions import TRAINING_CODE, code_digest

DATA = "d" * 64
HARDWARE = {"processor": "Some CPU", "cores": 2, "threads": 1, "gpu": None}
BENCHMARK = "s\tcpu_time\n30.0\t29.0\n"


def write_data(plan: Plan) -> None:
    """An index of every data set, as far as a plan reads it."""
    for name in plan.scale.data:
        manifest = plan.index_folder(name).manifest
        manifest.parent.mkdir(parents=True, exist_ok=True)
        manifest.write_text(json.dumps({"sha256": DATA, "splits": {}, "root": "images"}))


def finish(plan: Plan, run_id: str, seed: int = 0, **record: object) -> Run:
    """The files of a training and of its evaluations; of starting weights the training's alone."""
    run = plan.run(run_id, seed)
    run.folder.path.mkdir(parents=True)
    run.folder.weights.write_bytes(b"weights of " + run_id.encode())
    run.folder.config.write_text("model = dict()\n")
    run.folder.log.write_text("Epoch(train) [1][1/1]  loss: 1.0\n")
    run.folder.benchmark.write_text(BENCHMARK)
    initial = plan.initial_training(run_id, seed)
    content = {
        "run_id": run_id,
        "weights_sha256": f"weights of {run_id} {seed}",
        "initial_weights_sha256": initial and f"weights of {initial.run_id} {initial.seed}",
        "packages": {"torch": "2.13.0"},
        "hardware": HARDWARE,
        "processes": max(1, plan.gpus_per_run),
        "numerics": plan.scale.runtime.numerics,
        "started": f"2026-11-2{seed}T10:00:00+00:00",
        "seconds": 90.0,
        "data": {"sha256": DATA},
        "code": {"commit": "c" * 40, "clean": True, "training_code": code_digest(TRAINING_CODE)},
        **record,
    }
    run.folder.record.write_text(json.dumps(content))
    for decode in plan.trainings[run_id].decodes if run_id in plan.runs else ():
        _evaluate(run, plan.scale.name, decode, str(content["weights_sha256"]))
    return run


def _evaluate(run: Run, scale: str, decode: str, weights: str) -> None:
    metrics = {"scale": scale, "run_id": run.run_id, "seed": run.seed, "decode": decode,
               "weights_sha256": weights, "metrics": {"AP": 40.0, "AP_S": None}}  # fmt: skip
    run.folder.metrics(decode).write_text(json.dumps(metrics))
    run.folder.evaluation_benchmark(decode).write_text(BENCHMARK)
    x, y, right, bottom, score = np.float32([1.1, 2.2, 30.3, 40.4, 0.9]).astype(float).tolist()
    box = [x, y, right - x, bottom - y]
    found = {"image_id": 1, "category_id": 2, "bbox": box, "score": score}
    save_detections(run.folder.detections(decode), [found])


def files_below(folder: Path) -> dict[str, bytes]:
    """Contents by path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }

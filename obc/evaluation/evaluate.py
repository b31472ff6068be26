"""Evaluate one decoding of a trained run on its validation set."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, TextIO

import torch
from mmengine.runner import Runner
from torch import nn

from obc.config.plan import Plan
from obc.config.protocols import LAST_PIXEL
from obc.config.run import Decode
from obc.datasets.index_folder import DataFiles
from obc.datasets.settings import ShapesData
from obc.detector.precision import out_of_memory_explained
from obc.detector.trained import load_trained_run, set_decode
from obc.evaluation.detections_file import save_detections
from obc.evaluation.head_cost import head_cost
from obc.evaluation.metrics import (
    COCO_AREA_SIDES,
    average_precision,
    counts_difficult,
    difficult_ignored,
)
from obc.io.files import file_sha256, write_json

# Largest small and smallest large object side on the embedded scenes, as fractions of the image's
# side. With COCO's 32 and 96 pixels nearly all of their objects would be small.
EMBEDDED_AREA_SIDES = (0.15, 0.3)


def evaluate(plan: Plan, run_id: str, seed: int, decode: Decode, terminal: TextIO) -> Path:
    """Run a trained detector on the validation set; write its detections and their metrics.

    The metrics are written last, so if a metrics file exists, the detections exist too.

    Args:
        decode: how offset bins become offsets; `regression` for runs without bins.
        terminal: gets progress lines of a long evaluation.

    Returns:
        The metrics file.

    Raises:
        WeightsError: see `load_trained_run`.
    """
    run, dataset = plan.run(run_id, seed), plan.dataset_of(run_id)
    files = run.index.files()
    truth = files.ground_truth()
    detections, model = detect_in(files, plan, run_id, seed, decode, terminal)
    save_detections(run.folder.detections(decode), detections)
    sides = area_sides(plan, dataset)
    results = {"gt": average_precision(truth, detections, sides)}
    results["ignore"] = results["gt"]
    if any(annotation.get("difficult") for annotation in truth["annotations"]):
        results["ignore"] = average_precision(difficult_ignored(truth), detections, sides)
    difficult = plan.difficult(dataset)
    metrics, per_class = results["gt" if counts_difficult(difficult) else "ignore"]
    path = run.folder.metrics(decode)
    write_json(
        path,
        {
            "scale": plan.scale.name,
            "run_id": run_id,
            "seed": seed,
            "decode": decode,
            "weights_sha256": file_sha256(run.folder.weights),
            "images": len(truth["images"]),
            "difficult": difficult,
            "area_sides": sides,
            "metrics": metrics,
            "metrics_difficult_gt": results["gt"][0],
            "metrics_difficult_ignored": results["ignore"][0],
            "per_class": per_class,
            "box_head": head_cost(model),
        },
    )
    return path


def detect_in(
    files: DataFiles, plan: Plan, run_id: str, seed: int, decode: Decode, terminal: TextIO
) -> tuple[list[dict[str, Any]], nn.Module]:
    """Detect with a trained run in the images that `files.val` lists.

    Args:
        files: the run's data set, or other images with the same categories in the same order.
        decode: see `evaluate`.
        terminal: see `evaluate`.

    Returns:
        The detections in COCO's result format, and the model.

    Raises:
        WeightsError: see `load_trained_run`.
    """
    model, config = load_trained_run(plan, run_id, seed, files)
    set_decode(model, decode)
    loader = Runner.build_dataloader(config.test_dataloader, seed=seed)
    category_ids = [category["id"] for category in files.ground_truth()["categories"]]
    with out_of_memory_explained(
        f"evaluating with {loader.batch_size} images at once",
        "Make runtime.eval_batch_size smaller.",
    ):
        name = f"{run_id} seed {seed}"
        pixel = LAST_PIXEL[plan.runs[run_id].resolved.protocol]
        return detect(model, loader, category_ids, name, terminal, pixel), model


def area_sides(plan: Plan, dataset: str) -> tuple[float, float]:
    """Sides in pixels that separate small, medium, large: COCO's, or the embedded scenes' own."""
    data = plan.scale.data[dataset]
    if not isinstance(data, ShapesData):
        return COCO_AREA_SIDES
    small, large = EMBEDDED_AREA_SIDES
    return (small * data.image_size, large * data.image_size)


@torch.inference_mode()
def detect(
    model: nn.Module,
    loader: Any,
    category_ids: list[int],
    name: str,
    terminal: TextIO,
    last_pixel: int = 0,
) -> list[dict[str, Any]]:
    """Detections of every image in COCO's result format.

    Args:
        model: in evaluation mode.
        loader: of the images.
        category_ids: category id of each label of the model.
        name: of the evaluation in progress lines.
        terminal: gets progress lines of a long evaluation.
        last_pixel: 1 if the model's boxes are in whole pixels (`detector.whole_pixels`), else 0.
    """
    detections = []
    printed = time.monotonic()
    for batch_index, batch in enumerate(loader):
        for sample in model.test_step(batch):
            found = sample.pred_instances
            x1, y1, x2, y2 = found.bboxes.double().cpu().unbind(-1)
            widths, heights = x2 - x1 + last_pixel, y2 - y1 + last_pixel
            boxes = torch.stack((x1, y1, widths, heights), -1).tolist()
            detections += [
                {
                    "image_id": sample.img_id,
                    "category_id": category_ids[label],
                    "bbox": box,
                    "score": score,
                }
                for label, box, score in zip(
                    found.labels.tolist(), boxes, found.scores.tolist(), strict=True
                )
            ]
        if time.monotonic() - printed > 15:
            printed = time.monotonic()
            print(f"{name}: evaluated {batch_index + 1}/{len(loader)} batches", file=terminal)
    return detections

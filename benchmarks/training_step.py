"""Measure how each choice of scale mini changes the speed of a training step.

    python benchmarks/training_step.py results/mini/plan.json [--iterations 40] [--rounds 3]

Runs training steps of a run of the plan, first with MMDetection's choices at the scale's sizes,
then with one choice of the scale after the other; the last variant is the scale's own step. Every
variant has a process of its own, in turns, so that a machine that gets slower in between slows all
of them. Prints a Markdown table: images/s (median of the rounds) and the milliseconds of CPU time
that a step takes. The plan's data must be indexed and its starting weights trained.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from itertools import chain, repeat
from pathlib import Path
from typing import Any

from obc.config.plan import Plan
from obc.config.scale import Sizes
from obc.training.memory import KEPT_MEMORY

# `memory` is the environment of the workflow's jobs.
AS_MMDETECTION: dict[str, Any] = {
    "roi_align": "mmcv",
    "sampling_ratio": None,
    "train_proposals": 1000,
    "frozen_stages": 1,
    "channels_last": False,
    "memory": False,
    "batched": False,
    "keep_images": False,
}
# What is taken over from the scale, one after the other.
CHOICES = (
    ("MMDetection's choices", ()),
    ("RoIAlign as a lookup in a table of pixels", ("roi_align", "sampling_ratio")),
    ("fewer proposals", ("train_proposals",)),
    ("frozen stages", ("frozen_stages",)),
    ("channels last", ("channels_last",)),
    ("memory kept between steps", ("memory",)),
    ("RPN, preprocessing and objects by the batch", ("batched",)),
    ("images and maps of frozen stages kept", ("keep_images",)),
)


def main() -> None:
    """Measure every variant in turns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("plan", type=Path, help="path of a plan.json")
    parser.add_argument(
        "--run",
        default="voc-faster-r50-smoothl1-b1-",
        help="beginning of a run id; default: %(default)s",
    )
    parser.add_argument(
        "--iterations", type=int, default=40, help="timed steps of a measurement; default: 40"
    )
    parser.add_argument(
        "--rounds", type=int, default=3, help="measurements of each variant; default: 3"
    )
    parser.add_argument("--variant", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.variant is not None:
        print(json.dumps(measure(options, json.loads(options.variant))))
        return
    scale = Plan.load(options.plan).scale
    chosen = {**scale.sizes.model_dump(), **scale.runtime.model_dump(), "memory": True}
    variants, settings = [], dict(AS_MMDETECTION)
    for name, keys in CHOICES:
        choice = {key: chosen[key] for key in keys}
        settings = {**settings, **choice}
        shown = ", ".join(f"`{key}: {value}`" for key, value in choice.items() if key != "memory")
        variants.append((f"{name} ({shown})" if shown else name, settings))
    seen: dict[str, list[dict[str, float]]] = {name: [] for name, _ in variants}
    for round_number in range(options.rounds):
        for name, variant in variants:
            seen[name].append(in_a_process(options, variant))
            print(f"round {round_number + 1}: {name}: {seen[name][-1]}", file=sys.stderr)
    print("| | images/s | step, ms of CPU |\n|---|---|---|")
    for name, measured in seen.items():
        images = statistics.median(one["images_per_second"] for one in measured)
        cpu = statistics.median(one["cpu_milliseconds"] for one in measured)
        print(f"| {name} | {images:.1f} | {cpu:.0f} |")
    last = next(reversed(seen.values()))
    rate = statistics.median(one["matmul_gflop_per_second"] for one in last)
    gflop = last[0]["gflop"]
    print(
        f"\nFloor: the convolutions and matrix products of the last variant's step are {gflop:.2f} "
        f"GFLOP; at the {rate:.0f} GFLOP/s of this core's matrix product, "
        f"{1000 * gflop / rate:.0f} ms."
    )


def in_a_process(options: argparse.Namespace, variant: dict[str, Any]) -> dict[str, float]:
    """One measurement, in a fresh process with one thread."""
    command = [sys.executable, __file__, str(options.plan), "--run", options.run]
    command += ["--iterations", str(options.iterations), "--variant", json.dumps(variant)]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        **(KEPT_MEMORY if variant["memory"] else {}),
    }
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(options: argparse.Namespace, variant: dict[str, Any]) -> dict[str, float]:
    """Time training steps of one variant in this process."""
    from mmengine.runner import Runner
    from torch.utils.flop_counter import FlopCounterMode

    from obc.training.mmdet_config import build_config
    from obc.training.train import build_runner

    plan = Plan.load(options.plan)
    run = next(run for run_id, run in plan.runs.items() if run_id.startswith(options.run))
    sizes = {key: value for key, value in variant.items() if key in Sizes.model_fields}
    resolved = run.resolved.model_copy(
        update={"sizes": run.resolved.sizes.model_copy(update=sizes)}
    )
    files = plan.index_folder(resolved.spec.dataset).files()
    weights = plan.initial_weights(run.run_id, 0)
    switches = {key: variant[key] for key in ("channels_last", "batched", "keep_images")}
    runtime = plan.scale.runtime.model_copy(update=switches)
    config = build_config(resolved, 0, files, runtime, weights)
    config.work_dir = str(plan.results / "work" / "training_step")
    config.log_level = "ERROR"
    runner = build_runner(config, runtime)
    runner.model.init_weights()
    runner.model.train()
    optimizer = runner.build_optim_wrapper(config.optim_wrapper)
    epoch = Runner.build_dataloader(config.train_dataloader, seed=0)
    loader = chain.from_iterable(repeat(epoch))
    # An image is kept twice, as it is and mirrored: by the fourth epoch nearly all of them are.
    for _ in range(3 * len(epoch) if variant["keep_images"] else 5):
        runner.model.train_step(next(loader), optimizer)
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(options.iterations):
        runner.model.train_step(next(loader), optimizer)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    with FlopCounterMode(display=False) as counter:
        runner.model.train_step(next(loader), optimizer)
    images = options.iterations * config.train_dataloader.batch_size
    return {
        "images_per_second": round(images / wall, 2),
        "cpu_milliseconds": round(1000 * cpu / options.iterations, 1),
        "gflop": round(counter.get_total_flops() / 1e9, 3),
        "matmul_gflop_per_second": round(matmul_rate(), 1),
    }


def matmul_rate(times: int = 50) -> float:
    """GFLOP/s of one thread at the product of mini's first box head layer, its largest."""
    import torch

    features, weights = torch.randn(384, 2352), torch.randn(2352, 256)
    for _ in range(5):
        features @ weights
    started = time.process_time()
    for _ in range(times):
        features @ weights
    seconds = (time.process_time() - started) / times
    return 2 * features.shape[0] * weights.numel() / seconds / 1e9


if __name__ == "__main__":
    main()

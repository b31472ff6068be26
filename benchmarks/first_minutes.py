"""Compare the time of a training step, and of the start of a job, with MMDetection's.

    python benchmarks/first_minutes.py [--rounds 5] [--steps 10]

Ratios of processor time, measured in turns in one run. The step is that of scale mini's baseline:
eight images of 96 pixels, drawn at random and held in memory, with SGD. It is compared with its
floor, which is the convolutions and matrix products of MMDetection's step, counted, at the rate of
this core's matrix product, and with MMDetection's classes. The start is a process that imports what
a training needs, with every import of MMDetection's against those that a detector here needs.
Prints Markdown.
"""

from __future__ import annotations

import argparse
import copy
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.utils import register_all_modules
from mmengine.optim import OptimWrapper
from mmengine.structures import InstanceData
from torch.optim import SGD
from torch.utils.flop_counter import FlopCounterMode
from training_step import matmul_rate

from obc.config.load_plan import load_plan
from obc.detector.batched import compute_in_batches
from obc.detector.model_config import model_config
from obc.detector.precision import prepare
from obc.training.memory import KEPT_MEMORY

IMAGES, SIDE, CLASSES = 8, 96, 3
# Goals: 85 ms a step where its floor is 48, and half of a start.
STEP_GOAL, START_GOAL = 85 / 48, 0.5
EVERYTHING = "import obc.training.train"
WHAT_IS_NEEDED = "from obc.cli.runs import import_lightly; import_lightly([]); " + EVERYTHING


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--rounds", type=int, default=5, help="rounds of each comparison; default: 5"
    )
    parser.add_argument(
        "--steps", type=int, default=10, help="training steps in a round; default: 10"
    )
    options = parser.parse_args()
    if not KEPT_MEMORY.items() <= os.environ.items():  # as the workflow's jobs run
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **KEPT_MEMORY})
    torch.set_num_threads(1)
    stock, kept = training_steps()
    classes = compared(stock, kept, options.rounds, options.steps)
    floor = compared(floor_of(stock), kept, options.rounds, options.steps)
    starts = compared(lambda: start(EVERYTHING), lambda: start(WHAT_IS_NEEDED), options.rounds, 1)
    print("| processor time | compared with, ms | here, ms | ratio | goal | |")
    print("|---|---|---|---|---|---|")
    for name, measured, goal in (
        ("a training step, with its floor", floor, STEP_GOAL),
        ("a training step, with MMDetection's classes and the same RoIAlign", classes, None),
        ("imports of a training, with all of MMDetection's", starts, START_GOAL),
    ):
        before, after = ([1000 * one[side] for one in measured] for side in (0, 1))
        ratios = [one[1] / one[0] for one in measured]
        ratio = statistics.median(ratios)
        verdict = (
            "|" if goal is None else f"≤ {goal:.2f} | {'reached' if ratio <= goal else 'missed'}"
        )
        print(
            f"| {name} | {statistics.median(before):.0f} | {statistics.median(after):.0f} "
            f"| {ratio:.2f} [{min(ratios):.2f}, {max(ratios):.2f}] | {verdict} |"
        )


def compared(
    before: Callable[[], float], after: Callable[[], float], rounds: int, times: int
) -> list[tuple[float, float]]:
    """Mean seconds of both in each round, in turns; the first calls do not count."""
    before(), after()
    return [
        tuple(statistics.mean(one() for _ in range(times)) for one in (before, after))
        for _ in range(rounds)
    ]


def training_steps() -> tuple[Callable[[], float], Callable[[], float]]:
    """A step of the stock detector and one of the batched detector, with the same weights."""
    register_all_modules(init_default_scope=True)
    plan = load_plan({"scale": "mini"})
    run = next(
        one.resolved for name, one in plan.runs.items() if name.startswith("voc-faster-r50-smooth")
    )
    stock = model_config(run, CLASSES)
    batched = copy.deepcopy(stock)
    compute_in_batches(batched, keep_frozen=True)
    models = [prepare(MODELS.build(one), plan.scale.runtime).train() for one in (stock, batched)]
    models[1].load_state_dict(models[0].state_dict())
    optimizers = [
        OptimWrapper(SGD(model.parameters(), lr=1e-4, momentum=0.9), clip_grad={"max_norm": 35})
        for model in models
    ]
    data = batch()
    return tuple(
        lambda pair=pair: step(*pair, data) for pair in zip(models, optimizers, strict=True)
    )


def step(model: torch.nn.Module, optimizer: OptimWrapper, data: dict[str, Any]) -> float:
    """Seconds of processor time of one training step."""
    torch.manual_seed(0)
    data = copy.deepcopy(data)
    began = time.process_time()
    model.train_step(data, optimizer)
    return time.process_time() - began


def floor_of(step: Callable[[], float]) -> Callable[[], float]:
    """Seconds that the multiplications of a step take at the rate of its largest matrix product."""
    with FlopCounterMode(display=False) as counter:
        step()
    gflop = counter.get_total_flops() / 1e9
    return lambda: gflop / matmul_rate()


def batch() -> dict[str, Any]:
    """Noise with one or two large objects an image, as mini's scenes have."""
    generator = torch.Generator().manual_seed(0)
    samples = []
    for number in range(IMAGES):
        count = 1 + number % 2
        corner = torch.rand(count, 2, generator=generator) * SIDE / 3
        size = SIDE * (0.45 + 0.2 * torch.rand(count, 2, generator=generator))
        meta = {"img_id": number, "img_shape": (SIDE, SIDE), "scale_factor": (1.0, 1.0)}
        sample = DetDataSample(metainfo=meta)
        sample.gt_instances = InstanceData(
            bboxes=torch.cat((corner, corner + size), 1),
            labels=torch.randint(CLASSES, (count,), generator=generator),
        )
        sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0))
        samples.append(sample)
    images = torch.randint(256, (IMAGES, 3, SIDE, SIDE), generator=generator).byte()
    return {"inputs": list(images), "data_samples": samples}


def start(program: str) -> float:
    """Seconds of processor time of a process that runs a program."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()

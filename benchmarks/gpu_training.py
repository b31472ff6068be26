"""Compare speed, memory and profile of training steps on a GPU with stock MMDetection's.

    python benchmarks/gpu_training.py /data/VOCdevkit/VOC2012 [--iterations 300]
    python benchmarks/gpu_training.py FOLDER --classes cat dog --train train --image-scale 1000 600

The script trains four models at a scale's sizes: the Faster R-CNN baseline, OBC with one stage, OBC
with two stages, and stock MMDetection's Faster R-CNN config, on the same images, sizes and batches.
Then it trains one model again with each switch of the runtime. Every measurement runs in a separate
process. The results are printed as Markdown. FOLDER is in PASCAL VOC layout. No pretrained weights
are read, because they do not change the speed. The learning rate is divided by ten in place of a
warm-up. The losses therefore show only that training steps were computed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from obc.config.load_plan import load_plan
from obc.config.plan import Plan
from obc.config.scale import Runtime

# Rows of Table 1, by key.
MODELS = {
    "stock": "MMDetection's faster-rcnn_r50_fpn_1x_coco",
    "regression": "Faster R-CNN, smooth L1",
    "bins": "OBC, K = 1",
    "full": "OBC, K = 2",
}
SWITCHES = {
    "cuda": ["channels_last", "tf32=true", "tf32=false", "amp=bf16", "amp=fp16", "compile"],
    "cpu": ["channels_last"],
}
WARM_UP = 10  # iterations before the clock starts
PROFILED = 3


def main() -> None:
    """Measure every model, then every switch, and print the tables."""
    options = parse()
    if options.variant is not None:
        print(json.dumps(measure(options, json.loads(options.variant))))
        return
    prepare_data(options)
    print(f"{options.iterations} iterations a row, {options.device}, scale {options.scale}.\n")
    print_table("model", [(MODELS[name], name, "") for name in options.models], options)
    switches = SWITCHES[options.device] if options.switches is None else options.switches
    if switches:
        rows = [(f"`{switch}`", options.switched, switch) for switch in switches]
        print_table(f"{MODELS[options.switched]}, with", rows, options)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="images in PASCAL VOC layout")
    parser.add_argument("--train", default="train", help="split to train on; default: train")
    parser.add_argument("--val", default="val", help="another split; only checked; default: val")
    parser.add_argument("--classes", nargs="+", help="class names; default: VOC's 20")
    parser.add_argument("--scale", default="paper", help="a file in config/scales; default: paper")
    parser.add_argument("--image-scale", type=int, nargs=2,
                        help="longest, shortest side in pixels; default: the scale's")  # fmt: skip
    parser.add_argument("--batch-size", type=int, help="images in a batch; default: the scale's")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda",
                        help="device to train on; default: cuda")  # fmt: skip
    parser.add_argument("--iterations", type=int, default=300,
                        help="timed steps of a measurement; default: 300")  # fmt: skip
    parser.add_argument("--workers", type=int, default=4,
                        help="processes that load images; default: 4")  # fmt: skip
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS),
                        help="models to compare; default: all")  # fmt: skip
    parser.add_argument("--switches", nargs="*", metavar="KEY=VALUE,...",
                        help="settings of the runtime, one measurement for each argument; without "
                        "an argument: no measurement; default: "
                        f"{' '.join(SWITCHES['cuda'])} (cuda), {' '.join(SWITCHES['cpu'])} "
                        "(cpu)")  # fmt: skip
    parser.add_argument("--switched", choices=MODELS, default="full",
                        help="model that is trained with the switches; default: full")  # fmt: skip
    parser.add_argument("--results", default="results",
                        help="folder for the index of the images; default: results")  # fmt: skip
    parser.add_argument("--variant", help=argparse.SUPPRESS)
    return parser.parse_args()


def plan_of(options: argparse.Namespace) -> Plan:
    """The scale's plan with the folder as its VOC data."""
    chosen = {
        "scale": options.scale,
        "results": options.results,
        "label": "gpu-training",
        "voc_root": str(options.folder),
        "voc_train": [options.train],
        "voc_val": [options.val],
        **({"voc_classes": options.classes} if options.classes else {}),
    }
    return load_plan(chosen, Path(__file__).parent.parent / "config")


def prepare_data(options: argparse.Namespace) -> None:
    """Check and index the images, once for all measurements."""
    from obc.datasets.index import index_dataset

    plan = plan_of(options)
    data, index = plan.scale.data["voc"], plan.index_folder("voc")
    index_dataset(data, plan.data_folder("voc"), index, workers=max(1, options.workers))


def print_table(title: str, rows: list[tuple[str, str, str]], options: argparse.Namespace) -> None:
    """One measurement a row, then the profile of each."""
    profiles = []
    print(f"| {title} | images/s | ms a step | peak memory, MiB | loss |\n|---|---|---|---|---|")
    for label, model, switch in rows:
        one = in_a_process(options, {"model": model, "switch": switch})
        if "error" in one:
            print(f"| {label} | {one['error']} | | | |", flush=True)
            continue
        numbers = [f"{one[key]:.1f}" for key in ("images_per_second", "milliseconds")]
        print(f"| {label} | {' | '.join(numbers)} | {one['memory_mib']:.0f} | {one['loss']:.2f} |",
              flush=True)  # fmt: skip
        profiles.append((label, one["profile"]))
    for label, profile in profiles:
        print(f"\n{label}: where a step's time goes\n\n| operation | ms | share |\n|---|---|---|")
        for name, milliseconds, share in profile:
            print(f"| `{name}` | {milliseconds:.2f} | {100 * share:.0f} % |")
    print(flush=True)


def in_a_process(options: argparse.Namespace, variant: dict[str, str]) -> dict[str, Any]:
    """One measurement in a fresh process; `error` where it fails, e.g. for want of memory."""
    command = [sys.executable, *sys.argv, "--variant", json.dumps(variant)]
    environment = dict(os.environ)
    if options.device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    print(done.stderr, file=sys.stderr)
    return {"error": done.stderr.strip().splitlines()[-1][:120]}


def measure(options: argparse.Namespace, variant: dict[str, str]) -> dict[str, Any]:
    """Time, memory and profile of one model with one switch, in this process."""
    import torch
    from mmengine.runner import Runner

    from obc.training.train import build_runner

    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("torch sees no GPU here; --device cpu tries the script out")
    config, runtime = training_config(options, variant)
    runner = build_runner(config, runtime)
    runner.model.init_weights()
    runner.model.train()
    optimizer = runner.build_optim_wrapper(config.optim_wrapper)
    loader = Runner.build_dataloader(config.train_dataloader, seed=0)
    batches = endless(loader)
    losses: list[Any] = []

    def steps(count: int) -> None:
        for _ in range(count):
            losses.append(runner.model.train_step(next(batches), optimizer)["loss"].detach())
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    steps(min(WARM_UP, options.iterations))
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    steps(options.iterations)
    seconds = time.perf_counter() - started
    if torch.cuda.is_available():
        memory = torch.cuda.max_memory_allocated() / 2**20
    else:
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "images_per_second": options.iterations * loader.batch_sampler.batch_size / seconds,
        "milliseconds": 1000 * seconds / options.iterations,
        "memory_mib": memory,
        "loss": torch.stack(losses[-10:]).mean().item(),
        "profile": profile(steps),
    }


def endless(loader: Any) -> Any:
    """Batches for as long as one asks."""
    while True:
        yield from loader


def training_config(options: argparse.Namespace, variant: dict[str, str]) -> tuple[Any, Runtime]:
    """What a row trains: the suite's run, or stock MMDetection's config on the same data."""
    from obc.training.mmdet_config import build_config

    plan = plan_of(options)
    rows = {row.key: row for row in plan.detail_table.rows}
    row = rows[variant["model"] if variant["model"] != "stock" else "regression"]
    resolved = plan.run_of(row).resolved
    sizes = {"image_scale": {"voc": tuple(options.image_scale)}} if options.image_scale else {}
    batch = {"batch_size": options.batch_size} if options.batch_size else {}
    resolved = resolved.model_copy(
        update={
            "sizes": resolved.sizes.model_copy(update=sizes),
            "schedule": resolved.schedule.model_copy(update=batch),
            "network": resolved.network.model_copy(update={"pretrained": None}),
        }
    )
    switches = switches_of(variant["switch"])
    runtime = Runtime(num_workers=options.workers, **switches)
    files = plan.index_folder("voc").files()
    config = build_config(resolved, 0, files, runtime)
    if variant["model"] == "stock":
        config.model = stock_model(len(files.classes))
    config.optim_wrapper.optimizer.lr /= 10
    config.work_dir = str(plan.results / "work")
    config.log_level = "ERROR"
    return config, runtime


def stock_model(num_classes: int) -> Any:
    """MMDetection's model as it ships, but for the number of classes and the weights to load."""
    from mmengine.config import Config

    from obc.detector.model_config import BASE_CONFIGS

    model = Config.fromfile(BASE_CONFIGS / "faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py").model
    model.roi_head.bbox_head.num_classes = num_classes
    model.backbone.init_cfg = None
    return model


def switches_of(text: str) -> dict[str, Any]:
    """`channels_last,amp=bf16` as keys of the runtime."""
    pairs = (part.partition("=") for part in text.split(",") if part)
    return {key: yaml.safe_load(value) if equals else True for key, equals, value in pairs}


def profile(steps: Any, rows: int = 12) -> list[tuple[str, float, float]]:
    """The operations that take most of a step: name, milliseconds, share of all."""
    import torch
    from torch.profiler import ProfilerActivity

    on_gpu = torch.cuda.is_available()
    activities = [ProfilerActivity.CUDA] if on_gpu else [ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities) as profiler:
        steps(PROFILED)
    spent = {
        event.key: event.self_device_time_total if on_gpu else event.self_cpu_time_total
        for event in profiler.key_averages()
    }
    total = sum(spent.values())
    longest = sorted(spent, key=spent.__getitem__, reverse=True)[:rows]
    return [(key[:80], spent[key] / 1000 / PROFILED, spent[key] / total) for key in longest]


if __name__ == "__main__":
    main()

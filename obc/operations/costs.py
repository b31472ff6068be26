"""Estimated costs of each training of a plan: device hours and disk space.

Each estimate uses the most reliable source available: images/s of finished runs of the same network
here ("measured"), otherwise the arithmetic throughput of other finished runs here ("scaled"),
otherwise the table DEVICES ("estimated").
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from heapq import nlargest
from statistics import fmean, median
from typing import Any, Literal

from pydantic import ValidationError

from obc.config.plan import Plan
from obc.config.run import ResolvedRun
from obc.config.run_folder import RunFolder
from obc.datasets.settings import CocoData, ShapesData, VocData
from obc.io.files import read_record
from obc.io.typed_yaml import ConfigError
from obc.operations.flops import evaluation_flops, parameters, training_flops
from obc.runs.status import run_status, shown_tables

Basis = Literal["measured", "scaled", "estimated"]


@dataclass(frozen=True)
class Device:
    """A device: its peak in TFLOP/s, and the fraction of it that training a detector sustains."""

    peak: float
    utilisation: float
    source: str

    @property
    def flops_per_second(self) -> float:
        """Sustained operations per second, counted as `obc.operations.flops` does."""
        return self.peak * self.utilisation * 1e12


_TF32 = "peak: NVIDIA, TF32 without sparsity; the part of it is an assumption"
DEVICES = {
    # A training step of Faster R-CNN R50 takes 968 GFLOP per image at 1333 x 800; torchvision's
    # takes 0.229 s for two images.
    "v100": Device(15.7, 0.54, "torchvision's published 0.229 s a step of two images, FP32"),
    "t4": Device(8.1, 0.40, "peak: NVIDIA, FP32; the part of it is an assumption"),
    "a100": Device(156.0, 0.10, _TF32),
    "h100": Device(495.0, 0.05, _TF32),
    "h200": Device(495.0, 0.05, _TF32),
    "rtx3090": Device(35.6, 0.30, _TF32),
    "rtx4090": Device(82.6, 0.25, _TF32),
    # One core of an AMD EPYC; matrix products alone reach 87 GFLOP/s on it (docs/performance.md).
    "cpu": Device(0.087, 0.30, "a core; both measured at scale mini, docs/performance.md"),
}
DEFAULT_GPU = "a100"
# Seconds outside the loop of a training or evaluation (imports, building the model, reading the
# index, writing): 6.8 min over 45 trainings of scale mini.
START_SECONDS = 9.0
FLOAT_BYTES = 4
# Two checkpoints are kept; the older one is deleted only after the next one is written.
CHECKPOINTS_AT_ONCE = 3
# Bytes of one detection in a detections file: 18 to 23 at scale mini. At most 100 detections are
# kept for an image.
DETECTION_BYTES = 23
DETECTIONS_PER_IMAGE = 100
COCO_CLASSES = 80


@dataclass(frozen=True)
class Rate:
    """Measured throughput of one device that trained a run, in images per second."""

    run: ResolvedRun
    images_per_second: float
    device: str


@dataclass(frozen=True)
class Cost:
    """Device time and disk space of one training with its evaluations.

    Attributes:
        done: whether it is trained and evaluated; see `is_done`.
        seconds: device seconds. None: the images of a user's folder are not counted before
            `obc index`.
        basis: source of `seconds`. "done": they are what the training took; a done training on
            another kind of device has an estimate.
        disk: bytes of weights and detections, which are kept.
        peak_disk: additional bytes of checkpoints during training.
    """

    run_id: str
    seed: int
    done: bool
    seconds: float | None
    basis: Basis | Literal["done"]
    disk: int
    peak_disk: int


# --- one training ------------------------------------------------------------------------------


def costs(plan: Plan, gpu: str | None = None) -> list[Cost]:
    """Return the cost of every training of a plan, starting weights first.

    Starting weights that come with the suite are not trained and have no entry.

    Args:
        gpu: name in DEVICES; None: a CPU core or DEFAULT_GPU, whichever the plan trains on.

    Raises:
        ConfigError: `gpu` is not in DEVICES.
    """
    device = device_of(plan, gpu)
    rates = [rate for rate in finished_rates(plan) if is_device(rate.device, device, gpu)]
    shown = shown_tables(plan)
    return [
        _cost(plan, run_id, seed, rates, device, gpu, is_done(plan, run_id, seed, shown))
        for run_id in plan.trainings
        if run_id not in plan.shipped
        for seed in plan.seeds_of(run_id)
    ]


def bytes_to_come(plan: Plan, at_once: int) -> int:
    """Bytes that unfinished runs of the paper's tables still need in the results folder.

    Args:
        at_once: number of simultaneous trainings; the largest checkpoints are assumed for them.
    """
    known = [cost for cost in costs(plan) if not plan.is_beyond(cost.run_id)]
    to_do = [cost for cost in known if not cost.done]
    in_progress = nlargest(at_once, (cost.peak_disk for cost in to_do))
    return sum(cost.disk for cost in to_do) + sum(in_progress)


def device_of(plan: Plan, gpu: str | None) -> str:
    """Return the name of the device that the hours are estimated for."""
    if gpu is None:
        return DEFAULT_GPU if plan.gpus_per_run else "cpu"
    if gpu not in DEVICES:
        raise ConfigError(f"--gpu {gpu}: not known; allowed: {', '.join(DEVICES)}")
    return gpu


def finished_rates(plan: Plan) -> list[Rate]:
    """Return the throughputs of the finished runs in this scale's results folders.

    Runs whose record is of an incompatible older version, and runs on a data set that the scale no
    longer has, are left out.
    """
    folders = sorted({plan.results, plan.shared})
    records = [
        record
        for folder in folders
        for run in RunFolder.all_in(folder)
        if (record := read_record(run.record)) is not None
    ]
    rates = [rate for record in records if (rate := _rate(record)) is not None]
    return [rate for rate in rates if rate.run.spec.dataset in plan.scale.data]


def _rate(record: dict[str, Any]) -> Rate | None:
    images_per_second = record.get("images_per_second")
    if not images_per_second:  # imported, or shorter than the clock resolves
        return None
    try:
        run = ResolvedRun.model_validate(record["resolved"])
    except (KeyError, ValidationError):
        return None
    return Rate(run, images_per_second / record.get("processes", 1), _device(record))


def _device(record: dict[str, Any]) -> str:
    return record.get("hardware", {}).get("gpu") or "cpu"


def is_device(name: str, device: str, asked: str | None) -> bool:
    """Whether a record's device is the given one; if the user named no GPU, any GPU matches."""
    if device == "cpu" or name == "cpu":
        return name == device
    return asked is None or device in name.lower().replace(" ", "")


def throughput(
    plan: Plan, run: ResolvedRun, rates: Sequence[Rate], assumed: float | None
) -> tuple[float, Basis] | None:
    """Return the expected operations per second of a run's training, and the source of the number.

    Args:
        assumed: operations per second if nothing was measured; None: return None in this case.
    """
    same = [rate for rate in rates if _network(rate.run) == _network(run)]
    if same:
        return fmean(_flops_per_second(plan, rate) for rate in same), "measured"
    if rates:
        return median(_flops_per_second(plan, rate) for rate in rates), "scaled"
    return None if assumed is None else (assumed, "estimated")


def training_seconds(plan: Plan, run_id: str, flops_per_second: float) -> float | None:
    """Device seconds of a training and its evaluations; None: images are not counted yet."""
    planned = plan.trainings[run_id]
    run = planned.resolved
    train, val = (images(plan, run_id, split) for split in ("train", "val"))
    if train is None or val is None:
        return None
    classes, photographs = _classes(plan, run), _photographs(plan, run)
    epochs = run.schedule.epochs * run.schedule.repeat_times
    flops = train * epochs * training_flops(run, classes, photographs)
    flops += val * len(planned.decodes) * evaluation_flops(run, classes, photographs)
    return flops / flops_per_second + START_SECONDS * (1 + len(planned.decodes))


def images(plan: Plan, run_id: str, split: Literal["train", "val"]) -> int | None:
    """Number of images of a split, as drawn, indexed or published; None: not counted yet."""
    dataset = plan.trainings[run_id].resolved.spec.dataset
    data = plan.scale.data[dataset]
    if isinstance(data, ShapesData):
        return getattr(data, f"{split}_images")
    manifest = plan.index_folder(dataset).find_manifest()
    if manifest is not None:
        return manifest["splits"][split]["images"]
    return getattr(data, f"max_{split}_images") or getattr(data, f"expected_{split}_images")


def _cost(
    plan: Plan,
    run_id: str,
    seed: int,
    rates: Sequence[Rate],
    device: str,
    asked: str | None,
    done: bool,
) -> Cost:
    planned = plan.trainings[run_id]
    assumed = DEVICES[device].flops_per_second
    sustained, basis = throughput(plan, planned.resolved, rates, assumed)
    seconds = training_seconds(plan, run_id, sustained)
    if done:
        record = read_record(plan.run_folder(run_id, seed).record) or {}
        took = (record.get("seconds") or 0.0) * record.get("processes", 1)
        if not took or is_device(_device(record), device, asked):  # imported ones took no time
            seconds, basis = took, "done"
    weights = FLOAT_BYTES * parameters(planned.resolved, _classes(plan, planned.resolved))
    found = DETECTIONS_PER_IMAGE * DETECTION_BYTES * (images(plan, run_id, "val") or 0)
    return Cost(
        run_id=run_id,
        seed=seed,
        done=done,
        seconds=seconds,
        basis=basis,
        disk=weights + found * len(planned.decodes),
        # Weights and the optimiser's momentum.
        peak_disk=CHECKPOINTS_AT_ONCE * 2 * weights,
    )


def is_done(plan: Plan, run_id: str, seed: int, tables: Iterable[str]) -> bool:
    """Whether a run is trained, and evaluated with every decoding that the tables need.

    Args:
        tables: usually `shown_tables`. The paper's runs have further decodings that only tables
            beyond the paper need, and `all` does not make these.
    """
    folder = plan.run_folder(run_id, seed)
    return run_status(folder) == "trained" and not not_evaluated(plan, run_id, folder, tables)


def not_evaluated(
    plan: Plan, run_id: str, folder: RunFolder, tables: Iterable[str]
) -> tuple[str, ...]:
    """Return the decodings that the tables need and for which a run's folder has no metrics."""
    decodes = plan.decodes_of(run_id, tables)
    return tuple(decode for decode in decodes if not folder.metrics(decode).exists())


def _network(run: ResolvedRun) -> tuple[Any, ...]:
    """Return the settings that decide the time of a training step, except the box loss."""
    return (run.spec.dataset, run.spec.detector, run.network, run.sizes, run.schedule.batch_size)


def _flops_per_second(plan: Plan, rate: Rate) -> float:
    classes, photographs = _classes(plan, rate.run), _photographs(plan, rate.run)
    return rate.images_per_second * training_flops(rate.run, classes, photographs)


def _classes(plan: Plan, run: ResolvedRun) -> int:
    data = plan.scale.data[run.spec.dataset]
    if isinstance(data, ShapesData):
        return data.num_classes
    return len(data.classes) if isinstance(data, VocData) else COCO_CLASSES


def _photographs(plan: Plan, run: ResolvedRun) -> bool:
    return isinstance(plan.scale.data[run.spec.dataset], VocData | CocoData)

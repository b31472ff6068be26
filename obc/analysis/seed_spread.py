"""Variance of a contrast between trainings with different seeds.

Shape shorthand: B resamples, S seeds. A *sampled* number is (1 + B,): as measured, then resampled.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np

from obc.config.plan import Plan

Cell = tuple[str, str]  # run id and decode
Sampled = dict[str, np.ndarray]  # by metric: (1 + B,) in percent
Samples = dict[Cell, dict[int, Sampled]]  # by seed
Spread = Literal["own", "data set", "none"]


# With as many seeds in each of its runs a contrast uses their own spread: runs differ in it (L2 has
# ten times the standard deviation of smooth L1 at scale mini), and a pool would hide that.
ENOUGH_SEEDS = 3


def training_variance(
    plan: Plan, cells: dict[Cell, float], metrics: dict[str, float], samples: Samples
) -> tuple[float, float]:
    """Variance of a contrast from training to training, and its degrees of freedom.

    Of the contrast's own runs where each has enough seeds, by Satterthwaite's degrees; otherwise
    pooled over the data set. (0, 0) when no run of the data set has several seeds.
    """
    own: dict[str, dict[Cell, float]] = {}
    for cell, weight in cells.items():
        own.setdefault(cell[0], {})[cell] = weight
    measured = [_by_seed(part, metrics, samples) for part in own.values()]
    if any(len(values) < ENOUGH_SEEDS for values in measured):
        return _pooled_variance(plan, own, metrics, samples)
    sizes = np.array([len(values) for values in measured])
    variances = np.array([values.var(ddof=1) for values in measured]) / sizes
    total = float(variances.sum())
    if total == 0:
        return 0.0, float((sizes - 1).sum())
    return total, total**2 / float((variances**2 / (sizes - 1)).sum())


def spread_of(plan: Plan, cells: Iterable[Cell], degrees: float) -> Spread:
    """Whose spread `training_variance` gave for cells: of their own runs, the data set's, none."""
    if all(len(plan.seeds_of(run_id)) > 1 for run_id, _ in cells):
        return "own"
    return "data set" if degrees else "none"


def _pooled_variance(
    plan: Plan, own: dict[str, dict[Cell, float]], metrics: dict[str, float], samples: Samples
) -> tuple[float, float]:
    """The same by the runs of the data set with several seeds, taken to spread alike.

    For a contrast between decodings of one training, where what the trainings have in common
    cancels, these are the same contrast of every training with these decodings; otherwise one cell
    of every training, because decodings of a training vary together and two are no more evidence.

    Args:
        own: the contrast's cells with their weights, by run.
    """
    dataset = plan.dataset_of(next(iter(own)))
    runs = sorted({run for run, _ in samples if plan.dataset_of(run) == dataset})
    cells = {cell: weight for part in own.values() for cell, weight in part.items()}
    if len(own) == 1 and len(cells) > 1:
        pool = [{(run, decode): weight for (_, decode), weight in cells.items()} for run in runs]
        scale = 1 / len(plan.seeds_of(next(iter(own))))
    else:
        pool = [{_pooled_cell(plan, run, cells, samples): 1.0} for run in runs]
        # Decodings of a training are taken to vary as one, which is the worst case.
        scale = sum(
            sum(abs(weight) for weight in part.values()) ** 2 / len(plan.seeds_of(run))
            for run, part in own.items()
        )
    spreads = [values for each in pool if len(values := _by_seed(each, metrics, samples)) > 1]
    if not spreads:
        return 0.0, 0.0
    degrees = sum(len(values) - 1 for values in spreads)
    squares = sum(float(((values - values.mean()) ** 2).sum()) for values in spreads)
    return squares / degrees * scale, float(degrees)


def _pooled_cell(plan: Plan, run_id: str, cells: dict[Cell, float], samples: Samples) -> Cell:
    """The cell that stands for a training: of the contrast, with a decoding of it, the default.

    The first of these with several seeds; the first of all where none has them.
    """
    ranked = sorted(
        ((run_id, decode) for decode in plan.runs[run_id].resolved.spec.decodes),
        key=lambda cell: (cell not in cells, cell[1] not in {decode for _, decode in cells}),
    )
    return next((cell for cell in ranked if len(samples.get(cell, {})) > 1), ranked[0])


def _by_seed(cells: dict[Cell, float], metrics: dict[str, float], samples: Samples) -> np.ndarray:
    """(S,): the weighted sum as measured, of the seeds that all of the cells have."""
    seeds = set.intersection(*(set(samples.get(cell, {})) for cell in cells))
    return np.array([weighted_sum(cells, metrics, samples, seed)[0] for seed in sorted(seeds)])


def weighted_sum(
    cells: dict[Cell, float], metrics: dict[str, float], samples: Samples, seed: int
) -> np.ndarray:
    """(1 + B,): a weighted sum over cells and metrics, of one seed."""
    return sum(
        weight * factor * samples[cell][seed][metric]
        for cell, weight in cells.items()
        for metric, factor in metrics.items()
    )

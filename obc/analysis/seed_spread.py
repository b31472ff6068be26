"""Variance of a contrast between trainings with different seeds.

Shape shorthand: B resamples, S seeds. A *sampled* number is (1 + B,): as measured, then resampled.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
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


@dataclass(frozen=True)
class TrainingSpread:
    """How much a contrast varies from training to training.

    Attributes:
        one_seed: by run id, the variance of the run's part of the contrast if it had one seed; the
            parts are independent. Empty when nothing is known of the spread.
        signs: by run id, 1 or -1: which way the contrast moves with the run.
        seeds: by run id, how many seeds the contrast is a mean over.
        degrees: degrees of freedom behind `variance`; 0 when nothing is known.
    """

    one_seed: dict[str, float]
    signs: dict[str, float]
    seeds: dict[str, int]
    degrees: float

    @property
    def variance(self) -> float:
        """Of the contrast as measured, i.e. of the mean over the seeds of each run."""
        return sum(variance / self.seeds[run] for run, variance in self.one_seed.items())


def training_spread(
    plan: Plan, cells: dict[Cell, float], metrics: dict[str, float], samples: Samples
) -> TrainingSpread:
    """The spread of a contrast from training to training.

    Of the contrast's own runs where each has enough seeds, by Welch's degrees of freedom;
    otherwise pooled over the data set. Unknown when no run of the data set has several seeds.
    """
    own: dict[str, dict[Cell, float]] = {}
    for cell, weight in cells.items():
        own.setdefault(cell[0], {})[cell] = weight
    measured = {run: _by_seed(part, metrics, samples) for run, part in own.items()}
    if any(len(values) < ENOUGH_SEEDS for values in measured.values()):
        return _pooled_spread(plan, own, metrics, samples)
    sizes = {run: len(values) for run, values in measured.items()}
    one_seed = {run: float(values.var(ddof=1)) for run, values in measured.items()}
    return TrainingSpread(one_seed, _signs(own), sizes, _welch_degrees(one_seed, sizes))


def _welch_degrees(one_seed: dict[str, float], sizes: dict[str, int]) -> float:
    """Welch-Satterthwaite degrees of freedom of a sum of means over seeds."""
    parts = np.array([variance / sizes[run] for run, variance in one_seed.items()])
    degrees = np.array([sizes[run] - 1 for run in one_seed])
    if not parts.any():
        return float(degrees.sum())
    return float(parts.sum() ** 2 / (parts**2 / degrees).sum())


def spread_of(plan: Plan, cells: Iterable[Cell], degrees: float) -> Spread:
    """Whose spread `training_spread` gave for cells: of their own runs, the data set's, none."""
    if all(len(plan.seeds_of(run_id)) > 1 for run_id, _ in cells):
        return "own"
    return "data set" if degrees else "none"


def _pooled_spread(
    plan: Plan, own: dict[str, dict[Cell, float]], metrics: dict[str, float], samples: Samples
) -> TrainingSpread:
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
        scales = dict.fromkeys(own, 1.0)
    else:
        pool = [{_pooled_cell(plan, run, cells, samples): 1.0} for run in runs]
        # Decodings of a training are taken to vary as one, which is the worst case.
        scales = {
            run: sum(abs(weight) for weight in part.values()) ** 2 for run, part in own.items()
        }
    spreads = [values for each in pool if len(values := _by_seed(each, metrics, samples)) > 1]
    if not spreads:
        return TrainingSpread({}, {}, {}, 0.0)
    degrees = sum(len(values) - 1 for values in spreads)
    squares = sum(float(((values - values.mean()) ** 2).sum()) for values in spreads)
    return TrainingSpread(
        {run: squares / degrees * scale for run, scale in scales.items()},
        _signs(own),
        {run: len(plan.seeds_of(run)) for run in own},
        float(degrees),
    )


def _signs(own: dict[str, dict[Cell, float]]) -> dict[str, float]:
    return {run: 1.0 if sum(part.values()) >= 0 else -1.0 for run, part in own.items()}


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

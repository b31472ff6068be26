"""Variance of a contrast between trainings with different seeds.

Shape shorthand: B resamples, S seeds. A *sampled* number has shape (1 + B,): the measured value,
then its value on each resample.
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
# A contrast whose runs all have this many seeds uses the spread of these runs: runs may differ in
# spread, which pooling hides.
ENOUGH_SEEDS = 3


@dataclass(frozen=True)
class TrainingSpread:
    """The variation of a contrast between trainings.

    Attributes:
        one_seed: by run id, the variance of the run's part of the contrast for one seed; the parts
            are independent. Empty if the spread is unknown.
        signs: by run id, 1 or -1: the sign of the run's weight in the contrast.
        seeds: by run id, the number of seeds that the contrast averages.
        degrees: degrees of freedom of `variance`; 0 if the spread is unknown.
    """

    one_seed: dict[str, float]
    signs: dict[str, float]
    seeds: dict[str, int]
    degrees: float

    @property
    def variance(self) -> float:
        """Variance of the measured contrast, i.e. of the mean over the seeds of each run."""
        return sum(variance / self.seeds[run] for run, variance in self.one_seed.items())


def training_spread(
    plan: Plan, cells: dict[Cell, float], metrics: dict[str, float], samples: Samples
) -> TrainingSpread:
    """Estimate the spread of a contrast between trainings.

    If each run of the contrast has ENOUGH_SEEDS seeds, the estimate uses these runs, with Welch's
    degrees of freedom. Otherwise it is pooled over the runs of the data set. It is unknown if no
    run of the data set has several seeds.
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
    """Name the source of the spread of cells, see `obc.analysis.verdicts.JudgedContrast`."""
    if all(len(plan.seeds_of(run_id)) >= ENOUGH_SEEDS for run_id, _ in cells):
        return "own"
    return "data set" if degrees else "none"


def _pooled_spread(
    plan: Plan, own: dict[str, dict[Cell, float]], metrics: dict[str, float], samples: Samples
) -> TrainingSpread:
    """Estimate the spread from the data set's runs with several seeds, assuming equal spreads.

    For a contrast between decodings of one run, the pool is the same contrast of every run with
    these decodings, because the variation that the decodings share cancels. For any other contrast
    the pool is one cell of every run: the decodings of a training vary together, so a second cell
    adds no evidence.

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
        # The decodings of a training are assumed to be fully correlated, which is the worst case.
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
    """Choose the cell that represents a run in the pool.

    Cells of the contrast come first, then cells with a decoding of the contrast, then the run's
    other decodings, default first. The choice is the first cell with several seeds, or the first of
    all if no cell has several seeds.
    """
    ranked = sorted(
        ((run_id, decode) for decode in plan.runs[run_id].resolved.spec.decodes),
        key=lambda cell: (cell not in cells, cell[1] not in {decode for _, decode in cells}),
    )
    return next((cell for cell in ranked if len(samples.get(cell, {})) > 1), ranked[0])


def _by_seed(cells: dict[Cell, float], metrics: dict[str, float], samples: Samples) -> np.ndarray:
    """(S,): the measured weighted sum of each seed that all cells have."""
    seeds = set.intersection(*(set(samples.get(cell, {})) for cell in cells))
    return np.array([weighted_sum(cells, metrics, samples, seed)[0] for seed in sorted(seeds)])


def weighted_sum(
    cells: dict[Cell, float], metrics: dict[str, float], samples: Samples, seed: int
) -> np.ndarray:
    """(1 + B,): the weighted sum over cells and metrics, for one seed."""
    return sum(
        weight * factor * samples[cell][seed][metric]
        for cell, weight in cells.items()
        for metric, factor in metrics.items()
    )

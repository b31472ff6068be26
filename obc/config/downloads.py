"""The published data and weights that the runs of a plan need."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from obc.config.run import ResolvedRun
from obc.datasets.published.catalogue import Published, of_data
from obc.datasets.settings import CocoData, DatasetName, ShapesData, VocData


def of_run(run: ResolvedRun, datasets: dict[str, Published]) -> Published | None:
    """The published weights that a run's network starts from; None where none are fetched."""
    checkpoint = run.network.checkpoint(run.spec.detector)
    found = (one for one in datasets.values() if one.checkpoint == checkpoint)
    return next(found, None) if checkpoint else None


def needed(
    runs: Iterable[ResolvedRun],
    data: dict[DatasetName, ShapesData | VocData | CocoData],
    datasets: dict[str, Published],
) -> list[Published]:
    """The entries of `datasets` (data and weights) that runs need, in the file's order."""
    wanted = set()
    for run in runs:
        wanted |= {one.name for one in of_data(data[run.spec.dataset], datasets)}
        weights = of_run(run, datasets)
        wanted |= {weights.name} if weights else set()
    return [one for one in datasets.values() if one.name in wanted]


def with_fetched_weights(run: ResolvedRun, datasets: dict[str, Published]) -> ResolvedRun:
    """Set `pretrained` of a run's network to the fetched and checked file, where it exists.

    The result is for building a config only, because the file's path changes the run id.
    """
    weights = of_run(run, datasets)
    if weights is None or weights.missing(Path()) or not weights.stamp.exists():
        return run
    network = run.network.model_copy(update={"pretrained": str(weights.target)})
    return run.model_copy(update={"network": network})

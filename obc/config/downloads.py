"""Which published data and weights the runs of a plan need."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from obc.config.run import ResolvedRun
from obc.datasets.published.catalogue import Published, of_data
from obc.datasets.settings import CocoData, DatasetName, ShapesData, VocData


def of_run(run: ResolvedRun, datasets: dict[str, Published]) -> Published | None:
    """The weights that a run's network starts from; None: none are fetched for it."""
    checkpoint = run.network.checkpoint(run.spec.detector)
    found = (one for one in datasets.values() if one.checkpoint == checkpoint)
    return next(found, None) if checkpoint else None


def needed(
    runs: Iterable[ResolvedRun],
    data: dict[DatasetName, ShapesData | VocData | CocoData],
    datasets: dict[str, Published],
) -> list[Published]:
    """What of `datasets` runs on `data` need, data and weights, in the file's order."""
    wanted = set()
    for run in runs:
        wanted |= {one.name for one in of_data(data[run.spec.dataset], datasets)}
        weights = of_run(run, datasets)
        wanted |= {weights.name} if weights else set()
    return [one for one in datasets.values() if one.name in wanted]


def with_fetched_weights(run: ResolvedRun, datasets: dict[str, Published]) -> ResolvedRun:
    """The run with its network's `pretrained` as the fetched and checked file, where there is one.

    For building a config only: by the file's name it would have another run id.
    """
    weights = of_run(run, datasets)
    if weights is None or weights.missing(Path()) or not weights.stamp.exists():
        return run
    network = run.network.model_copy(update={"pretrained": str(weights.target)})
    return run.model_copy(update={"network": network})

"""Trackers of a training (`--config tracking=..`): TensorBoard, Weights & Biases, MLflow.

They are MMEngine's visualisation backends. A tracker does not affect the trained weights.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from obc.config.plan import Run
from obc.config.user_choices import Tracking
from obc.io.errors import SuiteError

PROJECT = "obc"
INSTALL = {
    "tensorboard": "pip install '.[tracking]'",
    "wandb": "pip install wandb",
    "mlflow": "pip install mlflow",
}


class MissingTracker(SuiteError):
    """The package of the chosen tracker is not installed."""


def visualizer(tracking: Tracking | None, run: Run) -> dict[str, Any] | None:
    """Options of MMEngine's visualizer of a training; None: nothing is tracked.

    Args:
        tracking: the chosen tracker.
        run: gives the tracked training its name; local files go to its folder.

    Raises:
        MissingTracker: the tracker's package is not installed.
    """
    if tracking is None:
        return None
    if find_spec(tracking) is None:
        raise MissingTracker(
            f"tracking: {tracking} is not installed; {INSTALL[tracking]}, or leave tracking out"
        )
    name = f"{run.run_id}-seed{run.seed}"
    backend: dict[str, Any] = {
        "tensorboard": dict(type="TensorboardVisBackend"),
        # A fixed id, so that a resumed training continues the same run at Weights & Biases.
        "wandb": dict(
            type="WandbVisBackend",
            init_kwargs=dict(project=PROJECT, name=name, id=name, resume="allow"),
        ),
        "mlflow": dict(type="MLflowVisBackend", exp_name=PROJECT, run_name=name),
    }[tracking]
    return dict(name=name, save_dir=str(run.folder.tracking), vis_backends=[backend])

"""The figure `calibration`: entropy of the bin distributions against the actual error.

Shape shorthand: R RoIs, K stages.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from scipy.stats import spearmanr
from torch.special import entr

from obc.evaluation.head_view import COORDINATES, HeadView

PARTS = 10
COLUMNS = (
    "stage", "decile", "count", "entropy_low", "entropy_high", "entropy", "error", "error_in_bins",
    "in_range", "spearman", "uniform_entropy",
)  # fmt: skip


def points(views: Sequence[HeadView]) -> pd.DataFrame:
    """Compute entropy and error, a line for each RoI, coordinate and stage.

    Args:
        views: RoIs that overlap an object.

    Returns:
        Columns `coordinate`; `stage`, from 1; `entropy` of the stage's bin probabilities, in nats;
        `error`, the absolute difference between the true offset and the sum of the expectations up
        to this stage, in normalised offsets; `error_in_bins`, the same in bin widths of this stage;
        and `in_range`, whether the offset that the earlier stages' expectations leave lies within
        this stage's range, so that the stage can predict it.
    """
    frames = [_points(view) for view in views if len(view)]
    columns = ["coordinate", "stage", "entropy", "error", "error_in_bins", "in_range"]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)


def _points(view: HeadView) -> pd.DataFrame:
    entropy = entr(view.probabilities).sum(-1)
    after = view.expectation.offsets.cumsum(-1)
    error = (after - view.offsets[..., None]).abs()
    left = (after - view.expectation.offsets - view.offsets[..., None]).abs()
    rois, _, stages = error.shape
    return pd.DataFrame(
        {
            "coordinate": np.tile(np.repeat(COORDINATES, stages), rois),
            "stage": np.tile(np.arange(1, stages + 1), rois * 4),
            "entropy": entropy.flatten().numpy(),
            "error": error.flatten().numpy(),
            "error_in_bins": (error / view.coder.bins.widths).flatten().numpy(),
            "in_range": (left < view.coder.bins.ranges).flatten().numpy(),
        }
    )


def deciles(of_points: pd.DataFrame, num_inner: int) -> pd.DataFrame:
    """Compute the mean error in ten equal parts of each stage's points, ordered by entropy.

    Args:
        of_points: frame of `points`.
        num_inner: m, inner bins of a stage.

    Returns:
        Columns COLUMNS: `decile` from 1, smallest entropy first; `count` of points in it; least,
        largest and mean entropy; mean of both errors; `in_range`, in percent; `spearman`, the
        rank correlation of entropy and error over all points of the stage (NaN if either is
        constant); and `uniform_entropy`, ln m, the entropy of equal probabilities of all inner
        bins.
    """
    parts = []
    for stage, lines in of_points.groupby("stage"):
        part = np.ceil(lines["entropy"].rank(method="first") * PARTS / len(lines)).astype(int)
        of_stage = lines.groupby(part).agg(
            count=("entropy", "size"),
            entropy_low=("entropy", "min"),
            entropy_high=("entropy", "max"),
            entropy=("entropy", "mean"),
            error=("error", "mean"),
            error_in_bins=("error_in_bins", "mean"),
            in_range=("in_range", "mean"),
        )
        of_stage["in_range"] *= 100
        of_stage = of_stage.rename_axis("decile").reset_index()
        correlation = rank_correlation(lines["entropy"], lines["error"])
        parts.append(of_stage.assign(stage=stage, spearman=correlation))
    frame = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=COLUMNS)
    return frame.assign(uniform_entropy=np.log(num_inner))[list(COLUMNS)]


def rank_correlation(entropy: pd.Series, error: pd.Series) -> float:
    """Compute Spearman's rho; NaN if either series is constant."""
    if entropy.nunique() < 2 or error.nunique() < 2:
        return float("nan")
    return float(spearmanr(entropy, error).statistic)


def draw_calibration(axes: Axes, frame: pd.DataFrame, looks: dict[str, dict[str, object]]) -> None:
    """Draw a line for each run and stage: mean error of a decile against its mean entropy.

    A vertical line marks the entropy of a head that knows only that the offset is in the range.

    Args:
        frame: frames of `deciles` with a column `label` that tells the runs apart.
        looks: for each label the look of `method_look`; later stages are drawn dashed, with hollow
            markers.
    """
    for (label, stage), line in frame.groupby(["label", "stage"], sort=False):
        correlation = f"{line['spearman'].iloc[0]:.2f}".replace("-", "−")
        name = f"{label}, stage {stage}: rank correlation {correlation}"
        look = dict(looks[label])
        if stage > 1:
            look |= {"linestyle": ("--", "-.", ":")[(stage - 2) % 3], "markerfacecolor": "white"}
        axes.plot(line["entropy"], line["error"], label=name, **look)
    for uniform in frame["uniform_entropy"].unique():
        axes.axvline(uniform, color="0.45", linestyle=":", label="uniform (no information)")
    axes.set_xlabel("mean entropy of the bin probabilities in a decile (nats)")
    axes.set_ylabel("mean |expectation − truth| (normalised offset)")
    axes.set_ylim(bottom=0)

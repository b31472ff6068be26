"""The figure `losses`: each box loss and its gradient against the offset error.

The losses come from `obc.analysis.analytic_claims`; the figure needs no run and no data.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from mmdet.models.losses import MSELoss

from obc.analysis.analytic_claims import (
    BETAS,
    BINS,
    ERRORS,
    bin_classification,
    regression,
    smooth_l1,
)
from obc.report.figures import style

L2 = "L2"
BINS_OFFSET = "Bins"
BINS_SCORE = "Bins, largest to a score"
FIGURE = "losses"
LOOKS: dict[str, dict[str, Any]] = {
    L2: {"color": style.SQUARED, "linestyle": "-", "marker": "v"},
    "Smooth L1, β = 1": {"color": style.REGRESSION, "linestyle": "-", "marker": "o"},
    "Smooth L1, β = 1.5": {"color": style.REGRESSION, "linestyle": "--", "marker": "s"},
    "Smooth L1, β = 2": {"color": style.REGRESSION, "linestyle": ":", "marker": "P"},
    BINS_OFFSET: {"color": style.BINS, "linestyle": "-", "marker": "^"},
    BINS_SCORE: {"color": style.BINS, "linestyle": "-.", "marker": "*"},
}
HEADING = "Losses of one offset, and their gradients"
CAPTION = (
    "By autograd from the losses that the trainings use; depends on no training and no data. "
    "Bins: cross entropy over {m} inner bins of (−{a:g}, {a:g}); the scores are those of a "
    "Gaussian, one bin ({w:g}) wide, around the predicted offset, and the truth is a bin's centre. "
    "Gradients: to the predicted offset, and for bins also the largest to one of the scores that "
    "the network puts out (equation 8). Arrows: lines that leave the frame, with their value at an "
    "error of {error:g}."
)


def curves() -> pd.DataFrame:
    """Compute every loss and its gradient for offset errors from 0 to 2.5.

    Returns:
        Columns `name` (a key of LOOKS), `error`, `loss` and `gradient`. The bin loss occurs twice:
        with its gradient to the predicted offset, and with the largest absolute gradient to a
        score (logit); see `obc.analysis.analytic_claims.bin_classification`.
    """
    loss, to_offset, to_scores = bin_classification(ERRORS)
    lines = {
        L2: regression(MSELoss(reduction="none"), ERRORS),
        **{f"Smooth L1, β = {beta:g}": smooth_l1(beta, ERRORS) for beta in BETAS},
        BINS_OFFSET: (loss, to_offset),
        BINS_SCORE: (loss, to_scores.abs().amax(-1)),
    }
    frames = [
        pd.DataFrame({"name": name, "error": ERRORS, "loss": loss, "gradient": gradient})
        for name, (loss, gradient) in lines.items()
    ]
    return pd.concat(frames, ignore_index=True)


def draw(folder: Path) -> None:
    """Draw `losses` (svg, png, pdf) into `folder`: losses left, gradients right."""
    frame = curves()
    with style.figure(folder, FIGURE, HEADING, _caption(frame)) as drawing:
        losses, gradients = drawing.subplots(1, 2)
        _draw_lines(losses, frame[frame["name"] != BINS_SCORE], "loss")
        _draw_lines(gradients, frame, "gradient")
        style.legend_above(drawing, gradients)


def _caption(frame: pd.DataFrame) -> str:
    last = frame[frame["name"] == BINS_OFFSET].iloc[-1]
    return CAPTION.format(
        m=BINS.num_inner,
        a=BINS.max_offset,
        w=BINS.widths[0].item(),
        error=last["error"],
    )


def _draw_lines(axes: Axes, frame: pd.DataFrame, quantity: str) -> None:
    for number, (name, line) in enumerate(frame.groupby("name", sort=False)):
        marks = style.mark_every(number, len(line))
        axes.plot(line["error"], line[quantity], label=name, markevery=marks, **LOOKS[name])
    axes.set_xlabel("offset error (normalised)")
    axes.set_ylabel(quantity)
    # L2 sets the height, so that regression losses fill the frame; lines of bins leave it.
    top = 1.05 * frame.loc[frame["name"] == L2, quantity].max()
    axes.set_ylim(0, top)
    axes.set_xlim(0, frame["error"].max())
    for name, line in frame.groupby("name", sort=False):
        _point_out(axes, line["error"], line[quantity], top, LOOKS[name]["color"])


def _point_out(axes: Axes, errors: pd.Series, values: pd.Series, top: float, color: str) -> None:
    """Draw an arrow where a line leaves the frame, with the last value of the line."""
    if values.max() <= top:
        return
    leaves = errors[values > top].iloc[0]
    axes.annotate(
        f"to {values.iloc[-1]:.0f}", (leaves, top), (6, 3), textcoords="offset points",
        fontsize=style.SMALL, color=color, annotation_clip=False,
    )  # fmt: skip
    arrow = {"arrowstyle": "<|-", "color": color, "linewidth": 1.5, "shrinkA": 0, "shrinkB": 0}
    axes.annotate(
        "", (leaves, top), (0, 13), textcoords="offset points", arrowprops=arrow,
        annotation_clip=False,
    )  # fmt: skip

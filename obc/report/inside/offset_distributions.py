"""The figure `offset_distributions`: bin probabilities beside the true offset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from obc.bins import OffsetBins
from obc.evaluation.head_view import COORDINATES, HeadView
from obc.report.figures import style
from obc.report.inside.selection import iou_gain


def distributions(views: Sequence[HeadView]) -> pd.DataFrame:
    """Return every bar and mark of the figure `offset_distributions`.

    Args:
        views: views of one RoI each.

    Returns:
        One line for each RoI, stage, coordinate and bin: columns `roi` and `stage` (from 1),
        `image_id`, `coordinate`, `bin` (its label), `low` and `high` (its edges, infinite for the
        overflow bins), `probability`; and, the same for all bins of a panel, `truth` (the true
        offset minus the expectations of the earlier stages), `argmax` and `expectation` (the
        offsets that this stage predicts by each decoding).
    """
    frames = [
        _distributions_of(view, number).assign(image_id=view.image_id)
        for number, view in enumerate(views, start=1)
    ]
    return pd.concat(frames, ignore_index=True)


def _distributions_of(view: HeadView, number: int) -> pd.DataFrame:
    bins = view.coder.bins
    earlier = view.expectation.offsets.cumsum(-1) - view.expectation.offsets
    left = view.offsets[..., None] - earlier
    frames = []
    for stage in range(bins.num_stages):
        low, high = _edges(bins, stage)
        for index, coordinate in enumerate(COORDINATES):
            at = (0, index, stage)
            frames.append(
                pd.DataFrame(
                    {
                        "roi": number,
                        "stage": stage + 1,
                        "coordinate": coordinate,
                        "bin": range(bins.num_logits),
                        "low": low,
                        "high": high,
                        "probability": view.probabilities[at].numpy(),
                        "truth": left[at].item(),
                        "argmax": view.argmax.offsets[at].item(),
                        "expectation": view.expectation.offsets[at].item(),
                    }
                )
            )
    return pd.concat(frames)


def _edges(bins: OffsetBins, stage: int) -> tuple[list[float], list[float]]:
    """Return the lower edges and the upper edges of a stage's bins, n each."""
    a, half = bins.ranges[stage].item(), bins.widths[stage].item() / 2
    inner = bins.centers[stage, : bins.num_inner].tolist()
    low = [*(center - half for center in inner), -float("inf"), a]
    high = [*(center + half for center in inner), -a, float("inf")]
    return low, high


NAME = "offset_distributions"
HEADING = "What the head predicts for an offset"
# Colour and dashes of the vertical lines in each panel.
MARKS = {
    "truth": (style.TRUTH, "-"),
    "expectation": (style.EXPECTATION, "--"),
    "argmax": (style.ARGMAX, ":"),
}
HEADROOM = 1.3  # axis limit / largest bar: leaves room for an arrow above the bars


def draw_distributions(
    views: Sequence[HeadView], names: Sequence[str], text: str, badge: str, folder: Path
) -> None:
    """Draw `offset_distributions` (svg, png, pdf, csv) of views of one RoI each.

    Args:
        names: reason why each RoI is shown.
        text: the caption: how the RoIs were chosen, and scale, data and run.
        badge: as in `style.write_badge`.
    """
    with style.figure_style(NAME):
        style.save(distributions_figure(views, names, badge), folder, NAME, HEADING, text)
    style.save_data(distributions(views), folder, NAME)


@style.figure_style(NAME)
def distributions_figure(
    views: Sequence[HeadView], names: Sequence[str], badge: str = ""
) -> Figure:
    """Draw the bin probabilities of views of one RoI each: a row for each RoI and stage."""
    bins = views[0].coder.bins
    rows = len(views) * bins.num_stages
    drawing = style.blank((6.4, 0.6 + 1.3 * rows))
    legend, *parts = drawing.subfigures(1 + rows, 1, height_ratios=[0.25, *[1] * rows])
    of_rows = distributions(views).groupby(["roi", "stage"], sort=False)
    for part, ((roi, stage), lines) in zip(parts, of_rows, strict=True):
        name = f"RoI {roi}, {_described(views[roi - 1], names[roi - 1])}" if stage == 1 else ""
        _draw_row(part, lines, bins, stage, name)
    _draw_legend(legend)
    style.write_badge(drawing, badge)
    return drawing


def _draw_legend(part: SubFigure) -> None:
    """Draw one legend for all panels; a panel may lack some of the marks."""
    lines = [
        Line2D([], [], color=color, linestyle=dashes, linewidth=1.8, label=mark)
        for mark, (color, dashes) in MARKS.items()
    ]
    bars = [Patch(label=label, **look) for label, look in BARS.items()]
    part.legend(handles=[*lines, *bars], loc="center", ncols=5, fontsize="small")


BARS = {
    "inner bin": {"facecolor": style.BINS, "alpha": 0.75},
    "beyond the range": {
        "facecolor": style.BINS,
        "alpha": 0.35,
        "hatch": "////",
        "edgecolor": "white",
        "linewidth": 0,
    },
}


def _described(view: HeadView, name: str) -> str:
    label = view.classes[view.object_labels[view.matched[0]]]
    after = view.ious[0] + iou_gain(view)[0]
    return f"{name}: {label} in image {view.image_id}, IoU {view.ious[0]:.2f} → {after:.2f}"


def _draw_row(
    part: SubFigure, lines: pd.DataFrame, bins: OffsetBins, stage: int, name: str
) -> None:
    part.suptitle(name, fontsize=style.SMALL + 1, x=0.01, ha="left")
    a, w = bins.ranges[stage - 1].item(), bins.widths[stage - 1].item()
    panels = part.subplots(1, len(COORDINATES), sharey=True)
    panels[0].set_ylim(0, HEADROOM * lines["probability"].max())
    for axes, (coordinate, bars) in zip(
        panels, lines.groupby("coordinate", sort=False), strict=True
    ):
        # An overflow bin is unbounded; it is drawn as wide as an inner bin.
        low, high = bars["low"].clip(lower=-a - w), bars["high"].clip(upper=a + w)
        overflow = np.isinf(bars["low"]) | np.isinf(bars["high"])
        for of_kind, look in zip((~overflow, overflow), BARS.values(), strict=True):
            axes.bar(
                low[of_kind],
                bars["probability"][of_kind],
                width=(high - low)[of_kind],
                align="edge",
                **look,
            )
        axes.set_xlim(-a - 1.2 * w, a + 1.2 * w)
        for mark, (color, dashes) in MARKS.items():
            at = float(bars[mark].iloc[0])
            if mark == "truth" and abs(at) >= a:
                _point_out(axes, at, 1.2 * w / (2 * a + 2.4 * w))
            else:
                axes.axvline(at, color=color, linestyle=dashes, linewidth=1.8, label=mark)
        axes.set_xticks([-a, 0, a], [f"{value:.3g}".replace("-", "−") for value in (-a, 0, a)])
        axes.tick_params(labelsize=style.SMALL)
        axes.set_xlabel(f"{coordinate}, stage {stage}", fontsize=style.SMALL)
    panels[0].set_ylabel("probability", fontsize=style.SMALL)


def _point_out(axes: Axes, truth: float, inside: float) -> None:
    """Draw an arrow to the border beyond which the true offset lies, with the offset's value.

    Args:
        inside: half the length of the arrow, as a fraction of the panel's width.
    """
    border, start = (1, 1 - 2 * inside) if truth > 0 else (0, 2 * inside)
    axes.annotate(
        f"{truth:.2g}".replace("-", "−"),
        (border, 0.9),
        (start, 0.9),
        xycoords="axes fraction",
        ha="right" if truth > 0 else "left",
        va="center",
        fontsize=style.SMALL,
        color=style.TRUTH,
        annotation_clip=False,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.85},
        arrowprops={
            "arrowstyle": "-|>", "color": style.TRUTH, "linewidth": 1.8, "shrinkA": 1, "shrinkB": 0,
        },
    )  # fmt: skip

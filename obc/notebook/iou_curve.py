"""Figure of AP against the IoU threshold: a table's rows beside the paper's."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from obc.report.figures import style

COLOURS = [colour for name, colour in style.OKABE_ITO.items() if name != "yellow"]  # too pale
MARKERS = "osD^vP"


def iou_curve_figure(points: pd.DataFrame, labels: list[str]) -> Figure:
    """Draw AP against IoU, ours with the standard deviation over seeds, beside the paper's.

    Args:
        points: lines of `ap_against_iou`.
        labels: labels of the table's rows, by row index.
    """
    drawing = Figure(figsize=(9.0, 3.8), dpi=100, layout="constrained")
    ours, paper = drawing.subplots(1, 2, sharey=True)
    for place, (row, line) in enumerate(points.groupby("row")):
        look = {
            "color": COLOURS[place % len(COLOURS)],
            "marker": MARKERS[place % len(MARKERS)],
            "label": labels[int(row)],
        }
        ours.errorbar(line["iou"], line["ours"], yerr=line["sd"], capsize=3, **look)
        paper.plot(line["iou"], line["paper"], **look)
    for axes, title in ((ours, "ours"), (paper, "the paper's")):
        axes.set(xlabel="IoU from which a box counts as found", title=title)
        axes.grid(color="0.9")
    ours.set_ylabel("AP (%)")
    drawing.legend(*ours.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return drawing

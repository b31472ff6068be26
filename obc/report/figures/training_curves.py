"""The figure `training_curves`: loss, box loss and learning rate against the iteration.

The values are read from each run's log, which MMEngine writes during the training.
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from obc.config.box_losses.offset_bin import OffsetBin
from obc.config.plan import Plan
from obc.config.table import Row, TableSpec
from obc.io.errors import SuiteError
from obc.report.captions import badge, stamp, title
from obc.report.figures import style
from obc.report.figures.caption import caption
from obc.runs.records import is_imported
from obc.runs.status import run_status

FIGURE = "training_curves"
QUANTITIES = {
    "loss": "loss / its first value",
    "loss_bbox": "box loss / its first value",
    "lr": "learning rate",
}
CURVE = ["iteration", "lr", "loss", "loss_bbox"]
CAPTION = (
    "A line for each training, as logged: a loss is a mean over the last iterations, divided by "
    "the first that was logged, because losses of different kinds have different units; the CSV "
    "has them undivided. Both decodings of a row of bins share one training."
)
# e.g. `Epoch(train) [4][100/113]  lr: 4.0000e-02  eta: 0:00:44  ...  loss: 2.5633  loss_bbox: 2.09`
_ITERATION = re.compile(r"Epoch\(train\) +\[ *(\d+)\]\[ *(\d+)/(\d+)\] .*")
_VALUE = re.compile(r" (lr|loss|(?:s\d\.)?loss_bbox): ([-+.\deE]+|nan|inf)(?= |$)")


class LogError(SuiteError):
    """The log of a training is missing or has no curve; the message names the log."""


def read_curve(log: Path) -> pd.DataFrame:
    """Read the losses and the learning rate of a training from its log.

    A log contains every attempt. An attempt that resumes from a checkpoint or starts over replaces
    the points that earlier attempts logged from that iteration on.

    Returns:
        Columns `iteration` (from 1, rising), `lr`, `loss` (the sum of all losses) and `loss_bbox`
        (loss of the box heads, summed over the stages of a cascade; NaN without a box loss).

    Raises:
        LogError: the file cannot be read, or it has no training iteration.
    """
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise LogError(f"{log}: cannot be read ({error.strerror}); the training wrote it") from None
    points: list[dict[str, float]] = []
    for found in _ITERATION.finditer(text):
        epoch, within, length = map(int, found.groups())
        iteration = (epoch - 1) * length + within
        while points and points[-1]["iteration"] >= iteration:
            points.pop()
        values = [(name, float(value)) for name, value in _VALUE.findall(found[0])]
        boxes = [value for name, value in values if name.endswith("loss_bbox")]
        points.append(
            {
                "iteration": iteration,
                **{name: value for name, value in values if name in ("lr", "loss")},
                "loss_bbox": sum(boxes) if boxes else float("nan"),
            }
        )
    if not points:
        raise LogError(f"{log}: no line of a training iteration; `obc train --again` trains anew")
    return pd.DataFrame(points)[CURVE]


def curves(plan: Plan, table: TableSpec) -> tuple[pd.DataFrame, list[str]]:
    """Read the curves of every run of a table.

    Returns:
        A frame with columns `label` (label of the first row that shows the run), `run_id`, `seed`
        and the columns of `read_curve`; and a text for each training without a curve, e.g.
        `not run: <id> seed 1`.

    Raises:
        LogError: as in `read_curve`, for a finished training.
    """
    frames, missing = [], []
    for run_id, row in _rows_by_run(plan, table).items():
        for run in plan.seeded(run_id):
            status = "imported" if is_imported(run.folder) else run_status(run.folder)
            if status != "trained":
                missing.append(f"{status}: {run}")
                continue
            curve = read_curve(run.folder.log)
            frames.append(curve.assign(label=_label(row), run_id=run_id, seed=run.seed))
    columns = ["label", "run_id", "seed", *CURVE]
    return (pd.concat(frames) if frames else pd.DataFrame(columns=columns))[columns], missing


def relative(curve: pd.DataFrame) -> pd.DataFrame:
    """Divide both losses of a curve of `read_curve` by their first values."""
    losses = curve[["loss", "loss_bbox"]]
    return curve.assign(**(losses / losses.bfill().iloc[0]))


def draw(plan: Plan, table: TableSpec, folder: Path) -> None:
    """Draw `training_curves` (svg, png, pdf) into `folder`, and write the points as CSV.

    Trainings that are unfinished or imported are not drawn; the caption lists them.

    Raises:
        LogError: as in `curves`.
    """
    frame, missing = curves(plan, table)
    rows = _rows_by_run(plan, table)
    heading = f"Training curves of {title(table)}"
    text = caption(CAPTION, stamp(plan, table), missing="; ".join(missing))
    size, mark = (style.SIZE_INCHES[0], 6.2), badge(plan, table)
    with style.figure(folder, FIGURE, heading, text, badge=mark, data=frame, size=size) as drawing:
        panels = drawing.subplots(3, 1, sharex=True, height_ratios=[4, 4, 2])
        for axes, (quantity, name) in zip(panels, QUANTITIES.items(), strict=True):
            axes.set_ylabel(name, fontsize=9)
            axes.tick_params(labelsize=8)
            if quantity == "lr":
                _draw_schedules(axes, frame, rows)
            else:
                _draw_losses(axes, frame, rows, quantity)
        panels[-1].set_xlabel("iteration", fontsize=9)
        drawing.align_ylabels(panels)
        style.legend_above(drawing, panels[0])


def _rows_by_run(plan: Plan, table: TableSpec) -> dict[str, Row]:
    """Return the first row that shows each run, by run id."""
    rows: dict[str, Row] = {}
    for row in table.rows:
        if not row.cited:
            rows.setdefault(plan.run_of(row).run_id, row)
    return rows


def _label(row: Row) -> str:
    box = row.run.box
    return f"{row.label}, K = {box.num_stages}" if isinstance(box, OffsetBin) else row.label


def _draw_losses(axes: Axes, frame: pd.DataFrame, rows: dict[str, Row], quantity: str) -> None:
    labelled = set()
    for number, ((run_id, _), line) in enumerate(frame.groupby(["run_id", "seed"], sort=False)):
        label = None if run_id in labelled else line["label"].iloc[0]
        labelled.add(run_id)
        marks = style.mark_every(number, len(line))
        look = style.method_look(rows[run_id].run.box)
        axes.plot(
            line["iteration"], relative(line)[quantity], label=label, linewidth=1, markersize=4,
            markevery=marks, **look,
        )  # fmt: skip
    axes.set_ylim(bottom=0)


def _draw_schedules(axes: Axes, frame: pd.DataFrame, rows: dict[str, Row]) -> None:
    """Draw each distinct learning rate schedule once, in black if all trainings share it.

    The line has steps, because the rate changes at once, not gradually between lines of the log.
    """
    lines = [line for _, line in frame.groupby(["run_id", "seed"], sort=False)]
    axes.set_yscale("log")
    if lines:
        # Ticks at the rates themselves: there may be no power of ten in the range, or only one.
        rates = sorted({frame["lr"].min(), frame["lr"].iloc[-1], frame["lr"].max()})
        axes.set_yticks(rates, [f"{rate:g}" for rate in rates])
    axes.yaxis.set_minor_locator(NullLocator())
    schedules = {tuple(zip(line["iteration"], line["lr"], strict=True)): line for line in lines}
    for line in schedules.values():
        look = style.method_look(rows[line["run_id"].iloc[0]].run.box)
        if len(schedules) == 1:
            look = {"color": style.TRUTH, "marker": "." if len(line) < 5 else ""}
        marks = style.mark_every(0, len(line))
        axes.plot(
            line["iteration"], line["lr"], linewidth=1, drawstyle="steps-post", markersize=4,
            markevery=marks, **look,
        )  # fmt: skip

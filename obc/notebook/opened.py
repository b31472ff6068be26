"""`open_results`: a notebook's access to a results folder.

The folder was either made here, with a plan, weights and detections, or is committed in
results/reference and stores a part of them.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pandas as pd

from obc.config.plan import Plan
from obc.config.reference import ReferenceFolder, read_card
from obc.config.run import method_of, slug_of
from obc.notebook.coloured_tables import KEY, ColouredTable, ColouredVerdicts
from obc.notebook.read_results import (
    ReadTable,
    ap_against_iou,
    figures,
    find_results,
    project_folder,
    read_long,
    read_plan,
    read_table,
    read_verdicts,
    table_paths,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from obc.evaluation.head_view import HeadView
    from obc.notebook.comparison import Comparison
    from obc.notebook.looked_into import LookedInto
    from obc.notebook.two_evaluations import Evaluation, TestSet


class Evaluations(Protocol):
    """The evaluations of a results folder."""

    @property
    def table(self) -> pd.DataFrame:
        """One line each; columns `method`, `decode`, `seed`, `AP` (percent) and others."""

    @property
    def pair(self) -> tuple[int, int]:
        """Lines of the regression baseline and of the full method, or the first two lines."""

    def read(self, line: int) -> Evaluation:
        """Read the evaluation of a line."""

    def test_set(self, *lines: int) -> TestSet:
        """Return the test images that the evaluations of some lines share."""


@dataclass(frozen=True)
class OpenedResults:
    """A results folder; a notebook shows it as a sentence that describes the results."""

    folder: Path

    @cached_property
    def committed(self) -> ReferenceFolder | None:
        """The folder if it holds committed results, otherwise None."""
        folder = ReferenceFolder(self.folder)
        return folder if folder.card.exists() else None

    @cached_property
    def plan(self) -> Plan:
        """The plan of the folder; raises ResultsMissing for committed results."""
        return read_plan(self.folder)

    @property
    def table_names(self) -> list[str]:
        """Names of the tables, then of the figures, that have a CSV of numbers."""
        return [*table_paths(self.folder)]

    def table(self, name: str) -> ReadTable:
        """Read a table with the paper's numbers; KeyError if `table_names` lacks the name."""
        return read_table(table_paths(self.folder)[name])

    def show_tables(self, *names: str) -> None:
        """Show tables with their captions, coloured by the difference to the paper.

        Args:
            names: names of tables; without names all are shown.
        """
        from IPython.display import Markdown, display

        display(Markdown(KEY))
        for name in names or self.table_names:
            table = self.table(name)
            display(Markdown(table.caption), ColouredTable(table))

    def gains(self, name: str, metrics: tuple[str, ...] = ("AP", "AP50", "AP90")) -> pd.DataFrame:
        """Each row of a table minus its first row, in points, for our and the paper's numbers.

        If data and networks are not the paper's, only these differences may be compared.
        """
        table = self.table(name)
        shown = [metric for metric in metrics if metric in table.ours]
        columns = {
            (metric, whose): (numbers[metric] - numbers[metric].iloc[0]).round(1)
            for metric in shown
            for whose, numbers in (("ours", table.ours), ("paper", table.paper))
        }
        frame = pd.DataFrame(columns)
        frame.index = pd.Index(table.labels.agg(_joined, axis="columns"), name="row")
        return frame

    @property
    def verdicts(self) -> pd.DataFrame:
        """Verdicts on the paper's claims, as in `read_verdicts`."""
        return read_verdicts(self.folder)

    def show_verdicts(self) -> None:
        """Show how many claims are reproduced, then each with our difference and the paper's."""
        from IPython.display import Markdown, display

        if self.verdicts.empty:
            display(Markdown(f"Nothing is judged in {self.folder} yet: `snakemake claims` does."))
            return
        counts = self.verdicts["Verdict"].value_counts()
        text = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
        display(
            Markdown(f"**{len(self.verdicts)} claims: {text}.**"), ColouredVerdicts(self.verdicts)
        )

    @cached_property
    def evaluations(self) -> Evaluations:
        """The evaluations that `compare` chooses from."""
        if self.committed is None:
            return OwnEvaluations(self.plan)
        with quiet():
            from obc.notebook.committed import CommittedEvaluations

        return CommittedEvaluations(self.committed)

    @cached_property
    def heads(self) -> pd.DataFrame:
        """Trained heads with offset bins: columns `method`, `seed`; committed results store one."""
        if self.committed is not None:
            runs = [self._stored_head[:2]]
        else:
            with quiet():
                from obc.report.inside.shown_runs import trained_with_bins
            runs = trained_with_bins(self.plan)
        named = [(method_of(run_id), seed) for run_id, seed in runs]
        return pd.DataFrame(named, columns=["method", "seed"])

    @cached_property
    def _stored_head(self) -> tuple[str, int, list[HeadView]]:
        assert self.committed is not None
        with quiet():
            from obc.notebook.committed import committed_views

            return committed_views(self.committed)

    def look_into(self, head: int = 0, images: int = 16) -> LookedInto:
        """Return a trained head's predictions for the first images of its validation set.

        Args:
            head: a line of `heads`.
            images: number of images; committed results store 16.
        """
        with quiet():
            from obc.notebook.looked_into import LookedInto

            if self.committed is not None:
                run_id, seed, views = self._stored_head
                found = tuple(views[:images])
            else:
                from obc.evaluation.head_view import load_trained, look
                from obc.report.inside.shown_runs import trained_with_bins

                run_id, seed = trained_with_bins(self.plan)[head]
                trained = load_trained(self.plan, run_id, seed)
                found = tuple(look(trained, image) for image in [*trained.image_rows][:images])
        return LookedInto(f"{method_of(run_id)}, seed {seed}", found)

    def compare(
        self, first: int | None = None, second: int | None = None, min_score: float = 0.3
    ) -> Comparison:
        """Compare two evaluations.

        Args:
            first: a line of `evaluations.table`; None: regression, the paper's baseline.
            second: a line of `evaluations.table`; None: the full method.
            min_score: boxes with a lower score are not drawn or matched.
        """
        with quiet():
            from obc.notebook.comparison import Comparison

            baseline, method = self.evaluations.pair
            lines = (
                baseline if first is None else first,
                method if second is None else second,
            )
            evaluations = self.evaluations
            pair = map(evaluations.read, lines)
            return Comparison(*pair, lambda: evaluations.test_set(*lines), min_score)

    def show_figures(self) -> None:
        """Show every figure with its caption."""
        from IPython.display import SVG, Image, Markdown, display

        for figure in figures(self.folder):
            picture = SVG if figure.path.suffix == ".svg" else Image
            display(Markdown(f"## {figure.name}\n\n{figure.caption}"), picture(str(figure.path)))

    def ap_against_iou(self, table: str = "table1") -> pd.DataFrame:
        """AP at single IoU thresholds of a table's rows, as in `read_results.ap_against_iou`."""
        return ap_against_iou(read_long(self.folder), table)

    def draw_ap_against_iou(self, table: str = "table1") -> Figure:
        """Draw `ap_against_iou`, ours beside the paper's."""
        from obc.notebook.iou_curve import iou_curve_figure

        labels = self.table(table).labels.agg(_joined, axis="columns").tolist()
        return iou_curve_figure(self.ap_against_iou(table), labels)

    def _repr_markdown_(self) -> str:
        if self.committed is None:
            return f"Results of this machine: `{self.folder}`."
        card = read_card(self.committed)
        commits = ", ".join(f"`{commit[:7]}`" for commit in card.commits)
        return (
            f"Committed results `{self.folder}`: {card.purpose} {card.trainings} trainings, "
            f"{card.evaluations} evaluations, {card.last_day}, commit {commits}."
        )


@dataclass(frozen=True)
class OwnEvaluations:
    """The evaluations of a plan whose files exist."""

    plan: Plan

    @cached_property
    def table(self) -> pd.DataFrame:
        """As in `Evaluations`, in the order of `evaluated`; also has `tables` and `run_id`."""
        from obc.notebook.two_evaluations import evaluated

        frame = evaluated(self.plan).assign(method=lambda found: found["run_id"].map(slug_of))
        return frame[["method", "decode", "seed", "AP", "tables", "run_id"]]

    @property
    def pair(self) -> tuple[int, int]:
        """Lines of the two rows of Figure 6 if both have the first seed, or the first two lines."""
        lines = []
        for index, row in self.plan.example_rows.items():
            one = self.plan.of_row(index, row)[0]
            same = self.table[["run_id", "decode", "seed"]] == [
                one.run.run_id,
                one.decode,
                one.run.seed,
            ]
            lines += [*self.table.index[same.all(axis="columns")]]
        return (lines[0], lines[1]) if len(lines) == 2 else (0, 1)

    def read(self, line: int) -> Evaluation:
        """As in `Evaluations`."""
        from obc.notebook.two_evaluations import read_evaluation

        at = self.table.iloc[line]
        return read_evaluation(self.plan, at["run_id"], int(at["seed"]), at["decode"])

    def test_set(self, *lines: int) -> TestSet:
        """As in `Evaluations`."""
        from obc.notebook.two_evaluations import read_test_set

        return read_test_set(self.plan, *map(self.read, lines))


def open_results(name: str) -> OpenedResults:
    """Open a results folder from a notebook in the project.

    Changes the working directory to the project's folder, because paths in results are relative to
    it, and silences warnings and log messages of libraries.

    Args:
        name: a folder under `results`, e.g. `reference/mini`, `quick`, `mini-<label>`.

    Raises:
        ResultsMissing: the folder has no tables; the message names the command that makes them.
    """
    os.chdir(project_folder())
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    with contextlib.suppress(NameError):
        get_ipython().run_line_magic("matplotlib", "inline")  # type: ignore[name-defined] # noqa: F821
    return OpenedResults(find_results(name))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress the output of libraries while they load a model."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def _joined(labels: pd.Series) -> str:
    return ", ".join(text if text != "✓" else name for name, text in labels.items() if text)

"""A trained head in a notebook: predictions for images and proposals, and effects of other bins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd
import torch
from matplotlib.figure import Figure

from obc.bins import OffsetBins
from obc.evaluation.head_view import COORDINATES, HeadView
from obc.notebook.head_tables import ideal_table, reached, roi_table, stage_table
from obc.report.inside.offset_distributions import distributions_figure
from obc.report.inside.selection import at_quantiles, best_of_each_object, iou_gain
from obc.report.inside.stages import proposals_figure, stages_figure

SCREEN_DPI = 100


@dataclass(frozen=True)
class LookedInto:
    """The predictions of a trained head for some images.

    Attributes:
        name: name of the run.
        views: one view per image, with all proposals.
    """

    name: str
    views: tuple[HeadView, ...]

    @cached_property
    def positive(self) -> list[HeadView]:
        """The views with positive proposals only: IoU with an object of at least 0.5."""
        return [view.positive() for view in self.views]

    @property
    def mean_iou(self) -> pd.DataFrame:
        """Mean IoU (%) of the positive proposals with their objects, before and after the head."""
        return reached(self.positive).round(1).rename("mean IoU (%)").to_frame()

    def best_possible(
        self, ranges: Sequence[float], counts: Sequence[int], num_stages: int
    ) -> pd.DataFrame:
        """Mean IoU (%) of the positive proposals if every offset were put into its correct bin.

        Args:
            ranges: values of the range a, one line each.
            counts: values of the number n of inner bins, one column each.
            num_stages: K.
        """
        return ideal_table(self.positive, ranges, counts, num_stages).round(1)

    def image(self, image_id: int | None = None) -> LookedAtImage:
        """Return one image; by default that of the proposal with the median gain in IoU.

        The median is over the best-scored proposal of each object.

        Raises:
            KeyError: no view has this image id.
        """
        if image_id is None:
            best = [best_of_each_object(view) for view in self.positive if len(view)]
            (median,) = at_quantiles(best, [iou_gain(view) for view in best], [0.5])
            image_id = median.image_id
        return LookedAtImage({view.image_id: view for view in self.views}[image_id])

    def _repr_markdown_(self) -> str:
        count = sum(map(len, self.positive))
        return (
            f"**{self.name}**, {len(self.views)} images: {count} proposals overlap an object by an "
            "IoU of .5 or more."
        )


@dataclass(frozen=True)
class LookedAtImage:
    """The predictions of a trained head for the proposals of one image."""

    view: HeadView

    def draw(self, count: int = 10) -> Figure:
        """Draw the image with its objects and its first proposals, positive ones highlighted."""
        return _on_a_screen(proposals_figure(self.view, count=count))

    @property
    def rois(self) -> pd.DataFrame:
        """The positive proposals, highest score first; columns as in `roi_table`."""
        return roi_table(self.view.positive()).sort_values("score", ascending=False).round(2)

    def proposal(self, roi: int | None = None) -> LookedAtProposal:
        """Return the proposal with an index of `rois`; by default that with the median IoU gain."""
        seen = self.view.positive()
        (typical,) = at_quantiles([seen], [iou_gain(seen)], [0.5])
        return LookedAtProposal(typical if roi is None else seen.take(torch.tensor([roi])))


@dataclass(frozen=True)
class LookedAtProposal:
    """The predictions of a trained head for one proposal; the view has one RoI."""

    view: HeadView

    def draw_bins(self) -> Figure:
        """Draw the probability of every bin: one column per coordinate, one row per stage."""
        return _on_a_screen(distributions_figure([self.view], ["chosen here"], ""))

    @property
    def stages(self) -> pd.DataFrame:
        """Offsets and IoU after each stage, by argmax and by expectation, as in `stage_table`."""
        return stage_table(self.view).round(3)

    def draw_stages(self) -> Figure:
        """Draw the box after each stage and the range in which the stage can move it."""
        return _on_a_screen(stages_figure(self.view, ""))

    def labels(self, max_offset: float, num_bins: int, num_stages: int) -> pd.DataFrame:
        """True offsets of the proposal and their bin labels, one column per stage."""
        bins = OffsetBins(max_offset=max_offset, num_bins=num_bins, num_stages=num_stages)
        labels = bins.encode(self.view.offsets[0]).reshape(4, -1)
        frame = pd.DataFrame({"true offset": self.view.offsets[0].numpy().round(3)}, [*COORDINATES])
        for stage in range(labels.shape[1]):
            frame[f"bin of stage {stage + 1}"] = labels[:, stage].numpy()
        return frame


def _on_a_screen(drawing: Figure) -> Figure:
    """Reduce the figure from print resolution to screen resolution."""
    drawing.set_dpi(SCREEN_DPI)
    return drawing

"""A trained head as a notebook looks at it: images, one proposal of them, and other bins."""

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
    """What a trained head predicts in some images.

    Attributes:
        name: of the run.
        views: of the images, all proposals.
    """

    name: str
    views: tuple[HeadView, ...]

    @cached_property
    def positive(self) -> list[HeadView]:
        """The proposals that overlap an object by an IoU of .5 or more."""
        return [view.positive() for view in self.views]

    @property
    def mean_iou(self) -> pd.DataFrame:
        """Mean IoU (%) of the positive proposals with their objects, before and after the head."""
        return reached(self.positive).round(1).rename("mean IoU (%)").to_frame()

    def best_possible(
        self, ranges: Sequence[float], counts: Sequence[int], num_stages: int
    ) -> pd.DataFrame:
        """Mean IoU (%) if every proposal were put into its right bins.

        Args:
            ranges: lines, the range a.
            counts: columns, the number n of inner bins.
            num_stages: K.
        """
        return ideal_table(self.positive, ranges, counts, num_stages).round(1)

    def image(self, image_id: int | None = None) -> LookedAtImage:
        """One image: by default that of the proposal with the median gain in IoU.

        Raises:
            KeyError: it is none of the images that were looked at.
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
    """What a trained head predicts for the proposals of one image."""

    view: HeadView

    def draw(self, count: int = 10) -> Figure:
        """The image with its first proposals, and with what the head makes of them."""
        return _on_a_screen(proposals_figure(self.view, count=count))

    @property
    def rois(self) -> pd.DataFrame:
        """The positive proposals, those with the highest score first, as of `roi_table`."""
        return roi_table(self.view.positive()).sort_values("score", ascending=False).round(2)

    def proposal(self, roi: int | None = None) -> LookedAtProposal:
        """One proposal: a number of `rois`, or that with the median gain in IoU."""
        seen = self.view.positive()
        (typical,) = at_quantiles([seen], [iou_gain(seen)], [0.5])
        return LookedAtProposal(typical if roi is None else seen.take(torch.tensor([roi])))


@dataclass(frozen=True)
class LookedAtProposal:
    """What a trained head predicts for one proposal; a view with one RoI."""

    view: HeadView

    def draw_bins(self) -> Figure:
        """The probability of every bin: a column a coordinate, a row a stage."""
        return _on_a_screen(distributions_figure([self.view], ["chosen here"], ""))

    @property
    def stages(self) -> pd.DataFrame:
        """Offsets and IoU after each stage, by argmax and by expectation, as of `stage_table`."""
        return stage_table(self.view).round(3)

    def draw_stages(self) -> Figure:
        """The box after each stage, and the range in which the stage can move it."""
        return _on_a_screen(stages_figure(self.view, ""))

    def labels(self, max_offset: float, num_bins: int, num_stages: int) -> pd.DataFrame:
        """The bins that the true offsets of the proposal belong to, stage by stage."""
        bins = OffsetBins(max_offset=max_offset, num_bins=num_bins, num_stages=num_stages)
        labels = bins.encode(self.view.offsets[0]).reshape(4, -1)
        frame = pd.DataFrame({"true offset": self.view.offsets[0].numpy().round(3)}, [*COORDINATES])
        for stage in range(labels.shape[1]):
            frame[f"bin of stage {stage + 1}"] = labels[:, stage].numpy()
        return frame


def _on_a_screen(drawing: Figure) -> Figure:
    """The figure with the pixels that a screen shows, of the many that a printer needs."""
    drawing.set_dpi(SCREEN_DPI)
    return drawing

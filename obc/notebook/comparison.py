"""Comparison of two evaluations of a results folder, for a notebook."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import pandas as pd
from matplotlib.figure import Figure

from obc.notebook import two_evaluations as compare
from obc.notebook.two_evaluations import MIN_SCORE, Evaluation, TestSet

CHANGED = 0.01  # a smaller change of an image's mean IoU counts as alike


@dataclass(frozen=True)
class Comparison:
    """Two evaluations; differences are the second minus the first.

    Attributes:
        find_images: function that finds the shared test images; called on first use.
        min_score: boxes with a lower score are not drawn or matched.
    """

    first: Evaluation
    second: Evaluation
    find_images: Callable[[], TestSet]
    min_score: float = MIN_SCORE

    @cached_property
    def test_set(self) -> TestSet:
        """The images and objects that both were evaluated on."""
        return self.find_images()

    @property
    def by_metric(self) -> pd.DataFrame:
        """AP at each IoU threshold, in percent, and the difference in points."""
        return compare.by_metric(self.first, self.second).round(1)

    @property
    def by_size(self) -> pd.DataFrame:
        """AP of all, small, medium and large objects; sizes without objects are left out."""
        return compare.by_size(self.first, self.second).round(1).dropna()

    @property
    def by_class(self) -> pd.DataFrame:
        """AP of each class, the largest gain first."""
        return compare.by_class(self.first, self.second).round(1)

    @cached_property
    def images(self) -> pd.DataFrame:
        """Mean matched IoU of each image in both evaluations, as in `by_image`."""
        return compare.by_image(self.test_set, self.first, self.second, self.min_score)

    @property
    def counts(self) -> pd.DataFrame:
        """Numbers of images whose objects the second evaluation finds better, worse and alike."""
        change = self.images["difference"]
        better, worse = (change > CHANGED).sum(), (change < -CHANGED).sum()
        counts = {"better": better, "worse": worse, "alike": len(change) - better - worse}
        return pd.Series(counts, name="images").to_frame()

    def draw(self, image_id: int) -> Figure:
        """Draw an image twice, with the boxes of each evaluation; objects are dashed."""
        pair = (self.first, self.second)
        return compare.draw_image(self.test_set, image_id, *pair, self.min_score)

    def show_extremes(self, count: int = 3) -> None:
        """Show the images with the largest gain, then those with the largest loss."""
        from IPython.display import Markdown, display

        order = self.images.index
        for title, chosen in (("gain", order[:count]), ("loss", order[::-1][:count])):
            display(Markdown(f"**Largest {title}**"))
            for image_id in chosen:
                change = self.images.loc[image_id, "difference"]
                display(Markdown(f"Image {image_id}: mean IoU {change:+.2f}"), self.draw(image_id))

    def _repr_markdown_(self) -> str:
        return f"First: **{self.first.name}**. Second: **{self.second.name}**."

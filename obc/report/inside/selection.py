"""Which proposals the figures of a head's output show: chosen by a rule, never by hand.

Shape shorthand: R RoIs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from obc.evaluation.head_view import HeadView, InsideError, box_ious

SHOWN_QUANTILES = (0.1, 0.5, 0.9)


def best_of_each_object(view: HeadView) -> HeadView:
    """For each object the RoI with the highest score for its class, as NMS would keep it.

    Args:
        view: RoIs that overlap an object.
    """
    labels = view.object_labels[view.matched]
    scores = view.scores[torch.arange(len(view)), labels]
    best = [
        rows[scores[rows].argmax()]
        for rows in (
            (view.matched == index).nonzero().squeeze(1) for index in view.matched.unique()
        )
    ]
    return view.take(torch.tensor(best, dtype=torch.long))


def iou_gain(view: HeadView) -> Tensor:
    """IoU with the object of the final box less that of the proposal, (R,)."""
    return box_ious(view.expectation.boxes[:, -1], view.truth) - view.ious


def offset_error(view: HeadView) -> Tensor:
    """Mean over the coordinates of |expectation - true offset|, normalised, (R,)."""
    return (view.expectation.offsets.sum(-1) - view.offsets).abs().mean(-1)


def at_quantiles(
    views: Sequence[HeadView], values: Sequence[Tensor], quantiles: Sequence[float]
) -> list[HeadView]:
    """The RoIs whose value lies at the quantiles among the RoIs of all views, one view each.

    Between two RoIs it is the one with the smaller value.

    Raises:
        InsideError: there is no RoI.
    """
    everything = torch.cat([torch.empty(0), *values])
    if len(everything) == 0:
        raise InsideError(
            f"no proposal in {len(views)} image(s) overlaps an object by enough to be shown; "
            "train longer, or choose another image"
        )
    sorted_rows = everything.argsort(stable=True)
    places = [(view, row) for view in views for row in range(len(view))]
    chosen = [sorted_rows[int(quantile * (len(everything) - 1))] for quantile in quantiles]
    return [view.take(torch.tensor([row])) for view, row in (places[index] for index in chosen)]

"""Which proposals the figures of a head's output show: chosen by a rule, never by hand.

Shape shorthand: R RoIs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from obc.evaluation.head_view import HeadView, InsideError, box_ious

SHOWN_QUANTILES = (0.1, 0.5, 0.9)
MOVED = 0.02
"""From which 1 - IoU on a move of a box can be seen; a second stage can reach about 0.08."""


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


def moved_by_later_stages(view: HeadView) -> Tensor:
    """How far the stages after the first move a box: 1 - IoU of both boxes, (R,); 0 for one."""
    boxes = view.expectation.boxes
    return 1 - box_ious(boxes[:, 0], boxes[:, -1])


def offset_error(view: HeadView) -> Tensor:
    """Mean over the coordinates of |expectation - true offset|, normalised, (R,)."""
    return (view.expectation.offsets.sum(-1) - view.offsets).abs().mean(-1)


def example_of_stages(best: Sequence[HeadView]) -> tuple[HeadView, str]:
    """The RoI that shows the stages, as a view of its own, and the rule that it was chosen by.

    Of the RoIs whose box the later stages move by at least MOVED it is the one with the median gain
    in IoU; where there is none, the one that they move most. A head with one stage has the one with
    the median gain.

    Args:
        best: of `best_of_each_object`, for each image.

    Raises:
        InsideError: there is no RoI.
    """
    motions = [moved_by_later_stages(view) for view in best]
    moving = [view.take(motion >= MOVED) for view, motion in zip(best, motions, strict=True)]
    count = sum(map(len, moving))
    if count:
        rule = f"the one with the median gain in IoU of the {count} that later stages move"
        gains = [iou_gain(view) for view in moving]
        return at_quantiles(moving, gains, [0.5])[0], f"{rule} (1 − IoU ≥ {MOVED:g})"
    if best and best[0].coder.bins.num_stages == 1:
        gains = [iou_gain(view) for view in best]
        return at_quantiles(best, gains, [0.5])[0], "the one with the median gain in IoU"
    (most,) = at_quantiles(best, motions, [1])
    return most, f"the one that later stages move most (none by 1 − IoU ≥ {MOVED:g})"


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

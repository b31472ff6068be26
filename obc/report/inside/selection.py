"""Selection of the proposals that figures of a head's output show: by a rule, never by hand.

Shape shorthand: R RoIs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from obc.evaluation.head_view import HeadView, InsideError, box_ious

SHOWN_QUANTILES = (0.1, 0.5, 0.9)
MOVED = 0.02
"""1 - IoU from which a move of a box can be seen; a second stage can reach about 0.08."""


def best_of_each_object(view: HeadView) -> HeadView:
    """Take for each object the RoI with the highest score for its class, as NMS would keep it.

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
    """Subtract the IoU of the proposal with its object from the IoU of the final box, (R,)."""
    return box_ious(view.expectation.boxes[:, -1], view.truth) - view.ious


def moved_by_later_stages(view: HeadView) -> Tensor:
    """Compute 1 - IoU of the boxes after the first and the last stage, (R,); 0 for one stage."""
    boxes = view.expectation.boxes
    return 1 - box_ious(boxes[:, 0], boxes[:, -1])


def offset_error(view: HeadView) -> Tensor:
    """Mean over the coordinates of |expectation - true offset|, normalised, (R,)."""
    return (view.expectation.offsets.sum(-1) - view.offsets).abs().mean(-1)


def example_of_stages(best: Sequence[HeadView]) -> tuple[HeadView, str]:
    """Choose the RoI that illustrates the stages; return its view and the rule of the choice.

    The choice is the RoI with the median gain in IoU among those whose boxes the later stages move
    by at least MOVED. If they move no box that far, it is the RoI whose box they move most. For a
    head with one stage, it is the RoI with the median gain.

    Args:
        best: views of `best_of_each_object`, one for each image.

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
    """Choose RoIs at quantiles of their values among the RoIs of all views; return a view of each.

    If a quantile lies between two RoIs, the RoI with the smaller value is chosen.

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

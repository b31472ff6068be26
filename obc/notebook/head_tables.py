"""Tables of a head's output: its RoIs, its stages, and the best result that other bins allow.

Shape shorthand: R RoIs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd
import torch

from obc.bins import OffsetBins
from obc.evaluation.head_view import COORDINATES, HeadView, box_ious, ideal_ious
from obc.report.inside.selection import offset_error


def roi_table(view: HeadView) -> pd.DataFrame:
    """One line for each RoI that overlaps an object, in the order of the view.

    Returns:
        Index: the row in the view. Columns `object` (class of the object), `predicted` and `score`
        (the most probable class other than background), `iou` of the proposal, `iou_argmax` and
        `iou_expectation` of the final box, and `error` of the expectation (mean absolute error of
        the offsets).
    """
    rows = (view.matched >= 0).nonzero().squeeze(1)
    seen = view.take(rows)
    scores, labels = seen.scores[:, :-1].max(1)
    return pd.DataFrame(
        {
            "object": [view.classes[label] for label in view.object_labels[seen.matched]],
            "predicted": [view.classes[label] for label in labels],
            "score": scores.numpy(),
            "iou": seen.ious.numpy(),
            "iou_argmax": box_ious(seen.argmax.boxes[:, -1], seen.truth).numpy(),
            "iou_expectation": box_ious(seen.expectation.boxes[:, -1], seen.truth).numpy(),
            "error": offset_error(seen).numpy(),
        },
        index=pd.Index(rows.numpy(), name="roi"),
    )


def stage_table(view: HeadView) -> pd.DataFrame:
    """Compare argmax and expectation after each stage, for the only RoI of a view.

    Returns:
        Index: `truth`, then each decoding and stage. Columns: the offset of each coordinate, summed
        up to this stage, and the `iou` of the box.
    """
    lines = {("truth", ""): [*view.offsets[0].tolist(), 1.0]}
    for name, decoded in (("argmax", view.argmax), ("expectation", view.expectation)):
        ious = box_ious(decoded.boxes[0], view.truth.expand(decoded.boxes.shape[1], 4))
        for stage, (offsets, iou) in enumerate(
            zip(decoded.offsets[0].cumsum(-1).T, ious, strict=True), start=1
        ):
            lines[name, f"after stage {stage}"] = [*offsets.tolist(), iou.item()]
    index = pd.MultiIndex.from_tuples(lines, names=["decoding", "stage"])
    return pd.DataFrame(list(lines.values()), index=index, columns=[*COORDINATES, "iou"])


def ideal_table(
    views: Sequence[HeadView], ranges: Iterable[float], counts: Iterable[int], num_stages: int = 1
) -> pd.DataFrame:
    """Compute the mean IoU that other bins allow if every offset is put into its correct bin.

    Returns:
        One line per range a and one column per number of inner bins n: mean IoU of the boxes of
        all RoIs of the views, in percent; NaN without RoIs.
    """
    counts = list(counts)
    mean_ious = {
        a: [
            _mean_percent([ideal_ious(view, OffsetBins(count, a, num_stages)) for view in views])
            for count in counts
        ]
        for a in ranges
    }
    frame = pd.DataFrame.from_dict(mean_ious, orient="index", columns=counts)
    return frame.rename_axis(index="a", columns="n")


def reached(views: Sequence[HeadView]) -> pd.Series:
    """Mean IoU in percent of the proposals, and of the head's boxes by argmax and expectation."""
    ious = {
        "proposals": [view.ious for view in views],
        "argmax": [box_ious(view.argmax.boxes[:, -1], view.truth) for view in views],
        "expectation": [box_ious(view.expectation.boxes[:, -1], view.truth) for view in views],
    }
    return pd.Series({name: _mean_percent(values) for name, values in ious.items()})


def _mean_percent(ious: list[torch.Tensor]) -> float:
    return 100 * torch.cat(ious).mean().item()

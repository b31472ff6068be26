"""Write every figure and table about the output of trained heads.

Unless an image is named, the figures show the positive proposals of the first validation images.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import torch

from obc.config.plan import Plan
from obc.evaluation.head_view import (
    POSITIVE_IOU,
    HeadView,
    InsideError,
    TrainedDetector,
    load_trained,
    look,
    target_offsets,
)
from obc.report.captions import images_note, run_badge, run_stamp
from obc.report.figures import style
from obc.report.inside.calibration import deciles, draw_calibration, points
from obc.report.inside.offset_distributions import draw_distributions
from obc.report.inside.selection import (
    SHOWN_QUANTILES,
    at_quantiles,
    best_of_each_object,
    example_of_stages,
    offset_error,
)
from obc.report.inside.shown_runs import shown_runs
from obc.report.inside.stages import draw_stages
from obc.report.inside.target_offsets import draw_targets

IMAGES = 200


def write_shown(plan: Plan, figures: Path, tables: Path) -> None:
    """Write all figures about the runs of `shown_runs`, and `calibration.csv` into `tables`.

    `stages`, `offset_distributions` and `target_offsets` show the run with two stages;
    `calibration` shows both runs.

    Raises:
        InsideError: the plan has no `detail_table` with these runs, or no proposal overlaps an
            object enough.
        WeightsError: a run is not trained.
    """
    shown = shown_runs(plan)
    rows = plan.config.detail_rows
    if not shown:
        raise InsideError(
            f"this plan has no {plan.config.detail_table} with rows {rows.one_stage} and "
            f"{rows.two_stages}; name a run with --run"
        )
    calibrations = []
    for key, (run_id, seed) in shown.items():
        trained = load_trained(plan, run_id, seed)
        views = _positive_views(trained)
        calibrations.append(_calibration(views, run_id, seed))
        if key == rows.two_stages:
            _write_run(plan, trained, views, run_stamp(plan, (run_id, seed)), figures)
    _write_calibration(plan, pd.concat(calibrations, ignore_index=True), figures, tables)


def write_run(plan: Plan, run_id: str, seed: int, folder: Path) -> None:
    """Write all figures and the table of `write_shown` about a single run into one folder.

    Raises:
        InsideError: the run has no offset bins, or no proposal overlaps an object enough.
        WeightsError: the run is not trained.
    """
    trained = load_trained(plan, run_id, seed)
    views = _positive_views(trained)
    _write_run(plan, trained, views, run_stamp(plan, (run_id, seed)), folder)
    _write_calibration(plan, _calibration(views, run_id, seed), folder, folder)


def write_image(plan: Plan, run_id: str, seed: int, image_id: int, folder: Path) -> None:
    """Write `stages` and `offset_distributions` about a single run and a single image.

    Raises:
        InsideError: as in `write_run`; or the validation set has no such image.
        WeightsError: as in `write_run`.
    """
    views = [look(load_trained(plan, run_id, seed), image_id).positive()]
    stamp = run_stamp(plan, (run_id, seed))
    _draw_examples(plan, views, f"image {image_id}", stamp, folder)


def _positive_views(trained: TrainedDetector) -> list[HeadView]:
    return [look(trained, image_id).positive() for image_id in _first_images(trained)]


def _first_images(trained: TrainedDetector) -> list[int]:
    return list(trained.image_rows)[:IMAGES]


def _write_run(
    plan: Plan, trained: TrainedDetector, views: list[HeadView], stamp: str, folder: Path
) -> None:
    images = _first_images(trained)
    among = f"the first {len(images)} validation images"
    _draw_examples(plan, views, among, stamp, folder)
    offsets = torch.cat([target_offsets(trained, image_id) for image_id in images])
    rule = (
        f"The {len(offsets)} proposals of the trained RPN, as many an image as in training, that "
        f"overlap an object by an IoU of at least {POSITIVE_IOU} in {among}."
    )
    draw_targets(offsets, f"{rule} {stamp}", run_badge(plan), folder)


def _draw_examples(plan: Plan, views: list[HeadView], among: str, stamp: str, folder: Path) -> None:
    example, why = example_of_stages([best_of_each_object(view) for view in views])
    rule = f"Shown: of the best-scored proposal of each object in {among} {why}."
    text = f"{rule}{images_note(plan)} {stamp}"
    draw_stages(example, text, run_badge(plan), folder, shows_image=plan.config.show_images)
    chosen = at_quantiles(views, [offset_error(view) for view in views], SHOWN_QUANTILES)
    names = [f"error larger than that of {quantile:.0%}" for quantile in SHOWN_QUANTILES]
    rule = (
        f"Shown: of the {sum(map(len, views))} positive proposals in {among}, ordered by the mean "
        f"error of the expectation, those at {', '.join(f'{q:.0%}' for q in SHOWN_QUANTILES)}. "
        "Axes: normalised offset within the range of the stage; truth: what the stages before "
        "have left. An arrow at a border: the truth is out of range, its value beside it."
    )
    draw_distributions(chosen, names, f"{rule} {stamp}", run_badge(plan), folder)


# --- calibration -------------------------------------------------------------------------------


def _calibration(views: list[HeadView], run_id: str, seed: int) -> pd.DataFrame:
    """Return `deciles` of a run, preceded by columns `label`, `run_id` and `seed`."""
    bins = views[0].coder.bins
    frame = deciles(points(views), bins.num_inner)
    frame.insert(0, "label", f"K = {bins.num_stages}")
    frame.insert(1, "run_id", run_id)
    frame.insert(2, "seed", seed)
    return frame


def _write_calibration(plan: Plan, frame: pd.DataFrame, figures: Path, tables: Path) -> None:
    runs = list(frame.drop_duplicates("run_id").itertuples())
    looks = {
        line.label: style.method_look(plan.runs[line.run_id].resolved.spec.box) for line in runs
    }
    stamp = run_stamp(plan, *((line.run_id, line.seed) for line in runs))
    rule = (
        f"Positive proposals of the first {IMAGES} validation images (all where there are fewer), "
        "all four coordinates; ten equal parts by entropy. Errors in normalised offsets, after "
        "the stage named."
    )
    heading = "Does the head know when it errs?"
    with style.figure(
        figures, "calibration", heading, f"{rule} {stamp}", badge=run_badge(plan), data=frame
    ) as drawing:
        axes = drawing.add_subplot()
        draw_calibration(axes, frame, looks)
        style.legend_above(drawing, axes, columns=2)
    style.save_data(frame.assign(scale=plan.scale.name), tables, "calibration")

"""Figure 6: detections of the baseline and of offset bins in test images chosen by a rule.

The *matched IoU* of an object is its largest IoU with a detection of its class that scores at least
`examples.min_score`, or 0 without such a detection. The matched IoU of an image is the mean over
its objects. The *gain* of an image is its matched IoU by the method minus that by the baseline.

As in the paper's figure, there are two kinds of images. In the first kind both rows find every
object, so the gain comes from tighter boxes. In the second kind at least one row misses an object.
For each kind, gains and losses are shown in the ratio in which they occur, the largest first. If no
image gains or loses, a sentence replaces the pictures.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from faster_coco_eval.core import mask
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from matplotlib.patches import Rectangle
from matplotlib.transforms import Bbox
from PIL import Image

from obc.analysis.collect import require_complete
from obc.analysis.evaluations import evaluations, load, measured, objects_to_find
from obc.config.plan import Plan
from obc.datasets.errors import DatasetError
from obc.io.typed_yaml import ConfigError
from obc.report.captions import badge, images_note, stamp
from obc.report.figures import style
from obc.report.figures.caption import caption
from obc.report.pictures import GREY

FIGURE = "figure6"
HEADING = "Figure 6. Detections of the baseline and of our method (section 4.1)."
RULE = (
    "Each pair: one image, with its matched IoU by both methods. Chosen by rule: the largest gains "
    "and losses (shaded) in the ratio in which they occur, first of the images in which both find "
    "every object (IoU of at least {found:g}: fit), then of those in which one misses some "
    "(finding). Matched IoU of an object: that of the best-fitting detection of its class that "
    "scores at least {min_score:g}, 0 if none; of an image: the mean over its objects. Dashed: "
    "objects; bold, with IoU: best-fitting detections; thin: all others. Beside each detection: "
    "class and score."
)
MEANS = (
    "Over all {images} images with objects the mean goes from {baseline_mean:.3f} to "
    "{method_mean:.3f}, {better} gain and {worse} lose{fit}. Baseline: {baseline}. Ours: {method}."
)
FIT = "; where both find all, in {images}, from {baseline:.3f} to {method:.3f}"
NOTHING = (
    "In none of the {images} test images with objects do the two methods differ:\n{why}, so there "
    "is no pair to show."
)
FOUND_IOU = 0.5
BASELINE, METHOD = "baseline", "method"
NAMES = {BASELINE: "Baseline", METHOD: "Ours"}
KINDS = {True: "fit", False: "finding"}
BOX = (
    "image_id", "file_name", "of", "category", "score", "iou", "best", "x", "y", "width", "height",
)  # fmt: skip
PAIRS_IN_A_ROW = 2
PANEL_INCHES = 1.6


class Found(NamedTuple):
    """Ground truth, and the detections of both rows on the same images.

    Attributes:
        truth: COCO-format dict.
        detections: by `baseline` and `method`, in COCO's result format; only detections that score
            at least `examples.min_score`.
    """

    truth: dict[str, Any]
    detections: dict[str, list[dict[str, Any]]]


def figure6(plan: Plan, folder: Path) -> None:
    """Draw `figure6` (svg, png, pdf) into `folder`, and write every box drawn to `figure6.csv`.

    Raises:
        ConfigError: the plan lacks the table or a row of its `examples`.
        IncompleteError: one of the two evaluations is missing.
        DatasetError: the index of the test images, or a test image, cannot be read.
    """
    found, sources = _read(plan)
    table = image_gains(found)
    chosen = choose(table, plan.config.examples.images)
    boxes = drawn_boxes(found, chosen)
    index = plan.index_folder(plan.tables[plan.config.examples.table].dataset)
    root = Path(index.read_manifest()["root"])
    images = {image["id"]: image for image in found.truth["images"]}
    rows = -(-len(chosen) // PAIRS_IN_A_ROW)
    size = (style.SIZE_INCHES[0], 0.3 + rows * (PANEL_INCHES + 0.35) if rows else 1.0)
    text = _caption(plan, table, sources, shows_pairs=rows > 0)
    mark = badge(plan, plan.tables[plan.config.examples.table])
    with style.figure(folder, FIGURE, HEADING, text, badge=mark, data=boxes, size=size) as drawing:
        if not rows:
            said = _nothing(table, found, plan.config.examples.min_score)
            drawing.text(0.5, 0.6, said, ha="center", va="center")
            return
        parts = drawing.subfigures(rows, PAIRS_IN_A_ROW, squeeze=False).ravel()
        for part, line in zip(parts, chosen.itertuples(), strict=False):
            image = _picture(plan, root, images[line.image_id])
            _draw_pair(part, line, image, boxes[boxes["image_id"] == line.image_id])


# --- the rule ----------------------------------------------------------------------------------


def image_gains(found: Found) -> pd.DataFrame:
    """Compute the matched IoU of every image that has objects.

    Returns:
        Columns `image_id` (ascending), `objects` (their number), `baseline` and `method` (matched
        IoU in [0, 1]), `gain` (`method` minus `baseline`) and `kind`: "fit" if both rows find every
        object (IoU of at least FOUND_IOU), "finding" if one or both miss an object.
    """
    objects = found.truth["annotations"]
    frame = pd.DataFrame({"image_id": [each["image_id"] for each in objects]})
    for name, detections in found.detections.items():
        frame[name] = [iou for iou, _ in best_fits(objects, detections)]
    frame["found"] = frame[[BASELINE, METHOD]].min(axis=1) >= FOUND_IOU
    means = frame.groupby("image_id").agg(
        objects=("found", "size"),
        baseline=(BASELINE, "mean"),
        method=(METHOD, "mean"),
        found=("found", "all"),
    )
    means["gain"] = means[METHOD] - means[BASELINE]
    means["kind"] = means.pop("found").map(KINDS)
    return means.reset_index()


def choose(table: pd.DataFrame, images: int) -> pd.DataFrame:
    """Choose the images with the largest gains and losses of each kind.

    Gains and losses are in the ratio of their numbers. Of images with equal gains, the image with
    the smaller id comes first.

    Args:
        table: frame of `image_gains`.
        images: number of images of each kind, gains and losses together; fewer are chosen if fewer
            gain or lose.

    Returns:
        Lines of `table` after a first column `choice`, e.g. `gain in fit 1` or `loss in finding 1`;
        all gains come first. Empty if no image gains or loses.
    """
    gains, losses = [], []
    for kind in KINDS.values():
        of_kind = table[table["kind"] == kind].sort_values("image_id")
        rising = of_kind.sort_values("gain", kind="stable")
        falling = of_kind.sort_values("gain", kind="stable", ascending=False)
        better, worse = falling[falling["gain"] > 0], rising[rising["gain"] < 0]
        of_better, of_worse = _shares(len(better), len(worse), images)
        gains.append(_numbered(better.head(of_better), f"gain in {kind}"))
        losses.append(_numbered(worse.head(of_worse), f"loss in {kind}"))
    return pd.concat([*gains, *losses], ignore_index=True)[["choice", *table.columns]]


def _shares(gains: int, losses: int, images: int) -> tuple[int, int]:
    """Split `images` into gains and losses: in their ratio, at least one of each that occurs."""
    if not gains or not losses or images == 1:
        return (images, 0) if gains >= losses else (0, images)
    of_gains = round(images * gains / (gains + losses))
    of_gains = min(max(of_gains, 1), images - 1)
    return of_gains, images - of_gains


def _numbered(lines: pd.DataFrame, choice: str) -> pd.DataFrame:
    return lines.assign(choice=[f"{choice} {rank}" for rank in range(1, len(lines) + 1)])


def best_fits(
    boxes: list[dict[str, Any]], others: list[dict[str, Any]]
) -> list[tuple[float, int | None]]:
    """Find for each box the other box of the same image and class with the largest IoU.

    Args:
        boxes, others: dicts with image_id, category_id and bbox (x, y, width, height).

    Returns:
        For each box the IoU and the index in `others`; (0, None) if no other box overlaps.
    """
    by_place: dict[tuple[int, int], list[int]] = {}
    for index, other in enumerate(others):
        by_place.setdefault((other["image_id"], other["category_id"]), []).append(index)
    fits: list[tuple[float, int | None]] = []
    for box in boxes:
        candidates = by_place.get((box["image_id"], box["category_id"]), [])
        ious = [0.0]
        if candidates:
            ious = mask.iou([others[at]["bbox"] for at in candidates], [box["bbox"]], [0])[:, 0]
        best = int(np.argmax(ious))
        fits.append((float(ious[best]), candidates[best]) if ious[best] > 0 else (0.0, None))
    return fits


def drawn_boxes(found: Found, chosen: pd.DataFrame) -> pd.DataFrame:
    """Return every box to draw on the chosen images.

    Returns:
        The columns of `choose`, then for each box `file_name`, `of` (truth, baseline or method),
        `category`, `score`, `iou` (the largest with an object of its class), `best` (whether it is
        the best-fitting detection of an object), and `x`, `y`, `width` and `height` (pixels of the
        image). For ground truth, `score` and `iou` are NaN and `best` is False.
    """
    names = {category["id"]: category["name"] for category in found.truth["categories"]}
    files = {image["id"]: image["file_name"] for image in found.truth["images"]}
    objects = found.truth["annotations"]
    lines = []
    for of, boxes in (("truth", objects), *found.detections.items()):
        best = {at for _, at in best_fits(objects, boxes)} if of != "truth" else set()
        fits = best_fits(boxes, objects)
        lines += [
            {
                "image_id": box["image_id"],
                "file_name": files[box["image_id"]],
                "of": of,
                "category": names[box["category_id"]],
                "score": box.get("score"),
                "iou": iou if of != "truth" else None,
                "best": at in best,
                **dict(zip(("x", "y", "width", "height"), box["bbox"], strict=True)),
            }
            for at, (box, (iou, _)) in enumerate(zip(boxes, fits, strict=True))
        ]
    frame = pd.DataFrame(lines, columns=BOX).astype({"score": float, "iou": float})
    return chosen.merge(frame, on="image_id")


# --- what was measured -------------------------------------------------------------------------


def _read(plan: Plan) -> tuple[Found, dict[str, str]]:
    """Return the detections of both rows with their first seeds, and a text for each evaluation."""
    examples = plan.config.examples
    if not plan.example_rows:
        raise ConfigError(
            f"{FIGURE} compares {examples.baseline} and {examples.method} of {examples.table}, "
            f"and this plan has no such rows; its tables: {', '.join(plan.tables)}"
        )
    frame = measured(plan, [examples.table])
    detections, sources = {}, {}
    for name, (index, row) in zip((BASELINE, METHOD), plan.example_rows.items(), strict=True):
        run_id = plan.run_of(row).run_id
        seed = plan.seeds_of(run_id)[0]
        lines = frame[(frame["row"] == index) & (frame["seed"] == seed)]
        require_complete(plan, lines)
        (evaluation,) = evaluations(plan, lines)
        _, everything = load(evaluation)
        detections[name] = [one for one in everything if one["score"] >= examples.min_score]
        sources[name] = f"{run_id}, {row.decode}, seed {seed}"
    truth = objects_to_find(evaluation.truth, evaluation.difficult_ignored)
    return Found(truth, detections), sources


def _picture(plan: Plan, root: Path, image: dict[str, Any]) -> np.ndarray:
    """Load an entry of COCO's `images`, (H, W, 3) uint8; grey if the plan shows no images."""
    if not plan.config.show_images:
        return np.full((image["height"], image["width"], 3), GREY, np.uint8)
    path = root / image["file_name"]
    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB"))
    except OSError as error:
        raise DatasetError(
            f"{path}: cannot be read ({error}), and {FIGURE} shows it (image {image['id']}); put "
            "the data set back where it was indexed, or index it anew where it is"
        ) from None


# --- drawing -----------------------------------------------------------------------------------


def _draw_pair(part: SubFigure, line: Any, image: np.ndarray, boxes: pd.DataFrame) -> None:
    """Draw one image twice, each time with the detections of one row."""
    if line.gain < 0:
        part.set_facecolor("0.88")
    name = Path(boxes["file_name"].iloc[0]).stem
    part.suptitle(
        f"{line.choice.capitalize()}: {name}, {line.baseline:.2f} → {line.method:.2f}",
        fontsize=style.SMALL,
    )
    colors = {BASELINE: style.REGRESSION, METHOD: style.HIERARCHY}
    for axes, of in zip(part.subplots(1, 2), (BASELINE, METHOD), strict=True):
        # Without interpolation, vector files keep the image's own pixels: smaller and sharper.
        axes.imshow(image, interpolation="none")
        axes.set_axis_off()
        axes.set_title(NAMES[of], fontsize=style.SMALL, color=colors[of], pad=2)
        for box in boxes[boxes["of"] == "truth"].itertuples():
            _outline(axes, box, color="white", linewidth=1.6)
            _outline(axes, box, color=style.TRUTH, linewidth=1, linestyle=(0, (3, 3)))
        detections = boxes[boxes["of"] == of].sort_values("best")
        for box in detections.itertuples():
            _outline(axes, box, color=colors[of], linewidth=1.8 if box.best else 0.6)
        # The best-fitting detections are labelled first, while most places are free.
        taken: list[Bbox] = []
        for box in detections[::-1].itertuples():
            _label(axes, box, colors[of], taken)


def _outline(axes: Axes, box: Any, **look: Any) -> None:
    axes.add_patch(Rectangle((box.x, box.y), box.width, box.height, fill=False, **look))


def _label(axes: Axes, box: Any, color: str, taken: list[Bbox]) -> None:
    """Write class and score at a detection, and the IoU of a best-fitting detection.

    The label goes where it covers no other label, if there is such a place.

    Args:
        taken: places of the labels so far, in pixels of the image; the new place is appended.
    """
    lines = [f"{box.category} {box.score:.2f}", *([f"IoU {box.iou:.2f}"] if box.best else [])]
    size = 5 if box.best else 4
    # Approximate size of the label, in pixels of the image.
    right, bottom = axes.get_xlim()[1], axes.get_ylim()[0]
    point = right / (72 * PANEL_INCHES)
    width, height = 0.68 * size * point * max(map(len, lines)), 1.4 * size * point * len(lines)
    x1, x2 = max(box.x, 0), min(box.x + box.width, right)
    y1, y2 = max(box.y, 0), min(box.y + box.height, bottom)
    corners = [
        Bbox.from_bounds(
            max(min(x, right - width), 0), max(min(y, bottom - height), 0), width, height
        )
        for y in (y1, y2 - height, (y1 + y2 - height) / 2)
        for x in (x1, x2 - width)
    ]
    free = [corner for corner in corners if not corner.count_overlaps(taken)]
    place = (free or corners)[0]
    taken.append(place)
    axes.text(
        place.x0,
        place.y0,
        "\n".join(lines),
        va="top",
        fontsize=size,
        color="white",
        bbox={"facecolor": color, "edgecolor": "none", "pad": 0.4, "alpha": 0.85},
    )


def _nothing(table: pd.DataFrame, found: Found, min_score: float) -> str:
    why = "their detections fit the objects equally well"
    if not any(found.detections.values()):
        why = f"neither has a detection that scores at least {min_score:g}"
    return NOTHING.format(images=len(table), why=why)


def _caption(plan: Plan, table: pd.DataFrame, sources: dict[str, str], *, shows_pairs: bool) -> str:
    fits = table[table["kind"] == KINDS[True]]
    rule = RULE.format(found=FOUND_IOU, min_score=plan.config.examples.min_score)
    means = MEANS.format(
        images=len(table),
        baseline_mean=table[BASELINE].mean(),
        method_mean=table[METHOD].mean(),
        better=(table["gain"] > 0).sum(),
        worse=(table["gain"] < 0).sum(),
        fit=FIT.format(images=len(fits), baseline=fits[BASELINE].mean(), method=fits[METHOD].mean())
        if len(fits)
        else "; in none do both find all",
        **sources,
    )
    said = stamp(plan, plan.tables[plan.config.examples.table])
    return caption(f"{rule}{images_note(plan)}" if shows_pairs else "", means, said)

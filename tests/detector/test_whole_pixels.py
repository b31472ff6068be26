"""The pieces of MMDetection 1.x: each against its formula, written out again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmcv.ops import RoIAlign, batched_nms
from mmdet.models.task_modules.assigners import MaxIoUAssigner
from mmdet.registry import TASK_UTILS
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.structures import InstanceData
from torch import Tensor

from obc.detector.roi_align import SeparableRoIAlign
from obc.detector.whole_pixels import (
    WholePixelAnnotations,
    WholePixelDeltaCoder,
    WholePixelFlip,
    WholePixelOverlaps2D,
    WholePixelResize,
    WholePixelRoIExtractor,
    WholePixelSeparableRoIExtractor,
)

STDS = (0.1, 0.1, 0.2, 0.2)
seeds = st.integers(0, 2**32 - 1)
# A busy machine is slow, not wrong.
no_deadline = settings(deadline=None, max_examples=50)


def random_boxes(count: int, seed: int, extent: int = 500) -> Tensor:
    """Boxes in whole pixels of an image, some of one pixel."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.randint(0, extent, (2, count, 2), generator=generator).float()
    return torch.cat([corners.min(0).values, corners.max(0).values], dim=1)


def overlap_of_pixels(one: list[float], other: list[float]) -> float:
    """IoU with widths of x2 - x1 + 1, as in version 1's mmdet/core/bbox/geometry.py."""
    width = max(min(one[2], other[2]) - max(one[0], other[0]) + 1, 0)
    height = max(min(one[3], other[3]) - max(one[1], other[1]) + 1, 0)
    areas = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (one, other)]
    return width * height / (sum(areas) - width * height)


# --- the coder -----------------------------------------------------------------------------------


def decoded_by_version_1(
    roi: list[float], delta: list[float], shape: tuple[int, int]
) -> list[float]:
    """mmdet/core/bbox/transforms.py, delta2bbox, for one box and in Python's numbers."""
    limit = abs(np.log(16 / 1000))
    shift, change = (
        [part * std for part, std in zip(delta[at], STDS[at], strict=True)]
        for at in (slice(0, 2), slice(2, 4))
    )
    low, high = [], []
    for axis in (0, 1):
        size = roi[2 + axis] - roi[axis] + 1.0
        centre = (roi[axis] + roi[2 + axis]) * 0.5 + size * shift[axis]
        size *= np.exp(np.clip(change[axis], -limit, limit))
        last = shape[1 - axis] - 1
        low.append(np.clip(centre - size * 0.5 + 0.5, 0, last))
        high.append(np.clip(centre + size * 0.5 - 0.5, 0, last))
    return [*low, *high]


@given(st.integers(1, 40), seeds)
@no_deadline
def test_decoding_is_that_of_version_1(count: int, seed: int) -> None:
    coder, rois = WholePixelDeltaCoder(target_stds=STDS), random_boxes(count, seed)
    deltas = torch.randn(count, 4, generator=torch.Generator().manual_seed(seed)) * 8
    expected = torch.tensor(
        [
            decoded_by_version_1(roi, delta, (300, 400))
            for roi, delta in zip(rois.tolist(), deltas.tolist(), strict=True)
        ]
    )
    found = coder.decode(rois, deltas, max_shape=(300, 400))
    torch.testing.assert_close(found, expected.float(), atol=1e-2, rtol=1e-4)


@given(st.integers(1, 40), seeds)
@no_deadline
def test_a_box_comes_back_from_its_deltas(count: int, seed: int) -> None:
    coder = WholePixelDeltaCoder(target_stds=STDS, wh_ratio_clip=1e-6)
    boxes, truth = random_boxes(count, seed), random_boxes(count, seed + 1)
    decoded = coder.decode(boxes, coder.encode(boxes, truth))
    torch.testing.assert_close(decoded, truth, atol=2e-3, rtol=0)


def test_no_delta_leaves_a_box_where_it_is() -> None:
    coder, boxes = WholePixelDeltaCoder(), random_boxes(9, 0)
    torch.testing.assert_close(coder.decode(boxes, torch.zeros(9, 4)), boxes)


@pytest.mark.parametrize("count", [0, 5])
def test_the_predictions_of_several_classes_are_decoded_at_once(count: int) -> None:
    coder, rois = WholePixelDeltaCoder(target_stds=STDS), random_boxes(count, 1)
    deltas = torch.randn(count, 3, 4, generator=torch.Generator().manual_seed(0))
    each = [coder.decode(rois, deltas[:, k], (300, 400)) for k in range(3)]
    together = coder.decode(rois, deltas.flatten(1), (300, 400))
    assert torch.equal(together, torch.cat(each, dim=1))


def test_a_config_builds_the_coder_and_its_predictions_are_four_wide() -> None:
    coder = TASK_UTILS.build(
        {"type": "WholePixelDeltaCoder", "target_stds": [1, 1, 1, 1], "clip_border": True}
    )
    assert coder.encode_size == 4 and coder.delta_coder.legacy


# --- overlaps ------------------------------------------------------------------------------------


@given(st.integers(1, 12), st.integers(1, 12), seeds)
@no_deadline
def test_overlaps_are_those_of_version_1(rows: int, columns: int, seed: int) -> None:
    first, second = random_boxes(rows, seed, 30), random_boxes(columns, seed + 1, 30)
    expected = torch.tensor(
        [[overlap_of_pixels(one, other) for other in second.tolist()] for one in first.tolist()]
    )
    torch.testing.assert_close(WholePixelOverlaps2D()(first, second), expected)
    aligned = WholePixelOverlaps2D()(first, first.flip(0), is_aligned=True)
    pairs = zip(first.tolist(), first.flip(0).tolist(), strict=True)
    torch.testing.assert_close(aligned, torch.tensor([overlap_of_pixels(*pair) for pair in pairs]))


def test_overlaps_leave_the_boxes_as_they_are_and_take_any_kind() -> None:
    boxes = random_boxes(3, 0)
    before = boxes.clone()
    found = WholePixelOverlaps2D()(HorizontalBoxes(boxes), torch.cat([boxes, boxes[:, :1]], 1))
    assert torch.equal(boxes, before)
    torch.testing.assert_close(found.diagonal(), torch.ones(3))
    assert WholePixelOverlaps2D()(boxes[:0], boxes).shape == (0, 3)


def test_an_assigner_takes_the_overlap_of_whole_pixels() -> None:
    # 2 of 3 pixels in common, 4 in all: .5. Edges would say 1 of 3.
    truth, prior = torch.tensor([[0.0, 0, 2, 0]]), torch.tensor([[1.0, 0, 3, 0]])
    assigner = MaxIoUAssigner(
        pos_iou_thr=0.5, neg_iou_thr=0.5, iou_calculator={"type": "WholePixelOverlaps2D"}
    )
    result = assigner.assign(
        InstanceData(priors=prior), InstanceData(bboxes=truth, labels=torch.tensor([0]))
    )
    assert (result.gt_inds.tolist(), result.max_overlaps.tolist()) == ([1], [0.5])


@given(st.integers(2, 30), seeds)
@no_deadline
def test_nms_suppresses_by_the_overlap_of_whole_pixels_and_within_a_class_only(
    count: int, seed: int
) -> None:
    boxes = random_boxes(count, seed, 12)
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randperm(count, generator=generator).float() / count
    classes = torch.randint(0, 3, (count,), generator=generator)
    kept: list[int] = []
    for index in scores.argsort(descending=True).tolist():
        rivals = [one for one in kept if classes[one] == classes[index]]
        ious = [overlap_of_pixels(boxes[index].tolist(), boxes[one].tolist()) for one in rivals]
        if all(iou <= 0.5 for iou in ious):
            kept.append(index)
    config = {"type": "nms", "iou_threshold": 0.5, "offset": 1}
    assert batched_nms(boxes, scores, classes, config)[1].tolist() == kept


# --- RoIs ----------------------------------------------------------------------------------------

LEVELS = (4, 8)
EXTRACTORS = {"mmcv": WholePixelRoIExtractor, "separable": WholePixelSeparableRoIExtractor}


def features(strides: tuple[int, ...] = LEVELS) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(2, 3, 96 // s, 128 // s, generator=generator) for s in strides)


def rois(count: int, seed: int) -> Tensor:
    boxes = random_boxes(count, seed, 96)
    images = torch.arange(count) * 2 // count
    return torch.cat([images[:, None].float(), boxes], 1)


def extractor(kind: str, strides: tuple[int, ...] = LEVELS, finest_scale: int = 16) -> Any:
    layer = {"type": "RoIAlign", "output_size": 3, "sampling_ratio": 2, "aligned": False}
    return EXTRACTORS[kind](layer, 3, list(strides), finest_scale=finest_scale)


def pooled_by_version_1(level: Tensor, roi: list[float], scale: float) -> Tensor:
    """mmdet/ops/roi_align/src/roi_align_kernel.cu for one RoI, 3 x 3 bins of 2 x 2 samples."""
    image, x1, y1, x2, y2 = roi
    height, width = level.shape[-2:]
    axes = []
    for start, end, extent in ((y1, y2, height), (x1, x2, width)):
        length = max((end + 1) * scale - start * scale, 0.0)
        points = [start * scale + length * (step + 0.5) / 6 for step in range(6)]
        axes.append([(point, extent) for point in points])
    samples = torch.zeros(3, 6, 6)
    for row, (y, _) in enumerate(axes[0]):
        for column, (x, _) in enumerate(axes[1]):
            if -1 <= y <= height and -1 <= x <= width:
                samples[:, row, column] = bilinear(level[int(image)], y, x)
    return samples.unfold(1, 2, 2).unfold(2, 2, 2).mean((-1, -2))


def bilinear(maps: Tensor, y: float, x: float) -> Tensor:
    height, width = maps.shape[-2:]
    y, x = (min(max(at, 0.0), extent - 1.0) for at, extent in ((y, height), (x, width)))
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    upper = maps[:, top, left] * (left + 1 - x) + maps[:, top, right] * (x - left)
    lower = maps[:, bottom, left] * (left + 1 - x) + maps[:, bottom, right] * (x - left)
    return upper * (top + 1 - y) + lower * (y - top)


@pytest.mark.parametrize("kind", EXTRACTORS)
@given(st.integers(2, 8), seeds)
@settings(deadline=None, max_examples=15)
def test_features_are_those_of_version_1_s_kernel(kind: str, count: int, seed: int) -> None:
    (level,), regions = features((8,)), rois(count, seed)
    found = extractor(kind, (8,))((level,), regions)
    expected = torch.stack([pooled_by_version_1(level, roi, 1 / 8) for roi in regions.tolist()])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", EXTRACTORS)
def test_features_are_roialign_s_of_boxes_a_pixel_larger(kind: str) -> None:
    (level,), regions = features((4,)), rois(20, 3)
    larger = regions + torch.tensor([0.0, 0, 0, 1, 1])
    # RoIAlign enlarges what is smaller than a feature pixel, which version 1 did not.
    at_least_a_pixel = (larger[:, 3:] - larger[:, 1:3] >= 4).all(1)
    expected = RoIAlign(3, 1 / 4, 2, aligned=False)(level, larger[at_least_a_pixel])
    found = extractor(kind, (4,))((level,), regions)[at_least_a_pixel]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_the_level_is_that_of_the_larger_box() -> None:
    # 32 pixels are twice the finest scale, 31 are not.
    box = torch.tensor([[0.0, 0, 0, 31, 31], [1.0, 0, 0, 30, 31]])
    first, second = (RoIAlign(3, 1 / s, 2, aligned=False) for s in LEVELS)
    larger = box + torch.tensor([0.0, 0, 0, 1, 1])
    maps = features()
    found = extractor("mmcv")(maps, box)
    torch.testing.assert_close(found[:1], second(maps[1], larger[:1]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[1:], first(maps[0], larger[1:]), atol=1e-5, rtol=1e-5)


def test_a_box_that_rounding_turns_inside_out_is_pooled() -> None:
    box = torch.tensor([[0.0, 20, 20, 18.9, 18.9]])
    for kind in EXTRACTORS:
        assert extractor(kind)(features(), box).isfinite().all()


def test_an_aligned_layer_is_refused() -> None:
    with pytest.raises(ValueError, match=r"aligned=True: WholePixelRoIExtractor .* allowed is Fal"):
        WholePixelRoIExtractor({"type": "RoIAlign", "output_size": 3, "aligned": True}, 3, [4])


def test_the_separable_extractor_is_separable() -> None:
    layers = [layer.aligned_layer for layer in extractor("separable").roi_layers]
    assert all(isinstance(layer, SeparableRoIAlign) for layer in layers)


# --- the data ------------------------------------------------------------------------------------


def loaded(boxes: list[list[float]], height: int = 40, width: int = 60) -> dict[str, Any]:
    """An image and its annotations after WholePixelAnnotations; boxes are given by their edges."""
    results: dict[str, Any] = {
        "img": np.zeros((height, width, 3), np.uint8),
        "instances": [{"bbox": box, "ignore_flag": 0, "bbox_label": 0} for box in boxes],
    }
    return WholePixelAnnotations(with_bbox=True).transform(results)


def test_annotations_name_their_last_pixel() -> None:
    # Version 1's CocoDataset: [x1, y1, x1 + w - 1, y1 + h - 1].
    results = loaded([[3.0, 4.0, 3.0 + 10, 4.0 + 5]])
    assert results["gt_bboxes"].tensor.tolist() == [[3, 4, 12, 8]]
    assert loaded([])["gt_bboxes"].tensor.shape == (0, 4)


@given(
    st.integers(33, 90), st.integers(33, 90), st.tuples(st.integers(40, 99), st.integers(40, 99))
)
@no_deadline
def test_boxes_are_resized_by_one_factor_and_clipped_to_the_last_pixel(
    height: int, width: int, scale: tuple[int, int]
) -> None:
    results = loaded([[2.0, 3.0, width - 5, height - 9], [0.0, 0, width, height]], height, width)
    results = WholePixelResize(scale=scale, keep_ratio=True).transform(results)
    factor = min(max(scale) / max(height, width), min(scale) / min(height, width))
    assert results["scale_factor"] == (factor, factor)
    new_height, new_width = results["img"].shape[:2]
    assert (new_height, new_width) == (int(height * factor + 0.5), int(width * factor + 0.5))
    last = [new_width - 1, new_height - 1]
    boxes = [[2, 3, width - 6, height - 10], [0, 0, width - 1, height - 1]]
    expected = [[min(at * factor, last[k % 2]) for k, at in enumerate(box)] for box in boxes]
    torch.testing.assert_close(results["gt_bboxes"].tensor, torch.tensor(expected))


@given(st.integers(5, 30), st.integers(5, 30), seeds)
@no_deadline
def test_a_flip_takes_a_box_s_pixels_to_the_flipped_box_s(
    height: int, width: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    (x1, x2), (y1, y2) = (sorted(random.integers(0, side, 2)) for side in (width, height))
    results = loaded([[x1, y1, x2 + 1, y2 + 1]], height, width)
    results["img"][y1 : y2 + 1, x1 : x2 + 1] = 255
    for direction in ("horizontal", "vertical", "diagonal"):
        flipped = WholePixelFlip(prob=1.0, direction=direction).transform(
            {**results, "gt_bboxes": results["gt_bboxes"].clone()}
        )
        left, top, right, bottom = map(int, flipped["gt_bboxes"].tensor[0].tolist())
        inside = np.zeros((height, width, 3), np.uint8)
        inside[top : bottom + 1, left : right + 1] = 255
        assert np.array_equal(flipped["img"], inside)


def test_a_pipeline_without_annotations_resizes_and_flips_the_image() -> None:
    results = {"img": np.zeros((40, 60, 3), np.uint8)}
    results = WholePixelResize(scale=(90, 60), keep_ratio=True).transform(results)
    assert results["scale_factor"] == (1.5, 1.5)
    assert WholePixelFlip(prob=1.0).transform(results)["img"].shape == (60, 90, 3)

"""Looking into a head: what is read from its output, and that it is what a test sees."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator

import pytest
import torch
from conftest import PROJECT
from inside_fixtures import (
    FIVE_BINS,
    OBJECT,
    PROPOSAL,
    made_up_view,
    save_untrained,
    untrained_plan,
)
from mmdet.structures.bbox import bbox_overlaps
from mmengine.dataset import pseudo_collate

from obc.bins import OffsetBins
from obc.config.plan import Plan
from obc.detector.trained import WeightsError
from obc.evaluation.evaluate import detect_in
from obc.evaluation.head_view import (
    InsideError,
    TrainedDetector,
    box_ious,
    ideal_ious,
    ideal_offsets,
    load_trained,
    look,
    target_offsets,
)

pytestmark = pytest.mark.xdist_group("head_view")  # whose worker builds the detectors, once

# x: .6 at 0 and .4 at 2, so argmax 0 and expectation .8; y, w, h: all at 0.
LEANING = torch.tensor([[0, 0, 0.6, 0.4, 0, 0, 0]] + [[0, 0, 1.0, 0, 0, 0, 0]] * 3)[None, :, None]


def run_id(plan: Plan, beginning: str) -> str:
    return next(name for name in plan.runs if name.startswith(beginning))


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plan]:
    folder = tmp_path_factory.mktemp("inside")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        plan = untrained_plan(folder, PROJECT)
        for method in ("voc-faster-r50-obc-a3-n20-k2", "voc-cascade-r50-obc"):
            save_untrained(plan, run_id(plan, method))
        yield plan


@pytest.fixture(scope="module")
def trained(plan: Plan) -> TrainedDetector:
    return load_trained(plan, run_id(plan, "voc-faster-r50-obc-a3-n20-k2"), 0)


# --- a made-up head ----------------------------------------------------------------------------


def test_argmax_and_expectation_are_those_of_the_probabilities() -> None:
    view = made_up_view(LEANING)
    assert view.probabilities[0, 0, 0].tolist() == pytest.approx(LEANING[0, 0, 0].tolist())
    assert view.argmax.offsets[0, :, 0].tolist() == [0, 0, 0, 0]
    assert view.expectation.offsets[0, :, 0].tolist() == pytest.approx([0.8, 0, 0, 0])


def test_boxes_move_by_the_offset_times_its_standard_deviation_and_the_proposals_side() -> None:
    view = made_up_view(LEANING)
    assert view.argmax.boxes[0, 0].tolist() == PROPOSAL[0].tolist()
    # .8 of .1 of 20 pixels
    assert view.expectation.boxes[0, 0].tolist() == pytest.approx([11.6, 20, 31.6, 60])


def test_the_true_offset_is_the_one_to_the_object_that_overlaps_most() -> None:
    far = torch.tensor([[0.0, 20.0, 20.0, 60.0]])
    view = made_up_view(LEANING, objects=torch.cat([far, OBJECT]))
    assert view.matched.tolist() == [1]
    assert view.ious.tolist() == pytest.approx([18 / 22])
    assert view.offsets[0].tolist() == pytest.approx([1, 0, 0, 0], abs=1e-6)
    assert view.truth.tolist() == OBJECT.tolist()


@pytest.mark.parametrize("objects", [torch.empty(0, 4), torch.tensor([[80.0, 80.0, 90.0, 90.0]])])
def test_a_roi_that_overlaps_nothing_has_no_true_offset(objects: torch.Tensor) -> None:
    view = made_up_view(LEANING, objects=objects)
    assert view.matched.tolist() == [-1]
    assert view.offsets.isnan().all() and view.truth.isnan().all()
    assert len(view.positive()) == 0


def test_a_class_specific_head_is_read_for_its_most_probable_class() -> None:
    cat, dog = LEANING, LEANING.flip(1)
    view = made_up_view(
        torch.stack([cat, dog], dim=1),
        scores=torch.tensor([[0.1, 0.3, 0.6]]),
        class_agnostic=False,
    )
    assert view.expectation.offsets[0, :, 0].tolist() == pytest.approx([0, 0, 0, 0.8])


def test_the_range_of_a_stage_is_what_its_edges_can_reach() -> None:
    view = made_up_view(LEANING, bins=OffsetBins(num_bins=5, max_offset=1.0))
    # Centre: .16 of the expectation * .1 * 20 = .32 to the right, moved by .1 of each side; half
    # sides: 10 and 20, scaled by exp(.2).
    (outer, inner), large, small = view.stage_ranges(0)[0], math.exp(0.2), math.exp(-0.2)
    assert outer.tolist() == pytest.approx(
        [20 - 2 - 10 * large, 40 - 4 - 20 * large, 20 + 2 + 10 * large, 40 + 4 + 20 * large]
    )
    assert inner.tolist() == pytest.approx(
        [20 + 2 - 10 * small, 40 + 4 - 20 * small, 20 - 2 + 10 * small, 40 - 4 + 20 * small]
    )


def test_the_range_of_a_later_stage_lies_around_the_box_of_the_stage_before() -> None:
    view = made_up_view(LEANING.repeat(1, 1, 2, 1), OffsetBins(5, 5.0, num_stages=2))
    middle = view.stage_ranges(1)[0].mean(0)
    assert middle[0::2].mean() == pytest.approx(20 + 1.6)
    assert middle[1::2].mean() == pytest.approx(40)


def test_ideal_offsets_are_the_centres_of_the_right_bins_and_cut_beyond_the_range() -> None:
    offsets = torch.tensor([0.9, -3.3, 7.0, -100.0])
    assert ideal_offsets(FIVE_BINS, offsets).tolist() == [0, -4, 5, -5]


def test_a_second_stage_leaves_ideal_offsets_half_a_bin_of_its_own_off() -> None:
    bins = OffsetBins(num_bins=20, max_offset=3.0, num_stages=2)
    offsets = torch.linspace(-2.99, 2.99, 1001)
    error = (ideal_offsets(bins, offsets) - offsets).abs()
    assert error.max() <= bins.widths[1] / 2 + 1e-5


def test_ideal_ious_are_those_that_wide_bins_allow() -> None:
    view = made_up_view(LEANING)
    # The true offset, 1, is on the edge of the bin of 2: 4 pixels to the right instead of 2.
    assert ideal_ious(view, FIVE_BINS).tolist() == pytest.approx([18 / 22])


# --- a detector --------------------------------------------------------------------------------


def test_what_is_seen_inside_is_what_a_test_detects(trained: TrainedDetector) -> None:
    image_id, row = next(iter(trained.image_rows.items()))
    view = look(trained, image_id)
    with torch.inference_mode():
        (sample,) = trained.model.test_step(pseudo_collate([trained.dataset[row]]))
    found = sample.pred_instances
    same = bbox_overlaps(found.bboxes, view.expectation.boxes[:, -1]) > 0.999
    same &= (found.scores[:, None] - view.scores[:, found.labels].T).abs() < 1e-4
    assert len(found) > 0 and same.any(1).all()


def test_every_tensor_has_its_documented_shape(trained: TrainedDetector) -> None:
    view = look(trained, next(iter(trained.image_rows)))
    rois, classes = len(view), len(view.classes)
    assert view.scores.shape == (rois, classes + 1)
    assert view.probabilities.shape == (rois, 4, 2, 22)
    assert view.expectation.offsets.shape == view.argmax.offsets.shape == (rois, 4, 2)
    assert view.expectation.boxes.shape == view.argmax.boxes.shape == (rois, 2, 4)
    assert view.stage_ranges(1).shape == (rois, 2, 4)
    assert view.image_path.exists()


def test_in_a_cascade_the_first_head_is_looked_into(plan: Plan) -> None:
    trained = load_trained(plan, run_id(plan, "voc-cascade-r50-obc"), 0)
    assert trained.head is trained.model.roi_head.bbox_head[0]
    view = look(trained, next(iter(trained.image_rows)))
    assert view.probabilities.shape[1:] == (4, 1, 22)


def test_target_offsets_are_of_proposals_that_overlap_an_object_by_half(
    trained: TrainedDetector,
) -> None:
    offsets = torch.cat([target_offsets(trained, image_id) for image_id in trained.image_rows])
    assert len(offsets) > 0 and offsets.isfinite().all()
    # At an IoU of .5 or more a side is at most doubled or halved, a centre moved by half a side.
    assert (offsets.abs() <= torch.tensor([5, 5, 3.47, 3.47])).all()


# --- boxes in whole pixels ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def of_version_1(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Plan, str]]:
    """A plan under protocol `paper_v1`, images enlarged by 1.5, and an untrained run of it."""
    folder = tmp_path_factory.mktemp("version-1")
    change = {"sizes.image_scale": {"voc": [96, 96], "coco": [96, 96], "init": [96, 96]}}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        plan = untrained_plan(folder, PROJECT, protocol="paper_v1", label="x", change=change)
        name = run_id(plan, "voc-faster-r50-obc-a3-n20-k1")
        save_untrained(plan, name)
        yield plan, name


def test_objects_are_those_that_the_network_is_trained_on(of_version_1: tuple[Plan, str]) -> None:
    trained = load_trained(*of_version_1, 0)
    assert trained.coder.delta_coder.legacy
    for image_id, row in trained.image_rows.items():
        view = look(trained, image_id)
        objects = [one["bbox"] for one in trained.dataset.get_data_info(row)["instances"]]
        # The last pixel, x2 - 1, is scaled; its far edge is a pixel further.
        x1, y1, x2, y2 = (torch.tensor(objects).T - torch.tensor([[0.0], [0], [1], [1]])) * 1.5
        torch.testing.assert_close(view.objects, torch.stack([x1, y1, x2 + 1, y2 + 1], 1))


def test_overlaps_and_offsets_are_of_whole_pixels(of_version_1: tuple[Plan, str]) -> None:
    trained = load_trained(*of_version_1, 0)
    view = look(trained, next(iter(trained.image_rows)))
    seen = view.take(view.matched >= 0)
    ious = bbox_overlaps(seen.proposals, seen.truth, is_aligned=True)
    torch.testing.assert_close(seen.ious, ious)
    # What the true offsets move the proposals to are the objects.
    torch.testing.assert_close(seen.boxes_at(seen.offsets), seen.truth, atol=1e-2, rtol=0)
    assert (seen.proposals[:, 2:] <= 96).all()


def test_detections_are_written_with_their_last_pixel(of_version_1: tuple[Plan, str]) -> None:
    plan, name = of_version_1
    files = plan.index_folder("voc").files()
    found, model = detect_in(files, plan, name, 0, "expectation", io.StringIO())
    trained = load_trained(plan, name, 0)
    image_id, row = next(iter(trained.image_rows.items()))
    with torch.inference_mode():
        (sample,) = model.test_step(pseudo_collate([trained.dataset[row]]))
    x1, y1, x2, y2 = sample.pred_instances.bboxes.cpu().T
    expected = torch.stack([x1, y1, x2 - x1 + 1, y2 - y1 + 1], 1)
    written = torch.tensor([one["bbox"] for one in found if one["image_id"] == image_id])
    torch.testing.assert_close(written.float(), expected, atol=1e-3, rtol=1e-4)


# --- refused -----------------------------------------------------------------------------------


def test_a_run_without_bins_is_refused_with_those_that_have_them(plan: Plan) -> None:
    with pytest.raises(InsideError, match=r"smoothl1.* has no bins; .*\n  voc-.*obc") as refused:
        load_trained(plan, run_id(plan, "voc-faster-r50-smoothl1"), 0)
    assert "l2" not in str(refused.value)


def test_a_run_that_is_not_trained_is_named_with_the_remedy(plan: Plan) -> None:
    with pytest.raises(WeightsError, match=r"final\.pth: not there; train the run first"):
        load_trained(plan, run_id(plan, "voc-faster-r50-obc-a3-n20-k3"), 0)


def test_an_image_of_another_set_is_refused_with_the_ids_that_there_are(
    trained: TrainedDetector,
) -> None:
    with pytest.raises(InsideError, match=r"image 9999 is not in the validation set; .*, \.\.\., "):
        look(trained, 9999)


def test_ious_are_of_the_boxes_of_the_same_row() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10]])
    truth = torch.tensor([[0.0, 0, 10, 10], [0, 0, 5, 10]])
    assert box_ious(boxes, truth).tolist() == pytest.approx([1, 0.5])

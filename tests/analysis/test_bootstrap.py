"""The bootstrap: resamples against the evaluator run again, intervals against known variances."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from detection_scenes import (
    Detections,
    Truth,
    objects_and_detections,
    scene,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from obc.analysis.bootstrap import (
    RESAMPLED_METRICS,
    difference_interval,
    half_width,
    image_weights,
    resampled_ap,
)
from obc.evaluation.matching import DetectionsError, Matches, match
from obc.evaluation.metrics import average_precision, difficult_ignored


def resampled(truth: Truth, detections: Detections, weights: np.ndarray) -> tuple[Truth, Any]:
    """The data set with each image as often as its weight says; ids in the order of the images."""
    ids = sorted(image["id"] for image in truth["images"])
    copies = {
        image_id: [1000 * image_id + copy for copy in range(weight)]
        for image_id, weight in zip(ids, weights, strict=True)
    }

    def copied(entries: list[dict]) -> list[dict]:
        return [{**each, "image_id": new} for each in entries for new in copies[each["image_id"]]]

    images = [{**image, "id": new} for image in truth["images"] for new in copies[image["id"]]]
    annotations = [
        {**annotation, "id": number}
        for number, annotation in enumerate(copied(truth["annotations"]), start=1)
    ]
    return {**truth, "images": images, "annotations": annotations}, copied(detections)


def assert_equals_evaluating_again(
    truth: Truth, detections: Detections, weights: np.ndarray
) -> None:
    found = resampled_ap(match(truth, detections), weights)
    for index, row in enumerate(weights):
        evaluated, _ = average_precision(*resampled(truth, detections, row))
        expected = {
            name: math.nan if evaluated[name] is None else evaluated[name]
            for name in RESAMPLED_METRICS
        }
        ours = {name: values[index] for name, values in found.items()}
        assert ours == pytest.approx(expected, abs=1e-9, nan_ok=True)


def assert_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert one[name] == pytest.approx(other[name], abs=1e-9), name


def once(truth: Truth) -> np.ndarray:
    return np.ones((1, len(truth["images"])), dtype=np.int32)


@pytest.mark.parametrize("seed", range(4))
def test_a_resample_equals_evaluating_the_resampled_images(seed: int) -> None:
    truth, detections = scene(seed)
    assert_equals_evaluating_again(truth, detections, image_weights(13, 12, seed))


def test_so_it_does_when_difficult_objects_are_ignored() -> None:
    truth, detections = scene(seed=0)
    assert any(annotation["difficult"] for annotation in truth["annotations"])
    assert_equals_evaluating_again(difficult_ignored(truth), detections, image_weights(13, 12, 0))


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=13, max_size=13).filter(any))
def test_any_multiplicities_equal_as_many_copies(multiplicities: list[int]) -> None:
    truth, detections = scene(seed=1)
    assert_equals_evaluating_again(truth, detections, np.array([multiplicities]))


def test_images_with_equal_scores_are_taken_in_the_order_of_their_ids() -> None:
    # Fifty at two scores: few or all equal, a sort that is not stable might keep their order too.
    detected = [(image, (0.5, 0.6)[image % 2], image % 3 == 0) for image in range(50)]
    truth, detections = objects_and_detections(50, detected[::-1])
    assert_equals_evaluating_again(truth, detections, image_weights(50, 5, 0))


def test_only_the_hundred_best_detections_of_an_image_count() -> None:
    truth, detections = objects_and_detections(
        2, [(0, 1 - rank / 1000, False) for rank in range(100)] + [(0, 0.5, True), (1, 0.4, True)]
    )
    assert_equals_evaluating_again(truth, detections, np.array([[1, 1], [2, 1]]))
    # The object of image 0 is beyond them, hence out of reach.
    assert resampled_ap(match(truth, detections), np.array([[1, 0]]))["AP50"] == [0.0]


@pytest.mark.parametrize("found", [7, 14, 28, 29, 56, 57, 58])
def test_a_recall_that_just_reaches_a_recall_point_is_rounded_as_the_evaluator_rounds_it(
    found: int,
) -> None:
    truth, detections = objects_and_detections(100, [(i, 0.9, True) for i in range(found)])
    assert_equals_evaluating_again(truth, detections, once(truth))


@pytest.mark.parametrize("seed", range(4))
def test_weights_of_one_give_what_the_evaluator_gives(seed: int) -> None:
    truth, detections = scene(seed)
    metrics, _ = average_precision(truth, detections)
    found = resampled_ap(match(truth, detections), once(truth))
    expected = {name: metrics[name] for name in RESAMPLED_METRICS}
    assert {name: values[0] for name, values in found.items()} == pytest.approx(expected, abs=1e-9)


def test_no_detection_at_all_scores_zero() -> None:
    truth, _ = scene(seed=0)
    assert resampled_ap(match(truth, []), once(truth))["AP"] == [0.0]


def test_a_resample_without_any_object_is_undefined() -> None:
    truth, detections = objects_and_detections(2, [(0, 0.9, True)])
    del truth["annotations"][1]
    found = resampled_ap(match(truth, detections), np.array([[0, 2], [1, 1]]))
    assert {name: np.isnan(values).tolist() for name, values in found.items()} == {
        name: [True, False] for name in RESAMPLED_METRICS
    }


def test_copies_weigh_both_precision_and_recall() -> None:
    truth, detections = objects_and_detections(2, [(1, 0.95, False), (0, 0.9, True)])
    found = resampled_ap(match(truth, detections), np.array([[2, 1]]))
    # One false positive, then two copies of a true one, of three objects: recall 2/3 reaches the
    # 67 points 0, 0.01, ..., 0.66, all at the best precision 2/3.
    assert found["AP50"] == pytest.approx(100 * 2 / 3 * 67 / 101)


def test_drawing_every_image_twice_changes_nothing() -> None:
    truth, detections = scene(seed=2)
    matches = match(truth, detections)
    assert_same(resampled_ap(matches, once(truth)), resampled_ap(matches, 2 * once(truth)))


def test_the_order_of_images_and_detections_does_not_matter() -> None:
    truth, detections = scene(seed=3)
    shuffled = {**truth, "images": truth["images"][::-1]}
    weights = image_weights(13, 5, 0)
    one, other = match(truth, detections), match(shuffled, detections[::-1])
    assert one.image_ids == other.image_ids
    assert_same(resampled_ap(one, weights), resampled_ap(other, weights))


def test_each_resample_stands_alone() -> None:
    truth, detections = scene(seed=0)
    matches = match(truth, detections)
    weights = image_weights(13, 150, 0)  # more than are computed at once
    alone = [resampled_ap(matches, weights[index : index + 1])["AP"][0] for index in (0, 70, 149)]
    assert resampled_ap(matches, weights)["AP"][[0, 70, 149]] == pytest.approx(alone)


def test_the_ground_truth_and_the_detections_are_left_as_they_were() -> None:
    truth, detections = scene(seed=0)
    match(truth, detections)
    assert (truth, detections) == scene(seed=0)


@pytest.mark.parametrize("key", ["image_id", "category_id"])
def test_detections_of_another_data_set_are_refused(key: str) -> None:
    truth, detections = objects_and_detections(2, [(0, 0.9, True)])
    with pytest.raises(DetectionsError, match=f"{key} 99: not among the"):
        match(truth, [detections[0] | {key: 99}])


@pytest.mark.parametrize(
    "weights", [np.ones((1, 4), int), np.ones(3, int), np.ones((1, 3)), -np.ones((1, 3), int)]
)
def test_weights_that_are_no_multiplicities_are_refused(weights: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"integers >= 0 of shape \(resamples, 3\)"):
        resampled_ap(Matches((0, 1, 2), ()), weights)


def test_as_many_images_are_drawn_as_there_are() -> None:
    weights = image_weights(50, 2000, seed=0)
    assert weights.shape == (2000, 50) and weights.dtype == np.int32
    assert (weights.sum(axis=1) == 50).all() and weights.min() == 0
    # Binomial(50, 1/50): mean 1, variance 0.98.
    assert weights.mean() == 1
    assert weights.var() == pytest.approx(0.98, rel=0.03)


def test_a_seed_fixes_the_draw() -> None:
    assert (image_weights(9, 7, seed=3) == image_weights(9, 7, seed=3)).all()
    assert (image_weights(9, 7, seed=3) != image_weights(9, 7, seed=4)).any()


def test_nothing_can_be_drawn_from_no_image() -> None:
    with pytest.raises(ValueError, match="0 images, 5 resamples: must be at least 1"):
        image_weights(0, 5, seed=0)


def test_the_spread_of_resamples_is_the_sampling_error() -> None:
    # Half of 400 objects found and nothing false: AP50 is the recall, a proportion, whose
    # standard error is sqrt(0.5 * 0.5 / 400) = 2.5 percent.
    truth, detections = objects_and_detections(400, [(i, 0.9, True) for i in range(200)])
    found = resampled_ap(match(truth, detections), image_weights(400, 2000, seed=0))
    assert found["AP50"].std() == pytest.approx(2.5, rel=0.05)
    assert found["AP50"].mean() == pytest.approx(50, abs=0.5)


FOUR = np.array([0.0, 2.0, 4.0])  # variance (4 + 0 + 4) / 2 = 4


def test_without_a_seed_estimate_the_interval_is_the_bootstraps_and_normal() -> None:
    interval = difference_interval(FOUR, 1.0, seed_variance=0.0, seed_degrees=0)
    assert interval.standard_error == pytest.approx(2)
    # 1.959964: the normal 97.5 % quantile.
    assert (interval.low, interval.high) == pytest.approx((1 - 3.919928, 1 + 3.919928))


def test_with_seeds_alone_the_interval_is_students() -> None:
    interval = difference_interval(np.full(5, 1.0), 1.0, seed_variance=4.0, seed_degrees=2)
    assert interval.standard_error == pytest.approx(2)
    # 4.302653: Student's 97.5 % quantile with 2 degrees of freedom.
    assert (interval.low, interval.high) == pytest.approx((1 - 8.605306, 1 + 8.605306))


def test_the_margins_of_images_and_trainings_add_as_standard_errors_do() -> None:
    interval = difference_interval(FOUR, 0.0, seed_variance=4.0, seed_degrees=2)
    assert interval.standard_error == pytest.approx(math.sqrt(8))
    # Normal 1.959964 for the images, Student's 4.302653 with 2 degrees for the trainings.
    assert interval.high == -interval.low == pytest.approx(2 * math.hypot(1.959964, 4.302653))


@pytest.mark.parametrize("degrees", range(2, 9))
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 1.0])
def test_no_interval_leaves_out_the_truth_more_often_than_it_says(
    degrees: int, share: float
) -> None:
    """Of a true variance of 1, `share` is the trainings', estimated with so many degrees."""
    random = np.random.default_rng(degrees)
    draws = 100_000
    differences = random.normal(size=draws)
    estimated = share * random.chisquare(degrees, draws) / degrees
    for confidence in (0.90, 0.95, 1 - 0.05 / 6):
        outside = np.abs(differences) > half_width(1 - share, estimated, degrees, confidence)
        # Four standard errors of a share of 100,000 draws.
        tolerance = 4 * math.sqrt(confidence * (1 - confidence) / draws)
        assert outside.mean() <= 1 - confidence + tolerance


def test_confidence_sets_the_quantile() -> None:
    interval = difference_interval(FOUR, 0.0, 0.0, 0, confidence=0.9)
    assert interval.high == pytest.approx(2 * 1.644854)


@pytest.mark.parametrize(
    ("differences", "difference", "variance", "degrees", "confidence", "message"),
    [
        ([1.0], 1.0, 0.0, 0, 0.95, "1 bootstrap differences"),
        ([1.0, math.nan], 1.0, 0.0, 0, 0.95, "1 finite"),
        ([1.0, 2.0], math.nan, 0.0, 0, 0.95, "difference nan"),
        ([1.0, 2.0], 1.0, -1.0, 2, 0.95, "must be >= 0"),
        ([1.0, 2.0], 1.0, math.nan, 2, 0.95, "must be >= 0"),
        ([1.0, 2.0], 1.0, 1.0, 0, 0.95, "with 0 degrees of freedom: must be 0"),
        ([1.0, 2.0], 1.0, 0.0, 0, 95, "confidence 95"),
    ],
)
def test_an_interval_of_nonsense_is_refused(
    differences: list[float],
    difference: float,
    variance: float,
    degrees: int,
    confidence: float,
    message: str,
) -> None:
    with pytest.raises(ValueError, match=message):
        difference_interval(np.array(differences), difference, variance, degrees, confidence)


def test_intervals_cover_the_truth_as_often_as_they_say_and_not_without_the_trainings() -> None:
    # 1000 experiments whose true difference is 0: each image adds N(0, 200), so that the mean over
    # 200 images has variance 1; each of 6 trainings adds N(0, 6) to it, their mean variance 1.
    experiments, images, seeds = 1000, 200, 6
    random = np.random.default_rng(0)
    by_image = random.normal(0, math.sqrt(images), (experiments, images))
    by_seed = random.normal(0, math.sqrt(seeds), (experiments, seeds))
    measured = by_image.mean(axis=1) + by_seed.mean(axis=1)
    draws = by_image @ image_weights(images, 500, seed=0).T / images
    draws += by_seed.mean(axis=1, keepdims=True)
    variances = by_seed.var(axis=1, ddof=1) / seeds

    def coverage(seed_variances: np.ndarray, degrees: int) -> float:
        intervals = [
            difference_interval(draws[index], measured[index], seed_variances[index], degrees)
            for index in range(experiments)
        ]
        return float(np.mean([interval.low < 0 < interval.high for interval in intervals]))

    # At least what it says; standard error of a coverage: sqrt(0.95 * 0.05 / 1000) = 0.7 percent.
    assert 0.95 - 0.021 <= coverage(variances, seeds - 1) <= 0.98
    # Half the variance left out: P(|N(0, 1)| < 1.96 / sqrt(2)) = 0.834.
    assert coverage(np.zeros(experiments), 0) == pytest.approx(0.834, abs=0.035)

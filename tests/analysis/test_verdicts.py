"""Judged claims: intervals over images and trainings, what is missing, and the page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from claim_fixtures import NOISE, REASON, ROWS, TABLE, evaluated, judged, plan_with, resampler
from report_fixtures import measure, plan_of, run_folder

from obc.analysis.collect import IncompleteError
from obc.analysis.seed_spread import Sampled
from obc.analysis.verdicts import Resampling, judge
from obc.config.load_plan import load_plan
from obc.datasets.errors import DatasetError
from obc.evaluation.detections_file import DetectionsFileError, save_detections
from obc.evaluation.metrics import average_precision
from obc.io.typed_yaml import ConfigError
from obc.report.tables.claims import markdown, report

# --- a comparison ------------------------------------------------------------------------------


def test_images_that_move_both_sides_alike_leave_the_difference_certain(tmp_path: Path) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2]]", seeds=(0, 1))
    evaluated(plan, l1=[45.0, 45.0], l2=[44.5, 44.5])
    (found,) = judged(plan)
    assert (found.low, found.difference, found.high) == pytest.approx((0.5, 0.5, 0.5))
    assert (found.status, found.finding, found.words) == ("judged", "agrees", "above 0")


def test_images_that_move_the_sides_apart_widen_the_interval(tmp_path: Path) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2]]", seeds=(0, 1))
    evaluated(plan, l1=[45.0, 45.0], l2=[44.5, 44.5])
    (found,) = judged(plan, shared=False)
    # l1 + noise - (l2 - noise): twice the noise; no spread of the seeds, so the normal quantile.
    assert found.standard_error == pytest.approx(2 * NOISE.std(ddof=1))
    assert found.high - found.low == pytest.approx(2 * 1.959964 * 2 * NOISE.std(ddof=1))
    assert (found.finding, found.words) == ("undecided", "not told from 0")


@pytest.mark.parametrize(("sign", "words"), [(1, "above 0"), (-1, "below 0")])
def test_the_printed_interval_decides_about_a_line_alike_for_both_signs(
    tmp_path: Path, sign: int, words: str
) -> None:
    error = 2 * NOISE.std(ddof=1)
    two = "kind: higher, pairs: [[l1, l2], [bins, l2]]"
    plan = plan_with(tmp_path, two, seeds=(0, 1))
    # 2.1 standard errors from 0: outside of 95 % (1.960), inside of 97.5 % (2.241).
    evaluated(plan, l2=[45.0] * 2, l1=[45.0 + sign * 2.1 * error] * 2, bins=[60.0] * 2)
    first, _ = judged(plan, shared=False)
    assert first.words == words
    assert (first.low > 0, first.high < 0) == (sign > 0, sign < 0)


def test_closeness_is_two_one_sided_tests_so_its_interval_is_of_90_percent(tmp_path: Path) -> None:
    close = f"kind: close, pairs: [[l1, l2]], margin: 5.0, {REASON}"
    plan = plan_with(tmp_path, close, seeds=(0, 1))
    error = 2 * NOISE.std(ddof=1)
    # 1.8 standard errors inside of the margin: within it at 90 % (1.645), not at 95 % (1.960).
    evaluated(plan, l1=[45.0 + 5.0 - 1.8 * error] * 2, l2=[45.0] * 2)
    (found,) = judged(plan, shared=False)
    assert found.high == pytest.approx(5.0 - (1.8 - 1.644854) * error)
    assert (found.level, found.words) == (pytest.approx(0.90), "within ±5")


@pytest.mark.parametrize(
    ("l1", "expected"),
    [
        (44.0, "excluded, ours is lower"),
        (45.0, "not excluded"),
        (46.0, "excluded, ours is higher"),
    ],
)
def test_an_effect_of_the_papers_size_is_excluded_by_an_interval_that_leaves_it_out(
    tmp_path: Path, l1: float, expected: str
) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2]]", seeds=(0, 1))
    evaluated(plan, l1=[l1, l1], l2=[40.0, 40.0])
    assert judged(plan)[0].paper_size == expected


@pytest.mark.parametrize(
    ("claim", "half", "wide"),
    [
        # The paper's difference of l1 and l2 is 5, that of two and l2 is not published: 0.8.
        ("kind: higher, pairs: [[l1, l2]]", 4.9, False),
        ("kind: higher, pairs: [[l1, l2]]", 5.1, True),
        ("kind: higher, pairs: [[two, l2]]", 0.7, False),
        ("kind: higher, pairs: [[two, l2]]", 0.9, True),
        ("kind: close, pairs: [[two, l2]], margin: 2.0", 1.9, False),
        ("kind: close, pairs: [[two, l2]], margin: 2.0", 2.1, True),
        # Up to a margin of 7, and the paper's 5: 2 are left.
        ("kind: not_higher, pairs: [[l1, l2]], margin: 7.0", 1.9, False),
        ("kind: not_higher, pairs: [[l1, l2]], margin: 7.0", 2.1, True),
    ],
)
def test_an_interval_is_too_wide_if_it_would_not_decide_about_the_papers_difference(
    tmp_path: Path, claim: str, half: float, wide: bool
) -> None:
    reason = f", {REASON}" if "margin" in claim else ""
    plan = plan_with(tmp_path, claim + reason, seeds=(0, 1))
    evaluated(plan, l1=[45.0] * 2, l2=[44.0] * 2, two=[45.0] * 2)
    quantile = 1.644854 if "close" in claim else 1.959964
    scale = half / quantile / NOISE.std(ddof=1)

    def noisy(asked: Resampling) -> Sampled:
        values = resampler()(asked)
        moved = "-l2-" in asked.evaluation.run_id
        return {
            name: np.r_[value[0], value[0] + moved * scale * NOISE]
            for name, value in values.items()
        }

    (topic,) = judge(plan, resample=noisy)
    (found,) = topic.claims[0].contrasts
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=1e-5)
    assert found.too_wide is wide


# --- what is not judged ------------------------------------------------------------------------


def test_one_training_each_has_a_difference_and_no_verdict(tmp_path: Path) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2], [bins, argmax]]")
    evaluated(plan, l1=[65.0], l2=[40.0], bins=[50.0], argmax=[40.0])
    first, second = judged(plan)
    for found, difference in ((first, 25.0), (second, 10.0)):
        assert (found.status, found.reason) == ("not judged", "one training each")
        assert (found.difference, found.low, found.finding) == (difference, None, None)
    (topic,) = judge(plan, resample=resampler())
    assert (topic.claims[0].verdict, topic.claims[0].reason) == ("not judged", "one training each")


@pytest.mark.parametrize(
    ("first", "second", "learnt"),
    [(9.0, 4.1, True), (9.0, 3.9, False), (0.1, 0.0, False), (0.5, 4.1, True)],
)
def test_a_reference_that_learnt_nothing_allows_no_verdict(
    tmp_path: Path, first: float, second: float, learnt: bool
) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2]]", seeds=(0, 1))
    evaluated(plan, l1=[first] * 2, l2=[second] * 2)
    (found,) = judged(plan)
    assert found.status == ("judged" if learnt else "not judged")
    assert found.reason == (None if learnt else "nothing was learnt")


@pytest.mark.parametrize(("first", "second", "learnt"), [(8.2, 0.4, True), (0.4, 0.1, False)])
def test_one_of_both_sides_must_have_learnt_something_at_the_metric_compared(
    tmp_path: Path, first: float, second: float, learnt: bool
) -> None:
    claim = "kind: higher, pairs: [[l1, l2]], metrics: [AP90]"
    plan = plan_with(tmp_path, claim, seeds=(0, 1))
    evaluated(plan, l1=[45.0] * 2, l2=[40.0] * 2)
    at_90 = {"smoothl1": first, "-l2-": second}

    def tight(asked: Resampling) -> Sampled:
        found = next(ap for name, ap in at_90.items() if name in asked.evaluation.run_id)
        return {"AP": resampler()(asked)["AP"], "AP90": np.full(101, found)}

    for folder in plan.results.glob("runs/*/*"):
        (path,) = folder.glob("metrics.*.json")
        content = json.loads(path.read_text())
        content["metrics"]["AP90"] = next(ap for name, ap in at_90.items() if name in str(folder))
        path.write_text(json.dumps(content))
    (topic,) = judge(plan, resample=tight)
    assert topic.claims[0].verdict == ("reproduced" if learnt else "not judged")


def test_a_scale_can_forbid_verdicts(tmp_path: Path) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2]]", seeds=(0, 1))
    forbidden = plan.scale.model_copy(update={"judges": False})
    plan = plan.model_copy(update={"scale": forbidden})
    evaluated(plan, l1=[65.0] * 2, l2=[40.0] * 2)
    (found,) = judged(plan)
    assert (found.status, found.reason) == ("not judged", "the scale forbids verdicts")
    assert (found.difference, found.low) == pytest.approx((25.0, 25.0))


@pytest.mark.parametrize(
    ("scale", "judges"),
    [("smoke", False), ("quick", "direction"), ("mini", True), ("paper", True)],
)
def test_smoke_forbids_them_and_quick_shows_directions(scale: str, judges: bool | str) -> None:
    assert load_plan({"scale": scale}).scale.judges == judges


@pytest.mark.parametrize(
    ("claim", "direction"),
    [
        ("kind: higher, pairs: [[l1, l2]]", "agrees"),
        ("kind: higher, pairs: [[l2, l1]]", "does not agree"),
        ("kind: higher, pairs: [[l1, l2], [l2, l1]]", "does not agree"),
        ("kind: close, pairs: [[l1, l2]], margin: 30, margin_reason: test", "agrees"),
        ("kind: close, pairs: [[l1, l2]], margin: 20, margin_reason: test", "does not agree"),
    ],
)
@pytest.mark.parametrize("seeds", [(0,), (0, 1)], ids=["one training each", "two"])
def test_a_scale_can_show_directions_and_no_verdicts(
    tmp_path: Path, claim: str, direction: str, seeds: tuple[int, ...]
) -> None:
    plan = plan_with(tmp_path, claim, seeds=seeds)
    plan = plan.model_copy(update={"scale": plan.scale.model_copy(update={"judges": "direction"})})
    evaluated(plan, l1=[65.0] * len(seeds), l2=[40.0] * len(seeds))
    (topic,) = judge(plan, resample=resampler())
    (found,) = topic.claims
    assert (found.verdict, found.direction) == ("not judged", direction)


def test_a_difference_of_detectors_that_learnt_nothing_has_no_direction(tmp_path: Path) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2]]")
    evaluated(plan, l1=[3.0], l2=[2.0])
    (topic,) = judge(plan, resample=resampler())
    assert topic.claims[0].direction is None
    assert topic.claims[0].reason == "nothing was learnt"


# --- a claim -----------------------------------------------------------------------------------


def test_one_contradiction_among_many_comparisons_refutes_at_a_corrected_level(
    tmp_path: Path,
) -> None:
    error = 2 * NOISE.std(ddof=1)
    alone = "kind: higher, pairs: [[l1, l2]]"
    among = "kind: higher, pairs: [[l1, l2], [bins, l2]]"
    plan = plan_with(tmp_path, alone, among, seeds=(0, 1))
    # 2.1 standard errors below: outside of 95 % (1.960), inside of 97.5 % (2.241).
    evaluated(plan, l2=[45.0] * 2, l1=[45.0 - 2.1 * error] * 2, bins=[60.0] * 2)
    (topic,) = judge(plan, resample=resampler(shared=False))
    single, several = topic.claims
    assert single.contrasts[0].finding == several.contrasts[0].finding == "contradicts"
    assert (single.verdict, several.verdict) == ("not reproduced", "inconclusive")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"l1": [45.0] * 2, "bins": [47.0] * 2}, "reproduced"),
        ({"l1": [45.0] * 2, "bins": [40.0] * 2}, "inconclusive"),
        ({"l1": [39.0] * 2, "bins": [40.0] * 2}, "not reproduced"),
        ({"l1": [39.0] * 2}, "not run"),
    ],
)
def test_a_claim_is_as_good_as_its_worst_comparison(
    tmp_path: Path, values: dict[str, list[float]], expected: str
) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2], [bins, l2]]", seeds=(0, 1))
    evaluated(plan, l2=[40.0] * 2, **values)
    (topic,) = judge(plan, strict=False, resample=resampler())
    assert topic.claims[0].verdict == expected


@pytest.mark.parametrize(("l1", "worse"), [(39.0, True), (40.4, False)])
def test_a_claim_that_holds_because_the_first_is_worse_says_so(
    tmp_path: Path, l1: float, worse: bool
) -> None:
    claim = f"kind: not_higher, pairs: [[l1, l2]], margin: 0.5, {REASON}"
    plan = plan_with(tmp_path, claim, seeds=(0, 1))
    evaluated(plan, l1=[l1] * 2, l2=[40.0] * 2)
    (topic,) = judge(plan, resample=resampler())
    assert (topic.claims[0].verdict, topic.claims[0].by_being_worse) == ("reproduced", worse)


def test_no_peak_without_a_gain_at_it(tmp_path: Path) -> None:
    """The other metrics getting worse would make the gain at AP90 the largest."""
    claim = "kind: peak, at: AP90, over: [AP], pairs: [[l1, l2]]"
    plan = plan_with(tmp_path, claim, seeds=(0, 1))
    evaluated(plan, l1=[39.0] * 2, l2=[45.0] * 2)  # AP90 is 10 on both sides
    (topic,) = judge(plan, resample=resampler())
    assert [one.finding for one in topic.claims[0].contrasts] == ["undecided", "agrees"]
    assert topic.claims[0].verdict == "inconclusive"


def test_each_evaluation_is_resampled_once_for_all_claims(tmp_path: Path) -> None:
    plan = plan_with(
        tmp_path, "kind: higher, pairs: [[l1, l2]]", "kind: higher, pairs: [[bins, l2]]"
    )
    evaluated(plan, l1=[45.0], l2=[40.0], bins=[50.0])
    asked = []
    judge(plan, resample=lambda evaluation: asked.append(evaluation) or resampler()(evaluation))
    assert len(asked) == len(set(asked)) == 3


# --- what is missing ---------------------------------------------------------------------------


def test_missing_detections_are_an_evaluation_to_be_made(tmp_path: Path) -> None:
    plan = plan_with(
        tmp_path,
        "kind: higher, pairs: [[l1, l2]]",
        "kind: higher, pairs: [[bins, l2]]",
        seeds=(0, 1),
    )
    evaluated(plan, l1=[45.0] * 2, l2=[40.0] * 2, bins=[50.0] * 2)
    lost = run_folder(plan, "table7", ROWS["l1"]) / "detections.regression.npz"
    lost.unlink()
    with pytest.raises(IncompleteError, match=f"not evaluated: {lost.parent}"):
        judged(plan)
    first, second = judged(plan, strict=False)
    assert (first.status, first.reason) == ("not run", "1 of 4 evaluations missing")
    assert second.finding == "agrees"


def test_rows_that_no_claim_names_may_be_missing(tmp_path: Path) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2]]")
    evaluated(plan, l1=[45.0], l2=[40.0])
    assert judged(plan)[0].difference == 5.0


def test_a_missing_seed_is_not_averaged_away(tmp_path: Path) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2]]", seeds=(0, 1))
    evaluated(plan, l1=[45.0, 46.0], l2=[40.0])
    assert judged(plan, strict=False)[0].reason == "1 of 4 evaluations missing"


def test_numbers_from_the_literature_compare_at_the_papers_scale_only(tmp_path: Path) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, known]]")
    evaluated(plan, l1=[45.0])
    (found,) = judged(plan)
    assert found.status == "not run"
    assert "only the paper's own setting" in found.reason


def test_numbers_from_the_literature_have_no_noise(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("obc.analysis.verdicts.is_comparable", lambda plan, table: True)
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, known]]", seeds=(0, 1))
    evaluated(plan, l1=[44.0, 46.0])
    (found,) = judged(plan)
    # 45 - 30; s^2 = 2 and a mean of two.
    assert found.difference == pytest.approx(15.0)
    assert found.standard_error == pytest.approx(np.hypot(1.0, NOISE.std(ddof=1)))


def test_resamples_without_objects_are_noise_and_not_a_missing_run(tmp_path: Path) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2]]")
    evaluated(plan, l1=[45.0], l2=[45.0])
    empty = {"AP": np.r_[45.0, np.nan, NOISE], "AP90": np.r_[10.0, np.nan, NOISE]}
    topics = judge(plan, resample=lambda evaluation: empty)
    (found,) = topics[0].claims[0].contrasts
    assert (found.status, found.difference, found.low) == ("not judged", 0.0, None)
    text = markdown(report(plan, topics, []))
    assert "not judged: some resamples of the test images have no objects" in text


@pytest.mark.parametrize("name", ["val.json", "manifest.json"])
def test_evaluations_without_the_index_of_their_data_name_the_step_that_makes_it(
    tmp_path: Path, name: str
) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2]]")
    evaluated(plan, l1=[45.0], l2=[45.0])
    (plan.index_folder("voc") / name).unlink()
    with pytest.raises(DatasetError, match=rf"{name}: not found.*`obc index .*plan\.json voc`"):
        judged(plan)


def test_detections_of_another_evaluation_are_refused(tmp_path: Path) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2]]")
    evaluated(plan, l1=[45.0], l2=[40.0])
    other = {"AP": np.full(101, 44.0), "AP90": np.full(101, 10.0)}
    with pytest.raises(DetectionsFileError, match=r"npz: its AP is 44\.000.* says 4\d\.000"):
        judge(plan, resample=lambda evaluation: other)


def test_a_plan_without_claims_says_where_they_belong(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config/claims\.yaml"):
        judge(plan_of(tmp_path, {"table7": TABLE}))


# --- with the real bootstrap -------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_real_detections_give_the_difference_of_the_metrics_files(
    tmp_path: Path, workers: int
) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2], [bins, l1]]", seeds=(0, 1))
    random = np.random.default_rng(1)
    boxes = random.uniform(20, 40, (30, 4))
    truth = {
        "images": [{"id": i, "width": 99, "height": 99, "file_name": f"{i}"} for i in range(10)],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [
            {"id": i + 1, "image_id": i % 10, "category_id": 1, "bbox": [*box], "iscrowd": 0,
             "area": box[2] * box[3]}
            for i, box in enumerate(boxes)
        ],
    }  # fmt: skip
    index = plan.index_folder("voc").path
    index.mkdir(parents=True)
    (index / "val.json").write_text(json.dumps(truth))
    (index / "manifest.json").touch()
    measured = {}
    for key, error in (("l2", 6.0), ("l1", 2.0), ("bins", 2.0)):
        shifts = np.random.default_rng(2).normal(scale=error, size=boxes.shape)
        detections = [
            {"image_id": i % 10, "category_id": 1, "bbox": [*box], "score": 0.9 - i / 100}
            for i, box in enumerate(boxes + shifts)
        ]
        measured[key], _ = average_precision(truth, detections)
        for seed in (0, 1):
            path = measure(plan, "table7", ROWS[key], measured[key], seed)
            save_detections(path.with_name(f"detections{path.name[7:-5]}.npz"), detections)
    (topic,) = judge(plan, workers=workers)
    better, same = topic.claims[0].contrasts
    assert better.difference == pytest.approx(measured["l1"]["AP"] - measured["l2"]["AP"])
    assert better.low < better.difference < better.high
    assert (same.low, same.difference, same.high) == (0.0, 0.0, 0.0)

"""Judged claims: intervals over images and trainings, what is missing, and the page."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from report_fixtures import measure, plan_of, run_folder

from obc.cli import main
from obc.datasets.errors import DatasetError
from obc.detections import DetectionsFileError, save_detections
from obc.metrics import average_precision
from obc.plan import ConfigError, Plan
from obc.report.claims import markdown, report, write
from obc.report.collect import IncompleteError
from obc.report.verdicts import Evaluation, JudgedContrast, Sampled, judge

TABLE = """
title: Losses
section: "4.1"
dataset: voc
metrics: [AP, AP90]
common: {detector: faster_rcnn, backbone: r50}
rows:
  - {label: L2 | squared, key: l2, box: {loss: l2}, paper: [40.0, 5.0]}
  - {label: Smooth L1, key: l1, box: {loss: smooth_l1}, paper: [45.0, 6.0]}
  - {label: Bins, key: bins, box: {loss: offset_bin}, paper: [47.5, 13.0]}
  - {label: Bins, key: argmax, box: {loss: offset_bin}, decode: argmax, paper: [46.0, 9.0]}
  - {label: Known, key: known, cited: true, paper: [30.0, null]}
  - {label: Two, key: two, box: {loss: offset_bin, num_stages: 2}, decode: argmax}
"""
ROWS = {"l2": 0, "l1": 1, "bins": 2}

OTHER = """
title: Other data
section: "4.2"
dataset: coco
metrics: [AP, AP90]
common: {detector: faster_rcnn, backbone: r50}
rows:
  - {label: L2, key: l2, box: {loss: l2}}
  - {label: L1, key: l1, box: {loss: smooth_l1}}
"""

CLAIMS = """
resamples: 100
seed: 0
confidence: 0.95
topics:
  - table: table7
    title: Losses
    claims:
"""

NOISE = np.random.default_rng(0).normal(size=100)

# Student's t at 0.975, from printed tables.
T = {1: 12.7062, 2: 4.30265, 3: 3.18245, 4: 2.77645}


def claims_text(*claims: str) -> str:
    """A claims file of flow mappings without id, section and statement."""
    common = 'section: "4.1", statement: "One | beats the other."'
    return CLAIMS + "".join(
        f"      - {{id: claim{index}, {common}, {claim}}}\n" for index, claim in enumerate(claims)
    )


def plan_with(folder: Path, *claims: str, seeds: Any = (0,), **tables: str) -> Plan:
    """A plan of TABLE and of other tables, with claims about TABLE only."""
    (folder / "config").mkdir(exist_ok=True)
    (folder / "config" / "claims.yaml").write_text(claims_text(*claims))
    chosen = list(seeds) if isinstance(seeds, tuple) else seeds
    return plan_of(folder, {"table7": TABLE, **tables}, seeds=chosen)


def evaluated(plan: Plan, table: str = "table7", **aps: list[float]) -> None:
    """Evaluations by row key, one AP for each of the first seeds; AP90 is always 10."""
    keys = [row.key for row in plan.tables[table].rows]
    for key, values in aps.items():
        for seed, ap in enumerate(values):
            path = measure(plan, table, keys.index(key), {"AP": ap, "AP90": 10.0}, seed)
            path.with_name(path.name.replace("metrics", "detections")).with_suffix(".npz").touch()
    index = plan.index_folder(plan.tables[table].dataset)
    index.mkdir(parents=True, exist_ok=True)
    (index / "val.json").touch()
    (index / "manifest.json").write_text('{"sha256": "data", "splits": {"val": {"images": 16}}}')


def resampler(*, shared: bool = True) -> Callable[[Evaluation], Sampled]:
    """Resamples that move around the metrics file's numbers: all evaluations alike, or opposed."""

    def resample(evaluation: Evaluation) -> Sampled:
        name = evaluation.detections.with_suffix(".json").name.replace("detections", "metrics")
        metrics = json.loads(evaluation.detections.with_name(name).read_text())["metrics"]
        sign = -1 if not shared and "-l2-" in str(evaluation.detections) else 1
        return {k: v + sign * np.concatenate([[0.0], NOISE]) for k, v in metrics.items()}

    return resample


def judged(plan: Plan, *, strict: bool = True, shared: bool = True) -> list[JudgedContrast]:
    """The contrasts of all claims of a plan."""
    topics = judge(plan, strict, resample=resampler(shared=shared))
    return [contrast for topic in topics for found in topic.claims for contrast in found.contrasts]


# --- intervals ---------------------------------------------------------------------------------


def test_images_that_move_both_sides_alike_leave_the_difference_certain(tmp_path: Path) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2]]")
    evaluated(plan, l1=[45.0], l2=[44.5])
    (found,) = judged(plan)
    assert (found.low, found.difference, found.high) == pytest.approx((0.5, 0.5, 0.5))
    assert found.verdict == "reproduced"


def test_images_that_move_the_sides_apart_widen_the_interval(tmp_path: Path) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2]]")
    evaluated(plan, l1=[45.0], l2=[44.5])
    (found,) = judged(plan, shared=False)
    # l1 + noise - (l2 - noise): twice the noise; one seed, so the normal quantile.
    assert found.standard_error == pytest.approx(2 * NOISE.std(ddof=1))
    assert found.high - found.low == pytest.approx(2 * 1.959964 * 2 * NOISE.std(ddof=1))
    assert found.verdict == "within noise"
    assert found.seed_degrees == 0


def test_the_spread_between_trainings_is_pooled_over_the_cells(tmp_path: Path) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2]]", seeds=(0, 1))
    evaluated(plan, l1=[40.0, 42.0], l2=[30.0, 34.0])
    (found,) = judged(plan)
    # Squares 2 and 8 on one degree each: s^2 = 10 / 2 = 5. Means of two: 5/2 + 5/2 = 5.
    assert found.difference == pytest.approx(9.0)
    assert found.standard_error == pytest.approx(5**0.5)
    assert found.low == pytest.approx(9.0 - T[2] * 5**0.5, abs=1e-4)
    assert found.seed_degrees == 2


def test_a_mean_of_rows_averages_their_training_noise(tmp_path: Path) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[[l1, l2], bins]]", seeds=(0, 1))
    evaluated(plan, l1=[40.0, 42.0], l2=[30.0, 34.0], bins=[20.0, 24.0])
    (found,) = judged(plan)
    # s^2 = (2 + 8 + 8) / 3 = 6, times (1/4 + 1/4 + 1) / 2 seeds.
    assert found.difference == pytest.approx(36.5 - 22.0)
    assert found.standard_error == pytest.approx((6 * 1.5 / 2) ** 0.5)
    assert found.seed_degrees == 3


def test_what_decodings_of_one_training_share_is_no_noise(tmp_path: Path) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[bins, argmax]]", seeds=(0, 1))
    evaluated(plan, bins=[40.0, 50.0], argmax=[38.0, 47.0])
    (found,) = judged(plan)
    # Differences 2 and 3: variance 0.5, of a mean of two 0.25; the seeds' 10 AP cancel.
    assert (found.difference, found.standard_error) == pytest.approx((2.5, 0.5))
    assert found.high == pytest.approx(2.5 + T[1] * 0.5, abs=1e-4)


def test_a_peak_takes_the_spread_of_the_metrics_difference(tmp_path: Path) -> None:
    plan = plan_with(
        tmp_path, "kind: peak, at: AP, over: [AP90], pairs: [[l1, l2]]", seeds=(0, 1, 2)
    )
    evaluated(plan, l1=[40.0, 41.0, 42.0], l2=[30.0, 30.0, 30.0])
    (found,) = judged(plan)
    # AP - AP90: 30, 31, 32 and 20, 20, 20: variances 1 and 0, of means of three 1/3 and 0; Welch:
    # all of it on l1's 2 degrees.
    assert found.difference == pytest.approx(11.0)
    assert found.high == pytest.approx(11.0 + T[2] * (1 / 3) ** 0.5, abs=1e-4)
    assert found.paper == (45.0 - 6.0) - (40.0 - 5.0)


def several(monkeypatch: pytest.MonkeyPatch, *runs: str) -> None:
    """Two seeds for the runs with one of these in their id, one for the others."""
    seeds = lambda self, run_id: (0, 1) if any(name in run_id for name in runs) else (0,)  # noqa: E731
    monkeypatch.setattr(Plan, "seeds_of", seeds)


def test_runs_of_one_seed_take_the_spread_of_those_with_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = ("[l1, l2]", "[bins, l2]", "[bins, two]")
    plan = plan_with(tmp_path, *(f"kind: higher, pairs: [{pair}]" for pair in pairs))
    evaluated(plan, l1=[45.0], l2=[40.0], bins=[50.0, 52.0], two=[40.0, 44.0])
    several(monkeypatch, "obc")
    first, second, third = judged(plan)
    # s^2 = (2 + 8) / 2 from the bins: 5 + 5 between single trainings, 5/2 + 5 with a mean of two.
    assert first.standard_error == pytest.approx(10**0.5)
    assert second.standard_error == pytest.approx(7.5**0.5)
    assert [each.spread for each in (first, second, third)] == ["data set", "data set", "own"]


def test_no_data_set_lends_its_spread_to_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2]]", table8=OTHER)
    other = plan.claims.topics[0].model_copy(update={"table": "table8"})
    topics = (*plan.claims.topics, other)
    plan = plan.model_copy(update={"claims": plan.claims.model_copy(update={"topics": topics})})
    evaluated(plan, l1=[40.0, 42.0], l2=[30.0, 34.0])
    evaluated(plan, "table8", l1=[45.0], l2=[40.0])
    several(monkeypatch, "voc")
    voc, coco = judged(plan)
    assert (voc.spread, voc.seed_degrees) == ("own", 2)
    assert (coco.spread, coco.seed_degrees, coco.standard_error) == ("none", 0, 0.0)


@pytest.mark.parametrize("last", ["bins", "argmax"])
@pytest.mark.parametrize(
    ("pair", "squares"),
    [
        # L2 spreads by 2, the expectation by 8 and the most likely bin by 18, the same of two by 2.
        ("[bins, l2]", 8 + 2 + 2),
        ("[argmax, l2]", 18 + 2 + 2),
        ("[l1, l2]", 8 + 2 + 2),
        ("[two, l2]", 18 + 2 + 2),
    ],
)
def test_the_decoding_that_enters_the_pool_depends_on_the_contrast_not_on_the_order_of_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str, pair: str, squares: float
) -> None:
    """The contrast's own cell; of other runs its decoding, or their default, or what they have."""
    lines = TABLE.splitlines(keepends=True)
    lines.sort(key=lambda line: f"key: {last}," in line)
    claims = [f"kind: higher, pairs: [[{key}, l2]]" for key in ("bins", "argmax", "two")]
    last_claim = f"kind: higher, pairs: [{pair}]"
    plan = plan_with(tmp_path, *claims, last_claim, table7="".join(lines))
    evaluated(plan, l1=[40.0], l2=[40.0, 42.0], two=[40.0, 42.0],
              bins=[40.0, 44.0], argmax=[38.0, 44.0])  # fmt: skip
    several(monkeypatch, "obc", "-l2-")
    found = judged(plan)[-1]
    seeds = 1 if pair == "[l1, l2]" else 2
    assert found.seed_degrees == 3
    assert found.standard_error**2 == pytest.approx(squares / 3 * (1 / seeds + 1 / 2))


def test_runs_of_four_seeds_speak_for_themselves(tmp_path: Path) -> None:
    claims = ("kind: higher, pairs: [[l1, l2]]", "kind: higher, pairs: [[bins, l2]]")
    plan = plan_with(tmp_path, *claims, seeds=(0, 1, 2, 3))
    evaluated(plan, l1=[39.0, 41.0, 39.0, 41.0], l2=[30.0] * 4, bins=[10.0, 50.0, 10.0, 50.0])
    found = judged(plan)[0]
    # Variance 4/3 of l1, 0 of l2, of means of four: 1/3; Welch: all of it on l1's 3 degrees.
    assert found.standard_error == pytest.approx((1 / 3) ** 0.5)
    assert found.seed_degrees == pytest.approx(3)
    assert found.high == pytest.approx(10.0 + T[3] * (1 / 3) ** 0.5, abs=1e-4)
    assert found.spread == "own"


def test_two_runs_of_four_seeds_have_welchs_degrees(tmp_path: Path) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2]]", seeds=(0, 1, 2, 3))
    evaluated(plan, l1=[39.0, 41.0, 39.0, 41.0], l2=[28.0, 32.0, 28.0, 32.0])
    # Variances of means 1/3 and 4/3: (5/3)^2 / ((1/9 + 16/9) / 3) = 75 / 17.
    assert judged(plan)[0].seed_degrees == pytest.approx(75 / 17)


def test_one_contradiction_among_many_comparisons_needs_a_wider_interval(tmp_path: Path) -> None:
    error = 2 * NOISE.std(ddof=1)
    alone = "kind: higher, pairs: [[l1, l2]]"
    among = "kind: higher, pairs: [[l1, l2], [bins, l2]]"
    plan = plan_with(tmp_path, alone, among)
    # 2.1 standard errors below: outside of 95 % (1.960), inside of 97.5 % (2.241).
    evaluated(plan, l2=[45.0], l1=[45.0 - 2.1 * error], bins=[60.0])
    single, first, _ = judged(plan, shared=False)
    assert (single.low, single.high) == (first.low, first.high)
    assert (single.verdict, first.verdict) == ("not reproduced", "within noise")


@pytest.mark.parametrize(("l1", "place"), [(44.0, "above"), (45.0, "inside"), (46.0, "below")])
def test_the_papers_difference_is_placed_by_our_interval(
    tmp_path: Path, l1: float, place: str
) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2]]")
    evaluated(plan, l1=[l1], l2=[40.0])
    assert judged(plan)[0].paper_position == place


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"l1": [45.0], "bins": [47.0]}, "reproduced"),
        ({"l1": [45.0], "bins": [40.0]}, "within noise"),
        ({"l1": [39.0], "bins": [40.0]}, "not reproduced"),
        ({"l1": [39.0]}, "not run"),
    ],
)
def test_a_claim_is_as_good_as_its_worst_comparison(
    tmp_path: Path, values: dict[str, list[float]], expected: str
) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2], [bins, l2]]")
    evaluated(plan, l2=[40.0], **values)
    (topic,) = judge(plan, strict=False, resample=resampler())
    assert topic.claims[0].verdict == expected


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
        tmp_path, "kind: higher, pairs: [[l1, l2]]", "kind: higher, pairs: [[bins, l2]]"
    )
    evaluated(plan, l1=[45.0], l2=[40.0], bins=[50.0])
    lost = run_folder(plan, "table7", ROWS["l1"]) / "detections.regression.npz"
    lost.unlink()
    with pytest.raises(IncompleteError, match=f"not evaluated: {lost.parent}"):
        judged(plan)
    first, second = judged(plan, strict=False)
    assert (first.verdict, first.reason) == ("not run", "1 of 2 evaluations missing")
    assert second.verdict == "reproduced"


def test_rows_that_no_claim_names_may_be_missing(tmp_path: Path) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2]]")
    evaluated(plan, l1=[45.0], l2=[40.0])
    assert judged(plan)[0].verdict == "reproduced"


def test_a_missing_seed_is_not_averaged_away(tmp_path: Path) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2]]", seeds=(0, 1))
    evaluated(plan, l1=[45.0, 46.0], l2=[40.0])
    assert judged(plan, strict=False)[0].reason == "1 of 4 evaluations missing"


def test_numbers_from_the_literature_compare_at_the_papers_scale_only(tmp_path: Path) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, known]]")
    evaluated(plan, l1=[45.0])
    (found,) = judged(plan)
    assert found.verdict == "not run"
    assert "only the paper's own setting" in found.reason


def test_numbers_from_the_literature_have_no_noise(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("obc.report.verdicts.is_comparable", lambda plan, table: True)
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
    assert (found.verdict, found.difference, found.low) == ("within noise", 0.0, None)
    text = markdown(report(plan, topics, []))
    assert "+0.0, too few test images with objects: some resamples have none" in text


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
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2], [bins, l1]]")
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
    index = plan.index_folder("voc")
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
        path = measure(plan, "table7", ROWS[key], measured[key])
        save_detections(path.with_name(f"detections{path.name[7:-5]}.npz"), detections)
    (topic,) = judge(plan, workers=workers)
    better, same = topic.claims[0].contrasts
    assert better.difference == pytest.approx(measured["l1"]["AP"] - measured["l2"]["AP"])
    assert better.low < better.difference < better.high
    assert (same.low, same.difference, same.high) == (0.0, 0.0, 0.0)


# --- the page ----------------------------------------------------------------------------------


def page(plan: Plan, **options: Any) -> str:
    return markdown(report(plan, judge(plan, resample=resampler(), **options), []))


def test_a_line_has_the_sentence_the_section_both_differences_and_the_verdict(
    tmp_path: Path,
) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2]], stated: [4.9]", seeds=(0, 1))
    evaluated(plan, l1=[45.0, 45.0], l2=[46.0, 46.0])
    line = next(line for line in page(plan).splitlines() if "One" in line)
    assert [cell.strip() for cell in line.replace(r"\|", "or").split("|")[1:-1]] == [
        "One or beats the other.",
        "4.1",
        "AP: l1 − l2",
        "+5.0 (text: +4.9)",
        "−1.0 [−1.0, −1.0]",
        "above our interval",
        "✗ not reproduced",
    ]


def test_several_comparisons_are_lines_below_the_claims_own(tmp_path: Path) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2], [bins, l2]]")
    evaluated(plan, l1=[45.0], l2=[46.0], bins=[50.0])
    lines = [line for line in page(plan).splitlines() if line.startswith("|")]
    assert "all 2 below" in lines[2] and "✗ not reproduced" in lines[2]
    assert "AP: l1 − l2" in lines[3] and "✗ not reproduced" in lines[3]
    assert "AP: bins − l2" in lines[4] and "✓ reproduced" in lines[4]


def test_smoke_says_that_its_numbers_mean_nothing(tmp_path: Path) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2]]")
    text = page(plan, strict=False)
    assert "SMOKE scale" in text.splitlines()[2]
    assert "the numbers mean nothing. Not comparable" in text.splitlines()[2]
    assert "Claims: 0 reproduced, 0 not reproduced, 0 within noise, 1 not run." in text


def test_intervals_without_training_noise_are_marked_and_the_mark_explained(
    tmp_path: Path,
) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2]]")
    evaluated(plan, l1=[45.0], l2=[40.0])
    assert "✓ reproduced (images only) |" in page(plan)
    assert "**(images only): no run of the data set has several seeds" in page(plan)


def test_the_spread_of_other_runs_is_marked_and_the_mark_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = ("kind: higher, pairs: [[l1, l2], [l1, bins]]", "kind: higher, pairs: [[bins, two]]")
    plan = plan_with(tmp_path, *claims)
    evaluated(plan, l1=[55.0], l2=[40.0], bins=[50.0, 50.0], two=[40.0, 40.0])
    several(monkeypatch, "obc")
    found = [line.split("|")[-2].strip() for line in page(plan).splitlines() if "✓" in line]
    assert found == ["✓ reproduced †"] * 3 + ["✓ reproduced"]
    assert "**†: not each of the runs compared has several seeds;" in page(plan)
    assert "images only" not in page(plan)


def test_several_seeds_everywhere_need_no_mark(tmp_path: Path) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2]]", seeds=(0, 1))
    evaluated(plan, l1=[45.0, 45.0], l2=[40.0, 40.0])
    assert "images only" not in page(plan)
    assert "†" not in page(plan)
    assert "Seeds: 0, 1." in page(plan)


def test_analytic_claims_are_the_last_topic_and_not_among_the_counts(tmp_path: Path) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2]]")
    proof = {"id": "g", "section": "3", "statement": "Bounded.", "paper": "|g| < 1", "ours": "0.9",
             "verdict": "reproduced"}  # fmt: skip
    content = report(plan, judge(plan, strict=False, resample=resampler()), [proof])
    assert content["verdicts"]["reproduced"] == 0
    last = markdown(content).rsplit("## ", 1)[1]
    assert last.startswith("Analytic claims")
    assert r"\|g\| \< 1" in last and "✓ reproduced" in last


# --- the command -------------------------------------------------------------------------------


def test_the_command_refuses_while_runs_are_missing(tmp_path: Path, capsys) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2]]")
    plan.save(plan.results / "plan.json")
    assert main(["claims", str(plan.results / "plan.json")]) == 1
    assert "2 evaluation(s) without a number" in capsys.readouterr().err
    assert not list(plan.results.glob("**/claims.*"))


def test_the_partial_page_lies_apart_from_the_complete_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    analytic = SimpleNamespace(analytic_claims=lambda: [])  # the real one imports MMDetection
    monkeypatch.setitem(sys.modules, "obc.report.analytic", analytic)
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2]]")
    plan.save(plan.results / "plan.json")
    assert main(["claims", str(plan.results / "plan.json"), "--partial"]) == 0
    written = json.loads((plan.results / "partial" / "claims.json").read_text())
    assert written["verdicts"]["not run"] == 1
    assert written["topics"][0]["claims"][0]["contrasts"][0]["paper"] == 5.0
    assert (plan.results / "partial" / "claims.md").exists()
    assert not (plan.results / "claims.md").exists()


def test_claims_say_the_same_on_a_second_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    analytic = SimpleNamespace(analytic_claims=lambda: [])
    monkeypatch.setitem(sys.modules, "obc.report.analytic", analytic)
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2]]")
    for name in ("a", "b"):
        write(plan, tmp_path / name, strict=False)
    for name in ("claims.json", "claims.md"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()

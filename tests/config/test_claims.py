"""The claims as written in config/claims.yaml: their differences, their rules, their mistakes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import edit
from pydantic import TypeAdapter
from report_fixtures import FIGURE, TABLE, plan_of

from obc.config.claims import Claim, Contrast, Finding
from obc.config.load_plan import load_plan
from obc.config.plan import Plan
from obc.io.typed_yaml import ConfigError


def claim(**fields: object) -> Claim:
    base = {"id": "x", "section": "4", "statement": "a beats b", "pairs": [["a", "b"]]}
    return TypeAdapter(Claim).validate_python({**base, **fields})


def weights(contrast: Contrast) -> tuple[dict[str, float], dict[str, float]]:
    return contrast.rows, contrast.metrics


@pytest.fixture(scope="module")
def plan() -> Plan:
    return load_plan({"scale": "smoke"})


def contrasts(plan: Plan) -> list[tuple[Claim, Contrast, float | None, float | None]]:
    """Every contrast of the project's claims with the paper's size and the one of its text."""
    return [
        (claim, contrast, contrast.published(plan.tables[topic.table]), stated)
        for topic in plan.claims.topics
        for claim in topic.claims
        for contrast, stated in zip(
            claim.contrasts(), claim.stated or [None] * len(claim.contrasts()), strict=True
        )
    ]


# --- what is compared --------------------------------------------------------------------------


def test_each_pair_and_metric_is_a_contrast_of_first_minus_second() -> None:
    found = claim(kind="higher", pairs=[["a", "b"], ["c", "b"]], metrics=["AP", "AP90"])
    assert [weights(contrast) for contrast in found.contrasts()] == [
        ({"a": 1.0, "b": -1.0}, {"AP": 1.0}),
        ({"a": 1.0, "b": -1.0}, {"AP90": 1.0}),
        ({"c": 1.0, "b": -1.0}, {"AP": 1.0}),
        ({"c": 1.0, "b": -1.0}, {"AP90": 1.0}),
    ]


def test_several_rows_on_a_side_are_their_mean() -> None:
    (found,) = claim(kind="higher", pairs=[[["a", "b"], "c"]]).contrasts()
    assert found.rows == {"a": 0.5, "b": 0.5, "c": -1.0}
    assert found.label == "AP: mean(a; b) less c"


def test_a_row_of_both_sides_has_the_sum_of_its_weights() -> None:
    (found,) = claim(kind="higher", pairs=[["a", ["a", "b"]]]).contrasts()
    assert found.rows == {"a": 0.5, "b": -0.5}


def test_labels_have_the_names_of_rows_or_what_a_pair_is_called() -> None:
    names = {"a": "bins", "b": "box regression"}
    plain, named = (claim(kind="higher", **own) for own in ({}, {"compared": ["new less old"]}))
    assert plain.contrasts(names)[0].label == "AP: bins less box regression"
    assert named.contrasts(names)[0].label == "AP: new less old"


def test_a_peak_is_a_gain_and_that_less_the_gain_elsewhere() -> None:
    found = claim(kind="peak", at="AP90", over=["AP50", "AP70"]).contrasts()
    assert [contrast.metrics for contrast in found] == [
        {"AP90": 1.0},
        {"AP90": 1.0, "AP50": -1.0},
        {"AP90": 1.0, "AP70": -1.0},
    ]
    assert found[1].label == "AP90 − AP50: a less b"


# --- what an interval says ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "low", "high", "expected", "words"),
    [
        ("higher", 0.1, 2.0, "agrees", "above 0"),
        ("higher", -0.1, 2.0, "undecided", "not told from 0"),
        ("higher", 0.0, 2.0, "undecided", "not told from 0"),
        ("higher", -2.0, -0.1, "contradicts", "below 0"),
        ("peak", 0.1, 2.0, "agrees", "above 0"),
        ("peak", -2.0, -0.1, "contradicts", "below 0"),
        ("not_higher", -3.0, 0.5, "agrees", "at most +0.5"),
        ("not_higher", 0.1, 0.4, "agrees", "at most +0.5"),
        ("not_higher", -3.0, -0.1, "agrees", "below 0"),
        ("not_higher", -1.0, 0.6, "undecided", "not told from +0.5"),
        ("not_higher", 0.1, 0.6, "undecided", "not told from +0.5"),
        ("not_higher", 0.6, 0.9, "contradicts", "more than +0.5"),
        ("close", -0.5, 0.5, "agrees", "within ±0.5"),
        ("close", -0.6, 0.4, "undecided", "not told from ±0.5"),
        ("close", -2.0, 2.0, "undecided", "not told from ±0.5"),
        ("close", 0.6, 2.0, "contradicts", "beyond ±0.5"),
        ("close", -2.0, -0.6, "contradicts", "beyond ±0.5"),
    ],
)
def test_the_interval_decides_alike_for_both_signs(
    kind: str, low: float, high: float, expected: Finding, words: str
) -> None:
    own = {"margin": 0.5, "margin_reason": "x"} if kind in ("not_higher", "close") else {}
    own |= {"at": "AP90", "over": ["AP50"]} if kind == "peak" else {}
    found = claim(kind=kind, **own)
    assert found.finding(low, high) == expected
    assert found.words(expected, high) == words


@pytest.mark.parametrize(("comparisons", "higher", "close"), [(1, 0.95, 0.90), (5, 0.99, 0.98)])
def test_each_bound_of_closeness_is_a_test_at_5_percent_and_more_comparisons_share_it(
    comparisons: int, higher: float, close: float
) -> None:
    found = claim(kind="higher").level(0.95, comparisons)
    assert found == pytest.approx(higher)
    found = claim(kind="close", margin=1.0, margin_reason="x").level(0.95, comparisons)
    assert found == pytest.approx(close)


# --- the project's own claims ------------------------------------------------------------------


def test_the_papers_tables_bear_out_every_claim(plan: Plan) -> None:
    """A pair the wrong way round, or a row key mistaken, would contradict the paper itself."""
    for found, contrast, paper, _ in contrasts(plan):
        if paper is not None:
            assert found.finding(paper, paper) == "agrees", (found.id, contrast.label)


def test_the_papers_size_is_computed_from_its_tables(plan: Plan) -> None:
    sizes = {(found.id, found_at.label.split(":")[0]): paper
             for found, found_at, paper, _ in contrasts(plan)}  # fmt: skip
    # Table 1: AP 49.0 - 45.0, AP90 19.6 - 6.6; gains at AP90 and AP50: 13.0 - (73.2 - 74.5).
    assert sizes["full_beats_regression", "AP"] == 4.0
    assert sizes["full_at_high_iou", "AP90"] == 13.0
    assert sizes["full_most_at_high_iou", "AP90 − AP50"] == 14.3


def test_the_papers_text_and_tables_differ_once(plan: Plan) -> None:
    """Section 4.1 says that two stages bring 1.6; Table 3 has 49.0 - 47.5 = 1.5."""
    differing = {
        found.id: (stated, paper)
        for found, _, paper, stated in contrasts(plan)
        if stated is not None and stated != paper
    }
    assert differing == {"two_stages_beat_one": (1.6, 1.5)}


def test_figure_5_is_printed_as_a_plot_so_its_claims_have_no_size(plan: Plan) -> None:
    figure = next(topic for topic in plan.claims.topics if topic.table == "figure5")
    sizes = [c.published(plan.tables["figure5"]) for x in figure.claims for c in x.contrasts()]
    assert set(sizes) == {None}


def test_the_papers_gains_over_its_baseline_are_those_that_its_text_states(plan: Plan) -> None:
    """Of Table 5 the text gives the gains of Faster R-CNN; of Cascade R-CNN it gives levels."""
    found = {
        (topic.table, *pair[0], *pair[1])
        for topic in plan.claims.topics
        for claim in topic.claims
        for pair in claim.pairs
        if claim.gain
    }
    methods = ("bins_argmax", "bins", "hierarchy_argmax", "full")
    expected = {("table1", method, "regression") for method in methods}
    expected |= {
        (table, key, key.removesuffix("_obc"))
        for table in ("table4", "table5")
        for key in plan.tables[table].keyed_rows
        if key.endswith("_obc") and not (table == "table5" and key.startswith("cascade"))
    }
    assert found == expected


def test_every_margin_is_the_smallest_gain_of_the_text_or_says_why_not(plan: Plan) -> None:
    margins = {found.margin for found, *_ in contrasts(plan) if found.kind == "close"}
    (smallest,) = {
        min(found.stated) for found, *_ in contrasts(plan) if found.id == "bins_beat_regression"
    }
    assert margins == {smallest} == {plan.claims.smallest_effect}
    assert plan.claims.learnt >= 3 * smallest


def test_the_number_of_bins_is_one_claim_of_each_n_against_their_mean(plan: Plan) -> None:
    (found,) = (f for t in plan.claims.topics for f in t.claims if f.id.startswith("number_of"))
    for contrast, n in zip(found.contrasts(), (20, 30, 40, 50), strict=True):
        weights = {3 / 8 if key.endswith(str(n)) else -1 / 8 for key in contrast.rows}
        assert {contrast.rows[f"a{a}_n{n}"] for a in (3, 5)} == {3 / 8}
        assert set(contrast.rows.values()) == weights


def test_every_row_is_in_a_claim(plan: Plan) -> None:
    claimed = {
        (topic.table, key)
        for topic in plan.claims.topics
        for found in topic.claims
        for key in found.row_keys
    }
    rows = {(name, key) for name in plan.paper_tables for key in plan.tables[name].keyed_rows}
    assert claimed == rows


def test_a_plan_keeps_its_claims_on_disk(plan: Plan, tmp_path: Path) -> None:
    plan.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json").claims == plan.claims


# --- mistakes ----------------------------------------------------------------------------------


def first(content: dict) -> dict:
    return content["topics"][0]["claims"][0]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda c: c["topics"][0].update(table="table9"), "no table or figure 'table9'; allowed:"),
        (
            lambda c: first(c).update(pairs=[["bins_argmax", "regresion"]]),
            "bins_beat_regression: no row key regresion; allowed: regression, bins_argmax",
        ),
        (
            lambda c: first(c).update(metrics=["AP75"]),
            "bins_beat_regression: no metric AP75; allowed: AP, AP50",
        ),
        (lambda c: first(c).update(metrics=["AP_S"]), "topics[0].claims[0].metrics[0]"),
        (lambda c: first(c).update(kind="lower"), "topics[0].claims[0]: Input tag 'lower'"),
        (lambda c: first(c).update(margin=1.0), "claims[0].margin: unknown key"),
        (
            lambda c: first(c).update(pairs=[["bins", ["regression", "regression"]]]),
            "regression is twice on one side of a pair",
        ),
        (
            lambda c: first(c).update(pairs=[["bins", "bins"]]),
            "bins is compared with itself",
        ),
        (
            lambda c: first(c).update(compared=["bins", "boxes"]),
            "compared has 2 names, allowed: one a pair = 1",
        ),
        (lambda c: first(c).update(whose="ours"), "gain: true with whose: ours"),
        (
            lambda c: c["topics"][0]["names"].update(box="boxes"),
            "names of table1: no row key box; allowed: regression",
        ),
        (
            lambda c: c["topics"][2]["claims"][1].pop("margin_reason"),
            "claims[1].margin_reason",
        ),
        (
            lambda c: first(c).update(stated=[0.8, 0.9]),
            "stated has 2 numbers, allowed: one a contrast = 1",
        ),
        (
            lambda c: first(c).update(id="full_beats_regression"),
            "id full_beats_regression stands there twice",
        ),
        (
            lambda c: c["topics"][5]["claims"][0].update(pairs=[["ssd512", "yolov2"]], stated=None),
            "coco_faster_r50: ssd512, yolov2 are all from the literature",
        ),
        (lambda c: c.update(confidence=95), "confidence: Input should be less than 1"),
        (
            lambda c: c.update(resamples=1),
            "resamples: Input should be greater than or equal to 100",
        ),
    ],
)
def test_a_mistake_in_the_file_is_named(
    config_folder: Path, change: Callable[[dict], object], expected: str
) -> None:
    edit(config_folder / "claims.yaml", change)
    with pytest.raises(ConfigError) as caught:
        load_plan({"scale": "smoke"}, config_folder)
    assert "claims.yaml: " in str(caught.value)
    assert expected in str(caught.value)


def test_a_peak_over_itself_is_refused() -> None:
    with pytest.raises(ValueError, match="over names AP90"):
        claim(kind="peak", at="AP90", over=["AP50", "AP90"])


# --- row keys ----------------------------------------------------------------------------------


def test_a_grid_fills_in_its_keys(tmp_path: Path) -> None:
    text = FIGURE.replace("  - label:", '  - key: "a{max_offset}_n{num_bins}"\n    label:')
    plan = plan_of(tmp_path, {"figure9": text})
    assert list(plan.tables["figure9"].keyed_rows) == ["a1_n20", "a1_n10", "a3_n20", "a3_n10"]


def test_two_rows_of_one_key_are_refused(tmp_path: Path) -> None:
    text = TABLE.replace("  - label: L2", "  - key: a\n    label: L2")
    text = text.replace("  - label: Bins", "  - key: a\n    label: Bins")
    with pytest.raises(ConfigError, match=r"table7\.yaml: .*key a names two rows"):
        plan_of(tmp_path, {"table7": text})


def test_a_key_is_no_part_of_a_run(tmp_path: Path) -> None:
    keyed = TABLE.replace("  - label: L2", "  - key: a\n    label: L2")
    with_key = plan_of(tmp_path / "with", {"table7": keyed})
    without = plan_of(tmp_path / "without", {"table7": TABLE})
    assert list(with_key.runs) == list(without.runs)


# --- plans without some claims -----------------------------------------------------------------


def test_a_plan_without_the_file_has_no_claims(tmp_path: Path) -> None:
    assert plan_of(tmp_path, {"table7": TABLE}).claims is None


def test_claims_about_tables_that_are_left_out_are_left_out(plan: Plan) -> None:
    assert [topic.table for topic in plan.claims.about(["table5"]).topics] == ["table5"]
    assert plan.claims.about([]) is None

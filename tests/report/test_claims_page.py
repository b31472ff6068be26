"""claims.md, and the command that writes it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from claim_fixtures import REASON, evaluated, plan_with, resampler, several

from obc.analysis.verdicts import judge
from obc.cli.main import main
from obc.config.plan import Plan
from obc.report.captions import bound, signed
from obc.report.tables.claims import markdown, report, write


def page(plan: Plan, **options: Any) -> str:
    return markdown(report(plan, judge(plan, resample=resampler(), **options), []))


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.replace(r"\|", "or").split("|")[1:-1]]


def lines(text: str) -> list[list[str]]:
    """The lines of the page's tables, those with the sentence of the claim."""
    return [cells(line) for line in text.splitlines() if "beats the other" in line]


# --- lines -------------------------------------------------------------------------------------


def test_a_claim_is_one_line_on_top_and_its_comparison_has_one_below(tmp_path: Path) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2]], stated: [4.9]", seeds=(0, 1, 2))
    evaluated(plan, l1=[45.0] * 3, l2=[46.0] * 3)
    top, below = lines(page(plan))
    assert top == [
        "✗ not reproduced",
        "One or beats the other.",
        "−1.0 [−1.0, −1.0]",
        "+5.0 (text: +4.9)",
        "excluded, ours is lower",
        "",  # decided
    ]
    assert below == [
        "One or beats the other.",
        "4.1",
        "AP: Smooth L1 less L2 or squared",
        "−1.0 [−1.0, −1.0]",
        "below 0",
        "+5.0 (text: +4.9)",
        "excluded, ours is lower",
        "",
        "✗ not reproduced",
    ]


def test_several_comparisons_are_counted_on_top_and_listed_below(tmp_path: Path) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2], [bins, l2]]", seeds=(0, 1, 2))
    evaluated(plan, l1=[45.0] * 3, l2=[46.0] * 3, bins=[50.0] * 3)
    text = page(plan)
    assert lines(text)[0][2:] == [
        "2 comparisons: −1.0 to +4.0, 1 agrees, 1 contradicts",
        "+5.0 to +7.5",
        "excluded in 2 of 2",
        "",  # both decided
    ]
    assert "| AP: Bins less L2 \\| squared" in text


def test_names_of_the_claims_file_come_before_the_table_s(tmp_path: Path) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2]]")
    (topic,) = plan.claims.topics
    topics = (topic.model_copy(update={"names": {"l2": "squared error"}}),)
    claims = plan.claims.model_copy(update={"topics": topics})
    text = page(plan.model_copy(update={"claims": claims}), strict=False)
    assert "AP: Smooth L1 less squared error" in text


def test_the_level_of_closeness_and_the_reason_of_its_margin_are_there(tmp_path: Path) -> None:
    plan = plan_with(
        tmp_path, f"kind: close, pairs: [[l1, l2]], margin: 0.5, {REASON}", seeds=(0, 1, 2)
    )
    evaluated(plan, l1=[45.0] * 3, l2=[45.0] * 3)
    text = page(plan)
    assert lines(text)[0][2] == "0.0 [0.0, 0.0] (90 %)"
    assert "- Margin of 0.5 AP: As small." in text


def test_a_bound_near_0_shows_its_side_and_no_0_has_a_sign() -> None:
    assert [signed(number) for number in (-0.04, 0.04, -0.0, 0.06)] == ["0.0", "0.0", "0.0", "+0.1"]
    texts = [bound(number) for number in (-0.04, 0.04, -0.004, 0.06, -1.26)]
    assert texts == ["−0.04", "+0.04", "0.0", "+0.1", "−1.3"]


def test_a_bound_near_a_margin_shows_its_side() -> None:
    texts = [bound(number, 0.8, -0.8) for number in (0.836, 0.793, -0.829, 0.8, 0.9)]
    assert texts == ["+0.84", "+0.79", "−0.83", "+0.8", "+0.9"]


def test_two_seeds_are_marked_because_their_spread_is_pooled(tmp_path: Path) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2]]", seeds=(0, 1))
    evaluated(plan, l1=[45.0] * 2, l2=[40.0] * 2)
    assert lines(page(plan))[0][2].endswith(" †")


def test_only_an_undecided_interval_is_called_wide_or_narrow(tmp_path: Path) -> None:
    claims = ("kind: higher, pairs: [[l1, l2]]", "kind: higher, pairs: [[bins, l2]]")
    plan = plan_with(tmp_path, *claims, seeds=(0, 1, 2))
    evaluated(plan, l1=[40.0, 41.0, 42.0], l2=[40.0] * 3, bins=[50.0] * 3)
    undecided, decided = lines(page(plan))[:2]
    assert (undecided[0], decided[0]) == ("~ inconclusive", "✓ reproduced")
    assert undecided[5] == "narrow enough" and decided[5] == ""


def test_what_would_decide_an_undecided_claim_is_said(tmp_path: Path) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2]]", seeds=(0, 1, 2))
    evaluated(plan, l1=[44.0, 46.0, 48.0], l2=[43.0, 45.0, 47.0])
    text = page(plan)
    assert "~ inconclusive" in text
    (line,) = (found for found in lines(text) if len(found) == 4)
    assert line[1] == "+5.0"
    # Standard deviation 2 in both: with S seeds 5 is 5 / sqrt(8 / S) standard errors.
    assert int(line[2]) in (4, 5, 6)


# --- the top -----------------------------------------------------------------------------------


def test_the_papers_gains_are_counted_first_and_our_readings_apart(tmp_path: Path) -> None:
    plan = plan_with(
        tmp_path,
        "kind: higher, pairs: [[l1, l2]], whose: ours",
        "kind: higher, pairs: [[bins, l2]]",
        "kind: higher, pairs: [[bins, l1]], gain: true",
        "kind: higher, pairs: [[l2, l1]], gain: true",
        seeds=(0, 1),
    )
    evaluated(plan, l1=[45.0] * 2, l2=[44.0] * 2, bins=[50.0] * 2)
    text = page(plan)
    listed = [line for line in text.splitlines() if line.startswith("- ")][:4]
    assert listed == [
        "- The paper's gains over its baseline: 1 reproduced, 1 not reproduced.",
        "- Other statements of the paper: 1 reproduced.",
        "- Our readings of its tables, which the text does not say: 1 reproduced.",
        "- 4 claims are judged, each with a chance of about 5 % of a false decision: expect "
        "less than one among them.",
    ]
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings[:3] == [
        "## The paper's gains over its baseline",
        "## Other statements of the paper",
        "## Our readings of its tables, which the text does not say",
    ]


def test_a_claim_that_is_won_by_being_worse_has_no_tick(tmp_path: Path) -> None:
    claim = f"kind: not_higher, pairs: [[l1, l2]], margin: 0.5, {REASON}"
    plan = plan_with(tmp_path, claim, seeds=(0, 1))
    evaluated(plan, l1=[40.0] * 2, l2=[45.0] * 2)
    text = page(plan)
    assert "↓ reproduced, by being worse" in text and "✓" not in text


def test_about_one_false_decision_is_expected_among_twenty_claims(tmp_path: Path) -> None:
    plan = plan_with(tmp_path, *["kind: higher, pairs: [[l1, l2]]"] * 20, seeds=(0, 1))
    evaluated(plan, l1=[45.0] * 2, l2=[40.0] * 2)
    assert "20 claims are judged" in page(plan)
    assert "expect about 1 false decision among them" in page(plan)


def test_smoke_says_that_its_numbers_mean_nothing_and_judges_nothing(tmp_path: Path) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2]]", seeds=(0, 1))
    forbidden = plan.scale.model_copy(update={"judges": False})
    plan = plan.model_copy(update={"scale": forbidden})
    evaluated(plan, l1=[45.0] * 2, l2=[40.0] * 2)
    text = page(plan)
    assert "SMOKE scale" in text.splitlines()[2]
    assert "the numbers mean nothing. Not comparable" in text.splitlines()[2]
    assert "Other statements of the paper: 1 not judged." in text
    assert "No claim is judged." in text
    assert lines(text)[0][:1] == ["○ not judged: the scale forbids verdicts"]


def test_a_scale_that_forbids_verdicts_prints_no_interval_of_one_training_each(
    tmp_path: Path,
) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2]]")
    forbidden = plan.scale.model_copy(update={"judges": False})
    plan = plan.model_copy(update={"scale": forbidden})
    evaluated(plan, l1=[45.0], l2=[40.0])
    assert lines(page(plan))[0][0] == "○ not judged: the scale forbids verdicts"
    assert lines(page(plan))[0][2] == "one training each: +5.0"


def test_a_scale_of_directions_counts_them_and_says_that_they_are_no_verdicts(
    tmp_path: Path,
) -> None:
    both = ["kind: higher, pairs: [[l1, l2]]", "kind: higher, pairs: [[l2, l1]]"]
    plan = plan_with(tmp_path, *both)
    plan = plan.model_copy(update={"scale": plan.scale.model_copy(update={"judges": "direction"})})
    evaluated(plan, l1=[45.0], l2=[40.0])
    text = page(plan)
    assert "1 of 2 claims agree. A direction is no verdict." in text
    assert [line[0] for line in lines(text)[:2]] == [
        "○ not judged: one training each; direction agrees",
        "○ not judged: one training each; direction does not agree",
    ]


# --- the spread between trainings --------------------------------------------------------------


def test_one_training_each_is_reported_without_interval_or_verdict(tmp_path: Path) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2]]")
    evaluated(plan, l1=[45.0], l2=[40.0])
    assert lines(page(plan))[0][0] == "○ not judged: one training each; direction agrees"
    assert lines(page(plan))[0][2] == "one training each: +5.0"
    assert "**One training each: no run of the data set has several seeds" in page(plan)


def test_the_spread_of_other_runs_is_marked_and_the_mark_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = ("kind: higher, pairs: [[l1, l2]]", "kind: higher, pairs: [[bins, two]]")
    plan = plan_with(tmp_path, *claims)
    evaluated(plan, l1=[55.0], l2=[40.0], bins=[50.0] * 3, two=[40.0] * 3)
    several(monkeypatch, "obc", number=3)
    found = [line[2] for line in lines(page(plan)) if line[0].startswith("✓")]
    assert found == ["+15.0 [+15.0, +15.0] †", "+10.0 [+10.0, +10.0]"]
    assert "**†: not each of the runs compared has 3 or more seeds." in page(plan)


def test_several_seeds_everywhere_need_no_mark(tmp_path: Path) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2]]", seeds=(0, 1, 2))
    evaluated(plan, l1=[45.0] * 3, l2=[40.0] * 3)
    assert "**†" not in page(plan)
    assert "one training each" not in page(plan)
    assert "Seeds: 0, 1, 2." in page(plan)


def test_analytic_claims_are_the_last_topic_and_not_among_the_counts(tmp_path: Path) -> None:
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2]]")
    proof = {"id": "g", "section": "3", "statement": "Bounded.", "paper": "|g| < 1", "ours": "0.9",
             "verdict": "reproduced"}  # fmt: skip
    content = report(plan, judge(plan, strict=False, resample=resampler()), [proof])
    assert content["verdicts"]["paper"]["reproduced"] == 0
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
    monkeypatch.setitem(sys.modules, "obc.analysis.analytic_claims", analytic)
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2]]")
    plan.save(plan.results / "plan.json")
    assert main(["claims", str(plan.results / "plan.json"), "--partial"]) == 0
    written = json.loads((plan.results / "partial" / "claims.json").read_text())
    assert written["verdicts"]["paper"]["not run"] == 1
    assert written["topics"][0]["claims"][0]["contrasts"][0]["paper"] == 5.0
    assert (plan.results / "partial" / "claims.md").exists()
    assert not (plan.results / "claims.md").exists()


def test_a_second_page_of_claims_is_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    analytic = SimpleNamespace(analytic_claims=lambda: [])  # the real one imports MMDetection
    monkeypatch.setitem(sys.modules, "obc.analysis.analytic_claims", analytic)
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2]]")
    for folder in ("first", "second"):
        write(plan, tmp_path / folder, strict=False)
    first, second = (
        {path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()}
        for folder in ("first", "second")
    )
    assert first == second
    assert first.keys() == {"claims.json", "claims.md"}

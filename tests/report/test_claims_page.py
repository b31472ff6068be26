"""claims.md, and the command that writes it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from claim_fixtures import evaluated, plan_with, resampler, several

from obc.analysis.verdicts import judge
from obc.cli.main import main
from obc.config.plan import Plan
from obc.report.tables.claims import markdown, report


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
    monkeypatch.setitem(sys.modules, "obc.analysis.analytic_claims", analytic)
    plan = plan_with(tmp_path, "kind: higher, pairs: [[l1, l2]]")
    plan.save(plan.results / "plan.json")
    assert main(["claims", str(plan.results / "plan.json"), "--partial"]) == 0
    written = json.loads((plan.results / "partial" / "claims.json").read_text())
    assert written["verdicts"]["not run"] == 1
    assert written["topics"][0]["claims"][0]["contrasts"][0]["paper"] == 5.0
    assert (plan.results / "partial" / "claims.md").exists()
    assert not (plan.results / "claims.md").exists()

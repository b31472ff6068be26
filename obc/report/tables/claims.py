"""The page of the paper's claims: `claims.md` for people, `claims.json` for programs.

Readable without the paper: each claim as a plain sentence, the paper's difference, ours with its
interval, and a verdict.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from obc.analysis.seed_spread import ENOUGH_SEEDS
from obc.analysis.verdicts import JudgedClaim, JudgedTopic, Spread, count_test_images, judge
from obc.config.claims import Verdict
from obc.config.comparable import NOT_COMPARABLE, deviation_notes, is_comparable
from obc.config.plan import Plan
from obc.config.table import row_label
from obc.io.files import write_json, write_text
from obc.report.captions import sentence, signed, stamp, title
from obc.report.escape import escape_markdown
from obc.runs.staleness import weights_notes

SYMBOLS: dict[Verdict, str] = {
    "reproduced": "✓",
    "not reproduced": "✗",
    "within noise": "~",
    "not run": "–",
}
METHOD = (
    "Each difference is between means over seeds, in AP points, with its {percent:g} % interval; "
    "a difference smaller than half an interval's width could not have been told from 0.",
    "The interval is for other test images (paired bootstrap: {resamples} resamples from seed "
    "{seed}) and for other trainings (spread between seeds). It is for the one set of starting "
    "weights that all trainings share: no seed varies it.",
    "The spread between seeds is pooled over all runs of the data set that have several, one "
    "decoding of each, as if all runs of a data set spread alike. No data set lends it to another. "
    "Where each run of a comparison has {enough} or more seeds, their own variances are taken "
    "instead (Welch–Satterthwaite).",
    "A comparison is reproduced when its interval agrees with the claim, not reproduced when it "
    "contradicts it, otherwise within noise, and not run when an evaluation is missing or there is "
    "nothing to compare with.",
    "A claim of several comparisons is not run if one of them is not; otherwise not reproduced if "
    "one contradicts it; otherwise within noise if one is; reproduced if all are. As each of k "
    "comparisons could contradict it by chance, that takes an interval of 100 − {error:g} / k % "
    "(Bonferroni); those in the tables are of {percent:g} %.",
)
MARKS: dict[Spread | None, str] = {
    "own": "",
    "data set": " †",
    "none": " (images only)",
    None: "",
}
LEGEND: dict[Spread, str] = {
    "data set": "†: not each of the runs compared has several seeds; how far trainings spread is "
    "known from other runs of the data set only.",
    "none": "(images only): no run of the data set has several seeds, so the interval covers test "
    "images, not training noise.",
}
HEADER = ("Claim", "Section", "Compared", "Paper", "Ours", "Paper's value", "Verdict")


def write(plan: Plan, folder: Path, strict: bool, workers: int = 1) -> None:
    """Judge the claims of a plan and write `claims.json` and `claims.md` into `folder`.

    Args:
        strict: write nothing while an evaluation that a claim needs is missing; otherwise its
            claims are "not run".
        workers: processes that resample the test images.

    Raises:
        IncompleteError: strict, and evaluations are missing; names the run folders and logs.
        ConfigError, MetricsFileError, DetectionsFileError, DatasetError: as
            `obc.analysis.verdicts.judge`.
    """
    judged = judge(plan, strict, workers)
    # Not at the top: it imports MMDetection, which takes seconds and is best not forked.
    from obc.analysis.analytic_claims import analytic_claims

    content = report(plan, judged, analytic_claims())
    write_json(folder / "claims.json", content)
    write_text(folder / "claims.md", markdown(content))


def report(
    plan: Plan, judged: Sequence[JudgedTopic], analytic: list[dict[str, Any]]
) -> dict[str, Any]:
    """Everything that the page says, as JSON content.

    Args:
        analytic: claims that need no run: id, section, statement, paper, ours, verdict (texts).
    """
    claims = plan.claims
    counts = Counter(claim.verdict for topic in judged for claim in topic.claims)
    tables = [plan.tables[topic.topic.table] for topic in judged]
    rows = [row for table in tables for row in table.rows if not row.cited]
    seeds = {seed for row in rows for seed in plan.seeds_of(plan.run_of(row).run_id)}
    return {
        "scale": plan.scale.name,
        "description": plan.scale.description,
        "comparable": all(is_comparable(plan, table) for table in tables),
        "seeds": sorted(seeds),
        "resamples": claims.resamples,
        "resampling_seed": claims.seed,
        "confidence": claims.confidence,
        "method": [
            text.format(
                percent=100 * claims.confidence,
                error=100 * (1 - claims.confidence),
                resamples=claims.resamples,
                seed=claims.seed,
                enough=ENOUGH_SEEDS,
            )
            for text in METHOD
        ],
        "notes": list(plan.notes),
        "verdicts": {verdict: counts[verdict] for verdict in SYMBOLS},
        "topics": [_topic(plan, topic) for topic in judged],
        "analytic": analytic,
    }


def _topic(plan: Plan, judged: JudgedTopic) -> dict[str, Any]:
    topic, table = judged.topic, plan.tables[judged.topic.table]
    used = {key for claim in topic.claims for key in claim.row_keys}
    return {
        "table": topic.table,
        "title": topic.title,
        "source": title(table),
        "stamp": stamp(plan, table),
        "test_images": count_test_images(plan, table.dataset),
        "rows": {key: row_label(row) for key, row in table.keyed_rows.items() if key in used},
        "notes": [*deviation_notes(plan, table), *weights_notes(plan, table)],
        "claims": [_claim(claim) for claim in judged.claims],
    }


def _claim(judged: JudgedClaim) -> dict[str, Any]:
    claim = judged.claim
    return {
        **claim.model_dump(mode="json", include={"id", "section", "statement", "kind", "margin"}),
        "verdict": judged.verdict,
        "contrasts": [asdict(contrast) for contrast in judged.contrasts],
    }


# --- Markdown ----------------------------------------------------------------------------------


def markdown(content: dict[str, Any]) -> str:
    """The page, from what `report` returns."""
    counts = ", ".join(f"{number} {verdict}" for verdict, number in content["verdicts"].items())
    seeds = content["seeds"]
    lines = [
        f"{content['scale'].upper()} scale: {content['description'].rstrip('.')}.",
        "" if content["comparable"] else NOT_COMPARABLE,
        f"{'Seeds' if len(seeds) > 1 else 'Seed'}: {', '.join(map(str, seeds))}.",
    ]
    paragraphs = [
        "# The paper's claims, judged",
        f"**{escape_markdown(' '.join(filter(None, lines)))}**",
        f"Claims: {counts}.",
        "\n".join(f"- {text}" for text in content["method"]),
        *(f"**{LEGEND[spread]}**" for spread in LEGEND if spread in _spreads(content)),
        *(escape_markdown(sentence(note)) for note in content["notes"]),
    ]
    for topic in content["topics"]:
        paragraphs += _topic_paragraphs(content, topic)
    if content["analytic"]:
        paragraphs += ["## Analytic claims", "About losses and gradients; they need no training."]
        paragraphs += [_table(("Claim", "Section", "Paper", "Ours", "Verdict"), [
            (claim["statement"], claim["section"], claim["paper"], claim["ours"],
             _verdict(claim["verdict"]))
            for claim in content["analytic"]
        ])]  # fmt: skip
    return "\n\n".join(filter(None, paragraphs)) + "\n"


def _spreads(content: dict[str, Any]) -> set[Spread | None]:
    return {
        contrast["spread"]
        for topic in content["topics"]
        for claim in topic["claims"]
        for contrast in claim["contrasts"]
    }


def _topic_paragraphs(content: dict[str, Any], topic: dict[str, Any]) -> list[str]:
    images = topic["test_images"]
    tested = "" if images is None else f" {images} test images."
    rows = "; ".join(f"{key} = {label}" for key, label in topic["rows"].items())
    cells = [line for claim in topic["claims"] for line in claim_lines(claim)]
    return [
        f"## {escape_markdown(topic['title'])}",
        escape_markdown(f"{topic['source']} {topic['stamp']}{tested}"),
        *(escape_markdown(sentence(note)) for note in topic["notes"]),
        _table(HEADER, cells),
        escape_markdown(f"Rows: {rows}."),
    ]


def claim_lines(claim: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """A line for the claim and, where it makes several comparisons, one for each of them."""
    contrasts = claim["contrasts"]
    named = (_statement(claim), claim["section"])
    if len(contrasts) == 1:
        yield (*named, *_comparison(contrasts[0]))
        return
    marks = dict.fromkeys(MARKS[contrast["spread"]] for contrast in contrasts)
    verdict = _verdict(claim["verdict"]) + "".join(marks)
    yield (*named, f"all {len(contrasts)} below", "", "", "", verdict)
    for contrast in contrasts:
        yield ("", "", *_comparison(contrast))


def _statement(claim: dict[str, Any]) -> str:
    margin = claim.get("margin")
    return claim["statement"] + (f" (Margin {margin:g} AP.)" if margin is not None else "")


def _comparison(contrast: dict[str, Any]) -> tuple[str, ...]:
    """Compared, paper, ours, where the paper's value is, verdict."""
    paper, stated = contrast["paper"], contrast["stated"]
    published = "not published" if paper is None else signed(paper)
    if stated is not None and (paper is None or round(stated - paper, 1)):
        published += f" (text: {signed(stated)})"
    position = contrast["paper_position"]
    return (
        contrast["compared"],
        published,
        _ours(contrast),
        f"{position} our interval" if position else "",
        _verdict(contrast["verdict"]) + MARKS[contrast["spread"]],
    )


def _ours(contrast: dict[str, Any]) -> str:
    """The difference and its interval, or why there is none."""
    difference, low, high = (contrast[name] for name in ("difference", "low", "high"))
    if difference is None:
        return contrast["reason"]
    if low is None:
        return f"{signed(difference)}, {contrast['reason']}"
    return f"{signed(difference)} [{signed(low)}, {signed(high)}]"


def _table(header: Sequence[str], cells: list[tuple[str, ...]]) -> str:
    escaped = [[escape_markdown(cell) for cell in line] for line in cells]
    return pd.DataFrame(escaped, columns=list(header)).to_markdown(
        index=False, disable_numparse=True
    )


def _verdict(verdict: Verdict) -> str:
    return f"{SYMBOLS[verdict]} {verdict}"

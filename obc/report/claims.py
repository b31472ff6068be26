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

from obc.atomic import write_json, write_text
from obc.claims import Verdict
from obc.experiment import Row
from obc.plan import Plan
from obc.report.captions import NOT_COMPARABLE, is_comparable, stamp, title
from obc.report.freshness import stale_notes
from obc.report.tables import escape_markdown
from obc.report.verdicts import JudgedClaim, JudgedTopic, count_test_images, judge

SYMBOLS: dict[Verdict, str] = {
    "reproduced": "✓",
    "not reproduced": "✗",
    "within noise": "~",
    "not run": "–",
}
METHOD = (
    "Each difference is between means over seeds, in AP points, with a {percent:g} % interval for "
    "other test images (paired bootstrap: {resamples} resamples from seed {seed}) and other "
    "trainings (spread between seeds). A claim is reproduced when the interval of each of its "
    "comparisons agrees with it, not reproduced when one contradicts it, else within noise."
)
ONE_SEED = "one seed: intervals cover test images only, not training noise"
HEADER = ("Claim", "Section", "Compared", "Paper", "Ours", "Paper's lies", "Verdict")


def write(plan: Plan, folder: Path, strict: bool, workers: int = 1) -> None:
    """Judge the claims of a plan and write `claims.json` and `claims.md` into `folder`.

    Args:
        strict: write nothing while an evaluation that a claim needs is missing; otherwise its
            claims are "not run".
        workers: processes that resample the test images.

    Raises:
        IncompleteError: strict, and evaluations are missing; names the run folders and logs.
        ConfigError, MetricsFileError, DetectionsFileError: as `obc.report.verdicts.judge`.
    """
    judged = judge(plan, strict, workers)
    # Not at the top: it imports MMDetection, which takes seconds and is best not forked.
    from obc.report.analytic import analytic_claims

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
    trainings = any(
        contrast.seed_degrees
        for topic in judged
        for claim in topic.claims
        for contrast in claim.contrasts
    )
    seeds = {seed for row in rows for seed in plan.seeds_of(plan.run_of(row).run_id)}
    return {
        "scale": plan.scale.name,
        "description": plan.scale.description,
        "comparable": all(is_comparable(plan, table) for table in tables),
        "seeds": sorted(seeds),
        "resamples": claims.resamples,
        "resampling_seed": claims.seed,
        "confidence": claims.confidence,
        "intervals_cover_trainings": trainings,
        "method": METHOD.format(
            percent=100 * claims.confidence, resamples=claims.resamples, seed=claims.seed
        ),
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
        "rows": {key: _label(row) for key, row in table.keyed_rows.items() if key in used},
        "notes": stale_notes(plan, table),
        "claims": [_claim(claim) for claim in judged.claims],
    }


def _claim(judged: JudgedClaim) -> dict[str, Any]:
    claim = judged.claim
    return {
        **claim.model_dump(mode="json", include={"id", "section", "statement", "kind", "margin"}),
        "verdict": judged.verdict,
        "contrasts": [asdict(contrast) for contrast in judged.contrasts],
    }


def _label(row: Row) -> str:
    """A row's label with its further columns, e.g. `Bin Classification (Expectation ✓)`."""
    columns = [f"{name} {value}" for name, value in row.columns.items() if value]
    return f"{row.label} ({', '.join(columns)})" if columns else row.label


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
        content["method"],
        "" if content["intervals_cover_trainings"] else f"**{_sentence(ONE_SEED)}**",
        *(escape_markdown(_sentence(note)) for note in content["notes"]),
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


def _topic_paragraphs(content: dict[str, Any], topic: dict[str, Any]) -> list[str]:
    images = topic["test_images"]
    tested = "" if images is None else f" {images} test images."
    rows = "; ".join(f"{key} = {label}" for key, label in topic["rows"].items())
    cells = [line for claim in topic["claims"] for line in _claim_lines(content, claim)]
    return [
        f"## {escape_markdown(topic['title'])}",
        escape_markdown(f"{topic['source']} {topic['stamp']}{tested}"),
        *(escape_markdown(_sentence(note)) for note in topic["notes"]),
        _table(HEADER, cells),
        escape_markdown(f"Rows: {rows}."),
    ]


def _claim_lines(content: dict[str, Any], claim: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """A line for the claim and, where it makes several comparisons, one for each of them."""
    contrasts = claim["contrasts"]
    named = (_statement(claim), claim["section"])
    if len(contrasts) == 1:
        yield (*named, *_comparison(content, contrasts[0]))
        return
    yield (*named, f"all {len(contrasts)} below", "", "", "", _verdict(claim["verdict"]))
    for contrast in contrasts:
        yield ("", "", *_comparison(content, contrast))


def _statement(claim: dict[str, Any]) -> str:
    margin = claim.get("margin")
    return claim["statement"] + (f" (Margin {margin:g} AP.)" if margin is not None else "")


def _comparison(content: dict[str, Any], contrast: dict[str, Any]) -> tuple[str, ...]:
    """Compared, paper, ours, where the paper's lies, verdict."""
    paper, stated = contrast["paper"], contrast["stated"]
    published = "not published" if paper is None else _signed(paper, 1)
    if stated is not None and (paper is None or round(stated - paper, 1)):
        published += f" (text: {_signed(stated, 1)})"
    verdict = _verdict(contrast["verdict"])
    if contrast["reason"] is not None:
        return contrast["compared"], published, contrast["reason"], "", verdict
    ours, low, high = (_signed(contrast[name], 2) for name in ("difference", "low", "high"))
    one_seed = "" if contrast["seed_degrees"] else " (one seed)"
    return (
        contrast["compared"],
        published,
        f"{ours} [{low}, {high}]",
        contrast["paper_lies"] or "",
        verdict + one_seed,
    )


def _table(header: Sequence[str], cells: list[tuple[str, ...]]) -> str:
    escaped = [[escape_markdown(cell) for cell in line] for line in cells]
    return pd.DataFrame(escaped, columns=list(header)).to_markdown(
        index=False, disable_numparse=True
    )


def _verdict(verdict: Verdict) -> str:
    return f"{SYMBOLS[verdict]} {verdict}"


def _signed(number: float, decimals: int) -> str:
    return f"{number:+z.{decimals}f}".replace("-", "−")


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."

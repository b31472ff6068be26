"""The page of the paper's claims: `claims.md` for people, `claims.json` for programs.

The page can be read without the paper. It shows how many claims were reproduced, a line for each
claim, how many seeds would decide the undecided claims, and then each comparison: our difference
with its interval, the paper's difference, and the verdict.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from obc.analysis.power import CHANCE, IMAGES, SEEDS, needed
from obc.analysis.seed_spread import ENOUGH_SEEDS
from obc.analysis.verdicts import JudgedClaim, JudgedTopic, Spread, count_test_images, judge
from obc.config.claims import Claims, Verdict
from obc.config.comparable import NOT_COMPARABLE, deviation_notes, is_comparable
from obc.config.plan import Plan
from obc.io.files import write_json, write_text
from obc.report.captions import bound, sentence, signed, stamp, title
from obc.report.escape import escape_markdown
from obc.runs.staleness import weights_notes

# Version of claims.json: raise it when the rules for verdicts or the keys of the file change.
RULES = 3
Group = Literal["gains", "paper", "ours"]
# Verdict that colours a claim on the page; None: the claim is "no gain", and we measured a loss.
Counted = Verdict | None
GROUPS: dict[Group, str] = {
    "gains": "The paper's gains over its baseline",
    "paper": "Other statements of the paper",
    "ours": "Our readings of its tables, which the text does not say",
}
SYMBOLS: dict[Verdict, str] = {
    "reproduced": "✓",
    "not reproduced": "✗",
    "inconclusive": "~",
    "not judged": "○",
    "not run": "–",
}
DECIDABLE: tuple[Verdict, ...] = ("reproduced", "not reproduced", "inconclusive")
METHOD = (
    "A difference is the mean over seeds of one side less that of the other, in AP points. In "
    "brackets is its {percent:g} % interval ({equivalence:g} % where a claim is that two are "
    "close: each of its bounds is a one-sided test at {error:g} %). The interval covers other test "
    "images (paired bootstrap: {resamples} resamples from seed {seed}) and other trainings (spread "
    "between seeds). {starting_weights}",
    "The spread between seeds is that of the runs compared where each has {enough} or more seeds "
    "(Welch). Otherwise it is pooled over the rows on this page that are of the same data set and "
    "have several seeds, one decoding of each, and marked †. A † interval is right only if the "
    "runs compared spread as the pooled runs do.",
    "The interval that is printed decides about a comparison. A claim of several comparisons is "
    "reproduced if all of them agree with it. It is not reproduced if one contradicts it, and its "
    "wider interval contradicts it as well: with k comparisons that is the interval of "
    "100 − {error:g} / k % (100 − {equivalence_error:g} / k % for closeness), since each of them "
    "could contradict by chance (Bonferroni). Otherwise the claim is inconclusive.",
    "Inconclusive does not mean that there is no effect. An effect of the paper's size is excluded "
    "if the interval leaves out the paper's difference. An interval is too wide to decide if it "
    "would stay undecided even when moved onto the paper's difference (where the paper prints "
    "none: onto {smallest:g} AP, or 0 for closeness). Then more seeds or test images are needed. "
    "The last two columns are empty where they do not apply.",
    "A comparison is not judged if no run of its data set has several seeds, because then nothing "
    "is known of the spread between trainings; if its reference has less than {learnt:g} AP, or "
    "both sides less than that at a metric compared, because then nothing was learnt; or if the "
    "scale forbids verdicts. Where the reason is a single training each, or the scale, the page "
    "says whether the difference by itself has the direction of the claim.",
)
STARTING_WEIGHTS = {
    False: "It does not cover other starting weights: all trainings share one set.",
    True: "It covers other starting weights too: each seed has its own.",
}
MARKS: dict[Spread | None, str] = {"own": "", "data set": " †", "none": "", None: ""}
LEGEND: dict[Spread, str] = {
    "data set": f"†: not each of the runs compared has {ENOUGH_SEEDS} or more seeds. The spread "
    "between trainings is taken from the runs of the data set that have several.",
    "none": "One training each: no run of the data set has several seeds, so how far trainings "
    "spread is not known and nothing is decided.",
}
HOW = "How a verdict comes about"
OVERVIEW = ("Verdict", "Claim", "Ours", "Paper", "Effect of the paper's size", "Interval")
DETAILS = (
    "Claim", "Section", "Comparison", "Ours", "Lies", "Paper", "Effect of the paper's size",
    "Interval", "Verdict",
)  # fmt: skip


def write(plan: Plan, folder: Path, strict: bool, workers: int = 1) -> None:
    """Judge the claims of a plan and write `claims.json` and `claims.md` into `folder`.

    Args:
        strict: write nothing while an evaluation that a claim needs is missing; otherwise claims
            with missing evaluations are "not run".
        workers: processes that resample the test images.

    Raises:
        IncompleteError: `strict` is set and evaluations are missing; the message names the run
            folders and logs.
        ConfigError, MetricsFileError, DetectionsFileError, DatasetError: as in
            `obc.analysis.verdicts.judge`.
    """
    judged = judge(plan, strict, workers)
    # Imported after `judge` has forked its workers: it imports MMDetection, which takes seconds and
    # is best not forked.
    from obc.analysis.analytic_claims import analytic_claims

    content = report(plan, judged, analytic_claims())
    write_json(folder / "claims.json", content)
    write_text(folder / "claims.md", markdown(content))


def report(
    plan: Plan, judged: Sequence[JudgedTopic], analytic: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return the content of the page as JSON data.

    Args:
        analytic: claims that need no run, as texts: id, section, statement, paper, ours, verdict.
    """
    claims = plan.claims
    every = [claim for topic in judged for claim in topic.claims]
    tables = [plan.tables[topic.topic.table] for topic in judged]
    rows = [row for table in tables for row in table.rows if not row.cited]
    seeds = {seed for row in rows for seed in plan.seeds_of(plan.run_of(row).run_id)}
    return {
        "rules": RULES,
        "scale": plan.scale.name,
        "description": plan.scale.description,
        "comparable": all(is_comparable(plan, table) for table in tables),
        "seeds": sorted(seeds),
        "resamples": claims.resamples,
        "resampling_seed": claims.seed,
        "confidence": claims.confidence,
        "headline": _headline(every, claims.confidence),
        "method": [text.format(**_method(plan)) for text in METHOD],
        "notes": list(plan.notes),
        "verdicts": {
            group: {verdict: counts[verdict] for verdict in SYMBOLS}
            for group, counts in _counts(every).items()
        },
        "topics": [_topic(plan, topic) for topic in judged],
        "analytic": analytic,
    }


def _method(plan: Plan) -> dict[str, Any]:
    claims = plan.claims
    error = 100 * (1 - claims.confidence)
    return {
        "percent": 100 * claims.confidence,
        "equivalence": 100 - 2 * error,
        "error": error,
        "equivalence_error": 2 * error,
        "resamples": claims.resamples,
        "seed": claims.seed,
        "enough": ENOUGH_SEEDS,
        "smallest": claims.smallest_effect,
        "learnt": claims.learnt,
        "starting_weights": STARTING_WEIGHTS[plan.scale.starting_weights_per_seed],
    }


def _group(whose: str, gain: bool) -> Group:
    return "ours" if whose == "ours" else "gains" if gain else "paper"


def _counts(judged: Iterable[JudgedClaim]) -> dict[Group, Counter[Verdict]]:
    counts: dict[Group, Counter[Verdict]] = {group: Counter() for group in GROUPS}
    for one in judged:
        counts[_group(one.claim.whose, one.claim.gain)][one.verdict] += 1
    return counts


def _headline(judged: Sequence[JudgedClaim], confidence: float) -> list[str]:
    """Count the verdicts of each group, and estimate how many decisions are false by chance."""
    lines = []
    for group, counts in _counts(judged).items():
        parts = [f"{counts[verdict]} {verdict}" for verdict in SYMBOLS if counts[verdict]]
        if parts:
            lines.append(f"{GROUPS[group]}: {', '.join(parts)}.")
    number = sum(claim.verdict in DECIDABLE for claim in judged)
    error = 1 - confidence
    shown = Counter(claim.direction for claim in judged if claim.direction is not None)
    if shown:
        lines.append(
            f"Direction of the difference, without regard to noise: {shown['agrees']} of "
            f"{shown.total()} claims agree. A direction is no verdict."
        )
    if number == 0:
        return [*lines, "No claim is judged."]
    false = round(number * error)
    about = f"about {false} false decision{'s' * (false > 1)}" if false else "less than one"
    each = "claim is" if number == 1 else "claims are"
    return [
        *lines,
        f"{number} {each} judged, each with a chance of about {100 * error:.3g} % of a false "
        f"decision: expect {about} among {'it' if number == 1 else 'them'}.",
    ]


def _topic(plan: Plan, judged: JudgedTopic) -> dict[str, Any]:
    topic, table = judged.topic, plan.tables[judged.topic.table]
    return {
        "table": topic.table,
        "title": topic.title,
        "source": title(table),
        "stamp": stamp(plan, table),
        "test_images": count_test_images(plan, table.dataset),
        "notes": [*deviation_notes(plan, table), *weights_notes(plan, table)],
        "claims": [_claim(plan.claims, claim) for claim in judged.claims],
    }


def _claim(claims: Claims, judged: JudgedClaim) -> dict[str, Any]:
    claim = judged.claim
    fields = {"id", "section", "statement", "whose", "gain", "kind", "margin", "margin_reason"}
    undecided = judged.verdict == "inconclusive" or claim.kind == "close"
    wanted = None
    if undecided and judged.verdict in DECIDABLE:
        wanted = needed(judged, claims.confidence, claims.smallest_effect)
    return {
        **claim.model_dump(mode="json", include=fields),
        "verdict": judged.verdict,
        "reason": judged.reason,
        "direction": judged.direction,
        "by_being_worse": judged.by_being_worse,
        "needed": wanted and asdict(wanted),
        "contrasts": [asdict(contrast) for contrast in judged.contrasts],
    }


# --- lines -------------------------------------------------------------------------------------


def overview(content: dict[str, Any]) -> list[tuple[str, list[tuple[Counted, tuple[str, ...]]]]]:
    """Return the title and the lines of each group of claims, a line for each claim.

    A line is a pair: the claim's `Counted`, and its cells in the order of OVERVIEW.
    """
    groups: dict[Group, list[tuple[Counted, tuple[str, ...]]]] = {group: [] for group in GROUPS}
    for topic in content["topics"]:
        for claim in topic["claims"]:
            counted = None if claim["by_being_worse"] else claim["verdict"]
            line = _overview_line(claim)
            groups[_group(claim["whose"], claim["gain"])].append((counted, line))
    return [(GROUPS[group], lines) for group, lines in groups.items() if lines]


@dataclass(frozen=True)
class Sentence:
    """A claim in one line: verdict, statement and sizes.

    Attributes:
        counted: see `Counted`.
        verdict: the verdict with its symbol.
        sizes: our difference and the paper's; if the claim is not judged, also the direction of
            our difference, or the reason if the direction is not known.
    """

    counted: Counted
    verdict: str
    statement: str
    sizes: str


def in_sentences(content: dict[str, Any]) -> list[tuple[str, list[Sentence]]]:
    """Return the title and the sentences of each group of claims, a sentence for each claim."""
    groups: dict[Group, list[Sentence]] = {group: [] for group in GROUPS}
    for topic in content["topics"]:
        for claim in topic["claims"]:
            groups[_group(claim["whose"], claim["gain"])].append(_sentence(claim))
    return [(GROUPS[group], lines) for group, lines in groups.items() if lines]


def _sentence(claim: dict[str, Any]) -> Sentence:
    _, statement, ours, paper, *_ = _overview_line(claim)
    if claim["by_being_worse"]:
        return Sentence(None, verdict_text(claim), statement, f"Ours: {ours}; paper: {paper}.")
    verdict = claim["verdict"]
    parts = [f"Ours: {ours}", f"paper: {paper}"]
    if verdict == "not judged":
        direction = claim["direction"]
        parts.append(f"direction {direction}" if direction else claim["reason"])
    return Sentence(verdict, f"{SYMBOLS[verdict]} {verdict}", statement, f"{'; '.join(parts)}.")


def detail_lines(claim: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield a line for each comparison of a claim, with its cells in the order of DETAILS.

    Only the first line has the claim's statement, section and verdict.
    """
    for index, contrast in enumerate(claim["contrasts"]):
        first = index == 0
        yield (
            claim["statement"] if first else "",
            claim["section"] if first else "",
            contrast["compared"],
            _ours(contrast, claim),
            contrast["words"] or "",
            _paper(contrast),
            contrast["paper_size"] or "",
            _width(contrast),
            verdict_text(claim) if first else "",
        )


def verdict_text(claim: dict[str, Any]) -> str:
    """Return a claim's verdict with its symbol; if the claim is not judged, with the reason."""
    if claim["by_being_worse"]:
        return "↓ reproduced, by being worse"
    text = f"{SYMBOLS[claim['verdict']]} {claim['verdict']}"
    if claim["verdict"] != "not judged":
        return text
    direction = f"; direction {claim['direction']}" if claim["direction"] else ""
    return f"{text}: {claim['reason']}{direction}"


def needed_lines(content: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return a line for each claim with an estimate of the seeds needed, in the order of NEEDED."""
    lines = []
    for topic in content["topics"]:
        for claim in topic["claims"]:
            if claim["needed"]:
                size = _range(claim["needed"]["expected"])
                seeds = [str(n or f"more than {SEEDS[-1]}") for n in claim["needed"]["seeds"]]
                lines.append((claim["statement"], size, *seeds))
    return lines


NEEDED = (
    "Claim",
    "If the true difference is",
    "Seeds of each run",
    *(f"Seeds with {times} times the test images" for times in IMAGES[1:]),
)
NEEDED_TEXT = (
    "How many seeds every run would need for the claim to come out as reproduced with a chance of "
    f"{100 * CHANCE:.0f} %, if it is true with the paper's difference (where the paper prints "
    "none: with the least that counts). Simulated from the measured variances between seeds and "
    "between resamples of the test images."
)


def _overview_line(claim: dict[str, Any]) -> tuple[str, ...]:
    contrasts = claim["contrasts"]
    verdict = verdict_text(claim)
    if len(contrasts) == 1:
        (one,) = contrasts
        sizes = (_ours(one, claim), _paper(one), one["paper_size"] or "", _width(one))
        return (verdict, claim["statement"], *sizes)
    sized = [one for one in contrasts if one["paper_size"]]
    excluded = sum(one["paper_size"].startswith("excluded") for one in sized)
    undecided = [one for one in contrasts if _width(one)]
    wide = sum(one["too_wide"] for one in undecided)
    return (
        verdict,
        claim["statement"],
        _tally(contrasts),
        _range([one["paper"] for one in contrasts]),
        f"excluded in {excluded} of {len(sized)}" if sized else "",
        f"too wide in {wide} of {len(undecided)}" if undecided else "",
    )


def _tally(contrasts: list[dict[str, Any]]) -> str:
    """Summarise the findings of comparisons, e.g. `4 comparisons: 3 agree, 1 contradicts`."""
    reasons = dict.fromkeys(one["reason"] for one in contrasts if one["status"] == "not run")
    if reasons:
        return f"{len(contrasts)} comparisons: {'; '.join(reasons)}"
    words = {"agrees": ("agrees", "agree"), "contradicts": ("contradicts", "contradict"),
             "undecided": ("undecided", "undecided")}  # fmt: skip
    found = Counter(one["finding"] for one in contrasts)
    parts = [f"{found[name]} {one if found[name] == 1 else many}"
             for name, (one, many) in words.items() if found[name]]  # fmt: skip
    differences = [one["difference"] for one in contrasts if one["difference"] is not None]
    sizes = [_range(differences)] if differences else []
    return f"{len(contrasts)} comparisons: {', '.join([*sizes, *parts])}"


def _range(numbers: list[float | None]) -> str:
    there = [number for number in numbers if number is not None]
    if not there:
        return "not published"
    low, high = signed(min(there)), signed(max(there))
    return low if low == high else f"{low} to {high}"


def _paper(contrast: dict[str, Any]) -> str:
    paper, stated = contrast["paper"], contrast["stated"]
    published = "not published" if paper is None else signed(paper)
    if stated is not None and (paper is None or round(stated - paper, 1)):
        published += f" (text: {signed(stated)})"
    return published


def _ours(contrast: dict[str, Any], claim: dict[str, Any]) -> str:
    """Return our difference with its interval, or the reason why there is no difference.

    For a claim of kind `close` the text includes the confidence level of the interval. Bounds show
    on which side of the claim's margin they lie.
    """
    difference, low, high = (contrast[name] for name in ("difference", "low", "high"))
    if difference is None:
        return contrast["reason"]
    if low is None:
        alone = contrast["spread"] == "none"
        return f"{'one training each: ' if alone else ''}{signed(difference)}"
    level = f" ({100 * contrast['level']:.3g} %)" if claim["kind"] == "close" else ""
    margin = claim.get("margin") or 0.0
    low, high = (bound(number, margin, -margin) for number in (low, high))
    text = f"{signed(difference)} [{low}, {high}]{level}"
    return text + MARKS[contrast["spread"]]


def _width(contrast: dict[str, Any]) -> str:
    """Whether the interval of an undecided comparison could have decided it; else empty."""
    if contrast["too_wide"] is None or contrast["finding"] != "undecided":
        return ""
    return "too wide to decide" if contrast["too_wide"] else "narrow enough"


# --- Markdown ----------------------------------------------------------------------------------


def markdown(content: dict[str, Any]) -> str:
    """Render the content that `report` returns as Markdown."""
    seeds = content["seeds"]
    lines = [
        f"{content['scale'].upper()} scale: {content['description'].rstrip('.')}.",
        "" if content["comparable"] else NOT_COMPARABLE,
        f"{'Seeds' if len(seeds) > 1 else 'Seed'}: {', '.join(map(str, seeds))}.",
    ]
    paragraphs = [
        "# The paper's claims, judged",
        f"**{escape_markdown(' '.join(filter(None, lines)))}**",
        "\n".join(f"- {escape_markdown(text)}" for text in content["headline"]),
        f"What verdicts and columns mean: see *{HOW}* below.",
        *(f"**{LEGEND[spread]}**" for spread in LEGEND if spread in spreads(content)),
        *(escape_markdown(sentence(note)) for note in content["notes"]),
    ]
    for heading, claims in overview(content):
        paragraphs += [f"## {heading}", _table(OVERVIEW, [line for _, line in claims])]
    if needed_lines(content):
        paragraphs += ["## What it would take to decide", NEEDED_TEXT]
        paragraphs += [_table(NEEDED, needed_lines(content))]
    paragraphs += [f"## {HOW}"]
    paragraphs += ["\n".join(f"- {escape_markdown(text)}" for text in content["method"])]
    paragraphs += ["## Every comparison"]
    for topic in content["topics"]:
        paragraphs += _topic_paragraphs(topic)
    if content["analytic"]:
        paragraphs += ["## Analytic claims", "About losses and gradients; they need no training."]
        paragraphs += [_table(("Claim", "Section", "Paper", "Ours", "Verdict"), [
            (claim["statement"], claim["section"], claim["paper"], claim["ours"],
             f"{SYMBOLS[claim['verdict']]} {claim['verdict']}")
            for claim in content["analytic"]
        ])]  # fmt: skip
    return "\n\n".join(filter(None, paragraphs)) + "\n"


def spreads(content: dict[str, Any]) -> set[Spread | None]:
    """Return the sources of the spread between trainings that the comparisons use."""
    return {
        contrast["spread"]
        for topic in content["topics"]
        for claim in topic["claims"]
        for contrast in claim["contrasts"]
    }


def _topic_paragraphs(topic: dict[str, Any]) -> list[str]:
    images = topic["test_images"]
    tested = "" if images is None else f" {images} test images."
    return [
        f"### {escape_markdown(topic['title'])}",
        escape_markdown(f"{topic['source']} {topic['stamp']}{tested}"),
        *(escape_markdown(sentence(note)) for note in topic["notes"]),
        _table(DETAILS, [line for claim in topic["claims"] for line in detail_lines(claim)]),
        "\n".join(f"- {escape_markdown(text)}" for text in margins(topic)),
    ]


def margins(topic: dict[str, Any]) -> list[str]:
    """Each margin of a topic's claims with its reason."""
    texts = (
        f"Margin of {claim['margin']:g} AP: {claim['margin_reason']}"
        for claim in topic["claims"]
        if claim.get("margin") is not None
    )
    return list(dict.fromkeys(texts))


def _table(header: Sequence[str], cells: list[tuple[str, ...]]) -> str:
    escaped = [[escape_markdown(cell) for cell in line] for line in cells]
    return pd.DataFrame(escaped, columns=list(header)).to_markdown(
        index=False, disable_numparse=True
    )

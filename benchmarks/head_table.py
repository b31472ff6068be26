"""The heads' times and their goals, as Markdown, from what `test_heads.py` measured.

    python benchmarks/head_table.py heads.json

A time is the median of the rounds. A ratio is the median of the rounds' ratios, with their smallest
and largest: the heads of a round were measured one after the other.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

BASELINE = "baseline"
SABL = "SABLHead"
SHARED = "OBC, K = 2, shared"
AGAIN = "OBCRoIHead, K = 2"
COLUMNS = (
    BASELINE, SABL, "OBC, K = 1", SHARED, "OBC, K = 3, shared", AGAIN, "OBCRoIHead, K = 3",
)  # fmt: skip
WHAT = {"train": "training step", "loss": "targets, loss, gradients", "decode": "decoding"}

Place = tuple[str, str, int, int]  # device, precision, RoIs, classes
Rounds = dict[int, float]  # seconds of each round


@dataclass(frozen=True)
class Goal:
    """An upper limit of a head's time, as a ratio to another's in the same round."""

    text: str
    head: str
    other: str
    whats: tuple[str, ...]
    num_classes: int
    limit: float


GOALS = (
    *(
        Goal(f"training step, {other}'s", head, other, ("train",), num_classes, limit)
        for other, num_classes, limit in (
            (BASELINE, 80, 1.00),
            (BASELINE, 20, 1.05),
            (SABL, 80, 0.50),
        )
        for head in (SHARED, AGAIN)
    ),
    *(
        Goal("all but the layers, baseline's", head, BASELINE, ("loss", "decode"), 80, 0.50)
        for head in COLUMNS[2:]
    ),
)


class Measured:
    """The measurements of a run, by place, what and head."""

    def __init__(self, benchmarks: list[dict[str, Any]]) -> None:
        self.seconds: dict[tuple[Place, str, str], Rounds] = defaultdict(dict)
        self.extra: dict[tuple[Place, str, str], dict[str, Any]] = {}
        for one in benchmarks:
            extra = one["extra_info"]
            place = tuple(extra[k] for k in ("device", "precision", "num_rois", "num_classes"))
            key = (place, extra["what"], extra["head"])
            self.seconds[key][extra["round"]] = one["stats"]["median"]
            self.extra[key] = extra

    def places(self) -> list[Place]:
        """In the order of measurement."""
        return list(dict.fromkeys(place for place, _, _ in self.seconds))

    def median(self, place: Place, what: str, head: str) -> float | None:
        """Median of the rounds, in seconds."""
        rounds = self.seconds.get((place, what, head))
        return median(rounds.values()) if rounds else None

    def ratios(self, place: Place, goal: Goal) -> list[float]:
        """One for each round; none where the heads were not measured."""
        ours, others = (
            [self.seconds.get((place, what, head)) for what in goal.whats]
            for head in (goal.head, goal.other)
        )
        if not all(ours) or not all(others):
            return []
        return [
            sum(part[number] for part in ours) / sum(part[number] for part in others)
            for number in ours[0]
        ]

    def rate(self, place: Place, what: str, amount: str) -> float:
        """Operations or bytes a second that the device itself reached in the same run."""
        key = ((*place[:3], 80), what, "machine")
        return self.extra[key][amount] / self.median(*key)


def markdown(run: dict[str, Any]) -> str:
    """All tables of a run, the goals last."""
    measured = Measured(run["benchmarks"])
    parts = (heading(run), costs(measured), times(measured), floors(measured), goals(measured))
    return "\n\n".join(parts)


def heading(run: dict[str, Any]) -> str:
    """What it was measured on."""
    extras = [one["extra_info"] for one in run["benchmarks"]]
    processor = run["machine_info"]["cpu"].get("brand_raw", "a processor without a name")
    machines = [f"{processor}, {extras[0]['threads']} thread"]
    machines += sorted({extra["gpu"] for extra in extras} - {None})
    rounds = 1 + max(extra["round"] for extra in extras)
    clock = "On the CPU, milliseconds of processor time; on a GPU, of the clock:"
    return f"{'; '.join(machines)}; torch {extras[0]['torch']}; {rounds} rounds. {clock}"


def costs(measured: Measured) -> str:
    """Parameters of the heads and operations of their layers, which no time depends on."""
    lines = [row("head", "parameters", "GFLOP per image (1,000 RoIs, a test)"), rule(3)]
    for head in COLUMNS:
        extras = (
            extra
            for (place, what, name), extra in measured.extra.items()
            if place[3] == 80 and what == "train" and name == head
        )
        extra = next(extras, None)
        if extra is not None:
            lines.append(cost_row(head, extra))
    return "\n".join(lines)


def cost_row(head: str, cost: dict[str, float]) -> str:
    """A line of the heads' costs; ``cost`` is as of ``obc.evaluation.head_cost``."""
    # 1,000 RoIs and 10^6 operations for each are 10^9.
    return row(head, f"{cost['parameters']:,}", f"{cost['mflop_per_roi']:.1f}")


def times(measured: Measured) -> str:
    """Medians in milliseconds, a line for each place and what is timed."""
    lines = [row("device", "precision", "RoIs", "classes", "", *COLUMNS), rule(5 + len(COLUMNS))]
    for place in measured.places():
        for what, name in WHAT.items():
            seconds = [measured.median(place, what, head) for head in COLUMNS]
            lines.append(row(*place, name, *map(milliseconds, seconds)))
    return "\n".join(lines)


def floors(measured: Measured) -> str:
    """What the heads of two stages take at least, those that were measured."""
    names = {name for _, _, name in measured.extra}
    heads = [head for head in (SHARED, AGAIN) if head in names]
    return "\n\n".join(floor_of(head, measured) for head in heads)


def floor_of(head: str, measured: Measured) -> str:
    """What a head takes at least: operations of its layers and bytes, at the device's rates."""
    titles = ("layers, GFLOP", "at GFLOP/s", "floor", "step", "MB of loss + decoding", "at GB/s")
    lines = [
        f"Floor of {head} (80 classes; rates of a matrix product and of a copy in the same run):\n",
        row("device", "precision", "RoIs", *titles, "floor", "loss + decoding"),
        rule(11),
    ]
    for place in measured.places():
        if place[3] == 80:
            flop = measured.extra[place, "train", head]["flop"]
            nbytes = sum(measured.extra[place, what, head]["bytes"] for what in ("loss", "decode"))
            flop_rate, byte_rate = (
                measured.rate(place, *pair) for pair in (("product", "flop"), ("copy", "bytes"))
            )
            around = sum(measured.median(place, what, head) for what in ("loss", "decode"))
            lines.append(
                row(
                    *place[:3],
                    f"{flop / 1e9:.1f}",
                    f"{flop_rate / 1e9:.0f}",
                    milliseconds(flop / flop_rate),
                    milliseconds(measured.median(place, "train", head)),
                    f"{nbytes / 1e6:.1f}",
                    f"{byte_rate / 1e9:.1f}",
                    milliseconds(nbytes / byte_rate),
                    milliseconds(around),
                )
            )
    return "\n".join(lines)


def goals(measured: Measured) -> str:
    """Each goal's ratio and whether it is reached."""
    lines = [row("device", "precision", "RoIs", "classes", "ratio", "head", "goal", "measured", ""),
             rule(9)]  # fmt: skip
    for goal in GOALS:
        for place in measured.places():
            ratios = measured.ratios(place, goal) if place[3] == goal.num_classes else []
            if ratios:
                middle = median(ratios)
                shown = f"{middle:.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"
                verdict = "reached" if middle <= goal.limit else "missed"
                limit = f"≤ {goal.limit:.2f}"
                lines.append(row(*place, goal.text, goal.head, limit, shown, verdict))
    return "\n".join(lines)


def milliseconds(seconds: float | None) -> str:
    """Three digits; nothing for what was not measured."""
    if seconds is None:
        return ""
    value = 1000 * seconds
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def row(*cells: object) -> str:
    """A line of a Markdown table."""
    return "| " + " | ".join(map(str, cells)) + " |"


def rule(columns: int) -> str:
    """The line under a table's head."""
    return "|" + "---|" * columns


if __name__ == "__main__":
    print(markdown(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))

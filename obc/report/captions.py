"""Titles and stamps of tables and figures: scale, data, protocol, seeds, comparability.

Readers must not mistake a number of a small scale for a number at the paper's setting, so every
caption names scale, data, protocol and seeds.
"""

from __future__ import annotations

import re
from collections import Counter

from obc.config.comparable import NOT_COMPARABLE, deviation_notes, is_comparable
from obc.config.plan import Plan
from obc.config.table import TableSpec
from obc.datasets.settings import CocoData, Data, DatasetName, ShapesData, VocData

DIFFICULT = {
    "gt": "counted as ground truth",
    "train_without": "not trained on and counted as ground truth",
    "ignore": "ignored",
}
NOT_SHOWN = "The images themselves may not be passed on, so grey stands in their place."


def title(table: TableSpec) -> str:
    """Return number and title, e.g. `Table 1. The effect of each component (section 4.1).`

    For a table beyond the paper, `not in the paper` replaces the section.
    """
    return f"{number(table)}. {heading(table)}"


def number(table: TableSpec) -> str:
    """Return the name of a table in words, as the paper prints it, e.g. `Table 1`."""
    words = re.sub(r"(?<=[a-z])(?=\d)", " ", table.name).replace("_", " ")
    return f"{words[:1].upper()}{words[1:]}"


def heading(table: TableSpec) -> str:
    """Return a title without its number, e.g. `The effect of each component (section 4.1).`"""
    where = "not in the paper" if table.beyond else f"section {table.section}"
    return f"{table.title} ({where})."


def signed(number: float) -> str:
    """Format a difference: one decimal, a typographic minus sign, and 0.0 without a sign."""
    text = f"{number:+.1f}".replace("-", "−")
    return text if re.search("[1-9]", text) else "0.0"


def bound(number: float, *limits: float) -> str:
    """Format a bound of an interval as `signed` does, with two decimals close to 0 or to a limit.

    The second decimal shows on which side of the limit the bound lies.
    """
    text, fine = signed(number), f"{number:+.2f}"
    near = any(signed(one) == text and f"{one:+.2f}" != fine for one in (0.0, *limits))
    return fine.replace("-", "−") if near and re.search("[1-9]", fine) else text


def stamp(plan: Plan, table: TableSpec) -> str:
    """Scale, comparability, data, protocol and seeds of a table, as sentences."""
    said = (_seeds(plan, table), _test_dev(table, plan.scale.data[table.dataset]))
    return _stamp(plan, table.dataset, is_comparable(plan, table), *said)


def run_stamp(plan: Plan, *runs: tuple[str, int]) -> str:
    """Scale, comparability, data, protocol and runs of a figure about single trainings.

    Args:
        runs: run id and seed of each training shown; all on one data set.
    """
    said = f"Run {' and '.join(f'{run_id}, seed {seed}' for run_id, seed in runs)}."
    return _stamp(plan, plan.dataset_of(runs[0][0]), False, said)


def _stamp(plan: Plan, dataset: DatasetName, comparable: bool, *said: str) -> str:
    sentences = (
        _scale(plan),
        "" if comparable else NOT_COMPARABLE,
        f"Data: {describe_data(plan, dataset)}.",
        f"Protocol: {plan.scale.protocol}.",
        *said,
    )
    return " ".join(filter(None, sentences))


def sentence(note: str) -> str:
    """Turn a note into a sentence: first letter in upper case, one full stop at the end."""
    return f"{note[:1].upper()}{note[1:].rstrip('.')}."


def badge(plan: Plan, table: TableSpec) -> str:
    """Return the short text drawn on a picture: its scale, and whether it is comparable."""
    if is_comparable(plan, table):
        return _scale_name(plan)
    return f"{_scale_name(plan)}. {NOT_COMPARABLE}"


def run_badge(plan: Plan) -> str:
    """Return the badge of a figure about single trainings; the paper has no numbers for them."""
    return f"{_scale_name(plan)}. {NOT_COMPARABLE}"


def images_note(plan: Plan) -> str:
    """Return the caption's note that images are hidden; empty if the plan shows images."""
    return "" if plan.config.show_images else f" {NOT_SHOWN}"


def describe_data(plan: Plan, dataset: DatasetName) -> str:
    """Describe a data set in words: embedded, published, or a folder of the user."""
    data = plan.scale.data[dataset]
    if isinstance(data, ShapesData):
        read = f", objects marked difficult {DIFFICULT[data.difficult]}"
        return (
            f"embedded shapes in {data.layout.upper()} layout, {data.train_images} training and "
            f"{data.val_images} validation images of {data.image_size} pixels"
            f"{'' if data.difficult == 'gt' else read}"
        )
    name = {"voc": "PASCAL VOC", "coco": "MS-COCO"}[data.kind]
    own = f"own folder {data.root} in {data.kind.upper()} layout"
    source = own if plan.is_own(dataset) else name
    train, val = (
        " + ".join([split] if isinstance(split, str) else split) for split in (data.train, data.val)
    )
    difficult = ""
    if data.difficult is not None:
        mark = "difficult" if isinstance(data, VocData) else "ignore"
        difficult = f", objects marked {mark} {DIFFICULT[data.difficult]}"
    return f"{source}, trained on {train}, evaluated on {val}{difficult}"


def provenance(plan: Plan, table: TableSpec, *said: str) -> str:
    """Return the text under a figure: `stamp`, deviations from the paper's setting, and `said`.

    Args:
        said: further sentences; empty strings are left out.
    """
    deviations = map(sentence, deviation_notes(plan, table))
    return " ".join(filter(None, [stamp(plan, table), *deviations, *said]))


def _scale(plan: Plan) -> str:
    if plan.scale.papers_setting:
        return f"{_scale_name(plan)}."
    return f"{_scale_name(plan)}: {plan.scale.description.rstrip('.')}."


def _scale_name(plan: Plan) -> str:
    """Return e.g. `Paper scale`, or `MINI scale` for a scale that is not the paper's setting."""
    name = plan.scale.name
    return f"{name.capitalize() if plan.scale.papers_setting else name.upper()} scale"


def _seeds(plan: Plan, table: TableSpec) -> str:
    """List the seeds of a table; rows shared with other tables may have more seeds."""
    rows = Counter(plan.seeds_of(plan.run_of(row).run_id) for row in table.rows if not row.cited)
    texts = {", ".join(map(str, seeds)): count for seeds, count in rows.items()}
    if len(texts) > 1:
        parts = (f"{text} ({count} row{'s' * (count > 1)})" for text, count in texts.items())
        return f"Seeds: {'; '.join(parts)}."
    return "".join(f"Seed{'s' * (',' in text)}: {text}." for text in texts)


def _test_dev(table: TableSpec, data: Data) -> str:
    if table.dataset != "coco" or all(row.paper is None for row in table.rows):
        return ""
    ours = f"on {data.val}" if isinstance(data, CocoData) else "on the validation images"
    return f"The paper reports test-dev, whose labels are not public; we evaluate {ours}."

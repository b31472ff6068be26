"""Titles and stamps of tables and figures: scale, data, protocol, seeds, comparability.

A number from a small scale must never pass for a result, so scale, data, protocol and seeds are
part of each caption.
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
    """Number and title, e.g. `Table 1. The effect of each component (section 4.1).`

    A table that is not the paper's says so in place of a section.
    """
    return f"{number(table)}. {heading(table)}"


def number(table: TableSpec) -> str:
    """What the paper calls a table, e.g. `Table 1`."""
    words = re.sub(r"(?<=[a-z])(?=\d)", " ", table.name).replace("_", " ")
    return f"{words[:1].upper()}{words[1:]}"


def heading(table: TableSpec) -> str:
    """A title without its number, e.g. `The effect of each component (section 4.1).`"""
    where = "not in the paper" if table.beyond else f"section {table.section}"
    return f"{table.title} ({where})."


def signed(number: float) -> str:
    """A difference as it is printed: one decimal, a typographic minus, 0.0 without a sign."""
    text = f"{number:+.1f}".replace("-", "−")
    return text if re.search("[1-9]", text) else "0.0"


def bound(number: float) -> str:
    """A bound of an interval as it is printed: `signed`, or with two decimals where that is 0.0.

    So that the page shows on which side of 0 the bound is.
    """
    text = f"{number:+.2f}".replace("-", "−")
    return text if signed(number) == "0.0" and re.search("[1-9]", text) else signed(number)


def stamp(plan: Plan, table: TableSpec) -> str:
    """Scale, comparability, data, protocol and seeds of a table, as sentences."""
    said = (_seeds(plan, table), _test_dev(table, plan.scale.data[table.dataset]))
    return _stamp(plan, table.dataset, is_comparable(plan, table), *said)


def run_stamp(plan: Plan, *runs: tuple[str, int]) -> str:
    """Scale, comparability, data, protocol of what is shown of single trainings, and which.

    Args:
        runs: run id and seed of each; all on one data set.
    """
    said = f"Run {' and '.join(f'{run_id}, seed {seed}' for run_id, seed in runs)}."
    return _stamp(plan, plan.dataset_of(runs[0][0]), False, said)


def _stamp(plan: Plan, dataset: DatasetName, comparable: bool, *said: str) -> str:
    sentences = (
        _scale(plan),
        "" if comparable else NOT_COMPARABLE,
        f"Data: {describe_data(plan.scale.data[dataset])}.",
        f"Protocol: {plan.scale.protocol}.",
        *said,
    )
    return " ".join(filter(None, sentences))


def sentence(note: str) -> str:
    """A note with a capital at its start and one full stop at its end."""
    return f"{note[:1].upper()}{note[1:].rstrip('.')}."


def badge(plan: Plan, table: TableSpec) -> str:
    """The least that must stand on a picture: the scale and whether it can be compared."""
    if is_comparable(plan, table):
        return _scale_name(plan)
    return f"{_scale_name(plan)}. {NOT_COMPARABLE}"


def run_badge(plan: Plan) -> str:
    """`badge` of what is shown of single trainings, which the paper has no numbers of."""
    return f"{_scale_name(plan)}. {NOT_COMPARABLE}"


def images_note(plan: Plan) -> str:
    """What the caption of a picture says where the plan shows no images; else nothing."""
    return "" if plan.config.show_images else f" {NOT_SHOWN}"


def describe_data(data: Data) -> str:
    """A data set in words: embedded, published or a folder of the user's own."""
    if isinstance(data, ShapesData):
        read = f", objects marked difficult {DIFFICULT[data.difficult]}"
        return (
            f"embedded shapes in {data.layout.upper()} layout, {data.train_images} training and "
            f"{data.val_images} validation images of {data.image_size} pixels"
            f"{'' if data.difficult == 'gt' else read}"
        )
    name = {"voc": "PASCAL VOC", "coco": "MS-COCO"}[data.kind]
    own = data.expected_train_images is None
    source = f"own folder {data.root} in {data.kind.upper()} layout" if own else name
    train, val = (
        " + ".join([split] if isinstance(split, str) else split) for split in (data.train, data.val)
    )
    difficult = ""
    if data.difficult is not None:
        mark = "difficult" if isinstance(data, VocData) else "ignore"
        difficult = f", objects marked {mark} {DIFFICULT[data.difficult]}"
    return f"{source}, trained on {train}, evaluated on {val}{difficult}"


def provenance(plan: Plan, table: TableSpec, *said: str) -> str:
    """What stands under a figure: `stamp`, how the trainings leave the paper's, and what is said.

    Args:
        said: further sentences; empty ones are left out.
    """
    deviations = map(sentence, deviation_notes(plan, table))
    return " ".join(filter(None, [stamp(plan, table), *deviations, *said]))


def _scale(plan: Plan) -> str:
    if plan.scale.papers_setting:
        return f"{_scale_name(plan)}."
    return f"{_scale_name(plan)}: {plan.scale.description.rstrip('.')}."


def _scale_name(plan: Plan) -> str:
    """`Paper scale`; capitals throughout where a scale is not the paper's setting."""
    name = plan.scale.name
    return f"{name.capitalize() if plan.scale.papers_setting else name.upper()} scale"


def _seeds(plan: Plan, table: TableSpec) -> str:
    """The seeds of a table; rows that it shares with other tables may have more of them."""
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

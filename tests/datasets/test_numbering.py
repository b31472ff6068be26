"""Ids of the index, from 1, whatever a data set's own are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import foreign_fixtures as foreign
import pytest
from hypothesis import given
from hypothesis import strategies as st

from obc.datasets.numbering import original_id, renumbered
from obc.evaluation.metrics import average_precision

IDS: dict[str, Callable[[int], Any]] = {
    "from 0": lambda number: number - 1,
    "negative": lambda number: -number,
    "beyond 64 bits": lambda number: 2**63 + number,
    "next to each other beyond 2^53": lambda number: 2**53 + number,
    "floats": float,
    "texts": str,
    "words": lambda number: f"id-{number}",
}


def with_ids(content: foreign.Content, new: Callable[[int], Any]) -> foreign.Content:
    """The same content with other ids for everything."""
    return {
        "images": [{**one, "id": new(one["id"])} for one in content["images"]],
        "categories": [{**one, "id": new(one["id"])} for one in content["categories"]],
        "annotations": [
            {**one, **{key: new(one[key]) for key in ("id", "image_id", "category_id")}}
            for one in content["annotations"]
        ],
    }


@pytest.mark.parametrize("kind", IDS)
def test_a_detector_that_finds_everything_has_full_marks_whatever_the_ids(
    tmp_path: Path, kind: str
) -> None:
    contents = (with_ids(foreign.content(first), IDS[kind]) for first in (1, 4))
    _, train, val = foreign.index(foreign.write(tmp_path / "mine", *contents))
    found = [
        {"image_id": image, "category_id": category, "bbox": [*box], "score": 0.9}
        for image in (1, 2, 3)
        for category, box in enumerate(foreign.BOXES, 1)
    ]
    assert average_precision(val, found)[0]["AP"] == pytest.approx(100)
    for index in (train, val):
        assert [one["id"] for one in index["categories"]] == [1, 2]
        assert [one["id"] for one in index["annotations"]] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("kind", IDS)
def test_the_ids_of_the_data_set_are_kept_for_export(tmp_path: Path, kind: str) -> None:
    contents = [with_ids(foreign.content(first), IDS[kind]) for first in (1, 4)]
    _, *indexes = foreign.index(foreign.write(tmp_path / "mine", *contents))
    for content, index in zip(contents, indexes, strict=True):
        for table in ("images", "annotations", "categories"):
            kept = [original_id(one) for one in index[table]]
            assert kept == [one["id"] for one in content[table]]
            assert all(type(one["id"]) is int for one in index[table])


def test_images_are_numbered_in_the_order_in_which_evaluators_took_them() -> None:
    content = foreign.content(images=3)
    content["images"] = [content["images"][place] for place in (2, 0, 1)]
    content = with_ids(content, lambda number: 10 * number)
    names = {one["id"]: one["file_name"] for one in renumbered(content)["images"]}
    assert names == {1: "1.png", 2: "2.png", 3: "3.png"}


@given(ids=st.lists(st.integers() | st.text(min_size=1), min_size=2, max_size=6, unique=True))
def test_references_lead_where_they_led(ids: list[Any]) -> None:
    names = {one: f"{place}.png" for place, one in enumerate(ids)}
    content = {
        "images": [{"id": one, "file_name": name} for one, name in names.items()],
        "annotations": [{"id": one, "image_id": one, "category_id": one} for one in ids],
        "categories": [{"id": one, "name": f"class of {name}"} for one, name in names.items()],
    }
    index = renumbered(content)
    images = {one["id"]: one["file_name"] for one in index["images"]}
    categories = {one["id"]: one["name"] for one in index["categories"]}
    assert set(images) == set(categories) == set(range(1, len(ids) + 1))
    for old, one in zip(ids, index["annotations"], strict=True):
        assert images[one["image_id"]] == names[old]
        assert categories[one["category_id"]] == f"class of {names[old]}"


def test_numbers_from_1_stay_as_they_are() -> None:
    content = foreign.content()
    for number, one in enumerate(content["annotations"], 1):
        one["id"] = number
    assert renumbered(content) == content

"""JSON values of another type than COCO's: refused with file and place, never an exception."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import foreign_fixtures as foreign
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from obc.datasets.errors import DatasetError
from obc.datasets.identity import fingerprint, location
from obc.datasets.index import index_dataset
from obc.datasets.settings import CocoData

ID = r"is no id; allowed: a whole number"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> CocoData:
    """A sound folder whose training annotations each test writes anew."""
    root = tmp_path_factory.mktemp("coco") / "mine"
    return foreign.write(root, foreign.content(1, 2), foreign.content(10, 2))


def index_with(folder: CocoData, content: Any) -> dict[str, Any]:
    foreign.write_annotations(folder.root, "train2017", content)
    return index_dataset(folder, folder.root, folder.root.parent / "index")


@pytest.mark.parametrize(
    ("table", "key", "value", "message"),
    [
        ("annotations", "iscrowd", "0", r"annotations\[0\], id 2: iscrowd is '0'; allowed: 0 or 1"),
        ("annotations", "iscrowd", None, r"iscrowd is None; allowed: 0 or 1"),
        ("annotations", "iscrowd", 2, r"iscrowd is 2; allowed: 0 or 1"),
        ("annotations", "ignore", "yes", r"ignore is 'yes'; allowed: 0 or 1"),
        ("annotations", "id", [1], rf"annotations\[0\]: id \[1\] {ID}"),
        ("annotations", "id", True, rf"id True {ID}"),
        ("annotations", "id", 1.5, rf"id 1.5 {ID}"),
        ("annotations", "id", 2.0**60, rf"id 1.1529.*e\+18 {ID}"),
        ("annotations", "id", None, rf"id None {ID}"),
        ("annotations", "image_id", {}, rf"image_id {{}} {ID}"),
        ("annotations", "image_id", "1", r"annotation 2: unknown image_id '1'"),
        ("annotations", "category_id", [], rf"category_id \[\] {ID}"),
        ("annotations", "bbox", "4 5 6 7", r"bbox '4 5 6 7' is not four numbers"),
        ("annotations", "bbox", [4, 5, 6, True], r"is not four numbers"),
        ("annotations", "bbox", [4, 5, 6, 10**400], r"is not four numbers"),
        ("annotations", "area", None, r"area None is not a number"),
        ("images", "id", [1], rf"images\[0\]: id \[1\] {ID}"),
        ("images", "file_name", 7, r"images\[0\]: file_name 7 is not a text"),
        ("images", "file_name", "a\0.png", r"file_name 'a\\x00.png' is not a text"),
        ("images", "file_name", "\ud800.png", r"file_name '\\ud800.png' is not a text"),
        ("images", "file_name", "/etc/a.png", r"'/etc/a.png' leaves the folder of the split"),
        ("images", "file_name", "../train2017/1.png", r"leaves the folder of the split"),
        ("images", "file_name", "./2.png", r"image file '2.png' occurs 2 times"),
        ("images", "file_name", "a" * 300, r"image cannot be opened"),
        ("images", "width", True, r"positive whole numbers, not True"),
        ("images", "width", 60.0, r"positive whole numbers, not 60.0"),
        ("categories", "id", {}, rf"categories\[0\]: id {{}} {ID}"),
        ("categories", "name", None, r"categories\[0\]: name None is not a text"),
        ("categories", "name", " ", r"name ' ' is not a text"),
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_named_with_file_and_place(
    folder: CocoData, table: str, key: str, value: Any, message: str
) -> None:
    content = foreign.content(1, 2)
    content[table][0][key] = value
    with pytest.raises(DatasetError, match=message) as error:
        index_with(folder, content)
    assert "instances_train2017.json" in str(error.value)


@pytest.mark.parametrize("text", ["[" * 10**5, '{"images": ' + "1" * 5000 + "}"])
def test_json_that_no_reader_takes_is_named(folder: CocoData, text: str) -> None:
    path = folder.root / "annotations/instances_train2017.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DatasetError, match=r"instances_train2017\.json: not readable as JSON"):
        index_dataset(folder, folder.root, folder.root.parent / "index")


@pytest.mark.parametrize("value", [True, False])
def test_a_truth_value_is_a_mark_too(folder: CocoData, value: bool) -> None:
    content = foreign.content(1, 2)
    content["annotations"][0]["iscrowd"] = value
    assert index_with(folder, content)["splits"]["train"]["crowd"] == int(value)


# ---------------------------------------------------------------- any structure


KEYS = sorted({"id", "image_id", "category_id", "bbox", "area", "iscrowd", "ignore", "file_name",
               "width", "height", "name", "images", "annotations", "categories"})  # fmt: skip
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, 1, -1, 2**53 + 1, 2**63, 10**400])
    | st.floats()
    | st.text(st.characters())
    | st.sampled_from(["1.png", "..", "/", "\0", "\ud800", "1", ""])
)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.sampled_from(KEYS) | st.text(st.characters()), inner, max_size=5)
    ),
    max_leaves=8,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to every value within a JSON value, itself included."""
    inner: Any = ()
    if isinstance(value, dict | list):
        inner = value.items() if isinstance(value, dict) else enumerate(value)
    return [path, *(place for key, child in inner for place in places(child, (*path, key)))]


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """A JSON value with another one at a place; a place that is gone changes nothing."""
    if not path:
        return new
    value = copy.copy(value)
    try:
        value[path[0]] = replaced(value[path[0]], path[1:], new)
    except (KeyError, IndexError, TypeError):
        return value
    return value


SOUND = foreign.content(1, 2)
CHANGED = st.lists(st.tuples(st.sampled_from(places(SOUND)), JSON), min_size=1, max_size=3)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(changes=CHANGED)
def test_no_json_ends_in_anything_but_the_suite_s_own_error(
    folder: CocoData, changes: list[tuple[tuple[Any, ...], Any]]
) -> None:
    content: Any = SOUND
    for path, new in changes:
        content = replaced(content, path, new)
    try:
        index_with(folder, content)
    except DatasetError as error:
        str(error).encode()  # it can be printed
    assert fingerprint(folder, folder.root) and location(folder, folder.root)


@settings(max_examples=100, deadline=None)
@given(content=JSON)
def test_neither_does_json_that_is_nothing_like_coco(folder: CocoData, content: Any) -> None:
    with pytest.raises(DatasetError):
        index_with(folder, content)


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=60))
def test_neither_do_bytes(folder: CocoData, content: bytes) -> None:
    path = folder.root / "annotations/instances_train2017.json"
    path.write_bytes(content)
    with pytest.raises(DatasetError):
        index_dataset(folder, folder.root, folder.root.parent / "index")


def test_the_fuzzed_folder_is_sound_as_it_comes(folder: CocoData) -> None:
    assert index_with(folder, SOUND)["splits"]["train"]["trained_boxes"] == 4
    assert Path(folder.root, "train2017/1.png").is_file() and json.dumps(SOUND)

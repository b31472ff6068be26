"""Structural checks of a COCO annotation file.

JSON may have a value of any type anywhere. Later readers of the file rely on the types and
references that are checked here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePosixPath
from reprlib import repr as shortened
from typing import Any

REQUIRED = {
    "images": ("id", "file_name", "width", "height"),
    "annotations": ("id", "image_id", "category_id", "bbox", "area", "iscrowd"),
    "categories": ("id", "name"),
}
_LARGEST = 1e15  # pixels; sums of larger coordinates lose precision
_EXACT = 2**53  # whole numbers up to this are exact when a program reads them as floats
Entry = dict[str, Any]


def structure_problems(content: Any) -> Iterator[str]:
    """Yield the problems of tables, of the types of values, and of references between tables."""
    if not isinstance(content, dict):
        yield f"top level is {type(content).__name__}; it must be an object with {[*REQUIRED]}"
        return
    # Values can be checked in valid tables only, references between valid values only.
    for stage in (_table_problems, _value_problems, _reference_problems):
        problems = list(stage(content))
        yield from problems
        if problems:
            return


def _table_problems(content: Entry) -> Iterator[str]:
    for name, required in REQUIRED.items():
        rows = content.get(name)
        if not isinstance(rows, list):
            yield f"key {name!r} is missing or no list"
            continue
        if not rows and name != "annotations":
            yield f"key {name!r} is an empty list"
        for position, row in enumerate(rows):
            if not isinstance(row, dict):
                yield f"{name}[{position}] is {shortened(row)}; it must be an object"
                continue
            missing = [key for key in required if key not in row]
            if missing:
                yield f"{name}[{position}] lacks {', '.join(missing)}"


# ---------------------------------------------------------------- values


def _value_problems(content: Entry) -> Iterator[str]:
    for position, image in enumerate(content["images"]):
        yield from _wrong_ids(f"images[{position}]", image, ("id",))
        yield from _image_problems(f"images[{position}]", image)
    for position, category in enumerate(content["categories"]):
        yield from _wrong_ids(f"categories[{position}]", category, ("id",))
        if not _is_text(category["name"]):
            name = shortened(category["name"])
            yield f"categories[{position}]: name {name} is not a text with visible characters"
    for position, one in enumerate(content["annotations"]):
        where = f"annotations[{position}]"
        yield from _wrong_ids(where, one, ("id", "image_id", "category_id"))
        yield from _annotation_problems(where, one)


def _wrong_ids(where: str, row: Entry, keys: tuple[str, ...]) -> Iterator[str]:
    for key in keys:
        if not _is_id(row[key]):
            yield (
                f"{where}: {key} {shortened(row[key])} is no id; allowed: a whole number, as a "
                "float up to 2^53, or a text"
            )


def _is_id(value: Any) -> bool:
    if isinstance(value, float):
        return value.is_integer() and abs(value) <= _EXACT
    return (isinstance(value, int) and not isinstance(value, bool)) or _is_text(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and _is_encodable(value)


def _is_encodable(text: str) -> bool:
    """Whether a text can be encoded as UTF-8 (has no lone surrogate) and has no NUL."""
    try:
        return "\0" not in text and bool(text.encode())
    except UnicodeEncodeError:
        return False


def _image_problems(where: str, image: Entry) -> Iterator[str]:
    name = image["file_name"]
    if not _is_text(name):
        yield f"{where}: file_name {shortened(name)} is not a text that can name a file"
        return
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        yield (
            f"{where}: file_name {shortened(name)} leaves the folder of the split; allowed: a path "
            "from there, e.g. 'a.jpg' or 'part1/a.jpg'"
        )
    sides = image["width"], image["height"]
    if not all(isinstance(one, int) and not isinstance(one, bool) and one > 0 for one in sides):
        yield (
            f"image {shortened(name)}: width and height must be positive whole numbers, not "
            f"{shortened(sides[0])} and {shortened(sides[1])}"
        )


def is_number(value: Any) -> bool:
    """Whether a JSON value is a finite number in the range of pixel coordinates."""
    return type(value) in (int, float) and -_LARGEST <= value <= _LARGEST


def _annotation_problems(where: str, one: Entry) -> Iterator[str]:
    where = f"{where}, id {shortened(one['id'])}"
    box = one["bbox"]
    if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
        yield f"{where}: bbox {shortened(box)} is not four numbers x, y, width, height"
    if not is_number(one["area"]):
        yield f"{where}: area {shortened(one['area'])} is not a number"
    for key in ("iscrowd", "ignore"):
        value = one.get(key, 0)
        if not (type(value) in (int, bool) and value in (0, 1)):
            yield f"{where}: {key} is {shortened(value)}; allowed: 0 or 1"


# ---------------------------------------------------------------- references


def _reference_problems(content: Entry) -> Iterator[str]:
    for name in REQUIRED:
        yield from _repeated(f"{name} id", (row["id"] for row in content[name]))
    names = (image["file_name"] for image in content["images"])
    yield from _repeated("image file", names, lambda name: str(PurePosixPath(name)))
    categories = {category["id"]: category["name"] for category in content["categories"]}
    yield from _repeated("category name", categories.values())
    images = {image["id"] for image in content["images"]}
    for one in content["annotations"]:
        where = f"annotation {shortened(one['id'])}"
        if one["image_id"] not in images:
            yield f"{where}: unknown image_id {shortened(one['image_id'])}"
        if one["category_id"] not in categories:
            allowed = ", ".join(f"{key} ({name})" for key, name in categories.items())
            yield (
                f"{where}: unknown category_id {shortened(one['category_id'])}; allowed: {allowed}"
            )


def _repeated(
    what: str, values: Iterable[Any], key: Callable[[Any], Any] = lambda value: value
) -> Iterator[str]:
    for value, times in Counter(map(key, values)).items():
        if times > 1:
            yield f"{what} {shortened(value)} occurs {times} times; it must be unique"

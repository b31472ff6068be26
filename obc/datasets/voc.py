"""Reading and checking a data set in PASCAL VOC layout.

VOC boxes are 1-based and inclusive; here a box is continuous: x1 = xmin - 1, x2 = xmax.
"""

from __future__ import annotations

import codecs
import hashlib
import math
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from obc.datasets.errors import DatasetError, raise_problems
from obc.datasets.images import check_image
from obc.datasets.parallel import parallel_map
from obc.datasets.settings import VOC_CLASSES, VocData

Box = tuple[float, float, float, float]  # x1, y1, x2, y2 in continuous pixels
_IMAGE_SUFFIXES = (".jpg", ".JPG", ".jpeg", ".JPEG", ".png", ".PNG", ".bmp", ".BMP")
_DECLARED_ENCODING = re.compile(rb"""^\s*<\?xml[^>]*?\bencoding\s*=\s*["']([^"']*)["']""")
_ENCODING_MARKS = {  # the first bytes of a file; UTF-32 first: its mark begins with that of UTF-16
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    "<?".encode("utf-16-le"): "utf-16-le",
    "<?".encode("utf-16-be"): "utf-16-be",
}
_FOLDERS = ("Annotations", "ImageSets/Main", "JPEGImages")
_MAX_OVERHANG = 1.0  # pixels a box may extend beyond its image, as rounded ones of VOC do; clipped


@dataclass(frozen=True)
class ListedImage:
    """One line of a split file: the folder of its year and the image's id."""

    folder: Path
    image_id: str

    @property
    def annotation(self) -> Path:
        """The XML file with the image's objects."""
        return self.folder / "Annotations" / f"{self.image_id}.xml"

    @property
    def image(self) -> Path:
        """The JPEG file as VOC names it."""
        return self.folder / "JPEGImages" / f"{self.image_id}.jpg"

    @property
    def images(self) -> list[Path]:
        """The existing files of the image's id, with any suffix; only `<id>.jpg` if that exists."""
        if self.image.is_file():
            return [self.image]
        named = (self.image.with_name(self.image.name[:-4] + suffix) for suffix in _IMAGE_SUFFIXES)
        return [path for path in named if path.is_file()]


@dataclass
class _Record:
    """The content of one image's annotation and image file, and their problems."""

    image: dict[str, Any] = field(default_factory=dict)
    objects: list[dict[str, Any]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


# ---------------------------------------------------------------- splits


def read_splits(root: Path, names: Sequence[str]) -> list[ListedImage]:
    """Return the images of the splits `names` ("train" or "VOC2007/trainval") of VOC folder `root`.

    `root` is a year's folder or a devkit that holds such folders. Raises DatasetError when it is
    neither, or a split file is missing, empty or not a list of image ids.
    """
    return [listed for name in names for listed in _read_split(root, name)]


def _read_split(root: Path, name: str) -> list[ListedImage]:
    year, _, short_name = name.rpartition("/")
    folder = _year_folder(root, year, name)
    path = folder / "ImageSets/Main" / f"{short_name}.txt"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.txt"))) or "none"
        raise DatasetError(f"{path}: split file is missing; splits of {folder}: {known}")
    try:
        text = path.read_text(encoding="utf-8-sig")  # a byte order mark is not part of an id
    except (UnicodeDecodeError, OSError) as error:
        raise DatasetError(
            f"{path}: not UTF-8 text ({error}); allowed: one image id a line"
        ) from None
    ids = [words for line in text.splitlines() if (words := line.split())]
    if not ids:
        raise DatasetError(f"{path}: split is empty; it must name one image id a line")
    for words in ids:
        _check_id(path, folder, " ".join(words))
    return [ListedImage(folder, image_id) for (image_id,) in ids]


def _check_id(path: Path, folder: Path, line: str) -> None:
    """Raise DatasetError unless `line` of split file `path` is an image id."""
    if not line.isprintable():
        raise DatasetError(
            f"{path}: line {line!r} has characters that no file name should have; save the file as "
            "UTF-8 text with one image id a line"
        )
    if " " in line:
        raise DatasetError(f"{path}: line {line!r} is not an image id; allowed: one id a line")
    id_path = PurePosixPath(line)
    if id_path.is_absolute() or ".." in id_path.parts or len(line.encode()) > 200:
        raise DatasetError(
            f"{path}: line {line!r} leads out of JPEGImages or is too long for a file name; "
            "allowed: one image id a line"
        )
    looks_like_a_file = id_path.suffix in (*_IMAGE_SUFFIXES, ".xml")
    if (looks_like_a_file or len(id_path.parts) > 1) and not ListedImage(
        folder, line
    ).annotation.is_file():
        alone = id_path.stem if looks_like_a_file else id_path.name
        raise DatasetError(
            f"{path}: line {line!r} has a suffix or a folder, and Annotations/{line}.xml is "
            f"missing; write the id alone: {alone}"
        )


def _is_year_folder(folder: Path) -> bool:
    return all((folder / name).is_dir() for name in _FOLDERS)


def _year_folder(root: Path, year: str, split: str) -> Path:
    """Return the folder that holds `split`, whose year part is `year` ("" where it has none)."""
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder; voc_root must be {_wanted()}")
    if _is_year_folder(root) and year in ("", root.name):
        return root
    years = [child for child in sorted(root.iterdir()) if _is_year_folder(child)]
    if not years and not _is_year_folder(root):
        found = ", ".join(sorted(child.name for child in root.iterdir())[:8]) or "nothing"
        raise DatasetError(
            f"{root}: not a VOC folder; voc_root must be {_wanted()}; found: {found}"
        )
    matching = [child for child in years if year in ("", child.name)]
    if len(matching) == 1:
        return matching[0]
    held = ", ".join(child.name for child in years) or f"only {root.name} itself"
    raise DatasetError(
        f"{root}: split {split!r} names no single year here, which holds: {held}; "
        "write a split as '<year folder>/<split>', for example 'VOC2007/trainval'"
    )


def _wanted() -> str:
    return f"a folder with {', '.join(_FOLDERS)}, or a VOCdevkit holding such folders (VOC2007 ...)"


# ---------------------------------------------------------------- index


def index(
    data: VocData,
    root: Path,
    split_names: Sequence[str],
    limit: int | None = None,
    workers: int = 1,
) -> tuple[dict[str, Any], dict[str, int]]:
    """Check every file of the splits `split_names`; return (COCO-format dict, counts).

    Image entries carry `bytes`, the file's size, and `file_name` relative to `root`. Annotations
    carry `difficult`. Unless `data.difficult == "gt"`, difficult objects also carry `ignore: 1`, so
    that MMDetection does not load them. Objects of VOC's classes that are not in `data.classes` are
    left out and counted (`other_classes`). Images without any object are kept and counted. `limit`
    selects that many images by the hash of their ids and keeps the order of the file. Raises
    DatasetError with all problems of the data set.
    """
    listed = read_splits(root, split_names)
    chosen = _subset(listed, limit)
    label = f"checking {root} {' + '.join(split_names)}"
    records = parallel_map(partial(_read_image, data, root), chosen, workers, label)
    problems = _duplicates(listed) + [p for record in records for p in record.problems]
    raise_problems(root, problems + _shared_files(root, chosen, records))
    return _assemble(data, records), _count(records, len(listed))


def _subset(listed: list[ListedImage], limit: int | None) -> list[ListedImage]:
    if limit is None or limit >= len(listed):
        return listed
    ranked = sorted(listed, key=lambda one: hashlib.sha256(one.image_id.encode()).digest())
    kept = set(ranked[:limit])
    return [one for one in listed if one in kept]


def _duplicates(listed: list[ListedImage]) -> list[str]:
    """Problems: ids that are listed twice, also in two notations such as `a` and `./a`."""
    ids: dict[Path, list[str]] = {}
    for one in listed:
        ids.setdefault(one.image, []).append(one.image_id)
    return [
        f"{image}: listed {len(same)} times in the splits, as {', '.join(same)}; list it once"
        for image, same in ids.items()
        if len(same) > 1
    ]


def _shared_files(root: Path, chosen: list[ListedImage], records: list[_Record]) -> list[str]:
    """Problems: files that are the image of several ids; `_duplicates` finds an id listed twice."""
    ids: dict[str, dict[Path, str]] = {}
    for one, record in zip(chosen, records, strict=True):
        if record.image:
            ids.setdefault(record.image["file_name"], {})[one.annotation] = one.image_id
    return [
        f"{root / name}: image of {len(sharing)} ids: {', '.join(sharing.values())}; each id needs "
        "an image of its own: a file with the id, or the one that <filename> names"
        for name, sharing in ids.items()
        if len(sharing) > 1
    ]


def _assemble(data: VocData, records: list[_Record]) -> dict[str, Any]:
    images, annotations = [], []
    for image_id, record in enumerate(records, 1):
        images.append({"id": image_id, **record.image})
        for found in record.objects:
            annotations.append({"id": len(annotations) + 1, "image_id": image_id, **found})
    categories = [{"id": i, "name": name} for i, name in enumerate(data.classes, 1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _count(records: list[_Record], listed: int) -> dict[str, int]:
    total = sum((record.counts for record in records), Counter())
    return {
        "listed": listed,
        "images": len(records),
        "boxes": sum(len(record.objects) for record in records),
        "difficult": sum(found["difficult"] for record in records for found in record.objects),
        "crowd": 0,
        "clipped": total["clipped"],
        "skipped": 0,
        "other_classes": total["other_classes"],
        "without_objects": sum(not record.objects for record in records),
    }


# ---------------------------------------------------------------- one image


class _Malformed(ValueError):
    """An annotation file is missing, unreadable or has an invalid value; the message says why."""


def _read_image(data: VocData, root: Path, listed: ListedImage) -> _Record:
    """Read and check one image and its annotation; problems are collected, not raised."""
    record = _Record()
    try:
        tree = _parse(listed.annotation)
        width, height = _read_annotation(data, tree, listed.annotation, record)
        path = _image_file(listed, tree)
    except _Malformed as error:
        record.problems.append(f"{listed.annotation}: {error}")
        return record
    check = check_image(path, width, height)
    record.problems += [check.problem] if check.problem else []
    record.image = {
        "file_name": path.relative_to(root).as_posix(),
        "width": width,
        "height": height,
        "bytes": check.bytes,
    }
    return record


def _image_file(listed: ListedImage, tree: ElementTree.Element) -> Path:
    """The image of an annotation: the file with the id, else the file that <filename> names.

    Of several files with the id, `<id>.jpg` is the image, else the one that <filename> names.
    """
    found = listed.images
    name = (tree.findtext("filename") or "").strip()
    if len(found) > 1:
        found = [path for path in found if path.name == name]
        if not found:
            names = [path.name for path in listed.images]
            raise _Malformed(
                f"has {len(names)} images: {', '.join(names)}; keep one or name it in <filename>"
            )
    if found:
        return found[0]
    if name and name.isprintable() and PurePosixPath(name).name == name and len(name) < 200:
        named = listed.folder / "JPEGImages" / name
        if named.is_file():
            return named
    return listed.image


def _read_annotation(
    data: VocData, tree: ElementTree.Element, path: Path, record: _Record
) -> tuple[int, int]:
    """Add the objects of annotation `tree` to `record`; return the image's (width, height)."""
    width, height = _number(tree, "size/width"), _number(tree, "size/height")
    for side, value in (("width", width), ("height", height)):
        if not value.is_integer():
            raise _Malformed(f"<size/{side}> is {value}; it must be a whole number of pixels")
    size = int(width), int(height)
    for element in tree.findall("object"):
        problem = _read_object(data, element, size, record)
        record.problems += [f"{path}: {problem}"] if problem else []
    return size


def _parse(path: Path) -> ElementTree.Element:
    if not path.is_file():
        raise _Malformed("annotation is missing; restore it or take the image out of the split")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _Malformed(f"cannot be read ({error.strerror}); make it readable") from error
    if not content:
        raise _Malformed("annotation file is empty; restore it")
    encoding = _encoding(content)
    try:
        return ElementTree.fromstring(content.decode(encoding))  # the parser lacks GBK and others
    except ElementTree.ParseError as error:
        raise _Malformed(f"not readable as XML in {encoding} ({error}); restore it") from error
    except (LookupError, ValueError) as error:
        raise _Malformed(
            f"encoding {encoding!r} cannot be read ({error}); save the file as UTF-8 and declare "
            "it as that"
        ) from error


def _encoding(content: bytes) -> str:
    """The encoding of an XML file: that of its first bytes, else the declared one, else UTF-8."""
    for mark, encoding in _ENCODING_MARKS.items():
        if content.startswith(mark):
            return encoding
    declared = _DECLARED_ENCODING.match(content[:200])
    return declared.group(1).decode("latin-1") if declared else "utf-8"


def _number(element: ElementTree.Element, tag: str) -> float:
    text = element.findtext(tag)
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise _Malformed(f"<{tag}> is {text!r}; it must be a number")
    return value


def _read_object(
    data: VocData, element: ElementTree.Element, size: tuple[int, int], record: _Record
) -> str | None:
    """Add one <object> to `record`, as an annotation or a count; return its problem, if any."""
    name = (element.findtext("name") or "").strip()
    if name not in data.classes:
        if name not in VOC_CLASSES:
            allowed = ", ".join(data.classes)
            return f"unknown class {name!r}; allowed: {allowed} (set voc_classes)"
        record.counts["other_classes"] += 1
        return None
    boxes = len(element.findall("bndbox"))
    if boxes > 1:
        return f"{name} has {boxes} <bndbox>; write one <object> for each box"
    box = _box(element)
    problem = _box_problem(box, size)
    if problem:
        return f"{name} {problem}"
    clipped = _clip(box, size)
    record.counts["clipped"] += clipped != box
    difficult = element.find("difficult") is not None and _number(element, "difficult") != 0
    category_id = data.classes.index(name) + 1
    record.objects.append(_annotation(data, category_id, clipped, int(difficult)))
    return None


def _box(element: ElementTree.Element) -> Box:
    xmin, ymin, xmax, ymax = (
        _number(element, f"bndbox/{tag}") for tag in ("xmin", "ymin", "xmax", "ymax")
    )
    return xmin - 1, ymin - 1, xmax, ymax


def _clip(box: Box, size: tuple[int, int]) -> Box:
    (x1, y1, x2, y2), (width, height) = box, size
    return max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))


def _box_problem(box: Box, size: tuple[int, int]) -> str | None:
    x1, y1, x2, y2 = box
    written = f"box xmin {x1 + 1:g}, ymin {y1 + 1:g}, xmax {x2:g}, ymax {y2:g}"
    if 0 <= min(x1, y1) + 1 < 1 and max(x1 + 1, y1 + 1, x2, y2) <= 1:
        return (
            f"{written} lies within the first pixel; boxes must be in pixels: multiply fractions "
            "of the image by its width and height"
        )
    if x2 <= x1 or y2 <= y1:
        return f"{written} has no area; correct or remove it"
    overhang = max(-x1, -y1, x2 - size[0], y2 - size[1])
    left, top, right, bottom = _clip(box, size)
    if overhang > _MAX_OVERHANG + 1e-6 or right <= left or bottom <= top:
        return f"{written} reaches outside its {size[0]} x {size[1]} image; correct or remove it"
    return None


def _annotation(data: VocData, category_id: int, box: Box, difficult: int) -> dict[str, Any]:
    x1, y1, x2, y2 = (round(value, 3) for value in box)
    width, height = round(x2 - x1, 3), round(y2 - y1, 3)
    annotation = {
        "category_id": category_id,
        "bbox": [x1, y1, width, height],
        "area": round(width * height, 3),
        "iscrowd": 0,
        "difficult": difficult,
    }
    return annotation | ({"ignore": 1} if difficult and data.difficult != "gt" else {})

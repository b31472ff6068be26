"""VOC folders as other people write them: read where that is safe, else named with the remedy."""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import escape

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from voc_folders import CAT, make_year, one_image, read, xml

from obc.datasets.errors import DatasetError
from obc.datasets.identity import fingerprint, location
from obc.datasets.settings import VocData


def split_file(root: Path) -> Path:
    return root / "ImageSets/Main/train.txt"


# ---------------------------------------------------------------- split files


def test_a_byte_order_mark_is_no_part_of_an_id(tmp_path):
    root = one_image(tmp_path, [CAT])
    split_file(root).write_bytes(b"\xef\xbb\xbf000001\r\n")
    assert read(root)[1]["images"] == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"00\x000001", r"line '00\\x000001' has characters that no file name should have"),
        (b"0\x001\x00", r"save the file as UTF-8 text"),
        (b"000001.jpg", r"has a suffix or a folder, .* write the id alone: 000001"),
        (b"000001.xml", r"write the id alone: 000001"),
        (b"JPEGImages/000001", r"write the id alone: 000001"),
        (b"VOC2007/JPEGImages/000001.jpg", r"write the id alone: 000001"),
        (b"/data/000001", r"leads out of JPEGImages"),
        (b"../JPEGImages/000001", r"leads out of JPEGImages"),
        (b"1" * 300, r"too long for a file name"),
    ],
)
def test_a_line_that_is_no_id_is_named(tmp_path, line, message):
    root = one_image(tmp_path, [CAT])
    split_file(root).write_bytes(line + b"\n")
    data = VocData(kind="voc", root=root, val=("train",))
    for look in (lambda: read(root), lambda: fingerprint(data, root), lambda: location(data, root)):
        with pytest.raises(DatasetError, match=rf"train\.txt: .*{message}"):
            look()


def test_an_id_with_a_dot_or_a_folder_of_its_own_is_one(tmp_path):
    for folder in ("Annotations", "JPEGImages"):
        (tmp_path / f"VOC2007/{folder}/part").mkdir(parents=True)
    (tmp_path / "VOC2007/ImageSets/Main").mkdir(parents=True)
    root = tmp_path / "VOC2007"
    for name in ("part/1", "a.jpg"):
        Image.new("RGB", (50, 40)).save(root / f"JPEGImages/{name}.jpg")
        (root / f"Annotations/{name}.xml").write_text(xml([CAT]), encoding="utf-8")
    split_file(root).write_text("part/1\na.jpg\n", encoding="utf-8")
    names = [image["file_name"] for image in read(root)[0]["images"]]
    assert names == ["JPEGImages/part/1.jpg", "JPEGImages/a.jpg.jpg"]


# ---------------------------------------------------------------- image files


def with_filename(root: Path, name: str, image_id: str = "000001") -> None:
    text = xml([CAT]).replace("<size>", f"<filename>{escape(name)}</filename><size>")
    (root / f"Annotations/{image_id}.xml").write_text(text, encoding="utf-8")


@pytest.mark.parametrize("suffix", [".JPG", ".jpeg", ".JPEG", ".png", ".PNG"])
def test_the_file_that_is_there_is_the_image(tmp_path, suffix):
    root = one_image(tmp_path, [CAT])
    (root / "JPEGImages/000001.jpg").unlink()
    Image.new("RGB", (50, 40)).save(root / f"JPEGImages/000001{suffix}")
    (image,) = read(root)[0]["images"]
    assert image["file_name"] == f"JPEGImages/000001{suffix}"


def test_filename_names_the_image_where_there_is_none_of_the_id(tmp_path):
    root = one_image(tmp_path, [CAT])
    (root / "JPEGImages/000001.jpg").rename(root / "JPEGImages/street 7.jpg")
    with_filename(root, "street 7.jpg")
    (image,) = read(root)[0]["images"]
    assert image["file_name"] == "JPEGImages/street 7.jpg"
    data = VocData(kind="voc", root=root, val=("train",))
    before = location(data, root)
    Image.new("RGB", (50, 40)).save(root / "JPEGImages/street 7.jpg")
    assert location(data, root) != before


@pytest.mark.parametrize("name", ["/etc/passwd", "../x.jpg", "C:\\a.jpg", "x" * 400, ""])
def test_a_filename_that_names_nothing_here_says_what_is_missing(tmp_path, name):
    root = one_image(tmp_path, [CAT])
    (root / "JPEGImages/000001.jpg").unlink()
    with_filename(root, name)
    with pytest.raises(DatasetError, match=r"000001\.jpg: image is missing"):
        read(root)


def test_two_files_of_an_id_are_named(tmp_path):
    root = one_image(tmp_path, [CAT])
    for suffix in (".jpeg", ".png"):
        Image.new("RGB", (50, 40)).save(root / f"JPEGImages/000001{suffix}")
    assert read(root)[1]["images"] == 1  # VOC's own name decides
    (root / "JPEGImages/000001.jpg").unlink()
    with pytest.raises(DatasetError, match=r"has 2 images: 000001\.jpeg, 000001\.png; keep one"):
        read(root)


def two_images(root: Path, images: tuple[str, str], filenames: tuple[str, str]) -> Path:
    """Ids `a` and `b`, their images' names, and what their annotations call them."""
    make_year(root, {"train": {"a": [CAT], "b": [CAT]}})
    for image_id, image, filename in zip("ab", images, filenames, strict=True):
        (root / f"JPEGImages/{image_id}.jpg").rename(root / f"JPEGImages/{image}")
        with_filename(root, filename, image_id)
    return root


def test_a_file_with_the_id_goes_before_a_stale_filename(tmp_path):
    root = two_images(tmp_path / "VOC2007", ("a.png", "b.png"), ("a.png", "a.png"))
    names = [image["file_name"] for image in read(root)[0]["images"]]
    assert names == ["JPEGImages/a.png", "JPEGImages/b.png"]


def test_of_two_files_with_the_id_filename_names_the_image(tmp_path):
    root = two_images(tmp_path / "VOC2007", ("a.jpeg", "a.png"), ("a.png", "a.jpeg"))
    split_file(root).write_text("a\n", encoding="utf-8")
    (image,) = read(root)[0]["images"]
    assert image["file_name"] == "JPEGImages/a.png"


@pytest.mark.parametrize(
    ("images", "filenames", "shared"),
    [
        (("a.png", "old.png"), ("x.png", "a.png"), "a.png"),
        (("street 7.jpg", "old.png"), ("street 7.jpg", "street 7.jpg"), "street 7.jpg"),
    ],
)
def test_a_file_that_is_the_image_of_two_ids_is_named(tmp_path, images, filenames, shared):
    root = two_images(tmp_path / "VOC2007", images, filenames)
    with pytest.raises(DatasetError, match=rf"JPEGImages/{shared}: image of 2 ids: a, b; each id"):
        read(root)


@pytest.mark.parametrize(("first", "second"), [("1", "./1"), ("part/1", "part//1")])
def test_an_id_in_two_notations_is_listed_twice(tmp_path, first, second):
    root = tmp_path / "VOC2007"
    for folder in ("Annotations/part", "JPEGImages/part", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    Image.new("RGB", (50, 40)).save(root / f"JPEGImages/{first}.jpg")
    (root / f"Annotations/{first}.xml").write_text(xml([CAT]), encoding="utf-8")
    split_file(root).write_text(f"{first}\n{second}\n", encoding="utf-8")
    with pytest.raises(DatasetError, match=rf"1 problem.*\n.* 2 times .*, as {first}, {second};"):
        read(root)


# ---------------------------------------------------------------- annotations


def encoded(root: Path, declared: str, encoding: str, name: str) -> None:
    text = xml([(name, *CAT[1:])])
    declaration = f'<?xml version="1.0" encoding="{declared}"?>\n'
    (root / "Annotations/000001.xml").write_bytes((declaration + text).encode(encoding))


@pytest.mark.parametrize(
    ("declared", "encoding", "name"),
    [
        ("gb2312", "gb2312", "猫"),
        ("GBK", "gbk", "猫"),
        ("Shift_JIS", "shift_jis", "猫"),
        ("windows-1252", "cp1252", "Kätzchen"),
        ("utf-8", "utf-8", "猫"),
        ("utf-16", "utf-16", "猫"),
        ("utf-16", "utf-16-le", "猫"),
        ("utf-16", "utf-16-be", "猫"),
        ("utf-32", "utf-32", "猫"),
    ],
)
def test_xml_in_an_encoding_that_python_has_is_read(tmp_path, declared, encoding, name):
    root = one_image(tmp_path, [CAT])
    encoded(root, declared, encoding, name)
    content, _ = read(root, classes=(name,))
    assert [one["bbox"] for one in content["annotations"]] == [[10, 5, 20, 20]]


@pytest.mark.parametrize(
    "declared", ["GBK", "gb2312", "shift_jis", "big5", "euc-kr", "utf-16", "UTF-32", "cp1252"]
)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_decides_before_the_declaration(tmp_path, declared, encoding):
    root = one_image(tmp_path, [CAT])
    encoded(root, declared, encoding, "猫")
    assert len(read(root, classes=("猫",))[0]["annotations"]) == 1


@pytest.mark.parametrize(
    ("declared", "encoding"),
    [
        ("klingon", "utf-8"),
        ("rot13", "utf-8"),
        ("undefined", "utf-8"),
        ("UTF-32", "utf-8"),
        ("utf-8", "latin-1"),
    ],
)
def test_xml_in_an_encoding_that_cannot_be_read_is_named(tmp_path, declared, encoding):
    root = one_image(tmp_path, [CAT])
    encoded(root, declared, encoding, "Kätzchen")
    with pytest.raises(DatasetError, match=rf"1\.xml: encoding '{declared}' cannot .* as UTF-8"):
        read(root)


def test_a_second_box_in_an_object_is_named(tmp_path):
    root = one_image(tmp_path, [CAT])
    text = xml([CAT])
    box = text[text.index("<bndbox>") : text.index("</bndbox>") + len("</bndbox>")]
    (root / "Annotations/000001.xml").write_text(text.replace(box, box * 2), encoding="utf-8")
    with pytest.raises(DatasetError, match=r"1\.xml: cat has 2 <bndbox>; write one <object>"):
        read(root)


def test_a_size_of_half_a_pixel_is_named(tmp_path):
    root = one_image(tmp_path, [CAT])
    (root / "Annotations/000001.xml").write_text(xml([CAT], width=50.5), encoding="utf-8")
    with pytest.raises(DatasetError, match=r"<size/width> is 50.5; it must be a whole number"):
        read(root)


# ---------------------------------------------------------------- any structure


TAGS = ["object", "name", "difficult", "bndbox", "xmin", "ymin", "xmax", "ymax", "size", "width",
        "height", "filename", "annotation", "part"]  # fmt: skip
TEXTS = st.sampled_from(["cat", "1", "0", "-3", "1e400", "nan", "50", "40", "0.5", "", "../a"])
LEAVES = st.builds(
    "<{0}>{1}</{0}>".format,
    st.sampled_from(TAGS),
    TEXTS | st.text(max_size=5).map(escape),
)
ELEMENTS = st.recursive(
    LEAVES,
    lambda inner: st.builds(
        lambda tag, children: f"<{tag}>{''.join(children)}</{tag}>",
        st.sampled_from(TAGS),
        st.lists(inner, max_size=6),
    ),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_year(tmp_path_factory.mktemp("voc") / "VOC2007", {"train": {"1": [CAT]}})


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    document=st.builds("<annotation>{}{}</annotation>".format, ELEMENTS, ELEMENTS)
    | st.builds(xml([CAT]).replace, TEXTS.filter(bool), ELEMENTS | TEXTS)
    | st.text(max_size=30)
)
def test_no_xml_ends_in_anything_but_the_suite_s_own_error(sound: Path, document: str) -> None:
    (sound / "Annotations/1.xml").write_bytes(document.encode("utf-8", "surrogatepass"))
    try:
        read(sound)
    except DatasetError as error:
        str(error).encode()


@settings(max_examples=150, deadline=None)
@given(content=st.binary(max_size=40))
def test_no_split_file_ends_in_anything_but_the_suite_s_own_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    root = one_image(tmp_path_factory.mktemp("split"), [CAT])
    split_file(root).write_bytes(content)
    try:
        read(root)
    except DatasetError as error:
        str(error).encode()

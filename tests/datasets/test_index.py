"""Index files, the manifest and the identity of a data set (obc.datasets.index)."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from obc.datasets.drawn import shapes
from obc.datasets.errors import DatasetError
from obc.datasets.identity import fingerprint
from obc.datasets.index import index_dataset, on_disk
from obc.datasets.settings import CocoData, ShapesData, VocData

LAYOUTS = ("voc", "coco")


def drawn(tmp_path: Path, layout: str) -> tuple[ShapesData, Path]:
    data = ShapesData(
        kind="shapes", layout=layout, seed=5, image_size=32, train_images=6, val_images=3,
        num_classes=4, objects=(1, 3), object_size=(0.3, 0.6),
    )  # fmt: skip
    shapes.generate(data, tmp_path / "set")
    return data, tmp_path / "set"


def folder(tmp_path: Path, layout: str, **options) -> VocData | CocoData:
    """Return a drawn set as a user's own folder."""
    data, root = drawn(tmp_path, layout)
    return on_disk(data, root).model_copy(update=options)


@pytest.fixture(params=LAYOUTS)
def layout(request) -> str:
    return request.param


def test_index_files_hold_both_splits_and_the_manifest_counts_them(tmp_path, layout):
    data, root = drawn(tmp_path, layout)
    manifest = index_dataset(data, root, tmp_path / "out")
    assert json.loads((tmp_path / "out/manifest.json").read_text()) == manifest
    assert (manifest["kind"], manifest["root"]) == ("shapes", str(root))
    assert manifest["classes"] == list(shapes.class_names(data))
    for split, images in (("train", 6), ("val", 3)):
        content = json.loads((tmp_path / f"out/{split}.json").read_text())
        counts = manifest["splits"][split]
        assert counts["images"] == len(content["images"]) == images
        assert counts["boxes"] == len(content["annotations"]) > 0
        assert all((root / image["file_name"]).is_file() for image in content["images"])


def test_identity_does_not_depend_on_where_the_data_lies(tmp_path, layout):
    data, root = drawn(tmp_path, layout)
    moved = shutil.copytree(root, tmp_path / "elsewhere" / "copy")
    first = index_dataset(data, root, tmp_path / "a")
    second = index_dataset(data, moved, tmp_path / "b")
    assert first["sha256"] == second["sha256"]
    assert first["splits"] == second["splits"]


def test_identity_changes_with_an_image_s_size_in_bytes(tmp_path, layout):
    data, root = drawn(tmp_path, layout)
    first = index_dataset(data, root, tmp_path / "a")
    image = next(root.rglob("*.jpg"))
    image.write_bytes(image.read_bytes() + b"\0")
    assert index_dataset(data, root, tmp_path / "b")["sha256"] != first["sha256"]


def test_identity_does_not_depend_on_the_number_of_workers(tmp_path, layout):
    data, root = drawn(tmp_path, layout)
    first, second = (index_dataset(data, root, tmp_path / str(n), workers=n) for n in (1, 2))
    assert first == second


def test_limits_apply_to_their_split(tmp_path, layout):
    data = folder(tmp_path, layout, max_train_images=4, max_val_images=2)
    splits = index_dataset(data, data.root, tmp_path / "out")["splits"]
    assert (splits["train"]["images"], splits["val"]["images"]) == (4, 2)


def test_published_number_of_images_is_checked_before_any_limit(tmp_path, layout):
    data = folder(tmp_path, layout, max_train_images=4, expected_train_images=6)
    index_dataset(data, data.root, tmp_path / "out")
    data = data.model_copy(update={"expected_val_images": 4952})
    with pytest.raises(DatasetError, match=r"split val .* lists 3 images, published are 4952") as e:
        index_dataset(data, data.root, tmp_path / "out")
    option = {"voc": f"voc_val=[{','.join(data.val)}]", "coco": f"coco_val={data.val}"}[layout]
    assert f"name its splits, e.g. {option}, and any" in str(e.value)


def test_image_in_both_splits_is_an_error(tmp_path, layout):
    data = folder(tmp_path, layout)
    data = data.model_copy(update={"val": data.train})
    with pytest.raises(DatasetError, match=r"6 image\(s\) are in both train and val"):
        index_dataset(data, data.root, tmp_path / "out")


def test_splits_with_different_categories_are_an_error(tmp_path):
    data = folder(tmp_path, "coco")
    path = data.root / "annotations/instances_val2017.json"
    path.write_text(path.read_text().replace('"name":"ellipse"', '"name":"disc"'))
    with pytest.raises(DatasetError, match="different categories"):
        index_dataset(data, data.root, tmp_path / "out")


def test_nothing_is_written_for_a_data_set_with_problems(tmp_path, layout):
    data, root = drawn(tmp_path, layout)
    next(root.rglob("*.jpg")).unlink()
    with pytest.raises(DatasetError, match="image is missing"):
        index_dataset(data, root, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_fingerprint_is_sixteen_hex_digits_and_the_same_elsewhere(tmp_path, layout):
    data = folder(tmp_path, layout)
    first = fingerprint(data, data.root)
    moved = data.root.rename(tmp_path / "moved")
    assert len(first) == 16 and int(first, 16) >= 0
    assert fingerprint(data, moved) == first


def test_fingerprint_changes_with_an_annotation(tmp_path, layout):
    data = folder(tmp_path, layout)
    first = fingerprint(data, data.root)
    pattern = "*.xml" if layout == "voc" else "instances_*.json"
    path = sorted(data.root.rglob(pattern))[0]
    path.write_text(path.read_text() + "\n")
    assert fingerprint(data, data.root) != first


def test_fingerprint_changes_with_the_splits(tmp_path, layout):
    data = folder(tmp_path, layout)
    swapped = data.model_copy(update={"train": data.val, "val": data.train})
    assert fingerprint(swapped, data.root) != fingerprint(data, data.root)


def test_fingerprint_of_a_folder_in_another_layout_is_an_error(tmp_path, layout):
    kinds = {
        "voc": VocData(kind="voc", root=tmp_path),
        "coco": CocoData(kind="coco", root=tmp_path),
    }
    with pytest.raises(DatasetError, match=f"not a {layout.upper()} folder"):
        fingerprint(kinds[layout], tmp_path)


def test_fingerprint_names_a_missing_annotation(tmp_path):
    data = folder(tmp_path, "voc")
    (data.root / "VOC2007/Annotations/000002.xml").unlink()
    with pytest.raises(DatasetError, match=r"000002\.xml: annotation is missing"):
        fingerprint(data, data.root)


def test_reading_data_imports_neither_torch_nor_mmdet():
    program = (
        "import sys, obc.datasets.index, obc.datasets.drawn.shapes;"
        "print([name for name in ('torch', 'mmdet', 'mmengine', 'cv2') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_split_without_any_object_is_an_error(tmp_path):
    data = folder(tmp_path, "voc")
    for annotation in (data.root / "VOC2007/Annotations").glob("*.xml"):
        text = annotation.read_text()
        start, end = text.find("<object>"), text.rfind("</object>") + len("</object>")
        annotation.write_text(text[:start] + text[end:])
    with pytest.raises(DatasetError, match="has no object of the wanted classes in its 6 images"):
        index_dataset(data, data.root, tmp_path / "out")

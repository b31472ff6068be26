"""Where `obc detect` draws: a file of its own for each image, and never over an image."""

from __future__ import annotations

from pathlib import Path

import pytest

from obc.datasets.errors import DatasetError
from obc.evaluation.detect_images import detect_images, drawn_paths


def images(folder: Path, *names: str) -> list[Path]:
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"pixels")
    return [folder / name for name in names]


@pytest.mark.parametrize(
    ("names", "drawn"),
    [
        (["a.jpg", "b.png"], ["a", "b"]),
        (["x/a.jpg", "y/a.jpg"], ["a-1", "a-2"]),
        (["x/a.jpg", "y/a.jpg", "a-1.jpg"], ["a-1-1", "a-2", "a-1"]),
        (["a-1.jpg", "x/a-1.png", "x/a.jpg", "y/a.jpg"], ["a-1-1", "a-1-2", "a-3", "a-4"]),
    ],
)
def test_every_drawing_has_a_name_of_its_own(
    tmp_path: Path, names: list[str], drawn: list[str]
) -> None:
    paths = drawn_paths(images(tmp_path, *names), tmp_path / "out")
    assert paths == [tmp_path / f"out/{name}.png" for name in drawn]


def test_no_image_is_drawn_over_and_nothing_is_detected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = images(tmp_path, "a.jpg", "b.png")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DatasetError, match=r"^b\.png: .* drawing of .*b\.png .* with --out"):
        detect_images(None, "run", 0, "argmax", [first, second], Path(), 0.3, None)
    assert second.read_bytes() == b"pixels"
    assert drawn_paths([first], Path()) == [Path("a.png")]


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
def test_a_link_to_an_image_is_not_drawn_over(tmp_path: Path, link) -> None:
    (image,) = images(tmp_path, "a.png")
    out = tmp_path / "out"
    out.mkdir()
    link(out / "a.png", image)
    with pytest.raises(DatasetError, match=r"out/a\.png: is one of the images"):
        drawn_paths([image], out)

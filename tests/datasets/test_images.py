"""Image files are checked as MMDetection loads them: what is accepted loads, and as large."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from mmdet.datasets.transforms import LoadAnnotations  # noqa: F401  registers the transforms
from mmdet.registry import TRANSFORMS
from PIL import Image

from obc.datasets.images import check_image
from obc.detector.model_config import loading

WIDTH, HEIGHT = 50, 40
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "TIFF", "GIF", "AVIF", "TGA", "PCX", "SGI", "DDS", "BMP",
           "PPM", "JPEG2000", "ICO")  # fmt: skip
ORIENTATION = 0x0112


def noise(shape: tuple[int, ...] = (HEIGHT, WIDTH, 3), dtype: type = np.uint8, top: int = 255):
    return np.random.default_rng(0).integers(0, top, shape, endpoint=True).astype(dtype)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def turned(kind: str, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return encoded(Image.fromarray(noise()), kind, exif=exif)


def loaded_size(path: Path) -> tuple[int, int] | None:
    """Width and height as MMDetection's loader gives them; None where it raises."""

    sizes = SimpleNamespace(image_scale={"voc": (64, 64)})
    run = SimpleNamespace(sizes=sizes, spec=SimpleNamespace(dataset="voc"))
    load = TRANSFORMS.build(dict(loading(run)[0]))
    try:
        image = load.transform({"img_path": str(path)})["img"]
    except Exception:
        return None
    return (image.shape[1], image.shape[0]) if image.ndim == 3 else None


def test_the_check_and_the_loader_read_alike(tmp_path: Path) -> None:
    """For every format, plain and turned, the sizes that are accepted are those that load."""
    Image.init()
    seen = set()
    for kind in (one for one in FORMATS if one in Image.SAVE):
        for orientation in (None, 1, 3, 6, 8):
            path = tmp_path / f"{kind}-{orientation}.jpg"  # whatever a file is, its name says JPEG
            image = Image.fromarray(noise())
            path.write_bytes(
                encoded(image, kind) if orientation is None else turned(kind, orientation)
            )
            size = loaded_size(path)
            for width, height in ((WIDTH, HEIGHT), (HEIGHT, WIDTH)):
                accepted = check_image(path, width, height).problem is None
                assert accepted == (size == (width, height)), (kind, orientation, size)
            seen.add((kind, size))
    assert ("JPEG", (HEIGHT, WIDTH)) in seen  # turned by the loader
    assert ("WEBP", (WIDTH, HEIGHT)) in seen
    assert ("TGA", None) in seen  # no reader of OpenCV


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "PPM", "JPEG2000"])
@pytest.mark.parametrize("orientation", [None, 6])
@pytest.mark.parametrize("part", [0.0, 0.2, 0.6, 0.95])
def test_a_truncated_file_is_refused(
    tmp_path: Path, kind: str, orientation: int | None, part: float
) -> None:
    image = Image.fromarray(noise((4 * HEIGHT, 4 * WIDTH, 3)))
    content = turned(kind, 6) if orientation else encoded(image, kind)
    path = tmp_path / "a.jpg"
    path.write_bytes(content[: int(part * len(content))])
    for width, height in ((WIDTH, HEIGHT), (HEIGHT, WIDTH), (4 * WIDTH, 4 * HEIGHT)):
        assert check_image(path, width, height).problem is not None


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_modes_of_colour_are_accepted_where_the_loader_makes_colours_of_them(
    tmp_path: Path, mode: str
) -> None:
    image = (
        Image.fromarray(noise((HEIGHT, WIDTH), np.uint16, 65535))
        if mode == "I;16"
        else Image.fromarray(noise()).convert(mode)
    )
    for kind in ("JPEG", "PNG", "TIFF"):
        path = tmp_path / kind
        try:
            path.write_bytes(encoded(image, kind))
        except OSError:  # no such mode in this format
            continue
        accepted = check_image(path, WIDTH, HEIGHT).problem is None
        assert accepted == (loaded_size(path) == (WIDTH, HEIGHT))


@pytest.mark.parametrize("kind", ["GIF", "AVIF", "TGA", "PCX", "SGI", "DDS"])
def test_a_format_that_does_not_load_is_named_with_the_remedy(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(Image.fromarray(noise()), kind))
    if loaded_size(path) is None:
        problem = check_image(path, WIDTH, HEIGHT).problem
        assert f"a.jpg: this {kind} file cannot be read by OpenCV" in problem
        assert "save it as JPEG or PNG" in problem


def test_a_tiff_of_real_numbers_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(Image.fromarray(noise((HEIGHT, WIDTH), np.float32)), "TIFF"))
    assert loaded_size(path) is None
    assert "this TIFF file cannot be read by OpenCV" in check_image(path, WIDTH, HEIGHT).problem


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize(("bits", "loaded"), [(10, 3), (12, 15), (14, 63)])
def test_few_bits_in_sixteen_are_refused(tmp_path: Path, kind: str, bits: int, loaded: int) -> None:
    """The loader keeps the upper 8 of 16 bits, so that the largest value v becomes v // 256."""
    pixels = noise((HEIGHT, WIDTH), np.uint16, 2**bits - 1)
    pixels[0, 0] = 2**bits - 1
    path = tmp_path / "a.png"
    path.write_bytes(encoded(Image.fromarray(pixels), kind))
    problem = check_image(path, WIDTH, HEIGHT).problem
    assert f"values up to {2**bits - 1}, which are loaded as at most {loaded} of 255" in problem


@pytest.mark.parametrize("value", [0, 65535, 2**14])
def test_sixteen_bits_in_use_and_a_black_image_are_accepted(tmp_path: Path, value: int) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(Image.fromarray(np.full((HEIGHT, WIDTH), value, np.uint16)), "PNG"))
    assert check_image(path, WIDTH, HEIGHT).problem is None


def test_a_dark_image_of_8_bits_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(Image.fromarray(noise(top=9)), "PNG"))
    assert check_image(path, WIDTH, HEIGHT).problem is None


def test_an_image_that_is_not_turned_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.webp"
    path.write_bytes(turned("WEBP", 6))
    if loaded_size(path) == (WIDTH, HEIGHT):
        assert "save the image upright" in check_image(path, HEIGHT, WIDTH).problem
    path.write_bytes(turned("JPEG", 6))
    assert "loaded with 40 x 50 pixels" in check_image(path, WIDTH, HEIGHT).problem


def test_another_size_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(Image.fromarray(noise()), "JPEG"))
    problem = check_image(path, 51, 40).problem
    assert "50 x 40 pixels, its annotation says 51 x 40; annotation and image do not" in problem

"""Drawing one scene of the embedded data set: shapes on a background, and their exact boxes.

Scenes are designed so that localisation matters: rotated, anisotropic, textured shapes of limited
contrast that overlap and are cut by the image border, among distractor lines, blur and noise.

Shapes: V outline vertices, S image side in pixels, H x W the pixel window of one outline.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from obc.datasets.drawn.outlines import (
    CLASSES,
    clip_outline,
    coverage,
    extent,
    polygon_area,
    posed_outline,
)

Array = np.ndarray
Rng = np.random.Generator
FULLY_ANNOTATED = 0.30  # visible fraction from which an object is not difficult
DIFFICULT = 0.15  # visible fraction from which an object may be drawn if it is marked difficult
_ATTEMPTS = 12  # poses tried before an object is given up
_CROWD_PROBABILITY = 0.06
_CUT = 0.2  # fraction of an object's side that may lie outside the image


@dataclass(frozen=True)
class SceneObject:
    """One annotated object (or crowd) of a scene.

    `outlines`: polygons (V, 2), cut at the image border. `box`: their extent (x1, y1, x2, y2).
    `area`: square pixels inside the image, hidden parts included. `visible`: fraction of the whole
    shape that can be seen. `truncated`: cut by the border. `crowd`: a group under one box.
    """

    label: int
    outlines: tuple[Array, ...]
    box: tuple[float, float, float, float]
    area: float
    visible: float
    truncated: bool = False
    crowd: bool = False
    mask: Array | None = field(default=None, repr=False)  # (S, S) bool, crowds only


@dataclass(frozen=True)
class SceneSpec:
    """Settings of scenes: side in pixels, number of classes, objects in an image, their longer side
    as a fraction of the image's, distance (8-bit RGB) of a fill colour to the background's, and
    whether heavily hidden objects and crowds occur."""

    image_size: int
    num_classes: int
    objects: tuple[int, int]
    object_size: tuple[float, float]
    contrast: tuple[float, float]
    with_difficult: bool
    with_crowds: bool


# ---------------------------------------------------------------- colours and textures


def _smooth_noise(cells: int, size: int, rng: Rng) -> Array:
    """Return random colour (S, S, 3) in [0, 255] that varies over `size / cells` pixels."""
    grid = rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
    image = Image.fromarray(grid).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(image, dtype=np.float32)


def _background(size: int, rng: Rng) -> Array:
    base = rng.uniform(50, 205, 3).astype(np.float32)
    coarse = _smooth_noise(int(rng.integers(2, 5)), size, rng) - 127.5
    fine = _smooth_noise(max(4, size // 6), size, rng) - 127.5
    return np.clip(base + rng.uniform(0.2, 0.5) * coarse + rng.uniform(0.05, 0.2) * fine, 0, 255)


def _contrasting(colour: Array, contrast: tuple[float, float], rng: Rng) -> Array:
    direction = rng.standard_normal(3)
    step = direction * (rng.uniform(*contrast) / np.linalg.norm(direction))
    moved = colour + step
    away = np.where((moved < 0) | (moved > 255), colour - step, moved)
    return away.clip(0, 255).astype(np.float32)


def _plain(u: Array, v: Array, rng: Rng) -> Array:
    return np.zeros_like(u)


def _stripes(u: Array, v: Array, rng: Rng) -> Array:
    return 0.5 + 0.5 * np.clip(3 * np.sin(u * (2 * np.pi / rng.uniform(4, 9))), -1, 1)


def _checks(u: Array, v: Array, rng: Rng) -> Array:
    turns = np.pi / rng.uniform(3, 6)
    return 0.5 + 0.5 * np.clip(4 * np.sin(u * turns) * np.sin(v * turns), -1, 1)


def _gradient(u: Array, v: Array, rng: Rng) -> Array:
    return (u - u.min()) / max(float(np.ptp(u)), 1.0)


def _grain(u: Array, v: Array, rng: Rng) -> Array:
    return rng.random(u.shape, dtype=np.float32)


_TEXTURES: tuple[Callable[[Array, Array, Rng], Array], ...] = (
    _plain, _stripes, _checks, _gradient, _grain
)  # fmt: skip


def _fill(height: int, width: int, local: Array, contrast: tuple[float, float], rng: Rng) -> Array:
    """Return a textured fill (H, W, 3) in two colours that both contrast with colour `local`."""
    angle = rng.uniform(0, np.pi)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    u = columns * np.float32(np.cos(angle)) + rows * np.float32(np.sin(angle))
    v = rows * np.float32(np.cos(angle)) - columns * np.float32(np.sin(angle))
    mix = _TEXTURES[rng.integers(len(_TEXTURES))](u, v, rng)[:, :, None]
    first, second = _contrasting(local, contrast, rng), _contrasting(local, contrast, rng)
    return first + mix * (second - first)


# ---------------------------------------------------------------- the scene


class _Canvas:
    """An image that is painted from front to back, so that the visible part of an object is known
    when it is painted: no later object hides it."""

    def __init__(self, size: int, contrast: tuple[float, float], rng: Rng) -> None:
        self.size = size
        self.contrast = contrast
        self.background = _background(size, rng)
        self.painted = np.zeros((size, size, 3), np.float32)
        self.free = np.ones((size, size), np.float32)  # part of each pixel not painted yet

    def window(self, outline: Array) -> tuple[slice, slice]:
        x1, y1 = np.floor(outline.min(axis=0)).astype(int).clip(0, self.size)
        x2, y2 = np.ceil(outline.max(axis=0)).astype(int).clip(0, self.size)
        return slice(y1, y2), slice(x1, x2)

    def coverage(self, outline: Array, window: tuple[slice, slice]) -> Array:
        rows, columns = window
        return coverage(
            outline, columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start
        )

    def paint(self, alpha: Array, window: tuple[slice, slice], fill: Array) -> None:
        """Paint `fill` with the weights `alpha` (H, W), the visible part of an object."""
        self.painted[window] += alpha[:, :, None] * fill
        self.free[window] -= alpha

    def local_colour(self, window: tuple[slice, slice]) -> Array:
        return self.background[window].mean(axis=(0, 1))


def _paint_object(
    canvas: _Canvas, label: int, outline: Array, least_visible: float, rng: Rng
) -> SceneObject | None:
    """Paint one outline behind the others; return None, unpainted, if too little would show."""
    over_x, over_y = ((outline < 0) | (outline > canvas.size)).any(axis=0)
    if over_x and over_y:  # clipping a concave outline is exact at parallel sides only
        return None
    window = canvas.window(outline)
    covered = canvas.coverage(outline, window)
    alpha = covered * canvas.free[window]
    visible = float(alpha.sum()) / polygon_area(outline)
    if visible < least_visible:
        return None
    canvas.paint(
        alpha, window, _fill(*alpha.shape, canvas.local_colour(window), canvas.contrast, rng)
    )
    truncated = bool(over_x or over_y)
    outlines = (clip_outline(outline, canvas.size) if truncated else outline,)
    return SceneObject(
        label,
        outlines,
        extent(np.concatenate(outlines)),
        float(covered.sum()),
        min(visible, 1.0),
        truncated,
    )


def _place_object(
    canvas: _Canvas, spec: SceneSpec, label: int, least_visible: float, rng: Rng
) -> SceneObject | None:
    """Try some positions, sizes and poses for an object of class `label`; None if all fail."""
    low, high = np.log(spec.object_size)
    for _ in range(_ATTEMPTS):
        side = spec.image_size * float(np.exp(rng.uniform(low, high)))
        outline = posed_outline(CLASSES[label], side, rng)
        sides = outline.max(axis=0)
        corner = rng.uniform(-_CUT * sides, spec.image_size - (1 - _CUT) * sides)
        placed = _paint_object(canvas, label, outline + corner, least_visible, rng)
        if placed is not None:
            return placed
    return None


def _place_crowd(canvas: _Canvas, spec: SceneSpec, rng: Rng) -> SceneObject | None:
    """Paint a cluster of small shapes of one class, annotated as a whole."""
    label = int(rng.integers(spec.num_classes))
    side = spec.image_size * spec.object_size[0]
    reach = min(3.2 * side, 0.6 * spec.image_size)
    corner = rng.uniform(0, max(spec.image_size - reach - side, 0.0), 2)
    before = canvas.free.copy()
    members: list[SceneObject] = []
    for _ in range(int(rng.integers(6, 11))):
        outline = posed_outline(CLASSES[label], side * rng.uniform(0.6, 1.0), rng)
        member = _paint_object(
            canvas, label, outline + corner + rng.uniform(0, reach, 2), FULLY_ANNOTATED, rng
        )
        members += [member] if member is not None else []
    if not members:
        return None
    outlines = tuple(outline for member in members for outline in member.outlines)
    mask = before - canvas.free > 0.5
    return SceneObject(
        label,
        outlines,
        extent(np.concatenate(outlines)),
        float(mask.sum()),
        1.0,
        crowd=True,
        mask=mask,
    )


def _paint_lines(canvas: _Canvas, rng: Rng) -> None:
    """Paint a few thin distractor lines behind all objects."""
    for _ in range(int(rng.integers(0, 5))):
        start, end = rng.uniform(0, canvas.size, (2, 2))
        along = (end - start) / max(float(np.linalg.norm(end - start)), 1e-6)
        across = np.array([-along[1], along[0]]) * rng.uniform(0.4, 1.2)
        outline = np.stack([start - across, end - across, end + across, start + across])
        window = canvas.window(outline)
        alpha = canvas.coverage(outline, window) * canvas.free[window]
        colour = _contrasting(canvas.local_colour(window), canvas.contrast, rng)
        canvas.paint(alpha, window, colour)


def _finish(canvas: _Canvas, rng: Rng) -> Array:
    """Lay the background behind what was painted, blur mildly, add noise: (S, S, 3) uint8."""
    image = canvas.painted + canvas.free[:, :, None] * canvas.background
    side = rng.uniform(0.0, 0.2)  # weight of each neighbour in a three-pixel blur
    image[:, 1:-1] += side * (image[:, :-2] - 2 * image[:, 1:-1] + image[:, 2:])
    image[1:-1] += side * (image[:-2] - 2 * image[1:-1] + image[2:])
    noise = rng.standard_normal(image.shape, dtype=np.float32) * rng.uniform(2, 9)
    return np.clip(image + noise + 0.5, 0, 255).astype(np.uint8)


def draw_scene(spec: SceneSpec, rng: Rng) -> tuple[Array, list[SceneObject]]:
    """Draw one scene; return its image (S, S, 3) uint8 RGB and its objects, front to back.

    An object of which less than 30 % would show is not drawn. With `spec.with_difficult` the limit
    is 15 %, and `visible` has the fraction.
    """
    canvas = _Canvas(spec.image_size, spec.contrast, rng)
    objects: list[SceneObject] = []
    if spec.with_crowds and rng.random() < _CROWD_PROBABILITY:
        crowd = _place_crowd(canvas, spec, rng)
        objects += [crowd] if crowd is not None else []
    least_visible = DIFFICULT if spec.with_difficult else FULLY_ANNOTATED
    for _ in range(int(rng.integers(spec.objects[0], spec.objects[1] + 1))):
        label = int(rng.integers(spec.num_classes))
        placed = _place_object(canvas, spec, label, least_visible, rng)
        objects += [placed] if placed is not None else []
    _paint_lines(canvas, rng)
    return _finish(canvas, rng), objects

"""Outlines of the embedded data set's classes, and the geometry of drawing and boxing them.

An outline is one polygon in continuous image coordinates (pixel i covers [i, i+1]); a box is the
extent of the drawn outline, so boxes are exact to a small fraction of a pixel.

Shapes: V outline vertices, H x W a window of pixels.
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray
Rng = np.random.Generator
_SUBROWS = 4


def _regular(corners: int, phase: float = 0.0, radius: float = 0.5) -> Array:
    angles = 2 * np.pi * np.arange(corners) / corners + phase
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _star() -> Array:
    outline = _regular(10)
    outline[1::2] *= 0.42
    return outline


def _ring() -> Array:
    # One polygon: the hole is joined to the outside by a seam of width 0.
    outer, inner = _regular(32), _regular(24, radius=0.29)
    return np.concatenate([outer, outer[:1], inner[:1], inner[:0:-1], inner[:1]])


def _crescent() -> Array:
    angles = np.linspace(-0.5 * np.pi, 0.5 * np.pi, 17)
    arc = 0.5 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return np.concatenate([arc, arc[-2:0:-1] * (0.3, 1.0)])


def _polygon(*points: tuple[float, float]) -> Array:
    return np.asarray(points, dtype=np.float64)


# fmt: off
OUTLINES: dict[str, Array] = {
    "ellipse": _regular(32),
    "rectangle": _polygon((0, 0), (1, 0), (1, 1), (0, 1)),
    "triangle": _regular(3),
    "star": _star(),
    "cross": _polygon(
        (1, 0), (2, 0), (2, 1), (3, 1), (3, 2), (2, 2),
        (2, 3), (1, 3), (1, 2), (0, 2), (0, 1), (1, 1),
    ),
    "ring": _ring(),
    "pentagon": _regular(5),
    "crescent": _crescent(),
    "l_shape": _polygon((0, 0), (1, 0), (1, 2), (3, 2), (3, 3), (0, 3)),
    "arrow": _polygon((0, 1), (2, 1), (2, 0), (4, 1.5), (2, 3), (2, 2), (0, 2)),
    "hexagon": _regular(6),
    "t_shape": _polygon((0, 0), (3, 0), (3, 1), (2, 1), (2, 3), (1, 3), (1, 1), (0, 1)),
}
# fmt: on
CLASSES: tuple[str, ...] = tuple(OUTLINES)
_ALMOST_ISOTROPIC = ("pentagon", "hexagon", "ring")  # stretched strongly, they look alike


def posed_outline(name: str, size: float, rng: Rng) -> Array:
    """Return class `name`'s outline (V, 2), stretched and rotated at random, its extent starting at
    (0, 0) and its longer side `size` pixels."""
    outline = OUTLINES[name]
    least = 0.8 if name in _ALMOST_ISOTROPIC else 0.5
    unit = outline / np.ptp(outline, axis=0)
    stretched = unit * (1, rng.uniform(least, 1))
    angle = rng.uniform(0, 2 * np.pi)
    cos, sin = np.cos(angle), np.sin(angle)
    rotated = stretched @ np.array([[cos, sin], [-sin, cos]])
    rotated -= rotated.min(axis=0)
    return rotated * (size / rotated.max())


# ---------------------------------------------------------------- geometry


def coverage(outline: Array, left: int, top: int, width: int, height: int) -> Array:
    """Return the fraction of each pixel of a window inside `outline` (even-odd), (H, W) in [0, 1].

    It is exact along x and sampled four times a pixel along y.
    """
    x, y = outline[:, 0], outline[:, 1]
    next_x, next_y = np.roll(x, -1), np.roll(y, -1)
    rows = (top + (np.arange(height * _SUBROWS) + 0.5) / _SUBROWS)[:, None]
    crossing = (y <= rows) != (next_y <= rows)  # (rows, V)
    rise = np.where(next_y == y, 1.0, next_y - y)
    at = np.where(crossing, x + (rows - y) * ((next_x - x) / rise), np.inf)
    crossings = int(crossing.sum(axis=1).max(initial=0))
    at = np.sort(at, axis=1)[:, :crossings].astype(np.float32)
    pixels = np.arange(left, left + width, dtype=np.float32)
    left_of = np.clip(at[:, :, None] - pixels, 0, 1)  # part of each pixel left of each crossing
    inside = left_of[:, 1::2].sum(axis=1) - left_of[:, ::2].sum(axis=1)
    return inside.reshape(height, _SUBROWS, width).mean(axis=1)


def clip_outline(outline: Array, size: float) -> Array:
    """Return the part of `outline` inside the square [0, size]^2 (Sutherland-Hodgman), (V', 2)."""
    for axis, sign, bound in ((0, 1, 0.0), (1, 1, 0.0), (0, -1, -size), (1, -1, -size)):
        inward = sign * outline[:, axis] - bound
        if (inward >= 0).all():
            continue
        following, following_inward = np.roll(outline, -1, axis=0), np.roll(inward, -1)
        kept: list[Array] = []
        for point, depth, target, target_depth in zip(
            outline, inward, following, following_inward, strict=True
        ):
            if depth >= 0:
                kept.append(point)
            if (depth >= 0) != (target_depth >= 0):
                kept.append(point + (target - point) * (depth / (depth - target_depth)))
        outline = np.asarray(kept).reshape(-1, 2)
    return outline.clip(0, size)


def polygon_area(outline: Array) -> float:
    """Return the area inside a polygon (V, 2)."""
    x, y = outline[:, 0], outline[:, 1]
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def extent(points: Array) -> tuple[float, float, float, float]:
    """Return the box (x1, y1, x2, y2) of some points (V, 2)."""
    (x1, y1), (x2, y2) = points.min(axis=0), points.max(axis=0)
    return float(x1), float(y1), float(x2), float(y2)

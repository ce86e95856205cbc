"""Figures and backgrounds in integers: lengths in 1/64 pixel, angles in 1/256 turn.

A figure is a function that says how far inside a point lies [1/64 pixel]; half a pixel around its edge the
ink fades, so that position and angle below a pixel show.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
UNIT: Final = 64
_TURN: Final = 256
_ONE: Final = 1 << 14

# How much figures of one class differ was chosen by the spread of accuracy over seeds: docs/data.md. Free
# position and angle make it several times larger, because late layers then rest on what a seed has learned.
SHIFT: Final = 5
"""Farthest that a centre lies from the middle, along each axis [% of the image]."""
SMALLEST: Final = 38
LARGEST: Final = 44
"""Radius of a figure [% of the image]."""
TILT: Final = 2
"""Largest angle either way [1/256 turn]."""
GROUND: Final = 70
INK: Final = 170
BRIGHTNESS: Final = 20
"""Darkest grey of the ground and of the ink, and how much brighter each may be [grey levels]."""
GRADIENT: Final = 32
STRIPES: Final = 24
"""Difference between the ends of a gradient, and between stripes [grey levels]."""
# Rounded to 14 bits, far coarser than any difference between mathematical libraries.
_SINES: Final = np.array(
    [round(math.sin(2 * math.pi * k / _TURN) * _ONE) for k in range(_TURN)], dtype=np.int64
)
_THIRDS: Final = ((0, _ONE), (14189, -8192), (-14189, -8192))
"""Outward normals of an equilateral triangle, in 1/16384."""


@dataclass(frozen=True)
class Poses:
    """Where n figures lie: centre and radius [1/64 pixel], angle [1/256 turn], each (n, 1, 1)."""

    x: Ints
    y: Ints
    radius: Ints
    angle: Ints

    @classmethod
    def drawn(cls, draws: Ints, size: int) -> Poses:
        """Return poses from bytes ``draws`` (n, >= 4): near the middle, nearly upright, inside the image."""
        one = draws[:, :4, None, None]
        extent = size * UNIT
        radius = extent * SMALLEST // 100 + one[:, 2] * extent * (LARGEST - SMALLEST) // 100 // 255
        room = extent * SHIFT // 100
        angle = (2 * one[:, 3] - 255) * TILT // 255 % _TURN
        return cls(_shift(one[:, 0], room), _shift(one[:, 1], room), radius, angle)

    def around(self, size: int) -> tuple[Ints, Ints]:
        """Return the pixels' coordinates (n, size, size) as seen from each figure: centred and turned."""
        axis = (2 * np.arange(size, dtype=np.int64) - (size - 1)) * UNIT // 2
        x, y = axis[None, None, :] - self.x, axis[None, :, None] - self.y
        cosine, sine = _SINES[(self.angle + _TURN // 4) % _TURN], _SINES[self.angle]
        return (x * cosine + y * sine) // _ONE, (y * cosine - x * sine) // _ONE


def _shift(byte: Ints, room: int) -> Ints:
    return (2 * byte - 255) * room // 255


def _length(u: Ints, v: Ints) -> Ints:
    # A square root of a double is correctly rounded everywhere; its floor is then the same everywhere.
    return np.floor(np.sqrt((u * u + v * v).astype(np.float64))).astype(np.int64)


def _both(first: Ints, second: Ints) -> Ints:
    """How far inside two figures at once."""
    return np.asarray(np.minimum(first, second))


def _either(first: Ints, second: Ints) -> Ints:
    return np.asarray(np.maximum(first, second))


def _disc(u: Ints, v: Ints, r: Ints) -> Ints:
    return r - _length(u, v)


def _square(u: Ints, v: Ints, r: Ints) -> Ints:
    return np.asarray(r * 7 // 8 - np.maximum(abs(u), abs(v)))


def _triangle(u: Ints, v: Ints, r: Ints) -> Ints:
    farthest = np.maximum.reduce([(u * a + v * b) // _ONE for a, b in _THIRDS])
    return np.asarray(r * 5 // 8 - farthest)


def _cross(u: Ints, v: Ints, r: Ints) -> Ints:
    u, v, width = abs(u), abs(v), r * 3 // 10
    return _either(_both(width - u, r - v), _both(width - v, r - u))


def _ring(u: Ints, v: Ints, r: Ints) -> Ints:
    half = r * 2 // 10
    return np.asarray(half - abs(_length(u, v) - (r - half)))


def _frame(u: Ints, v: Ints, r: Ints) -> Ints:
    half = r * 2 // 10
    return np.asarray(half - abs(np.maximum(abs(u), abs(v)) - (r * 7 // 8 - half)))


def _bar(u: Ints, v: Ints, r: Ints) -> Ints:
    return _both(r * 3 // 10 - abs(u), r - abs(v))


def _two_bars(u: Ints, v: Ints, r: Ints) -> Ints:
    return _both(r * 2 // 10 - abs(abs(u) - r * 6 // 10), r - abs(v))


def _corner(u: Ints, v: Ints, r: Ints) -> Ints:
    u, v, width = u + r // 2, v + r // 2, r * 3 // 10
    long = r * 3 // 4
    first = _both(width - abs(u), long - abs(v - long + width))
    return _either(first, _both(width - abs(v), long - abs(u - long + width)))


def _half_disc(u: Ints, v: Ints, r: Ints) -> Ints:
    return _both(r - _length(u, v + r // 3), v + r // 3)


Figure = Callable[[Ints, Ints, Ints], Ints]
FIGURES: Final[dict[str, Figure]] = {
    "disc": _disc, "cross": _cross, "triangle": _triangle, "frame": _frame, "ring": _ring, "square": _square,
    "two bars": _two_bars, "corner": _corner, "bar": _bar, "half disc": _half_disc,
}  # fmt: skip


def coverage(name: str, poses: Poses, size: int) -> Ints:
    """Return how much of each pixel figure ``name`` covers, 0 to 64 (n, size, size)."""
    u, v = poses.around(size)
    return np.clip(FIGURES[name](u, v, poses.radius) + UNIT // 2, 0, UNIT)


def background(domain: Ints, draws: Ints, size: int) -> tuple[Ints, Ints]:
    """Return the grey of the ground (n, size, size) and of the ink (n, 1, 1).

    Domain d modulo 4: plain, a gradient to the right, a gradient downwards, diagonal stripes; d // 4 odd
    swaps dark and light. ``draws`` (n, >= 6): bytes for brightness and contrast.
    """
    axis = np.arange(size, dtype=np.int64)
    slope = axis * GRADIENT // (size - 1) - GRADIENT // 2
    right, down = slope[None, :], slope[:, None]
    stripes = ((axis[None, :] + axis[:, None]) * 8 // size % 4 // 2) * STRIPES - STRIPES // 2
    plain = np.zeros((size, size), dtype=np.int64)
    patterns = np.stack([plain, right + plain, down + plain, stripes])
    ground = GROUND + draws[:, 4, None, None] * BRIGHTNESS // 255 + patterns[domain % 4]
    ink = INK + draws[:, 5, None, None] * BRIGHTNESS // 255
    swapped = (domain // 4 % 2 == 1)[:, None, None]
    return np.where(swapped, 255 - ground, ground), np.where(swapped, 255 - ink, ink)

"""Names beside points: clear of markers, lines and each other, with a leader line where they stand apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import cos, pi, sin
from typing import Any, Final

import numpy as np
from matplotlib import cbook
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.textpath import TextPath
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

SIZE: Final = 10.0
"""Size of the type [pt]."""

TOGETHER: Final = 6.0
"""Points that lie closer than this share one label [pt]."""

GAPS: Final = (9.0, 16.0, 26.0, 38.0, 54.0, 74.0, 98.0)
"""Distances from point to label that are tried, nearest first [pt]."""

DIRECTIONS: Final = 16
LEADER_FROM: Final = 16.0
SAMPLE: Final = 3.0
"""Lines are avoided at points this far apart [pt]."""

RING: Final = np.array([(0.0, 0.0), *((cos(turn * pi / 4), sin(turn * pi / 4)) for turn in range(8))])
"""Where a marker of radius 1 must not be covered: its centre and its edge."""

STRUCK: Final = 20.0
OUTSIDE: Final = 50.0
FAINT_WEIGHT: Final = 0.02
WEIGHT: Final = 1.0
APART: Final = 0.01
"""What a point [pt] of distance counts beside a covered marker."""


@dataclass(frozen=True)
class Box:
    """A rectangle [pt]."""

    left: float
    bottom: float
    right: float
    top: float

    def holds(self, points: FloatArray) -> NDArray[np.bool_]:
        """Return which of ``points`` (n, 2) lie inside."""
        x, y = points[:, 0], points[:, 1]
        return (x > self.left) & (x < self.right) & (y > self.bottom) & (y < self.top)

    def overlaps(self, other: Box) -> bool:
        """Return whether both have a common area."""
        across = self.left < other.right and other.left < self.right
        return across and self.bottom < other.top and other.bottom < self.top

    def within(self, other: Box) -> bool:
        """Return whether it lies inside ``other``."""
        across = self.left >= other.left and self.right <= other.right
        return across and self.bottom >= other.bottom and self.top <= other.top


@dataclass(frozen=True)
class Surroundings:
    """What a label keeps clear of: the edge, weighted points, other named points, earlier labels."""

    frame: Box
    obstacles: FloatArray
    weights: FloatArray
    others: FloatArray
    taken: Sequence[Box]

    def cost(self, anchor: FloatArray, gap: float, box: Box) -> float:
        """Return how bad it is to name ``anchor`` in ``box``."""
        covered = float(self.weights[box.holds(self.obstacles)].sum())
        struck = sum(box.overlaps(other) for other in self.taken) + self._between(anchor, box)
        return covered + gap * APART + STRUCK * struck + OUTSIDE * (not box.within(self.frame))

    def _between(self, anchor: FloatArray, box: Box) -> int:
        """Count the other named points that lie on the way from ``anchor`` to ``box``."""
        x, y = np.clip(anchor[0], box.left, box.right), np.clip(anchor[1], box.bottom, box.top)
        way = anchor + (np.array([x, y]) - anchor) * np.linspace(0, 1, 20)[:, None]
        apart = np.hypot(*(way[:, None] - self.others).transpose(2, 0, 1))
        return int((apart.min(axis=0) < TOGETHER).sum())


def write_names(axes: Axes, points: Mapping[str, tuple[float, float]], color: str, faint: str) -> None:
    """Write names beside their points; the layout must be final. What is drawn in ``faint`` counts little."""
    scale = 72.0 / axes.get_figure(root=True).dpi  # type: ignore[union-attr]
    frame = Box(*(float(edge) * scale for edge in axes.bbox.extents))
    obstacles, weights = _obstacles(axes, scale, faint)
    named = axes.transData.transform(np.array(list(points.values())).reshape(-1, 2)) * scale
    taken: list[Box] = []
    for name, point in _together(axes, points, scale):
        anchor = axes.transData.transform(point) * scale
        others = named[np.hypot(*(named - anchor).T) >= TOGETHER]
        gap, box = _place(name, anchor, Surroundings(frame, obstacles, weights, others, taken))
        taken.append(box)
        text = axes.annotate(
            name, point, (box.left + 2 - anchor[0], (box.bottom + box.top) / 2 - anchor[1]),
            textcoords="offset points", va="center", ha="left", fontsize=SIZE, color=color, zorder=6,
            arrowprops=_leader(color) if gap >= LEADER_FROM else None,
        )  # fmt: skip
        text.set_path_effects([withStroke(linewidth=3, foreground="white")])
        text.set_in_layout(False)


def _leader(color: str) -> dict[str, Any]:
    return {"arrowstyle": "-", "color": color, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 4, "zorder": 4}


def _together(
    axes: Axes, points: Mapping[str, tuple[float, float]], scale: float
) -> Iterator[tuple[str, tuple[float, float]]]:
    """Join the names of points that fall on each other."""
    groups: list[tuple[list[str], tuple[float, float], FloatArray]] = []
    for name, point in points.items():
        place = axes.transData.transform(point) * scale
        near = next((group for group in groups if np.hypot(*(group[2] - place)) < TOGETHER), None)
        if near is None:
            groups.append(([name], point, place))
        else:
            near[0].append(name)
    for names, point, _ in groups:
        yield ", ".join(names), point


def _obstacles(axes: Axes, scale: float, faint: str) -> tuple[FloatArray, FloatArray]:
    """Return points that a label should leave uncovered [pt], and how much each weighs."""
    found, weights = [np.zeros((0, 2))], [np.zeros(0)]
    for line in axes.lines:
        steps = cbook.STEP_LOOKUP_MAP[str(line.get_drawstyle())]
        corners = np.column_stack(steps(*(np.asarray(one, dtype=float) for one in line.get_data())))
        places = axes.transData.transform(corners) * scale
        if line.get_linestyle() != "None":
            places = _sampled(places)
        elif line.get_color() != faint:
            places = (places[:, None] + RING * line.get_markersize() / 2).reshape(-1, 2)
        found.append(places)
        weights.append(np.full(len(places), FAINT_WEIGHT if line.get_color() == faint else WEIGHT))
    points, weight = np.concatenate(found), np.concatenate(weights)
    known = np.isfinite(points).all(axis=1)
    return points[known], weight[known]


def _sampled(corners: FloatArray) -> FloatArray:
    parts = [corners]
    for start, end in pairwise(corners):
        count = int(np.hypot(*(end - start)) // SAMPLE) + 1
        parts.append(start + (end - start) * np.linspace(0, 1, count + 1)[:, None])
    return np.concatenate(parts)


def _place(name: str, anchor: FloatArray, around: Surroundings) -> tuple[float, Box]:
    """Return the gap and the box that cover least."""
    return min(_candidates(name, anchor), key=lambda candidate: around.cost(anchor, *candidate))


def _candidates(name: str, anchor: FloatArray) -> Iterator[tuple[float, Box]]:
    """Boxes around ``anchor``, their margins for half a marker included: right and left come first."""
    width, half = TextPath((0, 0), name, size=SIZE).get_extents().width + 4, SIZE / 2 + 3
    for gap in GAPS:
        for step in range(DIRECTIONS):
            angle = (step + 1) // 2 * (-1) ** step * 2 * pi / DIRECTIONS
            across, up = cos(angle), sin(angle)
            middle = anchor[0] + across * (gap + width / 2), anchor[1] + up * (gap + half / 2)
            yield gap, Box(middle[0] - width / 2, middle[1] - half, middle[0] + width / 2, middle[1] + half)

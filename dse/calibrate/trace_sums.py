"""Adds up a recording chunk by chunk: charge and energy by trapezoids, edges of the marker, gaps, ceiling.

However long a recording is, what is kept of it is its edges and a grid of sums.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

MOST_EDGES: Final = 100_000
MOST_GAPS: Final = 1000
GRID: Final = 1 << 18
CEILING_RUN: Final = 16
"""Samples in a row at the largest value that no noise explains."""
GAP_FACTOR: Final = 20.0
"""Samples this many times further apart than usual have a gap between them."""


class Edge(NamedTuple):
    """Where the marker changes, half-way between two samples: sums up to there, and the sample's number."""

    rises: bool
    time_s: float
    joules: float
    coulombs: float
    sample: int


class Gap(NamedTuple):
    """A stretch without samples."""

    start_s: float
    end_s: float
    line: int


class Sample(NamedTuple):
    """The last sample of a chunk."""

    time_s: float
    watts: float
    amperes: float
    high: bool


@dataclass
class Sums:
    """Sums over a recording so far."""

    joules: float = 0.0
    coulombs: float = 0.0
    count: int = 0
    first_s: float = 0.0
    first_high: bool = False
    last: Sample | None = None
    step_s: float = 0.0
    edges: list[Edge] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    largest: float = -np.inf
    at_largest: int = 0
    longest_run: int = 0
    repeated: int = 0
    stride: int = 1
    grid: list[tuple[FloatArray, FloatArray]] = field(default_factory=list)

    @property
    def clipped(self) -> bool:
        """Whether a current that hardly ever repeats itself stays at its largest value for long."""
        others = self.count - self.at_largest
        return self.longest_run >= CEILING_RUN and self.repeated - self.at_largest < 0.1 * others

    @property
    def overflows(self) -> bool:
        """Whether the marker changes more often than any program does."""
        return len(self.edges) > MOST_EDGES

    def add(self, time: FloatArray, watts: FloatArray, amperes: FloatArray, high: Any, lines: Any) -> None:
        """Add one chunk of samples in order of time; ``lines`` are those of the file."""
        if self.last is None:
            self.first_s, self.first_high = float(time[0]), bool(high[0])
        else:
            time, watts, amperes, high, lines = (
                np.concatenate([[before], values])
                for before, values in zip((*self.last, 0), (time, watts, amperes, high, lines), strict=True)
            )
        new = len(time) - (self.last is not None)
        steps = np.diff(time)
        joules = self.joules + _cumulated(steps, watts)
        coulombs = self.coulombs + _cumulated(steps, amperes)
        self._gaps(time, steps, lines)
        self._edges(time, watts, amperes, high.astype(bool), joules, coulombs)
        self._ceiling(amperes[-new:])
        self._keep(time, joules)
        self.joules, self.coulombs, self.count = float(joules[-1]), float(coulombs[-1]), self.count + new
        self.last = Sample(float(time[-1]), float(watts[-1]), float(amperes[-1]), bool(high[-1]))

    def joules_at(self, time_s: FloatArray) -> FloatArray:
        """Return energy up to times, by interpolation between samples or a grid of them."""
        times = np.concatenate([part for part, _ in self.grid])
        joules = np.concatenate([part for _, part in self.grid])
        return np.asarray(np.interp(time_s, times, joules))

    def _gaps(self, time: FloatArray, steps: FloatArray, lines: Any) -> None:
        if not self.step_s and len(steps):
            self.step_s = float(np.median(steps))
        if not self.step_s:
            return
        wide = np.flatnonzero(steps > GAP_FACTOR * self.step_s)
        for place in wide[: MOST_GAPS - len(self.gaps)].tolist():
            self.gaps.append(Gap(float(time[place]), float(time[place + 1]), int(lines[place + 1])))

    def _edges(
        self, time: FloatArray, watts: FloatArray, amperes: FloatArray, high: Any, joules: FloatArray,
        coulombs: FloatArray,
    ) -> None:  # fmt: skip
        places = np.flatnonzero(high[1:] != high[:-1])[: MOST_EDGES + 1 - len(self.edges)]
        offset = self.count - (self.last is not None)
        for place in places.tolist():
            rises = bool(high[place + 1])
            # The level is taken to last half-way to the neighbour: exact for a step, unlike a trapezoid.
            inside = place + 1 if rises else place
            half = (time[place] - time[place + 1]) / 2 if rises else (time[place + 1] - time[place]) / 2
            self.edges.append(
                Edge(
                    rises, float(time[inside] + half), float(joules[inside] + half * watts[inside]),
                    float(coulombs[inside] + half * amperes[inside]), offset + place + 1,
                )
            )  # fmt: skip

    def _ceiling(self, amperes: FloatArray) -> None:
        """Count the samples at the largest value, and the longest run of them."""
        largest = float(amperes.max())
        if largest > self.largest:
            self.largest, self.at_largest, self.longest_run = largest, 0, 0
        top = amperes == self.largest
        self.at_largest += int(top.sum())
        self.repeated += int(np.sum(amperes[1:] == amperes[:-1]))
        bounds = np.flatnonzero(np.diff(np.concatenate([[False], top, [False]]).astype(np.int8)))
        if len(bounds):
            self.longest_run = max(self.longest_run, int((bounds[1::2] - bounds[::2]).max()))

    def _keep(self, time: FloatArray, joules: FloatArray) -> None:
        self.grid.append((time[:: self.stride], joules[:: self.stride]))
        while sum(len(part) for part, _ in self.grid) > 2 * GRID:
            self.stride *= 2
            self.grid = [(part[::2], sums[::2]) for part, sums in self.grid]


def _cumulated(steps: FloatArray, values: FloatArray) -> FloatArray:
    """Return the integral up to each sample, by trapezoids, from zero."""
    return np.concatenate([[0.0], np.cumsum(steps * (values[1:] + values[:-1]) / 2)])

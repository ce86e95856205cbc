"""Cuts a recording at its marker: duration, current and energy of each segment, and whether to trust them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from dse.calibrate.trace_sums import MOST_EDGES, Edge, Sums
from dse.errors import Problem
from dse.units import human, human_seconds

GLITCH_S: Final = 1e-3
"""Changes of the marker that last shorter are left out, unless another time is given [s]."""
FEWEST_SAMPLES: Final = 10
BASELINE_S: Final = (0.11, 0.01)
"""The baseline is the mean from so long to so short before a segment, and after it [s]."""


@dataclass(frozen=True)
class Segment:
    """What was drawn while the marker was high; ``before_w``, ``after_w`` [W] around it, None if unknown."""

    start_s: float
    end_s: float
    samples: int
    energy_j: float
    mean_current_a: float | None
    before_w: float | None
    after_w: float | None

    @property
    def duration_s(self) -> float:
        """How long the marker was high [s]."""
        return self.end_s - self.start_s

    @property
    def power_w(self) -> float:
        """Mean power [W]."""
        return self.energy_j / self.duration_s


@dataclass(frozen=True)
class Trace:
    """The segments of a recording in order, and what is to be known of it."""

    file: str
    segments: tuple[Segment, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Cut:
    """How a recording is read: voltage [V] where it has none, the marker's column, or a threshold [A]."""

    voltage_v: float | None = None
    marker: str = ""
    threshold_a: float | None = None
    glitch_s: float = GLITCH_S


def segmented(
    file: str, sums: Sums, problems: list[Problem], cut: Cut, *, measured_current: bool
) -> tuple[Trace | None, list[Problem]]:
    """Return the segments of what was summed."""
    if not problems and sums.count < 2:
        problems.append(Problem(file, "", f"{sums.count} samples", "a recording"))
    if sums.overflows:
        found = f"the marker changes more than {MOST_EDGES} times"
        allowed = "a clean digital channel, or a threshold well above the noise"
        problems.append(Problem(file, "", found, allowed))
    if problems or sums.last is None:
        return None, problems
    edges, dropped = without_glitches(sums.edges, cut.glitch_s)
    last = sums.last
    if edges and not edges[0].rises:
        problems.append(Problem(file, "", "it begins under the marker", "start recording before the program"))
    if (edges and edges[-1].rises) or (not edges and last.high):
        problems.append(Problem(file, "", "it ends under the marker", "record until the marker falls"))
    pairs = [] if problems else list(zip(edges[::2], edges[1::2], strict=True))
    if not problems and not pairs:
        problems.append(Problem(file, "", "the marker is never high", "another --marker, or its pin"))
    segments = [_segment(sums, pairs, place) for place in range(len(pairs))]
    if not measured_current:
        segments = [replace(segment, mean_current_a=None) for segment in segments]
    problems += _poor(file, sums, segments)
    return (None if problems else Trace(file, tuple(segments), tuple(_notes(sums, dropped, cut)))), problems


def without_glitches(edges: Sequence[Edge], glitch_s: float) -> tuple[list[Edge], int]:
    """Return the edges without pairs that are closer than ``glitch_s`` [s], and how many were dropped."""
    kept: list[Edge] = []
    dropped = 0
    for edge in edges:
        if kept and edge.time_s - kept[-1].time_s < glitch_s:
            kept.pop()
            dropped += 1
        else:
            kept.append(edge)
    return kept, dropped


def _segment(sums: Sums, pairs: Sequence[tuple[Edge, Edge]], place: int) -> Segment:
    rise, fall = pairs[place]
    long, short = BASELINE_S
    free_from = pairs[place - 1][1].time_s if place else sums.first_s
    free_to = pairs[place + 1][0].time_s if place + 1 < len(pairs) else sums.last.time_s  # type: ignore[union-attr]
    duration = fall.time_s - rise.time_s
    current = (fall.coulombs - rise.coulombs) / duration
    return Segment(
        start_s=rise.time_s, end_s=fall.time_s, samples=fall.sample - rise.sample,
        energy_j=fall.joules - rise.joules, mean_current_a=current,
        before_w=_mean(sums, rise.time_s - long, rise.time_s - short, free_from, free_to),
        after_w=_mean(sums, fall.time_s + short, fall.time_s + long, free_from, free_to),
    )  # fmt: skip


def _mean(sums: Sums, start: float, end: float, free_from: float, free_to: float) -> float | None:
    """Return mean power [W] from ``start`` to ``end``, None where that is not outside every segment."""
    if start < free_from or end > free_to:
        return None
    low, high = sums.joules_at(np.array([start, end]))
    return float(high - low) / (end - start)


def _poor(file: str, sums: Sums, segments: Sequence[Segment]) -> Iterator[Problem]:
    """Yield segments that cannot be trusted."""
    for number, segment in enumerate(segments, 1):
        if segment.samples < FEWEST_SAMPLES:
            found = f"{segment.samples} samples"
            yield Problem(file, f"segment {number}", found, f"at least {FEWEST_SAMPLES}; sample faster")
        elif not segment.energy_j > 0:
            found = f"{human(segment.energy_j, 'J')} in {human_seconds(segment.duration_s)}"
            yield Problem(file, f"segment {number}", found, "above zero; is the sign of the current right?")
        for gap in sums.gaps:
            if gap.start_s < segment.end_s and gap.end_s > segment.start_s:
                found = f"no samples for {human_seconds(gap.end_s - gap.start_s)} in segment {number}"
                yield Problem(file, f"line {gap.line}", found, "a recording without gaps under the marker")


def _notes(sums: Sums, dropped: int, cut: Cut) -> Iterator[str]:
    if dropped:
        yield f"{dropped} changes of the marker shorter than {human_seconds(cut.glitch_s)} left out"
    if sums.clipped:
        yield (
            f"{sums.at_largest} samples are at the largest value, {sums.longest_run} in a row: was the range "
            "exceeded?"
        )
    if cut.threshold_a is not None and not cut.marker:
        yield f"segments are where the current is above {human(cut.threshold_a, 'A')}"

"""One measured figure beside its target, and how a table of them is written."""

from __future__ import annotations

import operator
import resource
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

COMPARE: Final = {">=": operator.ge, "<=": operator.le}


@dataclass(frozen=True)
class Figure:
    """A measured value; without a target it is stated for comparison only."""

    name: str
    value: float
    unit: str
    relation: str = ""
    target: float = float("nan")
    note: str = ""

    @property
    def met(self) -> bool:
        """Whether the target is met; always, where there is none."""
        return not self.relation or COMPARE[self.relation](self.value, self.target)

    @property
    def ratio(self) -> str:
        """How far beyond the target, as a factor that is above 1 when it is met."""
        if not self.relation or not self.value or not self.target:
            return ""
        better = self.value / self.target if self.relation == ">=" else self.target / self.value
        return f"{better:.2f}x"


@dataclass
class Clock:
    """Seconds of wall clock and of processor time."""

    wall_s: float = 0.0
    cpu_s: float = 0.0


@contextmanager
def timed() -> Iterator[Clock]:
    """Measure what runs inside."""
    clock = Clock()
    wall, cpu = time.perf_counter(), time.process_time()
    yield clock
    clock.wall_s, clock.cpu_s = time.perf_counter() - wall, time.process_time() - cpu


def peak_rss_bytes() -> float:
    """Return the largest resident set of this process so far (Linux counts in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


def table(figures: Sequence[Figure]) -> str:
    """Write figures below each other: name, value, target, how far beyond, whether met."""
    rows = [("figure", "measured", "target", "ratio", "", "note")]
    for one in figures:
        target = f"{one.relation} {one.target:,.4g}" if one.relation else ""
        verdict = ("ok" if one.met else "MISSED") if one.relation else ""
        rows.append((one.name, f"{one.value:,.4g} {one.unit}", target, one.ratio, verdict, one.note))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])

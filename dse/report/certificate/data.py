"""A certificate as data: one plan's memory map, what bounds it, and what was found when it was checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dse.plan.decisions import IntArray
from dse.plan.memory_map import MemoryMap, Placed


@dataclass(frozen=True)
class LevelSummary:
    """What one memory level holds [B].

    ``live_bytes`` are the most bytes alive at once, which no arena can be smaller than; ``bound_bytes`` is
    the best lower bound that is known (the same, or more by alignment or by a solver's proof); ``method``
    says in words how the offsets were found.
    """

    level: str
    live_bytes: int
    bound_bytes: int
    arena_bytes: int
    capacity_bytes: int
    method: str
    proven: bool  # no smaller arena exists
    volatile: bool = True

    @property
    def gap(self) -> float:
        """How far the arena is above the bound, as a fraction of the bound."""
        return (self.arena_bytes - self.bound_bytes) / self.bound_bytes if self.bound_bytes else 0.0

    @property
    def gap_text(self) -> str:
        """The gap for people; one that rounding would hide is not written as none."""
        return "< 0.01 %" if 0 < self.gap < 1e-4 else f"{100 * self.gap:.2f} %" if self.gap else "0 %"

    @property
    def fits(self) -> bool:
        """Whether the level can hold its arena."""
        return self.arena_bytes <= self.capacity_bytes


@dataclass(frozen=True)
class Remedy:
    """One decision changed: what a reader would write, and the level's live peak [B] with it, where known."""

    change: str
    peak_bytes: int | None = None


@dataclass(frozen=True)
class PeakRow:
    """One of the largest buffers at the fullest operation of a level."""

    rank: int
    placed: Placed
    share: float
    remedies: tuple[Remedy, ...]


@dataclass(frozen=True)
class LevelPeak:
    """The fullest operation of a level, and the largest buffers that are alive during it."""

    level: str
    operation: int
    live_bytes: int
    alive: int  # buffers alive then, listed or not
    rows: tuple[PeakRow, ...]


@dataclass(frozen=True)
class Certificate:
    """Everything that is said about one plan on one board.

    ``levels`` are in the board's order; ``promised_bytes`` is the RAM peak that the cost model gave the plan;
    ``faults`` is what an independent checker found wrong: empty for a map that holds, None where nobody
    checked; ``executed`` says what an execution inside the arenas showed, and is empty where none was made;
    ``point`` is what a run calls the plan, empty for a plan of no run.
    """

    map: MemoryMap
    levels: tuple[LevelSummary, ...]
    network: str
    board: str
    plan_words: tuple[str, ...]
    promised_bytes: int
    faults: tuple[str, ...] | None = None
    peaks: tuple[LevelPeak, ...] = ()
    executed: str = ""
    point: str = ""

    @property
    def ram_peak_bytes(self) -> int:
        """Most bytes alive at once in all volatile levels together [B]."""
        volatile = {summary.level for summary in self.levels if summary.volatile}
        entries = [placed for placed in self.map.entries if placed.level in volatile]
        return int(live_bytes(entries, len(self.map.schedule.operations)).max(initial=0))

    @property
    def holds(self) -> bool:
        """Whether the map was checked and found sound, and every level can hold its arena."""
        return self.faults == () and all(summary.fits for summary in self.levels)

    def to_frame(self) -> Any:
        """Return a pandas DataFrame with a row per buffer, by level and address.

        Columns: id, name, role, level, offset [B], size_bytes, first and last (operations, both inclusive),
        reason.
        """
        import pandas as pd

        placed = [one for level in self.map.arena_bytes for one in on_level(self.map, level)]
        return pd.DataFrame([
            {
                "id": one.buffer.id, "name": one.buffer.name, "role": one.buffer.role.value,
                "level": one.level, "offset": one.offset, "size_bytes": one.buffer.size_bytes,
                "first": one.buffer.start, "last": one.buffer.end, "reason": one.buffer.reason,
            }
            for one in placed
        ])  # fmt: skip

    def summary(self, level: str) -> LevelSummary:
        """Return what is known about ``level``."""
        return next(summary for summary in self.levels if summary.level == level)


def on_level(memory_map: MemoryMap, level: str) -> tuple[Placed, ...]:
    """Return the buffers of one level, by address, then by their first operation."""
    found = [placed for placed in memory_map.entries if placed.level == level]
    return tuple(sorted(found, key=lambda placed: (placed.offset, placed.buffer.start, placed.buffer.id)))


def live_bytes(entries: list[Placed] | tuple[Placed, ...], operations: int) -> IntArray:
    """Live bytes [B] of ``entries`` during each of ``operations``, shape (T,)."""
    change = np.zeros(operations + 1, dtype=np.int64)
    for placed in entries:
        change[placed.buffer.start] += placed.buffer.size_bytes
        change[placed.buffer.end + 1] -= placed.buffer.size_bytes
    live: IntArray = np.cumsum(change)[:-1]
    return live

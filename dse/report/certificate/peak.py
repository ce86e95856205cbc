"""The fullest moment of each level: the largest buffers that are alive then, and what would lower each.

Where steps of other plans can be had, a change is listed only if the level's live bytes then peak lower, with
every buffer on the level on which that plan would put it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from dse.plan.decisions import TrainingPlan
from dse.plan.memory_map import MemoryMap, Placed
from dse.plan.operations import StepBuffer, StepSchedule
from dse.report.certificate.data import LevelPeak, PeakRow, Remedy, live_bytes, on_level
from dse.report.certificate.remedies import Change, changes_for
from dse.units import human_bytes

Located = tuple[StepSchedule, Mapping[str, str]]
"""A step, and the level of each of its buffers, by id."""

Reschedule = Callable[[TrainingPlan], Located | None]
"""Writes the step of another plan for the same network, board and kernels; None where the board cannot."""

Again = Callable[[Change], Located | None]

LARGEST: Final = 10
REMEDIES: Final = 3

COMPARED: Final = ("checkpoints", "patches")
"""Decisions none of whose values is a smaller change than another: the one with the lowest peak is listed."""

CSV: Final = "peak.csv"
COLUMNS: Final = (
    "level", "rank", "operation", "id", "name", "role", "reason", "bytes", "share", "first", "last",
    "lowered_by",
)  # fmt: skip


def level_peaks(
    memory_map: MemoryMap, levels: Sequence[str], reschedule: Reschedule | None = None, most: int = LARGEST
) -> tuple[LevelPeak, ...]:
    """Return the peak of each of ``levels`` that holds anything, with its ``most`` largest buffers.

    Raises ValueError where ``reschedule`` does not write the step of the map's own plan as the map has it:
    what it says about other plans could not be compared.
    """
    if reschedule is not None:
        _require_same(memory_map, levels, reschedule(memory_map.schedule.plan))
    tried: dict[str, Located | None] = {}

    def again(change: Change) -> Located | None:
        if reschedule is not None and change.words not in tried:
            tried[change.words] = reschedule(change.plan)
        return tried.get(change.words)

    known = None if reschedule is None else again
    return tuple(
        _level_peak(memory_map, level, known, most) for level in levels if on_level(memory_map, level)
    )


def _require_same(memory_map: MemoryMap, levels: Sequence[str], again: Located | None) -> None:
    if again is None:
        raise ValueError("the plan's own step cannot be written again")
    operations = len(memory_map.schedule.operations)
    for level in levels:
        now = int(live_bytes(on_level(memory_map, level), operations).max(initial=0))
        then = _peak_on(again, level)
        if now != then:
            raise ValueError(
                f"written again, the plan's own step has {then} live bytes on {level}, not {now}"
            )


def _level_peak(memory_map: MemoryMap, level: str, again: Again | None, most: int) -> LevelPeak:
    entries = on_level(memory_map, level)
    live = live_bytes(entries, len(memory_map.schedule.operations))
    moment = int(live.argmax())
    peak = int(live[moment])
    alive = [placed for placed in entries if placed.buffer.start <= moment <= placed.buffer.end]
    alive.sort(key=lambda placed: (-placed.buffer.size_bytes, placed.buffer.id))
    rows = []
    for rank, placed in enumerate(alive[:most], 1):
        remedies = _remedies(memory_map, placed.buffer, level, peak, again)
        rows.append(PeakRow(rank, placed, placed.buffer.size_bytes / peak, remedies))
    return LevelPeak(level, moment, peak, len(alive), tuple(rows))


def _remedies(
    memory_map: MemoryMap, buffer: StepBuffer, level: str, peak: int, again: Again | None
) -> tuple[Remedy, ...]:
    """Return one change of each decision, the most direct first: the smallest that lowers the peak."""
    found: dict[str, Remedy] = {}
    for change in changes_for(buffer, memory_map.schedule):
        known = found.get(change.decision)
        if known is not None and change.decision not in COMPARED:
            continue
        if again is None:
            found.setdefault(change.decision, Remedy(change.words))
            continue
        other = again(change)
        then = peak if other is None else _peak_on(other, level)
        if then < peak and (known is None or then < (known.peak_bytes or 0)):
            found[change.decision] = Remedy(change.words, then)
    return tuple(found.values())[:REMEDIES]


def _peak_on(located: Located, level: str) -> int:
    """Most live bytes [B] of a step on ``level``."""
    schedule, levels = located
    found = [Placed(buffer, level, 0) for buffer in schedule.buffers if levels[buffer.id] == level]
    return int(live_bytes(found, len(schedule.operations)).max(initial=0))


def peak_csv(peaks: Sequence[LevelPeak], schedule: StepSchedule) -> str:
    """Write the rows of every level as CSV; bytes and shares are numbers."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for peak in peaks:
        operation = schedule.operations[peak.operation].name
        for row in peak.rows:
            buffer = row.placed.buffer
            writer.writerow((
                peak.level, row.rank, operation, buffer.id, buffer.name, buffer.role.value, buffer.reason,
                buffer.size_bytes, f"{row.share:.6f}", buffer.start, buffer.end, remedies_text(row, ""),
            ))  # fmt: skip
    return text.getvalue()


def remedies_text(row: PeakRow, nothing: str = "no single decision") -> str:
    """Write what would lower a buffer, with the level's peak where it is known."""
    return (
        "; ".join(
            remedy.change + ("" if remedy.peak_bytes is None else f" (peak {human_bytes(remedy.peak_bytes)})")
            for remedy in row.remedies
        )
        or nothing
    )

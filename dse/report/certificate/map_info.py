"""What the figure of a memory map shows: rectangles over operations and addresses, by level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

import numpy as np

from dse.plan.decisions import IntArray
from dse.plan.operations import Kind, Operation, Phase
from dse.report.certificate.data import Certificate, LevelSummary, live_bytes, on_level
from dse.vocabulary import Role

BACKWARD: Final = frozenset({Kind.RECOMPUTE, Kind.BWD_WEIGHT, Kind.BWD_INPUT, Kind.BWD_UPDATE})


@dataclass(frozen=True)
class Block:
    """One buffer: operations ``first`` to ``last`` inclusive, bytes from ``low`` to ``high``."""

    first: int
    last: int
    low: int
    high: int
    role: Role
    rank: int  # among those that make the peak, from 1; 0: none of the listed


@dataclass(frozen=True)
class Stretch:
    """Operations ``first`` to ``last`` inclusive that belong together."""

    name: str
    first: int
    last: int


@dataclass(frozen=True)
class LevelInfo:
    """One panel; ``live`` is in bytes per operation, (T,)."""

    summary: LevelSummary
    blocks: tuple[Block, ...]
    live: IntArray
    peak_operation: int
    peak_name: str


@dataclass(frozen=True)
class MapInfo:
    """One panel per level over the same T operations."""

    title: str
    subtitle: str
    operations: int
    stretches: tuple[Stretch, ...]
    levels: tuple[LevelInfo, ...]


def map_info(certificate: Certificate) -> MapInfo:
    """Collect what the figure shows: one panel per volatile level, or per level where none is."""
    held = [summary for summary in certificate.levels if on_level(certificate.map, summary.level)]
    shown = [summary for summary in held if summary.volatile] or held
    schedule = certificate.map.schedule
    return MapInfo(
        f"{certificate.network} on {certificate.board}: where every buffer lies, and when",
        ", ".join(certificate.plan_words),
        len(schedule.operations),
        stretches(schedule.operations),
        tuple(_level_info(certificate, summary) for summary in shown),
    )


def stretches(operations: Sequence[Operation]) -> tuple[Stretch, ...]:
    """Return runs of operations that belong to the same part of the step."""
    runs = [(name, list(run)) for name, run in groupby(operations, key=_part)]
    return tuple(Stretch(name, run[0].number, run[-1].number) for name, run in runs)


def _part(operation: Operation) -> str:
    if operation.phase == Phase.FROZEN:
        return "frozen stage"
    if operation.phase == Phase.INFERENCE:
        return "inference"
    if operation.phase == Phase.UPDATE:
        return "update"
    return "backward" if operation.kind in BACKWARD else "forward"


def _level_info(certificate: Certificate, summary: LevelSummary) -> LevelInfo:
    operations = certificate.map.schedule.operations
    entries = on_level(certificate.map, summary.level)
    live = live_bytes(entries, len(operations))
    moment = int(np.argmax(live))
    ranks = {
        row.placed.buffer.id: row.rank
        for peak in certificate.peaks
        if peak.level == summary.level
        for row in peak.rows
    }
    blocks = tuple(
        Block(
            placed.buffer.start, placed.buffer.end, placed.offset, placed.offset + placed.buffer.size_bytes,
            placed.buffer.role, ranks.get(placed.buffer.id, 0),
        )
        for placed in entries
    )  # fmt: skip
    return LevelInfo(summary, blocks, live, moment, operations[moment].name)

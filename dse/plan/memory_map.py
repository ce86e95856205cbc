"""A memory map as data: every buffer of a schedule with its level and offset.

Placement makes it, an independent checker and an executor read it; neither needs to know how it was made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dse.plan.operations import StepBuffer, StepSchedule


@dataclass(frozen=True)
class Placed:
    """One buffer at ``offset`` [B] from the start of its level's arena."""

    buffer: StepBuffer
    level: str
    offset: int


@dataclass(frozen=True)
class MemoryMap:
    """Where the buffers of ``schedule`` lie; ``arena_bytes`` is the size of each level's arena."""

    schedule: StepSchedule
    entries: tuple[Placed, ...]
    arena_bytes: Mapping[str, int]

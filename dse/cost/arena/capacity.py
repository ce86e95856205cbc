"""What to say when buffers do not fit: bytes missing, buffers in conflict, and what is proven."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dse.cost.arena.problem import Arena, ArenaBuffer, fullest
from dse.errors import NothingFits

SHOWN: Final = 10
"""Buffers that a message names."""


class ArenaTooSmall(NothingFits):
    """No placement within the capacity: none exists, or none was found, as ``proven`` says.

    ``arena`` is the best placement known; ``conflicting`` are the buffers in the way, largest first: where
    the live bytes alone are too many, those alive at the fullest operation, else those that the best
    placement puts across or above the capacity.
    """

    def __init__(self, arena: Arena, capacity_bytes: int, least_bytes: int) -> None:
        self.arena, self.capacity_bytes, self.least_bytes = arena, capacity_bytes, least_bytes
        self.operation, self.live_bytes = fullest(arena.buffers)
        self.fragmented = self.live_bytes <= capacity_bytes
        self.proven = least_bytes > capacity_bytes
        self.conflicting = _conflicting(arena, capacity_bytes, self.operation, fragmented=self.fragmented)
        super().__init__("\n".join(self._lines()))

    @property
    def missing_bytes(self) -> int:
        """Bytes [B] by which the best placement known exceeds the capacity."""
        return self.arena.size_bytes - self.capacity_bytes

    def _lines(self) -> list[str]:
        capacity = f"the capacity of {self.capacity_bytes} B"
        if not self.fragmented:
            lines = [
                f"does not fit: {self.live_bytes - self.capacity_bytes} B are missing: operation "
                f"{self.operation} has {self.live_bytes} live bytes, above {capacity} "
                f"(the best arena found takes {self.arena.size_bytes} B, {self.missing_bytes} B more)",
                f"alive during operation {self.operation}, largest first:",
            ]
        else:
            lines = [
                f"does not fit: {self.missing_bytes} B are missing: the best arena found takes "
                f"{self.arena.size_bytes} B, {capacity} would hold the {self.live_bytes} live bytes",
                self._fragmentation(),
                "placed across or above the capacity, largest first:",
            ]
        lines += [_line(buffer, self.arena.offsets[buffer.id]) for buffer in self.conflicting[:SHOWN]]
        more = len(self.conflicting) - SHOWN
        return [*lines, f"  and {more} more"] if more > 0 else lines

    def _fragmentation(self) -> str:
        least = f"no placement takes less than {self.least_bytes} B"
        if self.proven:
            return f"it is fragmentation or padding, which is proven: {least}"
        return (
            f"it is fragmentation, which is not proven ({least}): the exact solver, or a higher limit for "
            "it, may find one that fits"
        )


def _conflicting(arena: Arena, capacity: int, operation: int, *, fragmented: bool) -> tuple[ArenaBuffer, ...]:
    def in_the_way(buffer: ArenaBuffer) -> bool:
        if fragmented:
            return arena.offsets[buffer.id] + buffer.size_bytes > capacity
        return buffer.start <= operation <= buffer.end

    return _largest_first([buffer for buffer in arena.buffers if in_the_way(buffer)])


def _largest_first(buffers: Sequence[ArenaBuffer]) -> tuple[ArenaBuffer, ...]:
    return tuple(sorted(buffers, key=lambda one: (-one.size_bytes, one.id)))


def _line(buffer: ArenaBuffer, offset: int) -> str:
    return (
        f"  {buffer.id}: {buffer.size_bytes} B, operations {buffer.start} to {buffer.end}, placed at {offset}"
    )

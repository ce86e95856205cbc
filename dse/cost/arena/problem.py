"""Buffers that share an arena, the placement of them, and the least that any placement needs.

Plain buffers: what they hold, and which network they belong to, is somebody else's business.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from numbers import Integral
from typing import Any, Final

from dse.errors import Problem, UserError

LARGEST: Final = 2**40
"""Most bytes of a buffer and latest operation: sums over 100,000 of them stay within 64 bits."""

MOST_BUFFERS: Final = 10_000


@dataclass(frozen=True, slots=True)
class ArenaBuffer:
    """``size_bytes`` [B] at a multiple of ``alignment`` [B], from operation ``start`` to ``end`` inclusive.

    Raises UserError with every problem at once.
    """

    id: str
    start: int
    end: int
    size_bytes: int
    alignment: int = 1

    def __post_init__(self) -> None:
        problems = [
            Problem("arena", f"buffer {str(self.id)[:60]!r}: {key}", repr(getattr(self, key)), "an integer")
            for key in ("start", "end", "size_bytes", "alignment")
            if not isinstance(getattr(self, key), Integral)
        ]
        if not problems:
            for key in ("start", "end", "size_bytes", "alignment"):  # numpy's integers would overflow in sums
                object.__setattr__(self, key, int(getattr(self, key)))
            problems = self._out_of_range()
        if problems:
            raise UserError(problems)

    def _out_of_range(self) -> list[Problem]:
        return [
            Problem("arena", f"buffer {str(self.id)[:60]!r}: {key}", str(value), allowed)
            for key, value, good, allowed in (
                ("start", self.start, 0 <= self.start <= LARGEST, f"an operation from 0 to {LARGEST}"),
                ("end", self.end, self.start <= self.end <= LARGEST, "not before start"),
                ("size_bytes", self.size_bytes, 1 <= self.size_bytes <= LARGEST, f"1 to {LARGEST} bytes"),
                ("alignment", self.alignment, is_alignment(self.alignment), f"a power of two to {LARGEST}"),
            )
            if not good
        ]


@dataclass(frozen=True)
class Arena:
    """Buffers at offsets [B] by id, in an arena of ``size_bytes``.

    No placement is smaller than ``bound_bytes`` (most live bytes, padding for alignment included as far as it
    is unavoidable). ``proven``: no placement at all is smaller than this one.
    """

    buffers: tuple[ArenaBuffer, ...]
    offsets: Mapping[str, int]
    size_bytes: int
    bound_bytes: int
    method: str
    proven: bool

    @property
    def gap(self) -> float:
        """How far the arena lies above its bound, as a fraction of the bound."""
        return self.size_bytes / self.bound_bytes - 1.0 if self.bound_bytes else 0.0

    def to_frame(self) -> Any:
        """Return a pandas DataFrame with a row per buffer: id, start, end, size_bytes, alignment, offset."""
        import pandas as pd

        frame = pd.DataFrame([asdict(buffer) for buffer in self.buffers])
        return frame.assign(offset=[self.offsets[buffer.id] for buffer in self.buffers])


def is_alignment(value: int) -> bool:
    """Return whether ``value`` is a power of two, one included."""
    return 1 <= value <= LARGEST and value & (value - 1) == 0


def aligned(value: int, alignment: int) -> int:
    """Return the least multiple of ``alignment`` that is not below ``value``.

    >>> aligned(13, 8)
    16
    """
    return -(-value // alignment) * alignment


def require_placeable(buffers: Sequence[ArenaBuffer]) -> None:
    """Raise UserError where ids repeat or buffers are too many to be placed in reasonable time."""
    problems, seen = [], set()
    for buffer in buffers:
        if buffer.id in seen:
            problems.append(
                Problem("arena", f"buffer {buffer.id[:60]!r}", "there twice", "one buffer per id")
            )
        seen.add(buffer.id)
    if len(buffers) > MOST_BUFFERS:
        problems.append(Problem("arena", "buffers", str(len(buffers)), f"at most {MOST_BUFFERS}"))
    if problems:
        raise UserError(problems)


def live_bytes(buffers: Iterable[ArenaBuffer]) -> int:
    """Return the most bytes [B] that are alive at once, without padding."""
    return fullest(buffers)[1]


def fullest(buffers: Iterable[ArenaBuffer]) -> tuple[int, int]:
    """Return the first operation with the most live bytes, and how many [B]; (0, 0) without buffers."""
    changes: dict[int, int] = {}
    for buffer in buffers:
        changes[buffer.start] = changes.get(buffer.start, 0) + buffer.size_bytes
        changes[buffer.end + 1] = changes.get(buffer.end + 1, 0) - buffer.size_bytes
    live, when, most = 0, 0, 0
    for operation in sorted(changes):
        live += changes[operation]
        if live > most:
            when, most = operation, live
    return when, most


def lower_bound(buffers: Sequence[ArenaBuffer]) -> int:
    """Return bytes [B] that no placement can do without: the most live bytes, with unavoidable padding.

    Padding counts as follows. Take the buffers alive during one operation whose alignment is at least some
    g. Their offsets are multiples of g, so between one of them and the next above it lies at least its size
    rounded up to g; only the topmost can end unrounded. Whichever that is, these buffers alone need the sum
    of their rounded sizes less the largest padding among them. Buffers of smaller alignment may lie within
    the padding, so they count for nothing here; with g = 1 all buffers count and there is no padding. The
    bound is the largest such value over all operations and all alignments g that occur.
    """
    steps = {1} | {buffer.alignment for buffer in buffers}
    return max(_padded([one for one in buffers if one.alignment >= step], step) for step in steps)


def _padded(buffers: Sequence[ArenaBuffer], step: int) -> int:
    """Return the most of live bytes rounded up to ``step``, less the largest padding among the live."""
    live = most = 0
    ends: list[tuple[int, int]] = []  # (end, rounded size) of the live
    paddings: list[tuple[int, int]] = []  # (-padding, end), those of the dead are dropped when they surface
    for buffer in sorted(buffers, key=lambda one: one.start):
        while ends and ends[0][0] < buffer.start:
            live -= heapq.heappop(ends)[1]
        rounded = aligned(buffer.size_bytes, step)
        live += rounded
        heapq.heappush(ends, (buffer.end, rounded))
        heapq.heappush(paddings, (buffer.size_bytes - rounded, buffer.end))
        while paddings[0][1] < buffer.start:
            heapq.heappop(paddings)
        most = max(most, live + paddings[0][0])
    return most

"""Whether a placement is valid, found out independently of how it was made.

This module imports nothing from the package: neither the allocators nor their notion of a buffer, so that a
mistake in them cannot hide here. It takes plain rows and looks at each operation's live buffers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Row = tuple[str, int, int, int, int, int]
"""(id, first operation, last operation inclusive, size [B], alignment [B], offset [B])"""


@dataclass(frozen=True)
class Violation:
    """One thing wrong: its kind, the ids concerned, operations (inclusive) and bytes (end exclusive)."""

    kind: str
    ids: tuple[str, ...]
    first_operation: int
    last_operation: int
    first_byte: int
    end_byte: int

    def __str__(self) -> str:
        who = " and ".join(repr(one) for one in self.ids)
        when = f"operations {self.first_operation} to {self.last_operation}"
        return f"{self.kind}: {who}, {when}, bytes {self.first_byte} to {self.end_byte} (exclusive)"


def violations(rows: Sequence[Row], arena_bytes: int) -> tuple[Violation, ...]:
    """Return everything wrong with ``rows`` in an arena of ``arena_bytes`` [B]; empty: all is valid."""
    return (*_of_each(rows, arena_bytes), *_repeated(rows), *_overlaps(rows))


def _of_each(rows: Iterable[Row], arena_bytes: int) -> Iterable[Violation]:
    """Yield what is wrong with a row by itself."""
    for name, start, end, size, alignment, offset in rows:
        wrong = []
        if start < 0 or end < start:
            wrong.append("lifespan is negative or ends before it starts")
        if size <= 0:
            wrong.append("size is not positive")
        if alignment <= 0 or bin(alignment).count("1") != 1:
            wrong.append(f"alignment {alignment} is not a power of two")
        elif offset % alignment:
            wrong.append(f"offset {offset} is not a multiple of {alignment}")
        if offset < 0 or offset + size > arena_bytes:
            wrong.append(f"outside the arena of {arena_bytes} bytes")
        for kind in wrong:
            yield Violation(kind, (name,), start, end, offset, offset + size)


def _repeated(rows: Iterable[Row]) -> Iterable[Violation]:
    """Yield ids that stand for several buffers."""
    seen: set[str] = set()
    for name, start, end, size, _, offset in rows:
        if name in seen:
            yield Violation("id is there twice", (name,), start, end, offset, offset + size)
        seen.add(name)


def _overlaps(rows: Iterable[Row]) -> Iterable[Violation]:
    """Yield pairs that share a byte during an operation.

    In the order of their starts, each buffer is compared with those that started earlier and have not ended:
    two lifespans overlap exactly when the later one starts before the earlier one has ended.
    """
    live: list[Row] = []
    for row in sorted(rows, key=lambda one: one[1]):
        name, start, end, size, _, offset = row
        if end < start or size <= 0:
            continue  # occupies nothing; reported above
        live = [other for other in live if other[2] >= start]
        for other in live:
            low, high = max(offset, other[5]), min(offset + size, other[5] + other[3])
            if low < high:
                yield Violation("overlap", (other[0], name), start, min(end, other[2]), low, high)
        live.append(row)

"""Slow and obvious recomputations for small buffers, and how hypothesis makes some."""

from __future__ import annotations

from itertools import permutations

from hypothesis import strategies as st

from dse.cost.arena import ArenaBuffer

OPERATIONS = 7


def painted(rows, arena_bytes):
    """Paint every byte of every operation; return shared (pair -> cells) and the ids that leave the arena."""
    paint, shared, outside = {}, {}, set()
    for name, start, end, size, _, offset in rows:
        if offset < 0 or offset + size > arena_bytes:
            outside.add(name)
        for operation in range(start, end + 1):
            for byte in range(offset, offset + size):
                for other in paint.setdefault((operation, byte), []):
                    shared.setdefault(frozenset((other, name)), set()).add((operation, byte))
                paint[operation, byte].append(name)
    return shared, outside


def live_at(buffers, operation):
    return sum(one.size_bytes for one in buffers if one.start <= operation <= one.end)


def smallest_arena(buffers):
    """Try every order, each buffer at the lowest aligned place that is free among those before it.

    In the order of an optimal placement's offsets nothing ends up higher than there, so one order is optimal.
    """
    return min(_in_order(order) for order in permutations(buffers))


def _in_order(order):
    placed = []
    for one in order:
        meets = [(o, b) for o, b in placed if b.start <= one.end and one.start <= b.end]
        places = {0} | {-(-(o + b.size_bytes) // one.alignment) * one.alignment for o, b in meets}
        free = (
            at for at in places if all(at + one.size_bytes <= o or o + b.size_bytes <= at for o, b in meets)
        )
        placed.append((min(free), one))
    return max(offset + one.size_bytes for offset, one in placed)


@st.composite
def buffer_lists(draw, most=12, largest=12, alignments=(1, 2, 4, 8), least=1):
    count = draw(st.integers(least, most))
    found = []
    for number in range(count):
        start = draw(st.integers(0, OPERATIONS - 1))
        end = draw(st.integers(start, OPERATIONS - 1))
        size = draw(st.integers(1, largest))
        found.append(ArenaBuffer(f"b{number}", start, end, size, draw(st.sampled_from(alignments))))
    return found


def rows_of(arena):
    return [
        (one.id, one.start, one.end, one.size_bytes, one.alignment, arena.offsets[one.id])
        for one in arena.buffers
    ]

"""Buffers hold to their ranges; bounds by hand, and never above what is possible."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from dse.cost.arena import ArenaBuffer, fullest, live_bytes, lower_bound, place
from dse.errors import UserError
from tests.cost.arena.naive import OPERATIONS, buffer_lists, live_at, smallest_arena


def test_every_problem_of_a_buffer_is_reported():
    with pytest.raises(UserError) as error:
        ArenaBuffer("x", -1, -2, 0, 12)
    assert [problem.key.split(": ")[1] for problem in error.value.problems] == [
        "start",
        "end",
        "size_bytes",
        "alignment",
    ]


@pytest.mark.parametrize("size", [0, -4, 2**40 + 1, 4.0, "4", None])
def test_sizes_are_integers_within_reason(size):
    with pytest.raises(UserError, match="size_bytes"):
        ArenaBuffer("x", 0, 1, size)


def test_integers_of_numpy_become_plain_ones():
    buffer = ArenaBuffer("x", np.int64(0), np.int32(1), np.int64(2**31), np.int8(4))
    assert type(buffer.size_bytes) is int
    assert live_bytes([buffer, ArenaBuffer("y", 1, 1, 2**31)]) == 2**32


def test_live_bytes_by_hand():
    buffers = [ArenaBuffer("a", 0, 2, 10), ArenaBuffer("b", 2, 4, 5), ArenaBuffer("c", 3, 3, 6)]
    assert fullest(buffers) == (2, 15)
    assert (live_bytes([]), lower_bound([]), fullest([])) == (0, 0, (0, 0))


def test_padding_counts_except_on_top():
    # 5 -> 8 and 6 -> 8 bytes; the one with more padding goes on top: 8 + 5
    assert lower_bound([ArenaBuffer("a", 0, 1, 5, 4), ArenaBuffer("b", 0, 1, 6, 4)]) == 13
    # of alignment 8: 16 + 8 - 7 = 17, and a small one fits into the padding
    mixed = [ArenaBuffer("a", 0, 0, 9, 8), ArenaBuffer("b", 0, 0, 8, 8), ArenaBuffer("c", 0, 0, 3)]
    assert lower_bound(mixed) == 20 == smallest_arena(mixed)
    assert lower_bound(mixed[:2]) == 17 == smallest_arena(mixed[:2])


def test_the_padding_of_the_dead_does_not_count():
    # during operation 1 the first is gone: 8 + 8 - 1, not less its padding of 3
    buffers = [ArenaBuffer("a", 0, 0, 5, 4), ArenaBuffer("b", 1, 1, 7, 4), ArenaBuffer("c", 1, 1, 8, 4)]
    assert lower_bound(buffers) == 15


@settings(max_examples=150)
@given(buffer_lists(most=5))
def test_no_arena_is_below_the_bound_and_no_bound_below_live_bytes(buffers):
    assert live_bytes(buffers) == max(live_at(buffers, at) for at in range(OPERATIONS))
    assert live_bytes(buffers) <= lower_bound(buffers) <= smallest_arena(buffers)


def test_an_arena_as_a_table():
    arena = place([ArenaBuffer("a", 0, 2, 10), ArenaBuffer("b", 2, 4, 5, 4)])
    frame = arena.to_frame().set_index("id")
    assert frame.loc["b", "offset"] == arena.offsets["b"]
    assert list(frame.columns) == ["start", "end", "size_bytes", "alignment", "offset"]

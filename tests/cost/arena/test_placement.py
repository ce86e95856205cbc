"""Placements: valid, bounded, exact where asked, the same every time, and refused with reasons."""

from __future__ import annotations

import random
import sys
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dse.cost.arena import (
    Arena,
    ArenaBuffer,
    ArenaTooSmall,
    Limits,
    PlacementInvalid,
    checked,
    lower_bound,
    place,
    violations,
)
from dse.cost.arena import placement as module
from dse.cost.arena.reduction import reduced
from dse.errors import NothingFits, UserError
from tests.cost.arena.naive import buffer_lists, rows_of, smallest_arena

# In 4 bytes f leaves a the byte 0 or 3, b leaves c the same two; say a is at 0 and c at 3. Then e (2 bytes)
# allows d 1 or 3, and beside c only 1: bytes 0 and 2 are left for h, which needs two in a row.
FRAGMENTED = [
    ArenaBuffer("a", 0, 2, 1),
    ArenaBuffer("b", 4, 4, 3),
    ArenaBuffer("c", 2, 4, 1),
    ArenaBuffer("d", 1, 3, 1),
    ArenaBuffer("e", 1, 1, 2),
    ArenaBuffer("f", 0, 0, 3),
    ArenaBuffer("g", 2, 2, 1),
    ArenaBuffer("h", 3, 3, 2),
]


def scattered(count, seed):
    """Many buffers that are hard to place without holes."""
    draw = random.Random(seed)
    found = []
    for number in range(count):
        start = draw.randrange(60)
        found.append(
            ArenaBuffer(f"b{number}", start, start + draw.randrange(1, 25), draw.randrange(1, 4000), 4)
        )
    return found


@settings(deadline=None)
@given(buffer_lists(most=14))
def test_placements_are_valid_and_not_below_the_bound(buffers):
    arena = place(buffers)
    assert violations(rows_of(arena), arena.size_bytes) == ()
    assert arena.offsets.keys() == {one.id for one in buffers}
    assert arena.size_bytes == max(arena.offsets[one.id] + one.size_bytes for one in buffers)
    assert arena.bound_bytes == lower_bound(buffers) <= arena.size_bytes
    assert arena.proven or arena.size_bytes > arena.bound_bytes


@settings(max_examples=60, deadline=None)
@given(buffer_lists(most=6))
def test_the_exact_arena_is_that_of_every_order_tried(buffers):
    exact = place(buffers, exact=True)
    assert exact.proven
    assert exact.size_bytes == smallest_arena(buffers)
    assert place(buffers).size_bytes >= exact.size_bytes


@settings(max_examples=40, deadline=None)
@given(buffer_lists(most=7, largest=30, alignments=(4,), least=5))
def test_one_alignment_is_exact_to_the_byte(buffers):
    assert place(buffers, exact=True).size_bytes == smallest_arena(buffers)


@settings(max_examples=25, deadline=None)
@given(buffer_lists(most=6), st.integers(-2, 8))
def test_a_capacity_is_kept_or_proven_too_small(buffers, spare):
    least = smallest_arena(buffers)
    capacity = max(least + spare, 1)
    if capacity >= least:
        assert place(buffers, capacity_bytes=capacity, exact=True).size_bytes <= capacity
    else:
        with pytest.raises(ArenaTooSmall) as error:
            place(buffers, capacity_bytes=capacity, exact=True)
        assert error.value.proven
        assert capacity < error.value.least_bytes <= least


@settings(max_examples=60, deadline=None)
@given(buffer_lists(most=14), st.integers(1, 1000), st.randoms(use_true_random=False))
def test_time_and_names_do_not_matter(buffers, later, draw):
    size = place(buffers, effort=500).size_bytes
    moved = [replace(one, start=one.start + later, end=one.end + later) for one in buffers]
    assert place(moved, effort=500).size_bytes == size
    stretched = [replace(one, start=one.start * later, end=one.end * later + later - 1) for one in buffers]
    assert place(stretched, effort=500).size_bytes == size
    names = draw.sample(range(1000), len(buffers))
    renamed = [replace(one, id=f"n{name}") for one, name in zip(buffers, names, strict=True)]
    assert [*place(renamed).offsets.values()] == [*place(buffers).offsets.values()]


@settings(deadline=None)
@given(buffer_lists(most=12, least=2), st.data())
def test_an_offset_onto_a_live_neighbour_is_refused(buffers, data):
    arena = place(buffers, effort=0)
    pairs = [
        (one, other)
        for one in buffers
        for other in buffers
        if one.id != other.id and one.start <= other.end and other.start <= one.end
    ]
    assume(pairs)
    one, other = data.draw(st.sampled_from(pairs))
    low, size = arena.offsets[other.id], other.size_bytes
    onto = data.draw(st.integers(max(0, low - one.size_bytes + 1), low + size - 1))
    found = checked(buffers, {**arena.offsets, one.id: onto}, capacity_bytes=2**20).violations
    assert {one.id, other.id} in [set(each.ids) for each in found if each.kind == "overlap"]


def test_the_same_input_gives_the_same_map():
    buffers = scattered(60, 3)
    arena = place(buffers, seed=5)
    assert place(buffers, seed=5) == arena
    assert not arena.proven  # the search had something to do
    limits = Limits(deterministic=0.02)
    assert place(buffers, exact=True, limits=limits) == place(buffers, exact=True, limits=limits)


@pytest.mark.parametrize("seed", [0, 1])
def test_searching_and_solving_never_make_it_worse(seed):
    buffers = scattered(40, seed)
    greedy = place(buffers, effort=0)
    found = place(buffers)
    exact = place(buffers, exact=True, limits=Limits(deterministic=0.05))
    assert exact.size_bytes <= found.size_bytes < greedy.size_bytes
    assert found.gap < 0.05


def test_what_is_alive_throughout_goes_to_the_bottom():
    buffers = [
        ArenaBuffer("weights", 0, 9, 100, 4),
        ArenaBuffer("x", 0, 4, 10, 4),
        ArenaBuffer("y", 5, 9, 20, 4),
    ]
    arena = place(buffers)
    assert arena.offsets == {"weights": 0, "x": 100, "y": 100}
    assert (arena.size_bytes, arena.proven, arena.method) == (120, True, "stacked")


def test_padding_is_saved_on_top():
    arena = place([ArenaBuffer("odd", 0, 9, 5, 4), ArenaBuffer("x", 3, 4, 4, 4)])
    assert arena.offsets == {"odd": 4, "x": 0}
    assert (arena.size_bytes, arena.bound_bytes, arena.proven) == (9, 9, True)


def test_independent_stretches_of_time_are_parts():
    buffers = [ArenaBuffer("w", 0, 9, 4)]
    buffers += [
        ArenaBuffer(f"{side}{k}", 5 * side + k, 5 * side + k + 1, 2) for side in (0, 1) for k in range(4)
    ]
    tree = reduced(buffers)
    assert len(tree.leaves) == 2
    assert tree.unit_bytes == 2
    assert place(buffers).size_bytes == 8


def test_nests_deeper_than_the_stack_of_python():
    buffers = [ArenaBuffer(f"b{k}", k, 3999 - k, 4, 4) for k in range(1500)]
    arena = place(buffers)
    assert (arena.size_bytes, arena.proven) == (6000, True)


def test_nothing_takes_nothing():
    arena = place([])
    assert (arena.size_bytes, arena.offsets, arena.gap, arena.proven) == (0, {}, 0.0, True)


def test_too_many_live_bytes_name_the_operation_and_the_buffers():
    buffers = [ArenaBuffer("small", 0, 2, 10), ArenaBuffer("large", 1, 3, 90), ArenaBuffer("other", 3, 3, 5)]
    with pytest.raises(NothingFits) as error:
        place(buffers, capacity_bytes=80)
    assert isinstance(error.value, ArenaTooSmall)
    assert (error.value.missing_bytes, error.value.operation, error.value.proven) == (20, 1, True)
    assert [one.id for one in error.value.conflicting] == ["large", "small"]
    text = str(error.value)
    assert "20 B are missing: operation 1 has 100 live bytes" in text
    assert text.index("large: 90 B") < text.index("small: 10 B")
    assert "other" not in text


def test_fragmentation_is_named_and_its_proof_too():
    assert lower_bound(FRAGMENTED) == 4
    with pytest.raises(ArenaTooSmall, match="not proven") as guessed:
        place(FRAGMENTED, capacity_bytes=4)
    assert guessed.value.fragmented
    assert not guessed.value.proven
    assert all(guessed.value.arena.offsets[one.id] + one.size_bytes > 4 for one in guessed.value.conflicting)
    with pytest.raises(ArenaTooSmall, match="which is proven: no placement takes less than 5 B") as sure:
        place(FRAGMENTED, capacity_bytes=4, exact=True)
    assert sure.value.missing_bytes == 1
    exact = place(FRAGMENTED, exact=True)
    assert (exact.size_bytes, exact.bound_bytes, exact.gap, exact.proven) == (5, 4, 0.25, True)


def test_without_the_solver_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ortools.sat.python", None)
    with pytest.raises(UserError, match=r"OR-tools is not installed; pip install 'tinyml-dse\[arena\]'"):
        place(FRAGMENTED, exact=True)
    assert place(FRAGMENTED).size_bytes == 5


def test_a_mistake_of_an_allocator_is_an_internal_error(monkeypatch):
    def overlapping(parts):
        return Arena(parts.buffers, {one.id: 0 for one in parts.buffers}, 99, 4, "broken", proven=False)

    monkeypatch.setattr(module._Parts, "arena", overlapping)
    with pytest.raises(PlacementInvalid, match="overlap: 'a' and 'f'"):
        place(FRAGMENTED)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"capacity_bytes": 0}, "capacity_bytes: 0"),
        ({"seed": -1}, "seed: -1"),
        ({"seed": 2**31}, "seed"),
        ({"effort": -1}, "effort"),
    ],
)
def test_wrong_parameters_are_refused(arguments, said):
    with pytest.raises(UserError, match=said):
        place(FRAGMENTED, **arguments)


def test_ids_stand_for_one_buffer():
    with pytest.raises(UserError, match=r"buffer 'a': there twice"):
        place([*FRAGMENTED, ArenaBuffer("a", 9, 9, 1)])

"""The memory itself: lifespans, poison, guard bytes, workspaces, and maps that are no maps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dse.execution.buffers import Buffers
from dse.execution.memory import GUARD, Arena, MemoryViolation, Separate, gaps, pattern
from dse.plan.decisions import TrainingPlan
from dse.plan.memory_map import MemoryMap, Placed
from dse.plan.operations import Holds, Kind, Operation, Phase, StepBuffer, StepSchedule
from dse.plan.timeline import Content
from dse.vocabulary import Role
from tests.execution.cases import network_of
from tests.execution.mutations import Lenient


def operations(count):
    return tuple(Operation(n, Kind.FORWARD, Phase.LEARNING, n, f"fwd {n}") for n in range(count))


def buffer(name, start, end, size, holds=Holds.ACTIVATION, content=Content.ACTIVATION, place=None):
    place = int(name[1:]) if place is None else place
    return StepBuffer(
        name, holds, place, Role.TRANSIENT_ACTIVATIONS, content, name, "test", start, end, size, 4, (end,)
    )


def made(*placed, size=32, count=4):
    """A map of buffers and their offsets in one level."""
    network = network_of("har-cnn-1d")
    buffers = tuple(one for one, _ in placed)
    schedule = StepSchedule(network, TrainingPlan(cut=0), operations(count), buffers)
    return MemoryMap(schedule, tuple(Placed(one, "ram", offset) for one, offset in placed), {"ram": size})


def begun(memory_map, kind=Arena):
    arena = kind(memory_map)
    arena.start()
    return arena


def ones(count):
    return np.ones(count, dtype=np.float32)


FLOAT = np.dtype(np.float32)


def test_the_guard_pattern_is_no_number():
    assert np.isnan(np.frombuffer(GUARD, "<f4")).all()
    assert pattern(3, 6) == bytes.fromhex("7fa55ae97fa5")


def test_a_buffer_is_poisoned_when_it_begins_and_when_it_ends():
    arena = begun(made((buffer("b0", 0, 1, 8), 4)))
    assert bytes(arena.levels["ram"]) == pattern(0, 32)
    (one,) = arena.begin(0)
    arena.contents(one)[:] = 0
    assert bytes(arena.levels["ram"][4:12]) == bytes(8)
    arena.finish(0)
    assert arena.begin(1) == []
    arena.finish(1)
    assert bytes(arena.levels["ram"]) == pattern(0, 32)
    assert arena.find(Holds.ACTIVATION, 0) is None


def test_a_buffer_that_lives_on_is_not_poisoned_again():
    """As an accumulator is not when the next micro-batch comes round to the operation that it starts with."""
    arena = begun(made((buffer("b0", 0, 3, 8), 0)))
    (one,) = arena.begin(0)
    arena.contents(one)[:] = 7
    arena.finish(0)
    assert arena.begin(0) == []
    assert arena.contents(one).tolist() == [7] * 8


@pytest.mark.parametrize(("start", "offset", "content"), [
    (1, 7, Content.ACTIVATION), (0, 4, Content.ACTIVATION), (0, 11, Content.STANDING),
])  # fmt: skip
def test_no_buffer_begins_on_bytes_of_one_that_lives(start, offset, content):
    """Whether anything is written there or read again: poison would destroy it."""
    standing = buffer("b0", 0, 3, 8, Holds.REPLAYS, Content.STANDING)
    memory_map = made((standing, 4), (buffer("b1", start, 3, 8, content=content), offset))
    said = rf"operation {start} \(fwd {start}\): b[01] \(b[01]\) begins on bytes {offset} to 12 of ram, which"
    with pytest.raises(MemoryViolation, match=said):
        run_through(begun(memory_map))


@pytest.mark.parametrize("memory", ["arena", "separate"])
def test_at_rest_only_what_stands_throughout_lives(memory):
    standing = buffer("b0", 0, 3, 8, Holds.REPLAYS, Content.STANDING)
    memory_map = made((standing, 4), (buffer("b1", 0, 3, 8), 16))
    kept = begun(memory_map) if memory == "arena" else Separate(memory_map.schedule)
    kept.start()
    kept.begin(0)
    kept.rest()
    assert kept.find(Holds.REPLAYS, 0) is not None
    assert kept.find(Holds.ACTIVATION, 1) is None
    assert [one.id for one in kept.begin(0)] == ["b1"]


def test_a_buffer_may_begin_where_another_has_ended_or_beside_it():
    memory_map = made((buffer("b0", 0, 1, 8), 4), (buffer("b1", 2, 3, 8), 8), (buffer("b2", 0, 3, 4), 0))
    run_through(begun(memory_map))


def run_through(arena):
    for operation in range(4):
        arena.begin(operation)
        arena.finish(operation)


def test_what_stands_throughout_begins_first_and_never_ends():
    arena = begun(made((buffer("b0", 0, 3, 8, Holds.FROZEN_WEIGHT, Content.STANDING), 0)))
    assert arena.find(Holds.FROZEN_WEIGHT, 0) is not None
    for operation in range(4):
        arena.begin(operation)
        arena.finish(operation)
    assert arena.find(Holds.FROZEN_WEIGHT, 0) is not None


@pytest.mark.parametrize("address", [0, 3, 12, 31])
def test_a_changed_guard_byte_is_noticed(address):
    arena = begun(made((buffer("b0", 0, 1, 8), 4), (buffer("b1", 0, 1, 8), 16)))
    arena.begin(0)
    arena.levels["ram"][address] ^= 1
    with pytest.raises(MemoryViolation, match=rf"operation 0 \(fwd 0\): byte {address} of ram") as caught:
        arena.finish(0)
    names = {0: "b0", 3: "b0", 12: "b0 (b0) and b1", 31: "b1"}[address]
    assert names in str(caught.value)


def test_free_bytes_inside_a_dead_buffer_are_guarded():
    arena = begun(made((buffer("b0", 0, 1, 8), 4)))
    for operation in (0, 1):
        arena.begin(operation)
        arena.finish(operation)
    arena.begin(2)
    arena.levels["ram"][5] = 0
    with pytest.raises(MemoryViolation, match="byte 5 of ram changed and belongs to no buffer"):
        arena.finish(2)


def test_gaps_of_overlapping_entries():
    memory_map = made((buffer("b0", 0, 1, 8), 4), (buffer("b1", 0, 1, 12), 8))
    assert gaps(memory_map.entries, 32) == [(0, 4), (20, 32)]
    assert gaps((), 8) == [(0, 8)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"offset": 28}, r"b0: bytes 28 to 36 of ram; within its 32 bytes"),
        ({"offset": -4}, r"b0: bytes -4 to 4 of ram; within its 32 bytes"),
        ({"level": "flash"}, r"b0: bytes 4 to 12 of flash; within its 0 bytes"),
        ({"buffer": buffer("b0", 2, 1, 8)}, r"b0: alive from operation 2 to 1; a lifespan within 0 to 3"),
        ({"buffer": buffer("b0", 2, 4, 8)}, r"b0: alive from operation 2 to 4; a lifespan within 0 to 3"),
        ({"buffer": buffer("b7", 0, 1, 8)}, r"b0: not placed; a level and an offset"),
    ],
    ids=str,
)
def test_maps_that_cannot_be(change, message):
    good = made((buffer("b0", 0, 1, 8), 4))
    entry = replace(good.entries[0], **change)
    schedule = good.schedule
    if entry.buffer.id == "b0":
        schedule = replace(schedule, buffers=(entry.buffer,))
    with pytest.raises(MemoryViolation, match=message):
        Arena(MemoryMap(schedule, (entry,), good.arena_bytes))


# --- numbers in buffers ---


def test_a_buffer_that_was_overwritten_is_not_read():
    """The second buffer begins on the first one's bytes; the first is read afterwards."""
    memory_map = made((buffer("b0", 0, 2, 8), 0), (buffer("b1", 1, 2, 8), 4))
    arena = begun(memory_map, Lenient)
    buffers = Buffers(arena)
    first, second = memory_map.schedule.operations[:2]
    buffers.start(first)
    buffers.write(Holds.ACTIVATION, 0, ones(2), FLOAT)
    buffers.end(first)
    buffers.start(second)
    with pytest.raises(MemoryViolation, match=r"fwd 1: b0 \(b0\) was overwritten by something else"):
        buffers.read(Holds.ACTIVATION, 0, FLOAT, (2,))


def test_results_of_one_operation_must_not_share_bytes():
    memory_map = made((buffer("b0", 0, 2, 8), 0), (buffer("b1", 0, 2, 8), 4))
    buffers = Buffers(begun(memory_map, Lenient))
    buffers.start(memory_map.schedule.operations[0])
    buffers.write(Holds.ACTIVATION, 0, ones(2), FLOAT)
    buffers.write(Holds.ACTIVATION, 1, 2 * ones(2), FLOAT)
    with pytest.raises(MemoryViolation, match=r"b0 \(b0\) was overwritten"):
        buffers.end(memory_map.schedule.operations[0])


@pytest.mark.parametrize("memory", ["arena", "separate"])
def test_a_workspace_belongs_to_its_kernel(memory):
    """On the output of the same operation it is noticed when the operation ends."""
    offsets = (0, 4) if memory == "arena" else (0, 16)
    workspace = buffer("w0", 0, 0, 8, Holds.WORKSPACE, Content.WORKSPACE)
    memory_map = made((buffer("b0", 0, 2, 8), offsets[0]), (workspace, offsets[1]))
    kept = begun(memory_map, Lenient) if memory == "arena" else Separate(memory_map.schedule)
    kept.start()
    buffers = Buffers(kept)
    first = memory_map.schedule.operations[0]
    buffers.start(first)
    buffers.write(Holds.ACTIVATION, 0, ones(2), FLOAT)
    if memory == "separate":
        buffers.end(first)
        return
    with pytest.raises(MemoryViolation, match="workspace w0 was written by others"):
        buffers.end(first)


def test_values_that_nobody_wrote_or_holds_or_that_do_not_fit():
    memory_map = made((buffer("b0", 0, 2, 8), 0))
    buffers = Buffers(begun(memory_map))
    buffers.start(memory_map.schedule.operations[0])
    with pytest.raises(MemoryViolation, match="b0 is read before anything wrote it"):
        buffers.read(Holds.ACTIVATION, 0, FLOAT, (2,))
    with pytest.raises(MemoryViolation, match="no live buffer holds activation of 5"):
        buffers.read(Holds.ACTIVATION, 5, FLOAT, (2,))
    with pytest.raises(MemoryViolation, match=r"8 bytes for \(3,\) of float32; at least 12"):
        buffers.write(Holds.ACTIVATION, 0, ones(3), FLOAT)
    with pytest.raises(MemoryViolation, match="6 bytes from 4 on into 8 of b0"):
        buffers.put_bytes(Holds.ACTIVATION, 0, np.zeros(6, np.uint8), 4)
    with pytest.raises(MemoryViolation, match="NaN or infinite values for activation of 0"):
        buffers.write(Holds.ACTIVATION, 0, np.array([1, np.nan], np.float32), FLOAT)


def test_two_buffers_of_one_meaning_are_refused():
    memory_map = made((buffer("b0", 0, 2, 8), 0), (buffer("b1", 0, 2, 8, place=0), 8))
    arena = begun(memory_map)
    arena.begin(0)
    with pytest.raises(MemoryViolation, match="2 live buffers hold activation of 0"):
        arena.find(Holds.ACTIVATION, 0)

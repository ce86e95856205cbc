"""Every single mistake in a memory map: a buffer on a live neighbour, a lifespan one operation too short.

A mutant is **equivalent** when the map still holds. What is wanted follows from the schedule alone: a
buffer's value is wanted from the operation that writes it (``start``) to the last one that reads it
(``reads``), and through a loop of patches to the end where an operation of the loop reads it, since that
operation comes round again. So

- a lifespan that ends early is equivalent where the value is not wanted any more when its last operation
  runs: the bytes are free a moment earlier;
- a moved buffer is equivalent where it shares no byte with another that lives during some operation during
  which it lives itself, which is also what the checker asks.

The outcome of an execution plays no part in this. Everything else has to fail: by a violation (a buffer that
begins on another, a value that is not what was written, a guard byte, a value that nobody holds), or by a
result that differs; and what is equivalent has to leave the same numbers.

``Lenient`` is an arena that lets a buffer begin on a live one, so that the numbers alone have to tell. There
a moved buffer is **harmless** where it shares no byte with another that is wanted while it is wanted itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dse.errors import UserError
from dse.execution.memory import Arena
from dse.execution.step import Executor
from dse.execution.trial.work import captures
from dse.plan.memory_map import MemoryMap
from dse.plan.operations import Holds, Phase
from dse.plan.structure import Patches


@dataclass(frozen=True)
class Mutant:
    name: str
    memory_map: MemoryMap
    equivalent: bool
    harmless: bool


class Lenient(Arena):
    """An arena that does not look whose bytes it poisons."""

    def _require_free(self, beginning, operation):
        """See the module."""


def loops(schedule):
    """First and last operation of what runs patch by patch, before the cut and in an inference."""
    patches = schedule.plan.patches
    if patches == "none":
        return []
    workload = schedule.workload
    edge = workload.units[Patches.parse(patches).unit].cut_layer
    runs = [
        [op.number for op in schedule.operations if op.phase == phase and 0 <= op.layer <= edge]
        for phase in (Phase.FROZEN, Phase.INFERENCE)
    ]
    return [(run[0], run[-1]) for run in runs if run]


def wanted(buffer, schedule):
    """First and last operation during which the value of a buffer is wanted."""
    last = max(buffer.reads, default=buffer.start)
    for first, end in loops(schedule):
        if buffer.start <= first and any(first <= read <= end for read in buffer.reads):
            last = max(last, min(end, buffer.end))
    return buffer.start, last


def lives(buffer):
    return buffer.start, buffer.end


def meet(first, second):
    """Whether two stretches of operations have one in common."""
    return first[0] <= second[1] and second[0] <= first[1]


def share_bytes(first, second):
    return (
        first.level == second.level
        and first.offset < second.offset + second.buffer.size_bytes
        and second.offset < first.offset + first.buffer.size_bytes
    )


def with_entry(memory_map, entry, sizes=None):
    """The map with another entry for one of its buffers."""
    buffers = tuple(
        entry.buffer if buffer.id == entry.buffer.id else buffer for buffer in memory_map.schedule.buffers
    )
    entries = tuple(entry if one.buffer.id == entry.buffer.id else one for one in memory_map.entries)
    return MemoryMap(replace(memory_map.schedule, buffers=buffers), entries, sizes or memory_map.arena_bytes)


def executed(memory_map):
    """Entries of buffers that an execution comes by: at the network input nobody may store a frame."""
    schedule = memory_map.schedule
    if schedule.plan.cut >= 0 or captures(schedule):
        return memory_map.entries
    return [one for one in memory_map.entries if one.buffer.holds != Holds.FRAME or one.buffer.start > 0]


def shortened(memory_map):
    """End every lifespan one operation early; one of a single operation then ends before it begins."""
    for entry in executed(memory_map):
        buffer = entry.buffer
        reads = tuple(read for read in buffer.reads if read < buffer.end)
        shorter = replace(buffer, end=buffer.end - 1, reads=reads or (buffer.start,))
        mutant = with_entry(memory_map, replace(entry, buffer=shorter))
        unread = wanted(buffer, memory_map.schedule)[1] < buffer.end
        yield Mutant(f"{buffer.id} ends early", mutant, unread, unread)


def moved(memory_map, per_buffer=2, seed=0):
    """Put every buffer onto neighbours that live at some moment at which it does, drawn by ``seed``."""
    draw = np.random.default_rng(seed)
    for entry in executed(memory_map):
        buffer = entry.buffer
        others = [
            one for one in executed(memory_map)
            if one.buffer.id != buffer.id and one.offset != entry.offset
            and meet(lives(buffer), lives(one.buffer))
        ]  # fmt: skip
        for index in draw.permutation(len(others))[:per_buffer]:
            target = others[index]
            place = replace(entry, level=target.level, offset=target.offset)
            size = max(memory_map.arena_bytes[place.level], place.offset + buffer.size_bytes)
            mutant = with_entry(memory_map, place, {**memory_map.arena_bytes, place.level: size})
            yield _moved(f"{buffer.id} onto {target.buffer.id}", memory_map, place, mutant)


def nudged(memory_map):
    """Move every buffer by its alignment, down and up: mostly onto a neighbour's first or last bytes."""
    for entry in executed(memory_map):
        for change in (-entry.buffer.alignment, entry.buffer.alignment):
            place = replace(entry, offset=entry.offset + change)
            end = place.offset + entry.buffer.size_bytes
            sizes = {
                **memory_map.arena_bytes, place.level: max(memory_map.arena_bytes[place.level], end)
            }  # fmt: skip
            if place.offset >= 0:
                mutant = with_entry(memory_map, place, sizes)
                yield _moved(f"{entry.buffer.id} by {change}", memory_map, place, mutant)


def _moved(name, memory_map, place, mutant):
    schedule, buffer = memory_map.schedule, place.buffer
    met = [
        one.buffer for one in executed(memory_map) if one.buffer.id != buffer.id and share_bytes(place, one)
    ]
    return Mutant(
        name, mutant,
        not any(meet(lives(buffer), lives(one)) for one in met),
        not any(meet(wanted(buffer, schedule), wanted(one, schedule)) for one in met),
    )  # fmt: skip


def outcome(memory_map, stages, inputs, frame, kind=Arena):
    """Everything that an execution leaves: the mini-batch, then an inference. None where it fails."""
    try:
        executor = Executor(memory_map.schedule, kind(memory_map), stages, inputs)
        if captures(memory_map.schedule):
            executor.capture(frame, 0)
        result = executor.learn()
        return result, executor.infer(frame)
    except UserError:
        return None


def same(first, second):
    """Whether two outcomes are equal bit for bit."""
    if first is None or second is None:
        return first is second
    (one, logits), (other, others) = first, second
    named = [(one.parameters, other.parameters), (one.head, other.head)]
    return (
        one.loss == other.loss
        and np.array_equal(logits, others)
        and all(np.array_equal(mine[key], theirs[key]) for mine, theirs in named for key in mine)
        and all(
            np.array_equal(word, another)
            for key, words in one.state.items()
            for word, another in zip(words, other.state[key], strict=True)
        )
    )

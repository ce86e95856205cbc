"""Every single mistake in a memory map: a buffer on a live neighbour, a lifespan one operation too short.

A mutant is **equivalent** when no value that is still wanted can be lost. What is wanted follows from the
schedule alone: a buffer's value is wanted from the operation that writes it (``start``) to the last one that
reads it (``reads``). So

- a lifespan that ends early is equivalent where its last operation does not read the buffer;
- a moved buffer is equivalent where it shares no byte with another buffer that is wanted during some
  operation during which it is wanted itself.

The outcome of an execution plays no part in this. Everything else has to fail: by a violation (a value that
is not what was written, a guard byte, a value that nobody holds), or by a result that differs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dse.errors import UserError
from dse.execution.memory import Arena
from dse.execution.step import Executor
from dse.execution.trial.work import captures
from dse.plan.memory_map import MemoryMap
from dse.plan.operations import Holds


@dataclass(frozen=True)
class Mutant:
    name: str
    memory_map: MemoryMap
    equivalent: bool


def wanted(buffer):
    """First and last operation during which the value of a buffer is wanted."""
    return buffer.start, max(buffer.reads, default=buffer.start)


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
        name = f"{buffer.id} ends early"
        reads = tuple(read for read in buffer.reads if read < buffer.end)
        shorter = replace(buffer, end=buffer.end - 1, reads=reads or (buffer.start,))
        mutant = with_entry(memory_map, replace(entry, buffer=shorter))
        yield Mutant(name, mutant, buffer.end not in buffer.reads)


def moved(memory_map, per_buffer=2, seed=0):
    """Put every buffer onto neighbours that live at some moment at which it does, drawn by ``seed``."""
    draw = np.random.default_rng(seed)
    for entry in executed(memory_map):
        buffer = entry.buffer
        others = [
            one for one in executed(memory_map)
            if one.buffer.id != buffer.id and one.offset != entry.offset
            and meet((buffer.start, buffer.end), (one.buffer.start, one.buffer.end))
        ]  # fmt: skip
        for index in draw.permutation(len(others))[:per_buffer]:
            target = others[index]
            place = replace(entry, level=target.level, offset=target.offset)
            size = max(memory_map.arena_bytes[place.level], place.offset + buffer.size_bytes)
            mutant = with_entry(memory_map, place, {**memory_map.arena_bytes, place.level: size})
            conflict = any(
                share_bytes(place, one) and meet(wanted(buffer), wanted(one.buffer))
                for one in executed(memory_map)
                if one.buffer.id != buffer.id
            )
            yield Mutant(f"{buffer.id} onto {target.buffer.id}", mutant, not conflict)


def outcome(memory_map, stages, inputs, frame):
    """Everything that an execution leaves: the mini-batch, then an inference. None where it fails."""
    try:
        executor = Executor(memory_map.schedule, Arena(memory_map), stages, inputs)
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

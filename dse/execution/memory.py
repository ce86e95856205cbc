"""Memory of a step: one arena per level where buffers lie as a map plans them, or one array per buffer.

``Arena`` is the real thing. Every byte that belongs to no live buffer holds a guard pattern, which reads as
NaN in fp32. When a lifespan begins, its bytes are set to that pattern before the operation reads anything,
and again when it ends. ``Separate`` gives every buffer memory of its own: what is computed in it cannot
depend on offsets, so that it serves as reference.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from dse.errors import Problem, UserError
from dse.plan.memory_map import MemoryMap, Placed
from dse.plan.operations import Holds, StepBuffer, StepSchedule
from dse.plan.timeline import Content

ByteArray = NDArray[np.uint8]

GUARD: Final = bytes.fromhex("a55ae97f")
"""Little-endian fp32 NaN (0x7fe95aa5), at every address that is a multiple of 4; large as an integer."""


class MemoryViolation(UserError):
    """The map does not carry the step: something lies on something else, or lives too short."""


class Memory(Protocol):
    """Where the buffers of a schedule are."""

    def start(self) -> None:
        """Forget everything, then let what stands throughout begin."""

    def begin(self, operation: int) -> list[StepBuffer]:
        """Let the buffers whose lifespan starts with ``operation`` begin, unless they live; return them."""

    def finish(self, operation: int, stays: Collection[str] = ()) -> None:
        """Check the memory behind ``operation``; let every buffer whose lifespan ends there end.

        Those in ``stays`` live on: a loop that they span goes round again.
        """

    def rest(self) -> None:
        """Let every buffer end that does not stand throughout: what comes next begins anew."""

    def find(self, holds: Holds, place: int) -> StepBuffer | None:
        """Return the live buffer that holds this, None where there is none."""

    def contents(self, buffer: StepBuffer) -> ByteArray:
        """Return the bytes of a live buffer, as a view that may be written."""

    def is_untouched(self, buffer: StepBuffer) -> bool:
        """Whether nothing has written into a live buffer since it began."""


class _Lifespans:
    """Which buffers live."""

    def __init__(self, schedule: StepSchedule) -> None:
        self.schedule = schedule
        self.last = len(schedule.operations) - 1
        self._starts: dict[int, list[StepBuffer]] = defaultdict(list)
        self._ends: dict[int, list[StepBuffer]] = defaultdict(list)
        for buffer in schedule.buffers:
            self._starts[buffer.start].append(buffer)
            self._ends[buffer.end].append(buffer)
        self.live: dict[str, StepBuffer] = {}
        self._by_content: dict[tuple[Holds, int], list[StepBuffer]] = defaultdict(list)

    def clear(self) -> None:
        self.live.clear()
        self._by_content.clear()

    def standing(self) -> Iterator[StepBuffer]:
        return self._begin(buffer for buffer in self._starts[0] if buffer.content == Content.STANDING)

    def beginning(self, operation: int) -> Iterator[StepBuffer]:
        return self._begin(self._starts[operation])

    def _begin(self, buffers: Iterable[StepBuffer]) -> Iterator[StepBuffer]:
        for buffer in buffers:
            if buffer.id not in self.live:
                self.live[buffer.id] = buffer
                self._by_content[buffer.holds, buffer.place].append(buffer)
                yield buffer

    def ending(self, operation: int, stays: Collection[str]) -> Iterator[StepBuffer]:
        for buffer in self._ends[operation]:
            throughout = buffer.content == Content.STANDING and operation == self.last
            if buffer.id in self.live and buffer.id not in stays and not throughout:
                yield self._end(buffer)

    def resting(self) -> list[StepBuffer]:
        moving = [buffer for buffer in self.live.values() if buffer.content != Content.STANDING]
        return [self._end(buffer) for buffer in moving]

    def _end(self, buffer: StepBuffer) -> StepBuffer:
        del self.live[buffer.id]
        self._by_content[buffer.holds, buffer.place].remove(buffer)
        return buffer

    def find(self, holds: Holds, place: int) -> StepBuffer | None:
        found = self._by_content.get((holds, place), [])
        if len(found) > 1:
            names = ", ".join(f"{buffer.id} ({buffer.name})" for buffer in found)
            what = f"{len(found)} live buffers hold {holds.value} of {place}: {names}"
            raise MemoryViolation(Problem("schedule", "buffers", what, "one at a time"))
        return found[0] if found else None


class Separate:
    """Every buffer in memory of its own; see ``Memory``."""

    def __init__(self, schedule: StepSchedule) -> None:
        self._lifespans = _Lifespans(schedule)
        self._contents: dict[str, ByteArray] = {}

    def start(self) -> None:
        """See ``Memory``."""
        self._lifespans.clear()
        self._contents.clear()
        self._new(self._lifespans.standing())

    def begin(self, operation: int) -> list[StepBuffer]:
        """See ``Memory``."""
        return self._new(self._lifespans.beginning(operation))

    def _new(self, buffers: Iterator[StepBuffer]) -> list[StepBuffer]:
        found = list(buffers)
        for buffer in found:
            self._contents[buffer.id] = np.frombuffer(pattern(0, buffer.size_bytes), np.uint8).copy()
        return found

    def finish(self, operation: int, stays: Collection[str] = ()) -> None:
        """See ``Memory``."""
        for buffer in self._lifespans.ending(operation, stays):
            del self._contents[buffer.id]

    def rest(self) -> None:
        """See ``Memory``."""
        for buffer in self._lifespans.resting():
            del self._contents[buffer.id]

    def find(self, holds: Holds, place: int) -> StepBuffer | None:
        """See ``Memory``."""
        return self._lifespans.find(holds, place)

    def contents(self, buffer: StepBuffer) -> ByteArray:
        """See ``Memory``."""
        return self._contents[buffer.id]

    def is_untouched(self, buffer: StepBuffer) -> bool:
        """See ``Memory``."""
        return self._contents[buffer.id].tobytes() == pattern(0, buffer.size_bytes)


class Arena:
    """One ``bytearray`` per level, of the size that ``memory_map`` states; see ``Memory``.

    Raises MemoryViolation where a buffer does not lie inside its level, where one begins on bytes of another
    that is alive, and as soon as a byte outside of all live buffers has changed, naming operation, address
    and the buffers around it.
    """

    def __init__(self, memory_map: MemoryMap) -> None:
        self.memory_map = memory_map
        self._placed = {entry.buffer.id: entry for entry in memory_map.entries}
        self._lifespans = _Lifespans(memory_map.schedule)
        self._require()
        self._guard = {level: pattern(0, size) for level, size in memory_map.arena_bytes.items()}
        self.levels = {level: bytearray(size) for level, size in memory_map.arena_bytes.items()}
        self._views = {level: np.frombuffer(memory, np.uint8) for level, memory in self.levels.items()}
        self._gaps: dict[tuple[int, frozenset[str]], list[tuple[str, int, int]]] = {}

    def _require(self) -> None:
        problems = []
        last = len(self.memory_map.schedule.operations) - 1
        for buffer in self.memory_map.schedule.buffers:
            if not 0 <= buffer.start <= buffer.end <= last:
                found = f"alive from operation {buffer.start} to {buffer.end}"
                problems.append(Problem("schedule", buffer.id, found, f"a lifespan within 0 to {last}"))
            entry = self._placed.get(buffer.id)
            if entry is None:
                problems.append(Problem("memory map", buffer.id, "not placed", "a level and an offset"))
                continue
            size = self.memory_map.arena_bytes.get(entry.level, 0)
            if not 0 <= entry.offset <= size - buffer.size_bytes:
                found = f"bytes {entry.offset} to {entry.offset + buffer.size_bytes} of {entry.level}"
                problems.append(Problem("memory map", buffer.id, found, f"within its {size} bytes"))
        if problems:
            raise MemoryViolation(problems)

    # --- lifespans ---

    def start(self) -> None:
        """See ``Memory``."""
        self._lifespans.clear()
        for level, memory in self.levels.items():
            memory[:] = self._guard[level]
        self._require_free(list(self._lifespans.standing()), 0)  # they hold the guard pattern by now

    def begin(self, operation: int) -> list[StepBuffer]:
        """See ``Memory``."""
        found = list(self._lifespans.beginning(operation))
        self._require_free(found, operation)
        for buffer in found:
            self._poison(buffer)
        return found

    def _require_free(self, beginning: Sequence[StepBuffer], operation: int) -> None:
        """Poison would destroy what another buffer holds, or will hold: whether it is read or not."""
        live = [self._placed[name] for name in self._lifespans.live]
        for entry in (self._placed[buffer.id] for buffer in beginning):
            for other in live:
                if other is not entry and _share_bytes(entry, other):
                    self._overlapping(operation, entry, other)

    def _overlapping(self, operation: int, entry: Placed, other: Placed) -> None:
        name = self.memory_map.schedule.operations[operation].name
        first, last = max(entry.offset, other.offset), min(_end(entry), _end(other))
        found = (
            f"{entry.buffer.id} ({entry.buffer.name}) begins on bytes {first} to {last} of {entry.level}, "
            f"which belong to {other.buffer.id} ({other.buffer.name})"
        )
        raise MemoryViolation(Problem("arena", f"operation {operation} ({name})", found, "bytes of its own"))

    def finish(self, operation: int, stays: Collection[str] = ()) -> None:
        """See ``Memory``."""
        self.check(operation)
        for buffer in self._lifespans.ending(operation, stays):
            self._poison(buffer)

    def rest(self) -> None:
        """See ``Memory``."""
        for buffer in self._lifespans.resting():
            self._poison(buffer)

    def find(self, holds: Holds, place: int) -> StepBuffer | None:
        """See ``Memory``."""
        return self._lifespans.find(holds, place)

    def contents(self, buffer: StepBuffer) -> ByteArray:
        """See ``Memory``."""
        entry = self._placed[buffer.id]
        return self._views[entry.level][entry.offset : entry.offset + buffer.size_bytes]

    def is_untouched(self, buffer: StepBuffer) -> bool:
        """See ``Memory``."""
        entry = self._placed[buffer.id]
        return self._is_guard(entry.level, entry.offset, _end(entry))

    def _is_guard(self, level: str, first: int, last: int) -> bool:
        return self.levels[level][first:last] == self._guard[level][first:last]  # views compare byte by byte

    def _poison(self, buffer: StepBuffer) -> None:
        entry = self._placed[buffer.id]
        end = entry.offset + buffer.size_bytes
        self.levels[entry.level][entry.offset : end] = self._guard[entry.level][entry.offset : end]

    # --- guard bytes ---

    def check(self, operation: int) -> None:
        """Raise MemoryViolation unless every byte outside of live buffers holds the guard pattern."""
        for level, first, last in self._free(operation):
            if not self._is_guard(level, first, last):
                self._violated(operation, level, first, last)

    def _free(self, operation: int) -> list[tuple[str, int, int]]:
        """Stretches of each level that belong to no live buffer."""
        key = operation, frozenset(self._lifespans.live)
        if key not in self._gaps:
            live = [self._placed[name] for name in self._lifespans.live]
            self._gaps[key] = [
                (level, *gap) for level, size in self.memory_map.arena_bytes.items()
                for gap in gaps([entry for entry in live if entry.level == level], size)
            ]  # fmt: skip
        return self._gaps[key]

    def _violated(self, operation: int, level: str, first: int, last: int) -> None:
        expected = np.frombuffer(self._guard[level], np.uint8)[first:last]
        address = first + int(np.flatnonzero(self._views[level][first:last] != expected)[0])
        entries = [self._placed[name] for name in self._lifespans.live]
        around = [entry for entry in entries if entry.level == level]
        before = max((e for e in around if e.offset <= address), key=_end, default=None)
        behind = min((e for e in around if e.offset > address), key=lambda e: e.offset, default=None)
        names = " and ".join(f"{e.buffer.id} ({e.buffer.name})" for e in (before, behind) if e is not None)
        name = self.memory_map.schedule.operations[operation].name
        found = f"byte {address} of {level} changed and belongs to no buffer; beside it {names or 'nothing'}"
        raise MemoryViolation(
            Problem("arena", f"operation {operation} ({name})", found, "written buffers only")
        )


def pattern(address: int, size: int) -> bytes:
    """Return what guard bytes from ``address`` on hold."""
    shift = address % len(GUARD)
    return (GUARD * (size // len(GUARD) + 2))[shift : shift + size]


def gaps(entries: Sequence[Placed], size: int) -> list[tuple[int, int]]:
    """Return the stretches [first, last) of 0 to ``size`` that no entry covers."""
    found, reached = [], 0
    for entry in sorted(entries, key=lambda entry: entry.offset):
        if entry.offset > reached:
            found.append((reached, entry.offset))
        reached = max(reached, _end(entry))
    if reached < size:
        found.append((reached, size))
    return found


def _end(entry: Placed) -> int:
    return entry.offset + entry.buffer.size_bytes


def _share_bytes(one: Placed, other: Placed) -> bool:
    return one.level == other.level and one.offset < _end(other) and other.offset < _end(one)


def numbers(contents: ByteArray, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """View the first bytes of a buffer as numbers. Raises MemoryViolation where the buffer is too small."""
    needed = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if needed > contents.size:
        found = f"{contents.size} bytes for {shape} of {dtype}"
        raise MemoryViolation(Problem("schedule", "size", found, f"at least {needed}"))
    return contents[:needed].view(dtype).reshape(shape)

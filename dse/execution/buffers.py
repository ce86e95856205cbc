"""Numbers in the live buffers of a memory: read as copies, written as a whole or piece by piece.

A check sum goes with every buffer, as if its memory had parity bits: what is read must be what was last
written, and still be there when the operation ends. Nothing is computed from it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from dse.errors import Problem
from dse.execution.layout import Piece
from dse.execution.memory import ByteArray, Memory, MemoryViolation, numbers
from dse.plan.operations import Holds, Operation, StepBuffer
from dse.plan.timeline import Content
from dse.workload import Shape

Array = NDArray[Any]


@dataclass
class Buffers:
    """Reads and writes what buffers hold.

    Raises MemoryViolation where no live buffer holds what is asked for, where one does not hold what was
    written, and for values that are no numbers.
    """

    memory: Memory
    moment: str = ""
    """Name of the operation that runs, for errors."""
    _sums: dict[str, int] = field(default_factory=dict)
    _touched: dict[str, StepBuffer] = field(default_factory=dict)

    # --- operations ---

    def start(self, operation: Operation) -> None:
        """Let ``operation`` begin: its buffers hold nothing yet."""
        self.moment = operation.name
        self._touched.clear()
        for buffer in self.memory.begin(operation.number):
            self._sums.pop(buffer.id, None)

    def end(self, operation: Operation, stays: Collection[str] = ()) -> None:
        """Let ``operation`` end: its operands and results are intact, its workspace untouched by either."""
        for buffer in self._touched.values():
            self._verify(buffer)
        workspace = self.memory.find(Holds.WORKSPACE, operation.layer)
        if workspace is not None and operation.layer >= 0 and not self.memory.is_untouched(workspace):
            raise self._violation(f"workspace {workspace.id} was written by others", "bytes of its own")
        self.memory.finish(operation.number, stays)

    def check_standing(self, buffers: Collection[StepBuffer]) -> None:
        """Raise MemoryViolation unless what stands throughout lives and holds what was written."""
        self.moment = "behind the last operation"
        for buffer in buffers:
            if buffer.content == Content.STANDING:
                self.require(buffer.holds, buffer.place)
                if buffer.id in self._sums:
                    self._verify(buffer)

    def find(self, holds: Holds, place: int) -> StepBuffer | None:
        """Return the live buffer that holds this."""
        return self.memory.find(holds, place)

    def require(self, holds: Holds, place: int) -> StepBuffer:
        """Return the live buffer that holds this; raises MemoryViolation where there is none."""
        found = self.memory.find(holds, place)
        if found is None:
            raise self._violation(
                f"no live buffer holds {holds.value} of {place}", "a buffer that is alive then"
            )
        return found

    # --- bytes ---

    def bytes_of(self, holds: Holds, place: int) -> ByteArray:
        """Return a copy of all bytes of a buffer."""
        return self._intact(self.require(holds, place)).copy()

    def put_bytes(self, holds: Holds, place: int, values: ByteArray, first: int = 0) -> None:
        """Write bytes into a buffer from its byte ``first`` on; the others stay."""
        buffer = self.require(holds, place)
        contents = self._open(buffer, whole=first == 0 and values.size == buffer.size_bytes)
        if first + values.size > contents.size:
            found = f"{values.size} bytes from {first} on into {contents.size} of {buffer.id}"
            raise self._violation(found, "what the buffer holds")
        contents[first : first + values.size] = values
        self._close(buffer)

    # --- numbers ---

    def read(self, holds: Holds, place: int, dtype: np.dtype[Any], shape: Shape) -> Array:
        """Return a copy of the numbers that a buffer starts with."""
        return numbers(self._intact(self.require(holds, place)), dtype, shape).copy()

    def write(self, holds: Holds, place: int, values: Array, dtype: np.dtype[Any]) -> None:
        """Write numbers from the start of a buffer on."""
        self.require_finite(values, f"{holds.value} of {place}")
        buffer = self.require(holds, place)
        numbers(self.memory.contents(buffer), dtype, values.shape)[...] = values
        self._close(buffer)

    def write_section(
        self, holds: Holds, place: int, values: Array, dtype: np.dtype[Any], shape: Shape,
        section: tuple[slice, ...],
    ) -> None:  # fmt: skip
        """Write numbers into a section of what a buffer holds in ``shape``; the others stay."""
        self.require_finite(values, f"{holds.value} of {place}")
        buffer = self.require(holds, place)
        numbers(self._open(buffer, whole=False), dtype, shape)[section] = values
        self._close(buffer)

    # --- pieces ---

    def piece(
        self, holds: Holds, place: int, pieces: Sequence[Piece], key: str, dtype: np.dtype[Any], word: int = 0
    ) -> Array:
        """Return a copy of one of ``pieces``; ``word`` counts repetitions of all of them."""
        first, last, shape = _where(pieces, key, dtype, word)
        part = self._intact(self.require(holds, place))[first:last]
        return numbers(part, dtype, shape).copy()

    def put_piece(
        self, holds: Holds, place: int, pieces: Sequence[Piece], key: str, values: Array,
        dtype: np.dtype[Any], word: int = 0,
    ) -> None:  # fmt: skip
        """Write one of ``pieces``; the others stay."""
        self.require_finite(values, f"{holds.value} of {place}")
        first, last, shape = _where(pieces, key, dtype, word)
        buffer = self.require(holds, place)
        numbers(self._open(buffer, whole=False)[first:last], dtype, shape)[...] = values.reshape(shape)
        self._close(buffer)

    # --- check sums ---

    def _intact(self, buffer: StepBuffer) -> ByteArray:
        """Return the bytes of a buffer that was written, and holds what was."""
        if buffer.id not in self._sums:
            raise self._violation(f"{buffer.id} is read before anything wrote it", "a value")
        return self._verify(buffer)

    def _verify(self, buffer: StepBuffer) -> ByteArray:
        contents = self.memory.contents(buffer)
        if crc32(contents.data) != self._sums[buffer.id]:
            found = f"{buffer.id} ({buffer.name}) was overwritten by something else"
            raise self._violation(found, "what was written into it")
        self._touched[buffer.id] = buffer
        return contents

    def _open(self, buffer: StepBuffer, *, whole: bool) -> ByteArray:
        """Return the bytes of a buffer that will be written, in part unless ``whole``."""
        if whole or buffer.id not in self._sums:
            return self.memory.contents(buffer)
        return self._verify(buffer)

    def _close(self, buffer: StepBuffer) -> None:
        self._sums[buffer.id] = crc32(self.memory.contents(buffer).data)
        self._touched[buffer.id] = buffer

    # --- errors ---

    def require_finite(self, values: Array, where: str = "a packed buffer") -> None:
        """Raise MemoryViolation for values that are no numbers."""
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            allowed = "numbers: an operand was overwritten, or the step diverged"
            raise self._violation(f"NaN or infinite values for {where}", allowed)

    def _violation(self, found: str, allowed: str) -> MemoryViolation:
        return MemoryViolation(Problem("execution", self.moment, found, allowed))


def _where(pieces: Sequence[Piece], key: str, dtype: np.dtype[Any], word: int) -> tuple[int, int, Shape]:
    """First byte, the one behind the last, and shape of a piece."""
    position = [piece.key for piece in pieces].index(key)
    before = word * sum(piece.count for piece in pieces) + sum(piece.count for piece in pieces[:position])
    size = dtype.itemsize
    return before * size, (before + pieces[position].count) * size, pieces[position].shape

"""Operations in the order in which they run, and the tensors between them."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from dse.training.operators import Operation

Step = tuple[Operation, tuple[int, ...], int, tuple[int, ...]]
"""Operation, slots that it reads, slot that it fills, slots that nothing reads afterwards."""


class Program:
    """Runs layers ``first`` and later of a network; every tensor from before ``first`` is what comes in.

    Slot 0 holds what comes in, slot k the output of the k-th operation. Build it layer by layer in order,
    then ``close`` it with the layer whose output is the result.
    """

    def __init__(self, first: int) -> None:
        self.slots = dict.fromkeys(range(-1, first), 0)
        self._steps: list[Step] = []
        self._result = 0

    def add(self, layer: int, operation: Operation, producers: tuple[int, ...]) -> None:
        """Append an operation: the output of ``layer``, reading those of ``producers``."""
        target = len(self._steps) + 1
        self._steps.append((operation, tuple(self.slots[producer] for producer in producers), target, ()))
        self.slots[layer] = target

    def alias(self, layer: int, producer: int) -> None:
        """Let ``layer`` be another name for the output of ``producer``."""
        self.slots[layer] = self.slots[producer]

    def close(self, layer: int) -> None:
        """Say whose output is the result, and when each other tensor is no longer needed."""
        self._result = self.slots[layer]
        last = {slot: number for number, (_, sources, _, _) in enumerate(self._steps) for slot in sources}
        last.pop(self._result, None)
        for number, (operation, sources, target, _) in enumerate(self._steps):
            spent = tuple(slot for slot in set(sources) if last.get(slot) == number)
            self._steps[number] = (operation, sources, target, spent)

    def run(self, x: Tensor) -> Tensor:
        """Return the result for what comes in, letting go of every tensor after its last reader."""
        values: list[Any] = [None] * (len(self._steps) + 1)
        values[0] = x
        for operation, sources, target, spent in self._steps:
            values[target] = operation(*[values[source] for source in sources])
            for slot in spent:
                values[slot] = None
        result: Tensor = values[self._result]
        return result

    def trace(self, x: Tensor) -> list[Tensor]:
        """Return all tensors by slot."""
        values = [x]
        for operation, sources, _, _ in self._steps:
            values.append(operation(*[values[source] for source in sources]))
        return values

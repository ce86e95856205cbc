"""A run as it happens: operations one after the other, each with the objects that it writes or reads."""

from __future__ import annotations


class Trace:
    """Objects are allocated when an operation first uses them and freed behind the last that does."""

    def __init__(self) -> None:
        self.operations: list[object] = []
        self.busy: set[int] = set()
        self.size: dict[object, int] = {}
        self.first: dict[object, int] = {}
        self.last: dict[object, int] = {}

    def begin(self, operation: object) -> None:
        """Start the next operation."""
        self.operations.append(operation)

    def use(self, name: object, size: int | None = None) -> None:
        """The running operation writes or reads ``name``; its size must be told the first time."""
        now = len(self.operations) - 1
        if name not in self.size:
            assert size is not None, f"{name} is read before it is written"
            self.size[name], self.first[name] = size, now
        assert size is None or size == self.size[name], f"{name} changes its size"
        self.last[name] = now
        self.busy.add(now)

    def live(self) -> list[int]:
        """Bytes that are allocated during each operation."""
        held, found = 0, []
        for now in range(len(self.operations)):
            held += sum(size for name, size in self.size.items() if self.first[name] == now)
            found.append(held)
            held -= sum(size for name, size in self.size.items() if self.last[name] == now)
        assert held == 0
        return found

    def alive(self, operation: object) -> dict[object, int]:
        """What is allocated during an operation, for people who look for a difference."""
        now = self.operations.index(operation)
        return {n: s for n, s in self.size.items() if s and self.first[n] <= now <= self.last[n]}

"""A run as it happens: operations one after the other, each with the objects that it writes or reads."""

from __future__ import annotations


class Trace:
    """Objects are allocated when an operation first uses them and freed behind the last that does."""

    def __init__(self) -> None:
        self.operations: list[object] = []
        self.executed: set[object] = set()  # operations that use anything
        self.size: dict[object, int] = {}
        self.first: dict[object, int] = {}
        self.last: dict[object, int] = {}

    def begin(self, operation: object) -> None:
        """Start the next operation."""
        self.operations.append(operation)

    def use(self, name: object, size: int | None = None) -> None:
        """The running operation writes or reads ``name``; its size must be told the first time."""
        if name not in self.size:
            assert size is not None, f"{name} is read before it is written"
            self.size[name], self.first[name] = size, len(self.operations) - 1
        assert size in (None, self.size[name]), f"{name} changes its size"
        self.executed.add(self.operations[-1])
        self.hold(name)

    def hold(self, name: object) -> None:
        """Keep ``name`` through the running operation, which does nothing with it."""
        self.last[name] = len(self.operations) - 1

    def live(self) -> list[int]:
        """Bytes that are allocated during each operation."""
        change = [0] * (len(self.operations) + 1)
        for name, size in self.size.items():
            change[self.first[name]] += size
            change[self.last[name] + 1] -= size
        return [sum(change[: now + 1]) for now in range(len(self.operations))]

    def alive(self, operation: object) -> dict[object, int]:
        """What is allocated during an operation, for people who look for a difference."""
        now = self.operations.index(operation)
        return {n: s for n, s in self.size.items() if s and self.first[n] <= now <= self.last[n]}

"""Where windows lie: time series as images of height 1."""

from __future__ import annotations

from dataclasses import dataclass

from dse.workload import Shape
from dse.workload.windows import Plane


def lifted(shape: Shape) -> Shape:
    """Return a sample's shape as the operations see it: (C, L) becomes (C, 1, L)."""
    return (shape[0], 1, shape[1]) if len(shape) == 2 else shape


def lifted_weight(shape: Shape) -> Shape:
    """Return the shape of weights as the operations see them: (O, I, K) becomes (O, I, 1, K)."""
    return (*shape[:2], 1, shape[2]) if len(shape) == 3 else shape


@dataclass(frozen=True)
class Window(Plane):
    """A sliding window over (height, width)."""

    @property
    def symmetric(self) -> bool:
        """Whether both ends of each axis are padded alike."""
        return self.before == self.after

    @property
    def sides(self) -> tuple[int, int, int, int]:
        """Padding (left, right, top, bottom), as ``torch.nn.functional.pad`` takes it."""
        return (self.before[1], self.after[1], self.before[0], self.after[0])

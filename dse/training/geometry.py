"""Where windows lie: time series as images of height 1, and the zeros that ``"same"`` adds."""

from __future__ import annotations

from dataclasses import dataclass

from dse.workload import Shape
from dse.workload.windows import Sliding, same_padding

Pair = tuple[int, int]


def lifted(shape: Shape) -> Shape:
    """Return a sample's shape as the operations see it: (C, L) becomes (C, 1, L)."""
    return (shape[0], 1, shape[1]) if len(shape) == 2 else shape


def lifted_weight(shape: Shape) -> Shape:
    """Return the shape of weights as the operations see them: (O, I, K) becomes (O, I, 1, K)."""
    return (*shape[:2], 1, shape[2]) if len(shape) == 3 else shape


@dataclass(frozen=True)
class Window:
    """A sliding window over (height, width): sizes, steps, and the padding before and after each axis."""

    kernel: Pair
    stride: Pair
    before: Pair
    after: Pair
    size: Pair  # of the input
    same: bool  # padded as TensorFlow does: what ceil(size / stride) windows need, the odd one at the end

    @classmethod
    def of(cls, layer: Sliding, shape: Shape) -> Window:
        """Return the window of ``layer`` over an input of ``shape``: (C, H, W) or (C, L)."""
        rank = len(shape) - 1
        kernel, stride = _pair(layer.kernel, rank, 1), _pair(layer.stride, rank, 1)
        size = (lifted(shape)[1], lifted(shape)[2])
        if layer.padding != "same":
            pads = _pair(layer.padding, rank, 0)
            return cls(kernel, stride, pads, pads, size, same=False)
        rows, columns = map(same_padding, size, kernel, stride)
        before, after = (rows[0], columns[0]), (rows[1], columns[1])
        return cls(kernel, stride, before, after, size, same=True)

    @property
    def symmetric(self) -> bool:
        """Whether both ends of each axis are padded alike."""
        return self.before == self.after

    @property
    def sides(self) -> tuple[int, int, int, int]:
        """Padding (left, right, top, bottom), as ``torch.nn.functional.pad`` takes it."""
        return (self.before[1], self.after[1], self.before[0], self.after[0])

    @property
    def positions(self) -> Pair:
        """Output positions (height, width)."""
        found = [
            (size + first + last - width) // step + 1
            for size, first, last, width, step in zip(
                self.size, self.before, self.after, self.kernel, self.stride, strict=True
            )
        ]
        return (found[0], found[1])


def _pair(sizes: tuple[int, ...], rank: int, alone: int) -> Pair:
    """Return one size per axis; ``alone`` is the size along the height that a time series lacks."""
    both = sizes * rank if len(sizes) == 1 else sizes
    return (alone, both[0]) if rank == 1 else (both[0], both[1])

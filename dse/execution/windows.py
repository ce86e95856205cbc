"""Sliding windows over (B, C, H, W) as arrays: unfolded into patches, folded back, by any stride and padding.

A time series (B, C, L) stands as an image of height 1, a vector (B, F) as an image of one position; see
``lifted``. Functions work in any type of number.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from dse.workload import Layer, Shape
from dse.workload.windows import Sliding, same_padding

Array = NDArray[Any]
Pair = tuple[int, int]


def lifted(x: Array) -> Array:
    """View (B, C, L) as (B, C, 1, L), (B, F) as (B, F, 1, 1), (B, C, H, W) as it is."""
    if x.ndim == 3:
        return x[:, :, None, :]
    return x if x.ndim == 4 else x[:, :, None, None]


@dataclass(frozen=True)
class Window:
    """A window over (height, width): its size, steps, and the padding before and after each axis."""

    kernel: Pair
    stride: Pair
    before: Pair
    after: Pair
    size: Pair  # of the input
    same: bool  # padded as ``"same"`` does: ceil(size / stride) windows, the odd one at the end

    @classmethod
    def of(cls, layer: Layer, shape: Shape) -> Window:
        """Return the window of ``layer`` over one input of ``shape``; one position where it slides none."""
        size = _pair(shape[1:] or (1,), 1)
        if not isinstance(layer, Sliding):
            return cls((1, 1), (1, 1), (0, 0), (0, 0), size, same=False)
        rank = len(shape) - 1
        kernel, stride = (_pair(_spread(sizes, rank), 1) for sizes in (layer.kernel, layer.stride))
        if layer.padding != "same":
            pads = _pair(_spread(layer.padding, rank), 0)
            return cls(kernel, stride, pads, pads, size, same=False)
        rows, columns = map(same_padding, size, kernel, stride)
        before, after = (rows[0], columns[0]), (rows[1], columns[1])
        return cls(kernel, stride, before, after, size, same=True)

    @property
    def positions(self) -> Pair:
        """Output positions (height, width)."""
        rows, columns = (
            (size + first + last - width) // step + 1
            for size, first, last, width, step in zip(
                self.size, self.before, self.after, self.kernel, self.stride, strict=True
            )
        )
        return rows, columns

    @property
    def elements(self) -> int:
        """Elements of one window."""
        return prod(self.kernel)

    def padded(self, x: Array, value: float = 0.0) -> Array:
        """Return (B, C, H, W) with its padding, filled with ``value``."""
        sides = tuple(zip(self.before, self.after, strict=True))
        return np.pad(x, ((0, 0), (0, 0), *sides), constant_values=x.dtype.type(value))

    def patches(self, x: Array, value: float = 0.0) -> Array:
        """Return the windows over (B, C, H, W), a view (B, C, rows, columns, kh, kw) of the padded input."""
        every = sliding_window_view(self.padded(x, value), self.kernel, axis=(2, 3))
        rows, columns = self.positions
        return every[:, :, :: self.stride[0], :: self.stride[1]][:, :, :rows, :columns]

    def folded(self, patches: Array) -> Array:
        """Add windows (B, C, rows, columns, kh, kw) up at their positions: the adjoint of ``patches``."""
        edges = [
            size + first + last for size, first, last in zip(self.size, self.before, self.after, strict=True)
        ]
        total = np.zeros((*patches.shape[:2], *edges), dtype=patches.dtype)
        rows, columns = self.positions
        for row in range(self.kernel[0]):
            for column in range(self.kernel[1]):
                last = (row + (rows - 1) * self.stride[0] + 1, column + (columns - 1) * self.stride[1] + 1)
                target = total[:, :, row : last[0] : self.stride[0], column : last[1] : self.stride[1]]
                target += patches[..., row, column]
        top, left = self.before
        return total[:, :, top : top + self.size[0], left : left + self.size[1]]

    def counts(self) -> Array:
        """Return by what an average divides, (rows, columns) int64.

        Padding by ``"same"`` does not count (TensorFlow's rule), padding by numbers does (PyTorch's).
        """
        if not self.same:
            return np.full(self.positions, self.elements, dtype=np.int64)
        inside = np.ones((1, 1, *self.size), dtype=np.int64)
        return np.asarray(self.patches(inside).sum((4, 5))[0, 0])


def _spread(sizes: tuple[int, ...], rank: int) -> tuple[int, ...]:
    return sizes * rank if len(sizes) == 1 else sizes


def _pair(sizes: tuple[int, ...], alone: int) -> Pair:
    """Return one size per axis; ``alone`` stands for the height that a time series lacks."""
    return (alone, sizes[0]) if len(sizes) == 1 else (sizes[0], sizes[1])

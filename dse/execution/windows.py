"""Sliding windows over (B, C, H, W) as arrays: unfolded into patches, folded back; any dilation and padding.

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

from dse.workload.windows import Plane

Array = NDArray[Any]


def lifted(x: Array) -> Array:
    """View (B, C, L) as (B, C, 1, L), (B, F) as (B, F, 1, 1), (B, C, H, W) as it is."""
    if x.ndim == 3:
        return x[:, :, None, :]
    return x if x.ndim == 4 else x[:, :, None, None]


@dataclass(frozen=True)
class Window(Plane):
    """A window over (height, width)."""

    @property
    def elements(self) -> int:
        """Taps of one window."""
        return prod(self.kernel)

    def padded(self, x: Array, value: float = 0.0) -> Array:
        """Return (B, C, H, W) with its padding, filled with ``value``."""
        sides = tuple(zip(self.before, self.after, strict=True))
        return np.pad(x, ((0, 0), (0, 0), *sides), constant_values=x.dtype.type(value))

    def patches(self, x: Array, value: float = 0.0) -> Array:
        """Return the windows over (B, C, H, W), a view (B, C, rows, columns, kh, kw) of the padded input."""
        extents = tuple(axis.extent for axis in (self.rows, self.columns))
        every = sliding_window_view(self.padded(x, value), extents, axis=(2, 3))
        rows, columns = self.positions
        stepped = every[:, :, :: self.stride[0], :: self.stride[1]][:, :, :rows, :columns]
        return stepped[..., :: self.dilation[0], :: self.dilation[1]]

    def folded(self, patches: Array) -> Array:
        """Add windows (B, C, rows, columns, kh, kw) up at their positions: the adjoint of ``patches``."""
        edges = (axis.padded for axis in (self.rows, self.columns))
        total = np.zeros((*patches.shape[:2], *edges), dtype=patches.dtype)
        rows, columns = self.positions
        for row in range(self.kernel[0]):
            for column in range(self.kernel[1]):
                top, left = row * self.dilation[0], column * self.dilation[1]
                end = (top + (rows - 1) * self.stride[0] + 1, left + (columns - 1) * self.stride[1] + 1)
                target = total[:, :, top : end[0] : self.stride[0], left : end[1] : self.stride[1]]
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

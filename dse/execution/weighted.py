"""Convolutions of every kind and linear layers: forward, error of the input, gradient of the weights.

All are products of matrices over unfolded windows, group by group; a linear layer is a window of one
position. Functions work in any type of number whose sums do not overflow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dse.execution.windows import Window, lifted
from dse.workload import Layer, Shape
from dse.workload.convolutions import Convolution

Array = NDArray[Any]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Weighted:
    """A layer with weights over inputs of ``shape``; weights are (out, in per group, kernel...)."""

    window: Window
    groups: int
    shape: Shape  # of one input sample
    output: Shape  # of one output sample

    @classmethod
    def of(cls, layer: Layer, shape: Shape) -> Weighted:
        """Describe ``layer`` over an input of ``shape``."""
        groups = layer.geometry(shape)[1] if isinstance(layer, Convolution) else 1
        return cls(Window.of(layer, shape), groups, shape, layer.output_shape(shape))

    @property
    def inside(self) -> int:
        """Input channels of one group."""
        return self.shape[0] // self.groups

    @property
    def outside(self) -> int:
        """Output channels of one group."""
        return self.output[0] // self.groups

    # --- passes ---

    def forward(self, x: Array, weight: Array, bias: Array | None) -> Array:
        """(B, *shape) -> (B, *output)."""
        sums = self._columns(self.window.patches(lifted(x)), self.groups) @ self._matrices(weight)
        found = self._images(sums, len(x), self.window.positions)
        if bias is not None:
            found += bias.reshape(1, -1, 1, 1)
        return found.reshape(len(x), *self.output)

    def error_of_input(self, error: Array, weight: Array) -> Array:
        """(B, *output) -> (B, *shape)."""
        batch = len(error)
        by_window = self._rows(lifted(error), self.groups) @ self._matrices(weight).transpose(0, 2, 1)
        shape = (self.groups, batch, *self.window.positions, self.inside, *self.window.kernel)
        patches = by_window.reshape(shape).transpose(1, 0, 4, 2, 3, 5, 6)
        patches = patches.reshape(batch, self.shape[0], *self.window.positions, *self.window.kernel)
        return np.ascontiguousarray(self.window.folded(patches)).reshape(batch, *self.shape)

    def gradient(self, error: Array, kept: Array, channels: IntArray | None) -> Array:
        """Return the gradient of the weights that read ``channels`` (None: all) of the input.

        ``error`` (B, *output), ``kept`` (B, chosen channels, ...). All: in the shape of the weights. Else
        (chosen channels, output channels per group, kernel elements): see ``chosen``.
        """
        patches = self.window.patches(lifted(kept))
        if channels is not None or self.groups > 1:
            chosen = np.arange(self.shape[0]) if channels is None else channels
            found = self._by_channel(lifted(error), patches, chosen)
        else:
            product = self._rows(lifted(error), 1)[0].T @ self._columns(patches, 1)[0]
            found = product.reshape(self.outside, self.inside, -1).transpose(1, 0, 2)
        return found if channels is not None else self._natural(found)

    def _by_channel(self, error: Array, patches: Array, channels: IntArray) -> Array:
        """Gradient of each chosen channel's weights, (chosen, out per group, kernel elements)."""
        rows = self._rows(error, self.groups)  # (groups, B positions, out per group)
        if self.groups == 1:
            product: Array = self._columns(patches, 1)[0].T @ rows[0]
            return product.reshape(len(channels), -1, self.outside).transpose(0, 2, 1)
        return rows[channels // self.inside].transpose(0, 2, 1) @ self._columns(patches, len(channels))

    # --- weights of chosen input channels ---

    def chosen(self, weight: Array, channels: IntArray) -> Array:
        """Return the weights that read ``channels``: (chosen, output channels per group, kernel elements)."""
        by_group = weight.reshape(self.groups, self.outside, self.inside, -1)
        return by_group[channels // self.inside, :, channels % self.inside]

    def joined(self, learning: Array, frozen: Array, channels: IntArray, shape: Shape) -> Array:
        """Put weights of ``channels``, and those of all others, in order, into the weights' own shape."""
        found = np.empty((self.shape[0], self.outside, self.window.elements), dtype=learning.dtype)
        found[channels] = learning.reshape(len(channels), *found.shape[1:])
        rest = np.setdiff1d(np.arange(self.shape[0]), channels)
        found[rest] = frozen.reshape(len(rest), *found.shape[1:])
        return self._natural(found).reshape(shape)

    def _natural(self, by_channel: Array) -> Array:
        """(all channels, out per group, kernel elements) -> (out, in per group, kernel elements)."""
        parts = by_channel.reshape(self.groups, self.inside, self.outside, -1).transpose(0, 2, 1, 3)
        return np.ascontiguousarray(parts).reshape(self.output[0], self.inside, -1)

    # --- shapes of the products ---

    def _matrices(self, weight: Array) -> Array:
        """Weights as (groups, in per group x kernel elements, out per group)."""
        return weight.reshape(self.groups, self.outside, -1).transpose(0, 2, 1)

    @staticmethod
    def _columns(patches: Array, groups: int) -> Array:
        """(B, C, rows, columns, kh, kw) -> (groups, B positions, C per group x kernel elements)."""
        batch, channels, rows, columns, *kernel = patches.shape
        parts = patches.reshape(batch, groups, channels // groups, rows, columns, *kernel)
        inside = channels // groups * kernel[0] * kernel[1]
        return parts.transpose(1, 0, 3, 4, 2, 5, 6).reshape(groups, batch * rows * columns, inside)

    @staticmethod
    def _rows(x: Array, groups: int) -> Array:
        """(B, C, H, W) -> (groups, B positions, C per group)."""
        batch, channels, height, width = x.shape
        parts = x.reshape(batch, groups, channels // groups, height, width)
        return parts.transpose(1, 0, 3, 4, 2).reshape(groups, batch * height * width, channels // groups)

    @staticmethod
    def _images(rows: Array, batch: int, positions: tuple[int, int]) -> Array:
        """(groups, B positions, C per group) -> (B, C, H, W), contiguous."""
        parts = rows.reshape(len(rows), batch, *positions, -1).transpose(1, 0, 4, 2, 3)
        return np.ascontiguousarray(parts).reshape(batch, -1, *positions)

"""Pooling: averages and maxima over windows, averages over all positions."""

from __future__ import annotations

from math import prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dse.errors import Problem, UserError
from dse.execution.windows import Window, lifted
from dse.workload import Layer, Shape

Array = NDArray[Any]

LARGEST_WINDOW: Final = 256
"""Elements of a window that an index of one byte tells apart."""


def average(layer: Layer, x: Array) -> Array:
    """(B, C, ...) -> (B, C, positions...): the mean of each window; see ``Window.counts``."""
    window = Window.of(layer, x.shape[1:])
    sums = window.patches(lifted(x)).sum((4, 5))
    return _shaped(layer, x.shape, sums / window.counts().astype(x.dtype))


def average_error(layer: Layer, shape: Shape, error: Array) -> Array:
    """Share the error of each average out over its window; ``shape`` (C, ...) of one input."""
    window = Window.of(layer, shape)
    shares = lifted(error) / window.counts().astype(error.dtype)
    spread = np.broadcast_to(shares[..., None, None], (*shares.shape, *window.kernel))
    return np.ascontiguousarray(window.folded(spread)).reshape(len(error), *shape)


def global_average(x: Array) -> Array:
    """(B, C, ...) -> (B, C)."""
    return np.asarray(x.mean(tuple(range(2, x.ndim)), dtype=x.dtype))


def global_average_error(shape: Shape, error: Array) -> Array:
    """(B, C) -> (B, C, ...): an equal share for every position."""
    shares = error / error.dtype.type(prod(shape[1:]))
    return np.broadcast_to(
        shares.reshape(*error.shape, *(1,) * (len(shape) - 1)), (len(error), *shape)
    ).copy()


def largest(layer: Layer, x: Array) -> tuple[Array, Array]:
    """Return the maximum of each window, and the first one's place in it, uint8.

    ``x`` is in floating point, where padding can be less than every value. Raises UserError for a window that
    a byte cannot index.
    """
    window = Window.of(layer, x.shape[1:])
    if window.elements > LARGEST_WINDOW:
        found = f"{window.elements} elements, whose index is saved in one byte"
        allowed = f"{LARGEST_WINDOW} or fewer"
        raise UserError(Problem("network", f"layers.{layer.name}.kernel", found, allowed))
    patches = window.patches(lifted(x), -np.inf)
    flat = patches.reshape(*patches.shape[:4], -1)
    index = flat.argmax(-1)
    values = np.take_along_axis(flat, index[..., None], -1)[..., 0]
    return _shaped(layer, x.shape, values), _shaped(layer, x.shape, index.astype(np.uint8))


def largest_error(layer: Layer, shape: Shape, error: Array, index: Array) -> Array:
    """Give each error to the winner of its window; ``shape`` (C, ...) of one input."""
    window = Window.of(layer, shape)
    wins = lifted(index)[..., None] == np.arange(window.elements)
    patches = (lifted(error)[..., None] * wins).reshape(*lifted(error).shape, *window.kernel)
    return np.ascontiguousarray(window.folded(patches)).reshape(len(error), *shape)


def _shaped(layer: Layer, shape: Shape, found: Array) -> Array:
    """Give (B, C, rows, columns) the shape of the layer's output."""
    return np.ascontiguousarray(found).reshape(shape[0], *layer.output_shape(shape[1:]))

"""Results of integer kernels before they are rounded: in steps of the output's grid, fp64, every sum exact.

Functions take q of their inputs in fp64, not the bytes that memory holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from dse.execution import pooling
from dse.execution.int8.grid import Grid, WideArray, multiplier
from dse.workload import Layer

Operator = Callable[[Layer, Sequence[WideArray], Sequence[Grid], Grid], WideArray]
"""(layer, q of its inputs, their grids, the output's grid) -> what is to be rounded."""


def add(layer: Layer, inputs: Sequence[WideArray], sources: Sequence[Grid], target: Grid) -> WideArray:
    """Add tensors on grids of their own."""
    moved = _moved(inputs, sources, target)
    total = moved[0]
    for other in moved[1:]:
        total = total + other
    return total


def concat(layer: Layer, inputs: Sequence[WideArray], sources: Sequence[Grid], target: Grid) -> WideArray:
    """Lay tensors on grids of their own side by side."""
    return np.concatenate(_moved(inputs, sources, target), axis=1)


def average(layer: Layer, inputs: Sequence[WideArray], sources: Sequence[Grid], target: Grid) -> WideArray:
    """Divide the sum of each window by its count, on the input's own grid."""
    return np.asarray(pooling.average(layer, inputs[0]), dtype=np.float64)


def global_average(
    layer: Layer, inputs: Sequence[WideArray], sources: Sequence[Grid], target: Grid
) -> WideArray:
    """Divide the sum over all positions by their count, on the input's own grid."""
    return np.asarray(pooling.global_average(inputs[0]), dtype=np.float64)


def rectified(layer: Layer, inputs: Sequence[WideArray], sources: Sequence[Grid], target: Grid) -> WideArray:
    """Return the input: what is left to do is the clamp."""
    return inputs[0]


def hard_swish(layer: Layer, inputs: Sequence[WideArray], sources: Sequence[Grid], target: Grid) -> WideArray:
    """Work the function out on real values, as a table of 256 entries would hold it."""
    x = inputs[0] * sources[0].scale
    return np.asarray(x * np.clip(x + 3.0, 0.0, 6.0) / 6.0 / target.scale, dtype=np.float64)


def softmax(layer: Layer, inputs: Sequence[WideArray], sources: Sequence[Grid], target: Grid) -> WideArray:
    """Work class probabilities out on real values."""
    x = inputs[0] * sources[0].scale
    powers = np.exp(x - x.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True) / target.scale, dtype=np.float64)


UNROUNDED: Final[dict[str, Operator]] = {
    "add": add,
    "concat": concat,
    "avg_pool": average,
    "global_avg_pool": global_average,
    "relu": rectified,
    "relu6": rectified,
    "hard_swish": hard_swish,
    "softmax": softmax,
}
"""Layer kind -> how its result is worked out; layers with weights are ``forward.weighted``."""


def _moved(inputs: Sequence[WideArray], sources: Sequence[Grid], target: Grid) -> list[WideArray]:
    """Bring tensors to the output's grid, each by a fixed-point factor."""
    factors = [float(multiplier(grid.scale / target.scale)) for grid in sources]
    return [q * factor for q, factor in zip(inputs, factors, strict=True)]

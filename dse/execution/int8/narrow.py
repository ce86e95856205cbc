"""Errors and gradients in int8: whole numbers in [-127, 127], and scales that stand outside the memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dse.execution.int8.grid import WEIGHT_LIMIT, FloatArray, WideArray, nearest

Array = NDArray[Any]
IntArray = NDArray[np.int64]


class NarrowErrors:
    """One scale per tensor and micro-batch, by the place of the tensor's buffer: largest magnitude / 127."""

    def __init__(self) -> None:
        self._scales: dict[int, np.float32] = {}

    def clear(self) -> None:
        """Begin another micro-batch."""
        self._scales.clear()

    def read(self, root: int, held: Array) -> WideArray:
        """Return held whole numbers as real values in fp64, where multiples of an fp32 scale are exact."""
        return held.astype(np.float64) * np.float64(self._scales[root])

    def written(self, root: int, held: Array | None, added: Array) -> NDArray[np.int8]:
        """Return the whole numbers of ``added``, and of what was ``held``; halves are rounded upwards.

        Real values that are multiples of the scale already keep it: a mask that follows rounds nothing.
        """
        if held is not None:
            added = added + self.read(root, held)
        elif root in self._scales:
            whole = added / np.float64(self._scales[root])
            if np.array_equal(whole, np.rint(whole)) and np.abs(whole).max(initial=0) <= WEIGHT_LIMIT:
                return whole.astype(np.int8)
        values = added.astype(np.float32)
        scale = np.float32(_scales_of(np.abs(values).max(initial=0)))
        self._scales[root] = scale
        return nearest(values / scale).astype(np.int8)


class NarrowGradients:
    """One scale per group of a gradient, by the gradient's key: largest magnitude / 127 of the group."""

    def __init__(self) -> None:
        self._scales: dict[str, FloatArray] = {}

    def values(self, key: str, held: Array, groups: IntArray) -> FloatArray:
        """Return held whole numbers as real values; ``groups``, in their shape, numbers the groups."""
        return held.astype(np.float32) * self._scales[key][groups]

    def accumulated(
        self, key: str, held: Array | None, gradient: FloatArray, groups: IntArray
    ) -> NDArray[np.int8]:
        """Return the whole numbers of ``gradient``, added to the real value of what was ``held``."""
        total = gradient if held is None else self.values(key, held, groups) + gradient
        most = np.zeros(int(groups.max(initial=-1)) + 1, dtype=np.float32)
        np.maximum.at(most, groups.ravel(), np.abs(total).ravel())
        self._scales[key] = scales = _scales_of(most)
        return nearest(total / scales[groups]).astype(np.int8)


def _scales_of(most: FloatArray | np.float32) -> FloatArray:
    """Return largest magnitudes / 127, and 1 for zeros."""
    return np.where(most > 0, most / np.float32(WEIGHT_LIMIT), np.float32(1))

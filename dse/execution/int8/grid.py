"""Grids of 8-bit tensors, and the roundings of integer kernels.

A value is ``scale x q`` with q in [low, high], 256 neighbouring integers that include 0; memory holds q - low
in one byte. Scheme: Jacob et al., CVPR 2018, arXiv 1712.05877, Sec. 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
WideArray = NDArray[np.float64]
ByteArray = NDArray[np.uint8]

LEVELS: Final = 255
WEIGHT_LIMIT: Final = 127
BIAS_LIMIT: Final = 2**28
"""Largest bias in steps of the sums: leaves room for the sums themselves in int32."""


@dataclass(frozen=True)
class Grid:
    """256 steps of ``scale`` from ``low`` to ``high``."""

    scale: float
    low: int
    high: int

    @classmethod
    def over(cls, least: float, most: float) -> Grid:
        """Return the grid that spans [least, most] and 0, with 0 on it; ``scale`` is an fp32 number."""
        least, most = min(least, 0.0), max(most, 0.0)
        scale = float(np.float32((most - least) / LEVELS)) or 1.0
        low = -min(LEVELS, round(-least / scale))
        return cls(scale, low, low + LEVELS)

    def bytes_of(self, values: NDArray[Any]) -> ByteArray:
        """Return real values as bytes: the nearest q, halves upwards."""
        q = nearest(values.astype(np.float64) / self.scale)
        return self.coded(np.clip(q, self.low, self.high))

    def coded(self, q: NDArray[Any]) -> ByteArray:
        """Return q, all of them on the grid, as bytes."""
        return (q - self.low).astype(np.uint8)

    def q(self, held: ByteArray) -> WideArray:
        """Return the q of bytes, in fp64."""
        return np.add(held, self.low, dtype=np.float64)

    def values(self, held: ByteArray) -> FloatArray:
        """Return the real values of bytes: scale x q, in fp32."""
        return self.q(held).astype(np.float32) * np.float32(self.scale)

    def limits(self, rectifier: str) -> tuple[int, int]:
        """Least and largest q behind a rectifier, ``relu`` or ``relu6`` ("" is none)."""
        low = max(self.low, 0) if rectifier else self.low
        high = self.high
        if rectifier == "relu6":
            high = min(high, int(np.floor(6 / self.scale + 0.5)))
        return low, high


def nearest(x: NDArray[Any]) -> NDArray[Any]:
    """Round to the nearest whole numbers, halves upwards, in the type of ``x``."""
    return np.asarray(np.floor(x + x.dtype.type(0.5)))


def multiplier(ratio: WideArray | float) -> WideArray:
    """Return a ratio of scales with a mantissa of 24 bits: its product with a sum is then exact in fp64.

    A device multiplies by the mantissa and shifts; ``nearest`` of the product is the same number.
    """
    return np.asarray(ratio, dtype=np.float32).astype(np.float64)


def clamped(found: WideArray, limits: tuple[int, int]) -> tuple[WideArray, NDArray[np.bool_]]:
    """Round to whole numbers within ``limits``; returns them, and where nothing was cut."""
    whole = nearest(found)
    result = np.clip(whole, *limits)
    return result, result == whole

"""Numbers of less than a byte: bits of masks, and samples at replay bits.

A stored value of Q bits takes the bits i Q to i Q + Q - 1 of its row, the least significant bit of the first
byte being bit 0; 16 bits are little-endian integers, 32 bits the float32 values themselves. That is the
layout of the replay buffer in training.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Final

import numpy as np
from numpy.typing import NDArray

ByteArray = NDArray[np.uint8]
FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]
LevelArray = NDArray[np.uint16]

EXACT_BITS: Final = 32
FLOOR_SLACK: Final = np.float32(2.0**-22)
"""Relative distance below a level that still counts as that level when rounding down, as in training."""


def mask_packed(mask: BoolArray) -> ByteArray:
    """Return a mask of any shape as bits, (ceil(n / 8),)."""
    return np.packbits(mask.reshape(-1))


def mask_unpacked(packed: ByteArray, shape: tuple[int, ...]) -> BoolArray:
    """Return the mask of ``shape`` that ``mask_packed`` packed."""
    return np.unpackbits(packed, count=prod(shape)).astype(bool).reshape(shape)


def row_bytes(elements: int, bits: int) -> int:
    """Return the bytes of ``elements`` values at ``bits``: ceil(elements x bits / 8)."""
    return -(-elements * bits // 8)


def joined(levels: LevelArray, bits: int) -> ByteArray:
    """Put levels (n,) below 2^bits into bytes, (ceil(n bits / 8),)."""
    if bits == 16:
        return levels.astype("<u2").view(np.uint8)
    if bits == 8:
        return levels.astype(np.uint8)
    split = np.unpackbits(levels.astype(np.uint8)[:, None], axis=1, bitorder="little")[:, :bits]
    return np.packbits(split.reshape(-1), bitorder="little")


def parted(data: ByteArray, elements: int, bits: int) -> LevelArray:
    """Return the levels (n,) of ``elements`` that ``joined`` put into bytes."""
    if bits == 16:
        return data[: 2 * elements].view("<u2").astype(np.uint16)
    if bits == 8:
        return data[:elements].astype(np.uint16)
    split = np.unpackbits(data, count=elements * bits, bitorder="little").reshape(elements, bits)
    return np.packbits(split, axis=1, bitorder="little")[:, 0].astype(np.uint16)


@dataclass(frozen=True)
class Levels:
    """The grid of stored samples: value = ``offset`` + ``scale`` x level.

    Unsigned levels run from 0 to 2^bits - 1, signed ones from -(2^(bits - 1) - 1) to 2^(bits - 1) - 1; a
    single signed bit is the sign. ``rounding`` is ``nearest`` (ties the even one) or ``floor``. 32 bits hold
    the value as it is.
    """

    bits: int = EXACT_BITS
    scale: float = 1.0
    signed: bool = False
    rounding: str = "nearest"
    offset: float = 0.0

    @property
    def lowest(self) -> int:
        """The level that is stored as 0."""
        return -(2 ** (self.bits - 1) - 1) if self.signed and self.bits > 1 else 0

    def encoded(self, values: FloatArray) -> ByteArray:
        """Return values of any shape as bytes, (ceil(n bits / 8),)."""
        flat = np.ascontiguousarray(values, dtype=np.float32).reshape(-1)
        if self.bits == EXACT_BITS:
            return flat.view(np.uint8).copy()
        if self.signed and self.bits == 1:
            return joined((flat >= 0).astype(np.uint16), 1)
        steps = (flat - np.float32(self.offset)) / np.float32(self.scale)
        steps = np.clip(steps, self.lowest, 2 ** (self.bits - self.signed) - 1)
        floor = self.rounding == "floor"
        steps = np.floor(steps + np.abs(steps) * FLOOR_SLACK) if floor else np.rint(steps)
        return joined((steps - np.float32(self.lowest)).astype(np.uint16), self.bits)

    def decoded(self, data: ByteArray, shape: tuple[int, ...]) -> FloatArray:
        """Return the values of ``shape`` that bytes stand for."""
        count = prod(shape)
        if self.bits == EXACT_BITS:
            return data[: 4 * count].copy().view(np.float32).reshape(shape)
        levels = parted(data, count, self.bits).astype(np.float32)
        steps = 2 * levels - 1 if self.signed and self.bits == 1 else levels + np.float32(self.lowest)
        return (steps * np.float32(self.scale) + np.float32(self.offset)).reshape(shape)

"""Saved activations at 8, 4 or 2 bits: the grid of one saved tensor, and the bytes that it takes.

A value is scale x (q - zero), with whole q from 0 to 2^bits - 1 and 0 among the values. The grid spans the
tensor's own range, widened to include 0, so that a tensor of both signs loses no level to the sign. Scale and
zero share the 4 bytes that a plan counts for each saved tensor and micro-batch: a float32 whose 8 lowest bits
of mantissa hold the zero point (the scale keeps 16 significant bits and is rounded upwards, so that the range
fits). Uniform affine quantisation as in arXiv 1712.05877, Sec. 2.1; nearest level, ties the even one.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

ByteArray = NDArray[np.uint8]
WordArray = NDArray[np.uint32]
FloatArray = NDArray[np.floating[Any]]

WORD_BYTES: Final = 4
"""Bytes of scale and zero point, for each saved tensor and micro-batch."""

ZERO_BITS: Final = 0xFF
SMALLEST: Final = np.float32(2.0**-126)
"""Scale of a tensor that is zero throughout, and the least of any."""


def saved_bytes(elements: int, bits: int) -> int:
    """Return the bytes of one saved tensor of a micro-batch of ``elements`` in all: ceil(n bits / 8) + 4."""
    return -(-elements * bits // 8) + WORD_BYTES


def grids(rows: FloatArray, bits: int) -> WordArray:
    """Return the word, scale and zero point, of the grid that spans each row (G, n) and 0, (G,).

    A row that is not finite gets a scale that is not a number: what is read back then is none either.
    """
    least = np.minimum(rows.min(axis=1), 0).astype(np.float32)
    most = np.maximum(rows.max(axis=1), 0).astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        scale = np.maximum((most - least) / np.float32(2**bits - 1), SMALLEST)
        scale = np.where(np.isfinite(scale), scale, np.float32(np.nan))
        raised = (scale.view(np.uint32) + np.uint32(ZERO_BITS)) & np.uint32(~ZERO_BITS & 0xFFFFFFFF)
        zero = np.nan_to_num(np.rint(-least / raised.view(np.float32)))
    return np.asarray(raised | zero.astype(np.uint32), dtype=np.uint32)


def scale_and_zero(words: WordArray) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return scales and zero points of words (G,), as columns (G, 1)."""
    scale = (words & np.uint32(~ZERO_BITS & 0xFFFFFFFF)).view(np.float32)
    zero = (words & np.uint32(ZERO_BITS)).astype(np.float32)
    return scale[:, None], zero[:, None]


def packed(rows: FloatArray, bits: int) -> tuple[ByteArray, WordArray]:
    """Return rows (G, n) as bytes (G, ceil(n bits / 8)), and the word of each, (G,).

    Element i takes the bits i ``bits`` to i ``bits`` + ``bits`` - 1 of its row, the least significant bit of
    the first byte being bit 0.
    """
    words = grids(rows, bits)
    scale, zero = scale_and_zero(words)
    levels = rows / scale
    np.rint(levels, out=levels)
    levels += zero
    np.clip(levels, 0, 2**bits - 1, out=levels)
    np.nan_to_num(levels, copy=False)
    return _joined(levels.astype(np.uint8), bits), words


def widened(data: ByteArray, words: WordArray, elements: int, bits: int, dtype: Any = np.float32) -> Any:
    """Return the values (G, n), in ``dtype``, that ``packed`` bytes of n ``elements`` a row stand for."""
    scale, zero = scale_and_zero(words)
    values = _parted(data, bits)[:, :elements].astype(dtype)
    values -= zero
    values *= scale
    return values


def _joined(levels: ByteArray, bits: int) -> ByteArray:
    """Put levels (G, n), one per byte, into bytes that several share."""
    lanes = 8 // bits
    if lanes == 1:
        return levels
    padded = np.pad(levels, ((0, 0), (0, -levels.shape[1] % lanes)))
    joined = padded[:, ::lanes].copy()
    for lane in range(1, lanes):
        joined |= padded[:, lane::lanes] << np.uint8(lane * bits)
    return joined


def _parted(data: ByteArray, bits: int) -> ByteArray:
    """Return levels, one per byte, of bytes that several share; up to 8 / ``bits`` - 1 too many."""
    lanes = 8 // bits
    if lanes == 1:
        return data
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    return np.asarray(data[:, :, None] >> shifts & np.uint8(2**bits - 1)).reshape(len(data), -1)

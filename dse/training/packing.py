"""Samples at Q bits: what a replay buffer really stores.

A sample of E elements is one row of ceil(E Q / 8) bytes. Element i takes the bits i Q to i Q + Q - 1 of the
row, the least significant bit of the first byte being bit 0; 16 bits are little-endian integers, 32 bits are
the float32 values themselves. One float32 scale serves the whole tensor (arXiv 2110.10486, Sec. III).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from dse.errors import Problem, UserError
from dse.plan.decisions import ROUNDINGS
from dse.vocabulary import REPLAY_BITS

FloatArray = NDArray[np.float32]
ByteArray = NDArray[np.uint8]

EXACT_BITS: Final = 32
LANES: Final = 8
"""Elements that share one 64-bit word while they are packed; their Q bits fill Q whole bytes."""
CHUNK_ELEMENTS: Final = 1 << 16
"""Elements converted at a time, so that what is converted stays in the processor's cache."""
FLOOR_SLACK: Final = np.float32(2.0**-22)
"""Relative distance below a level that still counts as that level when rounding down: a stored value that is
read, multiplied by its scale and stored again has been rounded twice in float32 and must not lose a level."""


def row_bytes(elements: int, bits: int) -> int:
    """Return the bytes of one stored sample of ``elements`` at ``bits``: ceil(elements x bits / 8)."""
    return -(-elements * bits // 8)


@dataclass(frozen=True)
class Quantiser:
    """Turns float32 samples of ``elements`` into bytes at ``bits`` per element, and back.

    Unsigned: q = clip(round(x / scale), 0, 2^bits - 1). Signed: q = clip(round(x / scale), -m, m) with
    m = 2^(bits - 1) - 1; a single signed bit is the sign. Value = q scale (+ ``offset``, for captured frames
    whose normalisation belongs to the network). 32 bits store x as it is.

    ``rounding`` "nearest" takes the nearest level, ties the even one; "floor" rounds towards minus infinity,
    as an arithmetic shift does. ``scale`` is held as float32. Raises UserError for bits, a rounding or a
    scale that do not exist.
    """

    bits: int
    rounding: str
    scale: float
    signed: bool
    elements: int
    offset: float = 0.0

    def __post_init__(self) -> None:
        problems = []
        if self.bits not in REPLAY_BITS:
            allowed = f"one of {', '.join(map(str, REPLAY_BITS))}"
            problems.append(Problem("replay", "replay_bits", repr(self.bits), allowed))
        if self.rounding not in ROUNDINGS:
            problems.append(Problem("replay", "rounding", repr(self.rounding), " or ".join(ROUNDINGS)))
        held = np.float32(self.scale)
        if not (np.isfinite(held) and held > 0):
            problems.append(Problem("replay", "scale", repr(self.scale), "a positive number"))
        if self.elements < 1:
            problems.append(Problem("replay", "elements", repr(self.elements), "at least one per sample"))
        if problems:
            raise UserError(problems)
        object.__setattr__(self, "scale", float(held))

    @classmethod
    def calibrated(cls, bits: int, rounding: str, x: FloatArray, signed: bool) -> Self:
        """Return the quantiser whose range just holds the calibration samples ``x`` (n, E).

        Scale: max(x) / (2^bits - 1); signed max|x| / (2^(bits - 1) - 1), and for a single signed bit mean|x|,
        which leaves the least squared error (Rastegari et al., arXiv 1603.05279, Sec. 3.1). Samples that are
        all zero get the scale 1. Raises UserError for NaN or infinite values and where there is no sample.
        """
        if x.ndim != 2 or not x.size:
            found = f"calibration samples of shape {x.shape}"
            raise UserError(Problem("replay", "calibration", found, "samples of shape (n, elements), n >= 1"))
        _require_finite(x)
        magnitude = np.abs(x) if signed else x
        if signed and bits == 1:
            scale = float(magnitude.mean(dtype=np.float64))
        else:
            scale = float(magnitude.max()) / (2 ** (bits - signed) - 1)
        smallest = float(np.finfo(np.float32).tiny)
        return cls(bits, rounding, max(scale, smallest) if scale > 0 else 1.0, signed, x.shape[1])

    @classmethod
    def of_frames(cls, elements: int, scale: float = 1.0, offset: float = 0.0) -> Self:
        """Return the quantiser that stores 8-bit frames exactly as captured.

        ``scale`` and ``offset`` turn a stored byte into a network input: x = offset + scale byte.
        """
        return cls(8, "nearest", scale, False, elements, offset)

    @property
    def row_bytes(self) -> int:
        """Bytes of one stored sample: ceil(elements x bits / 8)."""
        return row_bytes(self.elements, self.bits)

    @property
    def lowest(self) -> int:
        """The level that is stored as 0."""
        return -(2 ** (self.bits - 1) - 1) if self.signed and self.bits > 1 else 0

    def encode(self, x: FloatArray) -> ByteArray:
        """Return samples ``x`` (n, E) as bytes (n, ceil(E bits / 8)). Raises UserError for NaN, infinity."""
        x = self._checked(x)
        if self.bits == EXACT_BITS:
            return np.ascontiguousarray(x, dtype="<f4").view(np.uint8)
        rows = np.empty((len(x), self.row_bytes), dtype=np.uint8)
        for part in _chunks(len(x), self.elements):
            rows[part] = _pack(self._levels(x[part]), self.bits)
        return rows

    def decode(self, rows: ByteArray) -> FloatArray:
        """Return the values (n, E) [float32] that bytes ``rows`` (n, ceil(E bits / 8)) stand for."""
        if rows.ndim != 2 or rows.shape[1] != self.row_bytes:
            raise UserError(
                Problem("replay", "rows", f"shape {rows.shape}", f"rows of {self.row_bytes} bytes")
            )
        if self.bits == EXACT_BITS:
            return np.ascontiguousarray(rows).view("<f4").astype(np.float32)
        x = np.empty((len(rows), self.elements), dtype=np.float32)
        for part in _chunks(len(rows), self.elements):
            self._values(_unpack(rows[part], self.bits, self.elements), x[part])
        return x

    def quantised(self, x: FloatArray) -> FloatArray:
        """Return ``decode(encode(x))`` (n, E): what of ``x`` survives storage."""
        x = self._checked(x)
        if self.bits == EXACT_BITS:
            return x.copy()
        kept = np.empty_like(x)
        for part in _chunks(len(x), self.elements):
            self._values(self._levels(x[part]), kept[part])
        return kept

    def _checked(self, x: FloatArray) -> FloatArray:
        if x.ndim != 2 or x.shape[1] != self.elements:
            found = f"samples of shape {x.shape}"
            raise UserError(Problem("replay", "samples", found, f"shape (n, {self.elements})"))
        x = np.asarray(x, dtype=np.float32)
        _require_finite(x)
        return x

    def _levels(self, x: FloatArray) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """Return levels counted from ``lowest``, one per element."""
        if self.signed and self.bits == 1:
            return (x >= 0).astype(np.uint8)
        with np.errstate(over="ignore"):  # what overflows lies beyond every level all the same
            steps = (x - np.float32(self.offset)) / np.float32(self.scale)
        np.clip(steps, self.lowest, 2 ** (self.bits - self.signed) - 1, out=steps)
        if self.rounding == "floor":
            steps += np.abs(steps) * FLOOR_SLACK
            np.floor(steps, out=steps)
        else:
            np.rint(steps, out=steps)
        steps -= np.float32(self.lowest)
        return steps.astype(np.uint16) if self.bits == 16 else steps.astype(np.uint8)

    def _values(self, levels: NDArray[np.uint8] | NDArray[np.uint16], out: FloatArray) -> None:
        if self.signed and self.bits == 1:
            np.multiply(levels, np.float32(2.0), out=out)
            out -= np.float32(1.0)
        else:
            np.add(levels, np.float32(self.lowest), out=out, casting="unsafe")
        out *= np.float32(self.scale)
        out += np.float32(self.offset)


def _require_finite(x: FloatArray) -> None:
    if not np.isfinite(x).all():
        fix = "if the network diverged, lower the rate it was trained with; else look for NaN in the data"
        raise UserError(Problem("replay", "samples", "NaN or infinite values", fix))


def _chunks(samples: int, elements: int) -> list[slice]:
    step = max(1, CHUNK_ELEMENTS // elements)
    return [slice(first, first + step) for first in range(0, samples, step)]


def _pack(levels: NDArray[np.uint8] | NDArray[np.uint16], bits: int) -> ByteArray:
    """Put levels (n, E) into rows of bytes.

    Eight levels, one per byte of a 64-bit word, move together: neighbours join to fields of 2 Q bits, these
    to fields of 4 Q and of 8 Q bits. Three shifts serve eight elements, whatever Q is.
    """
    if bits >= 8:
        return np.ascontiguousarray(levels, dtype="<u2" if bits == 16 else np.uint8).view(np.uint8)
    count, elements = levels.shape
    words = -(-elements // LANES)
    padded = np.zeros((count, words * LANES), dtype=np.uint8)
    padded[:, :elements] = levels
    lanes = padded.view("<u8")
    for low, high, shift in _fields(bits):
        lanes = (lanes & low) | ((lanes >> shift) & high)
    packed = lanes.astype("<u8").view(np.uint8).reshape(count, words, LANES)[:, :, :bits]
    return packed.reshape(count, words * bits)[:, : row_bytes(elements, bits)]


def _unpack(rows: ByteArray, bits: int, elements: int) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Return the levels (n, E) that ``_pack`` put into ``rows``: the same shifts, backwards."""
    if bits >= 8:
        return np.ascontiguousarray(rows).view("<u2") if bits == 16 else rows
    count, words = len(rows), -(-elements // LANES)
    whole = np.zeros((count, words * bits), dtype=np.uint8)
    whole[:, : rows.shape[1]] = rows
    padded = np.zeros((count, words, LANES), dtype=np.uint8)
    padded[:, :, :bits] = whole.reshape(count, words, bits)
    lanes = padded.reshape(count, words * LANES).view("<u8")
    for low, high, shift in reversed(_fields(bits)):
        lanes = (lanes & low) | ((lanes & high) << shift)
    return lanes.astype("<u8").view(np.uint8)[:, :elements]


def _fields(bits: int) -> list[tuple[np.uint64, np.uint64, np.uint64]]:
    """Per step: masks of the lower and of the upper half of a field once joined, and the upper's shift."""
    steps = []
    for width in (8, 16, 32):
        filled = bits * width // 8
        repeat = sum(1 << start for start in range(0, 64, 2 * width))
        low = ((1 << filled) - 1) * repeat
        steps.append((np.uint64(low), np.uint64(low << filled), np.uint64(width - filled)))
    return steps

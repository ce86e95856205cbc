"""The published CORe50 accuracies as one table over widths, cuts and buffer sizes, with half-widths.

Data: arXiv 2110.10486, Table II (N = 1500, five cuts, five pairs of frozen and replay bits, mean and
standard deviation of 5 runs) and Fig. 6 (10 digitised points at N = 3000 and N = 750, frozen stage at 8
bits). In percentage points, for a pair w = (frozen bits, replay bits) and LR layer c:

    accuracy(w, c, N) = level(w, c) + effect(w, c, N)

``level`` is the row of Table II. ``effect`` is what N = 750 or 3000 adds to it: read at the cuts that have
both rows, linear in c between two such cuts, held beyond the last of them, and taken from the (8, 8) or
(8, 7) rows for pairs that have N = 1500 only. Between two N it is linear in log2 N. At every data row the
result is the row.

The half-width is that of a 90 % interval for one run. It adds in squares 1.645 standard deviations (Fig. 6
has none: that of Table II at the same cut and widths), the digitisation uncertainty, and 1.645 times what
leaving rows out says of each kind of estimate (``leave_one_out``, root mean squares in points):

    between N     4.1 over two octaves (the 4 rows at N = 1500 with both neighbours); the error of a straight
                  line falls with the square of the gap, so a quarter of it in the middle of one octave
    across cuts   2.7 (the 2 rows of Fig. 6 that lie between two others, from those)
    held cut      2.3 (the 8 rows of Fig. 6 at the end of a line, from their neighbour)
    other widths  2.4 (the 10 rows of Fig. 6, from the row of the other replay width)

Of the 24 estimates, 23 lie within 1.645 times the root mean square of their kind.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dse.accuracy.base import EXTRAPOLATED, INTERPOLATED, PUBLISHED, FloatArray
from dse.reference import load_table

CUTS: Final = (19, 21, 23, 25, 27)
SIZES: Final = (375, 750, 1500, 3000)
MEASURED_SIZES: Final = SIZES[1:]
TABLE_SIZE: Final = 1500
WIDTHS: Final = ((32, 32), (32, 16), (32, 8), (8, 8), (32, 7), (8, 7), (32, 6), (8, 6))
"""(frozen bits, replay bits) that the table answers for."""

Z90: Final = 1.645  # normal quantile of a two-sided 90 % interval

Key = tuple[int, int, int, int]  # cut, N, frozen bits, replay bits
Points = dict[Key, float]


class Observation(NamedTuple):
    """One published row [percent]; ``std`` is NaN where the figure has none."""

    accuracy: float
    std: float
    uncertainty: float


class Errors(NamedTuple):
    """Root mean squares of the leave-one-out errors [points] by kind of estimate."""

    between_sizes: float
    across_cuts: float
    held_cut: float
    other_widths: float


@dataclass(frozen=True)
class Core50Table:
    """Accuracy and half-width [percent] over (width, cut, size): axes ``WIDTHS``, ``CUTS``, ``SIZES``."""

    value: FloatArray
    half: FloatArray
    status: NDArray[np.int8]
    errors: Errors


@cache
def observations() -> dict[Key, Observation]:
    """Return the rows of the study by (cut, N, frozen bits, replay bits)."""
    rows = load_table("qlrcl_accuracy")
    return {
        (int(row["lr_layer"]), int(row["n_lr"]), int(row["frozen_bits"]), int(row["lr_bits"])): Observation(
            float(row["accuracy_pct"]),
            float(row["std_pct"] or "nan"),
            float(row["uncertainty_pct"] or 0),
        )
        for row in rows
        if row["source"].startswith("arXiv:2110.10486")
    }


def level(points: Points, frozen: int, bits: int, cut: int) -> float:
    """Return the accuracy at N = 1500 [percent]; linear between cuts, NaN outside those that have a row."""
    cuts = [c for c in CUTS if (c, TABLE_SIZE, frozen, bits) in points]
    values = [points[c, TABLE_SIZE, frozen, bits] for c in cuts]
    return float(np.interp(cut, cuts, values, left=np.nan, right=np.nan))


def effect(points: Points, frozen: int, bits: int, cut: int, size: int) -> tuple[float, list[int]]:
    """Return what ``size`` adds to N = 1500 [points] and the cuts that were read for it."""
    cuts = [c for c in CUTS if (c, size, frozen, bits) in points and (c, TABLE_SIZE, frozen, bits) in points]
    if not cuts:
        return float("nan"), []
    steps = [points[c, size, frozen, bits] - points[c, TABLE_SIZE, frozen, bits] for c in cuts]
    return float(np.interp(cut, cuts, steps)), cuts


@cache
def leave_one_out() -> Errors:
    """Leave out each row that another kind of estimate can replace, and return how far that one misses."""
    points = {key: row.accuracy for key, row in observations().items()}
    figure = [key for key in points if key[1] != TABLE_SIZE]
    across, held = _cut_misses(points, figure)
    return Errors(
        between_sizes=_rms(_size_misses(points)),
        across_cuts=_rms(across),
        held_cut=_rms(held),
        other_widths=_rms(
            effect(points, f, 15 - bits, cut, n)[0] - effect(points, f, bits, cut, n)[0]
            for cut, n, f, bits in figure
        ),
    )


def _size_misses(points: Points) -> Iterable[float]:
    """Errors of the middle of 750 and 3000 in log N, where all three sizes are published."""
    for cut, n, frozen, bits in points:
        ends = [points.get((cut, size, frozen, bits)) for size in (MEASURED_SIZES[0], MEASURED_SIZES[-1])]
        if n == TABLE_SIZE and ends[0] is not None and ends[1] is not None:
            yield (ends[0] + ends[1]) / 2 - points[cut, n, frozen, bits]


def _cut_misses(points: Points, figure: Iterable[Key]) -> tuple[list[float], list[float]]:
    """Errors of the effect of N from other cuts: between two of them, and held from the nearest."""
    between: list[float] = []
    held: list[float] = []
    for key in figure:
        cut, n, frozen, bits = key
        others = {k: v for k, v in points.items() if k != key}
        estimate, cuts = effect(others, frozen, bits, cut, n)
        miss = estimate - (points[key] - points[cut, TABLE_SIZE, frozen, bits])
        (between if min(cuts) < cut < max(cuts) else held).append(miss)
    return between, held


def _rms(errors: Iterable[float]) -> float:
    return float(np.sqrt(np.mean(np.square(list(errors)))))


@cache
def core50_table() -> Core50Table:
    """Return the table; at (width, cut, size) of a data row it holds that row."""
    errors, rows = leave_one_out(), observations()
    shape = (len(WIDTHS), len(CUTS), len(SIZES))
    value, half = np.full(shape, np.nan), np.full(shape, np.nan)
    status = np.full(shape, EXTRAPOLATED, dtype=np.int8)
    for w, width in enumerate(WIDTHS):
        for c, cut in enumerate(CUTS):
            for s, size in enumerate(SIZES):
                if (cut, TABLE_SIZE, *width) in rows and size in MEASURED_SIZES:
                    value[w, c, s], half[w, c, s], status[w, c, s] = _entry(rows, errors, width, cut, size)
    return _extended(value, half, status, errors)


def _entry(
    rows: dict[Key, Observation], errors: Errors, width: tuple[int, int], cut: int, size: int
) -> tuple[float, float, int]:
    """One measured size of a width of Table II: (value, half-width, status)."""
    key, table = (cut, size, *width), rows[cut, TABLE_SIZE, *width]
    if key in rows:
        row = rows[key]
        std = table.std if np.isnan(row.std) else row.std
        return row.accuracy, float(np.hypot(Z90 * std, row.uncertainty)), PUBLISHED
    points = {k: row.accuracy for k, row in rows.items()}
    donor = width if width[0] == 8 else (8, min(width[1], 8))
    step, cuts = effect(points, *donor, cut, size)
    between = min(cuts) < cut < max(cuts)
    miss = 0.0 if cut in cuts else errors.across_cuts if between else errors.held_cut
    foreign = errors.other_widths if donor != width else 0.0
    inside = between and donor == width
    half = Z90 * float(np.sqrt(table.std**2 + miss**2 + foreign**2))
    return table.accuracy + step, half, INTERPOLATED if inside else EXTRAPOLATED


def _extended(value: FloatArray, half: FloatArray, status: NDArray[np.int8], errors: Errors) -> Core50Table:
    """Add 6 and 16 bits, and N = 375.

    6 bits: the quantisation step doubles, so twice the mean loss from 8 to 7 bits in Table II is lost again;
    the interval reaches from no further loss to four times it (noise power). 16 bits: halfway between 8 and
    32 in log2, with an interval over both. N = 375: the slope of the octave above continues, and is added to
    the half-width.
    """
    at = WIDTHS.index
    for frozen in (32, 8):
        eight, seven = value[at((frozen, 8))], value[at((frozen, 7))]
        loss = 2 * float(np.mean((eight - seven)[:, SIZES.index(TABLE_SIZE)]))
        value[at((frozen, 6))] = seven - loss
        half[at((frozen, 6))] = np.hypot(half[at((frozen, 7))], loss)
    narrow, middle, wide = at((32, 8)), at((32, 16)), at((32, 32))
    value[middle] = (value[narrow] + value[wide]) / 2
    half[middle] = np.maximum(
        value[middle] - np.minimum(value[narrow] - half[narrow], value[wide] - half[wide]),
        np.maximum(value[narrow] + half[narrow], value[wide] + half[wide]) - value[middle],
    )
    status[middle] = np.maximum(INTERPOLATED, np.maximum(status[narrow], status[wide]))
    slope = value[..., 2] - value[..., 1]
    value[..., 0] = value[..., 1] - slope
    half[..., 0] = np.hypot(half[..., 1], slope)
    return Core50Table(value, half, status, errors)

"""What is believed of a board's numbers before its measurements: a log-normal around each, and ratios.

``low`` to ``high`` of a profile is a 90 % interval; where it is narrower than a factor of two either way, a
factor of two is taken: another compiler, version or setting moves a rate by as much.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dse.calibrate.response import priced_entries
from dse.hardware import ElementCost, HardwareProfile, Overhead, Quantity

FloatArray = NDArray[np.float64]

NORMAL_90: Final = 1.6448536269514722
"""A normal value lies within this many standard deviations with 90 % probability."""
FLOOR_FACTOR: Final = 2.0
FLOOR_SD: Final = math.log(FLOOR_FACTOR) / NORMAL_90


@dataclass(frozen=True)
class Term:
    """One number of the board that measurements speak of; ``sd`` is that of its logarithm."""

    path: str
    quantity: Quantity
    sd: float
    label: str

    @property
    def sign(self) -> float:
        """1 for a cost; -1 for a rate, whose cost is its inverse."""
        return -1.0 if self.path.startswith("rate[") else 1.0

    @property
    def unit(self) -> str:
        """Unit of the number."""
        names = {"rate": "MAC/cycle", "element": "cycles/element", "overhead": "cycles/call"}
        return names[self.path.partition("[")[0]]

    @property
    def interval(self) -> tuple[float, float]:
        """90 % interval of the prior."""
        reach = math.exp(NORMAL_90 * self.sd)
        return self.quantity.value / reach, self.quantity.value * reach


@dataclass(frozen=True)
class Ratio:
    """A belief in the ratio of costs: log(numerator @ costs / denominator @ costs) is normal.

    ``numerator`` and ``denominator`` map paths to weights.
    """

    numerator: Mapping[str, float]
    denominator: Mapping[str, float]
    log_mean: float
    sd: float
    source: str


@dataclass(frozen=True)
class Prior:
    """Terms and the ratios between them; ``released`` terms are believed through ratios alone."""

    terms: tuple[Term, ...]
    ratios: tuple[Ratio, ...] = ()
    released: frozenset[str] = field(default_factory=frozenset)

    @property
    def log_values(self) -> FloatArray:
        """Logarithm of each term's value, (P,)."""
        return np.log([term.quantity.value for term in self.terms])

    @property
    def signs(self) -> FloatArray:
        """1 for costs, -1 for rates, (P,)."""
        return np.array([term.sign for term in self.terms])

    def residuals(self, theta: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return standardised residuals (K,) and their derivatives (K, P) at the log values ``theta``."""
        kept = np.array([term.path not in self.released for term in self.terms])
        sd = np.array([term.sd for term in self.terms])
        rows = [((theta - self.log_values) / sd)[kept]]
        slopes = [np.diag(1.0 / sd)[kept]]
        costs = np.exp(self.signs * theta)
        for ratio in self.ratios:
            value, slope = -ratio.log_mean, np.zeros(len(theta))
            for weights, sign in ((ratio.numerator, 1.0), (ratio.denominator, -1.0)):
                parts = np.array([weights.get(term.path, 0.0) for term in self.terms]) * costs
                value += sign * math.log(parts.sum())
                slope += sign * self.signs * parts / parts.sum()
            rows.append(np.array([value / ratio.sd]))
            slopes.append(slope[None] / ratio.sd)
        return np.concatenate(rows), np.concatenate(slopes)


def prior_sd(quantity: Quantity, floor: float = FLOOR_SD) -> float:
    """Return the standard deviation of the logarithm of ``quantity``, at least ``floor``."""
    low, high = quantity.low_value, quantity.high_value
    if low > 0:
        return max((math.log(high) - math.log(low)) / (2 * NORMAL_90), floor)
    return max(math.log(high / quantity.value) / NORMAL_90, floor)


def terms_of(
    board: HardwareProfile, paths: Iterable[str]
) -> tuple[tuple[Term, ...], tuple[tuple[str, str], ...]]:
    """Return the terms under ``paths``, and (label, why) of those that stay zero."""
    known = priced_entries(board)
    terms, zeros = [], []
    for path in dict.fromkeys(paths):
        entry, quantity = known[path]
        if isinstance(entry, Overhead):
            label = f"call overhead, {entry.library}"
        else:
            word = entry.operation if isinstance(entry, ElementCost) else entry.operator
            label = f"{word} {entry.pass_} {entry.dtype}, {entry.library}"
        label += f", {entry.cores} cores" if entry.cores > 1 else ""
        if quantity.value > 0:
            terms.append(Term(path, quantity, prior_sd(quantity), label))
        else:
            zeros.append((label, quantity.note if quantity.included else "zero in the profile"))
    return tuple(terms), tuple(zeros)


def spread(logs: Sequence[float], expected_sd: float, weight: float) -> float:
    """Return the standard deviation of one more value beside ``logs``.

    Their own scatter, and ``expected_sd`` counted as ``weight`` values more: few values do not tell it.
    """
    count = len(logs)
    own = float(np.sum((np.array(logs) - np.mean(logs)) ** 2))
    variance = (weight * expected_sd**2 + own) / (weight + max(count - 1, 0))
    return math.sqrt(variance * (1.0 + 1.0 / count))

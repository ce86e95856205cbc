"""Rows that measure the same thing: one mean each, and what their scatter says of the meter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dse.calibrate.resolve import Row

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Repeats:
    """Timed rows in groups of repeats.

    ``rows`` (G tuples), ``log_seconds`` (G,) means of logarithms, ``scatter`` the standard deviation of the
    logarithm of a single run (None where nothing is repeated), ``mean_sd`` that of the mean of a group.
    """

    rows: tuple[tuple[Row, ...], ...]
    log_seconds: FloatArray
    scatter: float | None
    mean_sd: float

    def __len__(self) -> int:
        return len(self.rows)


def grouped(rows: Sequence[Row]) -> Repeats:
    """Group the timed among ``rows``; a row that is a mean of repeats weighs as many."""
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        if row.seconds is not None:
            groups.setdefault(row.key, []).append(row)
    means, squares, freedom = [], 0.0, 0
    for group in groups.values():
        logs = np.log([row.seconds for row in group])  # type: ignore[arg-type]
        weights = np.array([row.measurement.repeats for row in group], dtype=float)
        means.append(float(np.average(logs, weights=weights)))
        squares += float(weights @ (logs - means[-1]) ** 2)
        freedom += len(group) - 1
    scatter = math.sqrt(squares / freedom) if freedom else None
    runs = [sum(row.measurement.repeats for row in group) for group in groups.values()]
    mean_sd = 0.0 if scatter is None else scatter / math.sqrt(float(np.median(runs)))
    return Repeats(tuple(map(tuple, groups.values())), np.array(means), scatter, mean_sd)

"""Leave-one-out: each measured thing predicted by a fit to all others, beside one factor on its MACs."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from dse.calibrate.fit import Design, fit
from dse.calibrate.prior import Prior
from dse.calibrate.repeats import Repeats
from dse.calibrate.resolve import Row

FloatArray = NDArray[np.float64]


MOST_FITS: Final = 150
"""More groups than this are held out several at a time, evenly spread: a harder test, in bounded time."""


def held_out(design: Design, repeats: Repeats, prior: Prior) -> FloatArray:
    """Return the log seconds of each group as a fit to the other groups predicts them, (G,)."""
    found = np.zeros(len(repeats))
    for fold in range(min(len(repeats), MOST_FITS)):
        weights = np.ones(len(repeats))
        weights[fold::MOST_FITS] = 0.0
        without = fit(design, repeats.log_seconds, weights, prior, repeats.mean_sd)
        found[fold::MOST_FITS] = without.log_seconds[fold::MOST_FITS]
    return found


def one_factor(repeats: Repeats) -> FloatArray:
    """Return the log seconds of each group by one factor: MACs over the clock, times what others took.

    The factor is the geometric mean over the other groups of the same dtype, library and cores, or over all
    others where there are none; NaN where a group has no MACs or nobody else has.
    """
    rows = [group[0] for group in repeats.rows]
    work = np.array([_log_work(row) for row in rows])
    factors = repeats.log_seconds - work
    names = [f"{row.measurement.dtype} {row.setting.library} {row.setting.cores}" for row in rows]
    kinds = np.unique(names, return_inverse=True)[1]
    known = np.isfinite(factors)
    found = np.full(len(rows), np.nan)
    for group in np.flatnonzero(known):
        others = known & (np.arange(len(rows)) != group)
        same = others & (kinds == kinds[group])
        chosen = same if same.any() else others
        if chosen.any():
            found[group] = work[group] + factors[chosen].mean()
    return found


def _log_work(row: Row) -> float:
    return float(np.log(row.macs / row.setting.clock_hz)) if row.macs > 0 else float("nan")

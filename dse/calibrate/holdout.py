"""Leave-one-out: each measured thing predicted by a fit to all others, beside one factor on its MACs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dse.calibrate.fit import Design, fit
from dse.calibrate.prior import Prior
from dse.calibrate.repeats import Repeats
from dse.calibrate.resolve import Row

FloatArray = NDArray[np.float64]


def held_out(design: Design, repeats: Repeats, prior: Prior) -> FloatArray:
    """Return the log seconds of each group as a fit to the other groups predicts them, (G,)."""
    found = np.zeros(len(repeats))
    for group in range(len(repeats)):
        weights = np.ones(len(repeats))
        weights[group] = 0.0
        without = fit(design, repeats.log_seconds, weights, prior, repeats.mean_sd)
        found[group] = without.log_seconds[group]
    return found


def one_factor(repeats: Repeats) -> FloatArray:
    """Return the log seconds of each group by one factor: MACs over the clock, times what others took.

    The factor is the geometric mean over the other groups of the same dtype, library and cores, or over all
    others where there are none; NaN where a group has no MACs or nobody else has.
    """
    rows = [group[0] for group in repeats.rows]
    work = np.array([_log_work(row) for row in rows])
    factors = repeats.log_seconds - work
    kinds = [(row.measurement.dtype, row.setting.library, row.setting.cores) for row in rows]
    found = np.full(len(rows), np.nan)
    for group, kind in enumerate(kinds):
        others = [other for other in range(len(rows)) if other != group and np.isfinite(factors[other])]
        same = [other for other in others if kinds[other] == kind] or others
        if same:
            found[group] = work[group] + float(np.mean(factors[same]))
    return found


def _log_work(row: Row) -> float:
    return float(np.log(row.macs / row.setting.clock_hz)) if row.macs > 0 else float("nan")

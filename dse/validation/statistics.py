"""How well predictions rank and hit what was measured, and which differences the runs can tell apart.

Accuracies are (P, S): P plans, the same S seeds for each. Intervals are at 90 %; where there is not enough to
say anything, numbers are NaN. SciPy is imported when a quantile or a rank is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dse.validation.claims import LEVEL, paired_interval

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

FEWEST: Final = 5
"""Plans below which a rank correlation says nothing."""

FEWEST_FOR_EFFECTS: Final = 6
"""Plans below which an effect of a seed is not told from chance."""

RESAMPLES: Final = 2000
LEAST_SHARE: Final = 0.5
"""Share of resamples in which a correlation must be defined."""


class Interval(NamedTuple):
    """A number with its 90 % interval; NaN where there is not enough to say it."""

    value: float
    low: float
    high: float


UNKNOWN: Final = Interval(float("nan"), float("nan"), float("nan"))


def mean_interval(values: FloatArray) -> Interval:
    """Return the mean of ``values`` (n,) with its t interval; the ends are NaN for a single value."""
    mean, half = paired_interval(values)
    return Interval(mean, mean - half, mean + half)


def run_noise(accuracies: FloatArray) -> float:
    """Return the standard deviation between runs of one plan, pooled over plans: the root mean variance."""
    if accuracies.size == 0 or accuracies.shape[1] < 2:
        return float("nan")
    return float(np.sqrt(accuracies.var(axis=1, ddof=1).mean()))


def paired_noise(accuracies: FloatArray) -> float:
    """Return the standard deviation of runs once what a seed does to all plans alike is taken out.

    Residual of accuracy = plan + seed, with (P - 1)(S - 1) degrees of freedom.
    """
    plans, seeds = accuracies.shape
    if plans < 2 or seeds < 2:
        return float("nan")
    residual = accuracies - accuracies.mean(axis=1, keepdims=True) - accuracies.mean(axis=0, keepdims=True)
    residual += accuracies.mean()
    return float(np.sqrt((residual**2).sum() / ((plans - 1) * (seeds - 1))))


def without_seed_effects(accuracies: FloatArray, of: BoolArray | None = None) -> FloatArray:
    """Return ``accuracies`` (P, S) less what each seed does to all plans alike; means over seeds stay.

    The effect of a seed is the median, over the plans ``of`` (P,), of their differences from their own
    means, so that a plan that fails with one seed does not blur the others. Intervals of single plans then
    show what matters for comparing them (Cousineau, Tutorials in Quantitative Methods for Psychology 1(1),
    2005); what is left is stretched by sqrt(n / (n - 1)) for the n plans that the effects were taken from
    (Morey, the same 4(2), 2008). Fewer than six plans do not tell an effect: nothing is taken out.
    """
    known = accuracies if of is None else accuracies[of]
    if len(known) < FEWEST_FOR_EFFECTS:
        return accuracies
    effects = np.median(known - known.mean(axis=1, keepdims=True), axis=0)
    means = accuracies.mean(axis=1, keepdims=True)
    left = accuracies - (effects - effects.mean()) - means
    return np.asarray(means + np.sqrt(len(known) / (len(known) - 1)) * left)


def differs(accuracies: FloatArray) -> BoolArray:
    """Return which pairs of plans (P, P) the paired seeds tell apart: the t interval of i - j excludes 0.

    Nothing is told apart by a single seed, nor where differences are the same for every seed by being 0.
    """
    plans, seeds = accuracies.shape
    if seeds < 2:
        return np.zeros((plans, plans), dtype=bool)
    difference = accuracies[:, None, :] - accuracies[None, :, :]
    half = _quantile(seeds - 1) * difference.std(axis=2, ddof=1) / np.sqrt(seeds)
    mean = np.abs(difference.mean(axis=2))
    return np.asarray((mean > half) & (mean > 0))


def _quantile(freedom: int) -> float:
    from scipy.stats import t

    return float(t.ppf(0.5 + LEVEL / 2, freedom))


def ordered_right(predicted: FloatArray, accuracies: FloatArray) -> tuple[int, int, float]:
    """Return the number of pairs of plans, of those told apart, and the share of these predicted in order.

    ``predicted`` (P,). A pair that is predicted to be equal counts half. NaN where no pair is told apart.
    """
    upper = np.triu_indices(len(predicted), 1)
    apart = differs(accuracies)[upper]
    means = accuracies.mean(axis=1)
    real = np.sign(means[upper[0]] - means[upper[1]])[apart]
    said = np.sign(predicted[upper[0]] - predicted[upper[1]])[apart]
    share = float(np.where(said == 0, 0.5, said == real).mean()) if apart.any() else float("nan")
    return len(apart), int(apart.sum()), share


def regret(predicted: FloatArray, accuracies: FloatArray) -> Interval:
    """Return what the plan predicted best lacks to the one measured best, with its paired t interval.

    ``predicted`` (P,). Of plans that are predicted alike the mean counts. The measured best is the best of
    noisy means, which makes the regret a little too large.
    """
    if len(predicted) < 2:
        return UNKNOWN
    best = accuracies[int(accuracies.mean(axis=1).argmax())]
    picked = accuracies[predicted == predicted.max()].mean(axis=0)
    return mean_interval(best - picked)


def covered(low: FloatArray, high: FloatArray, accuracies: FloatArray) -> float:
    """Return the share of single runs that lie inside the predicted intervals ``low`` .. ``high`` (P,)."""
    known = np.isfinite(low) & np.isfinite(high)
    if not known.any():
        return float("nan")
    runs = accuracies[known]
    return float(((runs >= low[known, None]) & (runs <= high[known, None])).mean())


# --- rank correlations ---


def spearman(x: FloatArray, y: FloatArray, seed: int = 0) -> Interval:
    """Return Spearman's rank correlation of ``x`` and ``y`` (n,), with its bootstrap interval over plans."""
    from scipy.stats import rankdata

    def of(rows: NDArray[np.int64]) -> FloatArray:
        ranks = [rankdata(values[rows], axis=1) for values in (x, y)]
        a, b = (rank - rank.mean(axis=1, keepdims=True) for rank in ranks)
        return _ratio((a * b).sum(axis=1), (a**2).sum(axis=1) * (b**2).sum(axis=1))

    return _bootstrapped(of, x, y, seed)


def kendall(x: FloatArray, y: FloatArray, seed: int = 0) -> Interval:
    """Return Kendall's tau-b of ``x`` and ``y`` (n,), with its bootstrap interval over plans.

    Equation: sum of sign(xi - xj) sign(yi - yj) over the root of the numbers of pairs without ties in x and
    in y. Kendall, Biometrika 33, 1945.
    """
    signs = [np.sign(values[:, None] - values[None, :]) for values in (x, y)]

    def of(rows: NDArray[np.int64]) -> FloatArray:
        found = np.empty(len(rows))
        for number, row in enumerate(rows):
            a, b = (sign[np.ix_(row, row)] for sign in signs)
            found[number] = _ratio((a * b).sum(), (a**2).sum() * (b**2).sum())
        return found

    return _bootstrapped(of, x, y, seed)


def _ratio(top: FloatArray, squared: FloatArray) -> FloatArray:
    return np.asarray(np.where(squared > 0, top / np.sqrt(np.where(squared > 0, squared, 1.0)), np.nan))


def _bootstrapped(
    of: Callable[[NDArray[np.int64]], FloatArray], x: FloatArray, y: FloatArray, seed: int
) -> Interval:
    """Return a statistic of all plans and its percentile interval over plans drawn with replacement."""
    count = len(x)
    if count < FEWEST:
        return UNKNOWN
    value = float(of(np.arange(count)[None, :])[0])
    resampled = of(np.random.default_rng([seed, 47]).integers(0, count, (RESAMPLES, count)))
    defined = resampled[np.isfinite(resampled)]
    if np.isnan(value) or len(defined) < LEAST_SHARE * RESAMPLES:
        return UNKNOWN
    low, high = np.quantile(defined, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
    return Interval(value, float(low), float(high))

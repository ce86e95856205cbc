"""A model of accuracy fitted to measured runs: a Gaussian process over what a run can depend on.

    accuracy(x) = constant + f(x),   Cov[f(x), f(x')] = s^2 M(|(x - x') / l|)
    mean of n runs = accuracy(x) + noise,   variance of the noise = known noise / n + nugget

with M the Matern kernel of smoothness 5/2 and one length l per feature (C. E. Rasmussen, C. K. I. Williams,
Gaussian Processes for Machine Learning, 2006, equations 2.25, 2.26 and 4.17). The mean is constant: no
feature is assumed to raise or lower accuracy, and away from the runs the answer is flat and its interval
wide. The nugget is what repeats of a run do not show: noise that was not repeated yet, and what the features
do not tell apart. Scale, lengths and nugget maximise the posterior under log-normal priors, because a handful
of runs alone would let them run away. Widths are calibrated by leaving out one point at a time (equations
5.10 to 5.12): an interval is stretched by what the standardised misses need for 90 %.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from dse.accuracy.features import Encoder, LearningPoint
from dse.accuracy.runs import COVERAGE, MeasuredRuns

FloatArray = NDArray[np.float64]
Objective = Callable[..., tuple[float, FloatArray]]

Z90: Final = 1.6449
"""Normal quantile of a two-sided 90 % interval."""

LENGTH_PRIOR: Final = (math.log(1.0), 1.0)
SCALE_PRIOR: Final = (math.log(1.0), 1.0)
NUGGET_PRIOR: Final = (math.log(0.01), 1.0)
"""Mean and standard deviation of the logarithm of a length, and of two variances over that of the means."""

BOUNDS: Final = (1e-2, 1e2)
NUGGETS: Final = (1e-5, 1.0)
STARTS: Final = (0.3, 1.0, 3.0)
"""Lengths from which the search for the best ones starts."""

STRETCH: Final = (0.8, 3.0)
"""Least and largest factor of calibration: a few misses say little."""

JITTER: Final = 1e-6
"""Variance that is added for the sake of the arithmetic, relative to that of the means."""

LEAST_SPREAD: Final = 1e-3
"""Standard deviation of the means that is assumed at least [fraction]."""


@dataclass(frozen=True)
class Posterior:
    """Accuracy at c points given the runs: mean and variance (c,), and how points move together.

    ``noise`` (c,) is the variance of one further run around the accuracy of its point, seeds taken out.
    """

    mean: FloatArray
    variance: FloatArray
    noise: FloatArray
    column: Callable[[int], FloatArray]
    """Position of a point -> covariance of every point with it (c,)."""

    def stretched(self, factor: float) -> Posterior:
        """Return the same with deviations ``factor`` times as large; the noise of a run stays."""
        return replace(
            self,
            variance=self.variance * factor**2,
            column=lambda place: self.column(place) * factor**2,
        )


class GaussianProcess:
    """The process, fitted; ``over`` are further points whose features must be told apart."""

    name = "Gaussian process"

    def __init__(self, runs: MeasuredRuns, over: Sequence[LearningPoint] = ()) -> None:
        self.runs = runs
        self.encoder = Encoder.over([*runs.points, *over])
        self.spread = max(float(np.std(runs.means)), LEAST_SPREAD)
        self.centre = float(np.mean(runs.means))
        self.x = self._places(runs.points)
        self.noise = runs.noises / runs.counts / self.spread**2
        self.y = (runs.means - self.centre) / self.spread
        self.fitted = _fit(self.x, self.y, self.noise)
        self.nugget = float(self.fitted.kernel_.k2.noise_level)

    def _places(self, points: Sequence[LearningPoint]) -> FloatArray:
        """Return coordinates (n, d), d at least 1: where nothing varies, all points are in one place."""
        found = self.encoder(points)
        return found if found.shape[1] else np.zeros((len(points), 1))

    @cached_property
    def misses(self) -> FloatArray:
        """Standardised leave-one-out residuals of the means (n,)."""
        inverse = np.linalg.inv(self.fitted.L_ @ self.fitted.L_.T)
        precision = np.diag(inverse)
        return np.asarray((inverse @ self.y) / precision * np.sqrt(precision))

    @cached_property
    def stretch(self) -> float:
        """Factor on standard deviations with which 90 % of the misses lie in their 90 % intervals."""
        ordered = np.sort(np.abs(self.misses))
        rank = min(math.ceil(COVERAGE * (len(ordered) + 1)), len(ordered))
        return float(np.clip(ordered[rank - 1] / Z90, *STRETCH))

    def posterior(self, points: Sequence[LearningPoint]) -> Posterior:
        """Return the posterior at ``points`` (c,), not stretched."""
        from scipy.linalg import solve_triangular

        new, kernel, low = self._places(points), self.fitted.kernel_, self.fitted.L_
        cross = kernel(self.x, new)
        solved = solve_triangular(low, cross, lower=True)
        mean = cross.T @ self.fitted.alpha_
        variance = np.maximum(kernel.diag(new) - self.nugget - (solved**2).sum(axis=0), 0.0)

        def column(place: int) -> FloatArray:
            prior = kernel(new, new[place : place + 1])[:, 0]  # between two sets: without the nugget
            return np.asarray((prior - solved.T @ solved[:, place]) * self.spread**2)

        noise = np.array([self._noise(point) for point in points]) + self.nugget * self.spread**2
        return Posterior(mean * self.spread + self.centre, variance * self.spread**2, noise, column)

    def _noise(self, point: LearningPoint) -> float:
        entry = self.runs.by_key.get(point.key)
        return self.runs.noise if entry is None else self.runs.noise_of(entry)

    def one_run(self, points: Sequence[LearningPoint]) -> tuple[FloatArray, FloatArray]:
        """Return mean and half-width of the 90 % interval of one run at ``points``: (c,) each."""
        posterior = self.posterior(points)
        variance = self.stretch**2 * (posterior.variance + posterior.noise) + self.runs.one_run
        return posterior.mean, Z90 * np.sqrt(variance)


class DepthAndReplays:
    """The plain rule to compare with: accuracy linear in the depth of the cut and the logarithm of N."""

    name = "depth + log N"

    def __init__(self, runs: MeasuredRuns, over: Sequence[LearningPoint] = ()) -> None:
        table = self._table(runs.points)
        self.weights = np.linalg.lstsq(table, runs.means, rcond=None)[0]
        misses = runs.means - table @ self.weights
        freedom = max(len(runs) - table.shape[1], 1)
        self.deviation = math.sqrt(float(misses @ misses) / freedom)

    @staticmethod
    def _table(points: Sequence[LearningPoint]) -> FloatArray:
        rows = [
            (1.0, (p.plan.cut + 1) / len(p.workload.units), math.log2(1 + p.plan.n_replays)) for p in points
        ]
        return np.array(rows).reshape(-1, 3)

    def one_run(self, points: Sequence[LearningPoint]) -> tuple[FloatArray, FloatArray]:
        """Return mean and half-width of the 90 % interval of one run at ``points``: (c,) each."""
        return self._table(points) @ self.weights, np.full(len(points), Z90 * self.deviation)


class Model(Protocol):
    """A model of accuracy between the points that were run."""

    name: str

    def __init__(self, runs: MeasuredRuns, over: Sequence[LearningPoint] = ()) -> None: ...

    def one_run(self, points: Sequence[LearningPoint]) -> tuple[FloatArray, FloatArray]:
        """Return mean and half-width of the 90 % interval of one run at ``points``: (c,) each."""
        ...


def _fit(x: FloatArray, y: FloatArray, noise: FloatArray) -> Any:
    """Return the process with the most probable scale, lengths and nugget, from several starts."""
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    found: list[tuple[float, Any]] = []
    for length in STARTS:
        lengths = np.full(x.shape[1], length)
        kernel = ConstantKernel(1.0, BOUNDS) * Matern(lengths, BOUNDS, nu=2.5)
        kernel = kernel + ConstantKernel(1.0, "fixed")  # the constant mean is not known either
        kernel = kernel + WhiteKernel(math.exp(NUGGET_PRIOR[0]), NUGGETS)
        score: list[float] = []
        process = GaussianProcessRegressor(kernel, alpha=noise + JITTER, optimizer=_most_probable(score))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a length at its bound: that feature does not matter
            process.fit(x, y)
        found.append((score[0], process))
    return min(found, key=lambda entry: entry[0])[1]


def _most_probable(score: list[float]) -> Callable[..., tuple[FloatArray, float]]:
    """Return an optimiser of likelihood times prior; it leaves its best value in ``score``."""
    from scipy.optimize import minimize

    def optimise(objective: Objective, start: FloatArray, bounds: FloatArray) -> tuple[FloatArray, float]:
        lengths = [LENGTH_PRIOR] * (len(start) - 2)
        centre, width = np.array([SCALE_PRIOR, *lengths, NUGGET_PRIOR]).T

        def penalised(theta: FloatArray) -> tuple[float, FloatArray]:
            value, slope = objective(theta)
            apart = (theta - centre) / width
            return value + 0.5 * float(apart @ apart), slope + apart / width

        best = minimize(penalised, start, jac=True, bounds=bounds, method="L-BFGS-B")
        score.append(float(best.fun))
        return best.x, float(best.fun)

    return optimise

"""Fits a board's numbers to measured times: maximum a posteriori in logarithms, by damped Gauss-Newton.

Errors are relative: log(measured) = log(predicted) + normal noise of one standard deviation. It is
estimated with the numbers, from residuals and from repeats; ``NOISE_SD`` counts as ``NOISE_ROWS`` rows.
Intervals are those of the posterior at its maximum: what the noise leaves open with Student's t, because
it is estimated, and what the prior leaves open with the normal quantile.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dse.calibrate.prior import NORMAL_90, Prior
from dse.calibrate.response import Response

FloatArray = NDArray[np.float64]

NOISE_SD: Final = 0.03
NOISE_ROWS: Final = 2.0
FITTED, JOINT, PRIOR = "fitted", "only together", "prior"
SETTLED: Final = 0.4
"""A term is fitted where its posterior is at most this share of its prior, in standard deviations."""
UNTOUCHED: Final = 0.95
"""Above this share the measurements say nothing of a term, unless it belongs to a combination."""
MEMBER: Final = 0.1
"""A term belongs to a combination that is measured where its share of the direction is at least this."""
_STEPS: Final = 100
_ROUNDS: Final = 60
_CONVERGED: Final = 1e-11
_SAME_NOISE: Final = 1e-9


@dataclass(frozen=True)
class Design:
    """Responses of G measured things over P terms, units of all one after the other.

    ``per_cost`` (N, P), ``fixed_s`` and ``floor_s`` (N,); ``starts`` (G,) is the first unit of each.
    """

    per_cost: FloatArray
    fixed_s: FloatArray
    floor_s: FloatArray
    starts: NDArray[np.int64]
    signs: FloatArray

    @classmethod
    def of(cls, responses: Sequence[Response], prior: Prior) -> Design:
        """Line ``responses`` up over the terms of ``prior``; costs that are no term are zero."""
        place = {term.path: index for index, term in enumerate(prior.terms)}
        blocks = []
        for each in responses:
            block = np.zeros((len(each.per_cost), len(place)))
            for column, path in enumerate(each.paths):
                if path in place:
                    block[:, place[path]] = each.per_cost[:, column]
            blocks.append(block)
        sizes = [len(block) for block in blocks]
        return cls(
            np.concatenate(blocks),
            np.concatenate([each.fixed_s for each in responses]),
            np.concatenate([each.floor_s for each in responses]),
            np.cumsum([0, *sizes[:-1]]),
            prior.signs,
        )

    def log_seconds(self, theta: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return log predictions (G,) and their derivatives (G, P) at the log values ``theta`` (P,)."""
        parts = self.per_cost * np.exp(self.signs * theta)
        computing = self.fixed_s + parts.sum(axis=1)
        seconds = np.add.reduceat(np.maximum(computing, self.floor_s), self.starts)
        slopes = parts * self.signs * (computing >= self.floor_s)[:, None]
        return np.log(seconds), np.add.reduceat(slopes, self.starts, axis=0) / seconds[:, None]


@dataclass(frozen=True)
class Fit:
    """The most probable log values (P,), their covariance with the part that the noise has in it, the noise.

    ``statuses`` says of each term whether it is fitted, seen only together with others, or keeps its prior.
    """

    theta: FloatArray
    covariance: FloatArray
    from_noise: FloatArray
    noise_sd: float
    freedom: float
    log_seconds: FloatArray  # (G,)
    jacobian: FloatArray  # (G, P)
    statuses: tuple[str, ...] = ()

    @property
    def sd(self) -> FloatArray:
        """Posterior standard deviation of each log value, (P,)."""
        return np.sqrt(np.diag(self.covariance))

    @property
    def reach(self) -> FloatArray:
        """Half-width of the 90 % interval of each log value, (P,)."""
        return np.array([half_width(row, self.covariance, self.from_noise, self.freedom)
                         for row in np.eye(len(self.theta))])  # fmt: skip


def half_width(slope: FloatArray, covariance: FloatArray, from_noise: FloatArray, freedom: float) -> float:
    """Return the half-width of the 90 % interval of ``slope`` (P,) times the log values."""
    noise = max(float(slope @ from_noise @ slope), 0.0)
    rest = max(float(slope @ covariance @ slope) - noise, 0.0)
    return math.hypot(student_90(freedom) * math.sqrt(noise), NORMAL_90 * math.sqrt(rest))


def fit(
    design: Design, log_measured: FloatArray, weights: FloatArray, prior: Prior, repeat_sd: float = 0.0
) -> Fit:
    """Return the most probable numbers; terms of which the measurements say nothing keep their prior.

    Parameters
    ----------
    design, prior: what is measured as a function of the terms, and what was believed of them.
    log_measured: logarithm of seconds, (G,).
    weights: 1 where a row counts, 0 where it is held out, (G,).
    repeat_sd: scatter of a mean of repeats; the noise is no smaller.

    """
    data = (design, log_measured, weights, prior, repeat_sd)
    found = _posterior(*data, np.ones(len(prior.terms), dtype=bool))
    words = _statuses(design, found, prior, weights)
    free = np.array(
        [word != PRIOR or term.path in prior.released for word, term in zip(words, prior.terms, strict=True)],
        dtype=bool,
    )
    if not free.all():
        found = _posterior(*data, free)
        again = _statuses(design, found, prior, weights)
        words = tuple(new if one else PRIOR for new, one in zip(again, free.tolist(), strict=True))
    return replace(found, statuses=words)


def _statuses(design: Design, found: Fit, prior: Prior, weights: FloatArray) -> tuple[str, ...]:
    """Judge each term by its interval and by its part in what is measured, before and after the fit."""
    before = prior_sds(prior, found.theta)
    start = design.log_seconds(prior.log_values)[1]
    seen = np.maximum(
        *(
            np.abs(informed(jacobian, before, weights, found.noise_sd)).max(axis=0, initial=0.0)
            for jacobian in (start, found.jacobian)
        )
    )
    return tuple(
        FITTED if share <= SETTLED else (PRIOR if share >= UNTOUCHED and part < MEMBER else JOINT)
        for share, part in zip((found.sd / before).tolist(), seen.tolist(), strict=True)
    )


def informed(jacobian: FloatArray, prior_sds: FloatArray, weights: FloatArray, noise_sd: float) -> FloatArray:
    """Return the directions in units of the prior, (D, P), in which the data say more than the prior."""
    scaled = np.sqrt(weights)[:, None] * jacobian * prior_sds / noise_sd
    _, values, directions = np.linalg.svd(scaled, full_matrices=False)
    return np.asarray(directions[values >= 1.0])


def _posterior(
    design: Design, log_measured: FloatArray, weights: FloatArray, prior: Prior, repeat_sd: float,
    free: NDArray[np.bool_],
) -> Fit:  # fmt: skip
    """Alternate between the numbers that are ``free`` (P,) and the noise."""
    start = noise = max(NOISE_SD, repeat_sd)
    theta, freedom = _start(design, log_measured, weights, prior, noise, free), NOISE_ROWS
    for _ in range(_ROUNDS):
        theta = _maximum(design, log_measured, weights, prior, theta, noise, free)
        log_seconds, jacobian = design.log_seconds(theta)
        told = (jacobian.T * weights) @ jacobian / noise**2  # the information of the rows
        # Terms that keep their prior stay where they are, but not known any better for it.
        covariance = np.asarray(np.linalg.inv(prior_precision(prior, theta) + told))
        squares, rest = _unexplained(
            np.sqrt(weights) * (log_measured - log_seconds), np.sqrt(weights)[:, None] * jacobian,
            prior_sds(prior, theta) / noise,
        )  # fmt: skip
        freedom = NOISE_ROWS + max(rest - float(np.sum(weights == 0)), 0.0)
        found = max(math.sqrt((NOISE_ROWS * start**2 + squares) / freedom), repeat_sd)
        if abs(found - noise) <= _SAME_NOISE * noise:
            break
        noise = found
    return Fit(theta, covariance, covariance @ told @ covariance, noise, freedom, log_seconds, jacobian)


def _start(
    design: Design, log_measured: FloatArray, weights: FloatArray, prior: Prior, noise: float,
    free: NDArray[np.bool_],
) -> FloatArray:  # fmt: skip
    """Return where to begin: at the prior, or where costs are as much higher as the rows take longer.

    Where bytes outlast computing, a cost is not felt until it is high enough: from the prior alone no small
    step would find that it explains a row.
    """
    theta = prior.log_values
    slower = log_measured - design.log_seconds(theta)[0]
    if not (design.floor_s > design.fixed_s).any() or not np.any(weights * slower > 0):
        return theta
    higher = theta + prior.signs * free * float(np.max(weights * slower))
    ends = [_maximum(design, log_measured, weights, prior, at, noise, free) for at in (theta, higher)]

    def squares(at: FloatArray) -> float:
        off = design.log_seconds(at)[0] - log_measured
        return float(np.sum(weights * off**2) / noise**2 + np.sum(prior.residuals(at)[0] ** 2))

    return min(ends, key=squares)


def _unexplained(residuals: FloatArray, jacobian: FloatArray, scale: FloatArray) -> tuple[float, float]:
    """Return the squares of ``residuals`` (G,) that no term explains, and how many rows they stand for.

    What lies in a direction that the rows inform better than the prior is no noise: there a residual is
    what the prior holds back, however far away it lies.
    """
    rows, values, _ = np.linalg.svd(jacobian * scale, full_matrices=False)
    explained = rows[:, values >= 1.0]
    rest = residuals - explained @ (explained.T @ residuals)
    return float(rest @ rest), float(len(residuals) - explained.shape[1])


def prior_precision(prior: Prior, theta: FloatArray) -> FloatArray:
    """Return the inverse covariance of the prior at ``theta``, (P, P)."""
    slopes = prior.residuals(theta)[1]
    return np.asarray(slopes.T @ slopes)


def prior_sds(prior: Prior, theta: FloatArray) -> FloatArray:
    """Return the standard deviation of each log value before any measurement, ratios included, (P,)."""
    return np.sqrt(np.diag(np.linalg.inv(prior_precision(prior, theta))))


def _maximum(
    design: Design, log_measured: FloatArray, weights: FloatArray, prior: Prior, theta: FloatArray,
    noise: float, free: NDArray[np.bool_],
) -> FloatArray:  # fmt: skip
    """Minimise the squares of data and prior over the ``free`` terms, by Levenberg-Marquardt steps."""

    def residuals(at: FloatArray) -> tuple[FloatArray, FloatArray]:
        log_seconds, jacobian = design.log_seconds(at)
        own, slopes = prior.residuals(at)
        scale = np.sqrt(weights) / noise
        return (
            np.concatenate([scale * (log_seconds - log_measured), own]),
            np.concatenate([scale[:, None] * jacobian, slopes])[:, free],
        )

    damping = 1e-6
    error, slope = residuals(theta)
    for _ in range(_STEPS):
        normal = slope.T @ slope
        step = np.zeros(len(theta))
        step[free] = np.linalg.solve(normal + damping * np.diag(np.diag(normal)), -slope.T @ error)
        tried, slope_there = residuals(theta + step)
        if tried @ tried <= error @ error:
            theta, error, slope, damping = theta + step, tried, slope_there, max(damping / 10, 1e-12)
            if np.max(np.abs(step), initial=0.0) < _CONVERGED:
                break
        elif damping > 1e8:
            break
        else:
            damping *= 10
    return theta


def student_90(freedom: float) -> float:
    """Return the half-width [standard deviations] that holds 90 % of Student's t.

    The series of its quantile in 1 / ``freedom`` around the normal one (Abramowitz and Stegun, 26.7.5);
    within 0.3 % from 2 degrees of freedom on.
    """
    z, n = NORMAL_90, freedom
    return (
        z
        + (z**3 + z) / (4 * n)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
        + (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * n**4)
    )

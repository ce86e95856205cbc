"""Batch norms in the learning stage: by running statistics, by the mini-batch's, by groups of channels."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dse.errors import Problem, UserError

Array = NDArray[Any]

EPSILON: Final = 1e-5
"""Added to a variance, as in training."""
MOMENTUM: Final = 0.1
"""Share of a mini-batch's statistics in the running statistics."""
MOST_GROUPS: Final = 32
"""Groups of a group norm: Wu and He, ECCV 2018 (arXiv 1803.08494), Table 3; fewer for fewer channels."""


@dataclass(frozen=True)
class Statistics:
    """Mean and 1 / deviation by which (B, groups, members) is normalised: each (1 or B, groups)."""

    mean: Array
    inverse: Array

    @property
    def flat(self) -> Array:
        """Both as one vector, the means first."""
        return np.concatenate([self.mean.ravel(), self.inverse.ravel()])

    @classmethod
    def unpacked(cls, flat: Array, groups: int) -> Statistics:
        """Return what ``flat`` wrote."""
        mean, inverse = flat.reshape(2, -1, groups)
        return cls(mean, inverse)


def running(mean: Array, variance: Array) -> Statistics:
    """Return the statistics of running mean and variance (C,)."""
    spread = np.sqrt(variance + variance.dtype.type(EPSILON))
    return Statistics(mean[None], (1 / spread)[None])


def of_batch(x: Array) -> tuple[Statistics, Array]:
    """Return the statistics of (B, C, ...) per channel, and the variance (C,) without bias."""
    axes = (0, *range(2, x.ndim))
    mean = x.mean(axes, dtype=np.float64)
    variance = x.var(axes, dtype=np.float64)
    count = x.size // x.shape[1]
    inverse = (1 / np.sqrt(variance + EPSILON)).astype(x.dtype)
    unbiased = (variance * count / (count - 1)).astype(x.dtype)
    return Statistics(mean.astype(x.dtype)[None], inverse[None]), unbiased


def of_groups(x: Array, groups: int) -> Statistics:
    """Return the statistics of (B, C, ...) per sample and group of channels, each (B, groups)."""
    parts = x.reshape(len(x), groups, -1)
    mean = parts.mean(2, dtype=np.float64)
    inverse = 1 / np.sqrt(parts.var(2, dtype=np.float64) + EPSILON)
    return Statistics(mean.astype(x.dtype), inverse.astype(x.dtype))


def groups_of(channels: int, name: str) -> int:
    """Return the groups of a group norm. Raises UserError where they do not divide the channels."""
    groups = min(MOST_GROUPS, channels)
    if channels % groups:
        found = f"{channels} channels in {groups} groups"
        raise UserError(Problem("network", f"layers.{name}", found, f"a multiple of {groups} channels"))
    return groups


def normalised(x: Array, statistics: Statistics) -> Array:
    """(B, C, ...) minus mean, by deviation."""
    mean, inverse = (_spread(part, x) for part in (statistics.mean, statistics.inverse))
    return (x - mean) * inverse


def scaled(x: Array, gamma: Array, beta: Array) -> Array:
    """Return gamma x + beta, channel by channel."""
    across = (1, -1, *(1,) * (x.ndim - 2))
    return x * gamma.reshape(across) + beta.reshape(across)


def followed(held: Array, found: Array) -> Array:
    """Return running statistics behind a mini-batch whose own are ``found``."""
    share = held.dtype.type(MOMENTUM)
    return np.asarray((1 - share) * held + share * found)


def affine_gradient(error: Array, x: Array, statistics: Statistics) -> dict[str, Array]:
    """Return the gradients of gamma and beta, (C,) each; ``x`` is the norm's input."""
    axes = (0, *range(2, x.ndim))
    return {"gamma": (error * normalised(x, statistics)).sum(axes), "beta": error.sum(axes)}


def error_by_running(error: Array, gamma: Array, statistics: Statistics) -> Array:
    """Return the error of the input where the statistics do not depend on it."""
    across = (1, -1, *(1,) * (error.ndim - 2))
    return np.asarray(error * (gamma * statistics.inverse[0]).reshape(across))


def error_by_own(error: Array, gamma: Array, x: Array, statistics: Statistics) -> Array:
    """Return the error of the input where the statistics are its own, by batch or by group.

    dx = inverse (g - mean(g) - x' mean(g x')) over each set that shares statistics, with g = gamma error.
    """
    across = (1, -1, *(1,) * (error.ndim - 2))
    inward, unit = error * gamma.reshape(across), normalised(x, statistics)
    held, groups = statistics.mean.shape
    members = (held, len(x) // held, groups, x.shape[1] // groups, prod(x.shape[2:]))
    parts, units = inward.reshape(members), unit.reshape(members)
    axes = (1, 3, 4)
    centre = parts.mean(axes, keepdims=True)
    along = (parts * units).mean(axes, keepdims=True)
    inner = (parts - centre - units * along).reshape(x.shape)
    return np.asarray(inner * _spread(statistics.inverse, x))


def _spread(part: Array, x: Array) -> Array:
    """(1 or B, groups) -> broadcastable against (B, C, ...)."""
    by_channel = np.repeat(part, x.shape[1] // part.shape[1], axis=1)
    return by_channel.reshape(*by_channel.shape, *(1,) * (x.ndim - 2))

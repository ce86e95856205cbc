"""Accuracies that were measured: runs by learning point, their means, and how much runs differ.

Runs of one point differ by their seeds. The spread of a point that has few of them is told badly by those few
alone, so it is held against what all points say together (a moderated variance: G. K. Smyth, Statistical
Applications in Genetics and Molecular Biology 3(1), 2004, equation for the posterior variance, with a fixed
weight of the prior).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dse.accuracy.features import LearningPoint

FloatArray = NDArray[np.float64]

USUAL_SPREAD: Final = 0.01
"""Standard deviation between seeds that is assumed until points have been run twice [fraction]."""

USUAL_WEIGHT: Final = 2.0
"""Degrees of freedom that the assumption counts for."""

POOLED_WEIGHT: Final = 4.0
"""Degrees of freedom for which the spread of all points counts in that of one."""

COVERAGE: Final = 0.90


class Run(NamedTuple):
    """The accuracy [fraction] that one training run reached."""

    point: LearningPoint
    seed: int
    accuracy: float


@dataclass(frozen=True)
class Measured:
    """A learning point with the accuracies of its runs, by seed."""

    point: LearningPoint
    accuracies: tuple[float, ...]

    @property
    def count(self) -> int:
        """Number of runs."""
        return len(self.accuracies)

    @property
    def mean(self) -> float:
        """Mean accuracy [fraction]."""
        return sum(self.accuracies) / self.count

    @property
    def squares(self) -> float:
        """Sum of squared differences from the mean."""
        return sum((one - self.mean) ** 2 for one in self.accuracies)


@dataclass(frozen=True)
class MeasuredRuns:
    """All runs, by learning point in the order of their keys."""

    entries: tuple[Measured, ...]

    @classmethod
    def of(cls, runs: Iterable[Run]) -> MeasuredRuns:
        """Group ``runs``; of several with the same point and seed the first counts."""
        found: dict[str, tuple[LearningPoint, dict[int, float]]] = {}
        for run in runs:
            point, seeds = found.setdefault(run.point.key, (run.point, {}))
            seeds.setdefault(run.seed, run.accuracy)
            found[run.point.key] = (point, seeds)
        return cls(
            tuple(
                Measured(point, tuple(seeds[seed] for seed in sorted(seeds)))
                for _, (point, seeds) in sorted(found.items())
            )
        )

    def __len__(self) -> int:
        return len(self.entries)

    @cached_property
    def by_key(self) -> dict[str, Measured]:
        """The entries by key."""
        return {entry.point.key: entry for entry in self.entries}

    @property
    def points(self) -> list[LearningPoint]:
        """The points (n,)."""
        return [entry.point for entry in self.entries]

    @property
    def means(self) -> FloatArray:
        """Mean accuracies (n,)."""
        return np.array([entry.mean for entry in self.entries])

    @property
    def counts(self) -> FloatArray:
        """Runs per point (n,)."""
        return np.array([entry.count for entry in self.entries], dtype=float)

    @property
    def freedom(self) -> int:
        """Degrees of freedom of the spread between seeds."""
        return sum(entry.count - 1 for entry in self.entries)

    @cached_property
    def pooled_variance(self) -> float:
        """Variance between seeds over all points, held against the usual one while there are few repeats."""
        squares = sum(entry.squares for entry in self.entries)
        return (squares + USUAL_WEIGHT * USUAL_SPREAD**2) / (self.freedom + USUAL_WEIGHT)

    def variance(self, entry: Measured) -> float:
        """Return the moderated variance between seeds of one point."""
        return (entry.squares + POOLED_WEIGHT * self.pooled_variance) / (entry.count - 1 + POOLED_WEIGHT)

    @property
    def variances(self) -> FloatArray:
        """Moderated variances (n,)."""
        return np.array([self.variance(entry) for entry in self.entries])

    def half_width(self, entry: Measured) -> float:
        """Return half of the 90 % interval of the mean of one point: Student's t, moderated variance."""
        from scipy.stats import t

        freedom = entry.count - 1 + min(POOLED_WEIGHT, self.freedom + USUAL_WEIGHT)
        quantile = float(t.ppf(0.5 + COVERAGE / 2, freedom))
        return quantile * math.sqrt(self.variance(entry) / entry.count)


def distinct_points(points: Sequence[LearningPoint]) -> list[LearningPoint]:
    """Return ``points`` without repeats, by key."""
    return [point for _, point in sorted({point.key: point for point in points}.items())]

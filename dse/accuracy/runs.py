"""Accuracies that were measured: runs by learning point, their means, and how much runs differ.

A run of point k with seed s reaches

    y_ks = f_k + u_s + e_ks

because runs of one seed share the network that they start from and the order of their samples: where that
was lucky, it was for every point. Seeds are estimated from points that were run with several of them
(least squares in turn, shrunk), and taken out before points are compared: a point that has fewer seeds than
others is neither favoured nor harmed by those that it has. A seed that fewer than ``LEAST_REPEATED`` points
tell about is left alone: what it seems to add would be the scatter of those few. Spreads are held against a
usual one while there are few repeats, and that of one point against that of all (a moderated variance: G. K.
Smyth, Statistical Applications in Genetics and Molecular Biology 3(1), 2004, with a fixed weight of the
prior).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dse.accuracy.features import LearningPoint

FloatArray = NDArray[np.float64]

USUAL_SPREAD: Final = 0.01
"""Standard deviation of seeds, and of what is left, that is assumed until points have been run twice."""

USUAL_NOISE_WEIGHT: Final = 2.0
USUAL_SEED_WEIGHT: Final = 1.0
"""Degrees of freedom that the assumption counts for."""

POOLED_WEIGHT: Final = 4.0
"""Degrees of freedom for which the noise of all points counts in that of one."""

SHRINKAGE: Final = 1.0
"""Points without any effect that the estimate of a seed is held against."""

LEAST_REPEATED: Final = 3
"""Points run with a seed and others from which what that seed adds is estimated and taken out."""

ROUNDS: Final = 100
"""Turns of the least squares; they have settled long before."""

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
    seeds: tuple[int, ...]

    @property
    def count(self) -> int:
        """Number of runs."""
        return len(self.accuracies)


@dataclass(frozen=True)
class MeasuredRuns:
    """All runs, by learning point in the order of their keys."""

    entries: tuple[Measured, ...]

    @classmethod
    def of(cls, runs: Iterable[Run]) -> MeasuredRuns:
        """Group ``runs``; of several with the same point and seed the first counts."""
        found: dict[str, tuple[LearningPoint, dict[int, float]]] = {}
        for run in runs:
            _, seeds = found.setdefault(run.point.key, (run.point, {}))
            seeds.setdefault(run.seed, run.accuracy)
        entries = []
        for _, (point, seeds) in sorted(found.items()):
            order = tuple(sorted(seeds))
            entries.append(Measured(point, tuple(seeds[seed] for seed in order), order))
        return cls(tuple(entries))

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
    def counts(self) -> FloatArray:
        """Runs per point (n,)."""
        return np.array([entry.count for entry in self.entries], dtype=float)

    # --- seeds ---

    @cached_property
    def _repeated(self) -> list[Measured]:
        """Points with several seeds, less runs with seeds that too few of these points have."""
        repeated = [entry for entry in self.entries if entry.count > 1]
        while True:
            counts = Counter(seed for entry in repeated for seed in entry.seeds)
            solid = {seed for seed, count in counts.items() if count >= LEAST_REPEATED}
            if len(solid) == len(counts):
                return repeated
            repeated = [left for entry in repeated if (left := _within(entry, solid)).count > 1]

    @cached_property
    def compared(self) -> frozenset[int]:
        """The seeds whose effects are estimated and taken out; none where too few points have several."""
        return frozenset(seed for entry in self._repeated for seed in entry.seeds)

    @property
    def seeds_compared(self) -> int:
        """Number of seeds whose effect is known from points that have several."""
        return len(self.compared)

    @property
    def points_compared(self) -> int:
        """Number of points that the effects of seeds are estimated from."""
        return len(self._repeated)

    @cached_property
    def effects(self) -> dict[int, float]:
        """What each seed adds to the accuracy of any point [fraction]; 0 on average over those compared."""
        unknown = {seed: 0.0 for entry in self.entries for seed in entry.seeds}
        effect = dict.fromkeys(sorted(self.compared), 0.0)
        for _ in range(ROUNDS if effect else 0):
            sums, counts = dict.fromkeys(effect, 0.0), dict.fromkeys(effect, 0)
            for entry in self._repeated:
                mean = _mean(entry, effect)
                for seed, accuracy in zip(entry.seeds, entry.accuracies, strict=True):
                    sums[seed] += accuracy - mean
                    counts[seed] += 1
            effect = {seed: sums[seed] / (counts[seed] + SHRINKAGE) for seed in effect}
            centre = sum(effect.values()) / len(effect)
            effect = {seed: value - centre for seed, value in effect.items()}
        return unknown | effect

    @cached_property
    def seed_variance(self) -> float:
        """Variance of the effect of a seed."""
        squares = sum(effect**2 for effect in self.effects.values())
        freedom = max(self.seeds_compared - 1, 0)
        return (squares + USUAL_SEED_WEIGHT * USUAL_SPREAD**2) / (freedom + USUAL_SEED_WEIGHT)

    # --- points ---

    def mean(self, entry: Measured) -> float:
        """Return the mean accuracy of a point, the effects of its seeds taken out [fraction].

        That is its plain mean where it was run with every seed.
        """
        return _mean(entry, self.effects)

    @property
    def means(self) -> FloatArray:
        """Mean accuracies (n,)."""
        return np.array([self.mean(entry) for entry in self.entries])

    def _squares(self, entry: Measured) -> float:
        mean = self.mean(entry)
        pairs = zip(entry.seeds, entry.accuracies, strict=True)
        return sum((accuracy - self.effects[seed] - mean) ** 2 for seed, accuracy in pairs)

    @cached_property
    def freedom(self) -> int:
        """Degrees of freedom of the noise that is left between runs."""
        return max(sum(entry.count - 1 for entry in self.entries) - max(self.seeds_compared - 1, 0), 0)

    @cached_property
    def noise(self) -> float:
        """Variance of a run around its point, seeds taken out."""
        squares = sum(self._squares(entry) for entry in self.entries)
        return (squares + USUAL_NOISE_WEIGHT * USUAL_SPREAD**2) / (self.freedom + USUAL_NOISE_WEIGHT)

    def noise_of(self, entry: Measured) -> float:
        """Return the moderated variance of a run of one point, seeds taken out."""
        freedom = entry.count - 1
        return (self._squares(entry) + POOLED_WEIGHT * self.noise) / (freedom + POOLED_WEIGHT)

    @property
    def noises(self) -> FloatArray:
        """Moderated variances (n,)."""
        return np.array([self.noise_of(entry) for entry in self.entries])

    @property
    def one_run(self) -> float:
        """Variance that a new seed adds to a prediction: its effect, and how little the mean one is known."""
        return self.seed_variance * (1 + 1 / max(self.seeds_compared, 1))

    def half_width(self, entry: Measured) -> float:
        """Return half of the 90 % interval of the mean of one point over all seeds that there could be.

        Two parts add in squares, each with its quantile of Student's t: noise over the point's runs, and the
        effect of seeds over those that points were compared by, or over its own where it has others.
        """
        over = self.seeds_compared if self.compared.issuperset(entry.seeds) else entry.count
        noise = math.sqrt(self.noise_of(entry) / entry.count)
        noise *= _quantile(entry.count - 1 + min(POOLED_WEIGHT, self.freedom + USUAL_NOISE_WEIGHT))
        seeds = math.sqrt(self.seed_variance / over)
        seeds *= _quantile(max(self.seeds_compared - 1, 0) + USUAL_SEED_WEIGHT)
        return math.hypot(noise, seeds)


def _within(entry: Measured, seeds: set[int]) -> Measured:
    """Return an entry with the runs of some seeds alone."""
    pairs = zip(entry.seeds, entry.accuracies, strict=True)
    kept = {seed: accuracy for seed, accuracy in pairs if seed in seeds}
    return Measured(entry.point, tuple(kept.values()), tuple(kept))


def _mean(entry: Measured, effects: dict[int, float]) -> float:
    pairs = zip(entry.seeds, entry.accuracies, strict=True)
    return sum(accuracy - effects[seed] for seed, accuracy in pairs) / entry.count


def _quantile(freedom: float) -> float:
    from scipy.stats import t

    return float(t.ppf(0.5 + COVERAGE / 2, freedom))

"""What one more run can still change: the expected gain of the front's hypervolume, exact for the model.

On one board, let the keys that have been run stand at the posterior means of their accuracies, and let
A(h) be the volume in the other objectives (scaled costs, up to the reference) that the designs of keys with
accuracy of at least h dominate. The hypervolume of the front is the integral of A over h from a floor up. A
run of key k moves its posterior mean to m' ~ N(m, s^2), where m is the mean now and

    s^2 = Var[f_k | runs] - Var[f_k | runs and one more of k] = v^2 / (v + noise),   v = Var[f_k | runs]

so that a noisy key that was run before and one that never was compete on equal terms. The expected gain is

    G_k = sum over boards of  integral from floor of  g_k(h) (P(m' > h) - [k was run] [m > h])  dh,
    g_k(h) = volume that the designs of k add to those of the other keys with accuracy of at least h

g_k is constant between neighbouring means, and the integral of P(m' > h) between two levels a < b is
s (psi((a - m) / s) - psi((b - m) / s)) with psi(u) = phi(u) - u (1 - Phi(u)), the partial expectation of
expected improvement. G_k is never negative: the hypervolume is convex in each accuracy. This is the
knowledge gradient (P. Frazier et al., SIAM J. Control Optim. 47(5), 2008) of the hypervolume, restricted to
the key that is run; with s for the posterior deviation it would be the expected hypervolume improvement (M.
Emmerich et al., CEC 2011).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dse.accuracy.fitted import Posterior
from dse.cost.model import OBJECTIVES
from dse.search.learning import Candidates
from dse.search.pareto import REFERENCE, front_mask, scaled, volume

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

REACH: Final = 4.0
"""Standard deviations above its mean beyond which a key is not expected."""

TINY: Final = 1e-300

LEAST_GAIN: Final = 1e-9
"""Expected gain below which a run is not worth its time."""


@dataclass(frozen=True)
class Belief:
    """What is believed of c keys: mean and variance of their accuracy, variance of one run, whether run."""

    mean: FloatArray
    variance: FloatArray
    noise: FloatArray
    known: BoolArray

    @property
    def step(self) -> FloatArray:
        """Standard deviation by which one more run moves the mean of its key (c,)."""
        return np.asarray(self.variance / np.sqrt(np.maximum(self.variance + self.noise, TINY)))

    def after(self, key: int, covariance: FloatArray) -> Belief:
        """Return what would be believed if a run of ``key`` came out as expected.

        ``covariance`` (c,) is that of every key with it.
        """
        removed = covariance**2 / max(self.variance[key] + self.noise[key], TINY)
        known = self.known.copy()
        known[key] = True
        return replace(self, variance=np.maximum(self.variance - removed, 0.0), known=known)


class Board:
    """The costs of every key on one board, scaled to 0..1 (as ``dse.search.pareto.scaled`` does)."""

    def __init__(self, candidates: Candidates, board: int) -> None:
        names = tuple(OBJECTIVES[name][0] for name in candidates.objectives)
        ranges = candidates.ranges[board]
        self.costs = [  # within the ranges but for what is infinite, such as a life without a battery
            np.clip(scaled(entry.costs[board], ranges, names), 0.0, REFERENCE) for entry in candidates.entries
        ]
        self.nothing = np.zeros((0, len(names)))


class Staircase:
    """Keys on one board, most accurate first: what they dominate together, step by step."""

    def __init__(self, board: Board, keys: Iterable[int], accuracy: FloatArray, floor: float) -> None:
        kept = [key for key in keys if len(board.costs[key])]
        self.board, self.floor = board, floor
        self.keys = sorted(kept, key=lambda key: (-accuracy[key], key))
        self.accuracy = [max(float(accuracy[key]), floor) for key in self.keys]
        self.points = [board.nothing]
        for key in self.keys:
            self.points.append(_merged(self.points[-1], board.costs[key]))
        self.volumes = [volume(points) for points in self.points]

    @property
    def hypervolume(self) -> float:
        """Volume of costs times accuracy above the floor [fraction]."""
        drops = -np.diff(np.array([*self.accuracy, self.floor]))
        return float(drops @ np.array(self.volumes[1:])) if self.keys else 0.0

    def steps(self, key: int) -> Iterator[tuple[float, FloatArray, float]]:
        """Yield the staircase without ``key`` from the top: level, points above it, their volume."""
        place = self.keys.index(key) if key in self.keys else len(self.keys)
        yield from zip(self.accuracy[:place], self.points, self.volumes, strict=False)
        points = self.points[place]
        for lower in range(place + 1, len(self.keys)):
            yield self.accuracy[lower], points, volume(points)
            points = _merged(points, self.board.costs[self.keys[lower]])
        yield self.floor, points, volume(points)

    def gain(self, key: int, belief: Belief) -> float:
        """Return the expected gain of one more run of ``key`` on this board."""
        costs, mean, step = self.board.costs[key], float(belief.mean[key]), float(belief.step[key])
        total, top = 0.0, np.inf
        for level, points, here in self.steps(key):
            if belief.known[key] and top < mean - REACH * step:
                break  # it stands above this level, and will
            if level < mean + REACH * step:
                added = volume(np.concatenate([points, costs])) - here
                if added <= 0:
                    break  # further down the others only dominate more
                covered = max(min(mean, top) - level, 0.0) if belief.known[key] else 0.0
                total += added * (expected_length(level, top, mean, step) - covered)
            top = level
        return max(total, 0.0)  # less than nothing only by what lies out of reach


def _merged(points: FloatArray, more: FloatArray) -> FloatArray:
    together = np.concatenate([points, more])
    return together[front_mask(together)]


def expected_length(low: float, high: float, mean: float, deviation: float) -> float:
    """Return how much of low..high lies below a normal variable, on average."""
    return _excess(low, mean, deviation) - (0.0 if high == np.inf else _excess(high, mean, deviation))


def _excess(level: float, mean: float, deviation: float) -> float:
    """Return the expected part of a normal variable above ``level``."""
    if deviation <= 0:
        return max(mean - level, 0.0)
    u = (level - mean) / deviation
    above = 0.5 * math.erfc(u / math.sqrt(2))
    return deviation * (math.exp(-u * u / 2) / math.sqrt(2 * math.pi) - u * above)


def gains(boards: Sequence[Board], belief: Belief, eligible: BoolArray) -> FloatArray:
    """Return the expected gain G of one more run of each key (c,); 0 for those that are not ``eligible``."""
    found = np.zeros(len(belief.mean))
    known: list[int] = np.flatnonzero(belief.known).tolist()
    floor = floor_of(belief.mean[belief.known])
    for board in boards:
        stairs = Staircase(board, known, belief.mean, floor)
        for key in np.flatnonzero(eligible).tolist():
            if len(board.costs[key]):
                found[key] += stairs.gain(key, belief)
    return found


def floor_of(accuracies: FloatArray) -> float:
    """Return the accuracy from which volume counts: a tenth of the range below the lowest."""
    if len(accuracies) == 0:
        return 0.0
    low, high = float(accuracies.min()), float(accuracies.max())
    return low - (REFERENCE - 1.0) * (high - low)


def choose(
    boards: Sequence[Board], posterior: Posterior, known: BoolArray, left: IntArray, count: int,
    pending: Sequence[int] = (),
) -> list[int]:  # fmt: skip
    """Return up to ``count`` keys to run next, the most promising first; one may come up twice.

    ``left`` (c,) says how many more runs each key may have. Runs that are ``pending`` elsewhere, and each
    choice after it was made, are taken to come out as expected. Equal gains go to the lower position.
    """
    belief = Belief(posterior.mean, posterior.variance, posterior.noise, known.copy())
    left, moves, chosen = left.copy(), list[FloatArray](), list[int]()
    for place in range(len(pending) + count):
        if place < len(pending):
            key = pending[place]
        else:
            expected = gains(boards, belief, left > 0)
            key = int(np.argmax(expected))
            if expected[key] <= LEAST_GAIN:
                break
            left[key] -= 1
            chosen.append(key)
        covariance = posterior.column(key) - sum((move * move[key] for move in moves), np.zeros(len(known)))
        moves.append(covariance / math.sqrt(max(belief.variance[key] + belief.noise[key], TINY)))
        belief = belief.after(key, covariance)
    return chosen

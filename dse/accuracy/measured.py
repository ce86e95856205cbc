"""The source of accuracy behind ``accuracy = "measured"``: runs where there are any, a model between them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dse.accuracy.base import FITTED, MEASURED, UNKNOWN, AccuracyEstimate, unknown
from dse.accuracy.features import Hull, LearningPoint, Policies, points_of
from dse.accuracy.fitted import GaussianProcess, Model
from dse.accuracy.runs import MeasuredRuns, Run
from dse.plan.learning_key import LEARNING_CHOICES
from dse.workload import Workload

LEAST_POINTS: Final = 5
"""Points that a model is fitted to at least."""


class MeasuredAccuracy:
    """What runs say: measured where a point was run, fitted between the runs, unknown beyond them.

    Beyond means: a word that no run has, or a number outside the range of those that were run.
    """

    name = "measured"
    depends_on: tuple[str, ...] = LEARNING_CHOICES

    def __init__(
        self, runs: Iterable[Run], policies: Policies | None = None, model: type[Model] = GaussianProcess
    ) -> None:
        """Fit ``model`` to ``runs``; ``policies`` are those that list units one by one, by name."""
        self.runs = MeasuredRuns.of(runs)
        self.policies = dict(policies or {})
        self.hull = Hull.of(self.runs.points)
        self.model = model(self.runs) if len(self.runs) >= LEAST_POINTS else None
        self._made: dict[tuple[Any, ...], LearningPoint] = {}
        self._known: dict[str, tuple[float, float, float, int]] = {}

    def predict(self, workload: Workload, choices: Mapping[str, NDArray[Any]]) -> AccuracyEstimate:
        """Return accuracy [fraction] for ``choices``, arrays that broadcast; see ``AccuracySource``."""
        found, which = points_of(workload, choices, self.policies, self._made)
        return AccuracyEstimate._make(field[which] for field in self.estimate(found))

    def estimate(self, points: Sequence[LearningPoint]) -> AccuracyEstimate:
        """Return the accuracy of ``points``: arrays (n,)."""
        self._answer([point for point in points if point.key not in self._known])
        rows = [self._known[point.key] for point in points]
        value, low, high = np.array([row[:3] for row in rows], dtype=float).reshape(-1, 3).T
        return AccuracyEstimate(value, low, high, np.array([row[3] for row in rows], dtype=np.int8))

    def _answer(self, points: Sequence[LearningPoint]) -> None:
        fitted: list[LearningPoint] = []
        for point in points:
            entry = self.runs.by_key.get(point.key)
            if entry is not None:
                half = self.runs.half_width(entry)
                self._known[point.key] = _clipped(self.runs.mean(entry), half, MEASURED)
            elif self.model is not None and point in self.hull:
                fitted.append(point)
            else:
                self._known[point.key] = (math.nan, math.nan, math.nan, UNKNOWN)
        if self.model is not None and fitted:
            for point, mean, half in zip(fitted, *self.model.one_run(fitted), strict=True):
                self._known[point.key] = _clipped(float(mean), float(half), FITTED)

    def count(self, point: LearningPoint) -> int:
        """Return the number of runs of ``point``."""
        entry = self.runs.by_key.get(point.key)
        return 0 if entry is None else entry.count

    def domain(self) -> str:
        """Say for which plans the runs answer."""
        count = int(self.runs.counts.sum()) if len(self.runs) else 0
        said = [
            f"{name} {', '.join(sorted(found))}"
            for name, found in self.hull.vocabulary.items()
            if name != "network"
        ]
        return (
            f"what {count} training runs of {len(self.runs)} plans say: {'; '.join(said)}; "
            "every count between the least and the largest that was run"
        )


def _clipped(value: float, half: float, status: int) -> tuple[float, float, float, int]:
    value = min(max(value, 0.0), 1.0)
    return value, max(value - half, 0.0), min(value + half, 1.0), status


class Unmeasured:
    """Stands in an exploration until its runs are done: nothing is known."""

    name = "measured"
    depends_on: tuple[str, ...] = LEARNING_CHOICES

    def predict(self, workload: Workload, choices: Mapping[str, NDArray[Any]]) -> AccuracyEstimate:
        """Answer that nothing is known."""
        return unknown(np.broadcast_shapes(*(np.shape(choices[name]) for name in self.depends_on)))

    def domain(self) -> str:
        """Say that there are no runs yet."""
        return "nothing yet: it is measured by training runs"

"""Learning points and runs of a small network that the tests of measured accuracy share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

from dse.accuracy.features import LearningPoint
from dse.accuracy.runs import Run
from dse.plan.decisions import TrainingPlan
from dse.workload import Workload, load_network


@cache
def network() -> Workload:
    return load_network("har-cnn-1d")


def point(cut: int = 2, n_replays: int = 100, **decisions: Any) -> LearningPoint:
    return LearningPoint.of(network(), TrainingPlan(cut=cut, n_replays=n_replays, **decisions))


def grid(cuts: Iterable[int] = (0, 1, 2, 3), sizes: Iterable[int] = (25, 100, 400)) -> list[LearningPoint]:
    return [point(cut, size) for cut in cuts for size in sizes]


def runs_of(
    points: Iterable[LearningPoint], accuracy: Callable[[LearningPoint], float], seeds: int = 1,
    effect: Callable[[LearningPoint, int], float] = lambda point, seed: 0.0,
) -> list[Run]:  # fmt: skip
    return [
        Run(point, seed, accuracy(point) + effect(point, seed)) for point in points for seed in range(seeds)
    ]

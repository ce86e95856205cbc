"""A space whose accuracy is measured, and a stand-in for training, that the tests of search by runs share."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from dse.accuracy.features import LearningPoint
from dse.search.measured import Reached, Request
from dse.search.space import Space

SPACE: dict[str, Any] = {
    "name": "try",
    "networks": ["har-cnn-1d"],
    "boards": ["stm32l476rg", "stm32h743"],
    "objectives": ["accuracy", "ram_peak_bytes", "event_j"],
    "accuracy": "measured",
    "task": {"data": "shapes"},
    "choices": {
        "head": ["sgd", "ncm"],
        "cut": "all",
        "n_replays": [25, 50, 100, 200],
        "replay_bits": [4, 8],
        "batch": [[5, 10]],
        "images_per_event": 20,
        "micro_batch": [1, "batch"],
        "operating_point": "all",
    },
    "measure": {"runs": 30},
}
"""41 learning keys on two boards."""


def space(**changes: Any) -> Space:
    merged = {**SPACE, **changes}
    merged["choices"] = {**SPACE["choices"], **changes.get("choices", {})}
    merged["measure"] = {**SPACE["measure"], **changes.get("measure", {})}
    return Space.from_dict(merged)


def accuracy(point: LearningPoint) -> float:
    """Better with replays and bits; with depth it depends."""
    plan = point.plan
    if plan.head != "sgd":
        return 0.45
    many = plan.n_replays / 200
    return 0.5 + 0.2 * many - 0.02 * plan.cut * (2 * many - 1) - (0.05 if plan.replay_bits == 4 else 0.0)


def reached(request: Request) -> float:
    lucky = random.Random(f"{request.seed}").gauss(0, 0.02)
    own = random.Random(f"{request.point.key} {request.seed}").gauss(0, 0.005)
    return accuracy(request.point) + lucky + own


class Training:
    """Answers requests, and notes them; ``stop_after`` runs it is interrupted."""

    def __init__(
        self, refuse: Callable[[Request], bool] = lambda request: False, stop_after: int = 10**9,
        backwards: bool = False,
    ) -> None:  # fmt: skip
        self.refuse, self.stop_after, self.backwards = refuse, stop_after, backwards
        self.asked: list[Request] = []
        self.rounds: list[list[tuple[str, int]]] = []

    def __call__(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reached | str]]:
        order = list(enumerate(requests))
        self.rounds.append(sorted((request.point.key, request.seed) for request in requests))
        for position, request in reversed(order) if self.backwards else order:
            if len(self.asked) >= self.stop_after:
                raise KeyboardInterrupt
            self.asked.append(request)
            refused = self.refuse(request)
            yield position, "it cannot be" if refused else Reached(reached(request), {"rate": 0.05})

    @property
    def runs(self) -> list[tuple[str, int]]:
        return [(request.point.key, request.seed) for request in self.asked]

"""The designs of a space by what they learn: one learning key, and every cost at which boards offer it.

Accuracy depends on the key alone. Of the feasible designs of a board that share a key only those can be on a
front that no other one of them beats in the remaining objectives; only their costs are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dse.accuracy import AccuracyEstimate, AccuracySource
from dse.accuracy.base import MEASURED
from dse.accuracy.features import LearningPoint, points_of
from dse.plan.learning_key import LEARNING_CHOICES
from dse.plan.policy import UpdatePolicy
from dse.search.budgets import step_rejection
from dse.search.exact import CHUNK
from dse.search.pareto import Ranges, front_mask
from dse.search.pricing import FEASIBLE, Rows, judged_grid, row_batches
from dse.search.space import Space
from dse.workload import Workload

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Progress = Callable[[int, int], None]

ACCURACY: Final = "accuracy"
MOST_KEPT: Final = 4096
"""Cost vectors of one key that wait before the beaten ones are dropped."""


@dataclass(frozen=True)
class Candidate:
    """One thing to learn, feasible on at least one board.

    ``costs`` has an array (k, m - 1) per board: the objectives but accuracy, minimised, of designs that no
    other design with the same key beats; k = 0 where the board has none.
    """

    point: LearningPoint
    costs: tuple[FloatArray, ...]

    @property
    def key(self) -> str:
        """The learning key."""
        return self.point.key


@dataclass(frozen=True)
class Candidates:
    """All candidates of a space by key, and the range of every cost over the feasible designs per board."""

    entries: tuple[Candidate, ...]
    objectives: tuple[str, ...]
    """The objectives but accuracy."""
    ranges: tuple[Ranges, ...]

    def __len__(self) -> int:
        return len(self.entries)


class _Numbered:
    """Stands in for a source of accuracy: answers with the number of the learning key."""

    name = "learning key"
    depends_on: tuple[str, ...] = LEARNING_CHOICES

    def __init__(self, policies: Mapping[str, UpdatePolicy]) -> None:
        self.policies = policies
        self.points: list[LearningPoint] = []
        self._number: dict[str, int] = {}
        self._made: dict[tuple[Any, ...], LearningPoint] = {}

    def predict(self, workload: Workload, choices: Mapping[str, NDArray[Any]]) -> AccuracyEstimate:
        found, which = points_of(workload, choices, self.policies, self._made)
        numbers = np.array([self._numbered(point) for point in found], dtype=float)[which]
        return AccuracyEstimate(numbers, numbers, numbers, np.full(numbers.shape, MEASURED, dtype=np.int8))

    def domain(self) -> str:
        return "every plan"

    def _numbered(self, point: LearningPoint) -> int:
        if point.key not in self._number:
            self._number[point.key] = len(self.points)
            self.points.append(point)
        return self._number[point.key]


@dataclass
class _Kept:
    """The unbeaten costs of one key on one board."""

    parts: list[FloatArray] = field(default_factory=list)
    waiting: int = 0

    def add(self, values: FloatArray) -> None:
        self.parts.append(values)
        self.waiting += len(values)
        if self.waiting > MOST_KEPT:
            self.parts, self.waiting = [self.front()], 0

    def front(self) -> FloatArray:
        """Return the distinct unbeaten costs, in their order."""
        distinct = np.unique(np.concatenate(self.parts), axis=0)
        return distinct[front_mask(distinct)]


def named_policies(space: Space) -> dict[str, UpdatePolicy]:
    """Return the policies of ``space`` that list units one by one, by name."""
    return {policy.name: policy for policy in space.choices.policies if policy.explicit}


def candidates_of(space: Space, progress: Progress | None = None) -> Candidates:
    """Price every design of ``space`` and return what can be learned on its boards, by key.

    ``progress`` is called with (designs done, designs in all).
    """
    objectives = tuple(name for name in space.objectives if name != ACCURACY)
    source = _Numbered(named_policies(space))
    found: list[dict[int, _Kept]] = []
    ranges = []
    for board in range(len(space.boards)):
        kept, widest = _board(space, board, objectives, source, progress)
        found.append(kept)
        ranges.append(widest)
    none = np.zeros((0, len(objectives)))
    entries = [
        Candidate(point, tuple(kept[number].front() if number in kept else none for kept in found))
        for number, point in enumerate(source.points)
        if any(number in kept for kept in found)
    ]
    return Candidates(tuple(sorted(entries, key=lambda entry: entry.key)), objectives, tuple(ranges))


def _board(
    space: Space, board: int, objectives: tuple[str, ...], source: AccuracySource, progress: Progress | None
) -> tuple[dict[int, _Kept], Ranges]:
    kept: dict[int, _Kept] = {}
    ranges = Ranges.empty(len(objectives))
    for block in space.board_blocks(board):
        for rows in row_batches(block, source):
            for values, numbers in _feasible(space, board, objectives, rows):
                ranges = ranges.widened(list(values.T))
                for number in np.unique(numbers):
                    mine = values[numbers == number]
                    kept.setdefault(int(number), _Kept()).add(mine[front_mask(mine)])
        if progress is not None:
            progress(block.first + block.size, space.size)
    return kept, ranges


def _feasible(space: Space, board: int, objectives: tuple[str, ...], rows: Rows) -> Any:
    """Yield the costs (n, m - 1) and key numbers (n,) of the feasible designs of ``rows``, in chunks."""
    if rows.step is None or rows.accuracy is None:
        return
    budgets = space.board_budgets(board)
    rejected, _ = step_rejection(rows.block.context, budgets, rows.step)
    which = np.flatnonzero(rejected < 0)
    for start in range(0, len(which), CHUNK):
        part = which[start : start + CHUNK]
        for tile in rows.block.tiles(len(part), CHUNK):
            judged = judged_grid(rows, part, tile, objectives, budgets)
            fits = judged.reason == FEASIBLE
            if fits.any():
                numbers = rows.accuracy.grid(part, tile.columns)[fits].astype(np.int64)
                yield np.stack([column[fits] for column in judged.objectives], axis=1), numbers


def decisions(point: LearningPoint) -> dict[str, Any]:
    """Return what tells ``point`` from others: its network by hash, and each of ``LEARNING_CHOICES``.

    A policy goes by its name.
    """
    found = {"network": point.workload.training_hash[:12]}
    found |= {name: getattr(point.plan, name) for name in LEARNING_CHOICES}
    return found | {"policy": UpdatePolicy.parse(point.plan.policy).name}


def choices(candidates: Candidates) -> dict[str, tuple[Any, ...]]:
    """Return the values of every decision among ``candidates``, sorted."""
    rows = [decisions(entry.point) for entry in candidates.entries]
    return {name: tuple(sorted({row[name] for row in rows})) for name in rows[0]} if rows else {}

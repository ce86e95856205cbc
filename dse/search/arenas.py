"""Fronts of designs that can be placed: every point's buffers get offsets, and a point without is none.

A search counts live bytes; an arena can need more, by fragmentation and alignment. The points that a search
reports are therefore placed. Where one does not fit its levels, or a budget on memory, it is withheld and the
search asked again, until every point that is left has been placed: what it dominated comes to the front.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil, inf
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dse.cost.arena.problem import aligned
from dse.cost.certificate import LevelArena, working_arenas
from dse.cost.context import Context
from dse.cost.event import Costs
from dse.cost.memory import label_bytes
from dse.plan.written import ALIGNMENT
from dse.search.blocks import Block
from dse.search.budgets import Budget
from dse.search.pricing import price_designs
from dse.search.result import BoardResult, Front, SearchResult
from dse.search.space import Space
from dse.search.table import plan_at

Progress = Callable[[int, int], None]
Search = Callable[[Space], SearchResult]

ARENA: Final = "ram_arena_bytes"
GAP: Final = "arena_gap"
"""Columns of a front: RAM arenas with samples [B], and how far they lie above the live bytes (a fraction)."""


def certified(space: Space, search: Search, progress: Progress | None = None) -> SearchResult:
    """Return what ``search`` finds in ``space``, with every point of its fronts placed.

    Fronts get the columns ``ram_arena_bytes`` and ``arena_gap``. ``progress`` receives how many points of how
    many are placed.
    """
    maps = _Maps(space)
    nearest = [(inf, "")] * len(space.boards)
    while True:
        found = search(space)
        places = [maps.places(board, front) for board, front in enumerate(r.front for r in found.boards)]
        if progress is not None:
            done = sum(len(result.front) for result in found.boards)
            progress(done, done)
        lost = [span for place in places for span in place.withheld]
        nearest = [min(known, place.nearest) for known, place in zip(nearest, places, strict=True)]
        if not lost:
            boards = tuple(
                _with_arenas(result, place, miss)
                for result, place, miss in zip(found.boards, places, nearest, strict=True)
            )
            return replace(found, boards=boards)
        space = replace(space, withheld=tuple(sorted({*space.withheld, *lost})))


def _with_arenas(result: BoardResult, places: _Places, nearest: tuple[float, str]) -> BoardResult:
    """Add what the placement of each point takes to the columns of its front, and what came nearest."""
    columns = result.front.columns | {ARENA: places.arena_bytes, GAP: places.gap}
    said = f"{ceil(nearest[0]):,} B {nearest[1]}" if nearest[1] else ""
    return replace(result, front=replace(result.front, columns=columns), unplaced=said)


class _Places:
    """What the points of one front take when they are placed; ``withheld`` are those that do not fit."""

    def __init__(self, count: int) -> None:
        self.arena_bytes = np.zeros(count)
        self.gap = np.zeros(count)
        self.withheld: list[tuple[int, int]] = []
        self.nearest = (inf, "")


class _Maps:
    """Placements of training steps, each worked out once; samples stand on top of them."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self._known: dict[int, tuple[LevelArena, ...]] = {}

    def places(self, board: int, front: Front) -> _Places:
        """Place every point of the front of board number ``board``."""
        found = _Places(len(front))
        blocks = {self.space.block_of(int(design)).first: design for design in front.index}
        for design in blocks.values():
            block = self.space.block_of(int(design))
            mine = np.flatnonzero((front.index >= block.first) & (front.index < block.first + block.size))
            self._place(block, board, mine, front.index[mine], found)
        return found

    def _place(
        self, block: Block, board: int, at: NDArray[np.int64], index: NDArray[np.int64], found: _Places
    ) -> None:
        space = self.space
        budgets = space.board_budgets(board)
        designs, _ = price_designs(block, index, space.accuracy, space.objectives, budgets)
        assert designs is not None  # they were priced to come to the front
        for number, (position, design) in enumerate(zip(at.tolist(), index.tolist(), strict=True)):
            start = block.first + (design - block.first) // block.columns * block.columns
            if start not in self._known:
                plan = plan_at(block, design, "").plan.canonical(block.context.workload)
                self._known[start] = working_arenas(block.context, plan)
            step = Stack.of(block.context, self._known[start])
            whole = step.with_samples(designs.judged.costs, number, len(index))
            found.arena_bytes[position], found.gap[position] = whole.ram_bytes, whole.gap
            missing = whole.missing(budgets)
            if missing[0]:
                alone = step.missing(budgets)[0] > 0
                span = (start, start + block.columns) if alone else (design, design + 1)
                found.withheld.append(span)
                found.nearest = min(found.nearest, missing)


@dataclass(frozen=True)
class Stack:
    """Bytes by level name of a placed step, and of the samples on top of it where there are any."""

    context: Context
    arena: dict[str, int]
    live: dict[str, int]

    @classmethod
    def of(cls, context: Context, arenas: tuple[LevelArena, ...]) -> Stack:
        """Return the step alone."""
        empty = {level.name: 0 for level in context.board.levels}
        arena = empty | {one.level: one.arena.size_bytes for one in arenas}
        return cls(context, arena, empty | {one.level: one.live_bytes for one in arenas})

    def with_samples(self, costs: Costs, number: int, count: int) -> Stack:
        """Return the stack with the samples of design ``number`` of ``count`` on top."""
        arena, live, names = dict(self.arena), dict(self.live), list(self.arena)

        def one(values: Any) -> float:
            return float(np.broadcast_to(values, (count,))[number])

        headers = self.context.accounting.replay_headers
        labels = one(costs.cached_samples) * label_bytes(self.context.workload.classes) * headers
        for level, samples in (
            (one(costs.new_sample_level), (one(costs.new_sample_bytes), labels)),
            (one(costs.replay_level), (one(costs.replay_bytes), one(costs.label_bytes) - labels)),
        ):
            for size in map(ceil, samples):
                live[names[int(level)]] += size
                arena[names[int(level)]] += aligned(size, ALIGNMENT)
        return Stack(self.context, arena, live)

    @property
    def ram_bytes(self) -> int:
        """Arenas of all volatile levels together [B]."""
        return sum(self.arena[level.name] for level in self.context.board.levels if level.volatile)

    @property
    def gap(self) -> float:
        """How far the RAM arenas lie above the most live bytes of their levels, as a fraction."""
        live = sum(self.live[level.name] for level in self.context.board.levels if level.volatile)
        return self.ram_bytes / live - 1.0 if live else 0.0

    def missing(self, budgets: tuple[Budget, ...]) -> tuple[float, str]:
        """Return the most bytes [B] that are missing, and where; 0 where levels and budgets hold."""
        names = zip(self.arena, self.context.capacity_bytes.tolist(), strict=True)
        found = [(self.arena[name] - limit, f"in {name}") for name, limit in names]
        for budget in budgets:
            if budget.level:
                found.append((self.arena[budget.level] - budget.limit, f"within {budget.name}"))
            elif budget.column == "ram_peak_bytes":
                found.append((self.ram_bytes - budget.limit, f"within {budget.name}"))
            elif budget.column == "nvm_bytes":
                kept = sum(self.arena.values()) - self.ram_bytes
                found.append((kept - budget.limit, f"within {budget.name}"))
        most = max(found)
        return most if most[0] > 0 else (0.0, "")

"""What comes closest where nothing fits: the design with the least maximum relative excess."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dse.search.budgets import Budget, capacity_budgets, relative_excess
from dse.search.pricing import Designs

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

Candidate = tuple[float, int]
NOBODY: Candidate = (np.inf, -1)


class Nearest:
    """The design of least excess among those of known accuracy, and among all.

    Equal excesses are decided by the lower index, so that the order of arrival does not matter.
    """

    def __init__(self) -> None:
        self.known, self.any = NOBODY, NOBODY

    @property
    def best(self) -> Candidate:
        """Excess and index of the design to name: of known accuracy where there is one; index -1 if none."""
        return self.known if self.known[1] >= 0 else self.any

    def offer(self, excess: FloatArray, index: IntArray, known: BoolArray | None) -> None:
        """Consider designs; arrays of one shape. ``known`` None: accuracy does not matter."""
        self.any = _better(self.any, excess, index)
        self.known = (
            self.any if known is None else _better(self.known, np.where(known, excess, np.inf), index)
        )

    def may_improve(self, least: FloatArray, known: BoolArray | None) -> BoolArray:
        """Return which rows (S,) could still win, given the least excess that a design of theirs can have."""
        possible = np.asarray(least <= self.any[0])
        return possible if known is None else possible | (known & (least <= self.known[0]))


def _better(best: Candidate, excess: FloatArray, index: IntArray) -> Candidate:
    flat = np.ravel(excess)
    lowest = flat.min(initial=np.inf)
    if not np.isfinite(lowest) or lowest > best[0]:
        return best
    winner = int(np.ravel(index)[flat == lowest].min())
    return (float(lowest), winner) if lowest < best[0] or best[1] < 0 or winner < best[1] else best


@dataclass(frozen=True)
class Excess:
    """One budget or level that a design exceeds, with the relative excess."""

    name: str
    limit: float
    value: float
    relative: float
    text: str


@dataclass(frozen=True)
class Relaxation:
    """The design that the smallest relaxation admits, and the budgets that would have to give."""

    index: int
    excess: float
    exceeded: tuple[Excess, ...]
    design: Mapping[str, Any]
    accuracy_known: bool

    @property
    def binding(self) -> Excess:
        """The budget that this design exceeds most."""
        return self.exceeded[0]

    def __str__(self) -> str:
        return "; ".join(excess.text for excess in self.exceeded)


def excesses(designs: Designs, position: int, budgets: tuple[Budget, ...]) -> tuple[Excess, ...]:
    """Return what design ``position`` of ``designs`` exceeds, worst first; levels come as bytes short."""
    found = []
    costs = designs.judged.costs
    for budget in (*capacity_budgets(designs.block.context), *budgets):
        value = float(np.broadcast_to(budget.value(costs), designs.index.shape)[position])
        relative = float(relative_excess(np.asarray(value), budget.limit, floor=budget.floor))
        if relative > 0:
            found.append(Excess(budget.name, budget.limit, value, relative, _text(budget, value, relative)))
    return tuple(sorted(found, key=lambda excess: -excess.relative))


def _text(budget: Budget, value: float, relative: float) -> str:
    if budget.name == f"memory {budget.level}":
        needs, has = budget.text(value), budget.text(budget.limit)
        short = f"short by {value - budget.limit:.0f} B at {budget.level}"
        return f"{short} (needs {needs}, usable {has}, +{relative:.1%})"
    limit = f"{'at least' if budget.floor else 'at most'} {budget.text(budget.limit)}"
    return f"{budget.name}: {budget.text(value)} where {limit} is allowed (+{relative:.1%})"

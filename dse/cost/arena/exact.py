"""The best placement by OR-tools CP-SAT, or a proof that none is as low as asked.

Boxes on a plane: time is fixed, addresses are decided, no two boxes overlap. One worker and a limit in the
solver's own deterministic time give the same map for the same input; a guard in seconds is there for machines
so slow that somebody would wait too long, and a result that it cut short says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from dse.cost.arena.heuristic import Placement, placed
from dse.cost.arena.reduction import Leaf
from dse.errors import Problem, UserError

if TYPE_CHECKING:
    from ortools.sat.python import cp_model

METHOD: Final = "CP-SAT"
EXTRA: Final = "pip install 'tinyml-dse[arena]'"


@dataclass(frozen=True)
class Limits:
    """When the solver gives up: ``deterministic`` counts its own work, ``wall_s`` [s] is the guard, per part.

    A deterministic unit takes about twenty seconds of one core on these models.
    """

    deterministic: float = 0.5
    wall_s: float = 60.0


@dataclass(frozen=True)
class Solved:
    """The best placement known, and the height [B] below which none exists."""

    best: Placement
    least: int


def require_solver() -> Any:
    """Return the solver's module; raise UserError where it is not installed."""
    try:
        from ortools.sat.python import cp_model
    except ImportError:
        raise UserError(Problem("arena", "exact", "OR-tools is not installed", EXTRA)) from None
    return cp_model


def decided(leaf: Leaf, unit: int, start: Placement, least: int, target: int, seed: int, limits: Limits) -> Solved:
    """Look for a placement at most ``target`` [B] high; ``least`` [B] is known to be needed.

    Where there is none, the result's ``least`` is above ``target``.
    """
    model = _Model(leaf, unit, target, start)
    status, offsets, clock = model.solve(seed, limits)
    if offsets:
        return Solved(placed(leaf, offsets, unit, METHOD), least)
    if status == model.cp.INFEASIBLE:
        return Solved(start, max(least, target + 1))
    return Solved(_marked(start, clock), least)


def minimised(leaf: Leaf, unit: int, start: Placement, least: int, seed: int, limits: Limits) -> Solved:
    """Look for the lowest placement below ``start``, of which ``least`` [B] is known to be needed."""
    model = _Model(leaf, unit, start.height - 1, start)
    model.minimise(least)
    status, offsets, clock = model.solve(seed, limits)
    if status == model.cp.INFEASIBLE:
        return Solved(start, start.height)
    best = placed(leaf, offsets, unit, METHOD) if offsets else start
    bound = best.height if status == model.cp.OPTIMAL else least
    return Solved(best if status == model.cp.OPTIMAL else _marked(best, clock), max(least, bound))


def _marked(placement: Placement, clock: bool) -> Placement:
    """Say in the method that another run may find something else."""
    note = f"{METHOD} stopped by the clock" if clock else f"{METHOD} gave up"
    return Placement(placement.offsets, placement.height, f"{placement.method} ({note})")


class _Model:
    """Placements of ``leaf`` that are at most ``height`` [B] high."""

    def __init__(self, leaf: Leaf, unit: int, height: int, hint: Placement) -> None:
        self.cp = require_solver()
        self.model: cp_model.CpModel = self.cp.CpModel()
        self.leaf, self.unit, self.height = leaf, unit, height
        self.possible = all(self._highest(place) >= 0 for place in range(len(leaf.items)))
        if self.possible:
            self._build(hint)

    def _highest(self, place: int) -> int:
        """Return the last offset [multiples of the item's alignment] within the height; below 0: none."""
        item = self.leaf.items[place]
        room = (self.height + item.padding_bytes) // self.unit - item.size
        return room // item.alignment

    def _build(self, hint: Placement) -> None:
        model, items = self.model, self.leaf.items
        self.multiples = [model.new_int_var(0, self._highest(place), "") for place in range(len(items))]
        self.offsets = [item.alignment * at for item, at in zip(items, self.multiples, strict=True)]
        fixed = model.new_fixed_size_interval_var
        lives = [fixed(item.first, item.last - item.first + 1, "") for item in items]
        bytes_ = [fixed(offset, item.size, "") for offset, item in zip(self.offsets, items, strict=True)]
        model.add_no_overlap_2d(lives, bytes_)
        model.add_decision_strategy(
            [self.multiples[place] for place in self._largest_first()],
            self.cp.CHOOSE_LOWEST_MIN,
            self.cp.SELECT_MIN_VALUE,
        )
        for at, item, offset in zip(self.multiples, items, hint.offsets, strict=True):
            model.add_hint(at, offset // item.alignment)

    def _largest_first(self) -> Iterator[int]:
        """Places by bytes times lifetime: the strategy fills from the bottom, ties are broken in this order.

        Of the orders and default strategies tried, only this one solved MiniMalloc's public instances A and D.
        """
        items = self.leaf.items
        area = [(item.last - item.first + 1) * item.size for item in items]
        yield from sorted(range(len(items)), key=lambda place: -area[place])

    def minimise(self, least: int) -> None:
        """Ask for the lowest placement, whose height is at least ``least`` [B]."""
        if not self.possible:
            return
        top = self.model.new_int_var(least, max(self.height, least), "height")
        for item, offset in zip(self.leaf.items, self.offsets, strict=True):
            self.model.add(top >= offset * self.unit + item.size * self.unit - item.padding_bytes)
        self.model.minimize(top)

    def solve(self, seed: int, limits: Limits) -> tuple[Any, list[int], bool]:
        """Return the status, the offsets [units] where there are any, and whether the guard ended it."""
        if not self.possible:
            return self.cp.INFEASIBLE, [], False
        solver = self.cp.CpSolver()
        solver.parameters.num_workers = 1
        solver.parameters.random_seed = seed
        solver.parameters.max_deterministic_time = limits.deterministic
        solver.parameters.max_time_in_seconds = limits.wall_s
        status = solver.solve(self.model)
        clock = solver.response_proto.deterministic_time < limits.deterministic
        if status not in (self.cp.OPTIMAL, self.cp.FEASIBLE):
            return status, [], clock and status != self.cp.INFEASIBLE
        values = [solver.value(at) for at in self.multiples]
        offsets = [item.alignment * value for item, value in zip(self.leaf.items, values, strict=True)]
        return status, offsets, clock and status != self.cp.OPTIMAL

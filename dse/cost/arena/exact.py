"""The best placement by OR-tools CP-SAT, or a proof that none is as low as asked.

Boxes on a plane: time is fixed, addresses are decided, no two boxes overlap, and everything ends below a
given height. The lowest height comes from such decisions: first at the bound, then between the last failure
and the best placement. That works better than minimising the height (whose loose bound lets nothing be
inferred), and a hint from the heuristic's placement, which is infeasible at every height asked for, leads
the solver astray: with it neither of MiniMalloc's instances A and D is solved, without it both are.

One worker and a limit in the solver's own deterministic time give the same map for the same input. A guard in
seconds is there for machines so slow that somebody would wait too long; a result that it touched says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from dse.cost.arena.heuristic import Placement, placed
from dse.cost.arena.reduction import Leaf
from dse.errors import Problem, UserError

if TYPE_CHECKING:
    from ortools.sat.python import cp_model

METHOD: Final = "CP-SAT"
EXTRA: Final = "pip install 'tinyml-dse[arena]'"


@dataclass(frozen=True)
class Limits:
    """When the solver gives up on a part: ``deterministic`` counts its own work, ``wall_s`` [s] is the guard.

    On these models a deterministic unit takes ten to thirty seconds of one core.
    """

    deterministic: float = 0.5
    wall_s: float = 60.0


@dataclass(frozen=True)
class Solved:
    """The best placement known, the height [B] below which none exists; did the guard end a search?"""

    best: Placement
    least: int
    cut_short: bool = False


class _Answer(NamedTuple):
    """Offsets [units] where there are any, or whether there are none for sure; the work that it took."""

    offsets: tuple[int, ...]
    infeasible: bool
    deterministic: float
    wall_s: float
    cut_short: bool


def require_solver() -> Any:
    """Return the solver's module; raise UserError where it is not installed."""
    try:
        from ortools.sat.python import cp_model
    except ImportError:
        raise UserError(Problem("arena", "exact", "OR-tools is not installed", EXTRA)) from None
    return cp_model


def decided(leaf: Leaf, unit: int, known: Solved, target: int, seed: int, limits: Limits) -> Solved:
    """Look for a placement at most ``target`` [B] high, which the best ``known`` one is not.

    Where none exists, the result's ``least`` is above ``target``.
    """
    return _concluded(leaf, unit, known, target, _solve(leaf, unit, target, seed, limits))


def lowered(leaf: Leaf, unit: int, known: Solved, target: int, seed: int, limits: Limits) -> Solved:
    """Look for the lowest placement above ``target`` [B], below which nothing more is to be gained.

    Each question may take half of what is left of ``limits``; heights closer than a thousandth are one.
    """
    failed = max(known.least, target) - 1
    ask = failed + 1
    while ask < known.best.height and limits.deterministic > 0 and limits.wall_s > 0:
        half = Limits(limits.deterministic / 2, limits.wall_s / 2)
        answer = _solve(leaf, unit, ask, seed, half)
        limits = Limits(limits.deterministic - answer.deterministic, limits.wall_s - answer.wall_s)
        known = _concluded(leaf, unit, known, ask, answer)
        if not answer.offsets:
            failed = ask
        unsure = failed >= known.least
        if known.best.height - failed <= (max(unit, known.best.height // 1000) if unsure else 1):
            break
        ask = (failed + known.best.height) // 2
    return known


def _concluded(leaf: Leaf, unit: int, known: Solved, target: int, answer: _Answer) -> Solved:
    """Return what is known after ``answer`` to whether ``target`` [B] can be kept."""
    cut_short = known.cut_short or answer.cut_short
    if answer.offsets:
        return Solved(placed(leaf, answer.offsets, unit, METHOD), known.least, cut_short)
    least = max(known.least, target + 1) if answer.infeasible else known.least
    return Solved(known.best, least, cut_short)


def _solve(leaf: Leaf, unit: int, height: int, seed: int, limits: Limits) -> _Answer:
    """Ask for a placement of ``leaf`` that is at most ``height`` [B] high."""
    cp = require_solver()
    rooms = [((height + item.padding_bytes) // unit - item.size) // item.alignment for item in leaf.items]
    if min(rooms) < 0:
        return _Answer((), True, 0.0, 0.0, False)
    model, multiples = _model(cp, leaf, rooms)
    solver = cp.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = seed
    solver.parameters.max_deterministic_time = limits.deterministic
    solver.parameters.max_time_in_seconds = limits.wall_s
    status = solver.solve(model)
    work, found = solver.response_proto.deterministic_time, status in (cp.OPTIMAL, cp.FEASIBLE)
    values = [solver.value(at) for at in multiples] if found else []
    offsets = tuple(item.alignment * value for item, value in zip(leaf.items, values, strict=False))
    infeasible = status == cp.INFEASIBLE
    cut_short = not found and not infeasible and work < limits.deterministic
    return _Answer(offsets, infeasible, work, solver.wall_time, cut_short)


def _model(cp: Any, leaf: Leaf, rooms: list[int]) -> tuple[cp_model.CpModel, list[cp_model.IntVar]]:
    """Return the model and its variables: offsets as multiples of alignments, each up to its ``rooms``.

    The strategy fills from the bottom, and breaks ties by bytes times lifetime. Of the orders and strategies
    that were tried, the solver's own included, only this one solved MiniMalloc's instances A and D.
    """
    model: cp_model.CpModel = cp.CpModel()
    multiples = [model.new_int_var(0, room, "") for room in rooms]
    fixed = model.new_fixed_size_interval_var
    lives = [fixed(item.first, item.last - item.first + 1, "") for item in leaf.items]
    bytes_ = [
        fixed(item.alignment * at, item.size, "") for at, item in zip(multiples, leaf.items, strict=True)
    ]
    model.add_no_overlap_2d(lives, bytes_)
    area = [(item.last - item.first + 1) * item.size for item in leaf.items]
    order = sorted(range(len(area)), key=lambda place: -area[place])
    model.add_decision_strategy(
        [multiples[place] for place in order], cp.CHOOSE_LOWEST_MIN, cp.SELECT_MIN_VALUE
    )
    return model, multiples

"""``place``: the reduced problem solved part by part, checked, and held against a capacity."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from dse.cost.arena import check
from dse.cost.arena.capacity import ArenaTooSmall
from dse.cost.arena.exact import Limits, Solved, decided, lowered, require_solver
from dse.cost.arena.heuristic import EFFORT, Placement, constructed, searched
from dse.cost.arena.problem import LARGEST, Arena, ArenaBuffer, lower_bound, require_placeable
from dse.cost.arena.reduction import Leaf, reduced
from dse.errors import Problem, UserError

STACKED: Final = "stacked"
"""Method where every buffer could be placed without a choice."""

CUT_SHORT: Final = " (the solver was cut short by the clock: another run may find something else)"

DEFAULT_LIMITS: Final = Limits()


class PlacementInvalid(RuntimeError):
    """A placement that the independent checker refuses: a mistake in an allocator, never in the input."""


def place(
    buffers: Sequence[ArenaBuffer],
    *,
    capacity_bytes: int | None = None,
    exact: bool = False,
    seed: int = 0,
    effort: int = EFFORT,
    limits: Limits = DEFAULT_LIMITS,
) -> Arena:
    """Return offsets for ``buffers`` in as small an arena as can be found; the same input gives the same map.

    Parameters
    ----------
    buffers: with unique ids, in any order.
    capacity_bytes: the arena may not be larger [B]. With ``exact`` the solver then only decides whether
        there is a placement within it, and only where the heuristic finds none.
    exact: let CP-SAT (extra ``arena``) improve what the heuristic leaves above the bound, or prove it best.
    seed: of the search over rankings and of the solver, 0 to 2**31 - 1.
    effort: items that the heuristic's search places, at most.
    limits: of the solver, for each part and question.

    Raises UserError for repeated ids and wrong parameters, ArenaTooSmall where nothing within the capacity is
    found, PlacementInvalid where the independent checker disagrees with the result.

    """
    require_placeable(buffers)
    _require_parameters(capacity_bytes, seed, effort)
    parts = _Parts(buffers)
    parts.construct(seed, effort)
    if exact:
        require_solver()
        parts.solve(capacity_bytes, seed, limits)
    arena = parts.arena()
    _require_valid(arena)
    if capacity_bytes is not None and arena.size_bytes > capacity_bytes:
        raise ArenaTooSmall(arena, capacity_bytes, parts.least_bytes)
    return arena


class _Parts:
    """A problem's independent parts, each with its best placement and what it is known to need."""

    def __init__(self, buffers: Sequence[ArenaBuffer]) -> None:
        self.buffers = tuple(buffers)
        self.tree = reduced(buffers)
        self.bound = lower_bound(buffers)
        self.least = {leaf: self._lower_bound(leaf) for leaf in self.tree.leaves}
        self.best: dict[Leaf, Placement] = {}
        self.cut_short = False

    def _lower_bound(self, leaf: Leaf) -> int:
        return lower_bound([self.buffers[item.buffer] for item in leaf.items])

    @property
    def least_bytes(self) -> int:
        """Bytes [B] below which no arena exists, as far as is known."""
        return max(self.bound, self.tree.arena_bytes(self.least))

    @property
    def size_bytes(self) -> int:
        """Bytes [B] of the arena with the best placements so far."""
        return self.tree.arena_bytes({leaf: placement.height for leaf, placement in self.best.items()})

    def construct(self, seed: int, effort: int) -> None:
        """Place every part by the heuristic; the effort goes to those that stand in the way of the bound."""
        for leaf in self.tree.leaves:
            self.best[leaf] = constructed(leaf, self.tree.unit_bytes, self.least[leaf])
        high = self._above(self.least_bytes)
        for leaf in high:
            target = self._room(leaf, self.least_bytes)
            self.best[leaf] = searched(
                leaf,
                self.tree.unit_bytes,
                self.best[leaf],
                target,
                seed=seed,
                items_placed=effort // len(high),
            )

    def solve(self, capacity: int | None, seed: int, limits: Limits) -> None:
        """Let the solver improve the parts above the goal, the highest first.

        With a capacity it is enough to decide whether a part stays within it; without, each is to be as low
        as the least arena allows, and what a part is proven to need raises that for the parts that follow.
        """
        unit = self.tree.unit_bytes
        for leaf in self._above(self.least_bytes if capacity is None else capacity):
            known = Solved(self.best[leaf], self.least[leaf])
            target = self._room(leaf, self.least_bytes if capacity is None else capacity)
            if known.best.height <= target or (capacity is not None and target < known.least):
                continue  # a part before it raised the bound, or the capacity is known to be too small
            solve = lowered if capacity is None else decided
            known = solve(leaf, unit, known, target, seed, limits)
            self.best[leaf], self.least[leaf] = known.best, known.least
            self.cut_short |= known.cut_short

    def _alone(self, leaf: Leaf, height: int) -> int:
        """Return the arena [B] that ``leaf`` needs at ``height`` [B], whatever the other parts take."""
        return self.tree.arena_bytes({**dict.fromkeys(self.tree.leaves, 0), leaf: height})

    def _above(self, goal: int) -> list[Leaf]:
        """Return the parts that make the arena larger than ``goal`` [B], the highest first."""
        needs = {leaf: self._alone(leaf, self.best[leaf].height) for leaf in self.tree.leaves}
        return sorted((leaf for leaf in needs if needs[leaf] > goal), key=lambda leaf: -needs[leaf])

    def _room(self, leaf: Leaf, goal: int) -> int:
        """Return the largest height [B] of ``leaf`` with which the arena stays within ``goal`` [B]."""
        heights = range(goal + 1)
        return bisect_right(heights, goal, key=lambda height: self._alone(leaf, height)) - 1

    def arena(self) -> Arena:
        """Return the arena that the best placements make."""
        heights = {leaf: placement.height for leaf, placement in self.best.items()}
        found = self.tree.offsets(heights, {leaf: one.offsets for leaf, one in self.best.items()})
        offsets = {buffer.id: found[index] for index, buffer in enumerate(self.buffers)}
        size = max((offsets[one.id] + one.size_bytes for one in self.buffers), default=0)
        highest = max(self.best, key=lambda leaf: self._alone(leaf, heights[leaf]), default=None)
        method = STACKED if highest is None else self.best[highest].method
        method += CUT_SHORT if self.cut_short else ""
        return Arena(self.buffers, offsets, size, self.bound, method, proven=size <= self.least_bytes)


def _require_parameters(capacity: int | None, seed: int, effort: int) -> None:
    problems = [
        Problem("arena", key, str(value), allowed)
        for key, value, good, allowed in (
            (
                "capacity_bytes",
                capacity,
                capacity is None or 1 <= capacity <= LARGEST,
                f"1 to {LARGEST} bytes",
            ),
            ("seed", seed, 0 <= seed < 2**31, "an integer from 0 to 2147483647"),
            ("effort", effort, 0 <= effort <= 10**9, "an integer from 0 to 1000000000"),
        )
        if not good
    ]
    if problems:
        raise UserError(problems)


def _require_valid(arena: Arena) -> None:
    """Ask the independent checker; raise PlacementInvalid where it finds anything."""
    found = check.violations(_rows(arena.buffers, arena.offsets), arena.size_bytes)
    if found:
        raise PlacementInvalid("; ".join(str(one) for one in found[:5]))


@dataclass(frozen=True)
class CheckedArena:
    """Offsets that somebody gave, and everything that the independent checker finds wrong with them."""

    arena: Arena
    violations: tuple[check.Violation, ...]


def checked(
    buffers: Sequence[ArenaBuffer], offsets: Mapping[str, int], *, capacity_bytes: int | None = None
) -> CheckedArena:
    """Return what is wrong with ``offsets`` [B] in ``capacity_bytes``, or in an arena as large as they reach.

    Raises UserError for repeated ids and a wrong capacity.
    """
    require_placeable(buffers)
    _require_parameters(capacity_bytes, 0, 0)
    reach = max((offsets[one.id] + one.size_bytes for one in buffers), default=0)
    found = check.violations(_rows(buffers, offsets), reach if capacity_bytes is None else capacity_bytes)
    bound = lower_bound(buffers)
    proven = not found and reach <= bound
    return CheckedArena(Arena(tuple(buffers), dict(offsets), reach, bound, "as given", proven), found)


def _rows(buffers: Sequence[ArenaBuffer], offsets: Mapping[str, int]) -> list[check.Row]:
    return [(one.id, one.start, one.end, one.size_bytes, one.alignment, offsets[one.id]) for one in buffers]

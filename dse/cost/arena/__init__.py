"""Offsets for buffers with lifespans in one arena: heuristic, exact solver, bound, checker, CSV."""

from dse.cost.arena.capacity import ArenaTooSmall
from dse.cost.arena.check import Violation, violations
from dse.cost.arena.exact import Limits
from dse.cost.arena.placement import PlacementInvalid, place
from dse.cost.arena.problem import Arena, ArenaBuffer, live_bytes, lower_bound

__all__ = [
    "Arena",
    "ArenaBuffer",
    "ArenaTooSmall",
    "Limits",
    "PlacementInvalid",
    "Violation",
    "live_bytes",
    "lower_bound",
    "place",
    "violations",
]

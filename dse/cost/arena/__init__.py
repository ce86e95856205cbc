"""Offsets for buffers with lifespans in one arena: heuristic, exact solver, bound, checker, CSV."""

from dse.cost.arena.capacity import ArenaTooSmall
from dse.cost.arena.check import Violation, violations
from dse.cost.arena.csv_file import BufferTable, csv_text, read_buffers
from dse.cost.arena.exact import Limits
from dse.cost.arena.placement import CheckedArena, PlacementInvalid, checked, place
from dse.cost.arena.problem import Arena, ArenaBuffer, fullest, live_bytes, lower_bound

__all__ = [
    "Arena",
    "ArenaBuffer",
    "ArenaTooSmall",
    "BufferTable",
    "CheckedArena",
    "Limits",
    "PlacementInvalid",
    "Violation",
    "checked",
    "csv_text",
    "fullest",
    "live_bytes",
    "lower_bound",
    "place",
    "read_buffers",
    "violations",
]

"""Arenas of the zoo: plans of every network, how far each is above its bound, and how long placing takes."""

from __future__ import annotations

from typing import Any, Final

from benchmarks.figures import Figure, timed
from dse.api import context_of
from dse.api.context import decided
from dse.cost.arena import Arena, ArenaBuffer, place
from dse.cost.model import describe
from dse.plan.decisions import PlanBatch
from dse.plan.written import step_schedule
from dse.workload import list_networks

BOARD: Final = "stm32h743"
ALMOST_ALL: Final = {"cut": 0}
PLANS: Final[tuple[dict[str, Any], ...]] = (
    {},
    ALMOST_ALL,
    ALMOST_ALL | {"learning_dtype": "int8", "update": "in_place", "batch": [1, 0], "replay": "none"},
    ALMOST_ALL | {"policy": "bias"},
    ALMOST_ALL | {"micro_batch": 4, "optimiser": "adam"},
    ALMOST_ALL | {"checkpoints": "every 4"},
    ALMOST_ALL | {"saved_bits": 4, "micro_batch": 2},
)
"""The classifier alone, then everything above the first unit in six ways."""


def zoo() -> list[Figure]:
    """Place seven plans of each network; what the heuristic does not prove goes to the solver."""
    place(_buffers("ds-cnn", PLANS[0]))  # warm
    figures = []
    for network in list_networks():
        found = [placed(network, plan) for plan in PLANS]
        proven = sum(arena.proven for arena, _ in found)
        note = f"{len(found)} plans, {proven} at the bound; buffers: {max(_sizes(found))} at most"
        worst = max(arena.gap for arena, _ in found)
        slowest = max(seconds for _, seconds in found)
        figures.append(Figure(f"{network}, worst above the bound", 100 * worst, "%", "<=", 1.0, note))
        figures.append(Figure("  slowest", slowest, "s", "<=", 1.0))
        for plan, (arena, _) in zip(PLANS, found, strict=True):
            figures += [] if arena.proven else _solved(network, plan)
    return figures


def _sizes(found: list[tuple[Arena, float]]) -> list[int]:
    return [len(arena.offsets) for arena, _ in found]


def placed(network: str, plan: dict[str, Any], *, exact: bool = False) -> tuple[Arena, float]:
    """Place every buffer of a plan in one arena; return it, and the seconds of processor time."""
    buffers = _buffers(network, plan)
    with timed() as clock:
        arena = place(buffers, exact=exact)
    return arena, clock.cpu_s


def _solved(network: str, plan: dict[str, Any]) -> list[Figure]:
    arena, seconds = placed(network, plan, exact=True)
    words = ", ".join(f"{name} = {value}" for name, value in plan.items())
    return [
        Figure(f"  {words}, solver", 100 * arena.gap, "%", "<=", 1.0, arena.method),
        Figure("  solver", seconds, "s", note="proven" if arena.proven else "not proven"),
    ]


def _buffers(network: str, decisions: dict[str, Any]) -> list[ArenaBuffer]:
    """Return every buffer of a plan's step, as if all lay in one memory."""
    context = context_of(network, BOARD)
    plan = decided(context, None, decisions).plan
    step, _ = describe(context, PlanBatch.from_plans(context.workload, [plan]))
    buffers = step_schedule(step, plan).buffers
    return [ArenaBuffer(one.id, one.start, one.end, one.size_bytes, one.alignment) for one in buffers]

"""Memory maps of plans: how far above the bound, in which time; and what executing inside an arena costs.

Ten networks, up to nine plans each, on a board whose kernels state their workspaces. The heuristic places all
of them; the solver gets those that are left above the bound, and lowers them or proves that nothing is lower.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.figures import Figure, timed
from dse.cost.certificate import Certified, certify
from dse.cost.context import Context
from dse.execution.memory import Arena, Memory, Separate
from dse.execution.trial import Step, prepared_step
from dse.hardware import load_board
from dse.plan.decisions import TrainingPlan
from dse.plan.memory_map import MemoryMap
from dse.plan.operations import StepSchedule
from dse.plan.techniques import plan_problems
from dse.workload import Workload, list_networks, load_network

BOARD = "vega + hyperram-64"
GAP = 1.0
"""Per cent above the bound that counts as reached without a proof."""
FEWEST = 5
RUNS = 3

EXECUTED = ("har-cnn-1d", "ds-cnn", "resnet8")
"""Networks whose steps take a moment."""


@dataclass(frozen=True)
class Placement:
    """One plan: gap [%] of its worst level, and CPU seconds of heuristic and solver (0 where not asked)."""

    network: str
    plan: str
    gap: float
    proven: bool
    heuristic_s: float
    exact_s: float

    @property
    def reached(self) -> bool:
        """Within the gap, or proven to be the smallest."""
        return self.gap <= GAP or self.proven


def plans_of(workload: Workload) -> Iterator[tuple[str, TrainingPlan]]:
    """Yield plans of all kinds by name, those that ``workload`` allows."""
    cuts = workload.legal_cuts
    low, middle, high = cuts[len(cuts) // 4], cuts[len(cuts) // 2], cuts[3 * len(cuts) // 4]
    unit = next((place for place in cuts if place >= len(workload.units) // 6), cuts[0])
    whole = {"bn_mode": "batch_stats", "micro_batch": 128}
    every: dict[str, dict[str, Any]] = {
        "all of it": {"cut": -1, "replay": "raw"},
        "low cut": {"cut": low, "optimiser": "momentum"},
        "middle cut, micro-batches": {"cut": middle, "micro_batch": 16, "replay_bits": 7},
        "high cut, batch statistics": {"cut": high, **whole},
        "int8": {"cut": low, "learning_dtype": "int8", "micro_batch": 8, "backward_dtype": "int8"},
        "recompute": {"cut": -1, "replay": "raw", "checkpoints": "every 3", "micro_batch": 4},
        "saved bits": {"cut": low, "saved_bits": 4, "micro_batch": 8, "optimiser": "adam"},
        "patches": {"cut": middle, "patches": f"2x2 to {unit}", "in_place": "elementwise"},
        "last units": {"cut": low, "policy": "last-3", "update": "in_place", "micro_batch": 128},
    }
    for name, decisions in every.items():
        plan = TrainingPlan(**decisions).canonical(workload)
        if not plan_problems(workload, plan, "plan"):
            yield name, plan


def placements(network: str) -> list[Placement]:
    """Place the plans of one network; the solver only where the heuristic stays above the bound."""
    context = Context(load_network(network), load_board(BOARD))
    found = [_placement(context, network, name, plan) for name, plan in plans_of(context.workload)]
    if len(found) < FEWEST:
        raise AssertionError(f"{network}: {len(found)} plans, and at least {FEWEST} are compared")
    return found


def _placement(context: Context, network: str, name: str, plan: TrainingPlan) -> Placement:
    with timed() as quick:
        found = certify(context, plan)
    slow_s = 0.0
    if _gap(found) > 0:
        with timed() as slow:
            found = certify(context, plan, exact=True)
        slow_s = slow.cpu_s
    proven = all(level.arena.proven for level in found.levels)
    return Placement(network, name, _gap(found), proven, quick.cpu_s, slow_s)


def _gap(found: Certified) -> float:
    return 100 * max(level.arena.gap for level in found.levels)


def zoo() -> list[Figure]:
    """Gap and seconds of the worst plan of every network."""
    figures = []
    for network in list_networks():
        rows = placements(network)
        worst = max(rows, key=lambda row: row.gap)
        proven = sum(row.proven for row in rows)
        note = f"{worst.plan}; {len(rows)} plans, {proven} proven smallest"
        target = GAP if not worst.proven else max(GAP, worst.gap)
        figures += [
            Figure(f"{network}: arena above the bound", worst.gap, "%", "<=", target, note),
            Figure("  heuristic", max(row.heuristic_s for row in rows), "s", "<=", 1.0),
            Figure("  solver", max(row.exact_s for row in rows), "s", "<=", 10.0, _solved(rows)),
        ]
    return figures


def _solved(rows: list[Placement]) -> str:
    return f"asked for {sum(row.exact_s > 0 for row in rows)} of {len(rows)}"


# --- executing ---


def execution() -> list[Figure]:
    """Steps inside the arenas, and with every buffer in an array of its own."""
    figures = []
    for network in EXECUTED:
        context = Context(load_network(network), load_board(BOARD))
        plan = TrainingPlan(cut=context.workload.legal_cuts[1], new_per_batch=2, replays_per_batch=6)
        found = certify(context, plan).map
        step = prepared_step(found.schedule, 0)
        inside = _seconds(step, found.schedule, found)
        outside = _seconds(step, found.schedule, None)
        figures.append(
            Figure(f"{network}: a step inside over outside", inside / outside, "x", note=f"{inside:.2f} s")
        )
    return figures


def _seconds(step: Step, schedule: StepSchedule, memory_map: MemoryMap | None) -> float:
    """CPU seconds of one execution, the fastest of some."""
    found = []
    for _ in range(RUNS):
        with timed() as clock:
            memory: Memory = Separate(schedule) if memory_map is None else Arena(memory_map)
            step.run(schedule, memory)
        found.append(clock.cpu_s)
    return min(found)

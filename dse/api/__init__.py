"""What Python users import, through ``dse`` itself: load, estimate, explain, explore, sweep, draw, validate.

Every result has ``.to_frame()``. Networks and boards are given by name, by path, or loaded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dse.accuracy import SOURCES, AccuracyEstimate, accuracy_source
from dse.api.arena import check_offsets, place_buffers
from dse.api.boards import write_new_board
from dse.api.calibration import calibrate_board
from dse.api.certificate import certify, certify_point
from dse.api.checkpoints import segments
from dse.api.comparison import compare_boards
from dse.api.context import context_of, decided
from dse.api.contributions import contribute
from dse.api.drawing import draw
from dse.api.explorations import Sweep, explore, list_explorations, load_space, sweep, write_run
from dse.api.models import import_model, save_network
from dse.api.selection import select_scheme
from dse.api.studies import list_studies, load_study, read_runs, study, train
from dse.api.validation import validate
from dse.cost import explain as breakdown
from dse.cost.accounting import PRESETS
from dse.cost.arena import ArenaBuffer
from dse.cost.context import Context, Duty
from dse.cost.event import Costs
from dse.cost.explain import Explanation
from dse.cost.intervals import price_intervals
from dse.cost.memory import mcunetv3_extra_bytes
from dse.cost.model import describe, price
from dse.hardware import HardwareProfile, list_boards, list_parts, load_board
from dse.plan.decisions import PlanBatch, TrainingPlan
from dse.plan.policy import UpdatePolicy
from dse.report.certificate import write_certificate
from dse.report.estimate import Estimate
from dse.search import SearchResult, Space
from dse.validation.comparison import Validation
from dse.workload import Workload, list_networks, load_network


def estimate(
    network: str | Path | Workload,
    board: str | Path | HardwareProfile,
    plan: TrainingPlan | str | Path | None = None,
    *,
    duty: Duty | None = None,
    preset: str = "default",
    accuracy: str = next(iter(SOURCES)),
    intervals: bool = True,
    accept: Iterable[str] | Mapping[str, Any] = (),
    **decisions: Any,
) -> Estimate:
    """Price one plan.

    Parameters
    ----------
    network, board, duty, preset, accept: as in ``context_of``.
    plan: a ``TrainingPlan`` or the path of a plan file; without one, and without a cut or a policy of units
        among the decisions, only the last unit learns.
    accuracy: name of a source of accuracy, or "none".
    intervals: carry low and high of uncertain numbers to the results (takes seconds).
    decisions: single decisions over those of ``plan``, in the words of a space file:
        ``cut=19, replay_bits=7, batch=(21, 107), micro_batch="batch", operating_point="375MHz"``.

    Raises UserError with every problem, IllegalPlan, Unpriced where the board lacks a figure.

    """
    context = context_of(network, board, duty=duty, preset=preset, accept=accept)
    chosen = decided(context, plan, decisions)
    plans = PlanBatch.from_plans(context.workload, [chosen.plan])
    event = {"operating_point": chosen.operating_point, "sleep_state": chosen.sleep_state}
    costs = price(context, plans, **event)
    return Estimate(
        context=context,
        plan=chosen.plan,
        operating_point=context.board.operating_points[chosen.operating_point].name,
        costs=costs,
        accuracy=None if accuracy == "none" else predicted(context.workload, plans, accuracy),
        accuracy_source=accuracy,
        intervals=price_intervals(context, plans, **event) if intervals else None,
        points=at_every_point(context, plans, chosen.sleep_state),
        extra_bytes=extra_memory(context, chosen.plan, plans),
    )


def at_every_point(context: Context, plans: PlanBatch, sleep_state: int) -> tuple[tuple[str, Costs], ...]:
    """Price ``plans`` at each operating point of the board."""
    return tuple(
        (point.name, price(context, plans, operating_point=code, sleep_state=sleep_state))
        for code, point in enumerate(context.board.operating_points)
    )


def extra_memory(context: Context, plan: TrainingPlan, plans: PlanBatch) -> float | None:
    """Return the memory by which arXiv 2206.15472 names ``plan`` [B]; None where it has no such name."""
    if not breakdown.has_a_name(context, plan):
        return None
    return float(mcunetv3_extra_bytes(describe(context, plans)[0])[0])


def predicted(workload: Workload, plans: PlanBatch, source: str) -> AccuracyEstimate:
    """Return what a source of accuracy says about ``plans``: arrays (P,)."""
    model = accuracy_source(source)
    choices: dict[str, Any] = {
        name: np.asarray(plans.policy_names) if name == "policy" else plans.column(name)
        for name in model.depends_on
    }
    return model.predict(workload, choices)


def explain(
    network: str | Path | Workload,
    board: str | Path | HardwareProfile,
    plan: TrainingPlan | str | Path | None = None,
    *,
    duty: Duty | None = None,
    preset: str = "default",
    accept: Iterable[str] | Mapping[str, Any] = (),
    **decisions: Any,
) -> Explanation:
    """Take one plan apart: seconds, joules and bytes per unit and pass, and the buffers of its peak.

    Arguments and errors are those of ``estimate``.
    """
    context = context_of(network, board, duty=duty, preset=preset, accept=accept)
    chosen = decided(context, plan, decisions)
    return breakdown.explain(context, chosen.plan, chosen.operating_point, chosen.sleep_state)


__all__ = [
    "PRESETS",
    "ArenaBuffer",
    "Context",
    "Duty",
    "Estimate",
    "Explanation",
    "SearchResult",
    "Space",
    "Sweep",
    "TrainingPlan",
    "UpdatePolicy",
    "Validation",
    "calibrate_board",
    "certify",
    "certify_point",
    "check_offsets",
    "compare_boards",
    "context_of",
    "contribute",
    "draw",
    "estimate",
    "explain",
    "explore",
    "import_model",
    "list_boards",
    "list_explorations",
    "list_networks",
    "list_parts",
    "list_studies",
    "load_board",
    "load_network",
    "load_space",
    "load_study",
    "place_buffers",
    "predicted",
    "read_runs",
    "save_network",
    "segments",
    "select_scheme",
    "study",
    "sweep",
    "train",
    "validate",
    "write_certificate",
    "write_new_board",
    "write_run",
]

"""Techniques: each is a legality check, a pure edit of the step, and the choices that it offers a search.

To add one, write a module with a ``Technique`` and list it here; order matters only where an edit reads
what an earlier one wrote (what learns and in which widths before heads).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from dse.errors import Problem
from dse.plan.decisions import BoolArray, PlanBatch, TrainingPlan
from dse.plan.spec import StepSpec, base_spec
from dse.plan.techniques import (
    heads,
    int8_training,
    lifespans,
    micro_batches,
    replay,
    sparse_update,
    update_order,
)
from dse.workload import Workload


@dataclass(frozen=True)
class Technique:
    """One technique: ``illegal`` names what cannot be executed, ``edit`` changes the step."""

    name: str
    illegal: Callable[[Workload, PlanBatch], dict[str, BoolArray]]
    edit: Callable[[StepSpec, Workload, PlanBatch], StepSpec]
    choices: tuple[str, ...]


TECHNIQUES: Final = tuple(
    Technique(name, module.illegal, module.edit, module.CHOICES)
    for name, module in (
        ("sparse update", sparse_update),
        ("latent replay", replay),
        ("micro-batches", micro_batches),
        ("update order", update_order),
        ("int8 training", int8_training),
        ("heads", heads),
        ("lifespans", lifespans),
    )
)


def illegal(workload: Workload, plans: PlanBatch) -> dict[str, BoolArray]:
    """Return reason -> mask (P,) of the plans that no device can execute as written."""
    reasons: dict[str, BoolArray] = {}
    for technique in TECHNIQUES:
        reasons |= {reason: mask for reason, mask in technique.illegal(workload, plans).items() if mask.any()}
    return reasons


def plan_problems(
    workload: Workload, plan: TrainingPlan, file: str, *, but: Collection[str] = ()
) -> list[Problem]:
    """Return every reason why no device can execute ``plan`` as it is written, those in ``but`` left out."""
    plans = PlanBatch.from_plans(workload, [plan])
    told = {sparse_update.BELOW_CUT, sparse_update.KEEPS_NOTHING, lifespans.MISPLACED, *but}  # by refusals
    problems = [
        *sparse_update.refusals(workload, plans, file), *lifespans.refusals(workload, plans, file),
    ]  # fmt: skip
    return problems + [Problem(file, "", why, "") for why in illegal(workload, plans) if why not in told]


def build_spec(workload: Workload, plans: PlanBatch) -> StepSpec:
    """Return the step that the techniques of ``plans`` make out of plain training."""
    spec = base_spec(workload, plans)
    for technique in TECHNIQUES:
        spec = technique.edit(spec, workload, plans)
    return spec

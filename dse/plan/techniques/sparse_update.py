"""Sparse update: biases of some units, weights of some units for some of their input channels.

Source: arXiv 2206.15472, Sec. 2.2. Every policy reaches the step in this form, as a ratio of input channels
and a bias flag per unit; one that trains everything above the cut has ratio 1 there. Of a unit with C input
channels floor(ratio x C) learn; a depthwise filter belongs to its channel. A weight gradient needs the error
of the unit's output, and so the errors of every path above it: ``dse.plan.learning`` walks the graph.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import numpy as np

from dse.errors import Problem
from dse.plan.decisions import BoolArray, PlanBatch
from dse.plan.policy import first_unit
from dse.plan.spec import StepSpec, kept_channels
from dse.workload import Workload

CHOICES = ("policy",)

BELOW_CUT: Final = "the plan learns below its cut: a frozen stage cannot learn"
KEEPS_NOTHING: Final = "a ratio keeps less than one input channel"
FROZEN_CLASSIFIER: Final = "the last unit must learn: its classifier is the output for new classes"


def illegal(workload: Workload, plans: PlanBatch) -> dict[str, BoolArray]:
    """Refuse schemes that reach below the cut, keep no channel, or leave the classifier as it is."""
    learns = (plans.weight_ratio > 0) | plans.bias_learns
    return {
        BELOW_CUT: np.any(_below_cut(workload, plans), axis=1),
        KEEPS_NOTHING: np.any(_keeps_nothing(workload, plans), axis=1),
        "nothing learns": ~np.any(learns, axis=1),
        FROZEN_CLASSIFIER: ~learns[:, -1],
    }


def _below_cut(workload: Workload, plans: PlanBatch) -> BoolArray:
    """Units that learn though they are frozen, (P, U)."""
    first = np.array([first_unit(workload, int(cut)) for cut in plans.cut])
    learns = (plans.weight_ratio > 0) | plans.bias_learns
    return np.asarray(learns & (np.arange(len(workload.units))[None, :] < first[:, None]))


def _keeps_nothing(workload: Workload, plans: PlanBatch) -> BoolArray:
    """Units whose ratio is too small for their channels, (P, U)."""
    kept = kept_channels(workload, plans.weight_ratio)
    return np.asarray((plans.weight_ratio > 0) & (kept < 1))


def lowest_unit(plans: PlanBatch) -> int:
    """Return the lowest unit that learns in the only plan of ``plans``; the last one where none does."""
    learns = (plans.weight_ratio[0] > 0) | plans.bias_learns[0]
    return int(np.argmax(learns)) if learns.any() else len(learns) - 1


def refusals(workload: Workload, plans: PlanBatch, file: str) -> Iterator[Problem]:
    """Yield, unit by unit, why the only plan of ``plans`` cannot be executed as a sparse update."""
    below = np.flatnonzero(_below_cut(workload, plans)[0])
    if len(below):
        highest = max((cut for cut in workload.cuts if cut < below[0]), default=None)
        found = f"{BELOW_CUT} (unit {below[0]} does, {len(below)} in all below cut {int(plans.cut[0])})"
        yield Problem(file, "cut", found, f"{_at_most(highest)}a policy of units above the cut")
    for index in np.flatnonzero(_keeps_nothing(workload, plans)[0]):
        unit = workload.units[index]
        found = f"{KEEPS_NOTHING}: {plans.weight_ratio[0, index]:g} of {unit.in_channels} in unit {index}"
        yield Problem(file, "policy", f"{found} ({unit.name})", f"at least 1/{unit.in_channels}")


def _at_most(highest: int | None) -> str:
    """Say which cut would do, if any: what runs forward only cannot learn with any cut."""
    if highest is None:
        return ""
    return f"a cut of at most {highest}, or " if highest >= 0 else "cut = 'input', or "


def edit(spec: StepSpec, workload: Workload, plans: PlanBatch) -> StepSpec:
    """Let exactly the plan's parameters learn."""
    return replace(spec, weight_ratio=plans.weight_ratio, bias_learns=plans.bias_learns)

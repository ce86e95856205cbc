"""Plans that differ from one in a single decision and might need less RAM."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any, Final

from dse.cost.context import Context
from dse.plan.decisions import TrainingPlan
from dse.plan.patches import refusal
from dse.plan.structure import Patches
from dse.workload import Workload

MOST_PATCHES: Final = 8
"""Most units up to which patches are tried; the first layers make the largest tensors."""

_LATER: Final = {
    "update": ("immediate", "in_place"), "first_input": ("stored",), "bn_mode": ("folded", "frozen_stats"),
    "optimiser": ("sgd", "momentum"), "learning_dtype": ("fp16", "int8"), "policy": ("bias", "last-1"),
    "new_samples": ("recompute",), "head": ("tinyol", "ncm"), "frozen_bits": (8,),
    "backward_dtype": ("int8",), "accumulator_dtype": ("int8",), "classifier_dtype": ("learning",),
    "checkpoints": ("every 2", "every 4"),
}  # fmt: skip


def neighbours(context: Context, plan: TrainingPlan) -> Iterator[tuple[str, Any, TrainingPlan]]:
    """Yield (decision, value, plan with it); some of the plans may be illegal or without a price."""
    for decision, value in _values(context, plan):
        changed: dict[str, Any] = {decision: value}
        yield decision, value, replace(plan, **changed)


def _values(context: Context, plan: TrainingPlan) -> Iterator[tuple[str, Any]]:
    for decision, values in _LATER.items():
        yield from ((decision, value) for value in values if value != getattr(plan, decision))
    if plan.micro_batch > 1:
        yield "micro_batch", plan.micro_batch // 2
    yield from _lifespans(context.workload, plan)
    yield from _replays(context, plan)
    yield from (("cut", cut) for cut in context.workload.legal_cuts if cut > plan.cut)


def _lifespans(workload: Workload, plan: TrainingPlan) -> Iterator[tuple[str, Any]]:
    """Narrower saved activations, patches for the first frozen layers, and frozen layers in place."""
    yield from (("saved_bits", bits) for bits in (8, 4) if bits < plan.saved_bits)
    if plan.patches == "none" and plan.in_place != "depthwise":
        yield "in_place", "depthwise"
    ends = (Patches(2, unit) for unit in range(plan.cut + 1))
    legal = (str(patches) for patches in ends if not refusal(workload, patches))
    yield from (("patches", word) for word in islice(legal, MOST_PATCHES) if word != plan.patches)


def _replays(context: Context, plan: TrainingPlan) -> Iterator[tuple[str, Any]]:
    """Narrower, fewer, or elsewhere."""
    yield from (("replay_bits", b) for b in (8, 4) if plan.replay == "latent" and b < plan.replay_bits)
    if plan.n_replays > 1:
        yield "n_replays", plan.n_replays // 2
    for k in context.nonvolatile_levels:
        name = context.board.levels[k].name
        if plan.replay != "none" and name != plan.replay_level:
            yield "replay_level", name

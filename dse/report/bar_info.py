"""What the bar charts show: bytes by role and level, joules by cause, seconds by unit and pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dse.cost.explain import Explanation, unit_seconds
from dse.cost.memory import label_bytes
from dse.cost.model import describe
from dse.plan.decisions import PlanBatch
from dse.units import human_seconds
from dse.vocabulary import Role

FloatArray = NDArray[np.float64]

GROUPS: Final[dict[str, tuple[Role, ...]]] = {
    "frozen weights": (Role.FROZEN_WEIGHTS,),
    "learning weights": (Role.LEARNING_WEIGHTS,),
    "copies of learned weights": (Role.PERSISTENT_COPY, Role.INFERENCE_COPY),
    "gradients, optimiser": (Role.GRADIENTS, Role.OPTIMISER_STATE),
    "activations, workspace": (
        Role.SAVED_ACTIVATIONS, Role.TRANSIENT_ACTIVATIONS, Role.WORKSPACE, Role.INPUT_FRAME,
    ),
    "new samples": (Role.NEW_SAMPLES,),
    "replays": (Role.REPLAY_SAMPLES,),
    "head": (Role.HEAD_STATE,),
}  # fmt: skip
"""Roles that are drawn as one; labels belong to the samples that they are of."""

ELSEWHERE: Final = "at another moment"
"""What a level holds at its own peak beyond what it holds at the peak of all RAM."""


@dataclass(frozen=True)
class MemoryInfo:
    """Bytes by level, plan and group of roles at the RAM peak, against what a level can hold.

    ``used`` maps a level to group -> bytes, one per plan; ``usable_bytes`` and ``size_bytes`` are per level.
    """

    title: str
    plans: tuple[str, ...]
    used: Mapping[str, Mapping[str, FloatArray]]
    usable_bytes: Mapping[str, float]
    size_bytes: Mapping[str, float]


@dataclass(frozen=True)
class CauseInfo:
    """Parts of a total by cause, one value per plan."""

    title: str
    plans: tuple[str, ...]
    unit: str
    parts: Mapping[str, FloatArray]

    @property
    def totals(self) -> FloatArray:
        """Sum over the causes, one per plan."""
        return np.asarray(sum(self.parts.values()))


@dataclass(frozen=True)
class UnitInfo:
    """Seconds by unit and pass, for one plan."""

    title: str
    names: tuple[str, ...]
    seconds: Mapping[str, FloatArray]
    first_learning: int


def memory_info(title: str, explanations: Mapping[str, Explanation]) -> MemoryInfo:
    """Collect the bytes of several plans on one board."""
    first = next(iter(explanations.values()))
    levels = first.context.board.levels
    per_plan = [_level_groups(explanation) for explanation in explanations.values()]
    used = {
        level.name: {
            group: np.array([plan[level.name].get(group, 0.0) for plan in per_plan])
            for group in (*GROUPS, ELSEWHERE)
        }
        for level in levels
    }
    filled = {name: groups for name, groups in used.items() if any(part.any() for part in groups.values())}
    return MemoryInfo(
        title,
        tuple(explanations),
        filled,
        {level.name: level.usable_bytes for level in levels if level.name in filled},
        {level.name: level.size_bytes.value for level in levels if level.name in filled},
    )


def _level_groups(explanation: Explanation) -> dict[str, dict[str, float]]:
    """Level -> group -> bytes at the RAM peak; what it holds at its own peak besides comes last."""
    _, placement = describe(
        explanation.context, PlanBatch.from_plans(explanation.context.workload, [explanation.plan])
    )
    at_peak = {role: float(size[0]) for role, size in placement.peak_role_bytes.items()}
    at_peak |= _samples(explanation)
    levels = {level.name: dict[str, float]() for level in explanation.context.board.levels}
    for group, roles in GROUPS.items():
        for role in roles:
            if at_peak.get(role):
                held = levels[explanation.placement[role]]
                held[group] = held.get(group, 0.0) + at_peak[role]
    for name, held in levels.items():
        total = float(np.ravel(explanation.costs.level_bytes[name])[0])
        held[ELSEWHERE] = max(total - sum(held.values()), 0.0)
    return levels


def _samples(explanation: Explanation) -> dict[Role, float]:
    """Bytes of replays and of new samples, each with its own labels: the two may be on different levels."""
    roles = explanation.roles
    of_replays = float(explanation.plan.n_replays * label_bytes(explanation.context.workload.classes))
    of_replays = min(of_replays, roles[Role.LABELS])
    return {
        Role.REPLAY_SAMPLES: roles[Role.REPLAY_SAMPLES] + of_replays,
        Role.NEW_SAMPLES: roles[Role.NEW_SAMPLES] + roles[Role.LABELS] - of_replays,
    }


def energy_info(title: str, explanations: Mapping[str, Explanation]) -> CauseInfo:
    """Collect joules by cause of several plans."""
    return _causes(title, "J", list(explanations), [plan.costs.joules for plan in explanations.values()])


def time_info(title: str, explanations: Mapping[str, Explanation]) -> CauseInfo:
    """Collect seconds by cause of several plans."""
    return _causes(title, "s", list(explanations), [plan.costs.seconds for plan in explanations.values()])


def _causes(title: str, unit: str, plans: Sequence[str], found: Sequence[Mapping[str, Any]]) -> CauseInfo:
    parts = {cause: np.array([float(np.ravel(plan[cause])[0]) for plan in found]) for cause in found[0]}
    return CauseInfo(title, tuple(plans), unit, {cause: part for cause, part in parts.items() if part.any()})


def unit_info(title: str, explanation: Explanation) -> UnitInfo:
    """Collect seconds by unit and pass of one plan."""
    names, seconds = unit_seconds(explanation)
    learning = [row.unit for row in explanation.rows if row.stage == "learning" and row.unit >= 0]
    kept = {pass_: part for pass_, part in seconds.items() if part.any()}
    total, frozen = explanation.costs.event_s[0], explanation.costs.seconds["frozen stage"][0]
    title += f": {human_seconds(total)}" + (
        f", of which frozen stage {human_seconds(frozen)}" if frozen else ""
    )
    return UnitInfo(title, tuple(names), kept, min(learning, default=len(names)))

"""Two ways to state the memory of a training step, side by side: by name, and at its fullest moment.

The name is that of arXiv 2206.15472 (``mcunetv3_extra_bytes``): what an update scheme adds, summed over all
layers as if everything were alive at once. The peak follows from lifespans (``training_peak_bytes``), or is
that of a placed plan, with what else lies in RAM. Where the forward pass sets the peak, little of what the
name counts is alive then; the fullest moment from the loss on is therefore told as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from dse.cost.memory import (
    BIASES,
    CLAMP_MASKS,
    CLASSIFIER_INPUT,
    SAVED_INPUTS,
    TRAINED_WEIGHTS,
    WORKING_STATICS,
    mcunetv3_extra_parts,
)
from dse.plan.step import TrainingStep
from dse.plan.timeline import DYNAMIC_ROLES, Content
from dse.vocabulary import Role

CLASSIFIER: Final = "classifier"

_REASONS: Final = {
    CLASSIFIER_INPUT: "kept from the forward pass until the classifier's weight gradient",
    CLAMP_MASKS: "named for each bias that learns; held wherever an error will pass",
    BIASES: "of all units but the classifier, 32 bits each",
    TRAINED_WEIGHTS: "named at 8 bits; held in the learning dtype",
    SAVED_INPUTS: "named all at once, at 8 bits; held from forward pass to weight gradient",
    CLASSIFIER: "weights and biases of the last unit, which always learn",
    Content.SAVED_OTHER: "inputs of hard-swish, indices of maxima, statistics",
    Content.ACTIVATION: "input and output of the layer that runs, and what waits for a later one",
    Content.ERROR: "in the dtype of the backward pass, skip paths included",
    Content.OPERAND: "inputs in the width of the errors, sums before their int8 scale is known",
    Content.GRADIENT: "until the update, or accumulating",
    Content.WORKSPACE: "of the kernels",
}


@dataclass(frozen=True)
class MemoryRow:
    """One part of the memory: bytes in the name, at the peak, and at the fullest moment from the loss on."""

    part: str
    named_bytes: float
    peak_bytes: float
    backward_bytes: float
    reason: str


def memory_notions(
    step: TrainingStep, roles: Mapping[Role, float] | None = None, row: int = 0
) -> tuple[MemoryRow, ...]:
    """Return the parts of both notions for plan ``row`` of ``step``; each column adds up to its total.

    ``roles`` are the bytes in RAM at the peak by role where the plan is placed on a board; without them the
    peak is ``training_peak_bytes``.
    """
    named = {part: float(size[row]) for part, size in mcunetv3_extra_parts(step).items()}
    live = step.schedule.live_bytes().sum(axis=0)[:, row]
    loss, update = step.schedule.clock.loss, step.schedule.clock.update
    peak = _at(step, row, int(np.argmax(live if roles is not None else live[: update + 1])))
    backward = _at(step, row, loss + int(np.argmax(live[loss : update + 1])))
    if roles is not None:
        counted = (*DYNAMIC_ROLES, *WORKING_STATICS)
        beside = {role.value: size for role, size in roles.items() if role not in counted}
        peak, backward = peak | beside, backward | beside
    columns = (named, peak, backward)
    return tuple(
        MemoryRow(
            part, named.get(part, 0.0), peak.get(part, 0.0), backward.get(part, 0.0),
            _REASONS.get(part, "beside the step"),
        )
        for part in dict.fromkeys((*named, *peak, *backward))
        if any(column.get(part) for column in columns)
    )  # fmt: skip


def _at(step: TrainingStep, row: int, moment: int) -> dict[str, float]:
    """Return what a step holds during one operation by part [B]: weights, state, and buffers by content."""
    sizes = dict(_static_parts(step, row))
    for buffer in step.schedule.buffers:
        if buffer.start <= moment <= buffer.end:
            part = _part_of(step, buffer.content, buffer.end)
            sizes[part] = sizes.get(part, 0.0) + float(buffer.size[row])
    return sizes


def _part_of(step: TrainingStep, content: Content, end: int) -> str:
    """Return the part that a buffer counts for; a saved input is its unit's whose backward pass ends it."""
    clock, last = step.schedule.clock, step.workload.units[-1].layer
    if content == Content.SAVED_INPUT:
        own = end in (clock.backward(last, 0), clock.backward(last, 2))
        return CLASSIFIER_INPUT if own else SAVED_INPUTS
    return CLAMP_MASKS if content == Content.MASK else content.value


def _static_parts(step: TrainingStep, row: int) -> Iterator[tuple[str, float]]:
    learning, spec = step.learning, step.spec
    weights = learning.trained_weights[row] * spec.weight_bytes[row]
    affine = learning.trained_affine[row] + learning.running_statistics[row]
    biases = affine * spec.bias_bytes[row]
    yield TRAINED_WEIGHTS, float(weights[:-1].sum())
    yield BIASES, float(biases[:-1].sum())
    yield CLASSIFIER, float(weights[-1] + biases[-1])
    for role in (Role.OPTIMISER_STATE, Role.HEAD_STATE):
        yield role.value, float(step.static_bytes[role][row])

"""What the backward pass needs: errors of activations, gradients of parameters."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dse.plan.decisions import BoolArray, IntArray
from dse.plan.learning import Learning
from dse.plan.spec import StepSpec, mode_is
from dse.plan.tensors import Tensor, owner_of, tensors_of
from dse.plan.timeline import Content, Holds, Schedule
from dse.vocabulary import Role, Saved
from dse.workload import Workload


def add_errors(schedule: Schedule, spec: StepSpec, learning: Learning) -> None:
    """Add the error of each activation: from its last reader's backward pass until its producer's."""
    workload, clock = schedule.workload, schedule.clock
    tensors, position = tensors_of(workload, spec.structure.learning_in_place)
    for tensor in tensors:
        start = clock.backward(max(tensor.readers), 1) if tensor.readers else clock.loss
        width = spec.error_bytes(owner_of(workload, tensor))
        size = spec.micro * tensor.elements * width * learning.error_needed[tensor.last]
        handed = _hands_on(schedule, spec, learning, tensors, position, tensor)
        name = f"error of {workload.layers[tensor.root].name}"
        reason = "error until its producer's backward pass"
        final = 1 if workload.layers[tensor.root].saves == Saved.NORM else 2
        for last, mask in ((0, handed), (final, ~handed)):
            end = clock.backward(tensor.root, last)
            schedule.add(
                Role.TRANSIENT_ACTIVATIONS, name, reason, start, end, size * mask,
                _error_reads(schedule, learning, tensor, last), Content.ERROR,
                holds=Holds.ERROR, place=tensor.root,
            )  # fmt: skip


def _error_reads(schedule: Schedule, learning: Learning, tensor: Tensor, last: int) -> tuple[int, ...]:
    clock = schedule.clock
    if last == 0:
        return (clock.backward(tensor.root, 0),)
    norm = schedule.workload.layers[tensor.root].saves == Saved.NORM
    unit = learning.unit_at(tensor.root) is not None
    steps = (0, 1, 2) if unit else (0, 1) if norm else (1,)
    return tuple(clock.backward(tensor.root, step) for step in steps)


def _hands_on(
    schedule: Schedule, spec: StepSpec, learning: Learning, tensors: tuple[Tensor, ...],
    position: tuple[int, ...], tensor: Tensor,
) -> BoolArray:  # fmt: skip
    """Where an addition's error becomes that of one of its inputs; the other inputs get copies."""
    found = np.zeros(len(spec), dtype=bool)
    for source in takers(schedule.workload, tensors, position, tensor.root):
        same = spec.error_bytes(owner_of(schedule.workload, source)) == spec.error_bytes(
            owner_of(schedule.workload, tensor)
        )
        found |= learning.error_needed[source.last] & same
    return found


def takers(
    workload: Workload, tensors: tuple[Tensor, ...], position: tuple[int, ...], root: int
) -> Iterator[Tensor]:
    """Yield the inputs of the addition ``root`` whose error begins there, in the order of the inputs."""
    if workload.layers[root].element_operation != "add":
        return
    for producer in workload.inputs[root]:
        source = tensors[position[producer]] if producer >= 0 else None
        if source is not None and source.last == producer and max(source.readers) == root:
            yield source


# --- gradients ---


def add_gradients(schedule: Schedule, spec: StepSpec, learning: Learning) -> None:
    """Add gradients and accumulators: through the mini-batch, until the end, or one unit at a time.

    The scale and shift of a norm get theirs when the error passes the norm, before the norm's input gradient.
    """
    clock, workload = schedule.clock, schedule.workload
    folded = mode_is(spec, "folded")
    for index, unit in enumerate(workload.units):
        norms = [layer for layer in unit.followers if workload.layers[layer].saves == Saved.NORM]
        apart = ~folded & bool(norms)
        own = learning.trained_weights[:, index] + learning.trained_affine[:, index] * ~apart
        at = clock.backward(unit.layer, 0), clock.backward(unit.layer, 2)
        _gradient(schedule, spec, Holds.GRADIENT, index, at, own * spec.acc_bytes[:, index])
        if norms:
            at = clock.backward(norms[0], 0), clock.backward(norms[0], 2)
            size = learning.trained_affine[:, index] * apart * spec.acc_bytes[:, index]
            _gradient(schedule, spec, Holds.NORM_GRADIENT, index, at, size)
    schedule.add(
        Role.WORKSPACE, "head", "inverse of the covariance", clock.update, clock.update,
        spec.head_workspace_bytes, holds=Holds.WORKSPACE,
    )  # fmt: skip


def _gradient(
    schedule: Schedule, spec: StepSpec, holds: Holds, unit: int, at: tuple[int, int], size: IntArray
) -> None:
    """Add one gradient by the order of updates; ``at`` are the weight gradient's early and late operation."""
    clock = schedule.clock
    waits = spec.accumulators & spec.frozen_in_batch
    # A norm's gradient is worked out before its input gradient, however late its update comes.
    late_start = at[0] if holds == Holds.NORM_GRADIENT else at[1]
    held = spec.gradient_buffer | (holds == Holds.NORM_GRADIENT)
    spans = (
        ("accumulates over micro-batches", clock.load, clock.update, spec.accumulators & ~waits),
        ("accumulates over micro-batches, also while the frozen stage runs", 0, clock.update, waits),
        ("kept until the update", at[0], clock.update, ~spec.accumulators & ~spec.update_late),
        ("until the unit's own update", late_start, at[1], spec.update_late & held),
    )
    name = f"gradient of {schedule.workload.units[unit].name}"
    name += "'s norm" if holds == Holds.NORM_GRADIENT else ""
    for reason, start, end, mask in spans:
        schedule.add(Role.GRADIENTS, name, reason, start, end, size * mask, holds=holds, place=unit)

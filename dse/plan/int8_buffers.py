"""What a step in int8 needs beside its narrow tensors: clamp masks, 32-bit sums, operands widened to fp32.

Requantising clamps, and an error passes only where nothing was clamped: one bit per element of a unit's or an
addition's output, unless a ReLU clamps it anyway and keeps its own mask. Logits are not requantised. Operands
that a weight gradient widens stand with the saved inputs (``dse.plan.schedule``). Weights are read as int8 in
every pass.
"""

from __future__ import annotations

import numpy as np

from dse.plan.again import clamp_saved
from dse.plan.decisions import IntArray
from dse.plan.learning import Learning
from dse.plan.spec import SUM_BYTES, StepSpec
from dse.plan.tensors import Tensor, tensors_of
from dse.plan.timeline import Content, Holds, Schedule
from dse.vocabulary import Role


def add_int8_buffers(schedule: Schedule, spec: StepSpec, learning: Learning) -> None:
    """Add to ``schedule`` what plans that learn in int8 need; nothing for the others."""
    for tensor in tensors_of(schedule.workload, spec.structure.learning_in_place)[0]:
        count = spec.micro * tensor.elements
        _clamp_mask(schedule, spec, learning, tensor, count)
        _error_sums(schedule, spec, learning, tensor, count * learning.error_needed[tensor.last])
    _classifier_input(schedule, spec, learning)


def _clamp_mask(
    schedule: Schedule, spec: StepSpec, learning: Learning, tensor: Tensor, count: IntArray
) -> None:
    """Keep what the clamp of a requantisation let pass, until the error comes back to it."""
    clock, name = schedule.clock, schedule.workload.layers[tensor.root].name
    size = -(-count // 8) * clamp_saved(schedule.workload, spec, learning, tensor.root)
    left = np.ones(len(spec), dtype=bool)
    for step, runs in enumerate(learning.backward_runs(tensor.root)):  # the first one that runs reads it
        schedule.add(
            Role.SAVED_ACTIVATIONS, f"{name} (1-bit clamp mask)", f"backward pass of {name}",
            clock.last_forward(tensor.root), clock.backward(tensor.root, step), size * (left & runs),
            content=Content.MASK, holds=Holds.CLAMP, place=tensor.root,
        )  # fmt: skip
        left &= ~runs


def _error_sums(
    schedule: Schedule, spec: StepSpec, learning: Learning, tensor: Tensor, count: IntArray
) -> None:
    """An int8 error is scaled by its largest value, which is known when all of it is summed up in 32 bits."""
    name = f"error of {schedule.workload.layers[tensor.root].name} (sums)"
    for reader in tensor.readers:
        if learning.unit_at(reader) is None:
            continue  # element by element: a second pass costs no MAC and no buffer
        slot, reason = schedule.clock.backward(reader, 1), "summed up before its int8 scale is known"
        size = SUM_BYTES * count * spec.int8_errors
        schedule.add(
            Role.TRANSIENT_ACTIVATIONS,
            name,
            reason,
            slot,
            slot,
            size,
            content=Content.OPERAND,
            holds=Holds.SUMS,
            place=tensor.root,
        )


def _classifier_input(schedule: Schedule, spec: StepSpec, learning: Learning) -> None:
    """An fp32 classifier widens the narrow activation that it reads."""
    last = schedule.workload.units[-1]
    size = SUM_BYTES * spec.micro * last.input_elements * spec.fp32_classifier * learning.runs(last.layer)
    slot, reason = schedule.clock.forward(last.layer), f"forward pass of {last.name} in fp32"
    name = f"input of {last.name} (widened)"
    schedule.add(
        Role.TRANSIENT_ACTIVATIONS,
        name,
        reason,
        slot,
        slot,
        size,
        content=Content.OPERAND,
        holds=Holds.WIDE_INPUT,
        place=last.layer,
    )

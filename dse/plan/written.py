"""From the schedule of many plans to that of one: executed operations, exact lifespans, every buffer named.

The vectorised schedule (``dse.plan.schedule``) holds every operation that any plan could have. One plan's
schedule keeps those that it executes, and moves the ends of lifespans to the nearest of them; a buffer's
bytes are those of the plan's row. An addition that hands its error on shares one buffer with the input that
takes it over. What is alive throughout gets a buffer per unit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

import numpy as np

from dse.plan.again import runs_again
from dse.plan.buffers_backward import takers
from dse.plan.decisions import TrainingPlan
from dse.plan.operations import Operation, Phase, StepBuffer, StepSchedule
from dse.plan.standing import Standing, standing_buffers
from dse.plan.step import TrainingStep
from dse.plan.tensors import owner_of, tensors_of
from dse.plan.timeline import BACKWARD, Buffer, Holds, Kind, operation_name
from dse.vocabulary import Role

ALIGNMENT: Final = 4
"""Bytes that every offset is a multiple of, unless asked otherwise: a 32-bit word."""

_PHASES: Final = {Kind.FROZEN: Phase.FROZEN, Kind.STORE: Phase.FROZEN, Kind.INFER: Phase.INFERENCE,
                  Kind.UPDATE: Phase.UPDATE}  # fmt: skip

_BY_TENSOR: Final = {
    Holds.FROZEN: (Kind.FROZEN,),
    Holds.ACTIVATION: (Kind.FORWARD, Kind.RECOMPUTE),
    Holds.ERROR: BACKWARD,
    Holds.INFERRED: (Kind.INFER,),
}
"""Buffers that hold a tensor, and the operations by which the layers that work on it in place reach it."""


def step_schedule(
    step: TrainingStep,
    plan: TrainingPlan,
    row: int = 0,
    *,
    alignment: int = ALIGNMENT,
    samples: Mapping[Holds, int] | None = None,
) -> StepSchedule:
    """Write out the step of plan ``row`` of ``step``.

    Parameters
    ----------
    plan: what row ``row`` was made from, in its canonical form.
    alignment: of every buffer [B]; a power of two.
    samples: bytes of the buffers that outlive a step and depend on the event: NEW_SAMPLES, REPLAYS,
        NEW_LABELS, REPLAY_LABELS.

    Raises ValueError for an alignment that is no power of two.

    """
    if alignment < 1 or alignment & (alignment - 1):
        raise ValueError(f"an alignment is a power of two, found {alignment}")
    runs = _executed(step, row)
    operations = _operations(step, runs)
    found = [_written(step, buffer, row, runs) for buffer in step.schedule.buffers if buffer.size[row] > 0]
    moving, handed_on = _handed_on(step, row, found)
    standing = [_standing(item, len(operations) - 1) for item in standing_buffers(step, row, samples or {})]
    buffers = _identified(step, [*standing, *moving], alignment)
    return StepSchedule(step.workload, plan, operations, buffers, handed_on)


# --- operations ---


def _executed(step: TrainingStep, row: int) -> list[bool]:
    """Return which operations of the clock plan ``row`` executes."""
    again = runs_again(step.workload, step.spec, step.learning)
    return [_runs(step, again, row, kind, layer) for kind, layer in step.schedule.clock.sequence]


def _runs(step: TrainingStep, again: np.ndarray, row: int, kind: Kind, layer: int) -> bool:
    spec, learning = step.spec, step.learning
    if kind == Kind.FROZEN:
        return bool(layer <= spec.cut_layer[row])
    if kind == Kind.FORWARD:
        return bool(learning.runs(layer)[row])
    if kind == Kind.RECOMPUTE:
        return bool(again[layer, row])
    if kind == Kind.LOSS:
        return bool(spec.backprop[row])
    if kind in BACKWARD:
        return bool(learning.backward_runs(layer)[BACKWARD.index(kind)][row])
    if kind == Kind.UPDATE:
        waits = ~spec.update_late[row] & bool(learning.parameters[row].any())
        return bool(waits | (spec.head_state_bytes[row] > 0))
    return True


def _operations(step: TrainingStep, runs: list[bool]) -> tuple[Operation, ...]:
    found: list[Operation] = []
    for (kind, layer), executed in zip(step.schedule.clock.sequence, runs, strict=True):
        if executed:
            phase = _PHASES.get(kind, Phase.LEARNING)
            name = operation_name(step.workload, kind, layer)
            found.append(Operation(len(found), kind, phase, layer, name))
    return tuple(found)


# --- buffers ---


def _written(step: TrainingStep, buffer: Buffer, row: int, runs: list[bool]) -> StepBuffer:
    """Return one buffer of the plan; lifespans end with the nearest executed operation inside."""
    number = np.cumsum(runs) - 1  # of the last executed operation up to here
    first, last = int(number[buffer.start]), int(number[buffer.end])
    first += 0 if runs[buffer.start] else 1
    if last < first:
        raise AssertionError(f"{buffer.name} ({buffer.reason}) lives only in operations that nobody executes")
    touched = {*buffer.reads, *_in_place(step, buffer)}
    reads = sorted(int(number[op]) for op in touched if runs[op] and buffer.start <= op <= buffer.end)
    return StepBuffer(
        "", buffer.holds, buffer.place, buffer.role, buffer.content, buffer.name, buffer.reason,
        first, last, int(buffer.size[row]), 1, tuple(reads),
    )  # fmt: skip


def _in_place(step: TrainingStep, buffer: Buffer) -> Iterator[int]:
    """Yield the operations by which layers rewrite the tensor in ``buffer``."""
    kinds = _BY_TENSOR.get(buffer.holds, ())
    learning = buffer.holds in (Holds.ACTIVATION, Holds.ERROR)
    mode = step.spec.structure.learning_in_place if learning else step.spec.structure.in_place
    tensors, position = tensors_of(step.workload, mode)
    members = tensors[position[buffer.place]].members if kinds else ()
    for op, (kind, layer) in enumerate(step.schedule.clock.sequence):
        applies = kind == Kind.BWD_UPDATE and step.learning.unit_at(layer) is None  # a gradient, no error
        if kind in kinds and layer in members and layer != buffer.place and not applies:
            yield op


def _standing(item: Standing, last: int) -> StepBuffer:
    return StepBuffer(
        "", item.holds, item.place, item.role, item.content, item.name, item.reason,
        0, last, item.size_bytes, 1, (last,),
    )  # fmt: skip


def _identified(step: TrainingStep, buffers: list[StepBuffer], alignment: int) -> tuple[StepBuffer, ...]:
    """Name buffers by what they hold and where, numbered where that is not enough."""
    stems = [_stem(step, buffer) for buffer in buffers]
    total, seen = Counter(stems), Counter[str]()
    found = []
    for stem, buffer in zip(stems, buffers, strict=True):
        seen[stem] += 1
        name = f"{stem}:{seen[stem]}" if total[stem] > 1 else stem
        found.append(replace(buffer, id=name, alignment=alignment))
    return tuple(found)


_OF_UNIT: Final = (
    Holds.GRADIENT, Holds.NORM_GRADIENT, Holds.LEARNING_WEIGHT, Holds.LEARNING_AFFINE, Holds.FROZEN_WEIGHT,
    Holds.FROZEN_AFFINE, Holds.STATE, Holds.COPY_WEIGHT, Holds.COPY_AFFINE, Holds.PERSISTENT_WEIGHT,
    Holds.PERSISTENT_AFFINE,
)  # fmt: skip


def _stem(step: TrainingStep, buffer: StepBuffer) -> str:
    what = buffer.holds.name.lower()
    if buffer.place < 0:
        return what
    units = buffer.holds in _OF_UNIT
    return f"{what}.{(step.workload.units if units else step.workload.layers)[buffer.place].name}"


# --- errors that additions hand on ---


def _handed_on(
    step: TrainingStep, row: int, buffers: list[StepBuffer]
) -> tuple[list[StepBuffer], dict[int, int]]:
    """Join the error of an addition with that of the input that takes it over, last addition first."""
    workload, learning = step.workload, step.learning
    tensors, position = tensors_of(workload, step.spec.structure.learning_in_place)
    errors = {buffer.place: buffer for buffer in buffers if buffer.holds == Holds.ERROR}
    under: dict[int, int] = {}
    for root in sorted(errors, reverse=True):
        width = step.spec.error_bytes(owner_of(workload, tensors[position[root]]))[row]
        for source in takers(workload, tensors, position, root):
            same = step.spec.error_bytes(owner_of(workload, source))[row] == width
            if learning.error_needed[source.last][row] and same:
                home = under.get(root, root)
                under[source.root] = home
                errors[home] = _joined(errors[home], errors.pop(source.root))
                break
    others = [buffer for buffer in buffers if buffer.holds != Holds.ERROR]
    return sorted([*others, *errors.values()], key=lambda buffer: (buffer.start, buffer.end)), under


def _joined(first: StepBuffer, then: StepBuffer) -> StepBuffer:
    reads = tuple(sorted({*first.reads, *then.reads}))
    name = f"{first.name}, then {then.name}"
    return replace(
        first, name=name, end=max(first.end, then.end), reads=reads, role=Role.TRANSIENT_ACTIVATIONS
    )

"""Activations of one image: through the frozen stage to the cut, and through the whole network in inference.

With patches the tensors below the patches' unit hold the part that one patch needs, while the result of that
unit fills up patch by patch, from the first operation on; the frame stays until the last patch has read it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dse.plan.decisions import BoolArray
from dse.plan.patches import regions_of
from dse.plan.spec import FRAME_BYTES, SUM_BYTES, StepSpec
from dse.plan.tensors import Tensor, input_readers, tensors_of
from dse.plan.timeline import Holds, Schedule
from dse.vocabulary import Role
from dse.workload import Workload


def add_frozen_stage(schedule: Schedule, spec: StepSpec) -> None:
    """Add what one image needs on its way to the cut; where nothing is frozen, the frame that is stored."""
    workload, clock = schedule.workload, schedule.clock
    tensors, position = tensors_of(workload, spec.structure.in_place)
    has_frozen = spec.cut_layer >= 0
    _frame(schedule, spec, clock.frozen, has_frozen)
    frame = int(np.prod(workload.input_shape)) * FRAME_BYTES
    schedule.add(
        Role.INPUT_FRAME, "input", "stored as captured", 0, clock.store, frame * ~has_frozen,
        holds=Holds.FRAME,
    )  # fmt: skip
    cut_tensor = np.where(has_frozen, np.array(position)[spec.cut_layer], -1)
    for index, tensor in enumerate(tensors):
        size = _elements(workload, spec, tensor) * spec.frozen_bytes * (tensor.root <= spec.cut_layer)
        crosses = cut_tensor == index
        name, start = workload.layers[tensor.root].name, clock.frozen(_first(workload, spec, tensor))
        end = max(tensor.readers, default=tensor.last)
        schedule.add(
            Role.TRANSIENT_ACTIVATIONS, name, "frozen activation until its last reader",
            start, clock.frozen(end), size * ~crosses,
            tuple(clock.frozen(reader) for reader in tensor.readers), holds=Holds.FROZEN, place=tensor.root,
        )  # fmt: skip
        schedule.add(
            Role.TRANSIENT_ACTIVATIONS, name, "latent until it is stored",
            start, clock.store, size * crosses, (clock.frozen(tensor.last), clock.store),
            holds=Holds.FROZEN, place=tensor.root,
        )  # fmt: skip


def add_inference(schedule: Schedule, spec: StepSpec) -> None:
    """Add what one inference needs, in the width of the frozen stage; it runs between learning events.

    Logits stay the 32-bit sums that they are, as in learning: new classes would move their range.
    """
    workload, clock = schedule.workload, schedule.clock
    _frame(schedule, spec, clock.infer, np.ones(len(spec), dtype=bool))
    for tensor in tensors_of(workload, spec.structure.in_place)[0]:
        logits = tensor.root >= workload.units[-1].layer
        width = np.maximum(spec.frozen_bytes, SUM_BYTES) if logits else spec.frozen_bytes
        end = max(tensor.readers, default=tensor.last)
        schedule.add(
            Role.TRANSIENT_ACTIVATIONS, workload.layers[tensor.root].name, "inference, until its last reader",
            clock.infer(_first(workload, spec, tensor)), clock.infer(end),
            _elements(workload, spec, tensor) * width,
            tuple(clock.infer(reader) for reader in tensor.readers) or (clock.infer(tensor.last),),
            holds=Holds.INFERRED, place=tensor.root,
        )  # fmt: skip


def _frame(schedule: Schedule, spec: StepSpec, moment: Callable[[int], int], here: BoolArray) -> None:
    readers = input_readers(schedule.workload)
    patches = spec.structure.patches
    last = max(readers)
    if patches is not None:
        last = max(last, schedule.workload.units[patches.unit].cut_layer)
    size = int(np.prod(schedule.workload.input_shape)) * FRAME_BYTES * here
    reads = tuple(moment(reader) for reader in readers)
    schedule.add(
        Role.INPUT_FRAME, "input", "read by the first layer", moment(0), moment(last), size, reads,
        holds=Holds.FRAME,
    )  # fmt: skip


def _elements(workload: Workload, spec: StepSpec, tensor: Tensor) -> int:
    """Elements of a tensor, or of the part of it that one patch needs."""
    patches = spec.structure.patches
    if patches is None or _edge(workload, spec) in tensor.members or tensor.root > _edge(workload, spec):
        return tensor.elements
    return regions_of(workload, patches).most_elements(tensor.root)


def _first(workload: Workload, spec: StepSpec, tensor: Tensor) -> int:
    """Layer whose operation first writes a tensor: with patches, the result fills up from the first on."""
    by_patches = spec.structure.patches is not None and _edge(workload, spec) in tensor.members
    return 0 if by_patches else tensor.root


def _edge(workload: Workload, spec: StepSpec) -> int:
    assert spec.structure.patches is not None
    return workload.units[spec.structure.patches.unit].cut_layer

"""What activations, pooling and batch norm leave behind for their backward pass."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np

from dse.plan.again import norm_saved
from dse.plan.decisions import BoolArray, IntArray
from dse.plan.learning import Learning
from dse.plan.spec import INT8_BYTES, StepSpec, mode_is
from dse.plan.tensors import owner_of, tensors_of
from dse.plan.timeline import Content, Holds, Schedule
from dse.vocabulary import Role, Saved
from dse.workload import Workload


def add_saved_by_layers(schedule: Schedule, spec: StepSpec, learning: Learning) -> None:
    """Add what activations, pooling and batch norm leave behind for their backward pass."""
    workload = schedule.workload
    for index, layer in enumerate(workload.layers):
        elements = spec.micro * int(workload.out_elements[index])
        passes = learning.error_passes[index]
        if layer.saves == Saved.MASK:
            what, holds, size = "1-bit mask", Holds.MASK, -(-elements // 8) * passes
        elif layer.saves == Saved.INPUT:
            what, holds = "input", Holds.SAVED_INPUT
            size = _held(workload, spec, index, spec.micro * int(workload.in_elements[index]) * passes)
        elif layer.saves == Saved.INDEX:
            what, holds, size = "index of the maximum", Holds.INDEX, elements * passes
        elif layer.saves == Saved.NORM:
            what, holds = "input and statistics", Holds.NORM
            size = _norm_bytes(workload, spec, learning, index)
        else:
            continue
        for (start, mask), (reads, late) in product(
            _starts(schedule, spec, index), _reads(schedule, spec, index)
        ):
            schedule.add(
                Role.SAVED_ACTIVATIONS, f"{layer.name} ({what})", f"backward pass of {layer.name}",
                start, reads[-1], size * (mask & late), reads,
                content=Content.MASK if layer.saves == Saved.MASK else Content.SAVED_OTHER,
                holds=holds, place=index,
            )  # fmt: skip


def _starts(schedule: Schedule, spec: StepSpec, index: int) -> Iterator[tuple[int, BoolArray]]:
    """A layer saves when it runs; but requantising in int8 clamps as a ReLU in place does, and at once."""
    workload, clock = schedule.workload, schedule.clock
    tensors, position = tensors_of(workload, spec.structure.learning_in_place)
    tensor = tensors[position[index]]
    root = workload.layers[tensor.root]
    sums = root.operator is not None or root.element_operation in ("add", "concat")
    fused = np.zeros(len(spec), dtype=bool)
    if workload.layers[index].saves == Saved.MASK and sums and tensor.root != index:
        fused = spec.output_bytes(owner_of(workload, tensor)) == INT8_BYTES
    yield clock.last_forward(tensor.root), fused
    yield clock.last_forward(index), ~fused


def _reads(schedule: Schedule, spec: StepSpec, index: int) -> Iterator[tuple[tuple[int, ...], BoolArray]]:
    """Operations of the backward pass that read what a layer saved, and the plans for which they do, (P,).

    The gradient of a norm reads its input; its input gradient does too, unless the statistics are fixed.
    """
    clock, everybody = schedule.clock, np.ones(len(spec), dtype=bool)
    gradient, back = clock.backward(index, 0), clock.backward(index, 1)
    if schedule.workload.layers[index].saves != Saved.NORM:
        yield (back,), everybody
        return
    fixed = mode_is(spec, "frozen_stats")
    yield (gradient,), fixed
    yield (gradient, back), ~fixed


def _held(workload: Workload, spec: StepSpec, index: int, count: IntArray) -> IntArray:
    """Bytes of ``count`` saved elements of layer ``index``: as computed, or at the saved bits."""
    width = spec.output_bytes(int(workload.unit_of_layer[index]))
    return np.where(spec.packs_saved(), spec.packed_bytes(count), count * width)


def _norm_bytes(workload: Workload, spec: StepSpec, learning: Learning, index: int) -> IntArray:
    """Bytes that a batch norm saves: its input, and the statistics that were computed over it."""
    channels = workload.shapes[index][0]
    needed = norm_saved(spec, learning, index)
    saved = _held(workload, spec, index, spec.micro * int(workload.out_elements[index]) * needed)
    statistics = 8 * channels * mode_is(spec, "batch_stats") + (
        8 * min(32, channels) * spec.micro * mode_is(spec, "group")
    )
    return np.asarray(saved + statistics * needed, dtype=np.int64)

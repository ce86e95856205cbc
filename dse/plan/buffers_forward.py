"""What the learning stage's forward pass leaves behind: latents, activations, and what is saved of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dse.plan.decisions import BoolArray, IntArray
from dse.plan.learning import Learning
from dse.plan.spec import StepSpec
from dse.plan.tensors import Tensor, input_readers, owner_of, tensors_of
from dse.plan.timeline import Content, Holds, Schedule
from dse.vocabulary import Role
from dse.workload import Workload

Ends = list[tuple[int, BoolArray]]
"""Possible last operations of a lifespan, with the plans that execute each, (P,)."""


@dataclass(frozen=True)
class Value:
    """One stay of a tensor in memory: from operation ``start``, with its final values from ``settled`` on.

    ``reads`` are the forward operations that read it, ``savers`` the layers whose weight gradient reads what
    this stay leaves behind.
    """

    name: str
    holds: Holds
    place: int
    elements: int
    start: int
    settled: int
    reads: tuple[int, ...]
    savers: tuple[int, ...]
    size: IntArray  # (P,) bytes, 0 where the plan has no such stay


def add_latents(schedule: Schedule, spec: StepSpec, learning: Learning, again: BoolArray) -> None:
    """Add the inputs of the learning stage: dequantised for the forward pass, saved at their stored width."""
    clock, workload = schedule.clock, schedule.workload
    for cut_layer in np.unique(spec.cut_layer):
        here = spec.cut_layer == cut_layer
        readers, elements = _latent_readers(workload, int(cut_layer))
        size = spec.micro * elements * spec.act_bytes * here
        stored = here & spec.keeps_stored_input
        twice = stored & again[list(readers)].any(axis=0) if readers else np.zeros(len(spec), dtype=bool)
        once = max((clock.forward(reader) for reader in readers), default=clock.loss)
        ends: Ends = [(once, spec.backprop), (clock.update, ~spec.backprop)]
        ends += _later(schedule, again, readers, here & ~stored)
        reads = (*(_read_by(schedule, readers) or (once,)), clock.update)  # heads read them at the update
        for start, mask in _latent_starts(schedule, spec):
            value = Value(
                "latents", Holds.LATENTS, -1, elements, start, clock.load, reads, readers, size * mask
            )
            _add_value(schedule, spec, learning, again, value, ends, ~stored)
        _stored_latents(schedule, spec, learning, readers, elements, stored & ~twice)
        _latents_again(schedule, spec, learning, again, readers, elements, twice)


def _latent_readers(workload: Workload, cut_layer: int) -> tuple[tuple[int, ...], int]:
    if cut_layer < 0:
        return input_readers(workload), int(np.prod(workload.input_shape))
    tensors, position = tensors_of(workload)
    tensor = tensors[position[cut_layer]]
    return tuple(reader for reader in tensor.readers if reader > cut_layer), tensor.elements


def _latent_starts(schedule: Schedule, spec: StepSpec) -> Iterator[tuple[int, BoolArray]]:
    """Latents of a micro-batch are gathered at once, or wait as images leave the frozen stage one by one."""
    inside, several = spec.frozen_in_batch, spec.micro > 1
    yield schedule.clock.load, ~inside
    yield schedule.clock.store, inside & ~several
    yield 0, inside & several


def _later(schedule: Schedule, again: BoolArray, readers: tuple[int, ...], here: BoolArray) -> Ends:
    """Second forward passes that read a value, last one first, with the plans that run them."""
    moments = [(schedule.clock.again(reader), reader) for reader in readers]
    known = sorted(((op, reader) for op, reader in moments if op is not None), reverse=True)
    return [(op, again[reader] & here) for op, reader in known]


def _read_by(schedule: Schedule, readers: tuple[int, ...]) -> tuple[int, ...]:
    """Return the forward operations of ``readers``, first and second ones, in order."""
    clock = schedule.clock
    again = (clock.again(reader) for reader in readers)
    return (*map(clock.forward, readers), *sorted(op for op in again if op is not None))


def _stored_latents(
    schedule: Schedule, spec: StepSpec, learning: Learning, readers: tuple[int, ...], elements: int,
    here: BoolArray,
) -> None:  # fmt: skip
    """Keep the saved input at replay bits and widen it when the weight gradient reads it."""
    clock, workload = schedule.clock, schedule.workload
    for reader in readers:
        unit = learning.unit_at(reader)
        if unit is None:
            continue
        kept = learning.kept_channels[:, unit] * (elements // workload.units[unit].in_channels) * here
        stored = spec.micro * -(-kept * spec.latent_bits // 8)  # each sample starts on a byte
        reason = f"weight gradient of {workload.units[unit].name}"
        for slot, mask in _slots(schedule, spec, reader):
            schedule.add(
                Role.SAVED_ACTIVATIONS, "latents (stored width)", reason, clock.load, slot, stored * mask,
                holds=Holds.STORED, place=reader,
            )  # fmt: skip
            _operand(schedule, spec, "latents", unit, slot, spec.micro * kept * mask)


def _latents_again(
    schedule: Schedule, spec: StepSpec, learning: Learning, again: BoolArray, readers: tuple[int, ...],
    elements: int, here: BoolArray,
) -> None:  # fmt: skip
    """Where the first segment runs again, the stored inputs stay whole, and are widened a second time."""
    if not here.any():
        return
    clock, workload = schedule.clock, schedule.workload
    second = _later(schedule, again, readers, here)
    first = [(-op, mask) for op, mask in _exclusive([(-op, mask) for op, mask in second], here)]
    later: Ends = list(first)  # widened once, for all who run again
    for reader in readers:
        unit = learning.unit_at(reader)
        if unit is None:
            continue
        kept = learning.kept_channels[:, unit] * (elements // workload.units[unit].in_channels) * here
        for slot, mask in _slots(schedule, spec, reader):
            later.append((slot, here & mask & (kept > 0)))
            _operand(schedule, spec, "latents", unit, slot, spec.micro * kept * mask)
    stored = spec.micro * -(-elements * spec.latent_bits // 8) * here
    reads = tuple(sorted({op for op, _ in later}))
    for end, mask in _exclusive(later, here):
        schedule.add(
            Role.SAVED_ACTIVATIONS, "latents (stored width)", "read again by the first segment", clock.load,
            end, stored * mask, tuple(op for op in reads if op <= end), holds=Holds.STORED,
        )  # fmt: skip
    size = spec.micro * elements * spec.act_bytes
    for start, begins in first:
        for end, ends in _exclusive(second, begins):
            between = tuple(sorted(op for op, _ in second if start <= op <= end))
            reason = "inputs of the first segment, widened again"
            schedule.add(
                Role.TRANSIENT_ACTIVATIONS, "latents", reason, start, end, size * ends, between,
                holds=Holds.LATENTS,
            )  # fmt: skip


def add_activations(schedule: Schedule, spec: StepSpec, learning: Learning, again: BoolArray) -> None:
    """Add every stay of the learning stage's tensors: in the forward pass, and where a segment runs again."""
    workload, clock, structure = schedule.workload, schedule.clock, spec.structure
    for tensor in tensors_of(workload, spec.structure.learning_in_place)[0]:
        runs = learning.runs(tensor.root)
        width = spec.output_bytes(owner_of(workload, tensor))
        size = spec.micro * tensor.elements * width * runs
        name = workload.layers[tensor.root].name
        own = structure.segment_of(tensor.root)
        inside = tuple(r for r in tensor.readers if own is not None and own[0] <= r <= own[1])
        outside = tuple(reader for reader in tensor.readers if reader not in inside)
        first = max((clock.forward(reader) for reader in tensor.readers), default=clock.loss)
        reads = (*(clock.forward(reader) for reader in inside), *_read_by(schedule, outside)) or (first,)
        value = Value(
            name, Holds.ACTIVATION, tensor.root, tensor.elements, clock.forward(tensor.root),
            clock.forward(tensor.last), reads, outside, size,
        )  # fmt: skip
        ends = [*_later(schedule, again, outside, runs), (first, runs)]
        _add_value(schedule, spec, learning, again, value, ends, np.ones(len(spec), dtype=bool))
        if own is not None:
            _add_again(schedule, spec, learning, again, tensor, value, inside)


def _add_again(
    schedule: Schedule, spec: StepSpec, learning: Learning, again: BoolArray, tensor: Tensor, value: Value,
    inside: tuple[int, ...],
) -> None:  # fmt: skip
    """Add the stay of a tensor while its segment runs again."""
    clock = schedule.clock
    here = again[tensor.root]
    ends = _later(schedule, again, tuple({*tensor.members, *inside}), here)
    start = clock.again(tensor.root)
    moments = [op for op in map(clock.again, tensor.members) if op is not None]
    if start is None:
        return
    settled = max(moments)
    reads = tuple(op for op in map(clock.again, inside) if op is not None) or (settled,)
    second = Value(
        value.name, value.holds, value.place, value.elements, start, settled, reads, inside, value.size * here
    )
    _add_value(schedule, spec, learning, again, second, ends, np.ones(len(spec), dtype=bool))


def _add_value(
    schedule: Schedule, spec: StepSpec, learning: Learning, again: BoolArray, value: Value, ends: Ends,
    saves: BoolArray,
) -> None:  # fmt: skip
    """Add one stay: until its last reader, or saved until the weight gradients have read it."""
    whole = _save(schedule, spec, learning, again, value, saves)
    what = {Holds.LATENTS: "inputs of the learning stage"}.get(
        value.holds, "activation until its last reader"
    )
    for end, mask in _exclusive(ends, ~whole):
        if end < value.start:
            continue
        schedule.add(
            Role.TRANSIENT_ACTIVATIONS, value.name, what, value.start, end, value.size * mask,
            _until(value.reads, end), holds=value.holds, place=value.place,
        )  # fmt: skip


def _until(reads: tuple[int, ...], end: int) -> tuple[int, ...]:
    """Return the reads up to ``end``; the end itself where there are none."""
    return tuple(op for op in reads if op <= end) or (end,)


def _exclusive(ends: Ends, here: BoolArray) -> Iterator[tuple[int, BoolArray]]:
    """Yield the possible ends from the last to the first, each with the plans that end there."""
    left = here.copy()
    for op, mask in sorted(ends, key=lambda pair: -pair[0]):
        yield op, left & mask
        left &= ~mask


def _slots(schedule: Schedule, spec: StepSpec, reader: int) -> Iterator[tuple[int, BoolArray]]:
    """Yield when the weight gradient of ``reader`` runs: before its input gradient, or behind it."""
    for late in (False, True):
        yield schedule.clock.backward(reader, 2 if late else 0), spec.update_late == late


def _save(
    schedule: Schedule, spec: StepSpec, learning: Learning, again: BoolArray, value: Value, saves: BoolArray
) -> BoolArray:
    """Save a value for the weight gradients of its savers; return where its own buffer is what is saved."""
    workload = schedule.workload
    whole, packed = np.zeros(len(spec), dtype=bool), np.zeros(len(spec), dtype=bool)
    for reader in value.savers:  # ascending: the first one's backward pass comes last
        unit = learning.unit_at(reader)
        if unit is None:
            continue
        kept, channels = learning.kept_channels[:, unit], workload.units[unit].in_channels
        runs = saves & learning.runs(reader) & (value.size > 0)
        count = spec.micro * kept * (value.elements // channels) * runs
        keep_all = runs & (kept == channels)
        narrow = spec.packs_saved() & runs
        reason = f"weight gradient of {workload.units[unit].name}"
        for slot, late in _slots(schedule, spec, reader):
            schedule.add(
                Role.SAVED_ACTIVATIONS, value.name, reason, value.start, slot,
                value.size * (keep_all & ~narrow & ~whole & late), (*_until(value.reads, slot), slot),
                holds=value.holds, place=value.place,
            )  # fmt: skip
            _packed(schedule, spec, value, reason, slot, spec.micro * value.elements
                    * (keep_all & narrow & ~packed & late))  # fmt: skip
            pieces = count * (kept < channels) * late
            for start, mask in _slice_starts(schedule, again, value, reader):
                _slice(schedule, spec, value, reader, reason, start, slot, pieces * mask)
            widens = narrow | (spec.operand_bytes(unit) > spec.act_bytes)
            _operand(schedule, spec, value.name, unit, slot, count * widens * late)
        whole |= keep_all & ~narrow
        packed |= keep_all & narrow
    return whole


def _packed(
    schedule: Schedule, spec: StepSpec, value: Value, reason: str, slot: int, count: IntArray
) -> None:
    """Hold a whole value at the saved bits, from when it is final."""
    schedule.add(
        Role.SAVED_ACTIVATIONS, f"{value.name} (packed)", reason, value.settled, slot,
        spec.packed_bytes(count), holds=Holds.PACKED, place=value.place,
    )  # fmt: skip


def _slice_starts(
    schedule: Schedule, again: BoolArray, value: Value, reader: int
) -> Iterator[tuple[int, BoolArray]]:
    """A slice is taken when its unit runs; where that does not run again, as soon as its source is final."""
    second = schedule.clock.again(reader)
    if second is None:
        yield schedule.clock.forward(reader), np.ones(again.shape[1], dtype=bool)
    else:
        yield second, again[reader]
        yield value.settled, ~again[reader]


def _slice(
    schedule: Schedule, spec: StepSpec, value: Value, reader: int, reason: str, start: int, slot: int,
    count: IntArray,
) -> None:  # fmt: skip
    """Hold the channels that a weight gradient needs."""
    narrow = spec.packs_saved()
    name = f"{value.name} (slice)"
    schedule.add(
        Role.SAVED_ACTIVATIONS, name, reason, start, slot, count * spec.act_bytes * ~narrow,
        holds=Holds.SLICE, place=reader,
    )  # fmt: skip
    schedule.add(
        Role.SAVED_ACTIVATIONS, f"{name} (packed)", reason, start, slot, spec.packed_bytes(count) * narrow,
        holds=Holds.SLICE, place=reader,
    )  # fmt: skip


def _operand(schedule: Schedule, spec: StepSpec, name: str, unit: int, slot: int, count: IntArray) -> None:
    """Widen what a weight gradient reads, while it runs."""
    owner = schedule.workload.units[unit]
    schedule.add(
        Role.TRANSIENT_ACTIVATIONS, f"{name} (widened)", f"weight gradient of {owner.name}", slot, slot,
        count * spec.operand_bytes(unit), content=Content.OPERAND, holds=Holds.OPERAND, place=owner.layer,
    )  # fmt: skip

"""The inference part of a memory map for TensorFlow Lite Micro: its offline-planned tensor allocation.

A .tflite model may carry metadata named ``OfflineMemoryAllocation``: a buffer of little-endian 32-bit
integers with the version of the format (0), the number of subgraphs (1), the number n of tensors, and for
each tensor its byte offset in the arena, or -1 where the interpreter is to place it itself. n has to be the
number of all tensors of the model, constants included, or the interpreter refuses the model. Source:
tensorflow/tflite-micro, tensorflow/lite/micro/docs/memory_management.md, "Offline planned tensor
allocations", and AllocationInfoBuilder::GetOfflinePlannedOffsets in micro_allocation_info.cc.

Older versions of that page call the second integer the index of the subgraph, which would be 0 here. The
newer one says that the allocator reads neither it nor the version, and the code agrees: both are accepted.

A network of this project knows its activations, not the indices that a converter gave them; ``in_order``
lays the offsets out by the tensors of a particular file.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dse.errors import Problem, UserError
from dse.plan.memory_map import MemoryMap, Placed
from dse.plan.operations import Holds, Phase, StepSchedule
from dse.plan.tensors import overwrites_depthwise, tensors_of
from dse.report.certificate.data import on_level

METADATA: Final = "OfflineMemoryAllocation"
VERSION: Final = 0
SUBGRAPHS: Final = 1
AT_RUN_TIME: Final = -1
ALIGNMENT: Final = 16
"""Bytes on which the interpreter starts every tensor (kBufferAlignment, later MicroArenaBufferAlignment)."""

BIN: Final = "tflm_offline_plan.bin"
JSON: Final = "tflm_offline_plan.json"

_INPUT: Final = "input"
_LARGEST: Final = 2**31 - 1
_SHOWN: Final = 3


@dataclass(frozen=True)
class PlannedTensor:
    """One tensor of an inference: ``offset`` is from the interpreter's arena, ``layers`` write it in turn."""

    name: str
    layers: tuple[str, ...]
    offset: int
    placed: Placed


@dataclass(frozen=True)
class OfflinePlan:
    """The tensors in topological order, from ``base`` on in the arena of ``level``.

    ``beside`` are other buffers that hold something during an inference and lie between the tensors.
    """

    level: str
    base: int
    extent_bytes: int
    tensors: tuple[PlannedTensor, ...]
    beside: tuple[Placed, ...]

    def in_order(self, layers: Sequence[str | None]) -> tuple[int, ...]:
        """Return the integers of the metadata for a model whose tensors hold the outputs of ``layers``.

        ``layers`` names for every tensor of the file a layer (``input`` for the network's input), or is None
        for a constant, and for what the interpreter shall place itself. Raises UserError where a name is
        unknown, or an activation of the plan has no tensor.
        """
        offsets = {layer: tensor.offset for tensor in self.tensors for layer in tensor.layers}
        problems = [
            Problem(METADATA, f"tensor {index}", f"no activation of the plan is called {layer!r}", "")
            for index, layer in enumerate(layers)
            if layer is not None and layer not in offsets
        ]
        named = set(layers)
        problems += [
            Problem(METADATA, tensor.name, "no tensor of the model holds it", "")
            for tensor in self.tensors
            if named.isdisjoint(tensor.layers)
        ]
        if problems:
            raise UserError(problems)
        found = [AT_RUN_TIME if layer is None else offsets[layer] for layer in layers]
        return (VERSION, SUBGRAPHS, len(found), *found)

    @property
    def integers(self) -> tuple[int, ...]:
        """The integers of the metadata for a model whose tensors are the activations alone, in order."""
        return (VERSION, SUBGRAPHS, len(self.tensors), *(tensor.offset for tensor in self.tensors))


def metadata_bytes(integers: Sequence[int]) -> bytes:
    """Return the content of the metadata's buffer."""
    return struct.pack(f"<{len(integers)}i", *integers)


def offline_plan(memory_map: MemoryMap) -> OfflinePlan:
    """Return the inference part of a map. Raises UserError, with every reason, where it cannot be used."""
    problems = list(offline_problems(memory_map))
    if problems:
        raise UserError(problems)
    found = _inference_tensors(memory_map)
    base = min(placed.offset for _, _, placed in found)
    top = max(placed.offset + placed.buffer.size_bytes for _, _, placed in found)
    tensors = tuple(
        PlannedTensor(name, layers, placed.offset - base, placed) for name, layers, placed in found
    )
    level = found[0][2].level
    return OfflinePlan(level, base, top - base, tensors, _beside(memory_map, level, base, top))


def offline_problems(memory_map: MemoryMap) -> Iterator[Problem]:
    """Yield why the interpreter could not run the inference of a map in its offsets."""
    found = [placed for _, _, placed in _inference_tensors(memory_map)]
    if not found:
        yield Problem(METADATA, "", "the schedule has no inference", "")
        return
    schedule = memory_map.schedule
    if schedule.plan.patches != "none":
        what = f"the inference runs patch by patch ({schedule.plan.patches})"
        yield Problem(METADATA, "patches", what, "the interpreter runs whole layers: patches = 'none'")
    if _depthwise_in_place(schedule):
        what = "depthwise convolutions overwrite their input"
        allowed = "the interpreter's kernels cannot: in_place = 'elementwise' or 'none'"
        yield Problem(METADATA, "in_place", what, allowed)
    levels = sorted({placed.level for placed in found})
    if len(levels) > 1:
        what = f"tensors lie in {' and '.join(levels)}"
        yield Problem(METADATA, "level", what, "the interpreter has one arena")
    crooked = [placed for placed in found if placed.offset % ALIGNMENT]
    if crooked:
        what = f"{len(crooked)} of {len(found)} offsets are no multiples of {ALIGNMENT}: {_some(crooked)}"
        yield Problem(METADATA, "alignment", what, f"place the buffers with alignment = {ALIGNMENT}")
    if max(placed.offset for placed in found) > _LARGEST:
        yield Problem(METADATA, "offset", "beyond 2 GiB", "the metadata holds 32-bit integers")


def _some(placed: Sequence[Placed]) -> str:
    shown = ", ".join(f"{each.buffer.name} at {each.offset}" for each in placed[:_SHOWN])
    return shown + (" ..." if len(placed) > _SHOWN else "")


def _depthwise_in_place(schedule: StepSchedule) -> bool:
    workload, in_place = schedule.workload, schedule.plan.in_place
    inner = {layer for tensor in tensors_of(workload, in_place)[0] for layer in tensor.members[1:]}
    return in_place == "depthwise" and any(overwrites_depthwise(workload, layer) for layer in inner)


def _inference_tensors(memory_map: MemoryMap) -> list[tuple[str, tuple[str, ...], Placed]]:
    """Name, layers and place of every tensor of an inference, in topological order, the input first."""
    schedule = memory_map.schedule
    workload = schedule.workload
    members = {tensor.root: tensor.members for tensor in tensors_of(workload, schedule.plan.in_place)[0]}
    found: dict[int, tuple[str, tuple[str, ...], Placed]] = {}
    for placed in memory_map.entries:
        buffer = placed.buffer
        if buffer.holds == Holds.INFERRED:
            layers = tuple(workload.layers[layer].name for layer in members[buffer.place])
            found[buffer.place] = layers[0], layers, placed
        elif buffer.holds == Holds.FRAME and schedule.operations[buffer.end].phase == Phase.INFERENCE:
            found[-1] = _INPUT, (_INPUT,), placed
    return [found[root] for root in sorted(found)]


def _beside(memory_map: MemoryMap, level: str, base: int, top: int) -> tuple[Placed, ...]:
    """Buffers of ``level`` in [base, top) that are alive in an inference and are no tensors of it."""
    runs = [op.number for op in memory_map.schedule.operations if op.phase == Phase.INFERENCE]
    tensors = {id(placed) for _, _, placed in _inference_tensors(memory_map)}
    return tuple(
        placed
        for placed in on_level(memory_map, level)
        if id(placed) not in tensors
        and placed.buffer.holds != Holds.WORKSPACE  # kernels ask the interpreter for it
        and placed.buffer.end >= runs[0]
        and placed.offset < top
        and placed.offset + placed.buffer.size_bytes > base
    )


def plan_json(plan: OfflinePlan) -> str:
    """Return the plan for people and scripts: every tensor with its offset, and what has to be known."""
    content = {
        "metadata": METADATA, "version": VERSION, "subgraphs": SUBGRAPHS, "alignment_bytes": ALIGNMENT,
        "level": plan.level, "arena_starts_at": plan.base, "extent_bytes": plan.extent_bytes,
        "notes": _notes(plan),
        "tensors": [_tensor_record(index, tensor) for index, tensor in enumerate(plan.tensors)],
        "beside": [_record(placed) for placed in plan.beside],
    }  # fmt: skip
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _tensor_record(index: int, tensor: PlannedTensor) -> dict[str, Any]:
    own = {"index": index, "tensor": tensor.name, "layers": list(tensor.layers), "offset": tensor.offset}
    return own | _record(tensor.placed)


def _record(placed: Placed) -> dict[str, Any]:
    buffer = placed.buffer
    return {
        "id": buffer.id, "map_offset": placed.offset, "size_bytes": buffer.size_bytes,
        "first": buffer.start, "last": buffer.end,
    }  # fmt: skip


def _notes(plan: OfflinePlan) -> list[str]:
    notes = [
        f"{BIN} is the buffer of the metadata {METADATA}, in little-endian 32-bit integers: version, "
        "number of subgraphs (in older documents the index of the subgraph; the interpreter reads neither), "
        "number of tensors, one offset per tensor.",
        "Its tensors are the activations in the order of this file. Their order and number have to be those "
        "of the tensors of the .tflite file, or the interpreter refuses it; where the file lists weights and "
        "biases too, -1 belongs at their indices (OfflinePlan.in_order in dse.report.certificate does it).",
        f"Offsets count from byte {plan.base} of the {plan.level} arena: give the interpreter its memory "
        f"from there on, at an address that is a multiple of {ALIGNMENT}.",
        "A tensor of several layers is overwritten by each in turn; a converter that fuses them has one "
        "tensor for it, and one that does not gives each of its tensors this offset.",
        "The interpreter places scratch buffers of kernels and its own records itself, around these tensors.",
    ]
    if plan.beside:
        notes.append(
            "It does not know the buffers under 'beside', which hold something during an inference and lie "
            "between the tensors: whatever it places itself may overwrite them."
        )
    return notes

"""Scratch of the kernels, one call at a time, by the formula that the library states or the plan decides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import numpy as np

from dse.plan.decisions import IM2COL, BoolArray
from dse.plan.learning import Learning
from dse.plan.patches import regions_of
from dse.plan.spec import StepSpec
from dse.plan.tensors import tensors_of
from dse.plan.timeline import Holds, Schedule
from dse.plan.workspace import WorkspaceTable, recurrent_bytes, unfolding, workspace_bytes
from dse.vocabulary import DTYPE_BYTES, DTYPES, Role
from dse.workload import Unit

FROZEN_WIDTHS: Final = (("int8", 1), ("fp32", 4))


def add_workspaces(
    schedule: Schedule,
    spec: StepSpec,
    learning: Learning,
    again: BoolArray,
    table: WorkspaceTable,
    cores: int,
) -> None:
    """Add the workspace of every kernel call."""
    for code in np.unique(spec.im2col):
        chosen = unfolding(table, IM2COL[code])
        rows = spec.im2col == code
        for index, unit in enumerate(schedule.workload.units):
            _learning_stage(schedule, spec, learning, again, chosen, cores, index, rows)
            _frozen(schedule, spec, chosen, cores, unit, rows)


def _learning_stage(
    schedule: Schedule, spec: StepSpec, learning: Learning, again: BoolArray, table: WorkspaceTable,
    cores: int, index: int, rows: BoolArray,
) -> None:  # fmt: skip
    clock, unit = schedule.clock, schedule.workload.units[index]
    layer, second = unit.layer, clock.again(unit.layer)
    passes = [
        (clock.forward(layer), "fwd", learning.runs(layer)),
        (clock.backward(layer, 1), "bwd_input", learning.error_passes[layer]),
        (clock.backward(layer, 0), "bwd_weight", learning.weights_learn(index) & ~spec.update_late),
        (clock.backward(layer, 2), "bwd_weight", learning.weights_learn(index) & spec.update_late),
    ]
    if second is not None:
        passes.append((second, "fwd", again[layer]))
    for dtype, errors, mine in _kernel_dtypes(spec, learning, index):
        for op, pass_, mask in passes:
            wide = dtype == "int8" and pass_ != "fwd" and not errors
            width = 4 if wide else DTYPE_BYTES[dtype]
            size = workspace_bytes(table, unit, pass_, dtype, width, cores)
            _add(schedule, unit, f"{pass_} kernel", op, size, mask & mine & rows)


def _kernel_dtypes(spec: StepSpec, learning: Learning, unit: int) -> Iterator[tuple[str, bool, BoolArray]]:
    """Yield the dtypes that kernels of ``unit`` compute in, whether on int8 errors, and the plans (P,)."""
    codes = learning.unit_dtype(unit)
    for code in np.unique(codes):
        for errors in np.unique(spec.int8_errors[codes == code]):
            yield DTYPES[code], bool(errors), (codes == code) & (spec.int8_errors == errors)


def _frozen(
    schedule: Schedule, spec: StepSpec, table: WorkspaceTable, cores: int, unit: Unit, rows: BoolArray
) -> None:
    """The frozen stage and inference; a depthwise layer in place needs one plane of a channel besides."""
    clock, layer = schedule.clock, unit.layer
    seen = _seen(schedule, spec, unit)
    plane = unit.output_elements // unit.out_channels
    tensors, position = tensors_of(schedule.workload, spec.structure.in_place)
    in_place = unit.operator == "depthwise" and tensors[position[layer]].root != layer
    for dtype, width in FROZEN_WIDTHS:
        size = workspace_bytes(table, seen, "fwd", dtype, width, cores) + in_place * plane * width
        size += recurrent_bytes(schedule.workload, unit)
        mine = (spec.frozen_bytes == width) & rows
        frozen = mine & (layer <= spec.cut_layer)
        _add(schedule, unit, "frozen fwd kernel", clock.frozen(layer), size, frozen)
        _add(schedule, unit, "inference kernel", clock.infer(layer), size, mine)


def _seen(schedule: Schedule, spec: StepSpec, unit: Unit) -> Unit:
    """Return ``unit`` as large as one call of the frozen stage sees it: a patch, where it runs by patches."""
    patches = spec.structure.patches
    if patches is None or unit.index > patches.unit:
        return unit
    return replace(unit, output_elements=regions_of(schedule.workload, patches).most_elements(unit.layer))


def _add(schedule: Schedule, unit: Unit, reason: str, op: int, size: int, mask: BoolArray) -> None:
    schedule.add(
        Role.WORKSPACE, unit.name, reason, op, op, size * mask, holds=Holds.WORKSPACE, place=unit.layer
    )

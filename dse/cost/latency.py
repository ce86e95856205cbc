"""Seconds: cycles of kernels and elements at a clock, and bytes moved between levels.

Unit time of a pass = calls x overhead + MACs / rate + elements x cycles per element, at the clock of the
operating point. Bytes from a level with access "stream" take seconds of their own; with double buffering
a pass takes the longer of computing and each level's transfer, else their sum. On a board with a scratchpad
the bytes are those of the tiles, and each of their transfers takes the cycles of its set-up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dse.cost.context import Context
from dse.cost.cycles import call_overhead, kernel_cycles, kernels_of, layer_cycles, step_cycles
from dse.cost.forward_tiles import weight_passes
from dse.cost.memory import Placement
from dse.cost.tiling_calls import level_behind
from dse.cost.tiling_traffic import Passage, added_traffic, frozen_tiles, step_tiles
from dse.hardware.entries import Rate
from dse.plan.decisions import BoolArray, FloatArray, IntArray
from dse.plan.step import READ, WRITE, TrainingStep, side_bytes
from dse.vocabulary import DTYPES, PASSES, Role
from dse.workload import Workload


@dataclass(frozen=True)
class StepTime:
    """Per mini-batch; C operating points, K levels. The last unit row is loading latents and the loss."""

    cycles: FloatArray  # (S, U + 1, passes) cycles of computing
    seconds: FloatArray  # (S, C, U + 1, passes)
    bytes_read: FloatArray  # (S, K)
    bytes_written: FloatArray  # (S, K)
    moved: dict[int, FloatArray]  # level -> (S, U + 1, passes, 2)


@dataclass(frozen=True)
class FrozenTime:
    """Per image through the frozen stage."""

    seconds: FloatArray  # (S, C)
    unit_seconds: FloatArray  # (S, C, U)
    bytes_read: FloatArray  # (S, K)
    bytes_written: FloatArray  # (S, K)
    moved: dict[int, FloatArray]  # level -> (S, U, 1, 2)


def byte_seconds(context: Context) -> FloatArray:
    """Seconds per byte of every level: shape (C, K, 2) for read and written; 0 where cores work directly."""
    table = np.zeros((len(context.clocks_hz), len(context.board.levels), 2))
    for k, level in enumerate(context.board.levels):
        if level.access == "stream":
            table[:, k, READ] = level.read_s_per_byte(context.clocks_hz)
            table[:, k, WRITE] = level.write_s_per_byte(context.clocks_hz)
    return table


def step_time(context: Context, step: TrainingStep, placement: Placement) -> StepTime:
    """Time of one mini-batch by unit and pass at every operating point, and the bytes per level."""
    cycles = step_cycles(context, step)
    if not context.accounting.transfers:
        compute = cycles[:, None] / context.clocks_hz[None, :, None, None]
        nothing = np.zeros((len(step), len(context.board.levels)))
        return StepTime(cycles, compute, nothing, nothing, {})
    passage = step_tiles(context, step, placement)
    if passage is not None:
        cycles[:, :-1, :3] += passage.tiles.transfers * _setup_cycles(context, step)
    compute = cycles[:, None] / context.clocks_hz[None, :, None, None]
    moved = _level_traffic(context, step, placement, passage)
    seconds = _combine(context, compute, moved)
    totals = {k: traffic.sum(axis=(1, 2)) for k, traffic in moved.items()}
    read, written = (
        np.stack(
            [
                totals[k][:, way] if k in totals else np.zeros(len(step))
                for k in range(len(context.board.levels))
            ],
            1,
        )
        for way in (READ, WRITE)
    )
    return StepTime(cycles, seconds, read, written, moved)


def _setup_cycles(context: Context, step: TrainingStep) -> FloatArray:
    """Cycles to set up the transfer of one tile, (S, U, 3); 0 where the MAC rate already contains them."""
    cycles = np.zeros(step.calls.shape)
    for kernels in kernels_of(step):
        for u, p in kernels.executed(step):
            cycles[kernels.rows, u, p] = _setup_of(context, kernels.rate(context, u, p))
    return cycles


def _setup_of(context: Context, rate: Rate) -> float:
    """Cycles to set up one transfer; a rate that was measured from a level behind the tiles contains them."""
    streamed = any(level.name == rate.weights_in and level.access != "tile" for level in context.board.levels)
    return 0.0 if streamed else context.board.dma.setup_cycles.value


def head_event(context: Context, step: TrainingStep, placement: Placement) -> tuple[FloatArray, FloatArray]:
    """Seconds (S, C) of a head's work at the end of an event, and its bytes by level (S, K, 2)."""
    macs = step.spec.head_event_macs
    compute = np.zeros((len(step), len(context.clocks_hz), 1, 1))
    if macs.any():
        rate = context.board.rate("linear", "fwd", "fp32", context.kernels.get("fp32")).mac_per_cycle.value
        compute = (macs[:, None] / rate / context.clocks_hz)[..., None, None]
    parts = (
        (Role.WORKSPACE, step.spec.head_event_workspace_bytes),
        (Role.HEAD_STATE, step.spec.head_event_state_bytes),
    )
    bytes_moved = np.zeros((len(step), len(context.board.levels), 2))
    for role, size in parts:
        bytes_moved[np.arange(len(step)), placement.level[role]] += size[:, None]
    if not context.accounting.transfers:
        return compute[..., 0, 0], np.zeros_like(bytes_moved)
    moved = {k: bytes_moved[:, k][:, None, None, :] for k in range(len(context.board.levels))}
    return _combine(context, compute, moved)[..., 0, 0], bytes_moved


def _combine(context: Context, compute: FloatArray, moved: dict[int, FloatArray]) -> FloatArray:
    """Overlap or add computing (S, C, U, 4) and each level's transfer of ``moved`` bytes (S, U, 4, 2)."""
    rate = byte_seconds(context)
    behind_tiles, duplex = _tile_port(context)
    seconds = compute.copy()
    for k, traffic in moved.items():
        read, write = (
            traffic[:, None, ..., way] * rate[None, :, k, None, None, way] for way in (READ, WRITE)
        )
        transfer = read + write
        if duplex and k == behind_tiles:
            transfer -= duplex * np.minimum(read, write)
        seconds = np.maximum(seconds, transfer) if context.board.dma.double_buffered else seconds + transfer
    return seconds


def _tile_port(context: Context) -> tuple[int, float]:
    """Return the level behind the scratchpad, and how far reading and writing it overlap; -1 if none is."""
    levels, duplex = context.board.levels, context.board.dma.duplex_fraction
    if duplex is None or not any(level.access == "tile" for level in levels):
        return -1, 0.0
    return level_behind(context), duplex.value


def _level_traffic(
    context: Context, step: TrainingStep, placement: Placement, passage: Passage | None
) -> dict[int, FloatArray]:
    """Bytes by level: k -> (S, U + 1, passes, 2). What a rate already contains is left out.

    With a scratchpad, whatever lies farther away passes through the level behind it as well.
    """
    moved: dict[int, FloatArray] = {}
    for role, k, here, moving in _parts(step, placement, passage):
        if role == Role.FROZEN_WEIGHTS:
            included = _not_included(context, step, k)
            moving = moving * included[:, : moving.shape[1], : moving.shape[2]]
        if k not in moved:
            moved[k] = np.zeros(step.traffic[role].shape)
        moved[k][:, : moving.shape[1], : moving.shape[2]] += moving if here is None else moving * here
    return moved


def _parts(
    step: TrainingStep, placement: Placement, passage: Passage | None
) -> Iterator[tuple[Role, int, BoolArray | None, FloatArray]]:
    """Yield what moves: role, level, the plans in which the level moves it (None: all), and the bytes.

    Operands (S, U + 1, passes, 2) first, then what their tiles add (S, U, 3, 2).
    """
    parts = [(step.traffic, step.traffic)]
    if passage is not None:
        same = passage.staged is passage.tiles
        tiled = added_traffic(step, passage.tiles)
        parts.append((tiled, tiled if same else added_traffic(step, passage.staged)))
    near = -1 if passage is None else passage.near
    for through, staged in parts:
        for role in (role for role, part in through.items() if part.any()):
            for k in np.unique(placement.level[role]).tolist():
                if k != near:
                    here = placement.level[role] == k
                    yield role, k, None if here.all() else here[:, None, None, None], staged[role]
            if passage is not None:
                yield role, near, None, through[role]


def _not_included(context: Context, step: TrainingStep, level: int) -> FloatArray:
    """0 where the MAC rate was measured with weights in ``level``, else 1: (S, U + 1, passes, 1)."""
    name = context.board.levels[level].name
    factor = np.ones((len(step), len(context.workload.units) + 1, len(PASSES), 1))
    for kernels in kernels_of(step):
        for u, p in kernels.executed(step):
            factor[kernels.rows, u, p] = float(kernels.rate(context, u, p).weights_in != name)
    return factor


def frozen_time(context: Context, step: TrainingStep, placement: Placement) -> FrozenTime:
    """Time of one image through the frozen stage at every operating point."""
    shape = (len(step), len(context.workload.units))
    passage = frozen_tiles(context, step, placement) if context.accounting.transfers else None
    cycles, included = np.zeros(shape), np.full(shape, -1)
    for width, dtype in ((1, "int8"), (4, "fp32")):
        rows = np.flatnonzero((step.spec.frozen_bytes == width) & step.frozen_layers.any(axis=1))
        if len(rows):
            cycles[rows], included[rows] = _frozen_cycles(context, step, dtype, rows, passage)
    compute = cycles[:, None] / context.clocks_hz[None, :, None]
    levels = len(context.board.levels)
    read, written = np.zeros((len(step), levels)), np.zeros((len(step), levels))
    if not context.accounting.transfers:
        return FrozenTime(compute.sum(axis=2), compute, read, written, {})
    moved = _frozen_traffic(step, placement, included, passage, levels)
    for k, traffic in moved.items():
        read[:, k], written[:, k] = (traffic[:, :, 0, way].sum(axis=1) for way in (READ, WRITE))
    seconds = _combine(context, compute[..., None], moved)[..., 0]
    return FrozenTime(seconds.sum(axis=2), seconds, read, written, moved)


def _frozen_traffic(
    step: TrainingStep, placement: Placement, included: IntArray, passage: Passage | None, levels: int
) -> dict[int, FloatArray]:
    """Bytes per image by level: k -> (S, U, 1, 2); weights of level ``included`` (S, U) are in the rates."""
    once = _frozen_weights(step)
    moved: dict[int, FloatArray] = {}
    for k in range(levels):
        near = passage is not None and k == passage.near
        traffic, weights = step.frozen_activation_bytes, once
        if passage is not None:
            extra = (passage.tiles if near else passage.staged).extra
            traffic = traffic + np.moveaxis(extra[0] + extra[2], 0, -1)
            weights = weights + extra[1, READ]
        here = near | (placement.level[Role.TRANSIENT_ACTIVATIONS] == k)
        traffic = traffic * here[:, None, None]
        here = near | (placement.level[Role.FROZEN_WEIGHTS] == k)
        traffic[..., READ] += weights * here[:, None] * (included != k)
        if traffic.any():
            moved[k] = traffic[:, :, None]
    return moved


def _frozen_weights(step: TrainingStep) -> FloatArray:
    """Bytes of weights and biases that one image reads in the frozen stage, by unit (S, U)."""
    workload, units = step.workload, step.workload.units
    weights = np.array([unit.weight_params * weight_passes(unit) for unit in units])
    own = weights * step.spec.frozen_bytes[:, None] + [4 * unit.bias_params for unit in units]
    once = own * step.frozen_units * _calls_per_image(step)
    sides = side_bytes(workload, step.spec) * step.frozen_layers
    return once + sides @ _owner(workload)


def _owner(workload: Workload) -> FloatArray:
    """1 where a layer (L,) belongs to a unit (U,); layers before the first belong to it."""
    owner = np.zeros((len(workload.layers), len(workload.units)))
    owner[np.arange(len(workload.layers)), np.maximum(workload.unit_of_layer, 0)] = 1.0
    return owner


def _frozen_cycles(
    context: Context, step: TrainingStep, dtype: str, rows: IntArray, passage: Passage | None
) -> tuple[FloatArray, IntArray]:
    """Cycles per image and unit (R, U), and the level from which the rates already fetch weights (U,)."""
    workload, library = context.workload, context.kernels.get(dtype)
    overhead, calls = call_overhead(context, dtype), _calls_per_image(step)
    names = [level.name for level in context.board.levels]
    cycles, included = np.zeros((len(rows), len(workload.units))), np.full(len(workload.units), -1)
    for u, unit in enumerate(workload.units):
        runs = step.frozen_units[rows, u]
        if runs.any():
            rate = context.board.rate(unit.operator, "fwd", dtype, library)
            included[u] = names.index(rate.weights_in) if rate.weights_in in names else -1
            macs = unit.macs * step.frozen_repeat[unit.layer]
            cycles[:, u] = runs * kernel_cycles(macs, rate.mac_per_cycle.value, calls[u], overhead)
            if passage is not None:
                cycles[:, u] += passage.tiles.transfers[rows, u] * _setup_of(context, rate)
    if not context.accounting.elements:
        return cycles, included
    layers = step.frozen_layers[rows] * step.frozen_repeat
    per_layer = layer_cycles(context, dtype, "fwd", layers.any(axis=0), folded=True)
    return cycles + (layers * per_layer) @ _owner(workload), included


def _calls_per_image(step: TrainingStep) -> FloatArray:
    """Kernel calls of each unit for one image of the frozen stage, (U,): one for each patch."""
    calls, patches = np.ones(len(step.workload.units)), step.spec.structure.patches
    if patches is not None:
        edge = step.workload.units[patches.unit].cut_layer
        calls[: patches.unit + 1] = patches.tiles ** (len(step.workload.shapes[edge]) - 1)
    return calls


def copy_cycles(context: Context, step: TrainingStep) -> FloatArray:
    """Cycles per event to quantise what learned into the inference copy, (S,)."""
    result = np.zeros(len(step))
    if not context.accounting.elements:
        return result
    for code in np.unique(step.learning.dtype):
        rows = (step.learning.dtype == code) & (step.copy_parameters > 0)
        if rows.any():
            dtype = DTYPES[code]
            cost = context.board.element_cost("quantise", "fwd", dtype, context.kernels.get(dtype))
            result += rows * step.copy_parameters * cost.cycles_per_element.value
    return result


def store_cycles(context: Context, step: TrainingStep) -> FloatArray:
    """Cycles per new sample to bring its latent to the stored width, (S,)."""
    bits, frozen = step.spec.latent_bits, 8 * step.spec.frozen_bytes
    result = np.zeros(len(step))
    if not context.accounting.elements:
        return result
    for width, dtype in ((8, "int8"), (32, "fp32")):
        rows = (frozen == width) & (bits != width) & (step.spec.cut_layer >= 0) & ~step.spec.frozen_in_batch
        if rows.any():
            library = context.kernels.get(dtype)
            cost = context.board.element_cost("quantise", "fwd", dtype, library).cycles_per_element.value
            packed = ~np.isin(bits, (8, 16, 32))
            pack = (
                context.board.element_cost("unpack", "fwd", dtype, library).cycles_per_element.value
                if packed.any()
                else 0.0
            )
            result += rows * step.latent_elements * (cost + packed * pack)
    return result

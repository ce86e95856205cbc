"""The kernel calls of a step on a scratchpad: their operands, widths and workspace, and the room there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from dse.cost.context import Context
from dse.cost.tiling import Call, Tiling, best_tiling, smallest_bytes
from dse.cost.tiling_geometry import loops_of
from dse.errors import Problem, Unpriced
from dse.plan.decisions import IM2COL
from dse.plan.spec import FRAME_BYTES, SUM_BYTES
from dse.plan.step import TrainingStep
from dse.plan.workspace import WorkspaceTable, unfolding
from dse.vocabulary import DTYPE_BYTES, DTYPES, PASSES
from dse.workload import Workload
from dse.workload.graph import NETWORK_INPUT

MAC_PASSES: Final = PASSES[:3]


@dataclass(frozen=True)
class Scratchpad:
    """A level that holds tiles, and what kernels need there beside them.

    ``room_bytes`` is for tiles and workspace, ``buffers`` how often each tile is held.
    """

    board: str
    level: str
    room_bytes: float
    buffers: int
    cores: int
    formulas: tuple[tuple[tuple[str, str, str], str], ...]  # (operator, pass, dtype) -> workspace


def scratchpad_of(context: Context) -> Scratchpad | None:
    """Return the scratchpad of the board; None where cores reach their levels directly."""
    board = context.board
    for k, level in enumerate(board.levels):
        if level.access == "tile":
            libraries = board.kernels | dict(context.kernels)
            formulas = {
                call: board.tile_workspace(libraries[call[2]], call[0], call[1]) for call in context.workspace
            }
            return Scratchpad(
                board.label, level.name, float(context.capacity_bytes[k]), 1 + board.dma.double_buffered,
                board.cores, tuple(formulas.items()),
            )  # fmt: skip
    return None


def level_behind(context: Context) -> int:
    """Return the level next to the scratchpad: the first of the board's file from which bytes move."""
    return next(k for k, level in enumerate(context.board.levels) if level.access == "stream")


@lru_cache(maxsize=64)
def _formulas(pad: Scratchpad, im2col: int) -> WorkspaceTable:
    return unfolding(dict(pad.formulas), IM2COL[im2col])


def require_tiling(pad: Scratchpad, call: Call, unit: str) -> Tiling:
    """Return the tiling of ``call``; raises Unpriced, naming ``unit``, where no tile is small enough."""
    found = best_tiling(call, pad.room_bytes)
    if found is None:
        need = smallest_bytes(call)
        raise Unpriced(
            Problem(
                pad.board, f"memory.{pad.level}",
                f"the smallest tile of {unit} ({call.pass_}) takes {need:,.0f} B with its workspace",
                f"{pad.level} has {pad.room_bytes:,.0f} B for tiles",
            )
        )  # fmt: skip
    return found


def step_call(
    pad: Scratchpad, step: TrainingStep, row: int, unit: int, pass_: int, kept: int | None = None
) -> Call:
    """Return the call of ``unit`` in pass number ``pass_`` on one micro-batch of plan ``row``.

    ``kept``: input channels whose weights learn, where these are not all.
    """
    spec, loops = step.spec, loops_of(step.workload)[unit]
    loops = loops if kept is None else loops.with_inputs(kept)
    input_bytes, weight_bytes, output_bytes = _widths(step, row, unit, pass_)
    dtype = DTYPES[step.learning.unit_dtype(unit)[row]]
    wide = dtype == "int8" and pass_ > 0 and not spec.int8_errors[row]  # int8 operands are widened
    formula = _formulas(pad, int(spec.im2col[row])).get((loops.operator, MAC_PASSES[pass_], dtype), "none")
    return Call(
        loops, MAC_PASSES[pass_], int(spec.micro[row]), input_bytes, weight_bytes, output_bytes,
        pad.buffers, formula, SUM_BYTES if wide else DTYPE_BYTES[dtype], pad.cores,
        spills=bool(pass_ != 2 or spec.gradient_buffer[row]),
        accumulates=bool(pass_ == 2 and spec.accumulators[row]),
    )  # fmt: skip


def _widths(step: TrainingStep, row: int, unit: int, pass_: int) -> tuple[int, int, int]:
    """Bytes per element of input, weights and output, or of their errors and gradient."""
    spec = step.spec
    error = int(spec.error_bytes(unit)[row])
    if pass_ == 0:
        widened = spec.fp32_classifier[row] and unit == len(step.workload.units) - 1
        inputs = SUM_BYTES if widened else int(spec.act_bytes[row])
        return inputs, int(spec.weight_bytes[row, unit]), int(spec.output_bytes(unit)[row])
    if pass_ == 1:
        inputs = SUM_BYTES if spec.int8_errors[row] else int(spec.grad_bytes[row])
        return inputs, int(spec.weight_bytes[row, unit]), error
    return int(spec.operand_bytes(unit)[row]), int(spec.acc_bytes[row, unit]), error


def frozen_call(pad: Scratchpad, workload: Workload, unit: int, width: int, im2col: int = 0) -> Call:
    """Return the call of ``unit`` on one image in the frozen stage, with ``width`` bytes per value."""
    loops = loops_of(workload)[unit]
    dtype = "int8" if width == 1 else "fp32"
    frame = workload.inputs[workload.units[unit].layer][0] == NETWORK_INPUT
    formula = _formulas(pad, im2col).get((loops.operator, "fwd", dtype), "none")
    return Call(
        loops, "fwd", 1, FRAME_BYTES if frame else width, width, width, pad.buffers, formula, width, pad.cores
    )

"""Layers that run forward only on a scratchpad: what passes through it, where no walk over tiles is known.

All operands but the largest lie in the scratchpad whole, and the largest passes through once, in as many
parts as it takes: so each operand moves once. For a product of two matrices, and for a transposed
convolution, any of the three can be the one that passes. A recurrent layer reads its weights at every step,
so that they pass once per step and need no room; an operation that is known by name alone has to fit whole.
"""

from __future__ import annotations

from typing import Final

from dse.cost.tiling import Moved, Tiling
from dse.cost.tiling_calls import Scratchpad, frozen_call, require_tiling
from dse.cost.tiling_geometry import INPUT, OUTPUT, WEIGHTS
from dse.errors import Problem, Unpriced
from dse.plan.workspace import recurrent_bytes, recurrent_steps
from dse.vocabulary import is_custom
from dse.workload import Unit, Workload
from dse.workload.base import elements

RECURRENT: Final = ("lstm", "gru", "rnn")
PARTS: Final = 8
"""Parts in which the largest operand passes: one of them takes room, as often as tiles are held."""


def weight_passes(unit: Unit) -> int:
    """Return how often one image reads the weights of ``unit``: at every step of a recurrent layer."""
    return recurrent_steps(unit)


def operand_bytes(workload: Workload, unit: Unit, width: int) -> dict[str, int]:
    """Bytes of inputs, weights and output of a unit, ``width`` per element."""
    inputs = sum(elements(workload.shape_of(source)) for source in workload.inputs[unit.layer])
    return {INPUT: inputs * width, WEIGHTS: unit.weight_params * width, OUTPUT: unit.output_elements * width}


def frozen_tiling(pad: Scratchpad, workload: Workload, index: int, width: int, im2col: int) -> Tiling:
    """Return the tiles of unit ``index`` on one image of the frozen stage; raises Unpriced without room."""
    unit = workload.units[index]
    if workload.layers[unit.layer].forward_only:
        return forward_tiling(pad, workload, index, width)
    return require_tiling(pad, frozen_call(pad, workload, index, width, im2col), unit.name)


def forward_tiling(pad: Scratchpad, workload: Workload, index: int, width: int) -> Tiling:
    """Return what unit ``index``, which runs forward only, moves through the scratchpad for one image.

    Raises Unpriced, naming the unit and its bytes, where its operands have no room.
    """
    unit = workload.units[index]
    sizes = operand_bytes(workload, unit, width)
    parts = 1 if is_custom(unit.operator) else PARTS
    need = recurrent_bytes(workload, unit) + _need(pad, unit, sizes, parts)
    if need > pad.room_bytes:
        found = (
            f"{unit.name} ({unit.operator}) takes {need:,.0f} B there: no walk over smaller tiles is known"
        )
        allowed = f"{pad.level} has {pad.room_bytes:,.0f} B for tiles"
        raise Unpriced(Problem(pad.board, f"memory.{pad.level}", found, allowed))
    largest = max(sizes, key=lambda name: sizes[name])
    once = {name: parts if name == largest else 1 for name, size in sizes.items() if size}
    counts = once | ({WEIGHTS: weight_passes(unit)} if unit.operator in RECURRENT and sizes[WEIGHTS] else {})
    moved = {
        name: Moved(size, 0 if name == OUTPUT else size, size * (name == OUTPUT), counts.get(name, 0))
        for name, size in sizes.items()
    }
    shape = workload.shapes[unit.layer]
    return Tiling(1, shape[0], 1, shape[-1], 1, (), parts, float(need), moved)


def _need(pad: Scratchpad, unit: Unit, sizes: dict[str, int], parts: int) -> float:
    """Bytes of operands in the scratchpad at a time; what passes in parts is held as often as tiles are."""
    if unit.operator in RECURRENT:
        steps = weight_passes(unit)
        return pad.buffers * ((sizes[INPUT] + sizes[OUTPUT]) / steps + sizes[WEIGHTS] / parts)
    largest = max(sizes.values())
    return sum(sizes.values()) - largest + (pad.buffers * largest / parts if parts > 1 else largest)

"""Scratch memory that a kernel needs beside its operands, by the formula that its library states."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import product
from math import ceil, prod
from typing import Final

from dse.vocabulary import DTYPES, OPERATORS
from dse.workload import Unit, Workload
from dse.workload.base import MAC_PASSES

STATE_BYTES: Final = 4  # int32 or fp32

WorkspaceTable = Mapping[tuple[str, str, str], str]
"""(operator, pass, dtype) -> formula name; what is absent needs no workspace."""


def none(unit: Unit, width: int, cores: int) -> int:
    """Return 0: the kernel works on its operands alone."""
    return 0


def im2col_two_columns(unit: Unit, width: int, cores: int) -> int:
    """Two unfolded input patches per core [B] (PULP-NN, arXiv 1908.11263; CMSIS-NN, arXiv 1801.06601)."""
    return 2 * _patch(unit) * width * cores


def im2col_full(unit: Unit, width: int, cores: int) -> int:
    """All unfolded input patches of one sample [B], for matrix products (arXiv 2110.10486, Sec. IV)."""
    pixels = unit.output_elements // unit.out_channels
    patch = _patch(unit) * (unit.out_channels if unit.operator == "depthwise" else 1)
    return patch * pixels * width


def weights_transposed(unit: Unit, width: int, cores: int) -> int:
    """A transposed copy of the unit's weights [B], for the input gradient."""
    return unit.weight_params * width


FORMULAS: Final[dict[str, Callable[[Unit, int, int], int]]] = {
    "none": none,
    "im2col_two_columns": im2col_two_columns,
    "im2col_full": im2col_full,
    "weights_transposed": weights_transposed,
}


def unfolding(table: WorkspaceTable, im2col: str) -> WorkspaceTable:
    """Return ``table`` with its unfolding of inputs as a plan decides: by the library, none, or full."""
    if im2col == "library":
        return table
    if im2col == "none":
        return {call: "none" if formula.startswith("im2col") else formula for call, formula in table.items()}
    calls = product(OPERATORS, MAC_PASSES, DTYPES)
    kept = {call: formula for call, formula in table.items() if not formula.startswith("im2col")}
    return dict.fromkeys(calls, "im2col_full") | {c: f for c, f in kept.items() if f != "none"}


def _patch(unit: Unit) -> int:
    """Elements of one input patch, per group."""
    if unit.operator in ("pointwise", "linear"):
        return 0  # the input already is the matrix
    channels = unit.weight_params // (unit.out_channels * prod(unit.kernel))
    return prod(unit.kernel) * channels


STATE_ROWS: Final = {"lstm": 6, "gru": 5, "rnn": 2}
"""Recurrent operator -> vectors that one step keeps beside its operands: gates, state, and cell state."""


def recurrent_steps(unit: Unit) -> int:
    """Return the steps of a recurrent layer, 1 of any other: each step multiplies by every weight once."""
    if unit.operator not in STATE_ROWS or not unit.weight_params:
        return 1
    return ceil(unit.macs / unit.weight_params)


def recurrent_bytes(workload: Workload, unit: Unit) -> int:
    """Bytes that a recurrent layer keeps between its steps and within one, in 32-bit sums; 0 elsewhere.

    Each vector has at most as many elements as the output has per step: hidden units of all directions,
    whichever axis they are. An output of one axis is taken as that of the last step.
    """
    rows, shape = STATE_ROWS.get(unit.operator, 0), workload.shapes[unit.layer]
    steps = recurrent_steps(unit)
    every = len(shape) > 1 and steps in shape
    return rows * (unit.output_elements // steps if every else max(shape)) * STATE_BYTES


def workspace_bytes(table: WorkspaceTable, unit: Unit, pass_: str, dtype: str, width: int, cores: int) -> int:
    """Return the workspace of one kernel call on one sample [B]."""
    return FORMULAS[table.get((unit.operator, pass_, dtype), "none")](unit, width, cores)

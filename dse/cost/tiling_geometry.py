"""What a pass of a conv or linear layer walks: channels by group, rows, and the rows that a tile needs.

Tiles hold whole columns. The rows of the tensor that a pass walks are divided among its tiles: output rows
in the forward pass and for a weight gradient, input rows for an input gradient. The other tensor overlaps: a
tile needs every row that the kernel reaches from its own (the halo), and rows between two tiles that no
kernel position reaches come with the earlier of them, so that each row is brought in at least once. A dilated
kernel reaches from its first tap to its last: rows that lie between its taps are brought in with them, as a
transfer of consecutive rows does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod
from typing import Final

import numpy as np

from dse.plan.decisions import IntArray
from dse.workload import Workload
from dse.workload.windows import ALONE, Sliding

INPUT: Final = "input"
WEIGHTS: Final = "weights"
OUTPUT: Final = "output"
OPERANDS: Final = (INPUT, WEIGHTS, OUTPUT)
"""Operands by the place that they take in the layer; backward passes move their errors and gradients."""

WRITTEN: Final = {"fwd": OUTPUT, "bwd_input": INPUT, "bwd_weight": WEIGHTS}
"""Pass -> the operand that it makes; it reads the other two."""


@dataclass(frozen=True)
class Loops:
    """Extents of a conv or linear layer, for one sample.

    ``ins`` and ``outs`` are channels of one group. Rows are the first axis of positions (the only one of a
    1-D layer; 1 for a vector), columns all others. ``padding`` is the number of rows before the first;
    ``dilation`` the rows from one tap of the kernel to the next.
    """

    operator: str
    groups: int
    ins: int
    outs: int
    in_rows: int
    in_columns: int
    out_rows: int
    out_columns: int
    kernel: tuple[int, ...] = (1,)
    stride: int = 1
    padding: int = 0
    dilation: int = 1

    def walked_rows(self, pass_: str) -> int:
        """Rows that the tiles of a pass divide among them."""
        return self.in_rows if pass_ == "bwd_input" else self.out_rows

    def elements(self, operand: str) -> int:
        """Elements of an operand: of one sample, or of the weights."""
        if operand == WEIGHTS:
            return self.groups * self.ins * self.outs * prod(self.kernel)
        if operand == INPUT:
            return self.groups * self.ins * self.in_rows * self.in_columns
        return self.groups * self.outs * self.out_rows * self.out_columns

    def with_inputs(self, channels: int) -> Loops:
        """Return the layer restricted to ``channels`` of its input channels, as a sparse update is."""
        if self.ins == self.outs == 1:  # one channel per group: depthwise
            return replace(self, groups=channels)
        return replace(self, ins=-(-channels // self.groups))


@dataclass(frozen=True)
class RowSplit:
    """The rows of one sample in tiles of ``rows``: tiles, and rows of the overlapping tensor."""

    rows: int
    tiles: int
    widest: int  # rows of the overlapping tensor that one tile needs, at most
    total: int  # rows of the overlapping tensor that all tiles bring in


@lru_cache(maxsize=256)
def loops_of(workload: Workload) -> tuple[Loops, ...]:
    """Return what each unit of ``workload`` walks."""
    return tuple(_loops(workload, unit.index) for unit in workload.units)


def _loops(workload: Workload, index: int) -> Loops:
    unit = workload.units[index]
    layer = workload.layers[unit.layer]
    if layer.forward_only:  # has no such walk: see ``forward_tiles``
        return Loops(unit.operator, 1, 1, 1, 1, 1, 1, 1)
    before, after = workload.shape_of(workload.inputs[unit.layer][0]), workload.shapes[unit.layer]
    # Channels x (input channels of a group) x kernel elements make the weights, whatever the layer kind.
    ins = unit.weight_params // (after[0] * prod(unit.kernel))
    groups = before[0] // ins
    rows = layer.axes(before)[0] if isinstance(layer, Sliding) else ALONE
    return Loops(
        unit.operator, groups, ins, after[0] // groups,
        before[1] if len(before) > 1 else 1, prod(before[2:]),
        after[1] if len(after) > 1 else 1, prod(after[2:]),
        unit.kernel, rows.stride, rows.before, rows.dilation,
    )  # fmt: skip


def ceil_splits(extent: int) -> IntArray:
    """Return the sizes ceil(extent / k) for k = 1, 2, ...: ascending, each once.

    >>> ceil_splits(10).tolist()
    [1, 2, 3, 4, 5, 10]
    """
    return np.unique(-(-extent // np.arange(1, extent + 1)))


@lru_cache(maxsize=4096)
def row_splits(loops: Loops, pass_: str) -> tuple[RowSplit, ...]:
    """Return every division of the walked rows of one sample into tiles, smallest tiles first."""
    return tuple(_row_split(loops, pass_, int(rows)) for rows in ceil_splits(loops.walked_rows(pass_)))


def _row_split(loops: Loops, pass_: str, rows: int) -> RowSplit:
    spans = tile_spans(loops, pass_, rows)
    sizes = [stop - start for start, stop in spans]
    return RowSplit(rows, len(spans), max(sizes), sum(sizes))


def tile_spans(loops: Loops, pass_: str, rows: int) -> list[tuple[int, int]]:
    """Return the rows [start, stop) of the overlapping tensor that each tile of ``rows`` rows needs."""
    walked = loops.walked_rows(pass_)
    tiles = [(first, min(first + rows, walked)) for first in range(0, walked, rows)]
    needed = [_reached(loops, pass_, *tile) for tile in tiles]
    extent = loops.out_rows if pass_ == "bwd_input" else loops.in_rows
    starts = [0, *(min(max(start, 0), extent) for start, _ in needed[1:]), extent]
    # From one tile's first row to its last; rows before the next tile's first that nobody needs come along.
    return [
        (start, min(max(stop, following, start), extent))
        for start, following, (_, stop) in zip(starts, starts[1:], needed, strict=False)
    ]


def _reached(loops: Loops, pass_: str, first: int, end: int) -> tuple[int, int]:
    """Rows of the other tensor that the kernel connects with walked rows [first, end); may stick out."""
    reach, stride, padding = (loops.kernel[0] - 1) * loops.dilation, loops.stride, loops.padding
    if pass_ == "bwd_input":
        return -((reach - first - padding) // stride), (end - 1 + padding) // stride + 1
    return first * stride - padding, (end - 1) * stride - padding + reach + 1

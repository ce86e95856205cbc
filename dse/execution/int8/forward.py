"""The forward pass of a stage in 8-bit integers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dse.errors import Problem, UserError
from dse.execution import pooling
from dse.execution.arithmetic import Array, FloatArray, Forward, Parts
from dse.execution.int8.constants import Constants, Steps
from dse.execution.int8.grid import LEVELS, WEIGHT_LIMIT, ByteArray, Grid, WideArray, clamped
from dse.execution.int8.groups import Groups
from dse.execution.int8.operators import UNROUNDED
from dse.execution.weighted import Weighted
from dse.plan.operations import Holds
from dse.workload import Workload
from dse.workload.graph import NETWORK_INPUT
from dse.workload.layers import Softmax

NO_LOGITS: Final = -1
SUM_LIMIT: Final = 2**31 - 2**28
"""Largest sum of products that int32 holds beside the largest bias."""


class IntegerForward:
    """Runs the layers of ``span`` on bytes; every output lies on its grid.

    ``constants`` are those of the stage. ``logits`` is the layer whose output is real values in fp32, as all
    behind it; -1: every output lies on its grid. Raises UserError for a layer whose sums could leave int32,
    and where a layer lacks its constants.
    """

    def __init__(self, workload: Workload, constants: Constants, span: range, logits: int) -> None:
        self.workload, self.constants, self.span, self.logits = workload, constants, span, logits
        self.groups = Groups.of(workload, span)
        self._heads = {layer: head for head, own in self.groups.members.items() for layer in own}
        self._weighted = {
            unit.layer: Weighted.of(workload.layers[unit.layer], self._input_shape(unit.layer))
            for unit in workload.units
            if unit.layer in span
        }
        self._require()

    def _require(self) -> None:
        problems = []
        for layer, kernel in self._weighted.items():
            name = f"layers.{self.workload.layers[layer].name}"
            count = kernel.inside * kernel.window.elements
            if layer not in self.constants.steps:
                problems.append(
                    Problem("constants", name, "no steps of its integers", "one per output channel")
                )
            if count * LEVELS * WEIGHT_LIMIT >= SUM_LIMIT:
                most = SUM_LIMIT // (LEVELS * WEIGHT_LIMIT)
                problems.append(
                    Problem(self.workload.name, name, f"sums of {count} products", f"{most} in int32")
                )
        for layer in self.gridded:
            if layer not in self.constants.grids:
                name = f"layers.{self.workload.layers[layer].name}"
                problems.append(Problem("constants", name, "no grid", "one for its output"))
        if problems:
            raise UserError(problems)

    @property
    def gridded(self) -> list[int]:
        """Layers whose output lies on a grid: all but the logits, what is behind them, and a last softmax."""
        layers = self.workload.layers
        ends = {len(layers) - 1} if isinstance(layers[-1], Softmax) else set()
        return [layer for layer in self.span if layer not in ends and not self.is_real(layer)]

    def is_real(self, layer: int) -> bool:
        """Whether what ``layer`` writes are logits, or follows from them."""
        return self.logits != NO_LOGITS and layer >= self.logits

    def _input_shape(self, layer: int) -> tuple[int, ...]:
        return self.workload.shape_of(self.workload.inputs[layer][0])

    # --- grids ---

    def source(self, producer: int) -> Grid:
        """Return the grid of what ``producer`` wrote; what stands before the span enters the stage."""
        return self.constants.grids[producer if producer in self.span else NETWORK_INPUT]

    def entered(self, values: FloatArray) -> Array:
        """See ``Arithmetic``: the nearest of the 256 levels, in bytes."""
        return self.constants.grids[NETWORK_INPUT].bytes_of(values)

    def real(self, layer: int, values: Array) -> FloatArray:
        """See ``Arithmetic``."""
        return self.source(layer).values(values)

    def q(self, producer: int, held: Array) -> WideArray:
        """Return q of a tensor that ``producer`` wrote, as bytes or widened already."""
        if held.dtype == np.uint8:
            return self.source(producer).q(held)
        return held.astype(np.float64)

    def saved(self, producer: int, held: Array) -> FloatArray:
        """Return what is saved at fewer bits of what ``producer`` wrote: q in fp32, real values of logits."""
        if self.is_real(producer):
            return held.astype(np.float32)
        return self.q(producer, held).astype(np.float32)

    # --- running ---

    def forward(self, layer: int, inputs: Sequence[Array], own: Parts, *, keep: bool) -> Forward:
        """See ``Arithmetic``; the head of a group does all of it, the others return their input."""
        kind = self.workload.layers[layer].kind
        if self._heads[layer] != layer:
            return Forward(inputs[0].copy())
        if layer in self._weighted:
            return self._closed(layer, self.sums(layer, inputs[0], own), keep)
        if kind == "flatten":
            return Forward(inputs[0].reshape(len(inputs[0]), -1).copy())
        if kind == "max_pool":
            return self._largest(layer, inputs[0], keep)
        return self._unrounded(layer, inputs, keep)

    def sums(self, layer: int, x: Array, own: Parts) -> WideArray:
        """Return sums and bias of a layer with weights, in steps of its output, exact in fp64."""
        steps: Steps = self.constants.steps[layer]
        q = self.q(self.workload.inputs[layer][0], x)
        found = self._weighted[layer].forward(q, own["weight"].astype(np.float64), None)
        across = (1, -1, *(1,) * (found.ndim - 2))
        found *= steps.sums.reshape(across)
        if "bias" in own:
            found += (own["bias"].astype(np.float64) * steps.offset).reshape(across)
        return np.asarray(found, dtype=np.float64)

    def _unrounded(self, layer: int, inputs: Sequence[Array], keep: bool) -> Forward:
        workload, producers = self.workload, self.workload.inputs[layer]
        kind = workload.layers[layer].kind
        if kind not in UNROUNDED:
            found = f"a {kind} that an int8 stage has to pass"
            allowed = f"layers with weights, max_pool, flatten, {', '.join(UNROUNDED)}"
            raise UserError(Problem(workload.name, f"layers.{workload.layers[layer].name}", found, allowed))
        sources = [self.source(producer) for producer in producers]
        q = [grid.q(held) for grid, held in zip(sources, inputs, strict=True)]
        done = self._closed(
            layer, UNROUNDED[kind](workload.layers[layer], q, sources, self.source(layer)), keep
        )
        if keep and kind == "hard_swish":
            return Forward(done.output, {(Holds.SAVED_INPUT, layer): inputs[0].copy()})
        return done

    def _closed(self, head: int, found: WideArray, keep: bool) -> Forward:
        """Round and clamp; keep what was not cut, for the rectifier that cuts and for the tensor."""
        grid = self.source(head)
        rectifier, kind = self.groups.rectifier(self.workload, head)
        q, passed = clamped(found, grid.limits(kind))
        kept: dict[tuple[Holds, int], NDArray[Any]] = {}
        if keep and (head in self._weighted or self.workload.layers[head].kind == "add"):
            kept[Holds.CLAMP, head] = passed
        if keep and rectifier >= 0:
            kept[Holds.MASK, rectifier] = passed
        return Forward(grid.coded(q), kept)

    def _largest(self, layer: int, x: ByteArray, keep: bool) -> Forward:
        """Pick the largest byte of each window; in fp32, where padding can be less than all of them."""
        values, index = pooling.largest(self.workload.layers[layer], x.astype(np.float32))
        return Forward(values.astype(np.uint8), {(Holds.INDEX, layer): index} if keep else {})

"""One image through the frozen stage or through the whole network: layer by layer, or patch by patch.

A patch needs a part of every early tensor. Its kernel runs here on the whole tensor with that part filled in
and the rest at zero: outputs within the patch's part depend on nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from dse.execution.arithmetic import Arithmetic, Array, FloatArray
from dse.execution.buffers import Buffers
from dse.execution.heads import HeadState
from dse.execution.layout import Layout
from dse.execution.packing import ByteArray, Levels
from dse.execution.parameters import Parameters
from dse.plan.operations import Holds, Operation, Phase
from dse.plan.patches import Interval, Regions, regions_of
from dse.workload.graph import NETWORK_INPUT

_HOLDS = {Phase.FROZEN: Holds.FROZEN, Phase.INFERENCE: Holds.INFERRED}


@dataclass
class ImagePass:
    """Runs the layers of ``phase`` on one frame, whose bytes stand for values as ``frames`` says."""

    layout: Layout
    buffers: Buffers
    arithmetic: Arithmetic
    parameters: Parameters
    frames: Levels
    phase: Phase

    def __post_init__(self) -> None:
        every = [item for item in self.layout.schedule.operations if item.phase == self.phase]
        self.operations = [item for item in every if item.layer >= 0]
        patches = self.layout.spec.structure.patches
        self.regions: Regions | None = None if patches is None else regions_of(self.layout.workload, patches)
        self._head: HeadState | None = None
        self.result: FloatArray = np.zeros(0, np.float32)
        self._edge = -1 if patches is None else self.layout.workload.units[patches.unit].cut_layer

    def run(self, frame: ByteArray, head: HeadState | None = None) -> None:
        """Execute all layers of the phase. ``frame`` (*input shape) as captured, one byte per element.

        ``head`` takes the place of the last unit's layer.
        """
        self._head = head
        early = [item for item in self.operations if self.regions is not None and item.layer <= self._edge]
        if self.regions is not None and early:
            self._run_patches(early, self.regions, frame)
        for operation in self.operations[len(early) :]:
            self.buffers.start(operation)
            if operation is self.operations[0]:
                self.put_frame(frame)
            self._layer(operation.layer)
            if self.phase == Phase.INFERENCE and operation is self.operations[-1]:
                self.result = self.arithmetic.real(operation.layer, self.value(operation.layer))[0]
            self.buffers.end(operation)

    def put_frame(self, frame: ByteArray) -> None:
        """Write a frame into its buffer."""
        self.buffers.put_bytes(Holds.FRAME, -1, frame.reshape(-1))

    def _layer(self, layer: int) -> None:
        inputs = [self.value(producer) for producer in self.layout.workload.inputs[layer]]
        output = self._output(layer, inputs)
        holds, place = _HOLDS[self.phase], self.layout.frozen_root(layer)
        self.buffers.write(holds, place, output, self.arithmetic.dtype(holds, place))

    def _output(self, layer: int, inputs: Sequence[Array]) -> Array:
        if self._head is not None and layer == self.layout.workload.units[-1].layer:
            return self._head.scores(self.arithmetic.real(self.layout.producer(layer), inputs[0]))
        own = self.parameters.own(layer, inference=self.phase == Phase.INFERENCE)
        return self.arithmetic.forward(layer, inputs, own, keep=False).output

    def value(self, layer: int) -> Array:
        """Return what ``layer`` wrote, or the frame as the stage reads it, (1, *shape)."""
        shape = (1, *self.layout.workload.shape_of(layer))
        if layer == NETWORK_INPUT:
            data = self.buffers.bytes_of(Holds.FRAME, -1)
            return self.arithmetic.entered(self.frames.decoded(data, shape))
        holds, place = _HOLDS[self.phase], self.layout.frozen_root(layer)
        return self.buffers.read(holds, place, self.arithmetic.dtype(holds, place), shape)

    # --- patch by patch ---

    def _run_patches(self, early: Sequence[Operation], regions: Regions, frame: ByteArray) -> None:
        axes = regions.intervals[self._edge]
        every = list(product(*(range(len(axis)) for axis in axes)))
        loop = {
            buffer.id for buffer in self.layout.schedule.buffers
            if buffer.start == early[0].number and buffer.end == early[-1].number
        }  # fmt: skip
        for patch in every:
            for operation in early:
                self.buffers.start(operation)
                if patch == every[0] and operation is early[0]:
                    self.put_frame(frame)
                self._part(operation.layer, regions, patch)
                stays = loop if patch != every[-1] else ()
                self.buffers.end(operation, stays)

    def _part(self, layer: int, regions: Regions, patch: tuple[int, ...]) -> None:
        """Run a layer for the part of its output that a patch needs."""
        inputs = [self._filled(producer, regions, patch) for producer in self.layout.workload.inputs[layer]]
        part = _span(regions, layer, patch)
        values = self._output(layer, inputs)[_slices(part)]
        holds, root = _HOLDS[self.phase], self.layout.frozen_root(layer)
        dtype, whole = self.arithmetic.dtype(holds, root), (1, *self.layout.workload.shapes[layer])
        if self._fills_up(layer):
            self.buffers.write_section(holds, root, values, dtype, whole, _slices(part))
        else:
            self.buffers.write(holds, root, values, dtype)

    def _filled(self, layer: int, regions: Regions, patch: tuple[int, ...]) -> Array:
        """Return a whole tensor that holds the part of a patch, and zeros elsewhere."""
        if layer == NETWORK_INPUT:
            return self.value(layer)
        part, shape = _span(regions, layer, patch), self.layout.workload.shapes[layer]
        holds, root = _HOLDS[self.phase], self.layout.frozen_root(layer)
        dtype = self.arithmetic.dtype(holds, root)
        whole = np.zeros((1, *shape), dtype=dtype)
        if self._fills_up(layer):
            whole[_slices(part)] = self.buffers.read(holds, root, dtype, whole.shape)[_slices(part)]
        else:
            sizes = (last - first for first, last in part)
            whole[_slices(part)] = self.buffers.read(holds, root, dtype, (1, shape[0], *sizes))
        return whole

    def _fills_up(self, layer: int) -> bool:
        """Whether the buffer of ``layer`` is that of the whole result, patch by patch."""
        return self.layout.frozen_root(layer) == self.layout.frozen_root(self._edge)


def _span(regions: Regions, layer: int, patch: tuple[int, ...]) -> list[Interval]:
    return [axis[tile] for axis, tile in zip(regions.intervals[layer], patch, strict=True)]


def _slices(part: Sequence[Interval]) -> tuple[slice, ...]:
    return (slice(None), slice(None), *(slice(first, last) for first, last in part))


def waiting(operations: Iterable[Operation], buffers: Buffers) -> None:
    """Let time pass: buffers begin and end, nothing is computed."""
    for operation in operations:
        buffers.start(operation)
        buffers.end(operation)

"""What one pass leaves for another: masks, activations at saved bits, channels that a gradient needs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from dse.errors import Problem
from dse.execution.arithmetic import Arithmetic, Array, IntArray
from dse.execution.buffers import Buffers
from dse.execution.layout import Layout
from dse.execution.memory import MemoryViolation
from dse.execution.packing import Levels, mask_packed, mask_unpacked
from dse.plan.operations import Holds, StepBuffer
from dse.plan.saved_grid import packed, saved_bytes, widened
from dse.workload import Shape

MASKS = (Holds.MASK, Holds.CLAMP)


class KeptValues(dict[tuple[Holds, int], Array]):
    """What a layer kept; raises MemoryViolation for what no live buffer holds."""

    def __missing__(self, key: tuple[Holds, int]) -> Array:
        holds, place = key
        found = f"no live buffer holds {holds.value} of {place}"
        raise MemoryViolation(Problem("execution", "backward pass", found, "a buffer that is alive then"))


@dataclass
class Saving:
    """Writes and reads saved values; ``levels`` are those of stored latents."""

    layout: Layout
    buffers: Buffers
    arithmetic: Arithmetic
    levels: Levels

    # --- whole tensors and slices ---

    def put(self, holds: Holds, place: int, producer: int, values: Array) -> None:
        """Hold ``values`` that ``producer`` wrote in a buffer, at the saved bits where the plan says so."""
        if self.layout.saved_bits:
            self.buffers.put_bytes(holds, place, self._narrowed(self.arithmetic.saved(producer, values)))
        else:
            self.buffers.write(holds, place, values, self.arithmetic.dtype(holds, place))

    def get(self, holds: Holds, place: int, shape: Shape) -> Array:
        """Return what ``put`` held."""
        if self.layout.saved_bits:
            return self._widened(self.buffers.bytes_of(holds, place), shape)
        return self.buffers.read(holds, place, self.arithmetic.dtype(holds, place), shape)

    def _narrowed(self, values: Array) -> Array:
        """Return values at the saved bits, and behind them the word with their scale."""
        self.buffers.require_finite(values)
        data, words = packed(values.reshape(1, -1), self.layout.saved_bits)
        return np.concatenate([data[0], words.view(np.uint8)])

    def _widened(self, data: Array, shape: Shape) -> Array:
        count, bits = prod(shape), self.layout.saved_bits
        size = saved_bytes(count, bits)
        words = data[size - 4 : size].copy().view(np.uint32)
        values: Array = widened(data[None, : size - 4], words, count, bits)
        return values.reshape(shape)

    # --- what layers keep ---

    def keep(self, operation: int, holds: Holds, place: int, values: Array) -> None:
        """Hold what a layer keeps, where a buffer for it begins with ``operation``."""
        buffer = self.buffers.find(holds, place)
        if buffer is None or buffer.start != operation:
            return
        if holds in MASKS:
            self.buffers.put_bytes(holds, place, mask_packed(values))
        elif holds == Holds.SAVED_INPUT:
            self.put(holds, place, self.layout.producer(place), values)
        elif holds == Holds.NORM:
            self._keep_norm(place, values)
        else:
            self.buffers.write(holds, place, values, self.arithmetic.dtype(holds, place))

    def _keep_norm(self, layer: int, values: Array) -> None:
        """Hold a norm's input, and behind it the statistics, which are never narrowed."""
        if not self.layout.saved_bits:
            self.buffers.write(Holds.NORM, layer, values, self.arithmetic.dtype(Holds.NORM, layer))
            return
        count = self._inputs_of(layer, values.size)
        whole = self._narrowed(values[:count])
        self.buffers.require_finite(values)
        self.buffers.put_bytes(Holds.NORM, layer, np.concatenate([whole, values[count:].view(np.uint8)]))

    def _inputs_of(self, layer: int, total: int) -> int:
        """Elements of a norm's input in ``total`` numbers: what is left over are statistics."""
        elements = int(self.layout.workload.out_elements[layer])
        if self.layout.schedule.plan.bn_mode == "batch_stats":
            return total - 2 * self.layout.workload.shapes[layer][0]
        groups = min(32, self.layout.workload.shapes[layer][0])
        each = elements + (2 * groups if self.layout.schedule.plan.bn_mode == "group" else 0)
        return total // each * elements

    def kept(self, layer: int, samples: int) -> KeptValues:
        """Return what ``layer`` kept of its forward pass over ``samples``, masks as bool."""
        found = KeptValues()
        shape = (samples, *self.layout.workload.shapes[layer])
        inputs = (samples, *self.layout.workload.shape_of(self.layout.producer(layer)))
        if self.buffers.find(Holds.MASK, layer) is not None:
            found[Holds.MASK, layer] = mask_unpacked(self.buffers.bytes_of(Holds.MASK, layer), shape)
        if self.buffers.find(Holds.SAVED_INPUT, layer) is not None:
            found[Holds.SAVED_INPUT, layer] = self.get(Holds.SAVED_INPUT, layer, inputs)
        if self.buffers.find(Holds.INDEX, layer) is not None:
            dtype = self.arithmetic.dtype(Holds.INDEX, layer)
            found[Holds.INDEX, layer] = self.buffers.read(Holds.INDEX, layer, dtype, shape)
        if self.buffers.find(Holds.NORM, layer) is not None:
            found[Holds.NORM, layer] = self._norm(layer, samples)
        return found

    def _norm(self, layer: int, samples: int) -> Array:
        workload, mode = self.layout.workload, self.layout.schedule.plan.bn_mode
        count, channels = samples * int(workload.out_elements[layer]), workload.shapes[layer][0]
        statistics = {"batch_stats": 2 * channels, "group": 2 * min(32, channels) * samples}.get(mode, 0)
        if not self.layout.saved_bits:
            dtype = self.arithmetic.dtype(Holds.NORM, layer)
            return self.buffers.read(Holds.NORM, layer, dtype, (count + statistics,))
        data = self.buffers.bytes_of(Holds.NORM, layer)
        size = saved_bytes(count, self.layout.saved_bits)
        behind = data[size : size + 4 * statistics].copy().view(np.float32)
        return np.concatenate([self._widened(data, (count,)), behind])

    # --- inputs that weight gradients read ---

    def save_inputs(self, operation: int, buffer: StepBuffer, samples: int) -> None:
        """Fill a packed tensor or a slice that begins with ``operation``."""
        if buffer.holds == Holds.PACKED:
            last = self.last(buffer.place)
            self.put(Holds.PACKED, buffer.place, last, self.value(last, samples))
        elif buffer.holds == Holds.SLICE:
            unit = self.layout.owner(buffer.place)
            channels = self.layout.chosen(unit.index)
            producer = self.layout.producer(buffer.place)
            self.put(Holds.SLICE, buffer.place, producer, _taken(self.value(producer, samples), channels))

    def value(self, layer: int, samples: int) -> Array:
        """Return what ``layer`` wrote, or the latents (-1, or the last frozen layer)."""
        holds, place = (Holds.LATENTS, -1) if layer < 0 else self.layout.home(layer)
        shape = (samples, *self.layout.workload.shape_of(layer))
        return self.buffers.read(holds, place, self.arithmetic.dtype(holds, place), shape)

    def last(self, root: int) -> int:
        """Return the layer behind which the tensor of ``root`` is as its readers find it; -1: the latents."""
        return self.layout.cut_layer if root < 0 else self.layout.tensor(root).last

    def input_of(self, layer: int, samples: int) -> Array:
        """Return the kept channels of the input of ``layer``, as its weight gradient reads them: widened."""
        values = self._saved_input(layer, samples)
        if not self.layout.widens(layer):
            return values
        dtype = self.arithmetic.dtype(Holds.OPERAND, layer)
        wide = self.arithmetic.operand(layer, values)
        self.buffers.write(Holds.OPERAND, layer, wide, dtype)
        return self.buffers.read(Holds.OPERAND, layer, dtype, wide.shape)

    def _saved_input(self, layer: int, samples: int) -> Array:
        holds, place = self.layout.saved_input(layer)
        channels = self.layout.chosen(self.layout.owner(layer).index)
        whole = (samples, *self.layout.workload.shape_of(self.layout.producer(layer)))
        part = whole if channels is None else (samples, len(channels), *whole[2:])
        if holds == Holds.STORED:
            return _taken(self.stored(-1, whole), channels) if place < 0 else self.stored(place, part)
        if holds == Holds.SLICE:
            return self.get(holds, place, part)
        if holds == Holds.PACKED:
            return self.get(holds, place, whole)
        dtype: np.dtype[Any] = self.arithmetic.dtype(holds, place)
        return self.buffers.read(holds, place, dtype, whole)

    # --- latents at replay bits ---

    def store(self, place: int, latents: Array) -> None:
        """Hold latents (B, ...) at replay bits: all of them, or the channels of the reader ``place``."""
        if place >= 0:
            shape = self.layout.workload.shape_of(self.layout.producer(place))
            latents = latents.reshape(len(latents), *shape)
            latents = _taken(latents, self.layout.chosen(self.layout.owner(place).index))
        self.buffers.require_finite(latents)
        self.buffers.put_bytes(Holds.STORED, place, replace(self.levels, rounding="nearest").encoded(latents))

    def stored(self, place: int, shape: Shape) -> Array:
        """Return what ``store`` held, as the learning stage reads it."""
        values = self.levels.decoded(self.buffers.bytes_of(Holds.STORED, place), shape)
        return self.arithmetic.entered(values)


def _taken(values: Array, channels: IntArray | None) -> Array:
    return values if channels is None else values[:, channels]

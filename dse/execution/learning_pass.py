"""One micro-batch through the learning stage: forward, loss, backward, by the operations of the schedule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from dse.execution.arithmetic import Arithmetic, Array, IntArray
from dse.execution.buffers import Buffers
from dse.execution.layout import Layout
from dse.execution.packing import mask_unpacked
from dse.execution.parameters import Parameters
from dse.execution.saving import Saving
from dse.execution.updating import Updating
from dse.plan.operations import Holds, Kind, Operation


@dataclass
class MicroBatch:
    """Samples of one micro-batch: how many, their labels (n,), and their place in the mini-batch."""

    samples: int
    labels: IntArray
    of: int  # samples of the mini-batch
    first: bool


@dataclass
class LearningPass:
    """Runs operations of the learning phase between loading and updating."""

    layout: Layout
    buffers: Buffers
    arithmetic: Arithmetic
    parameters: Parameters
    saving: Saving
    updating: Updating
    seen: Sequence[int]
    batch: MicroBatch = field(default_factory=lambda: MicroBatch(0, np.zeros(0, np.int64), 1, True))
    loss: float = 0.0

    def run(self, operation: Operation) -> None:
        """Execute one operation on the running micro-batch; views move nothing."""
        if operation.layer < 0 or not self.layout.is_view(operation.layer):
            _RUN[operation.kind](self, operation)
        self.save_beginning(operation.number)

    def save_beginning(self, number: int) -> None:
        """Fill the packed tensors and slices that begin with an operation."""
        for buffer in self.layout.beginning.get(number, ()):
            self.saving.save_inputs(number, buffer, self.batch.samples)

    # --- forward ---

    def forward(self, operation: Operation) -> None:
        """Run a layer, for the first time or again."""
        layer, again = operation.layer, operation.kind == Kind.RECOMPUTE
        if again:
            self._widen_latents(operation.number)
        inputs = [self._input(layer, producer) for producer in self.layout.workload.inputs[layer]]
        done = self.arithmetic.forward(layer, inputs, self.parameters.own(layer), keep=True)
        holds, place = self.layout.home(layer)
        self.buffers.write(holds, place, done.output, self.arithmetic.dtype(holds, place))
        for (kept, where), values in done.kept.items():
            self.saving.keep(operation.number, kept, where, values)
        if not again:
            self.parameters.follow(layer, done.statistics)

    def _input(self, layer: int, producer: int) -> Array:
        values = self.saving.value(producer, self.batch.samples)
        if not self.layout.widens_classifier(layer):
            return values
        dtype, wide = self.arithmetic.dtype(Holds.WIDE_INPUT, layer), self.arithmetic.operand(layer, values)
        self.buffers.write(Holds.WIDE_INPUT, layer, wide, dtype)
        return self.buffers.read(Holds.WIDE_INPUT, layer, dtype, wide.shape)

    def _widen_latents(self, number: int) -> None:
        """Fill latents that begin here, for a segment that runs again, from what is stored of them."""
        latents = self.buffers.find(Holds.LATENTS, -1)
        if latents is not None and latents.start == number:
            shape = (self.batch.samples, *self.layout.workload.shape_of(self.layout.cut_layer))
            values = self.saving.stored(-1, shape)
            self.buffers.write(Holds.LATENTS, -1, values, self.arithmetic.dtype(Holds.LATENTS, -1))

    def take_loss(self, operation: Operation) -> None:
        """Work out the loss, and the error of the logits."""
        last = len(self.layout.workload.layers) - 1
        logits = self.saving.value(last, self.batch.samples)
        found = self.arithmetic.loss(logits, self.batch.labels, self.seen, self.batch.of)
        self.loss += found.value
        place = self.layout.error_home(last)
        self._write_error(place, self.arithmetic.error_written(place, None, found.error))

    # --- backward ---

    def error_of(self, layer: int) -> Array:
        """Return the error of what ``layer`` wrote, as kernels read it."""
        place = self.layout.error_home(layer)
        return self.arithmetic.error_read(place, self._held_error(place, layer))

    def _held_error(self, place: int, layer: int) -> Array:
        shape = (self.batch.samples, *self.layout.workload.shapes[layer])
        return self.buffers.read(Holds.ERROR, place, self.arithmetic.dtype(Holds.ERROR, place), shape)

    def _write_error(self, place: int, values: Array) -> None:
        self.buffers.write(Holds.ERROR, place, values, self.arithmetic.dtype(Holds.ERROR, place))

    def _cut(self, operation: Operation) -> None:
        """Let the error pass where nothing was clamped; the first backward operation of a layer does so."""
        layer = operation.layer
        if self.layout.cuts_error(layer, operation.kind):
            place = self.layout.error_home(layer)
            held = self._held_error(place, layer)
            mask = mask_unpacked(self.buffers.bytes_of(Holds.CLAMP, layer), held.shape)
            self._write_error(place, np.where(mask, held, held.dtype.type(0)))

    def gradients(self, operation: Operation) -> None:
        """Work out the gradients of a layer's own parameters, and update at once where the plan does so."""
        layer = operation.layer
        self._cut(operation)
        late = operation.kind == Kind.BWD_UPDATE
        unit = self.layout.unit_at(layer)
        if unit is None:
            index = self.layout.owner(layer).index
            if not late:
                self.updating.gather(Holds.NORM_GRADIENT, index, self._affine(layer), first=self.batch.first)
            else:
                self.updating.update_held(Holds.NORM_GRADIENT, index)
            return
        found = self._weights(layer, unit.index)
        if self.layout.affine_learns(unit.index) and not self.layout.norm_of(unit):
            found |= self._affine(layer)
        if late:
            self.updating.update_at_once(unit.index, found)
        else:
            self.updating.gather(Holds.GRADIENT, unit.index, found, first=self.batch.first)

    def _weights(self, layer: int, unit: int) -> dict[str, Array]:
        if not self.layout.kept(unit):
            return {}
        operand = self.saving.input_of(layer, self.batch.samples)
        channels, key = self.layout.chosen(unit), f"{self.layout.workload.layers[layer].name}.weight"
        return {key: self.arithmetic.weight_gradient(layer, self.error_of(layer), operand, channels)}

    def _affine(self, layer: int) -> dict[str, Array]:
        own, kept = self.parameters.own(layer), self.saving.kept(layer, self.batch.samples)
        found = self.arithmetic.affine_gradient(layer, self.error_of(layer), own, kept)
        name = self.layout.workload.layers[layer].name
        return {f"{name}.{part}": values for part, values in found.items()}

    def pass_error(self, operation: Operation) -> None:
        """Work out the errors of a layer's inputs and add each to what its buffer holds."""
        layer = operation.layer
        self._cut(operation)
        own, kept = self.parameters.own(layer), self.saving.kept(layer, self.batch.samples)
        errors = self.arithmetic.input_errors(layer, self.error_of(layer), own, kept)
        producers = self.layout.workload.inputs[layer]
        written: set[int] = set()
        for producer, error in zip(producers, errors, strict=True):
            if self.layout.error_needed(producer):
                self._add_error(operation, producer, error, written)

    def _add_error(self, operation: Operation, producer: int, error: Array, written: set[int]) -> None:
        """Add one error; the first to arrive writes, in place it rewrites, an addition hands its own on."""
        place, source = self.layout.error_home(producer), self.layout.error_home(operation.layer)
        same_tensor = self.layout.tensor(producer).root == self.layout.tensor(operation.layer).root
        begins = self.buffers.require(Holds.ERROR, place).start == operation.number
        handed = place == source and not same_tensor
        first = place not in written
        written.add(place)
        if handed and first:
            return
        held = None if first and (begins or same_tensor) else self._held_error(place, producer)
        self._write_error(
            place, self.arithmetic.error_written(place, held, self._summed(operation.layer, producer, error))
        )

    def _summed(self, layer: int, producer: int, error: Array) -> Array:
        """Hold an error in wide sums first, where narrow ones could not tell their scale."""
        root = self.layout.tensor(producer).root
        if not self.layout.sums_up(layer):
            return error
        dtype = self.arithmetic.dtype(Holds.SUMS, root)
        self.buffers.write(Holds.SUMS, root, error, dtype)
        return self.buffers.read(Holds.SUMS, root, dtype, error.shape)


_RUN: Final[dict[Kind, Callable[[LearningPass, Operation], None]]] = {
    Kind.FORWARD: LearningPass.forward,
    Kind.RECOMPUTE: LearningPass.forward,
    Kind.LOSS: LearningPass.take_loss,
    Kind.BWD_WEIGHT: LearningPass.gradients,
    Kind.BWD_UPDATE: LearningPass.gradients,
    Kind.BWD_INPUT: LearningPass.pass_error,
}

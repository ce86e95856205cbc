"""A training step on ordinary arrays, with no map and no schedule: what an executed one has to equal.

It walks the graph of the network, forwards and backwards, and holds every value in an array of its own until
the step is over. The numbers are those of ``Int8``; the order in which errors meet at a tensor is that of the
accounting: its last reader first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from dse.execution.arithmetic import Array, IntArray, Parts
from dse.execution.int8.learning import Int8
from dse.execution.packing import Levels
from dse.execution.weighted import Weighted
from dse.plan.decisions import TrainingPlan
from dse.plan.learning_key import keeps_stored_input
from dse.plan.operations import Holds
from dse.plan.policy import UpdatePolicy
from dse.plan.saved_grid import packed, widened
from dse.plan.spec import kept_channels
from dse.plan.tensors import tensors_of
from dse.workload import Workload
from dse.workload.graph import NETWORK_INPUT

Numbers = dict[str, Array]
"""Weights and biases under ``<layer>.<part>``, in their own shapes."""


@dataclass
class Step:
    """One mini-batch of ``plan``: ``run`` updates ``numbers`` and ``state`` in place.

    ``channels``: layer -> the input channels whose weights learn, where not all of them do. ``handed_on``: as
    in ``StepSchedule``, which input of an addition takes the buffer of its error over. ``state``: words of
    optimiser state per tensor, in the layout of what learns of it. ``levels``: of latents at replay bits, for
    plans that keep the input of the first learning unit as it is stored.
    """

    workload: Workload
    plan: TrainingPlan
    arithmetic: Int8
    numbers: Numbers
    channels: Mapping[int, IntArray] = field(default_factory=dict)
    handed_on: Mapping[int, int] = field(default_factory=dict)
    state: dict[str, list[Array]] = field(default_factory=dict)
    levels: Levels = field(default_factory=Levels)
    loss: float = 0.0

    def __post_init__(self) -> None:
        self._layers = {layer.name: index for index, layer in enumerate(self.workload.layers)}
        mode = "none" if self.plan.in_place == "none" else "elementwise"
        tensors, position = tensors_of(self.workload, mode)
        self._root = [tensors[place].root for place in position]
        self._edge = self.workload.cut_layer(self.plan.cut)
        ratio, bias = UpdatePolicy.parse(self.plan.policy).resolve(self.workload, self.plan.cut)
        kept = kept_channels(self.workload, ratio)
        units = [unit for unit in self.workload.units if unit.layer > self._edge]
        self._weights = {unit.layer for unit in units if kept[unit.index]}
        self._biases = {
            unit.layer for unit in units if bias[unit.index] and self._key(unit.layer, "bias") in self.numbers
        }
        self._needed = self._errors_needed()

    def _key(self, layer: int, part: str) -> str:
        return f"{self.workload.layers[layer].name}.{part}"

    def _errors_needed(self) -> set[int]:
        """Layers whose output's error is needed: they learn, or something before them does."""
        needed: set[int] = set()
        for layer in range(self._edge + 1, len(self.workload.layers)):
            learns = layer in self._weights or layer in self._biases
            if learns or any(producer in needed for producer in self.workload.inputs[layer]):
                needed.add(layer)
        return needed

    # --- running ---

    def run(self, entering: Array, labels: IntArray, seen: Sequence[int]) -> Numbers:
        """Learn a mini-batch: ``entering`` (B, ...) as ``Arithmetic.entered`` gives it, ``labels`` (B,)."""
        gradients: Numbers = {}
        size = self.plan.micro_batch
        for first in range(0, len(entering), size):
            part = slice(first, first + size)
            values, kept = self._forwards(entering[part])
            found = self.arithmetic.loss(
                values[len(self.workload.layers) - 1], labels[part], seen, len(entering)
            )
            self.loss += found.value
            for key, gradient in self._backwards(values, kept, found.error).items():
                gradients[key] = self.arithmetic.accumulated(key, gradients.get(key), gradient)
        for key, gradient in gradients.items():
            self._update(key, gradient)
        return self.numbers

    def _parts(self, layer: int) -> Parts:
        keys = {part: self._key(layer, part) for part in ("weight", "bias")}
        return {part: self.numbers[key] for part, key in keys.items() if key in self.numbers}

    def _forwards(self, entering: Array) -> tuple[dict[int, Array], dict[tuple[Holds, int], Array]]:
        values = dict.fromkeys(range(NETWORK_INPUT, self._edge + 1), entering)
        kept: dict[tuple[Holds, int], Array] = {}
        for layer in range(self._edge + 1, len(self.workload.layers)):
            inputs = [values[producer] for producer in self.workload.inputs[layer]]
            done = self.arithmetic.forward(layer, inputs, self._parts(layer), keep=True)
            values[layer] = done.output
            kept.update(done.kept)
        return values, kept

    def _backwards(
        self, values: Mapping[int, Array], kept: Mapping[tuple[Holds, int], Array], error: Array
    ) -> dict[str, Array]:
        """Return the gradients of one micro-batch."""
        last = len(self.workload.layers) - 1
        held: dict[int, Array] = {}
        self._write(held, last, None, error)
        gradients: dict[str, Array] = {}
        for layer in range(last, self._edge, -1):
            if layer not in self._needed:
                continue
            place = self._place(layer)
            if self._root[layer] == layer and (Holds.CLAMP, layer) in kept:
                held[place] = held[place] * kept[Holds.CLAMP, layer].reshape(held[place].shape)
            found = self.arithmetic.error_read(place, held[place])
            gradients |= self._gradients(layer, found, values, kept)
            self._pass_on(layer, found, held, kept)
        return gradients

    def _place(self, layer: int) -> int:
        """Return where the error of a layer's output stands: under its tensor's root, or an addition's."""
        root = self._root[layer]
        return self.handed_on.get(root, root)

    def _write(self, held: dict[int, Array], layer: int, before: Array | None, added: Array) -> None:
        held[self._place(layer)] = self.arithmetic.error_written(self._place(layer), before, added)

    def _gradients(
        self, layer: int, error: Array, values: Mapping[int, Array], kept: Mapping[tuple[Holds, int], Array]
    ) -> dict[str, Array]:
        found: dict[str, Array] = {}
        if layer in self._weights:
            producer, channels = self.workload.inputs[layer][0], self.channels.get(layer)
            x = values[producer] if channels is None else values[producer][:, channels]
            stored = producer <= self._edge and keeps_stored_input(self.plan)
            read = self._stored(x) if stored else self._saved(producer, x)
            operand = self.arithmetic.operand(layer, read)
            gradient = self.arithmetic.weight_gradient(layer, error, operand, channels)
            found[self._key(layer, "weight")] = gradient
        if layer in self._biases:
            own = self.arithmetic.affine_gradient(layer, error, self._parts(layer), kept)
            found[self._key(layer, "bias")] = own["bias"]
        return found

    def _stored(self, x: Array) -> Array:
        """Return latents as their replay bits give them back."""
        real = self.arithmetic.real(NETWORK_INPUT, x)
        return self.arithmetic.entered(self.levels.decoded(self.levels.encoded(real), real.shape))

    def _saved(self, producer: int, x: Array) -> Array:
        """Return what the backward pass reads of a saved tensor: as computed, or what fewer bits left."""
        bits = self.plan.saved_bits
        if bits >= 8 * x.itemsize:
            return x
        data, words = packed(self.arithmetic.saved(producer, x).reshape(1, -1), bits)
        return np.asarray(widened(data, words, x.size, bits)).reshape(x.shape)

    def _pass_on(
        self, layer: int, error: Array, held: dict[int, Array], kept: Mapping[tuple[Holds, int], Array]
    ) -> None:
        producers = self.workload.inputs[layer]
        if not any(producer in self._needed for producer in producers):
            return
        own = {key: kept[key] for key in kept if key[1] == layer}
        if (Holds.SAVED_INPUT, layer) in own:
            own[Holds.SAVED_INPUT, layer] = self._saved(producers[0], own[Holds.SAVED_INPUT, layer])
        errors = self.arithmetic.input_errors(layer, error, self._parts(layer), own)
        for producer, found in zip(producers, errors, strict=True):
            if producer not in self._needed:
                continue
            place, in_place = self._place(producer), self._root[producer] == self._root[layer]
            if place == self._place(layer) and not in_place:
                continue  # the addition's own buffer goes on
            self._write(held, producer, None if in_place else held.get(place), found)

    # --- the update ---

    def _update(self, key: str, gradient: Array) -> None:
        values, state = self.numbers[key], self.state.get(key, [])
        layer = self._layers[key.rsplit(".", 1)[0]]
        channels = self.channels.get(layer) if key.endswith(".weight") else None
        if channels is None:
            self.numbers[key] = self.arithmetic.update(key, values, gradient.reshape(values.shape), state)
            return
        shape = self.workload.shape_of(self.workload.inputs[layer][0])
        kernel = Weighted.of(self.workload.layers[layer], shape)
        rest = np.setdiff1d(np.arange(shape[0]), channels)
        after = self.arithmetic.update(key, kernel.chosen(values, channels), gradient, state)
        self.numbers[key] = kernel.joined(after, kernel.chosen(values, rest), channels, values.shape)

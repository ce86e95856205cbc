"""A stage in 8-bit integers with its backward pass and update: the executor's ``Arithmetic`` for int8."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from dse.errors import Problem, UserError
from dse.execution import elements
from dse.execution.arithmetic import Array, FloatArray, Forward, IntArray, Kept, Loss, Parts
from dse.execution.fp32 import Fp32
from dse.execution.int8.constants import Constants, Steps
from dse.execution.int8.forward import NO_LOGITS, IntegerForward
from dse.execution.int8.grid import BIAS_LIMIT, WEIGHT_LIMIT
from dse.execution.int8.narrow import NarrowErrors, NarrowGradients
from dse.execution.int8.rounding import Draws, written_back
from dse.execution.optimisers import Optimiser
from dse.plan.decisions import TrainingPlan
from dse.plan.operations import Holds
from dse.workload import Workload
from dse.workload.layers import Relu


class Int8(IntegerForward):
    """Implements ``Arithmetic`` for the layers of ``span``; made by ``learning``, ``frozen``, ``inference``.

    ``constants`` and ``logits``: see ``IntegerForward``. Scales of int8 errors and gradients are kept here,
    one per tensor, from the operation that writes it to those that read it. ``draws`` decide stochastic
    rounding.

    Raises UserError for constants that lack a layer, and for stochastic rounding without draws.
    """

    def __init__(
        self,
        workload: Workload,
        plan: TrainingPlan,
        constants: Constants,
        span: range,
        logits: int = NO_LOGITS,
        optimiser: Optimiser | None = None,
        draws: Draws | None = None,
    ) -> None:
        super().__init__(workload, constants, span, logits)
        self.plan, self.optimiser, self._draws = plan, optimiser or Optimiser(), draws
        self._real = Fp32(workload)
        self._errors, self._gradients = NarrowErrors(), NarrowGradients()
        self._layers = {layer.name: index for index, layer in enumerate(workload.layers)}
        self._last = len(workload.units) - 1
        if optimiser is not None and plan.weight_rounding == "stochastic" and draws is None:
            raise UserError(
                Problem("plan", "weight_rounding", "stochastic, without draws", "draws or nearest")
            )

    # --- buffers ---

    def dtype(self, holds: Holds, place: int) -> np.dtype[Any]:
        """See ``Arithmetic``."""
        return np.dtype(_FIXED.get(holds) or self._deciding(holds, place))

    def _deciding(self, holds: Holds, place: int) -> type[np.generic]:
        """Type of what the plan, or the classifier, decides."""
        plan = self.plan
        if holds in (Holds.ACTIVATION, Holds.SAVED_INPUT, Holds.INFERRED):
            return np.float32 if self.is_real(place) else np.uint8
        if holds == Holds.ERROR:
            return np.int8 if self._narrow_error(place) else np.float32
        if holds == Holds.OPERAND:
            return np.uint8 if self._narrow_error(place) else np.float32
        fp32 = plan.classifier_dtype == "fp32" and place == self._last and self.logits != NO_LOGITS
        if holds == Holds.GRADIENT:
            return np.int8 if plan.accumulator_dtype == "int8" and not fp32 else np.float32
        if fp32 or holds not in _PARAMETERS:
            return np.float32
        return _PARAMETERS[holds]

    def _narrow_error(self, layer: int) -> bool:
        fp32 = self.plan.classifier_dtype == "fp32" and self.workload.unit_of_layer[layer] == self._last
        return self.plan.backward_dtype == "int8" and not fp32

    # --- forward ---

    def real(self, layer: int, values: Array) -> FloatArray:
        """See ``Arithmetic``."""
        return values.astype(np.float32) if self.is_real(layer) else super().real(layer, values)

    def forward(self, layer: int, inputs: Sequence[Array], own: Parts, *, keep: bool) -> Forward:
        """See ``Arithmetic``."""
        if layer == self.logits:
            return Forward(self.sums(layer, inputs[0], own).astype(np.float32))
        if self.is_real(layer) or self._ends_in(layer):
            return self._real.forward(layer, inputs, {}, keep=keep)
        done = super().forward(layer, inputs, own, keep=keep)
        if keep and self.plan.in_place == "none" and self._follows(layer):
            passed = np.ones(done.output.shape, dtype=bool)  # the head cut, and keeps a mask of its own
            return Forward(done.output, {(Holds.MASK, layer): passed})
        return done

    def _follows(self, layer: int) -> bool:
        """Whether ``layer`` is a rectifier that the kernel before it has applied."""
        return self._heads[layer] != layer and isinstance(self.workload.layers[layer], Relu)

    def _ends_in(self, layer: int) -> bool:
        """Whether ``layer`` is the softmax at the end, which the loss applies."""
        return layer == len(self.workload.layers) - 1 and self.workload.layers[layer].kind == "softmax"

    # --- backward ---

    def loss(self, logits: Array, labels: IntArray, seen: Sequence[int], samples: int) -> Loss:
        """See ``Arithmetic``; the errors of another micro-batch begin here."""
        self._errors.clear()
        return self._real.loss(logits, labels, seen, samples)

    def operand(self, layer: int, values: Array) -> Array:
        """See ``Arithmetic``: q in fp32; bytes where errors are narrow.

        ``values`` are bytes, or q in fp32 that was saved at fewer bits: then the nearest on the grid.
        """
        producer = self.workload.inputs[layer][0]
        if not self._narrow_error(layer):
            return self.q(producer, values).astype(np.float32)
        grid = self.source(producer)
        return values.copy() if values.dtype == np.uint8 else grid.bytes_of(values * np.float64(grid.scale))

    def error_read(self, root: int, held: Array) -> Array:
        """See ``Arithmetic``; ``root`` is the place of the buffer."""
        return self._errors.read(root, held) if self._narrow_error(root) else held.copy()

    def error_written(self, root: int, held: Array | None, added: Array) -> Array:
        """See ``Arithmetic``; ``root`` is the place of the buffer."""
        if self._narrow_error(root):
            return self._errors.written(root, held, added)
        added = added.astype(np.float32)
        return added if held is None else held + added

    def input_errors(self, layer: int, error: Array, own: Parts, kept: Kept) -> tuple[Array, ...]:
        """See ``Arithmetic``: straight through every rounding; where a clamp cut, ``error`` is zero."""
        if layer in self._weighted:
            steps = self.constants.steps[layer].weight.reshape(1, -1, *(1,) * (error.ndim - 2))
            sums = self._weighted[layer].error_of_input(error * steps, own["weight"].astype(np.float64))
            return (sums.astype(np.float32),)
        if self.workload.layers[layer].kind == "hard_swish" and not self.is_real(layer):
            producer = self.workload.inputs[layer][0]
            x = self.saved(producer, kept[Holds.SAVED_INPUT, layer]) * np.float32(self.source(producer).scale)
            return (error * elements.hard_swish_slope(x).reshape(error.shape),)
        return self._real.input_errors(layer, error, {}, kept)

    def weight_gradient(self, layer: int, error: Array, operand: Array, channels: IntArray | None) -> Array:
        """See ``Arithmetic``: of the real weights."""
        producer = self.workload.inputs[layer][0]
        q = self.q(producer, operand)
        found = self._weighted[layer].gradient(error.astype(np.float64), q, channels)
        return (found * self.source(producer).scale).astype(np.float32)

    def affine_gradient(self, layer: int, error: Array, own: Parts, kept: Kept) -> dict[str, Array]:
        """See ``Arithmetic``: of the real biases."""
        found = error.sum((0, *range(2, error.ndim)), dtype=np.float64)
        return {"bias": found.astype(np.float32)}

    # --- update ---

    def accumulated(self, key: str, held: Array | None, gradient: Array) -> Array:
        """See ``Arithmetic``."""
        layer, part = self._place(key)
        gradient = gradient.astype(np.float32)
        if self.dtype(Holds.GRADIENT, int(self.workload.unit_of_layer[layer])) != np.int8:
            return gradient if held is None else held + gradient
        return self._gradients.accumulated(key, held, gradient, self._groups(layer, part, gradient.shape))

    def update(self, key: str, values: Array, gradient: Array, state: Sequence[Array]) -> Array:
        """See ``Arithmetic``. Raises UserError for gradients that are not finite: clamps would hide them."""
        layer, part = self._place(key)
        steps, outputs = self.constants.steps[layer], self._outputs(layer, part, values.shape)
        if gradient.dtype == np.int8:
            gradient = self._gradients.values(key, gradient, self._groups(layer, part, values.shape))
        change = gradient * self._scaling(steps, part)[outputs]
        if not np.isfinite(change).all():
            raise UserError(Problem("training", "rate", f"gradients of {key} are not finite", "a lower rate"))
        found = self.optimiser.stepped(values.astype(np.float64), change, state)
        if not steps.whole:
            return found.astype(np.float32)
        limit = WEIGHT_LIMIT if part == "weight" else BIAS_LIMIT
        drawn = None
        if self._draws is not None and self.plan.weight_rounding == "stochastic":
            drawn = self._draws(key, values.shape)
        return written_back(found, limit, drawn).astype(values.dtype)

    def _place(self, key: str) -> tuple[int, str]:
        name, part = key.rsplit(".", 1)
        return self._layers[name], part

    def _scaling(self, steps: Steps, part: str) -> FloatArray:
        """Return what takes the gradient of a real number to that of its integer, (out,).

        That is the value of a step. Quantisation-aware scaling divides by its square: arXiv 2206.15472,
        Sec. 2.1.
        """
        step = steps.weight if part == "weight" else steps.bias
        return (1.0 / step if self.plan.gradient_scaling == "qas" else step).astype(np.float32)

    def _outputs(self, layer: int, part: str, shape: tuple[int, ...]) -> IntArray:
        """Return the output channel of each learning number of a tensor, in the shape that it comes in."""
        kernel, channels = self._weighted[layer], self.constants.channels.get(layer)
        outputs = np.arange(kernel.output[0])
        if part != "weight":
            return outputs.reshape(shape)
        if channels is None:
            return np.repeat(outputs, kernel.inside * kernel.window.elements).reshape(shape)
        chosen = (channels // kernel.inside * kernel.outside)[:, None] + np.arange(kernel.outside)
        return np.repeat(chosen, kernel.window.elements).reshape(shape)

    def _groups(self, layer: int, part: str, shape: tuple[int, ...]) -> IntArray:
        """Return which numbers of a gradient share a scale: an output channel of weights, all biases."""
        outputs = self._outputs(layer, part, shape)
        return outputs if part == "weight" else np.zeros_like(outputs)


_FIXED: Final[dict[Holds, type[np.generic]]] = {
    **dict.fromkeys(
        (Holds.MASK, Holds.CLAMP, Holds.INDEX, Holds.STORED, Holds.PACKED, Holds.FRAME, Holds.FROZEN,
         Holds.LATENTS, Holds.SLICE),
        np.uint8,
    ),
    Holds.COPY_WEIGHT: np.int8,
    Holds.COPY_AFFINE: np.int32,
}  # fmt: skip
"""Types that no decision changes; sums, state and whatever is not named here are fp32."""

_PARAMETERS: Final[dict[Holds, type[np.generic]]] = {
    **dict.fromkeys((Holds.LEARNING_WEIGHT, Holds.FROZEN_WEIGHT, Holds.PERSISTENT_WEIGHT), np.int8),
    **dict.fromkeys((Holds.LEARNING_AFFINE, Holds.FROZEN_AFFINE, Holds.PERSISTENT_AFFINE), np.int32),
}
"""Types of parameters; an fp32 classifier has fp32."""


# --- the stages of a plan ---


def learning(
    workload: Workload,
    plan: TrainingPlan,
    constants: Constants,
    optimiser: Optimiser,
    draws: Draws | None = None,
) -> Int8:
    """Return the arithmetic of the learning stage of ``plan``; logits are real values."""
    span = range(workload.cut_layer(plan.cut) + 1, len(workload.layers))
    return Int8(workload, plan, constants, span, workload.units[-1].layer, optimiser, draws)


def frozen(workload: Workload, plan: TrainingPlan, constants: Constants) -> Int8:
    """Return the arithmetic of the frozen stage of ``plan``."""
    return Int8(workload, plan, constants, range(workload.cut_layer(plan.cut) + 1))


def inference(workload: Workload, plan: TrainingPlan, constants: Constants) -> Int8:
    """Return the arithmetic of an inference by the whole network; logits are real values."""
    return Int8(workload, plan, constants, range(len(workload.layers)), workload.units[-1].layer)

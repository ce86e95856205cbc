"""The arithmetic of a stage in fp32: one function per layer kind and pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np

from dse.errors import Problem, UserError
from dse.execution import elements, norms, pooling
from dse.execution.arithmetic import Array, FloatArray, Forward, IntArray, Kept, Loss, Parts
from dse.execution.optimisers import Optimiser
from dse.execution.weighted import Weighted
from dse.plan.operations import Holds
from dse.workload import Layer, Shape, Workload
from dse.workload.convolutions import BatchNorm, Convolution, Linear

_BYTES: Final = frozenset({Holds.MASK, Holds.CLAMP, Holds.INDEX, Holds.STORED, Holds.PACKED, Holds.FRAME})


@dataclass(frozen=True)
class Fp32:
    """Implements ``Arithmetic`` for ``workload`` in fp32.

    ``bn_mode`` is what batch norms with numbers of their own do while the stage learns; those without numbers
    are folded. Raises UserError for layers that it cannot run.
    """

    workload: Workload
    bn_mode: str = "folded"
    optimiser: Optimiser = field(default_factory=Optimiser)

    # --- buffers ---

    def dtype(self, holds: Holds, place: int) -> np.dtype[Any]:
        """See ``Arithmetic``."""
        return np.dtype(np.uint8 if holds in _BYTES else np.float32)

    # --- forward ---

    def entered(self, values: FloatArray) -> Array:
        """See ``Arithmetic``."""
        return values.astype(np.float32)

    def real(self, layer: int, values: Array) -> FloatArray:
        """See ``Arithmetic``."""
        return values.astype(np.float32)

    def forward(self, layer: int, inputs: Sequence[Array], own: Parts, *, keep: bool) -> Forward:
        """See ``Arithmetic``."""
        kind = self.workload.layers[layer]
        if isinstance(kind, Convolution | Linear):
            return Forward(self.weighted[layer].forward(inputs[0], own["weight"], own.get("bias")))
        if isinstance(kind, BatchNorm):
            return self._norm(layer, inputs[0], own, keep)
        if kind.kind == "softmax" and layer == len(self.workload.layers) - 1:
            return Forward(inputs[0].copy())  # the loss applies it
        return _FORWARD[kind.kind](layer, kind, inputs)

    def _norm(self, layer: int, x: Array, own: Parts, keep: bool) -> Forward:
        if "gamma" not in own:
            return Forward(x.copy())
        found, unbiased = self._statistics(layer, x, own, keep)
        output = norms.scaled(norms.normalised(x, found), own["gamma"], own["beta"])
        if self.bn_mode == "frozen_stats" or not keep:
            return Forward(output, {(Holds.NORM, layer): x.ravel().copy()})
        changed = {}
        if unbiased is not None:
            mean = norms.followed(own["mean"], found.mean[0])
            changed = {"mean": mean, "variance": norms.followed(own["variance"], unbiased)}
        return Forward(output, {(Holds.NORM, layer): np.concatenate([x.ravel(), found.flat])}, changed)

    def _statistics(
        self, layer: int, x: Array, own: Parts, keep: bool
    ) -> tuple[norms.Statistics, Array | None]:
        if self.bn_mode == "group":
            return norms.of_groups(x, norms.groups_of(x.shape[1], self.workload.layers[layer].name)), None
        if self.bn_mode == "batch_stats" and keep:
            return norms.of_batch(x)
        return norms.running(own["mean"], own["variance"]), None

    @cached_property
    def weighted(self) -> dict[int, Weighted]:
        """Every layer with weights, by its index."""
        return {
            index: Weighted.of(layer, self._shape(index))
            for index, layer in enumerate(self.workload.layers)
            if isinstance(layer, Convolution | Linear)
        }

    def _shape(self, layer: int) -> Shape:
        return self.workload.shape_of(self.workload.inputs[layer][0])

    def saved(self, producer: int, values: Array) -> FloatArray:
        """See ``Arithmetic``."""
        return values.astype(np.float32)

    # --- backward ---

    def loss(self, logits: Array, labels: IntArray, seen: Sequence[int], samples: int) -> Loss:
        """See ``Arithmetic``."""
        value, error = elements.cross_entropy(logits, labels, seen)
        return Loss(value / samples, error / error.dtype.type(samples))

    def operand(self, layer: int, values: Array) -> Array:
        """See ``Arithmetic``."""
        return values.astype(np.float32)

    def error_read(self, root: int, held: Array) -> Array:
        """See ``Arithmetic``."""
        return held.copy()

    def error_written(self, root: int, held: Array | None, added: Array) -> Array:
        """See ``Arithmetic``."""
        return added if held is None else held + added

    def input_errors(self, layer: int, error: Array, own: Parts, kept: Kept) -> tuple[Array, ...]:
        """See ``Arithmetic``."""
        kind = self.workload.layers[layer]
        if isinstance(kind, Convolution | Linear):
            return (self.weighted[layer].error_of_input(error, own["weight"]),)
        if isinstance(kind, BatchNorm):
            return (self._norm_error(layer, error, own, kept),)
        if kind.kind == "softmax" and layer == len(self.workload.layers) - 1:
            return (error.copy(),)
        if kind.kind not in _BACKWARD:
            allowed = f"layers that keep what their backward pass needs: {', '.join(_BACKWARD)}"
            found = f"an error through a {kind.kind}, which keeps nothing for it"
            raise UserError(Problem(self.workload.name, f"layers.{kind.name}", found, allowed))
        shapes = [self.workload.shape_of(producer) for producer in self.workload.inputs[layer]]
        return _BACKWARD[kind.kind](layer, kind, shapes, error, kept)

    def _norm_error(self, layer: int, error: Array, own: Parts, kept: Kept) -> Array:
        if "gamma" not in own:
            return error.copy()
        if self.bn_mode == "frozen_stats":
            return norms.error_by_running(error, own["gamma"], norms.running(own["mean"], own["variance"]))
        x, statistics = self._kept_norm(layer, error, own, kept)
        return norms.error_by_own(error, own["gamma"], x, statistics)

    def _kept_norm(self, layer: int, error: Array, own: Parts, kept: Kept) -> tuple[Array, norms.Statistics]:
        flat = kept[Holds.NORM, layer]
        x = flat[: error.size].reshape(error.shape)
        if self.bn_mode == "frozen_stats":
            return x, norms.running(own["mean"], own["variance"])
        groups = error.shape[1]
        if self.bn_mode == "group":
            groups = norms.groups_of(groups, self.workload.layers[layer].name)
        return x, norms.Statistics.unpacked(flat[error.size :], groups)

    def weight_gradient(self, layer: int, error: Array, operand: Array, channels: IntArray | None) -> Array:
        """See ``Arithmetic``."""
        return self.weighted[layer].gradient(error, operand, channels)

    def affine_gradient(self, layer: int, error: Array, own: Parts, kept: Kept) -> dict[str, Array]:
        """See ``Arithmetic``."""
        if isinstance(self.workload.layers[layer], BatchNorm):
            x, statistics = self._kept_norm(layer, error, own, kept)
            return norms.affine_gradient(error, x, statistics)
        return {"bias": error.sum((0, *range(2, error.ndim)))}

    # --- update ---

    def accumulated(self, key: str, held: Array | None, gradient: Array) -> Array:
        """See ``Arithmetic``."""
        return gradient if held is None else held + gradient

    def update(self, key: str, values: Array, gradient: Array, state: Sequence[Array]) -> Array:
        """See ``Arithmetic``."""
        return self.optimiser.stepped(values, gradient, state)


# --- layers without weights ---

_Run = Callable[[int, Any, Sequence[Array]], Forward]
_Back = Callable[[int, Any, Sequence[Shape], Array, Kept], tuple[Array, ...]]


def _rectified(layer: int, kind: Layer, inputs: Sequence[Array]) -> Forward:
    output, passes = elements.rectified(inputs[0], 6.0 if kind.kind == "relu6" else None)
    return Forward(output, {(Holds.MASK, layer): passes})


def _hard_swish(layer: int, kind: Layer, inputs: Sequence[Array]) -> Forward:
    return Forward(elements.hard_swish(inputs[0]), {(Holds.SAVED_INPUT, layer): inputs[0].copy()})


def _largest(layer: int, kind: Layer, inputs: Sequence[Array]) -> Forward:
    output, index = pooling.largest(kind, inputs[0])
    return Forward(output, {(Holds.INDEX, layer): index})


def _concat_error(
    layer: int, kind: Layer, shapes: Sequence[Shape], error: Array, kept: Kept
) -> tuple[Array, ...]:
    edges = np.cumsum([shape[0] for shape in shapes])[:-1]
    return tuple(part.copy() for part in np.split(error, edges, axis=1))


_FORWARD: Final[dict[str, _Run]] = {
    "relu": _rectified,
    "relu6": _rectified,
    "hard_swish": _hard_swish,
    "max_pool": _largest,
    "avg_pool": lambda layer, kind, inputs: Forward(pooling.average(kind, inputs[0])),
    "global_avg_pool": lambda layer, kind, inputs: Forward(pooling.global_average(inputs[0])),
    "add": lambda layer, kind, inputs: Forward(np.asarray(sum(inputs[1:], start=inputs[0].copy()))),
    "concat": lambda layer, kind, inputs: Forward(np.concatenate(list(inputs), axis=1)),
    "flatten": lambda layer, kind, inputs: Forward(inputs[0].reshape(len(inputs[0]), -1).copy()),
    "softmax": lambda layer, kind, inputs: Forward(elements.softmax(inputs[0])),
}
"""Layer kind -> its forward pass."""

_BACKWARD: Final[dict[str, _Back]] = {
    **dict.fromkeys(
        ("relu", "relu6"),
        lambda layer, kind, shapes, error, kept: (error * kept[Holds.MASK, layer].reshape(error.shape),),
    ),
    "hard_swish": lambda layer, kind, shapes, error, kept: (
        error * elements.hard_swish_slope(kept[Holds.SAVED_INPUT, layer].reshape(error.shape)),
    ),
    "max_pool": lambda layer, kind, shapes, error, kept: (
        pooling.largest_error(kind, shapes[0], error, kept[Holds.INDEX, layer].reshape(error.shape)),
    ),
    "avg_pool": lambda layer, kind, shapes, error, kept: (pooling.average_error(kind, shapes[0], error),),
    "global_avg_pool": lambda layer, kind, shapes, error, kept: (
        pooling.global_average_error(shapes[0], error),
    ),
    "add": lambda layer, kind, shapes, error, kept: tuple(error.copy() for _ in shapes),
    "concat": _concat_error,
    "flatten": lambda layer, kind, shapes, error, kept: (error.reshape(len(error), *shapes[0]).copy(),),
}
"""Layer kind -> the errors of its inputs."""

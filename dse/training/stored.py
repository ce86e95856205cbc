"""Operations that save for their backward pass what the plan says: one per layer kind.

Where no error passes and nothing learns, an operation is the plain one of ``dse.training.operators``; its
results are the same bits either way. Additions, concatenations and averages over all positions save nothing
in PyTorch itself, hard swish its input.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from math import prod
from typing import Any, Final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.autograd import Function

from dse.errors import Problem, UserError
from dse.training.depthwise import links_of
from dse.training.geometry import Window
from dse.training.keeping import AS_IT_IS, Keeper
from dse.training.operators import (
    OPERATORS,
    Norm,
    Operation,
    is_by_links,
    pool_window,
    window_count,
)
from dse.training.stored_functions import Averaged, LargestOf, Masked, Normed, Swished, Weighted
from dse.training.stored_gradients import Gradients, LinkGradients, MatrixGradients, WindowGradients
from dse.workload import Layer, Shape
from dse.workload.convolutions import Convolution
from dse.workload.windows import Sliding

Tensors = Mapping[str, Tensor]
Builder = Callable[[Any, Shape, Tensors, bool], Operation]
"""(layer, shape of its first input, its tensors by part, in place by the plan) -> the operation."""

LARGEST_WINDOW: Final = 256
"""Elements of a window that an index of one byte tells apart."""


class Keeping(ABC):
    """An operation that keeps real values for its backward pass, in the width of its ``keeper``."""

    keeper: Keeper = AS_IT_IS

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """(B, C, ...) -> the layer's output."""


class StoredWeights(Keeping):
    """A convolution or linear layer; ``channels`` are the input channels whose weights learn, None: all."""

    def __init__(self, layer: Layer, shape: Shape, tensors: Tensors, in_place: bool) -> None:
        self.channels: Tensor | None = None
        self._plain = OPERATORS[layer.kind](layer, shape, tensors)
        self._weight, self._bias = tensors["weight"], tensors.get("bias")
        self._gradients = gradients_of(layer, shape, self._weight)

    def __call__(self, x: Tensor) -> Tensor:
        """(B, C, ...) -> the layer's output."""
        if not _recorded(x, self._weight, self._bias):
            return self._plain(x)
        return _run(
            Weighted, x, self._weight, self._bias, self._plain, self._gradients, self.channels, self.keeper
        )


def gradients_of(layer: Layer, shape: Shape, weight: Tensor) -> Gradients:
    """Return how a convolution or linear layer, whose input has ``shape``, passes errors on."""
    if not isinstance(layer, Convolution) or not isinstance(layer, Sliding):
        return MatrixGradients()
    window, groups = Window.of(layer, shape), layer.geometry(shape)[1]
    if is_by_links(layer, shape, weight):
        return LinkGradients(links_of(window).to(weight), prod(window.positions))
    return WindowGradients(window, groups)


class StoredNorm(Norm, Keeping):
    """Batch norm; see ``Norm``."""

    def __call__(self, x: Tensor) -> Tensor:
        """(B, C, ...) -> the same shape."""
        own = self._tensors
        if self.folded or not _recorded(x, own["gamma"], own["beta"]):
            return super().__call__(x)
        return _run(
            Normed, x, own["gamma"], own["beta"], own["mean"], own["variance"], self.by_batch, self.keeper
        )


class StoredHardSwish(Keeping):
    """Hard swish: its input as it is, or a copy where the plan has one beside the tensor that others read."""

    def __init__(self, layer: Layer, shape: Shape, tensors: Tensors, in_place: bool) -> None:
        self._in_place = in_place

    def __call__(self, x: Tensor) -> Tensor:
        """(B, ...) -> the same shape."""
        if not _recorded(x):
            return F.hardswish(x)
        if self.keeper is AS_IT_IS:
            return F.hardswish(x if self._in_place else x.clone())
        return _run(Swished, x, self.keeper)


def _recorded(*tensors: Tensor | None) -> bool:
    """Whether a gradient of any of these is asked for."""
    return torch.is_grad_enabled() and any(each is not None and each.requires_grad for each in tensors)


def _run(function: type[Function], x: Tensor, *rest: Any) -> Tensor:
    result: Tensor = function.apply(x, *rest)  # type: ignore[no-untyped-call]
    return result


def _rectifier(limit: float | None) -> Builder:
    def build(layer: Layer, shape: Shape, tensors: Tensors, in_place: bool) -> Operation:
        plain = OPERATORS[layer.kind](layer, shape, tensors)
        return lambda x: _run(Masked, x, plain, limit) if _recorded(x) else plain(x)

    return build


def _max_pool(layer: Sliding, shape: Shape, tensors: Tensors, in_place: bool) -> Operation:
    plain, window = OPERATORS["max_pool"](layer, shape, tensors), pool_window(layer, shape)
    if prod(window.kernel) > LARGEST_WINDOW:
        found = f"{prod(window.kernel)} elements, whose index is saved in one byte"
        raise UserError(
            Problem("network", f"layers.{layer.name}.kernel", found, f"{LARGEST_WINDOW} or fewer")
        )
    return lambda x: _run(LargestOf, x, window) if _recorded(x) else plain(x)


def _avg_pool(layer: Sliding, shape: Shape, tensors: Tensors, in_place: bool) -> Operation:
    plain, window = OPERATORS["avg_pool"](layer, shape, tensors), pool_window(layer, shape)
    count = window_count(layer, shape)
    return lambda x: _run(Averaged, x, plain, count, window) if _recorded(x) else plain(x)


def _flatten(layer: Layer, shape: Shape, tensors: Tensors, in_place: bool) -> Operation:
    """Another view, or a tensor of its own where the plan has one."""
    return lambda x: x.flatten(1) if in_place else x.flatten(1).clone()


def _softmax(layer: Layer, shape: Shape, tensors: Tensors, in_place: bool) -> Operation:
    found = "a softmax inside the network, whose output PyTorch saves and no plan counts"
    raise UserError(Problem("network", f"layers.{layer.name}", found, "one at the end, part of the loss"))


def _as_it_is(layer: Layer, shape: Shape, tensors: Tensors, in_place: bool) -> Operation:
    return OPERATORS[layer.kind](layer, shape, tensors)


STORED: Final[dict[str, Builder]] = {
    **dict.fromkeys(OPERATORS, _as_it_is),
    **dict.fromkeys(("conv2d", "conv1d", "depthwise", "depthwise1d", "pointwise", "linear"), StoredWeights),
    "batch_norm": lambda layer, shape, tensors, in_place: StoredNorm(layer, shape, tensors),
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "relu": _rectifier(None),
    "relu6": _rectifier(6.0),
    "hard_swish": StoredHardSwish,
    "flatten": _flatten,
    "softmax": _softmax,
}
"""Layer kind -> how its operation is made."""

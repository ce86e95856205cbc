"""One PyTorch operation per layer kind.

Tensors are (B, C, H, W), time series (B, C, 1, L), vectors (B, F). Channels are innermost in memory
(channels_last), where PyTorch is fastest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any, Final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from dse.errors import Problem, UserError
from dse.training.depthwise import MOST_POSITIONS, depthwise_by_links, links_of
from dse.training.geometry import Window
from dse.training.parameters import EPSILON
from dse.workload import Layer, Shape
from dse.workload.convolutions import Convolution
from dse.workload.windows import Sliding

Operation = Callable[..., Tensor]
Builder = Callable[[Any, Shape, Mapping[str, Tensor]], Operation]
"""(layer, shape of its first input, its tensors by part) -> the operation."""

MOMENTUM: Final = 0.1
"""Share of a mini-batch's statistics in the running statistics of a batch norm."""

FEW_POSITIONS: Final = 100
"""Positions up to which a 1x1 convolution is faster as a matrix product (128 samples, one thread)."""


# --- layers with parameters ---


def convolution(layer: Convolution, shape: Shape, tensors: Mapping[str, Tensor]) -> Operation:
    """Return a convolution of any kind."""
    _, groups, _ = layer.geometry(shape)
    weight, bias = tensors["weight"], tensors.get("bias")
    positions = prod(shape[1:])
    if not isinstance(layer, Sliding):
        if positions <= FEW_POSITIONS:
            return lambda x: pointwise(x, weight, bias)
        return lambda x: F.conv2d(x, weight.view(*weight.shape[:2], 1, 1), bias)
    window = Window.of(layer, shape)
    if is_by_links(layer, shape, weight):
        links = links_of(window).to(weight)
        return lambda x: depthwise_by_links(x, weight, bias, links, window)
    if window.symmetric:
        return lambda x: F.conv2d(x, weight, bias, window.stride, window.before, window.dilation, groups)
    padded = window.sides
    return lambda x: F.conv2d(F.pad(x, padded), weight, bias, window.stride, 0, window.dilation, groups)


def is_by_links(layer: Convolution, shape: Shape, weight: Tensor) -> bool:
    """Whether ``depthwise_by_links`` runs a convolution: depthwise, over few positions, on the processor."""
    depthwise = layer.geometry(shape)[1] == shape[0] == layer.output_shape(shape)[0]
    return depthwise and prod(shape[1:]) <= MOST_POSITIONS and weight.device.type == "cpu"


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Mix the channels of (B, C, H, W) at every position."""
    return F.linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)


def linear(layer: Layer, shape: Shape, tensors: Mapping[str, Tensor]) -> Operation:
    """Return a fully connected layer."""
    weight, bias = tensors["weight"], tensors.get("bias")
    return lambda x: F.linear(x, weight, bias)


class Norm:
    """Batch norm by the batch's own statistics or by the running ones; the identity where it is folded."""

    def __init__(self, layer: Layer, shape: Shape, tensors: Mapping[str, Tensor]) -> None:
        self.folded = "gamma" not in tensors
        self.by_batch = False
        self._tensors = tensors

    def __call__(self, x: Tensor) -> Tensor:
        """(B, C, ...) -> the same shape; by the batch, the running statistics follow."""
        if self.folded:
            return x
        own = self._tensors
        return F.batch_norm(
            x, own["mean"], own["variance"], own["gamma"], own["beta"], self.by_batch, MOMENTUM, EPSILON
        )


# --- layers without ---


def max_pool(layer: Sliding, shape: Shape, tensors: Mapping[str, Tensor]) -> Operation:
    """Return the largest value of each window; padding never wins."""
    window = pool_window(layer, shape)
    if any(window.sides):
        return lambda x: F.max_pool2d(F.pad(x, window.sides, value=-torch.inf), window.kernel, window.stride)
    return lambda x: F.max_pool2d(x, window.kernel, window.stride)


def avg_pool(layer: Sliding, shape: Shape, tensors: Mapping[str, Tensor]) -> Operation:
    """Return the average of each window, by the count of ``window_count``."""
    total, count = window_sum(layer, shape), window_count(layer, shape)
    if count.numel() == 1:
        inverse = 1.0 / float(count)
        return lambda x: total(x) * inverse
    return lambda x: total(x) / count.to(x)


def window_sum(layer: Sliding, shape: Shape) -> Operation:
    """Return the sum over each window."""
    window = pool_window(layer, shape)

    def run(x: Tensor) -> Tensor:
        x = F.pad(x, window.sides) if any(window.sides) else x
        return F.avg_pool2d(x, window.kernel, window.stride, divisor_override=1)

    return run


def window_count(layer: Sliding, shape: Shape) -> Tensor:
    """Return by what an average divides: one number, or (1, 1, H, W) where windows hold less at the edges.

    Padding by ``"same"`` does not count (TensorFlow's rule), padding by numbers does (PyTorch's).
    """
    window = pool_window(layer, shape)
    if window.same and any(window.sides):
        return window_sum(layer, shape)(torch.ones(1, 1, *window.size))
    return torch.tensor(float(prod(window.kernel)))


def pool_window(layer: Sliding, shape: Shape) -> Window:
    """Return the window of a pool. Raises UserError for padding that fills a window."""
    window = Window.of(layer, shape)
    if not all(axis.holds_data for axis in (window.rows, window.columns)):
        found = f"padding {layer.padding} makes windows of {layer.kernel} that hold no data"
        raise UserError(Problem("network", f"layers.{layer.name}.padding", found, "less than the kernel"))
    return window


def _plain(operation: Operation) -> Builder:
    return lambda layer, shape, tensors: operation


OPERATORS: Final[dict[str, Builder]] = {
    **dict.fromkeys(("conv2d", "conv1d", "depthwise", "depthwise1d", "pointwise"), convolution),
    "linear": linear,
    "batch_norm": Norm,
    "max_pool": max_pool,
    "avg_pool": avg_pool,
    "global_avg_pool": _plain(lambda x: x.mean((2, 3))),
    "add": _plain(lambda first, *others: sum(others, start=first)),
    "concat": _plain(lambda *inputs: torch.cat(inputs, 1)),
    "relu": _plain(torch.relu),
    "relu6": _plain(F.relu6),
    "hard_swish": _plain(F.hardswish),
    "softmax": _plain(lambda x: torch.softmax(x, 1)),
    "flatten": _plain(lambda x: x.flatten(1)),
}
"""Layer kind -> how its operation is made."""

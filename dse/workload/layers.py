"""Every layer kind by name, and the kinds without weights; a new kind is one class and one entry here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from dse.vocabulary import Saved
from dse.workload.base import Layer, Padding, Shape, elements, shape_text
from dse.workload.convolutions import (
    BatchNorm,
    Conv1d,
    Conv2d,
    Depthwise,
    Depthwise1d,
    Linear,
    Pointwise,
)
from dse.workload.forward_only import ForwardOnly
from dse.workload.windows import Sliding, require_positions, require_vector


def _backward_reads(*what: str) -> Mapping[str, tuple[str, ...]]:
    return {"fwd": ("input",), "bwd_input": what, "bwd_weight": (), "update": ()}


@dataclass(frozen=True, kw_only=True)
class Relu(Layer):
    """max(x, 0); its backward pass needs one bit per element."""

    kind: ClassVar[str] = "relu"
    element_operation: ClassVar[str | None] = "relu"
    in_place: ClassVar[bool] = True
    saves: ClassVar[Saved] = Saved.MASK
    passes: ClassVar[Mapping[str, tuple[str, ...]]] = _backward_reads("mask", "output_gradient")


@dataclass(frozen=True, kw_only=True)
class Relu6(Relu):
    """min(max(x, 0), 6); also the clamp of a quantised network."""

    kind: ClassVar[str] = "relu6"
    element_operation: ClassVar[str | None] = "relu6"


@dataclass(frozen=True, kw_only=True)
class HardSwish(Layer):
    """x relu6(x + 3) / 6; its slope depends on its input, which it saves."""

    kind: ClassVar[str] = "hard_swish"
    element_operation: ClassVar[str | None] = "hard_swish"
    in_place: ClassVar[bool] = True
    saves: ClassVar[Saved] = Saved.INPUT
    passes: ClassVar[Mapping[str, tuple[str, ...]]] = _backward_reads("input", "output_gradient")


@dataclass(frozen=True, kw_only=True)
class AvgPool(Sliding):
    """Average over windows; the stride is the kernel unless given."""

    padding: Padding = (0,)

    kind: ClassVar[str] = "avg_pool"
    element_operation: ClassVar[str | None] = "avg_pool"
    ends_unit: ClassVar[bool] = True

    def default_stride(self) -> tuple[int, ...]:
        """Windows side by side."""
        return self.kernel

    def output_shape(self, *inputs: Shape) -> Shape:
        """(C, positions...); every window has to hold data."""
        shape = (inputs[0][0], *self.positions(inputs[0]))
        if not all(axis.holds_data for axis in self.axes(inputs[0])):
            raise ValueError(f"padding {self.padding} makes windows of {self.kernel} that hold no data")
        return shape


@dataclass(frozen=True, kw_only=True)
class MaxPool(AvgPool):
    """Largest value of each window; its backward pass needs the index of the winner."""

    kind: ClassVar[str] = "max_pool"
    element_operation: ClassVar[str | None] = "max_pool"
    saves: ClassVar[Saved] = Saved.INDEX
    passes: ClassVar[Mapping[str, tuple[str, ...]]] = _backward_reads("index", "output_gradient")


@dataclass(frozen=True, kw_only=True)
class GlobalAvgPool(Layer):
    """Average over all positions: (C, ...) -> (C,)."""

    kind: ClassVar[str] = "global_avg_pool"
    element_operation: ClassVar[str | None] = "avg_pool"
    ends_unit: ClassVar[bool] = True

    def output_shape(self, *inputs: Shape) -> Shape:
        """(C,)."""
        require_positions(self.kind, inputs[0], None)
        return (inputs[0][0],)


@dataclass(frozen=True, kw_only=True)
class Add(Layer):
    """Sum of tensors of one shape."""

    kind: ClassVar[str] = "add"
    element_operation: ClassVar[str | None] = "add"
    many_inputs: ClassVar[bool] = True

    def output_shape(self, *inputs: Shape) -> Shape:
        """The common shape."""
        if len(set(inputs)) != 1:
            raise ValueError(f"add needs equal shapes, found {' and '.join(map(shape_text, inputs))}")
        return inputs[0]


@dataclass(frozen=True, kw_only=True)
class Concat(Layer):
    """Tensors joined along the channels."""

    kind: ClassVar[str] = "concat"
    element_operation: ClassVar[str | None] = "concat"
    many_inputs: ClassVar[bool] = True

    def output_shape(self, *inputs: Shape) -> Shape:
        """Channels add up; everything else must agree."""
        if len({shape[1:] for shape in inputs}) != 1:
            raise ValueError(f"concat needs equal positions, found {' and '.join(map(shape_text, inputs))}")
        return (sum(shape[0] for shape in inputs), *inputs[0][1:])


@dataclass(frozen=True, kw_only=True)
class Softmax(Layer):
    """Class probabilities; with cross-entropy its gradient needs them and the label alone."""

    kind: ClassVar[str] = "softmax"
    element_operation: ClassVar[str | None] = "softmax_loss"
    in_place: ClassVar[bool] = True
    saves: ClassVar[Saved] = Saved.PROBABILITIES
    ends_unit: ClassVar[bool] = True
    passes: ClassVar[Mapping[str, tuple[str, ...]]] = _backward_reads("probabilities", "labels")

    def output_shape(self, *inputs: Shape) -> Shape:
        """(F,); the input must be a vector."""
        require_vector(self.kind, inputs[0])
        return inputs[0]


@dataclass(frozen=True, kw_only=True)
class Flatten(Layer):
    """The same numbers as a vector; moves nothing."""

    kind: ClassVar[str] = "flatten"
    in_place: ClassVar[bool] = True
    ends_unit: ClassVar[bool] = True

    def output_shape(self, *inputs: Shape) -> Shape:
        """(C x positions,)."""
        return (elements(inputs[0]),)


LAYER_KINDS: Final[dict[str, type[Layer]]] = {
    cls.kind: cls
    for cls in (
        Conv2d, Conv1d, Depthwise, Depthwise1d, Pointwise, Linear, AvgPool, MaxPool, GlobalAvgPool,
        Add, Concat, Relu, Relu6, HardSwish, BatchNorm, Softmax, Flatten,
        ForwardOnly,
    )
}  # fmt: skip
"""Name in a network file -> class."""

"""Models made by hand, node by node, with seeded numbers, in the order of axes of one format or the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dse.workload.base import Shape
from dse.workload.model.graph import INPUT_PREFIX, Constant, Model, ModelInput, Node
from tests.workload.model.naive import Array, evaluate_node


def constant(name: str, values: NDArray[Any]) -> Constant:
    values = np.asarray(values, dtype=np.float32)
    return Constant(name, values.shape, "float32", values.nbytes, values)


class Builder:
    """A model in the making; every method adds a node behind ``self.last`` (or behind ``inputs``)."""

    def __init__(self, shape: Shape, order: str = "NCHW", seed: int = 0) -> None:
        self.order, self.random = order, np.random.default_rng(seed)
        self.x: Array = self.random.standard_normal(shape)
        self.inputs = (ModelInput("x", shape),)
        self.values: dict[str, Array] = {INPUT_PREFIX + "x": self.x}
        self.nodes: list[Node] = []
        self.last = INPUT_PREFIX + "x"

    def node(
        self, operation: str, *inputs: str, name: str = "", constants: dict[str, Any] | None = None,
        channel_axis: int | None = None, shape: Shape | None = None, **attributes: Any,
    ) -> str:  # fmt: skip
        """Add a node; its shape is that of what it gives unless said."""
        name = name or f"{operation}{len(self.nodes)}"
        held = {key: constant(f"{name}.{key}", value) for key, value in (constants or {}).items()}
        made = Node(
            name, operation, inputs or (self.last,), shape, operation.upper(), attributes, held,
            channel_axis=channel_axis,
        )  # fmt: skip
        value = evaluate_node(made, *(self.values[source] for source in made.inputs))
        self.nodes.append(replace(made, shape=value.shape))
        self.values[name], self.last = value, name
        return name

    def raw(self, operation: str, shape: Shape | None, *inputs: str, name: str = "", **more: Any) -> str:
        """Add a node that the naive evaluation does not know."""
        name = name or f"{operation}{len(self.nodes)}"
        more.setdefault("source_operation", operation.upper())
        self.nodes.append(Node(name, operation, inputs or (self.last,), shape, **more))
        self.values[name], self.last = np.zeros(shape or ()), name
        return name

    # --- sizes here ---

    @property
    def shape(self) -> Shape:
        return self.values[self.last].shape

    @property
    def axis(self) -> int:
        """Axis of channels."""
        return 0 if self.order == "NCHW" else len(self.shape) - 1

    @property
    def channels(self) -> int:
        return self.shape[self.axis]

    def positions(self) -> Shape:
        return tuple(size for place, size in enumerate(self.shape) if place != self.axis)

    # --- layers ---

    def conv(
        self, out: int, kernel: Sequence[int], *inputs: str, groups: int = 1, bias: bool = True,
        same: bool = False, pads: Any = None, stride: Any = None, dilation: Any = None, name: str = "",
    ) -> str:  # fmt: skip
        if inputs:
            self.last = inputs[0]
        rank = len(kernel)
        stride, dilation = stride or (1,) * rank, dilation or (1,) * rank
        if same:
            pads = [
                same_pads(*sizes) for sizes in zip(self.positions(), kernel, stride, dilation, strict=True)
            ]
        weight = self.random.standard_normal((out, self.channels // groups, *kernel)) / np.sqrt(
            np.prod(kernel)
        )
        held = {"weight": weight} | ({"bias": self.random.standard_normal(out)} if bias else {})
        return self.node(
            "conv", *inputs, constants=held, channel_axis=self.axis, name=name, groups=groups,
            kernel=tuple(kernel), stride=tuple(stride), dilation=tuple(dilation),
            pads=tuple(pads or ((0, 0),) * rank),
        )  # fmt: skip

    def depthwise(self, kernel: Sequence[int], multiplier: int = 1, **more: Any) -> str:
        return self.conv(self.channels * multiplier, kernel, groups=self.channels, **more)

    def linear(self, out: int, *, bias: bool = True, name: str = "") -> str:
        fan_in = self.shape[-1]
        held = {"weight": self.random.standard_normal((out, fan_in)) / np.sqrt(fan_in)}
        held |= {"bias": self.random.standard_normal(out)} if bias else {}
        return self.node("linear", constants=held, channel_axis=len(self.shape) - 1, name=name)

    def batch_norm(self, axis: int | None = None, epsilon: float = 1e-3, low: float = 0.0) -> str:
        axis = self.axis if axis is None else axis
        size = self.shape[axis]
        held = {
            "gamma": self.random.uniform(0.5, 2, size), "beta": self.random.standard_normal(size),
            "mean": self.random.standard_normal(size), "variance": self.random.uniform(low, 2, size),
        }  # fmt: skip
        return self.node("batch_norm", constants=held, channel_axis=axis, epsilon=epsilon)

    def pool(
        self, operation: str, kernel: Sequence[int], *, stride: Any = None, pads: Any = None, **more: Any
    ) -> str:
        pads = tuple(pads or ((0, 0),) * len(kernel))
        return self.node(
            operation,
            channel_axis=self.axis,
            kernel=tuple(kernel),
            stride=tuple(stride or kernel),
            pads=pads,
            **more,
        )

    def global_pool(self, *, keep: bool = False) -> str:
        shape = tuple(size if place == self.axis else 1 for place, size in enumerate(self.shape))
        shape = shape if keep else (self.channels,)
        axis = self.axis
        return self.node(
            "global_avg_pool", shape=shape, input_channel_axis=axis, channel_axis=axis if keep else 0
        )

    def reshape(self, *shape: int) -> str:
        return self.node("reshape", shape=shape)

    def flatten(self) -> str:
        return self.reshape(int(np.prod(self.shape)))

    def transpose(self, *permutation: int) -> str:
        return self.node("transpose", permutation=permutation)

    def scale(self, operation: str, values: Any, **more: Any) -> str:
        return self.node(operation, constants={"operand": values}, **more)

    def model(self, *outputs: str, **more: Any) -> Model:
        return Model(
            "net",
            "net.onnx",
            "ONNX",
            "a test",
            self.inputs,
            tuple(self.nodes),
            outputs or (self.last,),
            0,
            **more,
        )


def same_pads(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """What TensorFlow pads for SAME; the odd one behind."""
    total = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2

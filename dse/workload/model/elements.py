"""Activations, sums, products, softmax and pools: what works on the elements that convolutions give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Final

from dse.workload.base import Layer
from dse.workload.layers import Add, GlobalAvgPool, HardSwish, Relu, Relu6, Softmax
from dse.workload.model.emission import Emission, Value, shape_of
from dse.workload.model.formulas import matmul_macs, recurrent_node_macs
from dse.workload.model.graph import Node
from dse.workload.model.kinds import pool_layer, pools_all, positions_of, window_of
from dse.workload.model.layout import channels_first, moved, plain
from dse.workload.model.weighted import channels_of, constant_first, scaled, windowed

ACTIVATIONS: Final[Mapping[str, type[Layer]]] = {"relu": Relu, "relu6": Relu6, "hard_swish": HardSwish}


def activation(emission: Emission, node: Node, value: Value) -> Value:
    """Return a function of every element: a layer that learns, or one that runs forward only."""
    kind = ACTIVATIONS.get(node.operation)
    if kind is None:
        return emission.ahead(node, node.operation, [value], value.shape, value.layout)
    layer = kind(name=emission.name_of(node), inputs=(value.layer,))
    return emission.became(node, layer, value.layout)


# --- two operands ---


def binary(emission: Emission, node: Node, values: Sequence[Value]) -> Value:
    """Return an operation on several tensors, or on one and a constant."""
    if len(values) == 1 and (found := scaled(emission, node, values[0])) is not None:
        return found
    shape = shape_of(node)
    full = [value for value in values if value.file_shape == shape]
    if not full:
        return emission.ahead_anew(node, node.operation, values)
    model = min(full, key=lambda value: len(value.shape))
    alike = {
        id(value): emission.arranged(value, model.layout, model.shape) for value in full
    }  # fmt: skip
    values = [alike[id(value)] if id(value) in alike else emission.natural(value) for value in values]
    distinct = len({value.layer for value in values}) == len(values) > 1
    if node.operation == "add" and len(full) == len(values) and distinct and not node.constants:
        layer = Add(name=emission.name_of(node), inputs=tuple(value.layer for value in values))
        return emission.became(node, layer, model.layout)
    return emission.ahead(node, node.operation, values, model.shape, model.layout)


def softmax(emission: Emission, node: Node, value: Value) -> Value:
    """Return the softmax at the end of a classifier; any other runs forward only."""
    axis = node.attributes.get("axis")
    if type(axis) is not int or not 0 <= axis < len(value.file_shape):
        raise ValueError(f"softmax over axis {axis!r} of {len(value.file_shape)}")
    over_all = prod(positions_of(value.file_shape, axis)) == 1 and node.attributes.get("beta", 1) == 1
    if not over_all or not emission.readers.is_final(node.name):
        return emission.ahead(node, "softmax", [value], value.shape, value.layout)
    value = emission.vector(value)
    layer = Softmax(name=emission.name_of(node), inputs=(value.layer,))
    return emission.became(node, layer, value.layout)


# --- pools ---


def pool(emission: Emission, node: Node, value: Value) -> Value:
    """Return a pool over windows."""
    axis = channels_of(node, value)
    positions = positions_of(value.file_shape, axis)
    window = window_of(node, len(positions))
    after = channels_first(shape_of(node), axis)
    if len(positions) not in (1, 2):
        return emission.ahead_anew(node, node.operation, [value])
    if node.operation == "avg_pool" and pools_all(node, window, positions):
        return _mean(emission, node, value, axis)
    value, window = windowed(emission, value, axis, window)
    layer = pool_layer(node, window, value.shape, emission.name_of(node), value.layer)
    if layer is not None:
        return emission.became(node, layer, after)
    shape = moved(shape_of(node), axis)
    kept = shape if len(shape) == len(value.shape) else (shape[0], prod(shape[1:]))
    return emission.ahead(node, node.operation, [value], kept, after)


def global_pool(emission: Emission, node: Node, value: Value) -> Value:
    """Return the mean over all positions."""
    axis = node.attributes.get("input_channel_axis")
    if type(axis) is not int or not 0 <= axis < len(value.file_shape):
        raise ValueError(f"no axis of channels in an input of {len(value.file_shape)} axes")
    return _mean(emission, node, value, axis)


def _mean(emission: Emission, node: Node, value: Value, axis: int) -> Value:
    positions, channels = positions_of(value.file_shape, axis), value.file_shape[axis]
    if prod(positions) == 1:
        return emission.same(node, emission.vector(value))
    layout = channels_first(value.file_shape, axis)
    if value.layout != layout or value.shape[0] != channels or len(value.shape) not in (2, 3):
        long = positions if len(positions) <= 2 else (prod(positions),)
        value = emission.arranged(value, layout, (channels, *long))
    layer = GlobalAvgPool(name=emission.name_of(node), inputs=(value.layer,))
    return emission.became(node, layer, plain(shape_of(node)))


def reduce(emission: Emission, node: Node, value: Value) -> Value:
    """Return a mean over all axes but one as what it is, any other reduction forward only."""
    axes = node.attributes.get("axes", ())
    left = [axis for axis in range(len(value.file_shape)) if axis not in axes]
    if node.attributes.get("kind") == "mean" and len(left) == 1 and value.axis == left[0]:
        return _mean(emission, node, value, left[0])
    return emission.ahead_anew(node, "reduce", [value])


# --- what has MACs and no layer ---


def matmul(emission: Emission, node: Node, values: Sequence[Value]) -> Value:
    """Return the product of two activations, or of one and a constant."""
    operand = node.constants.get("operand")
    first = operand.shape if operand is not None and constant_first(node) else values[0].file_shape
    if not first:
        raise ValueError("a product needs factors with axes")
    turned = bool(node.attributes.get("transpose_a", False))
    return emission.ahead_anew(node, "matmul", values, matmul_macs(first, shape_of(node), transposed=turned))


def recurrent(emission: Emission, node: Node, values: Sequence[Value]) -> Value:
    """Return a recurrent layer."""
    weight = node.constants.get("weight_input_l0")
    shape = weight.shape if weight is not None and weight.shape else values[0].file_shape
    macs = recurrent_node_macs(node, shape[-1] if shape else 1)
    return emission.ahead_anew(node, node.operation, values, macs)

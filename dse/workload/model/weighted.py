"""Convolutions, linear layers and batch norms: layers that learn, and what is folded into them."""

from __future__ import annotations

from math import prod
from typing import Final

import numpy as np

from dse.workload.base import Layer, Shape, shape_text
from dse.workload.convolutions import BatchNorm, Convolution, Linear, Pointwise
from dse.workload.forward_only import ForwardOnly
from dse.workload.model.emission import Emission, Value, constant_of, shape_of
from dse.workload.model.fold import NORM, Array, Weights, affine_of, norm_of
from dse.workload.model.formulas import scattered_macs
from dse.workload.model.graph import Constant, Node
from dse.workload.model.kinds import Window, check_conv, conv_layer, positions_of, window_of
from dse.workload.model.layout import Layout, channels_first, moved, plain

# --- convolutions ---


def conv(emission: Emission, node: Node, value: Value) -> Value:
    """Return what a convolution becomes: a convolution of the kind that it is, or a linear layer."""
    axis, weight = channels_of(node, value), constant_of(node, "weight")
    channels, positions = value.file_shape[axis], positions_of(value.file_shape, axis)
    check_conv(node, weight, channels, len(positions))
    bias = _bias(node, weight.shape[0])
    window = window_of(node, len(positions))
    if prod(positions) == 1 and window.is_point and channels == weight.shape[1]:
        return _linear(emission, node, emission.vector(value), weight, bias)
    if len(positions) not in (1, 2):
        macs = weight.elements * prod(positions_of(shape_of(node), axis))
        return emission.ahead_anew(node, f"custom:conv{len(positions)}d", [value], macs)
    value, window = windowed(emission, value, axis, window)
    layer = conv_layer(node, weight, window, value.shape, emission.name_of(node), value.layer)
    layout = channels_first(shape_of(node), axis)
    return _weighted(emission, node, layer, layout, Weights(layer.name, weight.shape, weight, bias))


def channels_of(node: Node, value: Value) -> int:
    """Return the axis of channels of a window's input; raises ValueError where it is not known."""
    axis = node.channel_axis
    if axis is None or not 0 <= axis < len(value.file_shape):
        raise ValueError(f"no axis of channels in an input of {shape_text(value.file_shape)}")
    return axis


def windowed(emission: Emission, value: Value, axis: int, window: Window) -> tuple[Value, Window]:
    """Return the input of a window channels first, and the window over the axes that it has there."""
    full = moved(value.file_shape, axis)
    still = [place for place in range(window.rank) if full[1 + place] == 1 and window.is_still(place)]
    layout = channels_first(value.file_shape, axis)
    wanted = emission.readers.window_shape(value.file_shape, axis) if window.rank == 2 else full
    for place in still if window.rank == 2 else ():
        less = full[: 1 + place] + full[2 + place :]
        if less in (value.shape, wanted) and (wanted != full or value.shape == less):
            return emission.arranged(value, layout, less), window.without(place)
    return emission.arranged(value, layout, full), window


def _weighted(
    emission: Emission, node: Node, layer: Layer, layout: Layout, weights: Weights, shape: Shape | None = None
) -> Value:
    """Add a layer with its numbers; its output's shape must be ``shape``, or else the file's."""
    found = emission.became(node, layer, layout)
    inputs = [emission.shapes[name] for name in layer.inputs]
    if isinstance(layer, Convolution):
        out, groups, kernel = layer.geometry(*inputs)
        weights.shape = (out, inputs[0][0] // groups, *kernel)
    emission.weights[layer.name] = weights
    if _long(found.shape) != _long(shape or _front(shape_of(node), layout)):
        raise ValueError(
            f"its numbers give {shape_text(found.shape)}, the file says {shape_text(shape_of(node))}"
        )
    return found


def _front(shape: Shape, layout: Layout) -> Shape:
    """Return a file's shape with that axis in front that a layout has there."""
    axes = [axis for axis in range(len(shape)) if channels_first(shape, axis) == layout]
    return moved(shape, axes[0]) if axes else shape


def _long(shape: Shape) -> Shape:
    """Return the axes that are longer than 1."""
    return tuple(size for size in shape if size > 1)


def _bias(node: Node, channels: int) -> Constant | None:
    return constant_of(node, "bias", channels) if "bias" in node.constants else None


def conv_transpose(emission: Emission, node: Node, value: Value) -> Value:
    """Return a transposed convolution, which runs forward only."""
    axis, weight = channels_of(node, value), constant_of(node, "weight")
    macs = scattered_macs(weight.elements, prod(positions_of(value.file_shape, axis)))
    return emission.ahead_anew(node, "conv_transpose", [value], macs)


# --- linear ---


def linear(emission: Emission, node: Node, value: Value) -> Value:
    """Return a linear layer over the last axis: pointwise where that has positions."""
    weight = constant_of(node, "weight")
    if len(weight.shape) != 2 or not value.file_shape or value.file_shape[-1] != weight.shape[1]:
        found = f"weights of {shape_text(weight.shape)}"
        raise ValueError(f"{found} do not fit an input of {shape_text(value.file_shape)}")
    bias = _bias(node, weight.shape[0])
    if prod(value.file_shape[:-1]) == 1:
        return _linear(emission, node, emission.vector(value), weight, bias)
    last = len(value.file_shape) - 1
    layout, rest = channels_first(value.file_shape, last), value.file_shape[:-1]
    fits = value.layout == layout and value.shape[0] == weight.shape[1] and len(value.shape) in (2, 3)
    if not fits:
        rest = tuple(size for size in rest if size > 1) if len(rest) > 2 else rest
        target = (weight.shape[1], *(rest if len(rest) <= 2 else (prod(rest),)))
        value = emission.arranged(value, layout, target)
    name = emission.name_of(node)
    layer = Pointwise(name=name, inputs=(value.layer,), out_channels=weight.shape[0], bias=False)
    shape = shape_of(node)
    if shape != (*value.file_shape[:-1], weight.shape[0]):
        raise ValueError(f"gives {weight.shape[0]} numbers for each, the file says {shape_text(shape)}")
    here = (weight.shape[0], *value.shape[1:])  # the same positions, perhaps as another shape
    weights = Weights(name, weight.shape, weight, bias)
    return _weighted(emission, node, layer, channels_first(shape, last), weights, here)


def _linear(
    emission: Emission, node: Node, value: Value, weight: Constant, bias: Constant | None
) -> Value:  # fmt: skip
    """Add a linear layer on a vector, its columns in the order that the vector has here."""
    name, out = emission.name_of(node), weight.shape[0]
    layer = Linear(name=name, inputs=(value.layer,), out_features=out, bias=False)
    weights = Weights(name, (out, value.shape[0]), weight, bias, columns=value.layout)
    if value.layout.is_plain:
        weights.columns = None
    return _weighted(emission, node, layer, plain(shape_of(node)), weights)


# --- batch norms, and what else scales channels ---


def foldable(emission: Emission, value: Value) -> Weights | None:
    """Return the numbers into which a factor per channel of ``value`` can go; None where there are none."""
    return emission.weights.get(value.layer) if value.sole else None


def batch_norm(emission: Emission, node: Node, value: Value) -> Value:
    """Return a batch norm behind its convolution, folded into it, or, anywhere else, forward only."""
    axis = node.channel_axis
    if axis is None or not 0 <= axis < len(value.file_shape):
        raise ValueError(f"no axis of channels in an input of {shape_text(value.file_shape)}")
    channels = value.file_shape[axis]
    parts, epsilon = _parts(node, channels), _epsilon(node)
    target = foldable(emission, value)
    if target is None or channels != value.shape[0] or channels_first(value.file_shape, axis) != value.layout:
        return emission.ahead(node, "affine", [value], value.shape, value.layout)
    if emission.batch_norm == "keep" and not target.normed:
        return _kept(emission, node, value, target, parts, epsilon)
    emission.folded.add(node.name)
    if parts is None:
        target.known = False
        target.scale(None, np.zeros(1))
    else:
        target.scale(*affine_of(parts, epsilon))
    return emission.same(node, value)


def _kept(
    emission: Emission,
    node: Node,
    value: Value,
    target: Weights,
    parts: dict[str, Array] | None,
    epsilon: float,
) -> Value:
    """Add a batch norm as a layer of its own."""
    layer = BatchNorm(name=emission.name_of(node), inputs=(value.layer,))
    found = emission.became(node, layer, value.layout)
    target.normed = layer.name
    target.norm = None if parts is None else norm_of(layer.name, parts, epsilon)
    emission.weights[layer.name] = target
    return found


def _parts(node: Node, channels: int) -> dict[str, Array] | None:
    """Return gamma, beta, mean and variance in float64; None where the file lacks some of their numbers."""
    found: dict[str, Array] = {}
    for part in reversed(NORM):  # the statistics, which must be there, first
        if part in ("gamma", "beta") and part not in node.constants:
            found[part] = np.full(channels, float(part == "gamma"))
            continue
        values = constant_of(node, part, channels).values
        if values is None:
            return None
        found[part] = values.astype(np.float64).reshape(-1)
    return found


def _epsilon(node: Node) -> float:
    epsilon = node.attributes.get("epsilon", 0.0)
    if not isinstance(epsilon, int | float) or not 0 <= epsilon < 1e6:
        raise ValueError(f"epsilon must be a number of at least 0, found {epsilon!r}")
    return float(epsilon)


def scaled(emission: Emission, node: Node, value: Value) -> Value | None:
    """Fold a constant per channel into the layer before; None where it cannot be."""
    target, operand = foldable(emission, value), node.constants.get("operand")
    if operand is None or shape_of(node) != value.file_shape or node.operation not in _AFFINE:
        return None
    turned = constant_first(node) and node.operation in ("subtract", "divide")
    if turned or not _is_per_channel(operand.shape, value):
        return None
    if target is None:
        return _into_norm(emission, node, value)
    if operand.values is None:
        target.known = False
    factor = np.ones(1) if operand.values is None else operand.values.astype(np.float64).reshape(-1)
    if node.operation in ("multiply", "divide"):
        target.scale(factor if node.operation == "multiply" else 1.0 / factor, None)
    else:
        target.scale(None, factor if node.operation == "add" else -factor)
    emission.folded.add(node.name)
    return emission.same(node, value)


_AFFINE: Final = ("add", "multiply", "subtract", "divide")


def _into_norm(emission: Emission, node: Node, value: Value) -> Value | None:
    """Let a batch norm that runs forward only take a constant per channel into its own; None elsewhere."""
    norm = emission.layers.get(value.layer)
    if not isinstance(norm, ForwardOnly) or norm.operation != "affine" or not value.sole:
        return None
    if min(norm.weights, norm.biases) < value.shape[0]:
        return None
    emission.folded.add(node.name)
    return emission.same(node, value)


def _is_per_channel(operand: Shape, value: Value) -> bool:
    """Whether an operand of that shape is one number for all of ``value``, or one per channel."""
    axis, rank = value.axis, len(value.file_shape)
    extra = max(len(operand) - rank, 0)  # a batch axis that the constant was left with
    shape = (1,) * (rank - len(operand)) + operand[extra:]
    if axis is None or prod(operand[:extra]) != 1:
        return False
    return all(size == 1 or (place == axis and size == value.shape[0]) for place, size in enumerate(shape))


def constant_first(node: Node) -> bool:
    """Whether the constant of an operation on two tensors is its first operand."""
    return any(node.attributes.get(key) for key in ("operand_first", "constant_first"))

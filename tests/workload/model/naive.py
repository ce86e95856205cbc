"""Runs a model in float64, one node after the other, in the file's own order of axes: slow and obvious."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dse.workload.model.graph import INPUT_PREFIX, Model, Node

Array = NDArray[np.float64]


def evaluate(model: Model, *inputs: Array) -> dict[str, Array]:
    """Return what every node gives for the model's inputs, one sample without batch."""
    values = {INPUT_PREFIX + item.name: value for item, value in zip(model.inputs, inputs, strict=True)}
    for node in model.nodes:
        values[node.name] = evaluate_node(node, *(values[name] for name in node.inputs))
    return values


def evaluate_node(node: Node, *inputs: Array) -> Array:
    """Return what one node gives."""
    return NAIVE[node.operation](node, *inputs)


def constant(node: Node, name: str) -> Array:
    values = node.constants[name].values
    assert values is not None
    return values.astype(np.float64)


def windows(
    node: Node, x: Array
) -> list[tuple[tuple[int, ...], list[tuple[tuple[int, ...], tuple[int, ...]]]]]:
    """Every output position, with its taps: (tap, position of the input), those in the padding left out."""
    said, sizes = node.attributes, x.shape[1:]
    kernel, rank = said["kernel"], len(sizes)
    stride, dilation = said.get("stride", (1,) * rank), said.get("dilation", (1,) * rank)
    pads = said.get("pads", ((0, 0),) * rank)
    counts = [
        (size + sum(pad) - (k - 1) * d - 1) // s + 1
        for size, k, s, d, pad in zip(sizes, kernel, stride, dilation, pads, strict=True)
    ]
    found = []
    for place in product(*map(range, counts)):
        taps = []
        for tap in product(*map(range, kernel)):
            at = tuple(
                p * s + t * d - a[0] for p, s, t, d, a in zip(place, stride, tap, dilation, pads, strict=True)
            )
            if all(0 <= position < size for position, size in zip(at, sizes, strict=True)):
                taps.append((tap, at))
        found.append((place, taps))
    return found


def channels_first(function: Callable[[Node, Array], Array]) -> Callable[[Node, Array], Array]:
    """Let a function that works on (C, positions...) work on the file's own order."""

    def run(node: Node, x: Array) -> Array:
        assert node.channel_axis is not None
        return np.moveaxis(function(node, np.moveaxis(x, node.channel_axis, 0)), 0, node.channel_axis)

    return run


@channels_first
def conv(node: Node, x: Array) -> Array:
    weight, groups = constant(node, "weight"), node.attributes.get("groups", 1)
    out, per_group = weight.shape[0], weight.shape[1]
    places = windows(node, x)
    result = np.zeros((out, *(size + 1 for size in places[-1][0])))
    for place, taps in places:
        for o in range(out):
            first = o // (out // groups) * per_group
            for tap, at in taps:
                result[(o, *place)] += (
                    weight[(o, slice(None), *tap)] @ x[(slice(first, first + per_group), *at)]
                )
    if "bias" in node.constants:
        result += constant(node, "bias").reshape(-1, *(1,) * (x.ndim - 1))
    return result


@channels_first
def max_pool(node: Node, x: Array) -> Array:
    places = windows(node, x)
    result = np.zeros((x.shape[0], *(size + 1 for size in places[-1][0])))
    for place, taps in places:
        result[(slice(None), *place)] = np.max([x[(slice(None), *at)] for _, at in taps], axis=0)
    return result


@channels_first
def avg_pool(node: Node, x: Array) -> Array:
    places = windows(node, x)
    result = np.zeros((x.shape[0], *(size + 1 for size in places[-1][0])))
    for place, taps in places:
        count = prod(node.attributes["kernel"]) if node.attributes.get("count_include_pad") else len(taps)
        result[(slice(None), *place)] = np.sum([x[(slice(None), *at)] for _, at in taps], axis=0) / count
    return result


def linear(node: Node, x: Array) -> Array:
    result = x @ constant(node, "weight").T
    return result + constant(node, "bias") if "bias" in node.constants else result


@channels_first
def batch_norm(node: Node, x: Array) -> Array:
    wide = {part: constant(node, part).reshape(-1, *(1,) * (x.ndim - 1)) for part in node.constants}
    normed = (x - wide["mean"]) / np.sqrt(wide["variance"] + node.attributes["epsilon"])
    return wide["gamma"] * normed + wide["beta"]


def global_avg_pool(node: Node, x: Array) -> Array:
    axis = node.attributes["input_channel_axis"]
    others = tuple(place for place in range(x.ndim) if place != axis)
    assert node.shape is not None
    return x.mean(others).reshape(node.shape)


def softmax(node: Node, x: Array) -> Array:
    powers = np.exp(x - x.max(node.attributes["axis"], keepdims=True))
    return powers / powers.sum(node.attributes["axis"], keepdims=True)


def operands(node: Node, *inputs: Array) -> list[Array]:
    held = [constant(node, "operand")] if "operand" in node.constants else []
    return [*held, *inputs] if node.attributes.get("operand_first") else [*inputs, *held]


def reduced(function: Any) -> Callable[..., Array]:
    def run(node: Node, *inputs: Array) -> Array:
        first, *rest = operands(node, *inputs)
        for other in rest:
            first = function(first, other)
        return first

    return run


def reshape(node: Node, x: Array) -> Array:
    assert node.shape is not None
    return x.reshape(node.shape)


def part(node: Node, x: Array) -> Array:
    assert node.shape is not None
    rows = zip(node.shape, node.attributes["begin"], node.attributes["steps"], strict=True)
    return x[np.ix_(*(range(begin, begin + size * step, step) for size, begin, step in rows))]


NAIVE: dict[str, Callable[..., Array]] = {
    "conv": conv,
    "linear": linear,
    "batch_norm": batch_norm,
    "max_pool": max_pool,
    "avg_pool": avg_pool,
    "global_avg_pool": global_avg_pool,
    "softmax": softmax,
    "relu": lambda node, x: np.maximum(x, 0),
    "relu6": lambda node, x: np.clip(x, 0, 6),
    "hard_swish": lambda node, x: x * np.clip(x + 3, 0, 6) / 6,
    "sigmoid": lambda node, x: 1 / (1 + np.exp(-x)),
    "add": reduced(np.add),
    "subtract": reduced(np.subtract),
    "multiply": reduced(np.multiply),
    "divide": reduced(np.divide),
    "minimum": reduced(np.minimum),
    "maximum": reduced(np.maximum),
    "power": reduced(np.power),
    "concat": lambda node, *inputs: np.concatenate(inputs, node.attributes["axis"]),
    "reshape": reshape,
    "slice": part,
    "transpose": lambda node, x: x.transpose(node.attributes["permutation"]),
    "pad": lambda node, x: np.pad(x, node.attributes["pads"]),
}

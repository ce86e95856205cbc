"""Runs the nodes of a model that was read from PyTorch, each by torch's own function: an independent check.

Shapes are without batch and in torch's order, so every window works on a batch of one that is added here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from dse.workload.model.graph import INPUT_PREFIX, Constant, Model, Node


def replay(model: Model, *inputs: Tensor) -> Tensor:
    """Return what the first output of ``model`` gives for one sample without batch."""
    values = {INPUT_PREFIX + item.name: value for item, value in zip(model.inputs, inputs, strict=True)}
    for item, value in zip(model.inputs, inputs, strict=True):
        assert item.shape == tuple(value.shape)
    for node in model.nodes:
        result = RUN[node.operation](node, *(values[name] for name in node.inputs))
        assert tuple(result.shape) == node.shape, f"{node.name}: {tuple(result.shape)} is not {node.shape}"
        values[node.name] = result
    return values[model.outputs[0]]


def held(constant: Constant | None) -> Tensor | None:
    if constant is None:
        return None
    assert constant.values is not None
    return torch.tensor(constant.values)


def part(node: Node, name: str) -> Any:
    return held(node.constants.get(name))


def flat(pads: Any) -> list[int]:
    return [number for pair in reversed(pads) for number in pair]


def conv(node: Node, x: Tensor) -> Tensor:
    said, rank = node.attributes, x.ndim - 1
    padded = functional.pad(x[None], flat(said["pads"]))
    function = (functional.conv1d, functional.conv2d)[rank - 1]
    result = function(
        padded, part(node, "weight"), part(node, "bias"), said["stride"], 0, said["dilation"], said["groups"]
    )
    return result[0]


def conv_transpose(node: Node, x: Tensor) -> Tensor:
    said = node.attributes
    function = (functional.conv_transpose1d, functional.conv_transpose2d)[x.ndim - 2]
    padding = [before for before, _ in said["pads"]]
    weight, bias = part(node, "weight"), part(node, "bias")
    return function(
        x[None],
        weight,
        bias,
        said["stride"],
        padding,
        said["output_padding"],
        said["groups"],
        said["dilation"],
    )[0]


def max_pool(node: Node, x: Tensor) -> Tensor:
    said = node.attributes
    padded = functional.pad(x[None], flat(said["pads"]), value=-torch.inf)
    function = (functional.max_pool1d, functional.max_pool2d)[x.ndim - 2]
    return function(padded, said["kernel"], said["stride"], 0, said["dilation"])[0]


def avg_pool(node: Node, x: Tensor) -> Tensor:
    said = node.attributes
    function = (functional.avg_pool1d, functional.avg_pool2d)[x.ndim - 2]
    ones = functional.pad(
        torch.ones_like(x)[None], flat(said["pads"]), value=float(said["count_include_pad"])
    )
    padded = functional.pad(x[None], flat(said["pads"]))
    return (
        function(padded, said["kernel"], said["stride"]) / function(ones, said["kernel"], said["stride"])
    )[0]


def batch_norm(node: Node, x: Tensor) -> Tensor:
    numbers = [part(node, name) for name in ("mean", "variance", "gamma", "beta")]
    return functional.batch_norm(x[None], *numbers, False, 0.0, node.attributes["epsilon"])[0]


def layer_norm(node: Node, x: Tensor) -> Tensor:
    sizes = x.shape[node.attributes["axis"] :]
    numbers = [part(node, name) for name in ("gamma", "beta")]
    return functional.layer_norm(x, sizes, *numbers, node.attributes["epsilon"])


def group_norm(node: Node, x: Tensor) -> Tensor:
    numbers = [part(node, name) for name in ("gamma", "beta")]
    return functional.group_norm(x[None], node.attributes["groups"], *numbers, node.attributes["epsilon"])[0]


def binary(function: Callable[[Any, Any], Tensor]) -> Callable[..., Tensor]:
    def run(node: Node, *inputs: Tensor) -> Tensor:
        operands = [*inputs, *([part(node, "operand")] if "operand" in node.constants else [])]
        first, second = operands[::-1] if node.attributes.get("operand_first") else operands
        return function(first, second)

    return run


def matmul(node: Node, *inputs: Tensor) -> Tensor:
    def product(a: Tensor, b: Tensor) -> Tensor:
        return node.attributes.get("scale", 1.0) * a @ (b.mT if node.attributes["transpose_b"] else b)

    return binary(product)(node, *inputs)


def concat(node: Node, *inputs: Tensor) -> Tensor:
    parts = list(inputs)
    for name in sorted(node.constants):
        constant = part(node, name)
        parts.insert(int(name.removeprefix("operand_")), constant.reshape(constant.shape[-inputs[0].ndim :]))
    return torch.cat(parts, node.attributes["axis"])


def cut(node: Node, x: Tensor) -> Tensor:
    said = node.attributes
    if "pads" in said:
        return functional.pad(x, flat(said["pads"]))
    assert said, "a part that says nothing of where it lies"
    taken = node.shape or ()
    if len(taken) < x.ndim:  # one index of the only axis that is gone
        (axis,) = (axis for axis in range(x.ndim) if x.shape[:axis] + x.shape[axis + 1 :] == taken)
        return x.select(axis, said["begin"][axis])
    for axis, (count, begin, step) in enumerate(zip(taken, said["begin"], said["steps"], strict=True)):
        x = x.index_select(axis, torch.arange(begin, begin + count * step, step))
    return x


def lstm(node: Node, x: Tensor) -> Tensor:
    """Step by step: Eqs. of torch.nn.LSTM, one layer and direction after the other."""
    said = node.attributes
    for layer in range(said["layers"]):
        x = torch.cat(
            [one_way(node, x, f"_l{layer}{('', '_reverse')[way]}", way) for way in range(said["directions"])],
            1,
        )
    return x


def one_way(node: Node, x: Tensor, suffix: str, way: int) -> Tensor:
    hidden = cell = torch.zeros(node.attributes["hidden_size"])
    found = []
    for row in x.flip(0) if way else x:
        inner = part(node, f"weight_input{suffix}") @ row + part(node, f"bias_input{suffix}")
        outer = part(node, f"weight_recurrent{suffix}") @ hidden + part(node, f"bias_recurrent{suffix}")
        if node.operation == "lstm":
            i, f, g, o = (inner + outer).chunk(4)
            cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
            hidden = o.sigmoid() * cell.tanh()
        else:
            (r1, z1, n1), (r2, z2, n2) = inner.chunk(3), outer.chunk(3)
            z = (z1 + z2).sigmoid()
            hidden = (1 - z) * (n1 + (r1 + r2).sigmoid() * n2).tanh() + z * hidden
        found.append(hidden)
    rows = torch.stack(found)
    return rows.flip(0) if way else rows


def reduce(node: Node, x: Tensor) -> Tensor:
    axes = node.attributes["axes"]
    kinds = {"mean": torch.mean, "sum": torch.sum, "max": torch.amax}
    assert node.shape is not None
    return kinds[node.attributes["kind"]](x, axes).reshape(node.shape)


def global_avg_pool(node: Node, x: Tensor) -> Tensor:
    axes = [axis for axis in range(x.ndim) if axis != node.attributes["input_channel_axis"]]
    assert node.shape is not None
    return x.mean(axes).reshape(node.shape)


RUN: dict[str, Callable[..., Tensor]] = {
    "conv": conv, "conv_transpose": conv_transpose, "max_pool": max_pool, "avg_pool": avg_pool,
    "batch_norm": batch_norm, "layer_norm": layer_norm, "group_norm": group_norm, "matmul": matmul,
    "linear": lambda node, x: functional.linear(x, part(node, "weight"), part(node, "bias")),
    "relu": lambda node, x: x.relu(), "relu6": lambda node, x: functional.relu6(x),
    "hard_swish": lambda node, x: functional.hardswish(x), "swish": lambda node, x: functional.silu(x),
    "hard_sigmoid": lambda node, x: functional.hardsigmoid(x), "sigmoid": lambda node, x: x.sigmoid(),
    "tanh": lambda node, x: x.tanh(), "gelu": lambda node, x: functional.gelu(x),
    "log": lambda node, x: x.log(),
    "elu": lambda node, x: functional.elu(x), "exp": lambda node, x: x.exp(),
    "leaky_relu": lambda node, x: functional.leaky_relu(x, node.attributes.get("negative_slope", 0.01)),
    "prelu": lambda node, x: functional.prelu(x[None], part(node, "slope"))[0],
    "clip": lambda node, x: x.clamp(node.attributes["low"], node.attributes["high"]),
    "softmax": lambda node, x: x.softmax(node.attributes["axis"]),
    "add": binary(torch.add), "multiply": binary(torch.mul), "subtract": binary(torch.sub),
    "divide": binary(torch.div), "power": binary(torch.pow), "maximum": binary(torch.maximum),
    "concat": concat, "slice": cut, "lstm": lstm, "gru": lstm, "reduce": reduce,
    "global_avg_pool": global_avg_pool, "reshape": lambda node, x: x.reshape(node.shape),
    "transpose": lambda node, x: x.permute(node.attributes["permutation"]),
    "pad": lambda node, x: functional.pad(x, flat(node.attributes["pads"]), value=node.attributes["value"]),
    "tile": lambda node, x: x.expand(node.shape),
    "gather": lambda node, x: x.flip(node.attributes["reversed_axes"]),
}  # fmt: skip

"""Converters of operators on every element, of softmax and of reductions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

from dse.workload.base import Shape
from dse.workload.model import Constant
from dse.workload.tflite.flat import Operator
from dse.workload.tflite.matrices import broadcast
from dse.workload.tflite.moving import axis_here
from dse.workload.tflite.nodes import Nodes, axis_of, known
from dse.workload.tflite.stored import Unreadable, reshaped
from dse.workload.tflite.tensors import Value

Converter = Callable[[Nodes, Operator], None]

_UNARY: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "RELU": ("relu", {}),
    "RELU6": ("relu6", {}),
    "RELU_N1_TO_1": ("clip", {"low": -1.0, "high": 1.0}),
    "RELU_0_TO_1": ("clip", {"low": 0.0, "high": 1.0}),
    "LOGISTIC": ("sigmoid", {}),
    "TANH": ("tanh", {}),
    "HARD_SWISH": ("hard_swish", {}),
    "ELU": ("elu", {"alpha": 1.0}),
    "EXP": ("exp", {}),
    "LOG": ("log", {}),
    "SQRT": ("sqrt", {}),
    "RSQRT": ("power", {"exponent": -0.5}),
    "SQUARE": ("power", {"exponent": 2.0}),
    "ABS": ("abs", {}),
    "NEG": ("negate", {}),
}

_BINARY: Final[Mapping[str, str]] = {
    "ADD": "add",
    "MUL": "multiply",
    "SUB": "subtract",
    "DIV": "divide",
    "MINIMUM": "minimum",
    "MAXIMUM": "maximum",
    "POW": "power",
}

_REDUCTIONS: Final[Mapping[str, str]] = {
    "MEAN": "mean",
    "SUM": "sum",
    "REDUCE_MAX": "max",
    "REDUCE_MIN": "min",
    "REDUCE_PROD": "product",
}


def unary(
    nodes: Nodes, operator: Operator, operation: str, attributes: Mapping[str, Any],
    constants: Mapping[str, Constant] | None = None,
) -> None:  # fmt: skip
    """Any operator whose output has the shape of its input."""
    value = nodes.value(operator, 0)
    nodes.add(operator, operation, [value], known(value), batched=value.batched, attributes=attributes,
              constants=constants)  # fmt: skip


def leaky_relu(nodes: Nodes, operator: Operator) -> None:
    """LEAKY_RELU."""
    unary(nodes, operator, "leaky_relu", {"alpha": float(nodes.option(operator, "Alpha"))})


def gelu(nodes: Nodes, operator: Operator) -> None:
    """GELU."""
    unary(nodes, operator, "gelu", {"approximate": bool(nodes.option(operator, "Approximate"))})


def prelu(nodes: Nodes, operator: Operator) -> None:
    """PRELU with constant slopes."""
    value = nodes.value(operator, 0)
    alpha = nodes.constant(nodes.index(operator, 1))
    if nodes.is_computed(operator, 1) or broadcast(known(value), alpha.shape) != known(value):
        raise Unreadable(f"its slopes are computed, or of the shape {list(alpha.shape)}")
    unary(nodes, operator, "prelu", {}, {"alpha": _operand(alpha, value)})


def softmax(nodes: Nodes, operator: Operator) -> None:
    """SOFTMAX, over the last axis."""
    value, beta = nodes.value(operator, 0), float(nodes.option(operator, "Beta"))
    if not value.shape:
        raise Unreadable(f"its input has the shape {list(known(value))}")
    extra = {} if beta == 1 else {"beta": beta}
    unary(nodes, operator, "softmax", {"axis": len(value.shape) - 1} | extra)


def binary(nodes: Nodes, operator: Operator, operation: str) -> None:
    """Any operator on two tensors that are spread to a common shape."""
    computed = [place for place in (0, 1) if nodes.is_computed(operator, place)]
    if not computed:
        raise Unreadable("both of its inputs are constant")
    values = [nodes.value(operator, place) for place in computed]
    if len(computed) == 1:
        _with_constant(nodes, operator, operation, values[0], 1 - computed[0])
        return
    full = broadcast(*(known(value) for value in values))
    batched = any(value.batched and len(known(value)) == len(full) for value in values) and full[0] == 1
    nodes.add(operator, operation, values, full, batched=batched)


def _with_constant(nodes: Nodes, operator: Operator, operation: str, value: Value, place: int) -> None:
    operand = nodes.constant(nodes.index(operator, place))
    full = broadcast(known(value), operand.shape)
    batched = value.batched and len(full) == len(known(value)) and full[0] == 1
    attributes = {"constant_first": True} if place == 0 and operation in _ORDERED else {}
    nodes.add(operator, operation, [value], full, batched=batched, attributes=attributes,
              constants={"operand": _operand(operand, value) if batched else operand})  # fmt: skip


_ORDERED: Final = ("subtract", "divide", "power")


def _operand(constant: Constant, value: Value) -> Constant:
    """Take the batch axis off a constant that has one."""
    if value.batched and len(constant.shape) == len(known(value)):
        return reshaped(constant, constant.shape[1:])
    return constant


def squared_difference(nodes: Nodes, operator: Operator) -> None:
    """SQUARED_DIFFERENCE, as a difference and its square."""
    binary(nodes, operator, "subtract")
    index = nodes.output(operator)
    value, node = nodes.values[index], nodes.nodes[-1]
    name = nodes.names.new(f"{node.name}.square")
    nodes.append(replace(node, name=name, operation="power", inputs=(node.name,), constants={},
                         attributes={"exponent": 2.0}))  # fmt: skip
    nodes.values[index] = replace(value, producer=name)


# --- reductions ---


def reduction(nodes: Nodes, operator: Operator, kind: str) -> None:
    """Reduce axes; a mean over all positions of NHWC or time x channels is a global average pool."""
    keep = bool(nodes.option(operator, "KeepDims"))
    full = known(nodes.value(operator, 0))
    axes = tuple(sorted({axis_of(axis, len(full)) for axis in nodes.whole(operator, 1)}))
    _reduce(nodes, operator, kind, axes, keep=keep)


def arg_max(nodes: Nodes, operator: Operator) -> None:
    """ARG_MAX and ARG_MIN: one axis less, its winner's place in its stead."""
    full = known(nodes.value(operator, 0))
    axes = tuple(axis_of(axis, len(full)) for axis in nodes.whole(operator, 1)[:1])
    _reduce(nodes, operator, operator.kind.lower().replace("_", ""), axes, keep=False)


def _reduce(nodes: Nodes, operator: Operator, kind: str, axes: Shape, *, keep: bool) -> None:
    value = nodes.value(operator, 0)
    if value.batched and 0 in axes:
        value = nodes.explicit(value)
    full = known(value)
    kept = [1 if axis in axes else size for axis, size in enumerate(full)]
    result = tuple(kept if keep else [size for axis, size in enumerate(full) if axis not in axes])
    here = tuple(axis_here(value, axis) for axis in axes)
    if kind == "mean" and _is_global(value, axes):
        last = len(value.shape or ()) - 1
        nodes.add(operator, "global_avg_pool", [value], result, attributes={"input_channel_axis": last},
                  channel_last=True)  # fmt: skip
        return
    attributes = {"kind": kind, "axes": here, "keepdims": keep}
    nodes.add(operator, "reduce", [value], result, batched=value.batched, attributes=attributes)


def _is_global(value: Value, axes: Shape) -> bool:
    rank = len(known(value))
    return value.batched and rank in (3, 4, 5) and axes == tuple(range(1, rank - 1))


ELEMENTWISE: Final[Mapping[str, Converter]] = {
    **{kind: partial(unary, operation=word, attributes=found) for kind, (word, found) in _UNARY.items()},
    **{kind: partial(binary, operation=word) for kind, word in _BINARY.items()},
    **{kind: partial(reduction, kind=word) for kind, word in _REDUCTIONS.items()},
    "LEAKY_RELU": leaky_relu,
    "GELU": gelu,
    "PRELU": prelu,
    "SOFTMAX": softmax,
    "SQUARED_DIFFERENCE": squared_difference,
    "ARG_MAX": arg_max,
    "ARG_MIN": arg_max,
}
"""Operator -> its converter."""

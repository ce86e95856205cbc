"""Activations, arithmetic on tensors and numbers, clamps and softmax."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import inf
from typing import Final

from dse.workload.model.graph import Constant
from dse.workload.torch.conversion import Conversion, broadcast, scalar
from dse.workload.torch.operators.base import Converter
from dse.workload.torch.operators.reshaping import with_batch
from dse.workload.torch.program import Call, Ref
from dse.workload.torch.structure import Unsupported, real
from dse.workload.torch.values import Tensor, Value

ACTIVATIONS: Final[Mapping[str, str]] = {
    "relu": "relu", "relu6": "relu6", "hardswish": "hard_swish", "hardsigmoid": "hard_sigmoid",
    "silu": "swish", "gelu": "gelu", "sigmoid": "sigmoid", "tanh": "tanh", "elu": "elu",
    "leaky_relu": "leaky_relu", "exp": "exp", "log": "log", "sqrt": "sqrt", "abs": "abs", "neg": "negate",
}  # fmt: skip
"""Operators of one tensor, and what they are called here."""

ARITHMETIC: Final[Mapping[str, str]] = {
    "add": "add", "mul": "multiply", "sub": "subtract", "div": "divide", "minimum": "minimum",
    "maximum": "maximum", "pow": "power", "rsub": "subtract",
}  # fmt: skip


def activation(c: Conversion, call: Call) -> Value:
    """Return an operation on every element of one tensor."""
    x = c.tensor(call, "self")
    names = ("negative_slope", "alpha")
    attributes = {name: call.real(name) for name in names if call.get(name) is not None}
    operation = ACTIVATIONS[call.operator.removeprefix("aten.").removesuffix("_")]
    return c.add(call, operation, [x], x.shape, x.batch, attributes=attributes)


def prelu(c: Conversion, call: Call) -> Value:
    """Return a rectifier whose slope is learned."""
    x, slope = c.tensor(call, "self"), c.constant(call, "weight")
    return c.add(call, "prelu", [x], x.shape, x.batch, constants={"slope": slope}, channel_axis=0)


def clamp(c: Conversion, call: Call) -> Value:
    """Return a clamp: relu and relu6 where its bounds are theirs."""
    x = c.tensor(call, "self")
    low, high = _bound(call, "min"), _bound(call, "max")
    if "hardtanh" in call.operator:
        low, high = call.real("min_val", -1.0), call.real("max_val", 1.0)
    return clip(c, call, x, low, high)


def clip(c: Conversion, call: Call, x: Tensor, low: float | None, high: float | None) -> Tensor:
    """Add a clamp between two bounds (None: open)."""
    if low == 0 and high in (6, None, inf):
        return c.add(call, "relu6" if high == 6 else "relu", [x], x.shape, x.batch)
    return c.add(call, "clip", [x], x.shape, x.batch, attributes={"low": low, "high": high})


def _bound(call: Call, name: str) -> float | None:
    found = call.get(name)
    if isinstance(found, Ref):
        raise Unsupported("clamps by a tensor")
    return None if found is None else real(found, name)


def arithmetic(c: Conversion, call: Call) -> Value:
    """Return an operation on two tensors, or on one and a constant; factors go into the constant."""
    operation = ARITHMETIC[call.operator.removeprefix("aten.").removesuffix("_")]
    if call.get("rounding_mode") is not None:
        raise Unsupported("a division that rounds")
    left, right = _operand(c, call, _first(call)), _operand(c, call, _second(call))
    factor = call.real("alpha", 1.0)
    if factor != 1.0:
        right = _scaled(right, factor)
    if call.operator == "aten.rsub":
        left, right = right, left
    return combined(c, call, operation, left, right)


def combined(
    c: Conversion, call: Call, operation: str, left: Value, right: Value, *, suffix: str = ""
) -> Tensor:
    """Add an operation on two values of which at least one is a tensor."""
    shape = broadcast([left.shape, right.shape])
    tensors = [value for value in (left, right) if isinstance(value, Tensor)]
    batches = [len(shape) - len(t.shape) + t.batch for t in tensors if t.batch is not None]
    batch = batches[0] if batches and shape[batches[0]] == 1 else None
    tensors = [with_batch(c, call, tensor, batch, len(shape)) for tensor in tensors]
    operands = [value for value in (left, right) if isinstance(value, Constant)]
    held = {"operand": _without_batch(operands[0], shape, batch)} if operands else {}
    attributes = {"operand_first": True} if held and isinstance(left, Constant) else {}
    return c.add(call, operation, tensors, shape, batch, suffix=suffix, attributes=attributes, constants=held)


def _without_batch(operand: Constant, shape: tuple[int, ...], batch: int | None) -> Constant:
    """Return a constant operand without the batch axis of the result that it is broadcast to."""
    if batch is None or len(operand.shape) < len(shape):
        return operand
    kept = operand.shape[:batch] + operand.shape[batch + 1 :]
    values = None if operand.values is None else operand.values.reshape(kept)
    return replace(operand, shape=kept, values=values)


def _operand(c: Conversion, call: Call, name: str) -> Value:
    if isinstance(call.get(name), Ref):
        return c.value(call, name)
    return scalar(call.real(name))


def _first(call: Call) -> str:
    return "self" if "self" in call.arguments else "input"


def _second(call: Call) -> str:
    return next((name for name in ("other", "exponent") if name in call.arguments), "other")


def _scaled(value: Value, factor: float) -> Value:
    if isinstance(value, Tensor) or value.values is None:
        raise Unsupported("an operation with a factor")
    return replace(value, values=value.values * factor)


def softmax(c: Conversion, call: Call) -> Value:
    """Return a softmax; a logarithm behind it is an operation of its own."""
    x = c.tensor(call, "self")
    found = c.add(call, "softmax", [x], x.shape, x.batch, attributes={"axis": x.axis(call.integer("dim"))})
    if "log_softmax" not in call.operator:
        return found
    return c.add(call, "log", [found], x.shape, x.batch, suffix=".log")


def spelled(names: Mapping[str, str]) -> tuple[str, ...]:
    """Return the full names of operators."""
    return tuple(f"aten.{name}" for name in names)


_SOFTMAX: Final = ("softmax", "_softmax", "_safe_softmax", "log_softmax", "_log_softmax")

ELEMENTWISE: Final[Mapping[str, Converter]] = {
    **dict.fromkeys(spelled(ACTIVATIONS), activation),
    **dict.fromkeys(spelled(ARITHMETIC), arithmetic),
    **dict.fromkeys(("aten.clamp", "aten.clamp_min", "aten.clamp_max", "aten.clip", "aten.hardtanh"), clamp),
    **dict.fromkeys(("aten.prelu", "aten._prelu_kernel"), prelu),
    **dict.fromkeys(
        ("aten.softmax", "aten._softmax", "aten.log_softmax", "aten._log_softmax", "aten._safe_softmax"),
        softmax,
    ),
}

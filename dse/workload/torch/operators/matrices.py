"""Matrix products: by a constant they are linear layers, of two activations ``matmul``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from dse.workload.model.graph import Constant, Quantisation
from dse.workload.torch.conversion import Conversion, broadcast, layer_name
from dse.workload.torch.operators.base import Converter
from dse.workload.torch.program import Call
from dse.workload.torch.structure import Malformed, Unsupported
from dse.workload.torch.values import Tensor, Value


def linear(c: Conversion, call: Call) -> Value:
    """Return x w^T + b, over the last axis of x."""
    return _linear(c, call, c.tensor(call, "input"), c.constant(call, "weight"), c.optional(call, "bias"))


def addmm(c: Conversion, call: Call) -> Value:
    """Return b + x w, which is how a linear layer stands in a decomposed graph."""
    if call.real("beta", 1.0) != 1.0 or call.real("alpha", 1.0) != 1.0:
        raise Unsupported("a matrix product with factors")
    weight = turned(c.constant(call, "mat2"))
    return _linear(c, call, c.tensor(call, "mat1"), weight, c.constant(call, "self"))


def product(c: Conversion, call: Call) -> Value:
    """Return a b: a linear layer where b is a constant matrix."""
    left, right = c.value(call, "self"), c.value(call, "other" if call.get("mat2") is None else "mat2")
    if isinstance(left, Tensor) and isinstance(right, Constant) and len(right.shape) == 2:
        return _linear(c, call, left, turned(right), None)
    return matmul(c, call, left, right)


def matmul(
    c: Conversion,
    call: Call,
    left: Value,
    right: Value,
    *,
    suffix: str = "",
    transpose_b: bool = False,
    more: Mapping[str, object] | None = None,
) -> Tensor:
    """Add a product of two values over their last two axes; a constant one is held as ``operand``."""
    a, b = left.shape, right.shape
    b = (*b[:-2], b[-1], b[-2]) if transpose_b and len(b) > 1 else b
    if min(len(a), len(b)) < 2 or a[-1] != b[-2]:
        raise Malformed(f"a product of shapes {list(a)} and {list(b)}")
    shape = (*broadcast([a[:-2], b[:-2]]), a[-2], b[-1])
    tensors = [value for value in (left, right) if isinstance(value, Tensor)]
    batches = {len(shape) - len(t.shape) + t.batch for t in tensors if t.batch is not None}
    batch = min(batches) if batches and shape[min(batches)] == 1 else None
    operands = [value for value in (left, right) if isinstance(value, Constant)]
    held = {"operand": operands[0]} if operands else {}
    attributes = {
        "transpose_a": False,
        "transpose_b": transpose_b,
        "operand_first": isinstance(left, Constant),
        **(more or {}),
    }
    return c.add(call, "matmul", tensors, shape, batch, suffix=suffix, attributes=attributes, constants=held)


def _linear(c: Conversion, call: Call, x: Tensor, weight: Constant, bias: Constant | None) -> Value:
    if len(weight.shape) != 2 or not x.shape or x.shape[-1] != weight.shape[1]:
        raise Malformed(f"weights of {list(weight.shape)} do not fit an input of {list(x.shape)}")
    if bias is not None and bias.shape not in {weight.shape[:1], (1, weight.shape[0])}:
        raise Malformed(f"a bias of {list(bias.shape)} for {weight.shape[0]} features")
    if bias is not None and bias.shape != weight.shape[:1]:
        values = None if bias.values is None else bias.values.reshape(-1)
        bias = replace(bias, shape=weight.shape[:1], values=values)
    last = x.axis(-1)
    constants = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
    return c.add(
        call, "linear", [x], (*x.shape[:-1], weight.shape[0]), x.batch, name=layer_name(call, weight),
        constants=constants, channel_axis=last,
    )  # fmt: skip


def turned(weight: Constant) -> Constant:
    """Return the transpose of a constant matrix, the axis of its quantisation with it."""
    if len(weight.shape) != 2:
        raise Malformed(f"a matrix of shape {list(weight.shape)}")
    values = None if weight.values is None else weight.values.T
    found: Quantisation | None = weight.quantisation
    if found is not None and found.axis is not None:
        found = replace(found, axis=1 - found.axis)
    return replace(weight, shape=weight.shape[::-1], values=values, quantisation=found)


MATRICES: Final[Mapping[str, Converter]] = {
    "aten.linear": linear,
    "aten.addmm": addmm,
    **dict.fromkeys(("aten.mm", "aten.bmm", "aten.matmul"), product),
}

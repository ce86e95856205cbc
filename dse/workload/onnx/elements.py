"""Rules for operators that compute on every element: activations, arithmetic, normalisation, softmax."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np

from dse.workload.base import Shape
from dse.workload.model.graph import Constant
from dse.workload.onnx import shapes
from dse.workload.onnx.operations import Answer, Call, Made, Rule, front, like
from dse.workload.onnx.tensors import Refused, Tensor, as_constant, per_sample, sample_axis

# --- activations ---


def plain(operation: str, **defaults: float) -> Rule:
    """Rule of an activation with one input; ``defaults`` are the numbers that it has as attributes."""

    def rule(call: Call) -> Answer:
        return like(call, operation, **{name: call.real(name, value) for name, value in defaults.items()})

    return rule


def _bound(call: Call, name: str, index: int) -> float | None:
    value = call.real(name, 0.0) if name in call.node.attributes else call.scalar(index)
    return None if value is None or abs(value) >= float(np.finfo(np.float32).max) else value


def clip(call: Call) -> Made:
    """Clip, whose bounds are attributes before version 11 and inputs since."""
    if any(bound is not None and not bound.constant for bound in (call.at(1), call.at(2))):
        return like(call, "unknown")
    return clipped(call, _bound(call, "min", 1), _bound(call, "max", 2))


def clipped(call: Call, low: float | None, high: float | None) -> Made:
    """Return relu6 for (0, 6), relu for (0, open), else a clip."""
    if (low, high) == (0.0, 6.0):
        return like(call, "relu6")
    if (low, high) == (0.0, None):
        return like(call, "relu")
    return like(call, "clip", low=low, high=high)


def prelu(call: Call) -> Made:
    """PRelu: a slope per channel."""
    slope = call.constant(1)
    made = like(call, "prelu")
    return (
        made
        if slope is None
        else replace(made, constants={"slope": operand(slope, call.tensor(0), made.shape)})
    )


def power(call: Call) -> Made:
    """Pow, with a constant exponent or as an operation on two tensors."""
    right = call.tensor(1)
    if right.constant and right.value is not None and right.value.size == 1:
        return like(call, "power", exponent=call.scalar(1))
    return _stretched("power", [call.tensor(0), right])


def gelu(call: Call) -> Made:
    """Gelu, exact or by its tanh form."""
    return like(call, "gelu", approximate=call.text("approximate", "none"))


def fast_gelu(call: Call) -> Made:
    """FastGelu of com.microsoft: the tanh form, with a bias before it where one is given."""
    if call.at(1) is not None:
        raise Refused("it adds a bias first")
    return like(call, "gelu", approximate="tanh")


def biased_gelu(call: Call) -> list[Answer]:
    """BiasGelu of com.microsoft: an addition, then gelu."""
    return [replace(_stretched("add", [call.tensor(0), call.tensor(1)]), then=(("gelu", {}),))]


# --- arithmetic ---


def arithmetic(operation: str) -> Rule:
    """Rule of an operation on two or more tensors that stretch to a common shape."""

    def rule(call: Call) -> Answer:
        tensors = [tensor for tensor in call.inputs if tensor is not None]
        if not tensors:
            raise Refused("it has no input")
        if len(tensors) == 1:
            return like(call, operation)
        return _stretched(operation, tensors)

    return rule


def compared(call: Call) -> Made:
    """Comparisons, Where and other operations on several tensors that have no word of their own."""
    return _stretched("unknown", [tensor for tensor in call.inputs if tensor is not None])


def _stretched(operation: str, tensors: list[Tensor]) -> Made:
    whole = shapes.checked(shapes.broadcast(*(tensor.known for tensor in tensors)))
    active = tuple(tensor for tensor in tensors if not tensor.constant)
    held = [tensor for tensor in tensors if tensor.constant]
    batch = stretched_batch(active, len(whole))
    names = ["operand", *(f"operand_{place}" for place in range(2, len(held) + 1))]
    main = Tensor("", whole, batch=batch)
    constants = {name: operand(tensor, main, whole) for name, tensor in zip(names, held, strict=False)}
    first = {"operand_first": True} if held and tensors[0].constant and len(tensors) == 2 else {}
    return Made(operation, active, whole, batch, first, constants, dtype=active[0].dtype if active else "")


def stretched_batch(tensors: tuple[Tensor, ...], rank: int) -> int | None:
    """Return the batch axis of a result of ``rank`` axes: that of the first tensor which has one."""
    found = [tensor.batch + rank - len(tensor.known) for tensor in tensors if tensor.batch is not None]
    return found[0] if found else None


def operand(tensor: Tensor, main: Tensor, whole: Shape | None) -> Constant:
    """Return a constant that stretches over ``whole``, without the axis that meets the batch."""
    shape, rank = tensor.known, len(whole or ())
    if main.batch is None or len(shape) < rank - main.batch:
        return as_constant(tensor)
    place = main.batch - (rank - len(shape))
    if shape[place] != 1:
        raise Refused(f"a constant of {list(shape)} differs from sample to sample")
    return as_constant(tensor, None, per_sample(shape, place))


# --- normalisation ---


def batch_norm(call: Call) -> Made:
    """BatchNormalization by running statistics."""
    tensor = call.tensor(0)
    shape = tensor.known
    if len(shape) < 2 or not call.integer("spatial", 1):
        raise Refused(f"a batch norm over {list(shape)}, per element")
    parts = dict(zip(("gamma", "beta", "mean", "variance"), range(1, 5), strict=True))
    made = like(call, "batch_norm", epsilon=call.real("epsilon", 1e-5))
    batch = 0 if tensor.batch is None and call.batch_size == shape[0] else tensor.batch
    return replace(made, constants=_per_channel(call, parts, shape[1]), channel_axis=1, batch=batch)


def _per_channel(call: Call, parts: Mapping[str, int], channels: int) -> dict[str, Constant]:
    found: dict[str, Constant] = {}
    for name, index in parts.items():
        tensor = call.constant(index)
        if tensor is None:
            continue
        if tensor.known != (channels,):
            raise Refused(f"{name} of shape {list(tensor.known)} for {channels} channels")
        found[name] = as_constant(tensor)
    return found


def instance_norm(call: Call) -> Made:
    """InstanceNormalization: a group norm with one channel per group."""
    shape = call.shape()
    if len(shape) < 2:
        raise Refused(f"an input with {len(shape)} axes")
    constants = _per_channel(call, {"gamma": 1, "beta": 2}, shape[1])
    made = like(call, "group_norm", groups=shape[1], epsilon=call.real("epsilon", 1e-5))
    return replace(made, constants=constants, channel_axis=1)


def group_norm(call: Call) -> Made:
    """GroupNormalization, whose scales are per group in version 18 and per channel since 21."""
    shape, groups = call.shape(), call.integer("num_groups", 1)
    if len(shape) < 2 or groups < 1 or shape[1] % groups:
        raise Refused(f"{groups} groups over {list(shape)}")
    count = groups if call.opset < 21 else shape[1]
    made = like(call, "group_norm", groups=groups, epsilon=call.real("epsilon", 1e-5))
    return replace(made, constants=_per_channel(call, {"gamma": 1, "beta": 2}, count), channel_axis=1)


def layer_norm(call: Call) -> list[Answer]:
    """LayerNormalization from an axis to the last; its statistics, where asked for, by their shape."""
    tensor = call.tensor(0)
    shape = tensor.known
    axis = call.axis("axis", -1, len(shape))
    constants = {
        name: as_constant(part)
        for name, index in (("gamma", 1), ("beta", 2))
        if (part := call.constant(index))
    }
    for name, constant in constants.items():
        if shapes.broadcast(constant.shape, shape[axis:]) != shape[axis:]:
            raise Refused(f"{name} of shape {list(constant.shape)} over {list(shape[axis:])}")
    within = sample_axis(axis, tensor.batch)
    made = replace(
        like(call, "layer_norm", axis=within, epsilon=call.real("epsilon", 1e-5)), constants=constants
    )
    rest = replace(
        made, operation="unknown", shape=(*shape[:axis], *(1,) * (len(shape) - axis)), constants={}
    )
    return [made, rest, rest]


def softmax(call: Call) -> Made:
    """Softmax and LogSoftmax; before version 13 over all axes from the given one on, taken together."""
    tensor = call.tensor(0)
    rank, older = len(tensor.known), call.opset < 13 and not call.node.domain
    axis = call.axis("axis", 1 if older else -1, max(rank, 1))
    more: dict[str, Any] = {"log": True} if call.node.op == "LogSoftmax" else {}
    sizes = tensor.known[axis:]
    if older and sum(size > 1 for size in sizes) == 1:
        axis += next(place for place, size in enumerate(sizes) if size > 1)
    elif older and len(sizes) > 1:
        more["flattened"] = True
    return like(call, "softmax", axis=sample_axis(axis, tensor.batch), **more)


def reduce_to_index(call: Call) -> Made:
    """ArgMax, ArgMin."""
    from dse.workload.onnx.convolutions import reduction

    tensor = call.tensor(0)
    axis = front(call.integer("axis", 0), len(tensor.known))
    kind = call.node.op.lower()
    return replace(reduction(tensor, kind, (axis,), bool(call.integer("keepdims", 1))), dtype="int64")


ELEMENT_RULES: Final[dict[str, Rule]] = {
    "Relu": plain("relu"), "Sigmoid": plain("sigmoid"), "Tanh": plain("tanh"), "Exp": plain("exp"),
    "Log": plain("log"), "Sqrt": plain("sqrt"), "Abs": plain("abs"), "Neg": plain("negate"),
    "Reciprocal": plain("power", exponent=-1.0),
    "HardSigmoid": plain("hard_sigmoid", alpha=0.2, beta=0.5), "HardSwish": plain("hard_swish"),
    "Elu": plain("elu", alpha=1.0), "LeakyRelu": plain("leaky_relu", alpha=0.01),
    "Swish": plain("swish", alpha=1.0), "Gelu": gelu, "Clip": clip, "PRelu": prelu, "Pow": power,
    "Add": arithmetic("add"), "Sum": arithmetic("add"), "Mul": arithmetic("multiply"),
    "Sub": arithmetic("subtract"), "Div": arithmetic("divide"), "Min": arithmetic("minimum"),
    "Max": arithmetic("maximum"), "BatchNormalization": batch_norm, "InstanceNormalization": instance_norm,
    "GroupNormalization": group_norm, "LayerNormalization": layer_norm, "Softmax": softmax,
    "LogSoftmax": softmax, "ArgMax": reduce_to_index, "ArgMin": reduce_to_index,
}  # fmt: skip
"""Operator of ONNX's own domain -> its rule."""

SAME_SHAPE: Final = (
    "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Bernoulli", "BitwiseNot", "Ceil", "Celu", "Cos",
    "Cosh", "CumSum", "CumProd", "Erf", "Floor", "Hardmax", "IsInf", "IsNaN", "LRN", "LpNormalization",
    "MeanVarianceNormalization", "Mish", "Not", "Round", "Selu", "Shrink", "Sign", "Sin",
    "Sinh", "Softplus", "Softsign", "Tan", "ThresholdedRelu", "Trilu", "RMSNormalization", "ScatterND",
    "ScatterElements", "Scatter", "RandomUniformLike", "RandomNormalLike", "EyeLike",
    "SimplifiedLayerNormalization", "RequantShift", "QuickGelu", "ReverseSequence", "TensorScatter",
)  # fmt: skip
"""Operators without a word here whose output has the shape of their first input, in whichever domain."""

BROADCAST: Final = (
    "And", "Or", "Xor", "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Where", "Mod",
    "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Mean",
)  # fmt: skip
"""Operators without a word here whose inputs stretch to a common shape."""

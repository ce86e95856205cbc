"""Rules for operators on integers: QLinear*, QGemm, ConvInteger, MatMulInteger; real values come out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

import numpy as np

from dse.workload.model.graph import Constant, Quantisation
from dse.workload.onnx import shapes
from dse.workload.onnx.affine import affine, dequantised
from dse.workload.onnx.convolutions import (
    average_pool,
    convolution,
    global_average_pool,
    weight_of,
)
from dse.workload.onnx.elements import operand, stretched_batch
from dse.workload.onnx.movements import concat
from dse.workload.onnx.operations import Answer, Call, Made, Rule, like
from dse.workload.onnx.products import gemm_bias, linear, product
from dse.workload.onnx.tensors import Refused, Tensor


def _affine(
    call: Call, scale: int, zero_point: int, tensor: Tensor | None = None, axis: int = 0
) -> Quantisation | None:
    """Return what two inputs of a node say; of ``tensor`` where the numbers are its own."""
    points, found = call.at(zero_point), call.at(scale)
    if found is None or not found.constant:
        return None
    dtype = tensor.dtype if tensor is not None else (points.dtype if points is not None else "uint8")
    return affine(found, points, dtype, tensor.shape if tensor is not None else None, axis)


def _real(call: Call, index: int, axis: int = 0) -> Tensor:
    """Input with its scale and zero point behind it; a constant comes as real numbers."""
    tensor = call.tensor(index)
    found = _affine(call, index + 1, index + 2, tensor, axis)
    return dequantised(tensor, found) if tensor.constant and found is not None else tensor


def _real_bias(call: Call, index: int, weight: Tensor, scale: int) -> Tensor | None:
    """Bias in units of input scale times weight scale, with a zero point of zero."""
    bias, unit = call.constant(index), call.constant(scale)
    if (
        bias is None
        or weight.quantisation is None
        or unit is None
        or unit.value is None
        or bias.shape is None
    ):
        return bias
    if unit.value.size != 1:
        raise Refused(f"{unit.value.size} scales for its input")
    scales = weight.quantisation.scale * float(unit.value.reshape(-1)[0])
    if scales.size not in (1, *bias.shape[-1:]):
        raise Refused(f"{scales.size} scales for a bias of shape {list(bias.shape)}")
    axis = None if scales.size == 1 else len(bias.shape) - 1
    found = Quantisation(32, True, scales, np.zeros(scales.size, dtype=np.int64), axis)
    return dequantised(bias, found)


def qlinear_conv(call: Call) -> Made:
    """QLinearConv: x, its scale and zero point, w with its own, those of the output, an int32 bias."""
    weight = _weight(call, 3, 0)
    last = bool(call.integer("channels_last", 0))
    if last:
        raise Refused("a convolution with channels last")
    return convolution(call, call.tensor(0), weight, _real_bias(call, 8, weight, 1), _affine(call, 6, 7))


def _weight(call: Call, index: int, axis: int) -> Tensor:
    weight_of(call, index)
    return _real(call, index, axis)


def qlinear_matmul(call: Call) -> Made:
    """QLinearMatMul; one scale per column of a constant right side."""
    return product(_real(call, 0), _real(call, 3, -1), quantisation=_affine(call, 6, 7))


def qgemm(call: Call) -> Made:
    """QGemm of com.microsoft: A, B, an int32 bias, the scale and zero point of the output."""
    if call.integer("transA", 0):
        raise Refused("its left side is transposed")
    flip = bool(call.integer("transB", 0))
    weight = _weight(call, 3, 0 if flip else 1)
    if len(weight.known) != 2:
        raise Refused(f"weights of shape {list(weight.known)}")
    bias = _real_bias(call, 6, weight, 1)
    constants = gemm_bias(bias, weight.known[0 if flip else 1], 1.0)
    return linear(call.tensor(0), weight, constants, flip, call.real("alpha", 1.0), _affine(call, 7, 8))


def conv_integer(call: Call) -> Made:
    """ConvInteger: the weights are integers less their zero point; scales follow as operations."""
    return convolution(call, call.tensor(0), _integers(call, 1, 3), None)


def matmul_integer(call: Call) -> Made:
    """MatMulInteger."""
    right = call.tensor(1)
    return product(call.tensor(0), _integers(call, 1, 3) if right.constant else right)


def _integers(call: Call, index: int, zero_point: int) -> Tensor:
    """Constant integers as numbers of scale one."""
    tensor, points = weight_of(call, index), call.at(zero_point)
    one = Tensor("", (), value=np.ones((), dtype=np.float32))
    if points is not None and points.value is not None and points.value.size > 1:
        axis = 0 if call.node.op == "ConvInteger" else len(tensor.known) - 1
        one = replace(one, shape=points.shape, value=np.ones(points.value.size, dtype=np.float32))
        points = replace(points, value=points.value.reshape(-1))
        found = affine(one, points, tensor.dtype, tensor.shape, axis)
    else:
        found = affine(one, points, tensor.dtype, tensor.shape, 0)
    return tensor if found is None else dequantised(tensor, found)


# --- on every element ---


def qlinear_arithmetic(operation: str) -> Rule:
    """Rule of QLinearAdd and QLinearMul of com.microsoft."""

    def rule(call: Call) -> Answer:
        tensors = (_real(call, 0), _real(call, 3))
        whole = shapes.checked(shapes.broadcast(*(tensor.known for tensor in tensors)))
        active = tuple(tensor for tensor in tensors if not tensor.constant)
        batch = stretched_batch(active, len(whole))
        main = Tensor("", whole, batch=batch)
        held = [operand(tensor, main, whole) for tensor in tensors if tensor.constant]
        constants: dict[str, Constant] = dict(zip(("operand",), held, strict=False))
        return Made(operation, active, whole, batch, {}, constants, quantisation=_affine(call, 6, 7))

    return rule


def on_input(rule: Callable[[Call], Made], scale: int = 3) -> Rule:
    """Rule of an operator that does to integers what ``rule`` does to real numbers."""

    def answer(call: Call) -> Answer:
        return replace(rule(call), quantisation=_affine(call, scale, scale + 1))

    return answer


def qlinear_concat(call: Call) -> Answer:
    """QLinearConcat: the output's scale first, then each part with its own."""
    parts = tuple(_real(call, index) for index in range(2, len(call.inputs), 3))
    made = concat(replace(call, inputs=parts))
    return replace(made, quantisation=_affine(call, 0, 1)) if isinstance(made, Made) else made


def _softmax(call: Call) -> Made:
    from dse.workload.onnx.elements import softmax

    return softmax(replace(call, opset=call.integer("opset", 13), node=replace(call.node, domain="")))


def _leaky(call: Call) -> Made:
    return like(call, "leaky_relu", alpha=call.real("alpha", 0.01))


MICROSOFT_QUANTISED: Final[Mapping[str, Rule]] = {
    "QGemm": qgemm, "QLinearAdd": qlinear_arithmetic("add"), "QLinearMul": qlinear_arithmetic("multiply"),
    "QLinearConv": qlinear_conv, "QLinearConcat": qlinear_concat,
    "QLinearGlobalAveragePool": on_input(global_average_pool), "QLinearAveragePool": on_input(average_pool),
    "QLinearSigmoid": on_input(lambda call: like(call, "sigmoid")), "QLinearLeakyRelu": on_input(_leaky),
    "QLinearSoftmax": on_input(_softmax),
}  # fmt: skip
"""Operators of com.microsoft on integers."""

QUANTISED: Final[Mapping[str, Rule]] = {
    "QLinearConv": qlinear_conv, "QLinearMatMul": qlinear_matmul, "ConvInteger": conv_integer,
    "MatMulInteger": matmul_integer,
}  # fmt: skip
"""Operators of ONNX's own domain on integers."""

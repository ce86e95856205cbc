"""Quantise and dequantise pairs: they become the quantisation of the tensor or constant between them.

Operators of torch.ao.quantization.fx._decomposed:
q = clamp(round(x / scale) + zero_point, quant_min, quant_max).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dse.workload.base import Shape
from dse.workload.model.graph import Quantisation
from dse.workload.torch.conversion import Conversion
from dse.workload.torch.operators.base import Converter
from dse.workload.torch.program import Call, Ref
from dse.workload.torch.structure import Malformed
from dse.workload.torch.values import Tensor, Value

PREFIX: Final = "quantized_decomposed."
PAIRS: Final = "quantise and dequantise operations became the quantisation of what they enclose"


def quantise(c: Conversion, call: Call) -> Value:
    """Return integers for a constant; a tensor passes and its producer notes how it is quantised."""
    value = c.value(call, "input")
    quantisation = described(c, call, value.shape)
    c.notes[PAIRS] += 1
    if isinstance(value, Tensor):
        c.quantise(value, _on_own_axes(quantisation, value))
        return value
    if value.values is None:
        return value
    scale, zero = aligned(quantisation, value.shape)
    low, high = call.integer("quant_min"), call.integer("quant_max")
    integers = np.clip(np.round(value.values / scale) + zero, low, high)
    return replace(value, values=integers.astype(np.float32))


def dequantise(c: Conversion, call: Call) -> Value:
    """Return real numbers of a constant, with its quantisation; a tensor passes."""
    value = c.value(call, "input")
    quantisation = described(c, call, value.shape)
    c.notes[PAIRS] += 1
    if isinstance(value, Tensor):
        return value
    if value.values is None:
        return replace(value, quantisation=quantisation)
    scale, zero = aligned(quantisation, value.shape)
    values = ((value.values - zero) * scale).astype(np.float32)
    return replace(value, values=values, quantisation=quantisation)


def described(c: Conversion, call: Call, shape: Shape) -> Quantisation:
    """Return the quantisation that the arguments of a call describe, checked against a shape."""
    channels = "per_channel" in call.operator
    scale = _numbers(c, call, "scales" if channels else "scale")
    zero = _numbers(c, call, "zero_points" if channels else "zero_point")
    low, high = call.integer("quant_min"), call.integer("quant_max")
    axis = call.integer("axis") if channels else None
    if axis is not None and not -len(shape) <= axis < len(shape):
        raise Malformed(f"quantised along axis {axis} of {len(shape)}")
    axis = None if axis is None else axis % len(shape)
    wanted = 1 if axis is None else shape[axis]
    zero = np.zeros(wanted) if zero is None else zero
    if scale is None or scale.size != wanted or zero.size != wanted or not (scale > 0).all():
        raise Malformed(f"needs {wanted} positive scales with zero points")
    if high <= low:
        raise Malformed(f"levels from {low} to {high}")
    bits = max(2, int(high - low).bit_length())
    return Quantisation(bits, low < 0, scale.astype(np.float64), zero.astype(np.int64), axis)


def _numbers(c: Conversion, call: Call, name: str) -> NDArray[Any] | None:
    found = call.get(name)
    if found is None:
        return None
    if not isinstance(found, Ref):
        return np.array([call.real(name)])
    values = c.constant(call, name).values
    if values is None or not np.isfinite(values).all():
        raise Malformed(f"{name} cannot be read")
    return values.reshape(-1)


def aligned(quantisation: Quantisation, shape: Shape) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return scale and zero point in a form that is broadcast against a tensor of ``shape``."""
    if quantisation.axis is None:
        return quantisation.scale, quantisation.zero_point
    form = [1] * len(shape)
    form[quantisation.axis] = -1
    return quantisation.scale.reshape(form), quantisation.zero_point.reshape(form)


def _on_own_axes(quantisation: Quantisation, tensor: Tensor) -> Quantisation:
    if quantisation.axis is None:
        return quantisation
    return replace(quantisation, axis=tensor.axis(quantisation.axis))


QUANTISATION: Final[Mapping[str, Converter]] = {
    f"{PREFIX}{verb}_{scope}": function
    for verb, function in (("quantize", quantise), ("dequantize", dequantise))
    for scope in ("per_tensor", "per_channel")
}

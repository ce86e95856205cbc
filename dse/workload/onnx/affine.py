"""Affine quantisation as ONNX writes it: a scale and a zero point per tensor or per index of an axis."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from dse.workload.base import Shape
from dse.workload.model.graph import Quantisation
from dse.workload.onnx.operations import Call, Dropped, Made, front
from dse.workload.onnx.tensors import TYPE_BITS, TYPE_WORDS, Array, Refused, Stored, Tensor

INTEGERS: Final = tuple(word for word in TYPE_BITS if word.startswith(("int", "uint")))


def affine(
    scale: Tensor | None, zero_point: Tensor | None, dtype: str, shape: Shape | None, axis: int
) -> Quantisation | None:
    """Return the quantisation of a tensor of ``shape``; None where its scale is computed or in blocks.

    ``dtype`` is the integer type of the numbers. Raises Refused for scales that are no scales.
    """
    if scale is None or scale.value is None or dtype not in INTEGERS:
        return None
    scales, points = _numbers(scale), np.zeros(scale.value.size, dtype=np.int64)
    if zero_point is not None and zero_point.value is not None:
        points = _stretched(_points(zero_point), scales)
    if scale.value.ndim > 1 and scales.size > 1:
        return None
    if scales.size == 1:
        return Quantisation(TYPE_BITS[dtype], dtype[0] == "i", scales, points)
    if shape is None:
        return None
    place = front(axis, len(shape))
    if scales.size != shape[place]:
        raise Refused(f"{scales.size} scales for an axis of {shape[place]}")
    return Quantisation(TYPE_BITS[dtype], dtype[0] == "i", scales, points, place)


def _numbers(scale: Tensor) -> Array:
    value = scale.value
    if value is None or value.dtype.kind not in "fiu" or not value.size:
        raise Refused("its scale is no number")
    with np.errstate(all="ignore"):
        scales = value.reshape(-1).astype(np.float64)
    if not np.all(np.isfinite(scales)) or np.any(scales <= 0):
        raise Refused("its scale is not positive")
    return scales


def _points(zero_point: Tensor) -> Array:
    value = zero_point.value
    if value is None or value.dtype.kind not in "fiu" or not np.all(np.isfinite(value)):
        raise Refused("its zero point is no number")
    with np.errstate(all="ignore"):
        points: Array = value.reshape(-1).astype(np.int64)
    return points


def _stretched(points: Array, scales: Array) -> Array:
    if points.size not in (1, scales.size):
        raise Refused(f"{points.size} zero points for {scales.size} scales")
    return np.broadcast_to(points, scales.shape)


def spread(values: Array, rank: int, axis: int | None) -> Array:
    """Return one number per index of an axis so that it stretches over a tensor of that rank."""
    return (
        values if axis is None else values.reshape(tuple(-1 if place == axis else 1 for place in range(rank)))
    )


def dequantised(tensor: Tensor, found: Quantisation) -> Tensor:
    """Return an integer constant with its real numbers and its quantisation."""
    if tensor.value is None:
        return replace(tensor, dtype="float32", quantisation=found)
    rank = tensor.value.ndim
    with np.errstate(all="ignore"):
        points = spread(found.zero_point.astype(np.float32), rank, found.axis)
        real = (tensor.value.astype(np.float32) - points) * spread(
            found.scale.astype(np.float32), rank, found.axis
        )
    value = real.reshape(tensor.value.shape).astype(np.float32)
    return replace(tensor, value=value, dtype="float32", quantisation=found)


def quantised(tensor: Tensor, found: Quantisation, dtype: str, narrow: bool = False) -> Tensor:
    """Return a real constant as integers: rounded to the nearest even, held to the range of the type."""
    if tensor.value is None:
        return replace(tensor, dtype=dtype)
    rank = tensor.value.ndim
    low, high = (
        (-(2 ** (found.bits - 1)), 2 ** (found.bits - 1) - 1) if found.signed else (0, 2**found.bits - 1)
    )
    with np.errstate(all="ignore"):
        # In single precision, as the operator divides: halves then round to the same side.
        scale = spread(found.scale, rank, found.axis).astype(np.float32)
        steps = np.round(tensor.value.astype(np.float32) / scale).astype(np.float64)
        clipped = np.clip(steps + spread(found.zero_point, rank, found.axis), low + narrow, high)
        value = np.nan_to_num(clipped).reshape(tensor.value.shape).astype(np.int64)
    return replace(tensor, value=value, dtype=dtype)


def of_output(
    call: Call, scale: int, zero_point: int, shape: Shape | None = None, axis: int = 1
) -> Quantisation | None:
    """Return the quantisation that two constant inputs of a node describe; the zero point has its type."""
    points = call.at(zero_point)
    dtype = points.dtype if points is not None else "uint8"
    found = call.at(scale)
    known = found is not None and found.constant
    return affine(found, points, dtype, shape, axis) if known else None


# --- operators ---


def target_type(call: Call) -> str:
    """Return the integer type that QuantizeLinear gives."""
    points = call.at(2)
    if points is not None:
        return points.dtype
    return TYPE_WORDS.get(call.integer("output_dtype", 2) or 2, "uint8")


def quantise(call: Call) -> Dropped:
    """QuantizeLinear: the numbers stay what they are; their producer learns how they are kept."""
    tensor, dtype = call.tensor(0), target_type(call)
    found = affine(call.constant(1), call.constant(2), dtype, tensor.shape, call.integer("axis", 1))
    if tensor.constant:
        if found is None:
            raise Refused("a constant is quantised by scales that are not known, or in blocks")
        return Dropped(quantised(tensor, found, dtype))
    return Dropped(replace(tensor, dtype=dtype), found)


def dequantise(call: Call) -> Dropped:
    """DequantizeLinear: constants become real numbers, of everything else the producer learns."""
    tensor = call.tensor(0)
    found = affine(call.constant(1), call.constant(2), tensor.dtype, tensor.shape, call.integer("axis", 1))
    if not tensor.constant:
        return Dropped(replace(tensor, dtype="float32"), found)
    if found is None:
        return Dropped(_dequantised_blocks(call, tensor))
    return Dropped(dequantised(tensor, found))


def _dequantised_blocks(call: Call, tensor: Tensor) -> Tensor:
    """Real numbers of a constant whose scales stand for blocks along an axis."""
    scale, block = call.tensor(1).value, call.integer("block_size", 0)
    if scale is None or tensor.value is None or scale.ndim != tensor.value.ndim or block < 1:
        raise Refused("its scales fit neither the tensor, nor an axis, nor blocks of it")
    axis = call.axis("axis", 1, scale.ndim)
    points = call.constant(2)
    size = tensor.value.shape[axis]
    wide = [
        np.repeat(values, min(block, size), axis=axis) for values in (scale, _blocked_points(points, scale))
    ]
    parts = [values.take(np.arange(min(size, values.shape[axis])), axis=axis) for values in wide]
    if parts[0].shape != tensor.value.shape:
        raise Refused("its blocks do not cover the tensor")
    value = (tensor.value.astype(np.float32) - parts[1]) * parts[0].astype(np.float32)
    return replace(tensor, value=value.astype(np.float32), dtype="float32")


def _blocked_points(points: Tensor | None, scale: Array) -> Array:
    if points is None or points.value is None:
        return np.zeros(scale.shape, dtype=np.float32)
    return points.value.astype(np.float32)


def qonnx_quant(call: Call) -> Dropped:
    """Quant of QONNX: quantised and dequantised in one step, of any number of bits."""
    tensor = call.tensor(0)
    bits, signed = call.scalar(3), bool(call.integer("signed", 1))
    scale, points = call.constant(1), call.constant(2)
    if bits is None or not 1 <= bits <= 32 or scale is None or scale.value is None or tensor.shape is None:
        raise Refused("its scale or bit width is not known")
    scales, shape = _numbers(scale), tensor.shape
    wide = (1,) * (len(shape) - scale.value.ndim) + scale.value.shape
    axes = [axis for axis, size in enumerate(wide) if size > 1]
    if len(axes) > 1 or len(wide) != len(shape) or (axes and wide[axes[0]] != shape[axes[0]]):
        raise Refused(f"scales of shape {list(wide)}")
    zeros = np.zeros(1, dtype=np.int64) if points is None else _points(points)
    spreads = _stretched(zeros, scales)
    found = Quantisation(int(bits), signed, scales, spreads, axes[0] if axes else None)
    if not tensor.constant:
        return Dropped(tensor, found)
    rounded = quantised(tensor, found, "int32", bool(call.integer("narrow", 0)))
    return Dropped(replace(dequantised(rounded, found), stored=tensor.stored or Stored("float32", 0)))


def dynamic_quantise(call: Call) -> list[Made | Dropped]:
    """DynamicQuantizeLinear: the numbers stay; its scale is known while it runs, and only multiplied out."""
    tensor = call.tensor(0)
    if tensor.constant:
        raise Refused("it quantises a constant")
    scale = Tensor(f"{tensor.name} scale", (), producer=tensor.producer, scale_factor=np.ones(1))
    point = Tensor(
        f"{tensor.name} zero point", (), "uint8", producer=tensor.producer, scale_factor=np.ones(1)
    )
    return [Dropped(replace(tensor, dtype="uint8")), Dropped(scale), Dropped(point)]

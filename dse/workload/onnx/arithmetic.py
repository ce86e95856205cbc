"""Arithmetic on constants: what files calculate about their own shapes and weights, done while reading.

Each function takes the call and the arrays of its inputs (None: left out) and gives one array or several.
Results are bounded before they are made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, Final

import numpy as np

from dse.workload.base import Shape
from dse.workload.onnx import shapes
from dse.workload.onnx.operations import Call, front
from dse.workload.onnx.tensors import Array, Refused

MOST_RESULT: Final = 2**24
MOST_PRODUCTS: Final = 2**27

Arrays = Sequence[Array | None]
Arithmetic = Callable[[Call, Arrays], Array | list[Array]]


class TooLarge(Refused):
    """A constant that is not worked out; its shape is known."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(f"a constant of {prod(shape)} numbers is not worked out")
        self.shape = shape


def bounded(shape: Sequence[int]) -> Shape:
    """Return the shape of a result; raises TooLarge where it is not worth its memory."""
    if len(shape) > 8 or min(shape, default=0) < 0:
        raise Refused(f"it would give {list(shape)[:9]}")
    if prod(shape) > MOST_RESULT:
        raise TooLarge(tuple(shape))
    return tuple(shape)


def _given(arrays: Arrays) -> list[Array]:
    found = [array for array in arrays if array is not None]
    bounded(shapes.broadcast(*(array.shape for array in found)))
    return found


def _first(arrays: Arrays) -> Array:
    if not arrays or arrays[0] is None:
        raise Refused("input 1 is missing")
    return arrays[0]


def _each(function: Callable[..., Any]) -> Arithmetic:
    return lambda call, arrays: np.asarray(function(*_given(arrays)))


def _folded(function: Callable[..., Any]) -> Arithmetic:
    def fold(call: Call, arrays: Arrays) -> Array:
        first, *rest = _given(arrays)
        for other in rest:
            first = function(first, other)
        return first

    return fold


def _divide(left: Array, right: Array) -> Array:
    """Whole numbers divide towards zero."""
    if left.dtype.kind not in "iu" or right.dtype.kind not in "iu":
        return np.asarray(left / right)
    if not np.all(right):
        raise Refused("it divides by zero")
    return np.asarray(np.sign(left) * np.sign(right) * (np.abs(left) // np.abs(right))).astype(left.dtype)


def _modulo(call: Call, arrays: Arrays) -> Array:
    left, right = _given(arrays)
    if left.dtype.kind in "iu" and not np.all(right):
        raise Refused("it divides by zero")
    return np.asarray(np.fmod(left, right) if call.integer("fmod", 0) else np.mod(left, right))


def _gather(call: Call, arrays: Arrays) -> Array:
    data, indices = _first(arrays), _first(arrays[1:])
    if indices.dtype.kind not in "iu":
        raise Refused("its indices are no whole numbers")
    axis = call.axis("axis", 0, data.ndim)
    bounded((*data.shape[:axis], *indices.shape, *data.shape[axis + 1 :]))
    if indices.size and not -data.shape[axis] <= int(indices.min()) <= int(indices.max()) < data.shape[axis]:
        raise Refused(f"an index beyond an axis of {data.shape[axis]}")
    return np.asarray(np.take(data, indices, axis=axis))


def _concat(call: Call, arrays: Arrays) -> Array:
    found = [array for array in arrays if array is not None]
    bounded((sum(array.size for array in found),))
    return np.concatenate(found, axis=call.integer("axis", 0))


def _slice(call: Call, arrays: Arrays) -> Array:
    data = _first(arrays)
    numbers = [call.setting(name, place) for name, place in (("starts", 1), ("ends", 2), ("axes", 3))]
    steps = call.numbers(4)
    taken = shapes.sliced(data.shape, numbers[0] or (), numbers[1] or (), numbers[2], steps)
    for axis, part in enumerate(taken):
        data = np.take(data, np.arange(part.start, part.stop, part.step), axis=axis)
    return data


def _constant_of_shape(call: Call, arrays: Arrays) -> Array:
    fill = arrays[1] if len(arrays) > 1 else None
    value = np.float32(0) if fill is None else fill.reshape(-1)[0]
    return np.broadcast_to(value, bounded(call.numbers(0) or ()))


def _expand(call: Call, arrays: Arrays) -> Array:
    data = _first(arrays)
    return np.broadcast_to(data, bounded(shapes.broadcast(data.shape, call.numbers(1) or ())))


def _tile(call: Call, arrays: Arrays) -> Array:
    data, repeats = _first(arrays), call.numbers(1) or ()
    if len(repeats) != data.ndim:
        raise Refused(f"{len(repeats)} repeats of {data.ndim} axes")
    bounded([size * repeat for size, repeat in zip(data.shape, repeats, strict=True)])
    return np.tile(data, repeats)


def _range(call: Call, arrays: Arrays) -> Array:
    start, limit, step = (array.reshape(-1)[0].item() for array in _given(arrays))
    if not step or any(abs(number) > 2**52 for number in (start, limit, step)):
        raise Refused(f"a range from {start} to {limit} in steps of {step}")
    count = bounded((max(int(-((start - limit) // step)), 0),))[0]
    return np.asarray(start + step * np.arange(count)).astype(call.tensor(0).dtype)


def _reduce(function: Callable[..., Any]) -> Arithmetic:
    def reduce(call: Call, arrays: Arrays) -> Array:
        data = _first(arrays)
        axes = call.setting("axes", 1)
        if not axes:
            if axes is not None and call.integer("noop_with_empty_axes", 0):
                return data
            axes = tuple(range(data.ndim))
        over = tuple(front(axis, data.ndim) for axis in axes)
        return np.asarray(function(data, axis=over, keepdims=bool(call.integer("keepdims", 1)))).astype(
            data.dtype
        )

    return reduce


def _mean(data: Array, **how: Any) -> Any:
    if not data.size:
        raise Refused("the mean of nothing")
    return np.mean(data, **how)


def _split(call: Call, arrays: Arrays) -> list[Array]:
    data = _first(arrays)
    axis = call.axis("axis", 0, data.ndim)
    sizes = split_sizes(call, data.shape[axis])
    return np.split(data, np.cumsum(sizes)[:-1], axis=axis)


def split_sizes(call: Call, size: int) -> tuple[int, ...]:
    """Return how long each part of a split is; equal ones where it does not say, the last one shorter."""
    given = call.setting("split", 1)
    count = len(call.node.outputs)
    if given is None:
        part = -(-size // count)
        given = tuple(min(part, size - part * place) for place in range(count))
    if len(given) != count or sum(given) != size or min(given) < 0:
        raise Refused(f"an axis of {size} does not split into {list(given)}")
    return given


def _product(call: Call, arrays: Arrays) -> Array:
    left, right = (array for array in arrays if array is not None)
    shape = bounded(shapes.multiplied(left.shape, right.shape))
    if prod(shape) * left.shape[-1] > MOST_PRODUCTS:
        raise TooLarge(shape)
    return np.asarray(left @ right)


def _clip(call: Call, arrays: Arrays) -> Array:
    low, high = (arrays[place] if place < len(arrays) else None for place in (1, 2))
    low = np.asarray(call.real("min", -3.4e38)) if low is None and "min" in call.node.attributes else low
    high = np.asarray(call.real("max", 3.4e38)) if high is None and "max" in call.node.attributes else high
    data = _first(arrays)
    return data if low is None and high is None else np.clip(data, low, high).astype(data.dtype)


ARITHMETIC: Final[dict[str, Arithmetic]] = {
    "Add": _each(np.add), "Sub": _each(np.subtract), "Mul": _each(np.multiply), "Div": _each(_divide),
    "Mod": _modulo, "Pow": _each(lambda base, power: np.power(base, power).astype(base.dtype)),
    "Min": _folded(np.minimum), "Max": _folded(np.maximum), "Sum": _folded(np.add),
    "Neg": _each(np.negative), "Abs": _each(np.abs), "Floor": _each(np.floor), "Ceil": _each(np.ceil),
    "Round": _each(np.round), "Sqrt": _each(np.sqrt), "Exp": _each(np.exp), "Log": _each(np.log),
    "Reciprocal": _each(np.reciprocal), "Sign": _each(np.sign), "Relu": _each(lambda x: np.maximum(x, 0)),
    "Sigmoid": _each(lambda x: 1 / (1 + np.exp(-x))), "Tanh": _each(np.tanh), "Not": _each(np.logical_not),
    "And": _each(np.logical_and), "Or": _each(np.logical_or), "Equal": _each(np.equal),
    "Less": _each(np.less), "Greater": _each(np.greater), "LessOrEqual": _each(np.less_equal),
    "GreaterOrEqual": _each(np.greater_equal), "Where": _each(np.where), "Clip": _clip,
    "Gather": _gather, "Concat": _concat, "Slice": _slice, "Split": _split, "Range": _range,
    "ConstantOfShape": _constant_of_shape, "Expand": _expand, "Tile": _tile, "MatMul": _product,
    "ReduceSum": _reduce(np.sum), "ReduceProd": _reduce(np.prod), "ReduceMax": _reduce(np.max),
    "ReduceMin": _reduce(np.min), "ReduceMean": _reduce(_mean),
    "ReduceL2": _reduce(lambda data, **how: np.sqrt(np.sum(np.square(data), **how))),
    "NonZero": lambda call, arrays: np.array(np.nonzero(_first(arrays)), dtype=np.int64),
}  # fmt: skip
"""Operator of ONNX's own domain -> what it does to constants."""

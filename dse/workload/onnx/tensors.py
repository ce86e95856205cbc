"""What is known of one tensor of an ONNX graph, and how its constants become those of a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dse.workload.base import Shape
from dse.workload.model.graph import Constant, Quantisation

Array = NDArray[Any]

TYPE_BITS: Final = {
    "float32": 32, "uint8": 8, "int8": 8, "uint16": 16, "int16": 16, "int32": 32, "int64": 64, "string": 0,
    "bool": 8, "float16": 16, "float64": 64, "uint32": 32, "uint64": 64, "complex64": 64, "complex128": 128,
    "bfloat16": 16, "float8e4m3fn": 8, "float8e4m3fnuz": 8, "float8e5m2": 8, "float8e5m2fnuz": 8,
    "uint4": 4, "int4": 4, "float4e2m1": 4, "float8e8m0": 8, "uint2": 2, "int2": 2,
}  # fmt: skip
"""Bits of one stored number, by the names of onnx.proto in lower case, in the order of its enumeration."""

TYPE_WORDS: Final = dict(enumerate(TYPE_BITS, 1))


class Refused(Exception):
    """An operation that does not keep its rule; the text is the reason, one clause."""


class Unresolved(Refused):
    """An operation whose input has no known shape."""


@dataclass(frozen=True)
class Stored:
    """How the file keeps a constant: the type's name and the bytes."""

    type: str
    bytes: int


@dataclass(frozen=True, eq=False)
class Tensor:
    """One tensor with its batch axis; a constant has no ``producer``.

    ``shape`` is that of the file; ``batch`` the axis of it that holds the batch. ``value`` holds a constant's
    numbers (real ones, where it is dequantised), ``quantisation`` counts axes in their order.
    ``scale_factor`` marks the scale that dynamic quantisation finds while it runs: the constant part of it.
    """

    name: str
    shape: Shape | None
    dtype: str = "float32"
    batch: int | None = None
    producer: str | None = None
    value: Array | None = None
    stored: Stored | None = None
    quantisation: Quantisation | None = None
    scale_factor: Array | None = None
    real_forms: dict[Any, NDArray[np.float32]] = field(default_factory=dict, init=False)

    @property
    def constant(self) -> bool:
        """Whether the file itself holds it."""
        return self.producer is None

    @property
    def known(self) -> Shape:
        """The shape; raises Unresolved where there is none."""
        if self.shape is None:
            raise Unresolved("the shape of its input is not known")
        return self.shape


def computed(name: str, value: Array, like: Tensor | None = None) -> Tensor:
    """Return a constant that was calculated; with ``like`` it is kept as that one is."""
    if like is not None and like.stored is not None:
        return replace(like, name=name, value=value, shape=value.shape)
    return Tensor(
        name, value.shape, str(value.dtype), value=value, stored=Stored(str(value.dtype), value.nbytes)
    )


def as_constant(
    tensor: Tensor,
    permutation: tuple[int, ...] | None = None,
    shape: Shape | None = None,
    factor: float = 1.0,
) -> Constant:
    """Return a constant of the model: transposed, then reshaped, its numbers times ``factor``."""
    whole = tensor.known
    axes = permutation or tuple(range(len(whole)))
    ordered = tuple(whole[axis] for axis in axes)
    final = ordered if shape is None else shape
    stored = tensor.stored or Stored(tensor.dtype, prod(whole) * TYPE_BITS.get(tensor.dtype, 32) // 8)
    move: Callable[[int], int | None] = lambda axis: carried_axis(axes.index(axis), ordered, final)  # noqa: E731
    return Constant(
        tensor.name, final, stored.type, stored.bytes, _real(tensor, axes, final, factor),
        moved_quantisation(tensor.quantisation, move, factor),
    )  # fmt: skip


def _real(tensor: Tensor, axes: tuple[int, ...], shape: Shape, factor: float) -> NDArray[np.float32] | None:
    """Numbers of a constant in one form; asked for again, the same array."""
    value, form = tensor.value, (axes, shape, factor)
    if value is None or value.dtype.kind not in "fiub":
        return None
    if form not in tensor.real_forms:
        with np.errstate(all="ignore"):
            moved = np.ascontiguousarray(value.transpose(axes).reshape(shape), dtype=np.float32)
            moved = moved.reshape(shape)  # a single number comes back as a vector of one
            tensor.real_forms[form] = (
                moved if factor == 1.0 else (moved * np.float32(factor)).astype(np.float32)
            )
    return tensor.real_forms[form]


def moved_quantisation(
    found: Quantisation | None, move: Callable[[int], int | None], factor: float = 1.0
) -> Quantisation | None:
    """Return the quantisation after its axis moved; None where the axis is gone."""
    if found is None:
        return None
    axis = None if found.axis is None else move(found.axis)
    if found.axis is not None and axis is None:
        return None
    return replace(found, axis=axis, scale=found.scale * factor)


def carried_axis(axis: int, before: Shape, after: Shape) -> int | None:
    """Return where a reshape leaves an axis: as many numbers before it, the axis itself whole; else None.

    >>> carried_axis(0, (8, 3, 3), (8, 9)), carried_axis(1, (8, 9), (72,))
    (0, None)
    """
    size, outer = before[axis], prod(before[:axis])
    fits = [place for place in range(len(after)) if after[place] == size and prod(after[:place]) == outer]
    if not fits:
        return None
    return axis if axis in fits else min(fits, key=lambda place: abs(place - axis))


def per_sample(shape: Shape, batch: int | None) -> Shape:
    """Return the shape without its batch axis."""
    return shape if batch is None else shape[:batch] + shape[batch + 1 :]


def sample_axis(axis: int, batch: int | None) -> int:
    """Return an axis counted without the batch; raises Refused for the batch axis itself."""
    if axis == batch:
        raise Refused("it works along the batch")
    return axis - (batch is not None and axis > batch)

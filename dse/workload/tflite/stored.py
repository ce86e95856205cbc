"""Element types, affine quantisation and the numbers of constant tensors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from dse.workload.base import Shape
from dse.workload.model import Constant, Quantisation
from dse.workload.tflite.flat import RawQuantisation, Tensor
from dse.workload.tflite.sparse import Misfit, Sparsity, places


class Unreadable(ValueError):
    """What a file says of one operator or tensor cannot be used; the text says why."""


@dataclass(frozen=True)
class ElementType:
    """A type of elements: its word, bits of one element, and how numpy reads it (empty: it does not)."""

    word: str
    bits: int
    dtype: str = ""

    @property
    def whole(self) -> bool:
        """Whether elements are whole numbers, which may be quantised."""
        return self.word.lstrip("u").startswith("int")

    @property
    def signed(self) -> bool:
        """Whether elements may be negative."""
        return not self.word.startswith("uint")


TYPES: Final = (
    ElementType("float32", 32, "<f4"), ElementType("float16", 16, "<f2"), ElementType("int32", 32, "<i4"),
    ElementType("uint8", 8, "u1"), ElementType("int64", 64, "<i8"), ElementType("string", 8),
    ElementType("bool", 8, "?"), ElementType("int16", 16, "<i2"), ElementType("complex64", 64),
    ElementType("int8", 8, "i1"), ElementType("float64", 64, "<f8"), ElementType("complex128", 128),
    ElementType("uint64", 64, "<u8"), ElementType("resource", 32), ElementType("variant", 32),
    ElementType("uint32", 32, "<u4"), ElementType("uint16", 16, "<u2"), ElementType("int4", 4, "i1"),
    ElementType("bfloat16", 16, "<u2"),
)  # fmt: skip
"""Element types in the order in which the schema numbers them."""

QUANTISED: Final = ("int4", "int8", "uint8", "int16")
"""Types that mean nothing without a scale where they hold weights or activations."""


def element_type(tensor: Tensor) -> ElementType:
    """Type of a tensor's elements; raises Unreadable where the schema has no such number."""
    if not 0 <= tensor.type < len(TYPES):
        raise Unreadable(f"tensor {tensor.index} has the element type {tensor.type}, which no schema names")
    return TYPES[tensor.type]


def quantisation(tensor: Tensor, shape: Shape) -> Quantisation | None:
    """Affine quantisation of a tensor of ``shape`` (as the file orders its axes), None where it has none.

    Raises Unreadable where it is of another kind, or its scales are missing, zero or not finite.
    """
    found, kind = tensor.quantisation, element_type(tensor)
    if not kind.whole:
        return None
    if found is None:
        if kind.word in QUANTISED:
            raise Unreadable(f"tensor {tensor.index} is {kind.word} without a scale")
        return None
    return _affine(found, kind, shape, tensor.index)


def _affine(found: RawQuantisation, kind: ElementType, shape: Shape, index: int) -> Quantisation:
    if not found.affine:
        raise Unreadable(f"tensor {index} is quantised in another way than by scales and zero points")
    with np.errstate(invalid="ignore"):  # a NaN that signals; it is refused below
        scale = found.scale.astype(np.float64)
    if not len(scale) or not np.all(np.isfinite(scale) & (scale > 0)):
        raise Unreadable(f"tensor {index} has scales that are missing, zero, negative or not finite")
    axis = found.axis if len(scale) > 1 else None
    if axis is not None and (not 0 <= axis < len(shape) or shape[axis] != len(scale)):
        raise Unreadable(f"tensor {index} has {len(scale)} scales on axis {axis} of {list(shape)}")
    zero_point = found.zero_point if len(found.zero_point) else np.zeros(1, dtype=np.int64)
    if len(zero_point) not in (1, len(scale)):
        raise Unreadable(f"tensor {index} has {len(zero_point)} zero points for {len(scale)} scales")
    zero_point = np.broadcast_to(zero_point, scale.shape).copy()
    least = -(2 ** (kind.bits - 1)) if kind.signed else 0
    if zero_point.min() < least or zero_point.max() >= least + 2**kind.bits:
        raise Unreadable(f"tensor {index} has zero points outside {kind.word}")
    return Quantisation(kind.bits, kind.signed, scale, zero_point, axis)


def stored_bytes(elements: int, bits: int) -> int:
    """Bytes of packed elements; four-bit ones share bytes in pairs."""
    return -(-elements * bits // 8)


def raw_values(tensor: Tensor) -> NDArray[np.generic]:
    """Return the stored elements of a constant tensor in its shape, four-bit ones unpacked.

    Raises Unreadable where the type has no numbers or the bytes do not fit the shape.
    """
    if tensor.sparse is not None:
        return _made_whole(tensor, tensor.sparse)
    kind, elements = element_type(tensor), prod(tensor.shape)
    data = _bytes_of(tensor, kind)
    wanted = stored_bytes(elements, kind.bits)
    if len(data) != wanted:
        raise Unreadable(f"tensor {tensor.index} has {len(data)} bytes, its shape needs {wanted}")
    return _typed(data, kind, elements).reshape(tensor.shape)


def _bytes_of(tensor: Tensor, kind: ElementType) -> NDArray[np.uint8]:
    if tensor.data is None or not kind.dtype:
        raise Unreadable(f"tensor {tensor.index} holds no numbers ({kind.word})")
    return np.ascontiguousarray(tensor.data)


def _typed(data: NDArray[np.uint8], kind: ElementType, elements: int) -> NDArray[np.generic]:
    """View bytes as elements, flat."""
    if kind.word == "int4":
        return _nibbles(data, elements)
    values = data.view(kind.dtype)
    if kind.word == "bfloat16":  # the upper half of a float32
        values = (values.astype(np.uint32) << 16).view(np.float32)
    return cast("NDArray[np.generic]", values)


def _made_whole(tensor: Tensor, sparse: Sparsity) -> NDArray[np.generic]:
    """Return a tensor that is stored sparsely, with zeros where nothing is stored."""
    kind = element_type(tensor)
    data = _bytes_of(tensor, kind)
    elements = 8 * len(data) // kind.bits
    if kind.bits < 8 or stored_bytes(elements, kind.bits) != len(data):
        raise Unreadable(f"tensor {tensor.index} has {len(data)} bytes, stored sparsely as {kind.word}")
    try:
        found = places(sparse, tensor.shape, elements)
    except Misfit as error:
        raise Unreadable(f"tensor {tensor.index} is stored sparsely: {error}") from None
    values = _typed(data, kind, elements)
    whole = np.full(prod(tensor.shape), 0, dtype=values.dtype)
    scheme = quantisation(tensor, tensor.shape)
    if scheme is not None and scheme.zero_point.any():
        raise Unreadable(f"tensor {tensor.index} is stored sparsely with a zero point other than 0")
    whole[found] = values
    return whole.reshape(tensor.shape)


def _nibbles(data: NDArray[np.uint8], elements: int) -> NDArray[np.generic]:
    """Two elements a byte, the lower half first, each with its sign."""
    halves = np.stack([data & 15, data >> 4], axis=1).reshape(-1)[:elements].astype(np.int8)
    return np.where(halves > 7, halves - 16, halves).astype(np.int8)


def real_values(stored: NDArray[np.generic], scheme: Quantisation | None) -> NDArray[np.float32]:
    """Return scale (q - zero point) as float32; what has no quantisation is taken as it is.

    Small integers are exact in float32, so that one product rounds once; wider ones go through float64.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        if scheme is None:
            return stored.astype(np.float32)
        spread = [1] * stored.ndim
        if scheme.axis is not None:
            spread[scheme.axis] = -1
        scale, zero_point = (part.reshape(spread) for part in (scheme.scale, scheme.zero_point))
        if stored.dtype.itemsize > 2:
            return ((stored.astype(np.float64) - zero_point) * scale).astype(np.float32)
        values = stored.astype(np.float32)
        values -= zero_point.astype(np.float32)
        values *= scale.astype(np.float32)
        return values


def rearranged(constant: Constant, order: tuple[int, ...]) -> Constant:
    """Return a constant with its axes in another order, its quantisation along with them."""
    scheme = constant.quantisation
    if scheme is not None and scheme.axis is not None:
        scheme = replace(scheme, axis=order.index(scheme.axis))
    values = None if constant.values is None else constant.values.transpose(order)
    shape = tuple(constant.shape[axis] for axis in order)
    return replace(constant, shape=shape, values=values, quantisation=scheme)


def reshaped(constant: Constant, shape: Shape) -> Constant:
    """Return a constant in another shape of as many elements; scales must stay on one axis.

    Raises Unreadable where they would not.
    """
    scheme = constant.quantisation
    if prod(shape) != constant.elements:
        raise Unreadable(f"{constant.name} has the shape {list(constant.shape)}, not {list(shape)}")
    if scheme is not None and scheme.axis is not None:
        before, size = prod(constant.shape[: scheme.axis]), constant.shape[scheme.axis]
        places = [i for i in range(len(shape)) if shape[i] == size and prod(shape[:i]) == before]
        if not places:
            raise Unreadable(f"{constant.name} has scales on an axis that a reshape breaks up")
        scheme = replace(scheme, axis=places[0])
    values = None if constant.values is None else constant.values.reshape(shape)
    return replace(constant, shape=tuple(shape), values=values, quantisation=scheme)

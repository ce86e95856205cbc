"""Tensors of an archive: what their table says, checked, and their raw little-endian bytes as numbers.

Numbers of types: torch/_export/serde/schema.py, ``ScalarType``, schema 8.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Final

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from dse.workload.model import limits
from dse.workload.model.graph import Constant
from dse.workload.torch.structure import Malformed, integer, mapping, sequence
from dse.workload.torch.symbols import size

TYPES: Final[Mapping[int, tuple[str, str]]] = {
    1: ("uint8", "<u1"), 2: ("int8", "<i1"), 3: ("int16", "<i2"), 4: ("int32", "<i4"), 5: ("int64", "<i8"),
    6: ("float16", "<f2"), 7: ("float32", "<f4"), 8: ("float64", "<f8"), 12: ("bool", "|u1"),
    13: ("bfloat16", "<u2"), 28: ("uint16", "<u2"), 34: ("uint32", "<u4"), 35: ("uint64", "<u8"),
}  # fmt: skip
"""Number of a type -> its name and how numpy reads its bytes (bfloat16: the upper half of a float32)."""

STRIDED: Final = 7


@dataclass(frozen=True)
class Meta:
    """What a table says of one tensor: type, sizes as they stand in the file, strides and offset."""

    type_number: int
    sizes: tuple[Any, ...]
    strides: tuple[Any, ...]
    offset: Any
    layout: int

    @property
    def type_name(self) -> str:
        """Word for the type of the elements."""
        return TYPES.get(self.type_number, (f"type {self.type_number}", ""))[0]

    def shape(self, symbols: Mapping[str, int]) -> tuple[int, ...]:
        """Sizes as numbers, bounded; raises Malformed where a symbol has no value."""
        shape = tuple(size(entry, symbols, "a size") for entry in self.sizes)
        return bounded(shape)


def meta(value: Any, where: str) -> Meta:
    """Read one entry of a table of tensors."""
    found = mapping(value, where)
    return Meta(
        type_number=integer(found.get("dtype"), f"{where}: dtype"),
        sizes=tuple(sequence(found.get("sizes"), f"{where}: sizes")),
        strides=tuple(sequence(found.get("strides"), f"{where}: strides")),
        offset=found.get("storage_offset", {"as_int": 0}),
        layout=integer(found.get("layout", STRIDED), f"{where}: layout"),
    )


def bounded(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return ``shape`` where its sizes are positive and a tensor of it can exist, else raise Malformed."""
    if len(shape) > limits.MOST_AXES + 1:
        raise Malformed(f"{len(shape)} axes are too many")
    if any(entry < 0 for entry in shape) or prod(shape) > limits.MOST_ELEMENTS:
        raise Malformed(f"sizes of {list(shape)!s:.80} cannot be")
    return shape


def decode(name: str, table: Meta, data: bytes) -> Constant:
    """Return the tensor that ``table`` describes out of the raw bytes of its storage.

    Raises Malformed where type, sizes, strides or the number of bytes contradict each other.
    """
    if table.layout != STRIDED:
        raise Malformed(f"{name}: a sparse layout ({table.layout}) cannot be read")
    if table.type_number not in TYPES:
        raise Malformed(f"{name}: elements of {table.type_name} cannot be read")
    type_name, code = TYPES[table.type_number]
    shape = table.shape({})
    strides = tuple(size(entry, {}, f"{name}: a stride") for entry in table.strides)
    offset = size(table.offset, {}, f"{name}: storage_offset")
    item = np.dtype(code).itemsize
    if len(data) % item:
        raise Malformed(f"{name}: {len(data)} bytes are no whole number of {type_name}")
    storage = np.frombuffer(data, dtype=code)
    values = _floats(_view(name, storage, shape, strides, offset), type_name)
    return Constant(name, shape, type_name, prod(shape) * item, values)


def _view(
    name: str, storage: NDArray[Any], shape: tuple[int, ...], strides: tuple[int, ...], offset: int
) -> NDArray[Any]:
    """Return the elements of a storage that strides [elements] and an offset [elements] pick."""
    if len(strides) != len(shape) or min((*strides, offset, 0)) < 0:
        raise Malformed(f"{name}: strides {list(strides)!s:.60} do not fit sizes {list(shape)!s:.60}")
    if prod(shape) > limits.MOST_VALUES:
        raise Malformed(f"{name}: more than {limits.MOST_VALUES} numbers")
    if not prod(shape):
        return np.zeros(shape, storage.dtype)
    last = offset + sum((count - 1) * step for count, step in zip(shape, strides, strict=True))
    if last >= len(storage):
        raise Malformed(f"{name}: needs {last + 1} numbers, the archive holds {len(storage)}")
    pairs = zip(shape, strides, strict=True)
    steps = tuple(step * storage.itemsize if count > 1 else 0 for count, step in pairs)
    return as_strided(storage[offset:], shape, steps, writeable=False)


def _floats(values: NDArray[Any], type_name: str) -> NDArray[np.float32]:
    if type_name == "bfloat16":
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float32)

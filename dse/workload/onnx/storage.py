"""Constants of an ONNX file, whichever way they are stored, as arrays of numpy.

Nothing is believed before it is checked: a count of elements against the limit, the stored bytes against the
count. Types that numpy does not have are decoded here; what cannot be decoded keeps its shape.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np

from dse.errors import Problem, UserError
from dse.workload.base import Shape
from dse.workload.model.limits import MOST_AXES, MOST_VALUES, clean_name
from dse.workload.onnx.document import text
from dse.workload.onnx.external import ExternalData, Missing
from dse.workload.onnx.tensors import TYPE_BITS, TYPE_WORDS, Array, Stored, Tensor

_PLAIN: Final = {
    "float32": "<f4", "uint8": "<u1", "int8": "<i1", "uint16": "<u2", "int16": "<i2", "int32": "<i4",
    "int64": "<i8", "bool": "<u1", "float16": "<f2", "float64": "<f8", "uint32": "<u4", "uint64": "<u8",
    "bfloat16": "<u2", "uint4": "<u1", "int4": "<u1", "uint2": "<u1", "int2": "<u1",
}  # fmt: skip
"""Type -> numpy type of its bytes; four- and two-bit numbers are packed, lowest bits first."""

_FIELDS: Final = {
    "float32": "float_data", "float64": "double_data", "int64": "int64_data", "uint64": "uint64_data",
    "uint32": "uint64_data",
}  # fmt: skip
"""Type -> field of its numbers one by one; ``int32_data`` for all others."""


def _half(bits: Array) -> Array:
    wide: Array = (bits.astype(np.uint32) << 16).view(np.float32)
    return wide


def _narrow(bits: int, signed: bool) -> Callable[[Array], Array]:
    def unpack(packed: Array) -> Array:
        shifts = np.arange(0, 8, bits, dtype=np.uint8)
        values = ((packed[:, None] >> shifts) & (2**bits - 1)).reshape(-1).astype(np.int8)
        if signed:
            values = np.where(values >= 2 ** (bits - 1), values - 2**bits, values).astype(np.int8)
        return np.asarray(values)

    return unpack


_DECODERS: Final[dict[str, Callable[[Array], Array]]] = {
    "bfloat16": _half,
    "bool": lambda values: values != 0,
    "uint4": _narrow(4, False), "int4": _narrow(4, True),
    "uint2": _narrow(2, False), "int2": _narrow(2, True),
}  # fmt: skip


@dataclass
class Storage:
    """Reads the constants of one file; what cannot be read, though its shape can, is noted in ``faults``."""

    path: Path
    elements: int = 0
    faults: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.external = ExternalData(self.path)

    def tensor(self, proto: Any, name: str | None = None) -> Tensor:
        """Return a constant; raises UserError where what is stored contradicts what is claimed."""
        title = clean_name(text(proto.name) if name is None else name)
        dtype = TYPE_WORDS.get(proto.data_type, "")
        shape = self._shape(proto, title)
        stored = Stored(dtype or "unknown", (prod(shape) * TYPE_BITS.get(dtype, 0) + 7) // 8)
        value = self._value(proto, title, dtype, shape, stored.bytes)
        return Tensor(title, shape, dtype, value=value, stored=stored)

    def _shape(self, proto: Any, name: str) -> Shape:
        if len(proto.dims) > MOST_AXES:
            self._refuse(name, f"{len(proto.dims)} axes", f"at most {MOST_AXES}")
        shape = tuple(proto.dims)
        if min(shape, default=0) < 0:
            self._refuse(name, f"shape {list(shape)}", "no axis is negative")
        self.elements += prod(shape)
        if self.elements > MOST_VALUES:
            allowed = f"the constants of a model have at most {MOST_VALUES} numbers together"
            self._refuse(name, f"shape {list(shape)}", allowed)
        return shape

    def _value(self, proto: Any, name: str, dtype: str, shape: Shape, needed_bytes: int) -> Array | None:
        if dtype not in _PLAIN:
            self.faults.append(f"constant {name!r}: numbers of type {dtype or proto.data_type} are not read")
            return None
        if proto.HasField("segment"):
            self.faults.append(f"constant {name!r}: stored in segments, which are not read")
            return None
        if proto.data_location == 1:
            try:
                raw = self.external.read(proto.external_data, name, needed_bytes)
            except Missing as missing:
                self.faults.append(f"constant {name!r}: its numbers are in {missing}, which is not there")
                return None
            return self._decoded(raw, dtype, shape)
        if proto.HasField("raw_data"):
            return self._raw(proto.raw_data, name, dtype, shape, needed_bytes)
        return self._listed(proto, name, dtype, shape)

    def _raw(self, raw: bytes, name: str, dtype: str, shape: Shape, needed_bytes: int) -> Array:
        if len(raw) != needed_bytes:
            self._refuse(name, f"{len(raw)} bytes", f"{dtype} of shape {list(shape)} takes {needed_bytes}")
        return self._decoded(raw, dtype, shape)

    def _decoded(self, raw: bytes, dtype: str, shape: Shape) -> Array:
        values: Array = np.frombuffer(raw, dtype=_PLAIN[dtype])
        decode = _DECODERS.get(dtype)
        return (decode(values) if decode else values)[: prod(shape)].reshape(shape)

    def _listed(self, proto: Any, name: str, dtype: str, shape: Shape) -> Array | None:
        numbers = getattr(proto, _FIELDS.get(dtype, "int32_data"))
        count, bits = prod(shape), TYPE_BITS[dtype]
        packed = -(-count * bits // 8) if bits < 8 else count
        if not len(numbers) and count:
            self.faults.append(f"constant {name!r}: the file holds its shape without its numbers")
            return None
        if len(numbers) != packed:
            self._refuse(name, f"{len(numbers)} numbers", f"shape {list(shape)} needs {packed}")
        values = self._narrowed(np.array(numbers, dtype=_wide(dtype)), name, dtype)
        decode = _DECODERS.get(dtype)
        return (decode(values) if decode else values)[:count].reshape(shape)

    def _narrowed(self, values: Array, name: str, dtype: str) -> Array:
        """Bring numbers of a wider field to their own type; half floats stand there as their bits."""
        if dtype == "float16":
            return values.astype(np.uint16).view(np.float16)
        if dtype in ("float32", "float64"):
            return values
        narrow = np.dtype(_PLAIN[dtype])
        bounds = np.iinfo(narrow)
        if values.size and not bounds.min <= int(values.min()) <= int(values.max()) <= bounds.max:
            self._refuse(name, f"numbers from {values.min()} to {values.max()}", f"its type is {dtype}")
        return values.astype(narrow)

    def _refuse(self, name: str, found: str, allowed: str) -> NoReturn:
        raise UserError(Problem(str(self.path), f"constant {name}", found, allowed))


def _wide(dtype: str) -> str:
    return {"float32": "<f4", "float64": "<f8", "uint64": "<u8", "uint32": "<u8"}.get(dtype, "<i8")

"""The flatbuffer of a TFLite file taken apart into plain records, with every offset and length checked.

The Python package of the schema has accessors and no verifier: an offset that leads out of the file raises
whatever decoding raises there, and slices that reach past the end come back short. Here both are one error.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from dse.errors import Problem, UserError
from dse.workload.model.limits import MOST_AXES
from dse.workload.tflite.options import OPTIONS
from dse.workload.tflite.sparse import Level, Sparsity

IDENTIFIER: Final = b"TFL3"
MOST_TENSORS: Final = 2**16
MOST_OPERATORS: Final = 10_000
"""Each takes about a tenth of a millisecond to read."""

MOST_OPERANDS: Final = 4096
"""Inputs or outputs of one operator."""

MOST_EDGES: Final = 8 * MOST_OPERATORS
"""Inputs and outputs of all operators together."""

MOST_SCALES: Final = 2**22
"""Quantisation scales of all tensors together."""

NO_TENSOR: Final = -1


class Damaged(ValueError):
    """The file claims what it cannot hold."""


@dataclass(frozen=True, eq=False)
class RawQuantisation:
    """Quantisation as the file has it, before anything is believed."""

    scale: NDArray[np.float32]
    zero_point: NDArray[np.int64]
    axis: int
    affine: bool


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor of the graph: ``shape`` with its batch axis, ``signature`` with -1 where it is dynamic."""

    index: int
    name: str
    type: int
    shape: tuple[int, ...]
    signature: tuple[int, ...]
    data: NDArray[np.uint8] | None
    quantisation: RawQuantisation | None
    sparse: Sparsity | None
    variable: bool


@dataclass(frozen=True, eq=False)
class Operator:
    """An operator: ``kind`` is the schema's word, or the custom code behind ``CUSTOM:``.

    ``inputs`` and ``outputs`` are indices of tensors, -1 for an input that is left out. ``options`` is None
    where the file has none of the kind that belongs to the operator.
    """

    index: int
    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Any] | None


@dataclass(frozen=True, eq=False)
class Graph:
    """The first subgraph of a file, with what stands around it."""

    tensors: Mapping[int, Tensor]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    description: str
    notes: tuple[str, ...]


class _Bytes(bytes):
    """Bytes whose slices never come back short."""

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice) and (key.stop or 0) > len(self):
            raise Damaged(f"a text ends {key.stop - len(self)} bytes behind the file")
        return super().__getitem__(key)


_DECODING: Final = (struct.error, IndexError, TypeError, ValueError, OverflowError, AssertionError)


@contextmanager
def _one_error(file: str) -> Iterator[None]:
    try:
        yield
    except Damaged as error:
        raise UserError(Problem(file, "", str(error), "the file is damaged, or not a TFLite model")) from None
    except _DECODING:
        found = "an offset or a length in it leads out of the file"
        raise UserError(Problem(file, "", found, "the file is damaged, or not a TFLite model")) from None


def read_graph(data: bytes, file: str) -> Graph:
    """Return the first subgraph of the flatbuffer ``data``.

    Raises UserError, naming ``file``, where offsets, lengths or indices contradict the file.
    """
    with _one_error(file):
        if len(data) < 8:
            raise Damaged(f"{len(data)} bytes")
        return _Reader(_Bytes(data)).graph()


def _text(value: bytes | None) -> str:
    return (value or b"").decode("utf-8", "replace")


def _numbers(table: Any, name: str, most: int) -> tuple[int, ...]:
    return tuple(cast("list[int]", _array(table, name, most).tolist()))


def _array(table: Any, name: str, most: int) -> NDArray[Any]:
    """View a vector of numbers; ``most`` bounds it before anything is copied."""
    found = getattr(table, f"{name}AsNumpy")()
    if isinstance(found, int):  # the accessor's word for no vector
        return np.empty(0, dtype=np.int64)
    if len(found) > most:
        raise Damaged(f"{name} claims {len(found)} entries")
    return cast("NDArray[Any]", found)


def _tables(table: Any, name: str, most: int) -> int:
    length: int = getattr(table, f"{name}Length")()
    if length > most:
        raise Damaged(f"{name} claims {length} entries, more than {most}")
    return length


class _Reader:
    def __init__(self, data: _Bytes) -> None:
        import tflite

        self.schema: Any = tflite
        self.data = data
        self.notes: list[str] = []
        self.scales = 0
        self.edges = 0
        self.model = tflite.Model.GetRootAs(data, 0)
        self.buffers = _tables(self.model, "Buffers", MOST_TENSORS)
        self.builtins = {
            code: name for name, code in vars(tflite.BuiltinOperator).items() if not name.startswith("_")
        }

    def graph(self) -> Graph:
        subgraphs = _tables(self.model, "Subgraphs", MOST_OPERATORS)
        if not subgraphs:
            raise Damaged("no graph in it")
        self._note_what_lacks(subgraphs)
        main = self.model.Subgraphs(0)
        self.tensor_count = _tables(main, "Tensors", MOST_TENSORS)
        operators = self._operators(main)
        inputs = self._indices(main, "Inputs", optional=False)
        outputs = self._indices(main, "Outputs", optional=False)
        used = {*inputs, *outputs, *(i for item in operators for i in (*item.inputs, *item.outputs))}
        tensors = {index: self._tensor(main, index) for index in sorted(used - {NO_TENSOR})}
        description = _text(self.model.Description())
        return Graph(tensors, operators, inputs, outputs, description, tuple(self.notes))

    def _note_what_lacks(self, subgraphs: int) -> None:
        if self.data[4:8] != IDENTIFIER:
            self.notes.append("the file lacks the identifier TFL3: interpreters refuse it")
        if self.model.Version() != 3:
            self.notes.append(f"schema version {self.model.Version()} in place of 3: interpreters refuse it")
        if not self.buffers:
            self.notes.append("the file has no buffers: interpreters refuse it, and there are no weights")
        if subgraphs > 1:
            names = [_text(self.model.Subgraphs(i).Name()) or f"#{i}" for i in range(1, min(subgraphs, 6))]
            more = ", ..." if subgraphs > 6 else ""
            self.notes.append(
                f"{subgraphs - 1} subgraphs besides the first are left out: {', '.join(names)}{more}"
            )

    # --- operators ---

    def _operators(self, main: Any) -> tuple[Operator, ...]:
        codes = self._codes()
        count = _tables(main, "Operators", MOST_OPERATORS)
        return tuple(self._operator(main.Operators(i), i, codes) for i in range(count))

    def _codes(self) -> list[str]:
        count = _tables(self.model, "OperatorCodes", 4096)
        return [self._code(self.model.OperatorCodes(i)) for i in range(count)]

    def _code(self, code: Any) -> str:
        """Word of an operator code; files older than 2020 have the narrow field alone."""
        number = max(code.DeprecatedBuiltinCode(), code.BuiltinCode())
        name = self.builtins.get(number, f"BUILTIN_{number}")
        return f"CUSTOM:{_text(code.CustomCode())}" if name == "CUSTOM" else name

    def _operator(self, operator: Any, index: int, codes: list[str]) -> Operator:
        code = operator.OpcodeIndex()
        if code >= len(codes):
            raise Damaged(f"operator {index} has the code {code} of {len(codes)}")
        inputs = self._indices(operator, "Inputs", optional=True)
        outputs = self._indices(operator, "Outputs", optional=False)
        self.edges += len(inputs) + len(outputs)
        if self.edges > MOST_EDGES:
            raise Damaged(f"the operators claim more than {MOST_EDGES} inputs and outputs")
        return Operator(index, codes[code], inputs, outputs, self._options(operator, codes[code]))

    def _indices(self, table: Any, name: str, *, optional: bool) -> tuple[int, ...]:
        indices = _numbers(table, name, MOST_OPERANDS)
        least = NO_TENSOR if optional else 0
        for index in indices:
            if not least <= index < self.tensor_count:
                raise Damaged(f"{name} name tensor {index} of {self.tensor_count}")
        return indices

    def _options(self, operator: Any, kind: str) -> Mapping[str, Any] | None:
        if kind not in OPTIONS:
            return {}
        union, fields = OPTIONS[kind]
        if operator.BuiltinOptionsType() != getattr(self.schema.BuiltinOptions, union):
            return None
        found = operator.BuiltinOptions()
        if found is None:
            return None
        table = getattr(self.schema, union)()
        table.Init(found.Bytes, found.Pos)
        return {
            name: _numbers(table, name, MOST_AXES) if many else getattr(table, name)()
            for name, many in fields.items()
        }

    # --- tensors ---

    def _tensor(self, main: Any, index: int) -> Tensor:
        tensor = main.Tensors(index)
        shape = _numbers(tensor, "Shape", MOST_AXES)
        if min(shape, default=0) < 0:
            raise Damaged(f"tensor {index} has the shape {list(shape)}")
        signature = _numbers(tensor, "ShapeSignature", MOST_AXES)
        if signature and len(signature) != len(shape):
            raise Damaged(f"tensor {index} has the shape {list(shape)} and the signature {list(signature)}")
        return Tensor(
            index, _text(tensor.Name()), tensor.Type(), shape, signature or shape,
            self._buffer(tensor.Buffer(), index), self._quantisation(tensor.Quantization()),
            self._sparsity(tensor.Sparsity()), tensor.IsVariable(),
        )  # fmt: skip

    def _buffer(self, number: int, tensor: int) -> NDArray[np.uint8] | None:
        """View the bytes of a buffer: inside the flatbuffer, or behind it where the file says so."""
        if number == 0 and not self.buffers:
            return None
        if number >= self.buffers:
            raise Damaged(f"tensor {tensor} reads buffer {number} of {self.buffers}")
        buffer = self.model.Buffers(number)
        data = _array(buffer, "Data", len(self.data))
        if len(data):
            return cast("NDArray[np.uint8]", data)
        start, size = buffer.Offset(), buffer.Size()
        if start <= 1 or not size:
            return None
        if start + size > len(self.data):
            raise Damaged(f"buffer {number} claims bytes {start} to {start + size} of {len(self.data)}")
        return np.frombuffer(self.data, dtype=np.uint8, count=size, offset=start)

    def _sparsity(self, found: Any) -> Sparsity | None:
        if found is None:
            return None
        levels = range(_tables(found, "DimMetadata", 2 * MOST_AXES))
        return Sparsity(
            _numbers(found, "TraversalOrder", 2 * MOST_AXES), _numbers(found, "BlockMap", MOST_AXES),
            tuple(self._level(found.DimMetadata(level)) for level in levels),
        )  # fmt: skip

    def _level(self, found: Any) -> Level:
        if found.Format() == self.schema.DimensionType.DENSE:
            return Level(max(found.DenseSize(), 0))
        return Level(0, self._listed(found, "ArraySegments"), self._listed(found, "ArrayIndices"))

    def _listed(self, found: Any, name: str) -> NDArray[Any]:
        """View a list of places, of whichever of the schema's three widths."""
        words = {code: word for word, code in vars(self.schema.SparseIndexVector).items() if word[0] != "_"}
        word, table = words.get(getattr(found, f"{name}Type")(), "NONE"), getattr(found, name)()
        if word == "NONE" or table is None:
            return np.empty(0, dtype=np.int64)
        vector = getattr(self.schema, word)()
        vector.Init(table.Bytes, table.Pos)
        return _array(vector, "Values", len(self.data))

    def _quantisation(self, found: Any) -> RawQuantisation | None:
        scale = _array(found, "Scale", MOST_SCALES) if found is not None else ()
        if found is None or not (len(scale) or found.DetailsType()):
            return None
        scale = np.asarray(scale)
        zero_point = _array(found, "ZeroPoint", MOST_SCALES)
        self.scales += len(scale) + len(zero_point)
        if self.scales > MOST_SCALES:
            raise Damaged(f"the tensors claim more than {MOST_SCALES} scales")
        return RawQuantisation(
            scale.astype(np.float32), zero_point.astype(np.int64), found.QuantizedDimension(),
            found.DetailsType() == 0,
        )  # fmt: skip

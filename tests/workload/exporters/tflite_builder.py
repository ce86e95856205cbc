"""Builds .tflite files tensor by tensor and operator by operator, with the builders of the schema package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
import tflite
from numpy.typing import NDArray

TYPES = {
    "float32": tflite.TensorType.FLOAT32, "float16": tflite.TensorType.FLOAT16,
    "int32": tflite.TensorType.INT32, "int64": tflite.TensorType.INT64, "int16": tflite.TensorType.INT16,
    "int8": tflite.TensorType.INT8, "uint8": tflite.TensorType.UINT8, "int4": tflite.TensorType.INT4,
    "bool": tflite.TensorType.BOOL, "resource": tflite.TensorType.RESOURCE,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Scheme:
    """Quantisation parameters as they are written."""

    scale: Sequence[float]
    zero_point: Sequence[int] = (0,)
    axis: int = 0
    details: int = 0


@dataclass(frozen=True)
class Sparse:
    """How a tensor is stored sparsely: per level a size, or the ends of segments and their indices."""

    order: Sequence[int]
    levels: Sequence[int | tuple[Sequence[int], Sequence[int]]]
    blocks: Sequence[int] = ()


@dataclass
class _Tensor:
    name: str
    shape: Sequence[int]
    type: str
    data: bytes | None
    scheme: Scheme | None
    signature: Sequence[int] | None
    sparse: Sparse | None
    variable: bool
    buffer: int | None


@dataclass
class _Operator:
    kind: str
    inputs: Sequence[int]
    outputs: Sequence[int]
    options: str
    fields: Mapping[str, Any]


@dataclass
class TfliteBuilder:
    """A graph on its way into a file; ``tensor`` and ``operator`` return indices of tensors."""

    tensors: list[_Tensor] = field(default_factory=list)
    operators: list[_Operator] = field(default_factory=list)

    def tensor(
        self, name: str, shape: Sequence[int], type_: str = "float32",
        data: NDArray[Any] | bytes | None = None, scheme: Scheme | None = None, *,
        signature: Sequence[int] | None = None, sparse: Sparse | None = None, variable: bool = False,
        buffer: int | None = None,
    ) -> int:  # fmt: skip
        """Add a tensor; ``data`` is written as it is, ``buffer`` overrides the number of its buffer."""
        raw = data.tobytes() if isinstance(data, np.ndarray) else data
        self.tensors.append(_Tensor(name, shape, type_, raw, scheme, signature, sparse, variable, buffer))
        return len(self.tensors) - 1

    def constant(self, name: str, data: NDArray[Any], scheme: Scheme | None = None) -> int:
        """Add a constant tensor of the array's own type and shape."""
        return self.tensor(name, data.shape, data.dtype.name, data, scheme)

    def ints(self, name: str, numbers: Sequence[int]) -> int:
        """Add a constant list of whole numbers: a shape, axes, pads."""
        return self.constant(name, np.array(numbers, dtype=np.int32))

    def operator(
        self, kind: str, inputs: Sequence[int], output: int | Sequence[int], options: str = "", **fields: Any
    ) -> int:
        """Add an operator by the schema's word, or ``CUSTOM:code``, with fields of its options table."""
        outputs = [output] if isinstance(output, int) else list(output)
        self.operators.append(_Operator(kind, inputs, outputs, options, fields))
        return outputs[0] if outputs else -1

    def finish(
        self, inputs: Sequence[int], outputs: Sequence[int], *, description: str = "written by a test",
        identifier: bool = True, buffers: bool = True, more_subgraphs: Sequence[str] = (), version: int = 3,
    ) -> bytes:  # fmt: skip
        """Return the bytes of the file."""
        flat = flatbuffers.Builder(1024)
        contents: list[bytes | None] = [None]
        tensors = [self._tensor(flat, tensor, contents) for tensor in self.tensors]
        kinds = list(dict.fromkeys(operator.kind for operator in self.operators))
        operators = [self._operator(flat, operator, kinds) for operator in self.operators]
        main = _subgraph(flat, "main", tensors, operators, inputs, outputs)
        others = [_subgraph(flat, name, [], [], [], []) for name in more_subgraphs]
        codes = [_code(flat, kind) for kind in kinds]
        written = _tables(flat, [_buffer(flat, data) for data in contents]) if buffers else 0
        parts = (_tables(flat, codes), _tables(flat, [main, *others]), flat.CreateString(description))
        tflite.ModelStart(flat)
        tflite.ModelAddVersion(flat, version)
        tflite.ModelAddOperatorCodes(flat, parts[0])
        tflite.ModelAddSubgraphs(flat, parts[1])
        tflite.ModelAddDescription(flat, parts[2])
        if written:
            tflite.ModelAddBuffers(flat, written)
        flat.Finish(tflite.ModelEnd(flat), b"TFL3" if identifier else None)
        return bytes(flat.Output())

    def _tensor(self, flat: Any, tensor: _Tensor, contents: list[bytes | None]) -> int:
        buffer = 0
        if tensor.data is not None:
            contents.append(tensor.data)
            buffer = len(contents) - 1
        buffer = buffer if tensor.buffer is None else tensor.buffer
        name, shape = flat.CreateString(tensor.name), _numbers(flat, tensor.shape, np.int32)
        signature = _numbers(flat, tensor.signature, np.int32) if tensor.signature is not None else 0
        scheme = _scheme(flat, tensor.scheme) if tensor.scheme is not None else 0
        sparsity = _sparsity(flat, tensor.sparse) if tensor.sparse is not None else 0
        tflite.TensorStart(flat)
        tflite.TensorAddShape(flat, shape)
        tflite.TensorAddType(flat, TYPES[tensor.type])
        tflite.TensorAddBuffer(flat, buffer)
        tflite.TensorAddName(flat, name)
        if scheme:
            tflite.TensorAddQuantization(flat, scheme)
        if signature:
            tflite.TensorAddShapeSignature(flat, signature)
        if sparsity:
            tflite.TensorAddSparsity(flat, sparsity)
        tflite.TensorAddIsVariable(flat, tensor.variable)
        return int(tflite.TensorEnd(flat))

    def _operator(self, flat: Any, operator: _Operator, kinds: list[str]) -> int:
        inputs, outputs = (_numbers(flat, part, np.int32) for part in (operator.inputs, operator.outputs))
        options = _options(flat, operator.options, operator.fields) if operator.options else 0
        tflite.OperatorStart(flat)
        tflite.OperatorAddOpcodeIndex(flat, kinds.index(operator.kind))
        tflite.OperatorAddInputs(flat, inputs)
        tflite.OperatorAddOutputs(flat, outputs)
        if options:
            tflite.OperatorAddBuiltinOptionsType(flat, getattr(tflite.BuiltinOptions, operator.options))
            tflite.OperatorAddBuiltinOptions(flat, options)
        return int(tflite.OperatorEnd(flat))


def _numbers(flat: Any, numbers: Sequence[float], dtype: Any) -> int:
    return int(flat.CreateNumpyVector(np.array(numbers, dtype=dtype)))


def _tables(flat: Any, tables: Sequence[int]) -> int:
    flat.StartVector(4, len(tables), 4)
    for table in reversed(tables):
        flat.PrependUOffsetTRelative(table)
    return int(flat.EndVector())


def _options(flat: Any, table: str, fields: Mapping[str, Any]) -> int:
    values = {
        name: flat.CreateString(value)
        if isinstance(value, str)
        else _numbers(flat, value, np.int32)
        if isinstance(value, tuple | list)
        else value
        for name, value in fields.items()
    }
    getattr(tflite, f"{table}Start")(flat)
    for name, value in values.items():
        getattr(tflite, f"{table}Add{name}")(flat, value)
    return int(getattr(tflite, f"{table}End")(flat))


def _scheme(flat: Any, scheme: Scheme) -> int:
    scale, zero_point = (
        _numbers(flat, scheme.scale, np.float32),
        _numbers(flat, scheme.zero_point, np.int64),
    )
    tflite.QuantizationParametersStart(flat)
    tflite.QuantizationParametersAddScale(flat, scale)
    tflite.QuantizationParametersAddZeroPoint(flat, zero_point)
    tflite.QuantizationParametersAddQuantizedDimension(flat, scheme.axis)
    tflite.QuantizationParametersAddDetailsType(flat, scheme.details)
    return int(tflite.QuantizationParametersEnd(flat))


def _sparsity(flat: Any, sparse: Sparse) -> int:
    levels = [_level(flat, level) for level in sparse.levels]
    parts = (
        _tables(flat, levels),
        *(_numbers(flat, part, np.int32) for part in (sparse.order, sparse.blocks)),
    )
    tflite.SparsityParametersStart(flat)
    tflite.SparsityParametersAddDimMetadata(flat, parts[0])
    tflite.SparsityParametersAddTraversalOrder(flat, parts[1])
    tflite.SparsityParametersAddBlockMap(flat, parts[2])
    return int(tflite.SparsityParametersEnd(flat))


def _level(flat: Any, level: int | tuple[Sequence[int], Sequence[int]]) -> int:
    lists = [] if isinstance(level, int) else [_places(flat, part) for part in level]
    tflite.DimensionMetadataStart(flat)
    if isinstance(level, int):
        tflite.DimensionMetadataAddDenseSize(flat, level)
    for name, (kind, table) in zip(("Segments", "Indices"), lists, strict=False):
        tflite.DimensionMetadataAddFormat(flat, tflite.DimensionType.SPARSE_CSR)
        getattr(tflite, f"DimensionMetadataAddArray{name}Type")(flat, kind)
        getattr(tflite, f"DimensionMetadataAddArray{name}")(flat, table)
    return int(tflite.DimensionMetadataEnd(flat))


def _places(flat: Any, numbers: Sequence[int]) -> tuple[int, int]:
    """Write whole numbers in the narrowest of the schema's three lists."""
    most = max(numbers, default=0)
    word, dtype = ("Uint8Vector", np.uint8) if most < 256 else ("Uint16Vector", np.uint16)
    values = _numbers(flat, numbers, dtype)
    getattr(tflite, f"{word}Start")(flat)
    getattr(tflite, f"{word}AddValues")(flat, values)
    return getattr(tflite.SparseIndexVector, word), int(getattr(tflite, f"{word}End")(flat))


def _subgraph(
    flat: Any, name: str, tensors: Sequence[int], operators: Sequence[int], inputs: Sequence[int],
    outputs: Sequence[int],
) -> int:  # fmt: skip
    tables = [_tables(flat, part) for part in (tensors, operators)]
    ends = [_numbers(flat, part, np.int32) for part in (inputs, outputs)]
    text = flat.CreateString(name)
    tflite.SubGraphStart(flat)
    tflite.SubGraphAddTensors(flat, tables[0])
    tflite.SubGraphAddInputs(flat, ends[0])
    tflite.SubGraphAddOutputs(flat, ends[1])
    tflite.SubGraphAddOperators(flat, tables[1])
    tflite.SubGraphAddName(flat, text)
    return int(tflite.SubGraphEnd(flat))


def _code(flat: Any, kind: str) -> int:
    name, _, custom = kind.partition(":")
    number = getattr(tflite.BuiltinOperator, name)
    text = flat.CreateString(custom) if custom else 0
    tflite.OperatorCodeStart(flat)
    tflite.OperatorCodeAddDeprecatedBuiltinCode(flat, min(number, 127))
    tflite.OperatorCodeAddBuiltinCode(flat, number)
    tflite.OperatorCodeAddVersion(flat, 1)
    if text:
        tflite.OperatorCodeAddCustomCode(flat, text)
    return int(tflite.OperatorCodeEnd(flat))


def _buffer(flat: Any, data: bytes | None) -> int:
    content = _aligned(flat, data) if data is not None else 0
    tflite.BufferStart(flat)
    if content:
        tflite.BufferAddData(flat, content)
    return int(tflite.BufferEnd(flat))


def _aligned(flat: Any, data: bytes) -> int:
    """Write bytes as interpreters want them: on a multiple of 16 from the end of the file."""
    flat.StartVector(1, len(data), 16)
    flat.head -= len(data)
    flat.Bytes[flat.head : flat.head + len(data)] = data
    return int(flat.EndVector())

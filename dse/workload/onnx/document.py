"""An ONNX protobuf as plain values: nodes with their attributes, claims about shapes, initialisers.

Strings that are not UTF-8 are read with replacement marks; counts are limited before anything is walked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from dse.errors import Problem, UserError
from dse.workload.model.limits import MOST_AXES, MOST_NODES, clean_name
from dse.workload.onnx.tensors import TYPE_WORDS
from dse.workload.onnx.wire import require_parsable

EXTRA: Final = "pip install 'tinyml-dse[onnx]'"

MOST_ENTRIES: Final = 16 * MOST_NODES
"""Names, attributes and shapes of one graph together."""

DEEPEST: Final = 8
"""Graphs inside graphs."""


@dataclass(frozen=True, eq=False)
class Claim:
    """What the file says of a tensor: its type and its dims, where an open one is its name or None."""

    name: str
    dtype: str
    dims: tuple[int | str | None, ...] | None


@dataclass(frozen=True, eq=False)
class FileNode:
    """One node of the file. ``captured``: tensors of the outer graph that graphs in its attributes read."""

    name: str
    op: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    captured: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The operation for people, with its domain where it is not ONNX's own."""
        return clean_name(f"{self.domain}::{self.op}" if self.domain else self.op)

    @property
    def title(self) -> str:
        """The operation and the name of the node, for messages."""
        return f"{self.label} {clean_name(self.name or next(filter(None, self.outputs), ''))!r}"


@dataclass(frozen=True, eq=False)
class FileGraph:
    """The main graph of a file."""

    name: str
    producer: str
    opsets: Mapping[str, int]
    nodes: tuple[FileNode, ...]
    inputs: tuple[Claim, ...]
    outputs: tuple[Claim, ...]
    claims: Mapping[str, Claim]
    initialisers: Sequence[Any]
    sparse: tuple[Claim, ...]
    asides: tuple[str, ...] = field(default=())

    @property
    def opset(self) -> int:
        """Version of ONNX's own operators; the newest known where the file names none."""
        return self.opsets.get("", 23)


def parse(file: str, data: bytes) -> FileGraph:
    """Return the graph of an ONNX file; raises UserError where ``data`` is none."""
    require_parsable(file, data)
    try:
        from onnx import ModelProto
    except ImportError:
        raise UserError(Problem(file, "", "reading ONNX files needs the package onnx", EXTRA)) from None
    model = ModelProto()
    try:
        model.ParseFromString(data)
    except Exception:  # protobuf's own DecodeError, whose home depends on its version
        raise UserError(Problem(file, "", "not an ONNX model: its protobuf is malformed", "")) from None
    _require_counts(file, model.graph)
    return _graph(model)


def _require_counts(file: str, graph: Any) -> None:
    if not graph.node:
        raise UserError(Problem(file, "graph", "no operations", "an ONNX model with a graph"))
    if len(graph.node) > MOST_NODES:
        found = f"{len(graph.node)} operations"
        raise UserError(Problem(file, "graph", found, f"at most {MOST_NODES}"))
    entries = sum(map(len, (graph.value_info, graph.input, graph.output, graph.initializer)))
    for node in graph.node:
        entries += len(node.input) + len(node.output) + len(node.attribute)
    if entries > MOST_ENTRIES:
        raise UserError(Problem(file, "graph", f"{entries} names and attributes", f"at most {MOST_ENTRIES}"))


def _graph(model: Any) -> FileGraph:
    graph, captures = model.graph, _Captures()
    inputs, outputs = ([_claim(info) for info in infos] for infos in (graph.input, graph.output))
    claims = [*map(_claim, graph.value_info), *outputs, *inputs]
    return FileGraph(
        name=text(graph.name), producer=f"{text(model.producer_name)} {text(model.producer_version)}".strip(),
        opsets=_opsets(model.opset_import), nodes=tuple(_node(node, captures) for node in graph.node),
        inputs=tuple(inputs), outputs=tuple(outputs), claims={claim.name: claim for claim in claims},
        initialisers=graph.initializer, sparse=tuple(_sparse(graph)), asides=tuple(_asides(model)),
    )  # fmt: skip


def _opsets(imports: Iterable[Any]) -> dict[str, int]:
    found = {text(entry.domain): entry.version for entry in imports}
    return {"" if domain == "ai.onnx" else domain: version for domain, version in found.items()}


def _asides(model: Any) -> Iterable[str]:
    if not model.opset_import:
        yield "the file names no operator set; its operations are read as those of version 23"
    if model.training_info:
        yield "training_info (how the file would be trained) is left aside"
    if model.functions:
        yield f"{len(model.functions)} functions of the file are not looked into"


def _sparse(graph: Any) -> Iterable[Claim]:
    for entry in graph.sparse_initializer:
        dims = tuple(entry.dims[:MOST_AXES])
        yield Claim(text(entry.values.name), TYPE_WORDS.get(entry.values.data_type, ""), dims)


def text(value: str | bytes) -> str:
    """Return a string of the file, whatever its bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _claim(info: Any) -> Claim:
    kind = info.type.tensor_type
    dtype = TYPE_WORDS.get(kind.elem_type, "") if info.type.HasField("tensor_type") else ""
    if not kind.HasField("shape") or len(kind.shape.dim) > MOST_AXES:
        return Claim(text(info.name), dtype, None)
    return Claim(text(info.name), dtype, tuple(_dim(dim) for dim in kind.shape.dim))


def _dim(dim: Any) -> int | str | None:
    if dim.HasField("dim_param"):
        return text(dim.dim_param).strip() or None
    return int(dim.dim_value) if dim.dim_value > 0 else None


# --- nodes ---


def _node(node: Any, captures: _Captures) -> FileNode:
    domain = text(node.domain)
    return FileNode(
        name=text(node.name), op=text(node.op_type), domain="" if domain == "ai.onnx" else domain,
        inputs=tuple(map(text, node.input)), outputs=tuple(map(text, node.output)),
        attributes={text(entry.name): _attribute(entry) for entry in node.attribute},
        captured=captures.of_node(node),
    )  # fmt: skip


_SINGLE: Final = {1: "f", 2: "i", 3: "s", 4: "t"}
_LISTS: Final = {6: "floats", 7: "ints", 8: "strings"}
_LONGEST_LIST: Final = 2**20


def _attribute(entry: Any) -> Any:
    """Return the value by its type: numbers, text, tuples of them, or the message of a tensor; else None."""
    kind = entry.type or _guessed(entry)
    if kind in _LISTS:
        values = getattr(entry, _LISTS[kind])
        if len(values) > _LONGEST_LIST:
            return None
        return tuple(map(text, values)) if kind == 8 else tuple(values)
    if kind not in _SINGLE:
        return None
    value = getattr(entry, _SINGLE[kind])
    return text(value) if kind == 3 else value


def _guessed(entry: Any) -> int:
    """Type of an attribute of a file from before types were written: the field that is there."""
    for kind, name in _SINGLE.items():
        if entry.HasField(name):
            return kind
    return next((kind for kind, name in _LISTS.items() if len(getattr(entry, name))), 0)


# --- graphs inside nodes ---


class _Captures:
    """Finds what graphs inside nodes read from outside, within a budget of names for the whole file."""

    def __init__(self) -> None:
        self.left = MOST_ENTRIES

    def of_node(self, node: Any, depth: int = DEEPEST) -> tuple[str, ...]:
        """Tensors that the graphs inside a node read and do not make themselves."""
        found: dict[str, None] = {}
        for entry in node.attribute:
            for graph in ([entry.g] if entry.HasField("g") else []) + list(entry.graphs[:MOST_AXES]):
                found |= dict.fromkeys(self._of_graph(graph, depth))
        return tuple(found)

    def _of_graph(self, graph: Any, depth: int) -> list[str]:
        size = sum(map(len, (graph.input, graph.initializer, graph.output, graph.node)))
        self.left -= size + sum(
            len(node.input) + len(node.output) for node in graph.node[: max(self.left, 0)]
        )
        if depth == 0 or self.left < 0:
            return []
        made = {text(entry.name) for entry in (*graph.input, *graph.initializer)}
        read: list[str] = []
        for node in graph.node:
            read += [text(name) for name in node.input if name] + list(self.of_node(node, depth - 1))
            made |= set(map(text, node.output))
        read += [text(entry.name) for entry in graph.output]
        return [name for name in dict.fromkeys(read) if name not in made]

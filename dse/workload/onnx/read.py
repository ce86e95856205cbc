"""From the path of an ONNX file to a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Final

from dse.errors import Problem, UserError
from dse.workload.base import Shape
from dse.workload.model.graph import INPUT_PREFIX, Model, ModelInput, Node
from dse.workload.model.limits import MOST_VALUES, clean_name, file_bytes
from dse.workload.onnx.axes import resolve
from dse.workload.onnx.document import Claim, FileGraph, FileNode, parse, text
from dse.workload.onnx.evaluate import Evaluator
from dse.workload.onnx.fuse import fused
from dse.workload.onnx.order import needed, ordered
from dse.workload.onnx.reading import Names, Reading
from dse.workload.onnx.storage import Storage
from dse.workload.onnx.tensors import TYPE_BITS, Stored, Tensor, per_sample

MOST_INPUTS: Final = 2000
MOST_FAULTS: Final = 100
MOST_PROBLEMS: Final = 20

_PARAMETER_PLACES: Final[Mapping[str, tuple[int, ...]]] = {
    "Conv": (1, 2), "ConvTranspose": (1, 2), "Gemm": (1, 2), "BatchNormalization": (1, 2, 3, 4),
    "LSTM": (1, 2, 3), "GRU": (1, 2, 3), "RNN": (1, 2, 3), "LayerNormalization": (1, 2),
    "InstanceNormalization": (1, 2), "GroupNormalization": (1, 2), "PRelu": (1,),
}  # fmt: skip
"""Operator -> inputs that are parameters of it."""

_TRAINING_DOMAINS: Final = ("ai.onnx.training", "ai.onnx.preview.training")


def read_onnx(path: Path, axes: Mapping[str, int]) -> Model:
    """Read an ONNX file; nothing is executed, and no file outside its folder is opened.

    Parameters
    ----------
    path: of the file; constants in external data lie in its folder.
    axes: size of each axis that the file leaves open, by its name; the batch is always one sample.

    Raises UserError, with every problem, where the file is no ONNX model, contradicts itself in its constants
    or its graph, exceeds the limits, or leaves an axis open that ``axes`` does not give. What can be read
    only in part is in ``Model.faults``.

    """
    file = str(path)
    data = file_bytes(path)
    size = len(data)
    graph = parse(file, data)
    del data
    storage = Storage(path)
    reading, nodes, inputs = _prepared(file, graph, axes, storage)
    for node in nodes:
        reading.node(node)
    return _model(path, reading, inputs, size, len(graph.nodes) - len(nodes))


def _prepared(
    file: str, graph: FileGraph, axes: Mapping[str, int], storage: Storage
) -> tuple[Reading, list[FileNode], list[Claim]]:
    held = _constants(file, graph, storage)
    bare = _parameters(graph, held)
    open_inputs = [claim for claim in graph.inputs if claim.name not in held and claim.name not in bare]
    if len(open_inputs) > MOST_INPUTS:
        raise UserError(Problem(file, "graph", f"{len(open_inputs)} inputs", f"at most {MOST_INPUTS}"))
    order = ordered(file, graph.nodes, {*held, *(claim.name for claim in graph.inputs)})
    nodes = needed(order, _outputs(graph))
    sizes = resolve(file, graph, open_inputs, axes)
    tensors = held | bare
    names = Names()
    for claim in open_inputs:
        name = names.new(claim.name)
        tensors[claim.name] = Tensor(
            name, sizes.shapes[claim.name], claim.dtype, sizes.batches[claim.name],
            producer=INPUT_PREFIX + name,
        )  # fmt: skip
    read = frozenset(name for node in nodes for name in (*node.inputs, *node.captured)) | set(_outputs(graph))
    reading = Reading(graph, sizes, Evaluator(storage), tensors, read)
    reading.input_names = {claim.name: tensors[claim.name].name for claim in open_inputs}
    return reading, nodes, open_inputs


def _constants(file: str, graph: FileGraph, storage: Storage) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    problems: list[Problem] = []
    names = Names()
    for proto in graph.initialisers:
        name = text(proto.name)
        try:
            found[name] = replace(storage.tensor(proto), name=names.new(name))
        except UserError as error:
            problems += error.problems
            if len(problems) >= MOST_PROBLEMS:
                break
    if problems:
        raise UserError(problems)
    for claim in graph.sparse:
        storage.faults.append(f"constant {clean_name(claim.name)!r}: sparse numbers are not read")
        found[claim.name] = _shape_alone(claim) or Tensor(clean_name(claim.name), None)
    return found


def _shape_alone(claim: Claim) -> Tensor | None:
    """A constant of which the file has type and shape."""
    sizes = claim.dims or ()
    shape: Shape = tuple(size for size in sizes if isinstance(size, int) and size > 0)
    if not sizes or len(shape) < len(sizes) or prod(shape) > MOST_VALUES:
        return None
    stored = Stored(claim.dtype or "float32", prod(shape) * TYPE_BITS.get(claim.dtype, 32) // 8)
    return Tensor(clean_name(claim.name), shape, claim.dtype, stored=stored)


def _parameters(graph: FileGraph, held: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Inputs that are parameters by the way they are read: the file has their shape and not their numbers."""
    yes: set[str] = set()
    no: set[str] = set()
    for node in graph.nodes:
        places = _PARAMETER_PLACES.get(node.op, ()) if not node.domain else None
        for place, name in enumerate(node.inputs):
            if places is not None and not node.op.endswith("Grad"):
                (yes if place in places else no).add(name)
    found = {}
    for claim in graph.inputs:
        if claim.name in yes - no and claim.name not in held:
            tensor = _shape_alone(claim)
            if tensor is not None:
                found[claim.name] = tensor
    return found


def _outputs(graph: FileGraph) -> list[str]:
    """Names of the outputs; where the file lists none, whatever nobody reads."""
    listed = [claim.name for claim in graph.outputs if claim.name]
    if listed:
        return listed
    read = {name for node in graph.nodes for name in (*node.inputs, *node.captured)}
    return [name for node in graph.nodes for name in node.outputs if name and name not in read]


# --- the model ---


def _model(path: Path, reading: Reading, inputs: Sequence[Claim], size: int, unread: int) -> Model:
    graph, outputs = reading.graph, []
    notes, faults = list(_notes(reading, unread)), list(_faults(reading))
    for name in _outputs(graph):
        tensor = reading.tensors.get(name)
        if tensor is None or tensor.producer is None:
            notes.append(f"output {clean_name(name)!r} is a constant")
        elif tensor.producer not in outputs:
            outputs.append(tensor.producer)
    nodes, renamed = fused(tuple(_quantised(reading)), frozenset(outputs))
    return Model(
        name=clean_name(graph.name or path.stem), file=str(path), format="onnx",
        producer=clean_name(graph.producer) if graph.producer else "",
        inputs=tuple(_input(reading, claim) for claim in inputs), nodes=nodes,
        outputs=tuple(renamed.get(name, name) for name in outputs),
        file_bytes=size + reading.evaluator.storage.external.taken_bytes, notes=tuple(notes),
        faults=tuple(faults),
    )  # fmt: skip


def _quantised(reading: Reading) -> Iterator[Node]:
    for node in reading.nodes.values():
        found = reading.quantisations.get(node.name)
        yield node if found is None else replace(node, quantisation=found)


def _input(reading: Reading, claim: Claim) -> ModelInput:
    name = reading.input_names[claim.name]
    shape = reading.sizes.shapes[claim.name]
    whole = None if shape is None else per_sample(shape, reading.sizes.batches[claim.name])
    return ModelInput(name, whole, reading.quantisations.get(INPUT_PREFIX + name))


def _notes(reading: Reading, unread: int) -> Iterator[str]:
    graph = reading.graph
    yield from graph.asides
    yield from reading.sizes.notes
    if graph.opset < 7:
        yield f"operator set {graph.opset} is older than 7 and read as if it were that"
    if reading.evaluator.evaluated:
        yield f"worked out while reading: {reading.evaluator.evaluated} operations on constants and shapes"
    if reading.dropped:
        counts = ", ".join(f"{count} {label}" for label, count in sorted(reading.dropped.items()))
        yield f"dropped, for they change no number: {counts}"
    if unread:
        yield f"{unread} operations are left out: no output depends on them"
    if any(node.domain in _TRAINING_DOMAINS or node.op.endswith("Grad") for node in graph.nodes):
        yield "a training graph: its gradients and updates are named, not read"


def _faults(reading: Reading) -> Iterator[str]:
    everything = [*reading.evaluator.storage.faults]
    for label, count in sorted(reading.unknown.items()):
        times = f" ({count} times)" if count > 1 else ""
        everything.append(f"operator {label}{times} is not known")
    everything += dict.fromkeys(reading.faults)
    for claim in reading.graph.inputs:
        if reading.sizes.shapes.get(claim.name, ()) is None:
            everything.append(f"input {clean_name(claim.name)!r} has no shape")
    yield from everything[:MOST_FAULTS]
    if len(everything) > MOST_FAULTS:
        yield f"... and {len(everything) - MOST_FAULTS} more"

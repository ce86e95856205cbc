"""Reads a .tflite file: its operators one after the other, then the idioms that they form together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from dse.errors import Problem, UserError
from dse.workload.base import Shape
from dse.workload.model import Model, ModelInput, Node
from dse.workload.model.graph import INPUT_PREFIX
from dse.workload.model.limits import clean_name, file_bytes
from dse.workload.tflite import convolutions, folding, matrices, moving, slicing, variables
from dse.workload.tflite.elementwise import ELEMENTWISE
from dse.workload.tflite.flat import NO_TENSOR, Graph, Operator, read_graph
from dse.workload.tflite.idioms import recognise
from dse.workload.tflite.nodes import Nodes, Shapeless
from dse.workload.tflite.stored import Unreadable
from dse.workload.tflite.tensors import settle_inputs

EXTRA: Final = "pip install 'tinyml-dse[tflite]'"

CONVERTERS: Final[Mapping[str, Callable[[Nodes, Operator], None]]] = {
    **ELEMENTWISE,
    "CONV_2D": convolutions.conv,
    "DEPTHWISE_CONV_2D": convolutions.depthwise_conv,
    "TRANSPOSE_CONV": convolutions.conv_transpose,
    "CUSTOM:Convolution2DTransposeBias": convolutions.conv_transpose_of_mediapipe,
    "AVERAGE_POOL_2D": convolutions.pool,
    "MAX_POOL_2D": convolutions.pool,
    "FULLY_CONNECTED": matrices.fully_connected,
    "BATCH_MATMUL": matrices.matmul,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": matrices.lstm,
    "UNIDIRECTIONAL_SEQUENCE_RNN": matrices.rnn,
    "RESHAPE": moving.reshape,
    "SQUEEZE": moving.squeeze,
    "EXPAND_DIMS": moving.expand_dims,
    "TRANSPOSE": moving.transpose,
    "CONCATENATION": moving.concatenation,
    "PACK": moving.pack,
    "UNPACK": moving.unpack,
    "PAD": moving.pad,
    "PADV2": moving.pad,
    "MIRROR_PAD": moving.pad,
    "SLICE": moving.slice_,
    "STRIDED_SLICE": slicing.strided_slice,
    "SPLIT": moving.split,
    "SPLIT_V": moving.split_v,
    "GATHER": moving.gather,
    "RESIZE_BILINEAR": moving.resize,
    "RESIZE_NEAREST_NEIGHBOR": moving.resize,
    "TILE": moving.tile,
    "BROADCAST_TO": moving.tile,
    "DEPTH_TO_SPACE": moving.blocks,
    "SPACE_TO_DEPTH": moving.blocks,
    "VAR_HANDLE": variables.handle,
    "READ_VARIABLE": variables.read,
    "ASSIGN_VARIABLE": variables.assign,
    "CALL_ONCE": variables.initialise,
    "QUANTIZE": folding.pass_through,
    "DEQUANTIZE": folding.pass_through,
    "CAST": folding.cast,
}
"""Operator of the schema -> what reads it; any other becomes an unknown node under its own name."""


def read_tflite(path: Path, axes: Mapping[str, int]) -> Model:
    """Return what a TFLite file says: its first graph, without the batch axis, in NHWC.

    Parameters
    ----------
    path: the file.
    axes: sizes of dynamic axes, as ``inputname.axisnumber`` with the batch as axis 0; the batch itself is 1.

    Raises UserError where the file is damaged, too large, or has a dynamic axis that ``axes`` leaves out.
    Numbers and operators that cannot be read are faults of the model that is returned.
    Source: schema of TensorFlow Lite, version 3 (tensorflow/compiler/mlir/lite/schema/schema.fbs).

    """
    data, file = file_bytes(path), str(path)
    try:
        graph = read_graph(data, file)
    except ImportError:
        raise UserError(Problem(file, "", "TFLite files are read with the package tflite", EXTRA)) from None
    check_order(graph, file)
    nodes = Nodes(graph, file)
    inputs = settle_inputs(nodes, axes)
    for operator in graph.operators:
        _convert(nodes, operator)
    inputs = (*inputs, *nodes.states)
    outputs = _outputs(nodes)
    shapes = {f"{INPUT_PREFIX}{name}": shape for name, shape, _ in inputs}
    found = recognise(tuple(nodes.nodes), shapes, outputs, nodes.report)
    _note_hybrids(found, nodes)
    return Model(
        name=clean_name(path.stem), file=file, format="tflite",
        producer=clean_name(graph.description or "unnamed"), inputs=_inputs(nodes, inputs, found),
        nodes=found, outputs=outputs, file_bytes=len(data),
        notes=(*graph.notes, *nodes.report.all_notes()), faults=nodes.report.all_faults(),
    )  # fmt: skip


def _convert(nodes: Nodes, operator: Operator) -> None:
    """Read one operator; one that cannot be read is unknown, and why is a fault."""
    made = len(nodes.nodes)
    try:
        if folding.fold_constants(nodes, operator):
            return
        CONVERTERS.get(operator.kind, Nodes.unknown)(nodes, operator)
        return
    except Shapeless:
        nodes.report.count("operators behind a shape that is not known")
    except Unreadable as error:
        name = next((nodes.graph.tensors[i].name for i in operator.outputs), "")
        where = clean_name(name or f"operator {operator.index}")
        nodes.report.fault(f"{where}: {nodes.kind(operator)}: {error}")
    nodes.take_back(made, operator.outputs)
    nodes.unknown(operator)


def check_order(graph: Graph, file: str) -> None:
    """Refuse graphs in which an operator reads what a later one computes, or two compute the same tensor."""
    problems: list[Problem] = []
    made_by = {index: item.index for item in reversed(graph.operators) for index in item.outputs}
    done = set(graph.inputs)
    for operator in graph.operators:
        where = f"operator {operator.index}"
        for index in operator.inputs:
            if index != NO_TENSOR and index not in done and index in made_by:
                found = f"reads tensor {index} before operator {made_by[index]} computes it"
                problems.append(Problem(file, where, found, "operators stand in the order of execution"))
        for index in operator.outputs:
            if index in done:
                problems.append(Problem(file, where, f"computes tensor {index}, which exists", ""))
            done.add(index)
    if not graph.inputs or not graph.outputs or not graph.operators:
        lacks = "inputs" if not graph.inputs else "outputs" if not graph.outputs else "operators"
        problems.append(Problem(file, "", f"a graph without {lacks}", "a network has all of them"))
    if problems:
        raise UserError(problems[:20])


def _note_hybrids(found: tuple[Node, ...], nodes: Nodes) -> None:
    for node in found:
        weight = node.constants.get("weight")
        if weight is not None and weight.quantisation is not None and node.quantisation is None:
            nodes.report.count("layers with quantised weights and float activations (hybrid)")


def _outputs(nodes: Nodes) -> tuple[str, ...]:
    """Names of the nodes that the graph gives; an output that no operator computes is a problem."""
    producers = []
    for index in dict.fromkeys(nodes.graph.outputs):
        if index not in nodes.values or nodes.values[index].producer not in nodes.place:
            nodes.report.fault(f"output tensor {index} is not computed by an operator")
            continue
        producers.append(nodes.values[index].producer)
    return tuple(dict.fromkeys(producers))


def _inputs(
    nodes: Nodes, inputs: tuple[tuple[str, Shape, int], ...], found: tuple[Node, ...]
) -> tuple[ModelInput, ...]:
    """Inputs of the model; those that a layer with channels reads have theirs last too."""
    imaged = {name for node in found if node.channel_axis is not None for name in node.inputs}
    result = []
    for name, shape, index in inputs:
        producer = f"{INPUT_PREFIX}{name}"
        scheme = nodes.scheme(index, batched=nodes.values[index].batched)
        last = len(shape) - 1 if producer in imaged and len(shape) > 1 else None
        result.append(ModelInput(name, shape, scheme or nodes.input_schemes.get(producer), last))
    return tuple(result)

"""Operators on shapes and constants, which are computed while reading: nothing of them is left to execute.

Files of models with a dynamic batch compute the shape of a reshape from that of its input; weights may stand
behind operators that only change their type or shape.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dse.workload.model import Constant
from dse.workload.tflite.flat import NO_TENSOR, Operator
from dse.workload.tflite.moving import reshape_sizes
from dse.workload.tflite.nodes import Nodes, axis_of
from dse.workload.tflite.slicing import indices, resolve
from dse.workload.tflite.stored import Unreadable, rearranged, reshaped
from dse.workload.tflite.tensors import MOST_WHOLE_NUMBERS

Whole = NDArray[np.int64]


def fold_constants(nodes: Nodes, operator: Operator) -> bool:
    """Compute an operator whose inputs are constant or shapes; return whether that was possible."""
    if not operator.outputs:
        return False
    if operator.kind == "SHAPE":
        return _keep(nodes, operator, _shape)
    if any(nodes.is_computed(operator, place) for place in range(len(operator.inputs))):
        return False
    if operator.kind in _WHOLE and _keep(nodes, operator, _WHOLE[operator.kind]):
        return True
    if operator.kind in _CONSTANTS and nodes.has(operator, 0):
        return _keep_constant(nodes, operator)
    return False


def _keep(nodes: Nodes, operator: Operator, compute: Callable[[Nodes, Operator], Whole]) -> bool:
    try:
        found = compute(nodes, operator)
    except Unreadable:
        return False
    if found.size > MOST_WHOLE_NUMBERS:
        return False
    nodes.evaluated[operator.outputs[0]] = found
    return True


def _keep_constant(nodes: Nodes, operator: Operator) -> bool:
    try:
        found = _CONSTANTS[operator.kind](nodes, operator, nodes.constant(operator.inputs[0]))
    except Unreadable:
        return False
    nodes.derived[operator.outputs[0]] = found
    return True


# --- whole numbers ---


def _shape(nodes: Nodes, operator: Operator) -> Whole:
    index = nodes.index(operator, 0)
    full = nodes.values[index].full if index in nodes.values else nodes.graph.tensors[index].shape
    if full is None:
        raise Unreadable("a shape that is not known")
    return np.array(full, dtype=np.int64)


def _all(nodes: Nodes, operator: Operator) -> list[Whole]:
    found = [nodes.whole_numbers(index) for index in operator.inputs if index != NO_TENSOR]
    if not found or any(part.ndim > 1 for part in found):
        raise Unreadable("lists of whole numbers are needed")
    return found


def _pack(nodes: Nodes, operator: Operator) -> Whole:
    parts = _all(nodes, operator)
    if len({part.shape for part in parts}) != 1 or nodes.option(operator, "Axis"):
        raise Unreadable("parts of different lengths")
    return np.stack(parts)


def _join(nodes: Nodes, operator: Operator) -> Whole:
    return np.concatenate([np.atleast_1d(part) for part in _all(nodes, operator)])


def _part(nodes: Nodes, operator: Operator) -> Whole:
    found, index = nodes.whole_numbers(nodes.index(operator, 0)), indices(nodes, operator)
    resolve(found.shape, index)  # refuses what would lie outside
    return np.asarray(found[index], dtype=np.int64)


def _gathered(nodes: Nodes, operator: Operator) -> Whole:
    found, places = _all(nodes, operator)[:1], nodes.whole_numbers(nodes.index(operator, 1))
    if found[0].ndim != 1 or (places.size and not 0 <= places.min() <= places.max() < found[0].size):
        raise Unreadable("indices outside")
    return np.asarray(found[0][places], dtype=np.int64)


def _product(nodes: Nodes, operator: Operator) -> Whole:
    found = _all(nodes, operator)[0]
    total = 1
    for number in found.reshape(-1).tolist():
        total = min(max(total * number, -(2**62)), 2**62)
    return np.full((1,) if nodes.option(operator, "KeepDims") else (), total, dtype=np.int64)


def _same(nodes: Nodes, operator: Operator) -> Whole:
    return nodes.whole_numbers(nodes.index(operator, 0))


_WHOLE: Final[Mapping[str, Callable[[Nodes, Operator], Whole]]] = {
    "PACK": _pack,
    "CONCATENATION": _join,
    "STRIDED_SLICE": _part,
    "GATHER": _gathered,
    "REDUCE_PROD": _product,
    "CAST": _same,
}


# --- constants that change type or shape ---


def _unchanged(nodes: Nodes, operator: Operator, constant: Constant) -> Constant:
    nodes.report.count(f"{constant.stored_type} constants behind {operator.kind}, taken as stored")
    return constant


def _whole_already(nodes: Nodes, operator: Operator, constant: Constant) -> Constant:
    """Keep a constant that was read with its zeros."""
    return constant


def _retyped(nodes: Nodes, operator: Operator, constant: Constant) -> Constant:
    """Keep a constant that becomes a float one, as the file stores it."""
    types = (nodes.graph.tensors[operator.inputs[0]].type, nodes.graph.tensors[operator.outputs[0]].type)
    if types[1] not in (0, 1):
        raise Unreadable("a constant is rounded")
    return constant


def _turned(nodes: Nodes, operator: Operator, constant: Constant) -> Constant:
    order = tuple(axis_of(axis, len(constant.shape)) for axis in nodes.whole(operator, 1))
    if sorted(order) != list(range(len(constant.shape))):
        raise Unreadable(f"{list(order)} is no order of {len(constant.shape)} axes")
    return rearranged(constant, order)


def _in_shape(nodes: Nodes, operator: Operator, constant: Constant) -> Constant:
    asked = nodes.whole(operator, 1) if nodes.has(operator, 1) else nodes.option(operator, "NewShape")
    return reshaped(constant, reshape_sizes(constant.shape, tuple(asked)))


_CONSTANTS: Final[Mapping[str, Callable[[Nodes, Operator, Constant], Constant]]] = {
    "DEQUANTIZE": _unchanged,
    "QUANTIZE": _unchanged,
    "DENSIFY": _whole_already,
    "CAST": _retyped,
    "TRANSPOSE": _turned,
    "RESHAPE": _in_shape,
}


# --- operators that leave no trace but a type or a scale ---


def pass_through(nodes: Nodes, operator: Operator) -> None:
    """QUANTIZE and DEQUANTIZE: the reader reads the producer, which takes the scale on where it has none."""
    value, index = nodes.value(operator, 0), nodes.output(operator)
    nodes.report.count("QUANTIZE and DEQUANTIZE operators dropped")
    nodes.values[index] = value
    scheme = nodes.scheme(index, batched=value.batched) if operator.kind == "QUANTIZE" else None
    if scheme is None:
        return
    if value.producer not in nodes.place:
        nodes.input_schemes.setdefault(value.producer, scheme)
        return
    place = nodes.place[value.producer]
    node = nodes.nodes[place]
    if node.quantisation is None:
        nodes.nodes[place] = replace(node, quantisation=scheme)
    elif not np.array_equal(node.quantisation.scale, scheme.scale):
        nodes.report.count("QUANTIZE operators that only change the scale dropped")


def cast(nodes: Nodes, operator: Operator) -> None:
    """CAST to a type that holds what comes in leaves no trace; one that rounds is not known."""
    value, index = nodes.value(operator, 0), nodes.output(operator)
    before, after = (nodes.graph.tensors[i].type for i in (operator.inputs[0], index))
    if after in (0, 10) or before == after:
        nodes.report.count("CAST operators to a wider type dropped")
        nodes.values[index] = value
        return
    nodes.unknown(operator)

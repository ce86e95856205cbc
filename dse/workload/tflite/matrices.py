"""Converters of fully connected layers, matrix products and recurrent layers."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np

from dse.workload.base import Shape
from dse.workload.model import Constant, Quantisation
from dse.workload.tflite.flat import Operator
from dse.workload.tflite.nodes import FUSED, Nodes, known
from dse.workload.tflite.stored import Unreadable, rearranged
from dse.workload.tflite.tensors import Value


def fully_connected(nodes: Nodes, operator: Operator) -> None:
    """FULLY_CONNECTED; inputs of several axes are rows of the last one, or are flattened to rows."""
    if nodes.option(operator, "WeightsFormat"):
        raise Unreadable("its weights are shuffled for one processor")
    value = nodes.value(operator, 0)
    if nodes.is_computed(operator, 1):
        _product(nodes, operator, (value, nodes.value(operator, 1)), (False, True))
        return
    weight = nodes.weights(operator, 1, 2, "weights")
    out, width = weight.shape
    if prod(known(value)) % width:
        raise Unreadable(f"{prod(known(value))} numbers are no rows of {width}")
    value = _rows(nodes, operator, value, width)
    full = (*known(value)[:-1], out)
    constants = {"weight": weight} | nodes.bias(operator, 2, out)
    nodes.add(operator, "linear", [value], full, batched=value.batched and len(full) > 1, constants=constants,
              channel_last=True)  # fmt: skip


def _rows(nodes: Nodes, operator: Operator, value: Value, width: int) -> Value:
    """Give the input the axes that the output keeps: all of them, or rows alone."""
    full = known(value)
    if nodes.option(operator, "KeepNumDims"):
        if full[-1:] != (width,):
            raise Unreadable(f"its input of shape {list(full)} has no last axis of {width}")
        return value
    rows = prod(full) // width
    if (rows, width) == full and (value.batched or rows > 1):
        return value
    return nodes.reshape(value, (rows, width), batched=rows == 1, suffix="rows")


def matmul(nodes: Nodes, operator: Operator) -> None:
    """BATCH_MATMUL: a linear layer where the second factor is a constant matrix."""
    flags = (bool(nodes.option(operator, "AdjX")), bool(nodes.option(operator, "AdjY")))
    if nodes.is_computed(operator, 0) and nodes.is_computed(operator, 1):
        _product(nodes, operator, (nodes.value(operator, 0), nodes.value(operator, 1)), flags)
        return
    value = nodes.value(operator, 0)
    stored = nodes.weights(operator, 1, 2, "factors")
    weight = stored if flags[1] else rearranged(stored, (1, 0))
    full = known(value)
    if flags[0] or full[-1:] != (weight.shape[1],):
        raise Unreadable(f"factors of {list(full)} and {list(stored.shape)} do not fit")
    nodes.add(operator, "linear", [value], (*full[:-1], weight.shape[0]), batched=value.batched,
              constants={"weight": weight}, channel_last=True)  # fmt: skip


def _product(
    nodes: Nodes, operator: Operator, factors: tuple[Value, Value], flags: tuple[bool, bool]
) -> None:
    left, right = (_turned(known(factor), turn) for factor, turn in zip(factors, flags, strict=True))
    if left[-1] != right[-2]:
        raise Unreadable(f"factors of {list(left)} and {list(right)} do not fit")
    full = (*broadcast(left[:-2], right[:-2]), left[-2], right[-1])
    batched = len(full) > 2 and full[0] == 1 and any(factor.batched for factor in factors)
    if any(factor.batched and len(known(factor)) < 3 for factor in factors):
        factors = (nodes.explicit(factors[0]), nodes.explicit(factors[1]))
        batched = False
    attributes = {"transpose_a": flags[0], "transpose_b": flags[1]}
    nodes.add(operator, "matmul", factors, full, batched=batched, attributes=attributes)


def _turned(full: Shape, turn: bool) -> Shape:
    if len(full) < 2:
        raise Unreadable(f"a factor has the shape {list(full)}")
    return (*full[:-2], full[-1], full[-2]) if turn else full


def broadcast(*shapes: Shape) -> Shape:
    """Common shape of operands; raises Unreadable where there is none.

    >>> broadcast((1, 8, 8, 16), (16,))
    (1, 8, 8, 16)
    """
    rank = max(map(len, shapes))
    rows = [(1,) * (rank - len(shape)) + tuple(shape) for shape in shapes]
    common = tuple(max(sizes) for sizes in zip(*rows, strict=True))
    if any(size not in (1, most) for row in rows for size, most in zip(row, common, strict=True)):
        raise Unreadable(f"shapes {' and '.join(str(list(shape)) for shape in shapes)} do not fit")
    return common


# --- recurrent layers ---


def lstm(nodes: Nodes, operator: Operator) -> None:
    """UNIDIRECTIONAL_SEQUENCE_LSTM; gates in the order input, forget, cell, output, in the file and here."""
    for place, what in ((9, "peepholes"), (10, "peepholes"), (11, "peepholes"), (16, "a projection")):
        if nodes.has(operator, place):
            raise Unreadable(f"it has {what}")
    if any(nodes.has(operator, place) for place in range(20, 24)):
        raise Unreadable("it normalises its gates")
    if not nodes.has(operator, 1) or nodes.option(operator, "DiagonalRecurrentTensors"):
        raise Unreadable("its input gate is coupled to the forget gate, or its weights are diagonal")
    if nodes.option(operator, "CellClip") > 0:
        nodes.report.count("LSTM layers clip their cells, which is left out")
    weight = _stacked(nodes, operator, range(1, 5), 2, "weight_input")
    recurrent = _stacked(nodes, operator, range(5, 9), 2, "weight_recurrent")
    bias = _stacked(nodes, operator, range(12, 16), 1, "bias_input")
    _recurrent(nodes, operator, "lstm", (weight, recurrent, bias), gates=4)


def rnn(nodes: Nodes, operator: Operator) -> None:
    """UNIDIRECTIONAL_SEQUENCE_RNN."""
    parts = (
        nodes.weights(operator, 1, 2, "weights"),
        nodes.weights(operator, 2, 2, "weights"),
        nodes.weights(operator, 3, 1, "biases"),
    )
    _recurrent(nodes, operator, "rnn", parts, gates=1)


def _recurrent(
    nodes: Nodes, operator: Operator, operation: str, parts: tuple[Constant, ...], gates: int
) -> None:
    value = nodes.value(operator, 0)
    full, (rows, width) = known(value), parts[0].shape
    hidden = rows // gates
    if len(full) != 3 or full[2] != width or parts[1].shape != (rows, hidden) or parts[2].shape != (rows,):
        raise Unreadable(f"weights {list(parts[0].shape)} do not fit an input of {list(full)}")
    time = 0 if nodes.option(operator, "TimeMajor") else 1
    if full[1 - time] != 1:
        raise Unreadable(f"its batch is {full[1 - time]}")
    inside = nodes.option(operator, "FusedActivationFunction")
    attributes = {
        "hidden_size": hidden, "steps": full[time], "directions": 1, "layers": 1,
        "time_axis": time - value.batched, "activation": FUSED.get(inside, ("none",))[0],
    }  # fmt: skip
    if time < value.batched:
        raise Unreadable("time is where the batch is")
    names = ("weight_input_l0", "weight_recurrent_l0", "bias_input_l0")
    plain = replace(operator, options={})  # its activation is inside, not behind it
    nodes.add(plain, operation, [value], (*full[:2], hidden), batched=value.batched, attributes=attributes,
              constants=dict(zip(names, parts, strict=True)))  # fmt: skip


def _stacked(nodes: Nodes, operator: Operator, places: range, rank: int, name: str) -> Constant:
    """Stack the constants of the gates along their first axis, their scales one per row."""
    parts = [nodes.weights(operator, place, rank, name) for place in places]
    if len({part.shape for part in parts}) != 1 or len({part.stored_type for part in parts}) != 1:
        raise Unreadable(f"{name} of the gates differ in shape or type")
    first = parts[0]
    whole = all(part.values is not None for part in parts)
    nodes.charge(sum(part.elements for part in parts))
    values = np.concatenate([part.values for part in parts if part.values is not None]) if whole else None
    return Constant(
        name, (first.shape[0] * len(parts), *first.shape[1:]), first.stored_type,
        sum(part.stored_bytes for part in parts), values, _scales(parts),
    )  # fmt: skip


def _scales(parts: list[Constant]) -> Quantisation | None:
    schemes = [part.quantisation for part in parts if part.quantisation is not None]
    if len(schemes) != len(parts) or any(scheme.axis not in (None, 0) for scheme in schemes):
        return None
    rows = parts[0].shape[0]
    scale = np.concatenate([np.broadcast_to(scheme.scale, rows) for scheme in schemes])
    zero_point = np.concatenate([np.broadcast_to(scheme.zero_point, rows) for scheme in schemes])
    return replace(schemes[0], scale=scale, zero_point=zero_point, axis=0)

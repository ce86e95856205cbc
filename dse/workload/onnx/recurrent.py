"""Rules for LSTM, GRU and RNN: their gates in the order that torch has, their names as torch has them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np

from dse.workload.base import Shape
from dse.workload.model.graph import Constant
from dse.workload.onnx import shapes
from dse.workload.onnx.convolutions import weight_of
from dse.workload.onnx.operations import Answer, Call, Made
from dse.workload.onnx.tensors import Refused, Tensor, as_constant

GATES: Final = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
"""Operator -> where each gate of torch (i f g o, r z n) stands in ONNX (i o f c, z r h)."""

_DIRECTIONS: Final = {"forward": 1, "reverse": 1, "bidirectional": 2}


def recurrent(call: Call) -> list[Answer]:
    """LSTM, GRU, RNN: all steps, then the last state(s) as parts of them."""
    word, tensor = call.node.op.lower(), call.tensor(0)
    shape, layout = tensor.known, call.integer("layout", 0)
    direction = call.text("direction", "forward")
    directions = _DIRECTIONS.get(direction)
    if len(shape) != 3 or layout not in (0, 1) or directions is None:
        raise Refused(f"direction {direction!r}, layout {layout}, input {list(shape)}")
    constants, hidden = _weights(call, directions, shape[2])
    time, batch = (1, 0) if layout else (0, 1)
    steps, samples = shape[time], shape[batch]
    attributes: dict[str, Any] = {
        "hidden_size": hidden, "steps": steps, "directions": directions, "layers": 1, "time_axis": 0,
    }  # fmt: skip
    if direction == "reverse":
        attributes["direction"] = direction
    if word == "gru":
        attributes["linear_before_reset"] = call.integer("linear_before_reset", 0)
    whole = (samples, steps, directions, hidden) if layout else (steps, directions, samples, hidden)
    state = (samples, directions, hidden) if layout else (directions, samples, hidden)
    every = Made(
        word, (tensor, *_states(call)), shapes.checked(whole), 0 if layout else 2, attributes, constants,
        channel_axis=3, dtype=tensor.dtype,
    )  # fmt: skip
    last = Made("slice", (), state, 0 if layout else 1, dtype=tensor.dtype)
    return _wanted(call, every, last)


def _wanted(call: Call, every: Made, last: Made) -> list[Answer]:
    """All steps first; where only the last state is read, the operation itself gives it."""
    all_steps, state, *_ = (*call.outputs_read, False, False)
    if all_steps:
        return [every, last, last]
    alone = replace(every, shape=last.shape, batch=last.batch, channel_axis=2)
    return [every, alone, last] if state else [every, last, alone]


def _states(call: Call) -> tuple[Tensor, ...]:
    """First states that are computed or fed in; constant ones are as good as zeros to the count."""
    found = (call.at(index) for index in (5, 6))
    return tuple(state for state in found if state is not None and not state.constant)


def _weights(call: Call, directions: int, features: int) -> tuple[dict[str, Constant], int]:
    into, back = weight_of(call, 1), weight_of(call, 2)
    order = GATES[call.node.op]
    hidden = back.known[-1]
    rows = len(order) * hidden
    if into.known != (directions, rows, features) or back.known != (directions, rows, hidden):
        said = f"weights {list(into.known)} and {list(back.known)}"
        raise Refused(f"{said} for {features} features, {directions} directions, {len(order)} gates")
    if call.integer("hidden_size", hidden) != hidden:
        raise Refused(f"hidden_size {call.integer('hidden_size', hidden)}, weights for {hidden}")
    named = {"weight_input": (into, rows), "weight_recurrent": (back, rows)}
    found: dict[str, Constant] = {}
    for place, suffix in enumerate(("_l0", "_l0_reverse")[:directions]):
        for name, (tensor, _) in named.items():
            found[name + suffix] = _part(tensor, place, order, hidden, tensor.known[1:])
        found |= _biases(call.constant(3), place, order, hidden, directions, suffix)
        peephole = call.constant(7)
        if peephole is not None and len(peephole.known) == 2 and peephole.known[0] == directions:
            found["peephole" + suffix] = _sliced(peephole, place, slice(None), peephole.known[1:])
    return found, hidden


def _biases(
    bias: Tensor | None, place: int, order: tuple[int, ...], hidden: int, directions: int, suffix: str
) -> dict[str, Constant]:
    if bias is None:
        return {}
    rows = len(order) * hidden
    if bias.known != (directions, 2 * rows):
        raise Refused(f"a bias of shape {list(bias.known)} for {directions} times {2 * rows} numbers")
    halves = {"bias_input": slice(0, rows), "bias_recurrent": slice(rows, 2 * rows)}
    found = {}
    for name, part in halves.items():
        half = replace(
            bias, shape=(directions, rows), value=None if bias.value is None else bias.value[:, part],
            quantisation=None,
        )  # fmt: skip
        found[name + suffix] = _part(half, place, order, hidden, (rows,))
    return found


def _part(tensor: Tensor, place: int, order: tuple[int, ...], hidden: int, shape: Shape) -> Constant:
    """One direction of a weight, its gates in the order of torch."""
    rows = np.concatenate([np.arange(gate * hidden, (gate + 1) * hidden) for gate in order])
    return _sliced(tensor, place, rows, shape)


def _sliced(tensor: Tensor, place: int, rows: Any, shape: Shape) -> Constant:
    value = None if tensor.value is None else tensor.value[place][rows]
    whole = as_constant(replace(tensor, shape=shape, value=value, quantisation=None))
    elements = whole.elements
    width = (tensor.stored.bytes if tensor.stored else 0) / max(_count(tensor), 1)
    return replace(whole, stored_bytes=round(elements * width))


def _count(tensor: Tensor) -> int:
    return int(np.prod(tensor.known, dtype=object))

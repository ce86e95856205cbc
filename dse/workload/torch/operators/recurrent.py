"""Recurrent layers: LSTM, GRU and plain recurrence over all steps at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from dse.workload.model.graph import Constant
from dse.workload.torch.conversion import Conversion
from dse.workload.torch.operators.base import Converter
from dse.workload.torch.program import Call
from dse.workload.torch.structure import Malformed, Unsupported
from dse.workload.torch.values import Tensor, Value

GATES: Final[Mapping[str, tuple[str, int]]] = {
    "aten.lstm": ("lstm", 4), "aten.gru": ("gru", 3),
    "aten.rnn_tanh": ("rnn", 1), "aten.rnn_relu": ("rnn", 1),
}  # fmt: skip
"""Operator -> its operation, and how many matrices it stacks per weight."""

PARTS: Final = ("weight_input", "weight_recurrent", "bias_input", "bias_recurrent")


def recurrent(c: Conversion, call: Call) -> Sequence[Value]:
    """Return the outputs of all steps and the last state, which is a part of them."""
    operation, gates = GATES[call.operator]
    x, parameters = c.tensor(call, "input"), c.many(call, "params")
    layers, directions = call.integer("num_layers"), 2 if call.flag("bidirectional") else 1
    constants = _named(parameters, layers, directions, call.flag("has_biases"))
    if len(x.shape) != 3:
        raise Malformed(f"reads a tensor of shape {list(x.shape)}")
    time, batch = (1, 0) if call.flag("batch_first") else (0, 1)
    if x.batch not in (batch, None) or x.shape[batch] != 1:
        raise Unsupported(f"works on {x.shape[batch]} sequences at once")
    hidden = _hidden(constants, gates, x.shape[2], directions)
    attributes = {
        "hidden_size": hidden, "steps": x.shape[time], "directions": directions, "layers": layers,
        "time_axis": 0,
    }  # fmt: skip
    shape = (1, x.shape[1], directions * hidden) if batch == 0 else (x.shape[0], 1, directions * hidden)
    out = c.add(
        call, operation, [x], shape, batch, name=call.module, attributes=attributes, constants=constants
    )  # fmt: skip
    return [out, *_states(c, call, out, layers * directions, hidden)]


def _named(parameters: list[Value], layers: int, directions: int, biased: bool) -> dict[str, Constant]:
    """Return the parameters by name, with the suffixes of torch: ``_l0``, ``_l0_reverse``, ``_l1``."""
    parts = PARTS if biased else PARTS[:2]
    if layers < 1 or len(parameters) != layers * directions * len(parts):
        raise Malformed(f"{len(parameters)} parameters for {layers} layers in {directions} directions")
    held = [entry for entry in parameters if isinstance(entry, Constant)]
    if len(held) != len(parameters):
        raise Unsupported("weights that are computed from the input")
    names = [
        f"{part}_l{layer}{ending}"
        for layer in range(layers)
        for ending in ("", "_reverse")[:directions]
        for part in parts
    ]
    return dict(zip(names, held, strict=True))


def _hidden(constants: Mapping[str, Constant], gates: int, features: int, directions: int) -> int:
    """Return the hidden size; raises Malformed where the weights do not fit each other."""
    first = constants["weight_recurrent_l0"].shape
    hidden = first[-1] if len(first) == 2 else 0
    for name, constant in constants.items():
        width = hidden if "recurrent" in name else features if "_l0" in name else directions * hidden
        wanted = (gates * hidden, width) if name.startswith("weight") else (gates * hidden,)
        if not hidden or constant.shape != wanted:
            raise Malformed(f"{name} of shape {list(constant.shape)}, not {list(wanted)}")
    return hidden


def _states(c: Conversion, call: Call, out: Tensor, count: int, hidden: int) -> list[Tensor]:
    """Add what the call gives besides its outputs: the last hidden and cell state of each layer."""
    names = (".hidden", ".cell")[: max(0, len(call.outputs) - 1)]
    name = out.producer
    return [
        c.add(call, "slice", [out], (count, 1, hidden), 1, name=name, suffix=ending) for ending in names
    ]  # fmt: skip


RECURRENT: Final[Mapping[str, Converter]] = dict.fromkeys(GATES, recurrent)

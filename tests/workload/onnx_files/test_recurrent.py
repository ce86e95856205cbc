"""LSTM, GRU, RNN: both layouts, one and two directions, gates against a naive cell in torch's order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dse.workload.model import Node
from tests.workload.onnx_files.graphs import Array, node, proto, read, reals, words

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
FEATURES, HIDDEN, STEPS = 5, 3, 7


def weights(op: str, directions: int) -> dict[str, Array]:
    rows = GATES[op] * HIDDEN
    return {
        "w": reals(directions, rows, FEATURES),
        "r": reals(directions, rows, HIDDEN, seed=1),
        "b": reals(directions, 2 * rows, seed=2),
    }


def recurrent(folder: Path, op: str, outputs: list[str], x: list, **attributes: object) -> list[Node]:
    directions = 2 if attributes.get("direction") == "bidirectional" else 1
    layer = node(op, ["x", "w", "r", "b"], outputs, "layer", hidden_size=HIDDEN, **attributes)
    names = [name for name in outputs if name]
    found = read(proto([layer], {"x": x}, names, weights(op, directions)), folder)
    assert found.faults == ()
    return list(found.nodes)


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize(("direction", "directions"), [("forward", 1), ("bidirectional", 2), ("reverse", 1)])
def test_time_first(op: str, direction: str, directions: int, tmp_path: Path) -> None:
    (found,) = recurrent(tmp_path, op, ["y"], [STEPS, "N", FEATURES], direction=direction)
    assert (found.operation, found.shape) == (op.lower(), (STEPS, directions, HIDDEN))
    wanted = {"hidden_size": HIDDEN, "steps": STEPS, "directions": directions, "layers": 1, "time_axis": 0}
    assert wanted.items() <= found.attributes.items()
    assert found.constants["weight_input_l0"].shape == (GATES[op] * HIDDEN, FEATURES)
    assert ("weight_input_l0_reverse" in found.constants) == (directions == 2)


def test_time_first_is_seen_where_all_sizes_are_fixed(tmp_path: Path) -> None:
    (found,) = recurrent(tmp_path, "LSTM", ["y"], [STEPS, 1, FEATURES])
    assert found.shape == (STEPS, 1, HIDDEN)


def test_batch_first_layout(tmp_path: Path) -> None:
    (found,) = recurrent(tmp_path, "GRU", ["y"], ["N", STEPS, FEATURES], layout=1)
    assert found.shape == (STEPS, 1, HIDDEN)


def test_the_last_state_alone_is_the_layer(tmp_path: Path) -> None:
    (found,) = recurrent(tmp_path, "LSTM", ["", "h"], [STEPS, "N", FEATURES])
    assert (found.operation, found.shape) == ("lstm", (1, HIDDEN))


def test_outputs_that_nobody_reads_do_not_count(tmp_path: Path) -> None:
    layer = node("LSTM", ["x", "w", "r", "b"], ["y", "h", "c"], "layer", hidden_size=HIDDEN)
    nodes = [layer, node("Squeeze", ["h", "zero"], ["s"]), node("Relu", ["s"], ["out"])]
    held = weights("LSTM", 1) | {"zero": np.array([0])}
    found = read(proto(nodes, {"x": [STEPS, "N", FEATURES]}, ["out"], held), tmp_path)
    assert [(one.operation, one.shape, one.inputs[0]) for one in found.nodes] == [
        ("lstm", (1, HIDDEN), "input:x"),
        ("reshape", (HIDDEN,), "layer"),
        ("relu", (HIDDEN,), found.nodes[1].name),
    ]


def test_states_beside_all_steps_are_parts_of_the_layer(tmp_path: Path) -> None:
    every, last, cell = recurrent(tmp_path, "LSTM", ["y", "h", "c"], [STEPS, "N", FEATURES])
    assert every.shape == (STEPS, 1, HIDDEN)
    for part in (last, cell):
        assert (part.operation, part.shape, part.inputs) == ("slice", (1, HIDDEN), ("layer",))


def test_batch_first_as_torch_exports_it(tmp_path: Path) -> None:
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        node("LSTM", ["t", "w", "r", "b"], ["y4", "h", "c"], "lstm", hidden_size=HIDDEN),
        node("Squeeze", ["y4", "one"], ["y3"]),
        node("Transpose", ["y3"], ["y2"], perm=[1, 0, 2]),
        node("Gather", ["y2", "last"], ["z"], axis=1),
        node("Gemm", ["z", "fc"], ["out"], "fc", transB=1),
    ]
    held = weights("LSTM", 1) | {"one": np.array([1]), "last": np.array(-1), "fc": reals(4, HIDDEN)}
    found = read(proto(nodes, {"x": ["N", STEPS, FEATURES]}, ["out"], held), tmp_path)
    assert words(found) == ["lstm", "reshape", "gather", "linear"]
    assert [one.shape for one in found.nodes] == [(STEPS, 1, HIDDEN), (STEPS, HIDDEN), (HIDDEN,), (4,)]


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def onnx_step(op: str, held: dict[str, Array], x: Array, h: Array, c: Array) -> Array:
    """One step by the equations of the ONNX operators, gate by gate in their order."""
    w, r, b = (held[name][0].astype(np.float64) for name in ("w", "r", "b"))
    rows = len(w)
    left, right = w @ x + b[:rows], r @ h + b[rows:]
    cut = lambda values, gate: values[gate * HIDDEN : (gate + 1) * HIDDEN]  # noqa: E731
    if op == "RNN":
        return np.tanh(left + right)
    if op == "LSTM":
        i, o, f = (sigmoid(cut(left, gate) + cut(right, gate)) for gate in (0, 1, 2))
        return o * np.tanh(f * c + i * np.tanh(cut(left, 3) + cut(right, 3)))
    z, reset = (sigmoid(cut(left, gate) + cut(right, gate)) for gate in (0, 1))
    return (1 - z) * np.tanh(cut(left, 2) + reset * cut(right, 2)) + z * h


@pytest.mark.parametrize("op", GATES)
def test_gates_are_in_the_order_of_torch(op: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    (found,) = recurrent(
        tmp_path, op, ["y"], [STEPS, "N", FEATURES], **({"linear_before_reset": 1} if op == "GRU" else {})
    )
    cell = getattr(torch.nn, f"{op}Cell")(FEATURES, HIDDEN).double()
    pairs = (
        ("weight_ih", "weight_input"),
        ("weight_hh", "weight_recurrent"),
        ("bias_ih", "bias_input"),
        ("bias_hh", "bias_recurrent"),
    )
    with torch.no_grad():
        for theirs, ours in pairs:
            values = found.constants[f"{ours}_l0"].values
            getattr(cell, theirs).copy_(torch.from_numpy(values.astype(np.float64)))
        x, h, c = (
            reals(size, seed=seed).astype(np.float64)
            for seed, size in ((7, FEATURES), (8, HIDDEN), (9, HIDDEN))
        )
        state = [torch.from_numpy(part)[None] for part in (h, c)]
        result = cell(torch.from_numpy(x)[None], tuple(state) if op == "LSTM" else state[0])
    given = result[0] if op == "LSTM" else result
    np.testing.assert_allclose(
        np.asarray(given.reshape(-1)), onnx_step(op, weights(op, 1), x, h, c), rtol=1e-6
    )


def test_weights_of_another_size_are_named(tmp_path: Path) -> None:
    layer = node("LSTM", ["x", "w", "r"], ["y"], "layer", hidden_size=HIDDEN)
    held = weights("GRU", 1)
    found = read(
        proto([layer], {"x": [STEPS, 1, FEATURES]}, ["y"], {"w": held["w"], "r": held["r"]}), tmp_path
    )
    assert found.nodes[0].operation == "unknown"
    assert "LSTM 'layer'" in found.faults[0]

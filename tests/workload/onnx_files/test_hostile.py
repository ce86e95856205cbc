"""Damaged and hostile files: a model or one clear error, in seconds and bounded memory, and nothing else."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from dse.errors import UserError
from dse.training.parameters import fold, initial_parameters
from dse.workload.load import load_network
from dse.workload.onnx import read_onnx
from tests.workload.exporters.onnx_writer import onnx_bytes
from tests.workload.fuzzing import mutations, survives
from tests.workload.onnx_files.graphs import integers, node, proto, read, reals


def recurrent_and_shapes() -> bytes:
    """A small file with shape arithmetic, attention-like products, an LSTM, claims and odd operators."""
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "zero"], ["n"], axis=0),
        node("Unsqueeze", ["n", "axes"], ["n1"]),
        node("Concat", ["n1", "rest"], ["target"], axis=0),
        node("Reshape", ["x", "target"], ["r"]),
        node("Transpose", ["r"], ["t"], perm=[1, 0, 2]),
        node("LSTM", ["t", "w", "r1", "b"], ["h", "hn", "cn"], "lstm", hidden_size=3),
        node("Squeeze", ["h", "one"], ["h3"]),
        node("Transpose", ["h3"], ["u"], perm=[1, 0, 2]),
        node("MatMul", ["u", "u2"], ["m"]),
        node("Softmax", ["m"], ["p"], axis=-1),
        node("Slice", ["p", "zero1", "one", "one"], ["c"]),
        node("Pad", ["c", "pads"], ["d"]),
        node("Resize", ["d", "", "scales"], ["e"]),
        node("Fancy", ["e"], ["f"], domain="com.example"),
        node("Split", ["f"], ["g", "g2"], axis=2),
        node("Clip", ["g", "low", "high"], ["y"]),
        node("QuantizeLinear", ["g2", "qs"], ["q"]),
        node("DequantizeLinear", ["q", "qs"], ["z"]),
    ]
    held = {
        "zero": np.array(0),
        "axes": integers(0),
        "rest": integers(-1, 5),
        "w": reals(1, 12, 5),
        "r1": reals(1, 12, 3),
        "b": reals(1, 24),
        "one": integers(1),
        "u2": reals(3, 4),
        "zero1": integers(0),
        "pads": integers(0, 0, 1, 0, 0, 1),
        "scales": np.array([1, 2, 2], np.float32),
        "low": np.array(0, np.float32),
        "high": np.array(6, np.float32),
        "qs": np.array(0.1, np.float32),
    }
    claims = {"f": [1, 2, 12], "h": [8, 1, 1, 3], "m": [1, 8, 4]}
    return proto(
        nodes, {"x": ["N", 8, 5]}, ["y", "z"], held, domains={"com.example": 1}, claims=claims
    ).SerializeToString()


def seeds() -> dict[str, bytes]:
    network = load_network("har-cnn-1d")
    parameters = initial_parameters(network, 0)
    folded = fold(network, parameters)
    return {
        "float": onnx_bytes(network, parameters),
        "qdq": onnx_bytes(network, folded, form="qdq"),
        "qoperator": onnx_bytes(network, folded, form="qoperator"),
        "operators": recurrent_and_shapes(),
    }


def read_without_axes(path: Path) -> None:
    read_onnx(path, {})


@pytest.mark.parametrize("name", ["float", "qdq", "qoperator", "operators"])
def test_damaged_files(name: str) -> None:
    for data in mutations(seeds()[name], 0, 20 if name != "operators" else 100):
        survives(read_without_axes, data, ".onnx")


@pytest.mark.slow
def test_twenty_thousand_damaged_files() -> None:
    read_ones = 0
    for name, data in seeds().items():
        for damaged in mutations(data, 1, 3_000 if name != "operators" else 11_000):
            read_ones += survives(read_without_axes, damaged, ".onnx")
    assert read_ones > 2_000  # most damage to numbers alone leaves a file that reads


def test_every_cut(tmp_path: Path) -> None:
    whole = recurrent_and_shapes()
    for end in range(0, len(whole), 7):
        survives(read_without_axes, whole[:end], ".onnx")


# --- hostile on purpose ---


def quick(data: bytes, folder: Path) -> object:
    """Read within three seconds of the processor."""
    path = folder / "hostile.onnx"
    path.write_bytes(data)
    start = time.process_time()
    try:
        return read_onnx(path, {})
    except UserError as error:
        return error
    finally:
        assert time.process_time() - start < 3


def test_too_many_nodes(tmp_path: Path) -> None:
    model = ModelProto()
    for _ in range(20_001):
        model.graph.node.add()
    with pytest.raises(UserError, match="20001 operations"):
        read(model, tmp_path)


def test_a_file_of_empty_messages(tmp_path: Path) -> None:
    """Two bytes each in the file, a hundred in memory; judged before it is parsed."""
    inside = b"\x0a\x00" * 5_000_000
    with pytest.raises(UserError, match="once it is parsed"):
        read(_field(7, inside), tmp_path)
    numbers = _field(7, _field(1, b"") + _field(5, b"\x08\x02" * 3_000_000))
    assert isinstance(quick(numbers, tmp_path), UserError)


def _field(number: int, data: bytes) -> bytes:
    size, length = bytearray(), len(data)
    while True:
        size.append(length & 127 | (128 if length > 127 else 0))
        length >>= 7
        if not length:
            return bytes([number << 3 | 2, *size]) + data


def test_deep_graphs(tmp_path: Path) -> None:
    inner = b""
    for _ in range(2_000):
        inner = _field(1, _field(5, _field(6, inner)))
    assert isinstance(quick(_field(7, inner), tmp_path), UserError)
    graph = helper.make_graph([node("Relu", ["x"], ["y"])], "g", [], [])
    for _ in range(30):
        graph = helper.make_graph([node("If", ["x"], ["y"], then_branch=graph)], "g", [], [])
    quick(helper.make_model(graph).SerializeToString(), tmp_path)


def test_a_thousand_tall_towers_of_one_name(tmp_path: Path) -> None:
    """Names alike, and every node reading every other, at the largest allowed count."""
    nodes = [node("Relu", [f"t{place}"], [f"t{place + 1}"], "same") for place in range(19_000)]
    found = quick(proto(nodes, {"t0": [1, 4]}, ["t19000"]).SerializeToString(), tmp_path)
    assert not isinstance(found, UserError)


BOMBS = {
    "constant": [
        node("ConstantOfShape", ["big"], ["c"]),
        node("Mul", ["c", "c"], ["d"]),
        node("Add", ["x", "d"], ["y"]),
    ],
    "expand": [node("Expand", ["one", "big"], ["c"]), node("Add", ["x", "c"], ["y"])],
    "tile": [node("Tile", ["ones", "big"], ["c"]), node("Add", ["x", "c"], ["y"])],
    "range": [node("Range", ["low", "high", "step"], ["c"]), node("Add", ["x", "c"], ["y"])],
    "power": [node("Pow", ["huge", "huge"], ["c"]), node("Reshape", ["x", "c"], ["y"])],
    "reshape": [node("Reshape", ["x", "big"], ["y"])],
    "pad": [node("Pad", ["x", "big"], ["y"])],
    "resize": [node("Resize", ["x", "", "", "big"], ["y"])],
    "activations": [node("Expand", ["x", "big"], ["y"])],
    "gather": [node("Gather", ["ones", "big"], ["c"]), node("Add", ["x", "c"], ["y"])],
    "many copies": [
        node("ConstantOfShape", ["large"], ["c0"]),
        *(node("Transpose", [f"c{place}"], [f"c{place + 1}"]) for place in range(2_000)),
        *(node("Add", [f"c{place}", "one"], [f"d{place}"]) for place in range(2_000)),
        *(node("ReduceSum", ["c0"], [f"e{place}"]) for place in range(2_000)),
        node("Sum", ["x", *(f"{word}{place}" for word in "de" for place in range(2_000))], ["y"]),
    ],
    "shared weights": [
        node("ConstantOfShape", ["large"], ["w0"]),
        *(node("MatMul", [f"x{place}" if place else "x", "w0"], [f"x{place + 1}"]) for place in range(500)),
        node("Identity", ["x500"], ["y"]),
    ],
}


@pytest.mark.parametrize("case", BOMBS)
def test_what_grows_while_it_is_worked_out(case: str, tmp_path: Path) -> None:
    held = {
        "big": integers(2**40, 2**40, 2**40),
        "one": np.array(1.0, np.float32),
        "ones": reals(2, 2, 2),
        "low": np.array(0),
        "high": np.array(2**50),
        "step": np.array(1),
        "huge": integers(2**62, -1, 0),
        "large": integers(4096, 4096),
    }
    size = 4096 if case == "shared weights" else 4
    model = proto(BOMBS[case], {"x": [1, size]}, ["y"], held)
    assert not isinstance(quick(model.SerializeToString(), tmp_path), UserError)


@pytest.mark.parametrize("axis", [-9, 9, 2**63 - 1, -(2**63)])
@pytest.mark.parametrize(
    "op", ["Softmax", "Concat", "Gather", "Split", "Flatten", "LayerNormalization", "ArgMax"]
)
def test_axes_that_no_tensor_has(op: str, axis: int, tmp_path: Path) -> None:
    held = {"c": integers(0)} if op == "Gather" else {"c": reals(1, 4)}
    names = ["x", "c"] if op in ("Concat", "Gather", "LayerNormalization") else ["x"]
    found = read(proto([node(op, names, ["y"], "bad", axis=axis)], {"x": [1, 4]}, ["y"], held), tmp_path)
    assert found.nodes[0].shape is None
    assert "'bad'" in found.faults[0]


@pytest.mark.parametrize("value", ["text", [1.5], [], 3, numpy_helper.from_array(np.ones(3))])
@pytest.mark.parametrize("name", ["strides", "pads", "group", "auto_pad", "kernel_shape"])
def test_attributes_of_another_type(name: str, value: object, tmp_path: Path) -> None:
    made = helper.make_node("Conv", ["x", "w"], ["y"], "bad")
    made.attribute.append(helper.make_attribute(name, value, attr_type=None if value != [] else 7))
    read(proto([made], {"x": [1, 3, 8, 8]}, ["y"], {"w": reals(4, 3, 3, 3)}), tmp_path)


def test_every_operator_with_nothing_and_with_too_much(tmp_path: Path) -> None:
    """Each known operator with no input, with constants of odd shapes, and with the wrong types."""
    from dse.workload.onnx.arithmetic import ARITHMETIC
    from dse.workload.onnx.evaluate import MOVES
    from dse.workload.onnx.rules import CONTRIBUTED, OWN

    names = sorted({*OWN, *CONTRIBUTED, *ARITHMETIC, *MOVES, "Shape", "Size", "Constant"})
    odd = {
        "a": np.zeros(0, np.float32),
        "b": np.array(np.nan, np.float32),
        "c": reals(2, 0, 3),
        "d": integers(-7),
        "e": np.array(True),
        "f": reals(1, 1, 1, 1),
    }
    for op in names:
        for inputs in (
            [],
            [""],
            ["x"] * 9,
            ["x", *"abcdef"],
            [*"fedcba"],
            ["", "x", ""],
            ["e", "a"],
        ):
            for domain in ("", "com.microsoft")[: 1 + (op in CONTRIBUTED)]:
                made = node(op, inputs, ["y", "z"], "odd", domain=domain)
                model = proto([made], {"x": [1, 4, 5, 6]}, ["y"], odd, domains={"com.microsoft": 1})
                survived(model, tmp_path)


def survived(model: ModelProto, folder: Path) -> None:
    with contextlib.suppress(UserError):
        read(model, folder)


def test_strings_as_numbers(tmp_path: Path) -> None:
    text = TensorProto(name="w", data_type=TensorProto.STRING, dims=[2], string_data=[b"a", b"b"])
    model = proto([node("Reshape", ["x", "w"], ["r"]), node("Add", ["r", "w"], ["y"])], {"x": [1, 4]}, ["y"])
    model.graph.initializer.append(text)
    assert read(model, tmp_path).faults


# --- in time ---


def test_five_megabytes_in_a_second(tmp_path: Path) -> None:
    network = load_network("mobilenet-v1")
    path = tmp_path / "large.onnx"
    parameters = initial_parameters(network, 0)
    path.write_bytes(onnx_bytes(network, parameters))
    assert path.stat().st_size > 5_000_000
    read_onnx(path, {})
    start = time.process_time()
    model = read_onnx(path, {})
    assert time.process_time() - start < 1
    assert model.file_bytes == path.stat().st_size

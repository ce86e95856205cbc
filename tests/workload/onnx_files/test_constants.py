"""Constants in every way that a file keeps them, and claims that contradict the bytes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from dse.errors import UserError
from dse.workload.model import Constant
from dse.workload.onnx import read_onnx
from tests.workload.onnx_files.graphs import Array, integers, node, proto, read, reals

WANTED = np.array([[1.5, -2.0, 0.25], [4.0, 0.0, -8.0]], np.float32)


def model_with(tensor: Any) -> Any:
    model = proto([node("MatMul", ["x", "w"], ["y"], "fc")], {"x": ["N", 2]}, ["y"])
    tensor.name = "w"
    model.graph.initializer.append(tensor)
    return model


def weight(tensor: Any, folder: Path) -> Constant:
    found = read(model_with(tensor), folder)
    assert found.faults == ()
    return found.nodes[0].constants["weight"]


def raw(kind: int, value: Array, dims: tuple[int, ...] = (2, 3)) -> Any:
    return helper.make_tensor("w", kind, dims, value.tobytes(), raw=True)


def listed(kind: int, values: list) -> Any:
    return helper.make_tensor("w", kind, [2, 3], values)


BF16 = (WANTED.view(np.uint32) >> 16).astype(np.uint16)
WHOLE = np.array([[1, -2, 0], [4, 0, -8]])
FORMS = {
    "float32 raw": (raw(TensorProto.FLOAT, WANTED), WANTED, 24),
    "float32 listed": (listed(TensorProto.FLOAT, WANTED.ravel().tolist()), WANTED, 24),
    "float64 raw": (raw(TensorProto.DOUBLE, WANTED.astype("f8")), WANTED, 48),
    "float64 listed": (listed(TensorProto.DOUBLE, WANTED.ravel().tolist()), WANTED, 48),
    "float16 raw": (raw(TensorProto.FLOAT16, WANTED.astype("f2")), WANTED, 12),
    "float16 listed": (listed(TensorProto.FLOAT16, WANTED.astype("f2").ravel().tolist()), WANTED, 12),
    "bfloat16 raw": (raw(TensorProto.BFLOAT16, BF16), WANTED, 12),
    "int8 raw": (raw(TensorProto.INT8, WHOLE.astype("i1")), WHOLE, 6),
    "int8 listed": (listed(TensorProto.INT8, WHOLE.ravel().tolist()), WHOLE, 6),
    "int16 raw": (raw(TensorProto.INT16, WHOLE.astype("i2")), WHOLE, 12),
    "int32 listed": (listed(TensorProto.INT32, WHOLE.ravel().tolist()), WHOLE, 24),
    "int64 raw": (raw(TensorProto.INT64, WHOLE.astype("i8")), WHOLE, 48),
    "uint8 raw": (raw(TensorProto.UINT8, np.abs(WHOLE).astype("u1")), np.abs(WHOLE), 6),
    "uint64 listed": (listed(TensorProto.UINT64, np.abs(WHOLE).ravel().tolist()), np.abs(WHOLE), 48),
    "bool raw": (raw(TensorProto.BOOL, WHOLE != 0), WHOLE != 0, 6),
}


@pytest.mark.parametrize("form", FORMS)
def test_stored_forms(form: str, tmp_path: Path) -> None:
    tensor, values, size = FORMS[form]
    found = weight(tensor, tmp_path)
    np.testing.assert_array_equal(found.values, np.asarray(values, np.float32).T)
    assert (found.stored_type, found.stored_bytes) == (form.split(maxsplit=1)[0], size)


def test_every_half_float_is_read(tmp_path: Path) -> None:
    """All finite half floats, listed as their bits, against numpy's own conversion."""
    bits = np.arange(2**16, dtype=np.uint16)
    bits = bits[np.isfinite(bits.view(np.float16))]
    tensor = TensorProto(data_type=TensorProto.FLOAT16, dims=[2, len(bits) // 2], int32_data=bits.tolist())
    found = weight(tensor, tmp_path)
    np.testing.assert_array_equal(found.values, bits.view(np.float16).astype(np.float32).reshape(2, -1).T)


def test_a_constant_node_and_a_listed_input(tmp_path: Path) -> None:
    held = node("Constant", [], ["w"], value=numpy_helper.from_array(WANTED))
    found = read(proto([held, node("MatMul", ["x", "w"], ["y"])], {"x": ["N", 2]}, ["y"]), tmp_path)
    np.testing.assert_array_equal(found.nodes[0].constants["weight"].values, WANTED.T)
    model = proto([node("MatMul", ["x", "w"], ["y"])], {"x": ["N", 2], "w": [2, 3]}, ["y"], {"w": WANTED})
    found = read(model, tmp_path)
    assert [one.name for one in found.inputs] == ["x"]
    assert found.nodes[0].operation == "linear"


def test_parameters_that_are_inputs_have_their_shape_alone(tmp_path: Path) -> None:
    conv = node("Conv", ["x", "w", "b"], ["y"], "conv")
    found = read(proto([conv], {"x": [1, 3, 8, 8], "w": [4, 3, 3, 3], "b": [4]}, ["y"]), tmp_path)
    assert [one.name for one in found.inputs] == ["x"]
    assert found.nodes[0].shape == (4, 6, 6)
    held = found.nodes[0].constants["weight"]
    assert (held.shape, held.values, held.stored_bytes) == ((4, 3, 3, 3), None, 432)


def test_sparse_numbers_and_strings_are_named(tmp_path: Path) -> None:
    model = proto([node("MatMul", ["x", "w"], ["y"], "fc")], {"x": ["N", 2]}, ["y"])
    values, places = (
        numpy_helper.from_array(np.ones(1, np.float32), "w"),
        numpy_helper.from_array(integers(3)),
    )
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [2, 3]))
    found = read(model, tmp_path)
    assert found.nodes[0].constants["weight"].shape == (3, 2)
    assert "sparse" in found.faults[0]
    text = TensorProto(data_type=TensorProto.STRING, dims=[2, 3], string_data=[b"a"] * 6)
    assert "string" in read(model_with(text), tmp_path).faults[0]


def test_numbers_that_are_left_out_leave_the_shape(tmp_path: Path) -> None:
    found = read(model_with(TensorProto(data_type=TensorProto.FLOAT, dims=[2, 3])), tmp_path)
    assert found.nodes[0].constants["weight"].shape == (3, 2)
    assert found.nodes[0].constants["weight"].values is None
    assert "without its numbers" in found.faults[0]


WRONG = {
    "too few bytes": (TensorProto(data_type=1, dims=[2, 3], raw_data=b"\0" * 20), "takes 24"),
    "too many bytes": (TensorProto(data_type=1, dims=[2, 3], raw_data=b"\0" * 28), "takes 24"),
    "another type": (TensorProto(data_type=11, dims=[2, 3], raw_data=b"\0" * 24), "takes 48"),
    "too few numbers": (TensorProto(data_type=1, dims=[2, 3], float_data=[1.0]), "needs 6"),
    "negative axis": (TensorProto(data_type=1, dims=[2, -3], raw_data=b"\0" * 24), "negative"),
    "terabytes": (TensorProto(data_type=1, dims=[2**20, 2**20]), "at most"),
    "overflowing": (TensorProto(data_type=1, dims=[2**62, 2**62, 4]), "at most"),
    "many axes": (TensorProto(data_type=1, dims=[1] * 50, raw_data=b"\0" * 4), "axes"),
    "out of range": (TensorProto(data_type=3, dims=[2, 3], int32_data=[300] * 6), "int8"),
}


@pytest.mark.parametrize("case", WRONG)
def test_claims_against_the_bytes_are_refused(case: str, tmp_path: Path) -> None:
    tensor, said = WRONG[case]
    with pytest.raises(UserError, match=said) as caught:
        read(model_with(tensor), tmp_path)
    assert "constant w" in str(caught.value)


def test_all_wrong_constants_are_told_at_once(tmp_path: Path) -> None:
    model = model_with(TensorProto(data_type=1, dims=[2, 3], raw_data=b""))
    model.graph.initializer.append(TensorProto(name="v", data_type=1, dims=[-1]))
    with pytest.raises(UserError) as caught:
        read(model, tmp_path)
    assert len(caught.value.problems) == 2


# --- beside the file ---


def external(
    location: str, offset: int | str | None = None, length: int | str | None = None, elements: int = 6
) -> Any:
    tensor = TensorProto(data_type=1, dims=[2, elements // 2], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        if value is not None:
            tensor.external_data.add(key=key, value=str(value))
    return tensor


def test_external_data(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "weights.bin").write_bytes(b"\xff" * 16 + WANTED.tobytes())
    found = read(model_with(external("deep/weights.bin", 16, 24)), tmp_path)
    np.testing.assert_array_equal(found.nodes[0].constants["weight"].values, WANTED.T)
    assert found.file_bytes == (tmp_path / "small.onnx").stat().st_size + 24
    again = read(model_with(external("deep/weights.bin", 16)), tmp_path)
    np.testing.assert_array_equal(again.nodes[0].constants["weight"].values, WANTED.T)


def test_external_data_that_is_not_there_leaves_the_shape(tmp_path: Path) -> None:
    found = read(model_with(external("weights.bin", 0, 24)), tmp_path)
    assert found.nodes[0].constants["weight"].values is None
    assert "weights.bin" in found.faults[0]


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file outside the model's folder that must not be read, and links inside that lead to it."""
    path = tmp_path / "secret.bin"
    path.write_bytes(WANTED.tobytes())
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "link.bin").symlink_to(path)
    (folder / "up").symlink_to(tmp_path)
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "plain.bin").write_bytes(b"\0" * 20)
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    return path


ESCAPES = {
    "upwards": "../secret.bin",
    "upwards from within": "folder/../../secret.bin",
    "absolute": "{}",
    "link": "link.bin",
    "linked folder": "up/secret.bin",
    "backslashes": "..\\secret.bin",
    "drive": "C:secret.bin",
    "nothing": "",
    "the folder": ".",
    "a folder": "folder",
    "pipe": "pipe",
    "loop": "loop",
    "zero byte": "a\0b",
    "device": "/dev/zero",
    "too short": "plain.bin",
    "long": "a" * 5000,
}


@pytest.mark.parametrize("case", ESCAPES)
def test_external_data_stays_in_its_folder(case: str, secret: Path) -> None:
    path = secret.parent / "model" / "model.onnx"
    path.write_bytes(model_with(external(ESCAPES[case].format(secret), 0, 24)).SerializeToString())
    with pytest.raises(UserError) as caught:
        read_onnx(path, {})
    assert "constant w" in str(caught.value) or "initializer w" in str(caught.value)


@pytest.mark.parametrize(
    ("offset", "length"),
    [(-1, 24), ("1e3", 24), (0, 8), (0, 28), (0, 2**40), (2**62, 24), (8, 24), ("٣", 24)],
)
def test_offsets_and_lengths_are_checked(offset: int | str, length: int, tmp_path: Path) -> None:
    more = b"" if offset == 8 else b"\0" * 8  # with the others the file is long enough
    (tmp_path / "w.bin").write_bytes(WANTED.tobytes() + more)
    with pytest.raises(UserError):
        read(model_with(external("w.bin", offset, length)), tmp_path)


def test_weights_worked_out_of_others(tmp_path: Path) -> None:
    """Weight norm, left in the graph: g v / |v| per output."""
    v, g = reals(4, 3, 3, 3), np.arange(1, 5, dtype=np.float32).reshape(4, 1, 1, 1)
    nodes = [
        node("ReduceL2", ["v"], ["n"], axes=[1, 2, 3], keepdims=1),
        node("Div", ["v", "n"], ["d"]),
        node("Mul", ["g", "d"], ["w"]),
        node("Conv", ["x", "w"], ["y"], "conv"),
    ]
    found = read(proto(nodes, {"x": [1, 3, 8, 8]}, ["y"], {"v": v, "g": g}), tmp_path)
    wanted = g * v / np.sqrt((v**2).sum(axis=(1, 2, 3), keepdims=True))
    np.testing.assert_allclose(found.nodes[0].constants["weight"].values, wanted, rtol=1e-5)


def test_weights_that_are_computed_from_the_input_are_named(tmp_path: Path) -> None:
    nodes = [node("ReduceMean", ["x"], ["m"], axes=[0]), node("Conv", ["x", "m"], ["y"], "conv")]
    found = read(proto(nodes, {"x": [1, 3, 8, 8]}, ["y"]), tmp_path)
    assert any("Conv 'conv'" in fault and "weights" in fault for fault in found.faults)

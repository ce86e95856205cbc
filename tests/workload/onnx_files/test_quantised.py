"""Quantised files: pairs around nodes, operators on integers, dynamic scales, requantisation by shifts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.workload.onnx_files.graphs import Array, node, proto, read, words

X = {"x": ["N", 3, 8, 8]}
Q = np.random.default_rng(0).integers(-128, 128, (4, 3, 3, 3)).astype(np.int8)
SCALES = np.array([0.01, 0.02, 0.03, 0.04], np.float32)
SPREAD = SCALES.reshape(4, 1, 1, 1)
PAIR = {"s": np.array(0.1, np.float32), "z": np.array(5, np.uint8)}


def scalar(value: float, dtype: type = np.float32) -> Array:
    return np.array(value, dtype)


def test_weights_per_channel_and_bias(tmp_path: Path) -> None:
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        node("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
        node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], axis=0),
        node("DequantizeLinear", ["b", "bs"], ["bd"], axis=0),
        node("Conv", ["xd", "wd", "bd"], ["c"], "conv"),
        node("Relu", ["c"], ["r"], "relu"),
        node("QuantizeLinear", ["r", "s", "z"], ["rq"]),
        node("DequantizeLinear", ["rq", "s", "z"], ["y"]),
    ]
    bias = np.array([10, -20, 30, 40], np.int32)
    held = PAIR | {
        "w": Q,
        "ws": SCALES,
        "wz": np.zeros(4, np.int8),
        "b": bias,
        "bs": SCALES * np.float32(0.1),
    }
    found = read(proto(nodes, X, ["y"], held), tmp_path)
    assert words(found) == ["conv", "relu"]
    weight, added = (found.nodes[0].constants[name] for name in ("weight", "bias"))
    np.testing.assert_allclose(weight.values, Q * SPREAD, rtol=1e-6)
    np.testing.assert_allclose(added.values, bias * SCALES * 0.1, rtol=1e-5)
    assert (weight.stored_type, weight.stored_bytes, weight.quantisation.bits, weight.quantisation.axis) == (
        "int8",
        Q.size,
        8,
        0,
    )
    assert (added.stored_bytes, added.quantisation.bits) == (16, 32)
    relu, given = found.nodes[1].quantisation, found.inputs[0].quantisation
    for one in (relu, given):
        assert (one.bits, one.signed, one.scale[0], one.zero_point[0]) == (8, False, pytest.approx(0.1), 5)
    assert found.nodes[0].quantisation is None
    assert any("2 DequantizeLinear" in note and "2 QuantizeLinear" in note for note in found.notes)


def test_real_weights_between_a_pair_are_rounded(tmp_path: Path) -> None:
    real = np.random.default_rng(1).uniform(-1, 1, (4, 3, 3, 3)).astype(np.float32)
    nodes = [
        node("QuantizeLinear", ["w", "ws", "wz"], ["wq"]),
        node("DequantizeLinear", ["wq", "ws", "wz"], ["wd"]),
        node("Conv", ["x", "wd"], ["y"]),
    ]
    held = {"w": real, "ws": scalar(0.01), "wz": scalar(0, np.int8)}
    weight = read(proto(nodes, X, ["y"], held), tmp_path).nodes[0].constants["weight"]
    np.testing.assert_allclose(weight.values, np.clip(np.round(real / 0.01), -128, 127) * 0.01, atol=1e-6)
    assert (weight.stored_type, weight.quantisation.bits) == ("float32", 8)


def test_quantised_weights_through_a_transpose_keep_their_axis(tmp_path: Path) -> None:
    whole = np.arange(24, dtype=np.int8).reshape(4, 6)
    nodes = [
        node("DequantizeLinear", ["w", "ws"], ["d"], axis=0),
        node("Transpose", ["d"], ["t"], perm=[1, 0]),
        node("MatMul", ["x", "t"], ["y"]),
    ]
    found = read(proto(nodes, {"x": ["N", 6]}, ["y"], {"w": whole, "ws": SCALES}), tmp_path)
    weight = found.nodes[0].constants["weight"]
    np.testing.assert_allclose(weight.values, whole * SCALES[:, None], rtol=1e-6)
    assert (weight.shape, weight.quantisation.axis) == ((4, 6), 0)


def test_scales_in_blocks(tmp_path: Path) -> None:
    whole = np.arange(32, dtype=np.int8).reshape(8, 4)
    scales = np.array([[1, 2, 3, 4], [5, 6, 7, 8]], np.float32)
    nodes = [
        node("DequantizeLinear", ["w", "ws"], ["d"], axis=0, block_size=4),
        node("MatMul", ["x", "d"], ["y"]),
    ]
    found = read(proto(nodes, {"x": ["N", 8]}, ["y"], {"w": whole, "ws": scales}, opset=21), tmp_path)
    wanted = (whole * np.repeat(scales, 4, axis=0)).T
    np.testing.assert_allclose(found.nodes[0].constants["weight"].values, wanted)


def test_four_bit_weights(tmp_path: Path) -> None:
    values = np.array([-8, -1, 0, 1, 2, 3, 7], np.int8)
    packed = bytes(
        int(a & 15) | int(b & 15) << 4 for a, b in zip(values[::2], [*values[1::2], 0], strict=True)
    )
    model = proto(
        [node("DequantizeLinear", ["w", "ws"], ["d"]), node("MatMul", ["x", "d"], ["y"])],
        {"x": ["N", 7]},
        ["y"],
        {"ws": scalar(0.5)},
        opset=21,
    )
    model.graph.initializer.append(helper.make_tensor("w", TensorProto.INT4, [7, 1], packed, raw=True))
    weight = read(model, tmp_path).nodes[0].constants["weight"]
    np.testing.assert_array_equal(weight.values, values[None] * np.float32(0.5))
    assert (weight.stored_type, weight.stored_bytes, weight.quantisation.bits) == ("int4", 4, 4)


def test_convolution_on_integers(tmp_path: Path) -> None:
    conv = node(
        "QLinearConv", ["x", "s", "z", "w", "ws", "wz", "ys", "yz", "b"], ["y"], "conv", strides=[2, 2]
    )
    bias = np.array([1, 2, 3, 4], np.int32)
    held = PAIR | {
        "w": Q,
        "ws": SCALES,
        "wz": np.zeros(4, np.int8),
        "ys": scalar(0.2),
        "yz": scalar(-3, np.int8),
        "b": bias,
    }
    found = read(proto([conv], X, ["y"], held), tmp_path)
    (layer,) = found.nodes
    assert (layer.operation, layer.shape) == ("conv", (4, 3, 3))
    np.testing.assert_allclose(layer.constants["weight"].values, Q * SPREAD, rtol=1e-6)
    np.testing.assert_allclose(layer.constants["bias"].values, bias * SCALES * 0.1, rtol=1e-5)
    assert (layer.quantisation.signed, layer.quantisation.zero_point[0]) == (True, -3)
    assert found.inputs[0].quantisation.zero_point[0] == 5


def test_matrix_products_on_integers(tmp_path: Path) -> None:
    whole, zero = np.arange(24, dtype=np.uint8).reshape(6, 4), scalar(100, np.uint8)
    tail = {"ws": scalar(0.5), "wz": zero, "ys": scalar(0.2), "yz": scalar(7, np.uint8)}
    product = node("QLinearMatMul", ["x", "s", "z", "w", "ws", "wz", "ys", "yz"], ["y"])
    found = read(proto([product], {"x": ["N", 6]}, ["y"], PAIR | tail | {"w": whole}), tmp_path).nodes[0]
    assert (found.operation, found.shape, found.quantisation.zero_point[0]) == ("linear", (4,), 7)
    np.testing.assert_allclose(found.constants["weight"].values, (whole.T.astype(float) - 100) * 0.5)
    gemm = node(
        "QGemm", ["x", "s", "z", "w", "ws", "wz", "b", "ys", "yz"], ["y"], domain="com.microsoft", transB=1
    )
    held = PAIR | tail | {"w": whole.T, "b": np.array([1, 2, 3, 4], np.int32)}
    found = read(proto([gemm], {"x": ["N", 6]}, ["y"], held, domains={"com.microsoft": 1}), tmp_path).nodes[0]
    np.testing.assert_allclose(found.constants["bias"].values, np.array([1, 2, 3, 4]) * 0.05, rtol=1e-6)
    assert found.quantisation.scale[0] == pytest.approx(0.2)


def test_convolution_of_integers_alone(tmp_path: Path) -> None:
    nodes = [
        node("ConvInteger", ["x", "w", "xz", "wz"], ["c"], "conv"),
        node("Cast", ["c"], ["f"], to=1),
        node("Mul", ["f", "s"], ["y"], "scale"),
    ]
    held = {"w": Q, "xz": scalar(5, np.uint8), "wz": scalar(3, np.int8), "s": scalar(0.25)}
    found = read(proto(nodes, X, ["y"], held), tmp_path)
    assert words(found) == ["conv", "multiply"]
    np.testing.assert_array_equal(found.nodes[0].constants["weight"].values, Q.astype(np.float32) - 3)


def test_dynamic_scales_go_to_the_weights(tmp_path: Path) -> None:
    whole = np.arange(-12, 12, dtype=np.int8).reshape(6, 4)
    nodes = [
        node("DynamicQuantizeLinear", ["x"], ["xq", "xs", "xz"]),
        node("MatMulInteger", ["xq", "w", "xz", "wz"], ["i"], "fc"),
        node("Cast", ["i"], ["f"], to=1),
        node("Mul", ["xs", "ws"], ["s"]),
        node("Mul", ["f", "s"], ["m"]),
        node("Add", ["m", "b"], ["y"]),
    ]
    held = {"w": whole, "wz": scalar(0, np.int8), "ws": scalar(0.5), "b": np.ones(4, np.float32)}
    found = read(proto(nodes, {"x": ["N", 6]}, ["y"], held), tmp_path)
    assert (words(found), found.faults) == (["linear"], ())
    weight = found.nodes[0].constants["weight"]
    np.testing.assert_allclose(weight.values, whole.T * 0.5)
    assert weight.quantisation.scale[0] == 0.5
    assert "bias" in found.nodes[0].constants


def test_requantisation_by_multiply_and_shift(tmp_path: Path) -> None:
    """As integer files have it: convolution, product, sum, division by a power of two, floor, clip."""
    nodes = [
        node("Conv", ["x", "w"], ["c"], "conv", pads=[1, 1, 1, 1]),
        node("Mul", ["c", "m"], ["a"], "multiplier"),
        node("Add", ["a", "l"], ["b"], "lambda"),
        node("Div", ["b", "d"], ["e"], "shift"),
        node("Floor", ["e"], ["f"], "floor"),
        node("Clip", ["f", "low", "high"], ["y"], "clip"),
    ]
    held = {
        "w": Q.astype(np.float32),
        "m": np.full((1, 4, 1, 1), 77, np.float32),
        "l": np.full((1, 4, 1, 1), 9, np.float32),
        "d": scalar(65536),
        "low": scalar(0),
        "high": scalar(255),
    }
    found = read(proto(nodes, X, ["y"], held), tmp_path)
    assert words(found) == ["conv", "multiply", "add", "divide", "unknown", "clip"]
    assert found.nodes[4].source_operation == "Floor"
    assert found.nodes[5].attributes == {"low": 0.0, "high": 255.0}
    assert found.nodes[1].constants["operand"].shape == (4, 1, 1)
    assert found.nodes[-1].shape == (4, 8, 8)
    assert found.faults == ()


def test_requantisation_as_one_operator(tmp_path: Path) -> None:
    nodes = [
        node("Conv", ["x", "w"], ["c"], "conv"),
        node("RequantShift", ["c", "m", "l"], ["y"], "shift", domain="PACT", div=256, n_levels=256),
    ]
    held = {"w": Q.astype(np.float32), "m": np.ones(4, np.float32), "l": np.ones(4, np.float32)}
    found = read(proto(nodes, X, ["y"], held, domains={"PACT": 1}), tmp_path).nodes[1]
    assert (found.operation, found.source_operation, found.shape) == (
        "unknown",
        "PACT::RequantShift",
        (4, 6, 6),
    )
    assert sum(one.elements for one in found.constants.values()) == 8


def test_quantisation_in_one_step_of_any_width(tmp_path: Path) -> None:
    nodes = [
        node(
            "Quant", ["w", "ws", "z0", "bits"], ["wd"], domain="qonnx.custom_op.general", signed=1, narrow=1
        ),
        node("Conv", ["x", "wd"], ["c"], "conv"),
        node("Quant", ["c", "cs", "z0", "bits"], ["y"], domain="qonnx.custom_op.general", signed=0),
    ]
    held = {
        "w": np.linspace(-1, 1, 108, dtype=np.float32).reshape(4, 3, 3, 3),
        "ws": SPREAD,
        "z0": scalar(0),
        "bits": scalar(3),
        "cs": scalar(0.5),
    }
    found = read(proto(nodes, X, ["y"], held, domains={"qonnx.custom_op.general": 1}), tmp_path)
    assert words(found) == ["conv"]
    weight = found.nodes[0].constants["weight"]
    assert (weight.quantisation.bits, weight.quantisation.axis) == (3, 0)
    np.testing.assert_allclose(
        weight.values, np.clip(np.round(held["w"] / SPREAD), -3, 3) * SPREAD, rtol=1e-5
    )
    assert (found.nodes[0].quantisation.bits, found.nodes[0].quantisation.signed) == (3, False)


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan, np.inf])
def test_scales_that_are_none(scale: float, tmp_path: Path) -> None:
    nodes = [node("DequantizeLinear", ["w", "s"], ["d"], "dq"), node("Conv", ["x", "d"], ["y"], "conv")]
    found = read(proto(nodes, X, ["y"], {"w": Q, "s": scalar(scale)}), tmp_path)
    assert "scale" in found.faults[0]
    assert found.nodes[0].operation in ("conv", "unknown")


def test_scales_for_another_number_of_channels(tmp_path: Path) -> None:
    nodes = [
        node("DequantizeLinear", ["w", "s"], ["d"], "dq", axis=1),
        node("Conv", ["x", "d"], ["y"], "conv"),
    ]
    found = read(proto(nodes, X, ["y"], {"w": Q, "s": SCALES}), tmp_path)
    assert "4 scales for an axis of 3" in found.faults[0]


def test_zero_points_and_scales_of_other_counts(tmp_path: Path) -> None:
    nodes = [
        node("DequantizeLinear", ["w", "s", "z"], ["d"], "dq", axis=0),
        node("Conv", ["x", "d"], ["y"], "conv"),
    ]
    held = {"w": Q, "s": SCALES, "z": np.zeros(3, np.int8)}
    found = read(proto(nodes, X, ["y"], held), tmp_path)
    assert "3 zero points for 4 scales" in found.faults[0]
    conv = node("QLinearConv", ["x", "s", "z", "w", "ws", "wz", "ys", "yz", "b"], ["y"], "conv")
    held = {"s": np.zeros(0, np.float32), "z": scalar(5, np.uint8), "w": Q, "ws": SCALES} | {
        "wz": np.zeros(4, np.int8),
        "ys": scalar(0.2),
        "yz": scalar(0, np.uint8),
        "b": np.zeros(4, np.int32),
    }
    found = read(proto([conv], X, ["y"], held), tmp_path)
    assert found.nodes[0].shape is None
    assert "QLinearConv 'conv'" in found.faults[0]

"""Element types and quantisation of TFLite files, against numbers dequantised by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dse.workload.model import Constant, Model
from tests.workload.exporters.tflite_builder import Scheme, TfliteBuilder
from tests.workload.tflite_files.samples import CONV, only, ramp, read, sole

IN, OUT = Scheme((0.5,), (-3,)), Scheme((0.25,), (4,))


def dense(
    weight: NDArray[Any] | bytes, type_: str, scheme: Scheme | None, *, shape: tuple[int, ...] = (2, 3),
    activations: str = "int8", ends: tuple[Scheme | None, Scheme | None] = (IN, OUT),
) -> Model:  # fmt: skip
    build = TfliteBuilder()
    source = build.tensor("x", (1, shape[1]), activations, scheme=ends[0])
    target = build.tensor("y", (1, shape[0]), activations, scheme=ends[1])
    stored = build.tensor("w", shape, type_, weight, scheme)
    build.operator("FULLY_CONNECTED", [source, stored, -1], target, "FullyConnectedOptions")
    return read(build, [source], [target])


def weight_of(model: Model) -> Constant:
    return only(model).constants["weight"]


def test_int8_weights_and_activations() -> None:
    model = dense(np.array([[1, -2, 3], [4, -127, 127]], dtype=np.int8), "int8", Scheme((0.5,), (1,)))
    weight = weight_of(model)
    np.testing.assert_array_equal(weight.values, [[0, -1.5, 1], [1.5, -64, 63]])
    assert (weight.stored_type, weight.stored_bytes) == ("int8", 6)
    scheme = model.nodes[0].quantisation
    assert scheme is not None
    assert (scheme.bits, scheme.signed, scheme.axis) == (8, True, None)
    assert (scheme.scale.tolist(), scheme.zero_point.tolist()) == ([0.25], [4])
    assert model.inputs[0].quantisation is not None
    assert model.inputs[0].quantisation.scale.tolist() == [0.5]


@pytest.mark.parametrize(
    ("type_", "bits", "signed"), [("uint8", 8, False), ("int16", 16, True), ("int8", 8, True)]
)
def test_other_whole_types(type_: str, bits: int, signed: bool) -> None:
    weight = weight_of(dense(np.array([[1, 2, 3], [4, 5, 100]], dtype=type_), type_, Scheme((2.0,), (0,))))
    assert weight.quantisation is not None
    assert (weight.quantisation.bits, weight.quantisation.signed) == (bits, signed)
    np.testing.assert_array_equal(weight.values, [[2, 4, 6], [8, 10, 200]])


def test_four_bit_weights_share_bytes_the_lower_half_first() -> None:
    data = bytes([0x21, 0xF3, 0x08])  # 1, 2, 3, -1, -8 and half a byte to spare
    weight = weight_of(dense(data, "int4", Scheme((0.5,), (0,)), shape=(1, 5)))
    np.testing.assert_array_equal(weight.values, [[0.5, 1, 1.5, -0.5, -4]])
    assert (weight.stored_bytes, weight.elements) == (3, 5)
    assert weight.quantisation is not None
    assert weight.quantisation.bits == 4


def test_scales_per_channel_follow_the_channels() -> None:
    stored = np.ones((1, 2, 2, 3), dtype=np.int8)
    build = TfliteBuilder()
    source = build.tensor("x", (1, 4, 4, 3), "int8", scheme=IN)
    target = build.tensor("y", (1, 4, 4, 3), "int8", scheme=OUT)
    weight = build.constant("w", stored, Scheme((1.0, 2.0, 3.0), (0, 0, 0), axis=3))
    bias = build.constant("b", np.array([10, 10, 10], dtype=np.int32), Scheme((0.5, 1.0, 1.5), (0, 0, 0)))
    build.operator("DEPTHWISE_CONV_2D", [source, weight, bias], target, "DepthwiseConv2DOptions", **CONV)
    node = only(read(build, [source], [target]))
    found = node.constants["weight"]
    assert found.quantisation is not None
    assert found.quantisation.axis == 0
    np.testing.assert_array_equal(found.quantisation.scale, [1, 2, 3])
    assert found.values is not None
    np.testing.assert_array_equal(found.values[:, 0, 0, 0], [1, 2, 3])
    np.testing.assert_array_equal(node.constants["bias"].values, [5, 10, 15])


def test_wide_biases_are_dequantised_in_double() -> None:
    build = TfliteBuilder()
    source, target = (
        build.tensor("x", (1, 3), "int8", scheme=IN),
        build.tensor("y", (1, 1), "int8", scheme=OUT),
    )
    weight = build.constant("w", np.ones((1, 3), dtype=np.int8), Scheme((1.0,), (0,)))
    bias = build.constant("b", np.array([2**24 + 1], dtype=np.int32), Scheme((0.5,), (1,)))
    build.operator("FULLY_CONNECTED", [source, weight, bias], target, "FullyConnectedOptions")
    assert only(read(build, [source], [target])).constants["bias"].values == [2.0**23]


def test_half_precision_weights_behind_dequantize() -> None:
    build = TfliteBuilder()
    source, target = build.tensor("x", (1, 3)), build.tensor("y", (1, 2))
    stored = build.constant("w16", ramp(2, 3).astype(np.float16))
    weight = build.operator("DEQUANTIZE", [stored], build.tensor("w32", (2, 3)), "DequantizeOptions")
    build.operator("FULLY_CONNECTED", [source, weight, -1], target, "FullyConnectedOptions")
    model = read(build, [source], [target])
    found = weight_of(model)
    assert (found.stored_type, found.stored_bytes) == ("float16", 12)
    np.testing.assert_array_equal(found.values, ramp(2, 3))
    assert "float16 constants behind DEQUANTIZE, taken as stored: 1" in model.notes


def test_quantize_and_dequantize_leave_scales_and_a_note() -> None:
    build = TfliteBuilder()
    source = build.tensor("x", (1, 4))
    whole = build.operator(
        "QUANTIZE", [source], build.tensor("q", (1, 4), "int8", scheme=IN), "QuantizeOptions"
    )
    relu = build.operator("RELU", [whole], build.tensor("r", (1, 4), "int8", scheme=OUT))
    other = build.operator(
        "QUANTIZE", [relu], build.tensor("s", (1, 4), "int8", scheme=IN), "QuantizeOptions"
    )
    out = build.operator("DEQUANTIZE", [other], build.tensor("y", (1, 4)), "DequantizeOptions")
    model = read(build, [source], [out])
    (node,) = model.nodes
    assert (node.name, node.inputs, model.outputs) == ("r", ("input:x",), ("r",))
    assert node.quantisation is not None
    assert node.quantisation.scale == [0.25]
    assert model.inputs[0].quantisation is not None
    assert model.inputs[0].quantisation.zero_point == [-3]
    assert "QUANTIZE and DEQUANTIZE operators dropped: 3" in model.notes
    assert "QUANTIZE operators that only change the scale dropped: 1" in model.notes


def test_float_activations_with_whole_weights_are_hybrid() -> None:
    model = dense(
        np.ones((2, 3), dtype=np.int8), "int8", Scheme((0.5,), (0,)), activations="float32", ends=(None, None)
    )
    assert weight_of(model).quantisation is not None
    assert model.nodes[0].quantisation is None
    assert "layers with quantised weights and float activations (hybrid): 1" in model.notes


def test_a_cast_that_loses_nothing_leaves_no_trace() -> None:
    build = TfliteBuilder()
    source = build.tensor("x", (1, 4), "uint8", scheme=Scheme((1.0,), (0,)))
    real = build.operator(
        "CAST", [source], build.tensor("real", (1, 4)), "CastOptions", InDataType=3, OutDataType=0
    )
    out = build.operator("RELU", [real], build.tensor("y", (1, 4)))
    assert [(node.name, node.inputs) for node in read(build, [source], [out]).nodes] == [("y", ("input:x",))]
    model = sole("CAST", (1, 4), (1, 4), "CastOptions", OutDataType=0)
    assert not model.nodes


def test_rounding_casts_are_unknown() -> None:
    build = TfliteBuilder()
    source, target = build.tensor("x", (1, 4)), build.tensor("y", (1, 4), "int32")
    build.operator("CAST", [source], target, "CastOptions", InDataType=0, OutDataType=2)
    (node,) = read(build, [source], [target]).nodes
    assert (node.operation, node.source_operation) == ("unknown", "CAST")


# --- what cannot be used ---

ONES = np.ones((2, 3), dtype=np.int8)


@pytest.mark.parametrize(("scheme", "reason"), [
    (None, "int8 without a scale"),
    (Scheme(()), "int8 without a scale"),
    (Scheme((0.0,)), "zero"),
    (Scheme((-1.0,)), "negative"),
    (Scheme((float("nan"),)), "not finite"),
    (Scheme((1.0, 1.0), (0, 0), axis=1), "2 scales on axis 1 of [2, 3]"),
    (Scheme((1.0, 1.0), (0, 0), axis=7), "2 scales on axis 7"),
    (Scheme((1.0, 1.0), (0, 0, 0)), "3 zero points for 2 scales"),
    (Scheme((1.0,), (300,)), "outside int8"),
    (Scheme((1.0,), (128,)), "outside int8"),
    (Scheme((1.0,), (-129,)), "outside int8"),
    (Scheme((1.0,), (0,), details=1), "in another way"),
])  # fmt: skip
def test_scales_that_make_no_sense_are_faults(scheme: Scheme | None, reason: str) -> None:
    model = dense(ONES, "int8", scheme)
    weight = model.nodes[0].constants["weight"]
    assert model.nodes[0].operation == "linear"
    assert (weight.values, weight.stored_bytes) == (None, 6)  # never zeros in place of what is not known
    (fault,) = model.faults
    assert reason in fault


def test_activations_without_a_scale_are_faults() -> None:
    model = dense(ONES, "int8", Scheme((1.0,)), ends=(IN, None))
    assert model.faults == ("tensor 1 is int8 without a scale",)


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_faults(number: float) -> None:
    weight = ramp(2, 3)
    weight[1, 1] = number
    model = dense(weight, "float32", None, activations="float32", ends=(None, None))
    assert "NaN or infinite" in model.faults[0]


def test_bytes_that_do_not_fit_the_shape_are_faults() -> None:
    model = dense(b"\1\2\3\4\5", "int8", Scheme((1.0,)))
    assert "has 5 bytes, its shape needs 6" in model.faults[0]

"""Operators of TFLite files one by one, against facts worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from dse.workload.tflite.convolutions import window
from tests.workload.exporters.tflite_builder import TfliteBuilder
from tests.workload.tflite_files.samples import CONV, POOL, by_name, ints, only, ramp, read, sole

SIGN_BIT = {"FusedActivationFunction": 5}

# --- convolutions ---


def test_a_convolution_has_its_weights_in_the_order_of_all_formats() -> None:
    weight = ramp(2, 1, 3, 4)  # OHWI
    node = only(sole("CONV_2D", (1, 5, 5, 4), (1, 5, 5, 2), "Conv2DOptions", [weight, ramp(2)], **CONV))
    assert (node.name, node.operation, node.inputs, node.source_operation) == (
        "y",
        "conv",
        ("input:x",),
        "CONV_2D",
    )
    assert (node.shape, node.channel_axis) == ((5, 5, 2), 2)
    assert node.attributes == {
        "kernel": (1, 3), "stride": (1, 1), "dilation": (1, 1), "pads": ((0, 0), (1, 1)), "groups": 1,
    }  # fmt: skip
    found = node.constants["weight"]
    assert (found.shape, found.stored_type, found.stored_bytes) == ((2, 4, 1, 3), "float32", 96)
    assert found.values is not None
    assert found.values[1, 2, 0, 1] == weight[1, 0, 1, 2] == 18
    np.testing.assert_array_equal(node.constants["bias"].values, [0, 1])


def test_groups_are_what_the_channels_say() -> None:
    node = only(sole("CONV_2D", (1, 5, 5, 6), (1, 5, 5, 9), "Conv2DOptions", [ramp(9, 3, 3, 2)], **CONV))
    assert node.attributes["groups"] == 3
    assert node.constants["weight"].shape == (9, 2, 3, 3)
    assert set(node.constants) == {"weight"}


def test_a_depthwise_convolution_may_have_several_filters_a_channel() -> None:
    weight = ramp(1, 2, 3, 8)  # two filters for each of four channels
    model = sole("DEPTHWISE_CONV_2D", (1, 5, 5, 4), (1, 5, 5, 8), "DepthwiseConv2DOptions", [weight],
                 **CONV, DepthMultiplier=2)  # fmt: skip
    node = only(model)
    assert (node.operation, node.attributes["groups"], node.shape) == ("conv", 4, (5, 5, 8))
    found = node.constants["weight"]
    assert found.shape == (8, 1, 2, 3)
    assert found.values is not None
    assert found.values[5, 0, 1, 2] == weight[0, 1, 2, 5]
    assert node.attributes["pads"] == ((0, 1), (1, 1))


def naive_same(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, tuple[int, int]]:
    """Output size and pads of SAME, found by trying amounts of padding one after the other."""
    out, span = len(range(0, size, stride)), dilation * (kernel - 1) + 1
    total = next(pad for pad in range(1000) if (out - 1) * stride + span <= size + pad)
    return out, (total // 2, total - total // 2)


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
def test_windows_have_the_sizes_that_counting_gives(
    kernel: int, stride: int, dilation: int, same: bool
) -> None:
    for size in range(dilation * (kernel - 1) + 1, 20):
        sizes, pads = window((size,), (kernel,), (stride,), (dilation,), same=same)
        if same:
            assert (sizes[0], pads[0]) == naive_same(size, kernel, stride, dilation)
        else:
            last = size - dilation * (kernel - 1)
            assert (sizes[0], pads[0]) == (len(range(0, last, stride)), (0, 0))


@pytest.mark.parametrize(("number", "suffix", "operation", "attributes"), [
    (1, "relu", "relu", {}),
    (2, "relu_n1_to_1", "clip", {"low": -1.0, "high": 1.0}),
    (3, "relu6", "relu6", {}),
    (4, "tanh", "tanh", {}),
])  # fmt: skip
def test_fused_activations_become_nodes(
    number: int, suffix: str, operation: str, attributes: dict[str, Any]
) -> None:
    model = sole("CONV_2D", (1, 4, 4, 2), (1, 4, 4, 2), "Conv2DOptions", [ramp(2, 1, 1, 2)],
                 **CONV, FusedActivationFunction=number)  # fmt: skip
    conv, activation = model.nodes
    assert (activation.name, activation.operation, activation.inputs) == (f"y.{suffix}", operation, ("y",))
    assert activation.attributes == attributes
    assert activation.shape == conv.shape == (4, 4, 2)
    assert model.outputs == (f"y.{suffix}",)


def test_a_transposed_convolution_goes_backwards() -> None:
    build = TfliteBuilder()
    source, target = build.tensor("x", (1, 4, 4, 3)), build.tensor("y", (1, 8, 8, 5))
    weight = ramp(5, 3, 3, 3)
    given = [build.ints("shape", (1, 8, 8, 5)), build.constant("w", weight)]
    build.operator(
        "TRANSPOSE_CONV", [*given, source], target, "TransposeConvOptions", Padding=0, StrideH=2, StrideW=2
    )
    node = only(read(build, [source], [target]))
    assert (node.operation, node.shape, node.channel_axis) == ("conv_transpose", (8, 8, 5), 2)
    assert node.attributes["pads"] == ((0, 1), (0, 1))  # (4 - 1) 2 + 3 = 9 positions, one too many
    assert node.attributes["output_padding"] == (0, 0)
    found = node.constants["weight"]
    assert found.shape == (3, 5, 3, 3)
    assert found.values is not None
    assert found.values[2, 4, 1, 0] == weight[4, 1, 0, 2]


# --- pools ---


def test_pools() -> None:
    node = only(sole("AVERAGE_POOL_2D", (1, 5, 5, 3), (1, 2, 2, 3), "Pool2DOptions", **POOL))
    assert (node.operation, node.shape, node.channel_axis) == ("avg_pool", (2, 2, 3), 2)
    assert node.attributes == {
        "kernel": (2, 2), "stride": (2, 2), "dilation": (1, 1), "pads": ((0, 0), (0, 0)),
        "count_include_pad": False,
    }  # fmt: skip
    node = only(sole("MAX_POOL_2D", (1, 5, 5, 3), (1, 3, 3, 3), "Pool2DOptions", **POOL | {"Padding": 0}))
    assert (node.operation, node.shape, node.attributes["pads"]) == ("max_pool", (3, 3, 3), ((0, 1), (0, 1)))
    assert "count_include_pad" not in node.attributes


@pytest.mark.parametrize(("keep", "out"), [(True, (1, 1, 1, 7)), (False, (1, 7))])
def test_the_mean_over_all_positions_is_a_global_pool(keep: bool, out: tuple[int, ...]) -> None:
    node = only(sole("MEAN", (1, 4, 5, 7), out, "ReducerOptions", [ints(1, -2)], KeepDims=keep))
    assert (node.operation, node.shape) == ("global_avg_pool", out[1:])
    assert (node.attributes["input_channel_axis"], node.channel_axis) == (2, len(out) - 2)


@pytest.mark.parametrize(("kind", "axes", "out", "word", "here"), [
    ("MEAN", (3,), (1, 4, 5, 1), "mean", (2,)),
    ("MEAN", (1,), (1, 1, 5, 7), "mean", (0,)),
    ("SUM", (1, 2), (1, 1, 1, 7), "sum", (0, 1)),
    ("REDUCE_MAX", (2,), (1, 4, 1, 7), "max", (1,)),
])  # fmt: skip
def test_other_reductions(
    kind: str, axes: tuple[int, ...], out: tuple[int, ...], word: str, here: tuple[int, ...]
) -> None:
    node = only(sole(kind, (1, 4, 5, 7), out, "ReducerOptions", [ints(*axes)], KeepDims=True))
    assert (node.operation, node.shape, node.attributes["kind"]) == ("reduce", out[1:], word)
    assert node.attributes["axes"] == here


def test_the_place_of_the_largest() -> None:
    node = only(sole("ARG_MAX", (1, 4, 7), (1, 4), "ArgMaxOptions", [np.array(-1, dtype=np.int32)]))
    assert (node.operation, node.shape, node.attributes["kind"]) == ("reduce", (4,), "argmax")


# --- matrices ---


def test_fully_connected_layers_read_rows() -> None:
    options = "FullyConnectedOptions"
    node = only(sole("FULLY_CONNECTED", (1, 6), (1, 4), options, [ramp(4, 6), ramp(4)]))
    assert (node.operation, node.shape, node.channel_axis) == ("linear", (4,), 0)
    np.testing.assert_array_equal(node.constants["weight"].values, ramp(4, 6))
    node = only(sole("FULLY_CONNECTED", (1, 5, 6), (1, 5, 4), options, [ramp(4, 6)], KeepNumDims=True))
    assert (node.shape, node.channel_axis) == ((5, 4), 1)
    node = only(sole("FULLY_CONNECTED", (1, 5, 6), (5, 4), options, [ramp(4, 6)]))
    assert node.shape == (5, 4)


def test_a_fully_connected_layer_flattens_an_image_where_its_weights_say_so() -> None:
    model = sole("FULLY_CONNECTED", (1, 2, 3, 4), (1, 5), "FullyConnectedOptions", [ramp(5, 24)])
    flat, dense = model.nodes
    assert (flat.operation, flat.shape, dense.inputs, dense.shape) == ("reshape", (24,), (flat.name,), (5,))
    assert not model.faults


def test_shuffled_weights_are_not_read() -> None:
    model = sole("FULLY_CONNECTED", (1, 6), (1, 4), "FullyConnectedOptions", [ramp(4, 6)], WeightsFormat=1)
    (node,) = model.nodes
    assert (node.operation, node.source_operation) == ("unknown", "FULLY_CONNECTED")
    assert "shuffled" in model.faults[0]


def test_computed_weights_make_a_matrix_product() -> None:
    build = TfliteBuilder()
    left, right = build.tensor("a", (1, 5, 6)), build.tensor("b", (1, 4, 6))
    target = build.tensor("y", (1, 5, 4))
    build.operator("BATCH_MATMUL", [left, right], target, "BatchMatMulOptions", AdjY=True)
    node = only(read(build, [left, right], [target]))
    assert (node.operation, node.shape, node.inputs) == ("matmul", (5, 4), ("input:a", "input:b"))
    assert node.attributes == {"transpose_a": False, "transpose_b": True}


@pytest.mark.parametrize("turned", [False, True])
def test_a_product_with_a_constant_is_a_linear_layer(turned: bool) -> None:
    factor = ramp(4, 6) if turned else ramp(6, 4)
    node = only(sole("BATCH_MATMUL", (1, 5, 6), (1, 5, 4), "BatchMatMulOptions", [factor], AdjY=turned))
    assert (node.operation, node.shape) == ("linear", (5, 4))
    np.testing.assert_array_equal(node.constants["weight"].values, factor if turned else factor.T)


def recurrent(time_major: bool) -> TfliteBuilder:
    build = TfliteBuilder()
    full = (9, 1, 3) if time_major else (1, 9, 3)
    source, target = build.tensor("x", full), build.tensor("y", (*full[:2], 2))
    weights = [build.constant(f"w{i}", ramp(2, 3) + 100 * i) for i in range(4)]
    inner = [build.constant(f"r{i}", ramp(2, 2) + 100 * i) for i in range(4)]
    biases = [build.constant(f"b{i}", ramp(2) + 100 * i) for i in range(4)]
    states = [build.tensor(f"s{i}", (1, 2), variable=True) for i in range(2)]
    build.operator(
        "UNIDIRECTIONAL_SEQUENCE_LSTM", [source, *weights, *inner, -1, -1, -1, *biases, -1, -1, *states],
        target, "UnidirectionalSequenceLSTMOptions", FusedActivationFunction=4, TimeMajor=time_major,
    )  # fmt: skip
    return build


def test_an_lstm_has_its_gates_stacked() -> None:
    node = only(read(recurrent(False), [0], [1]))
    assert (node.operation, node.shape) == ("lstm", (9, 2))
    wanted = {"hidden_size": 2, "steps": 9, "directions": 1, "layers": 1, "time_axis": 0}
    assert wanted.items() <= node.attributes.items()
    shapes = {name: constant.shape for name, constant in node.constants.items()}
    assert shapes == {"weight_input_l0": (8, 3), "weight_recurrent_l0": (8, 2), "bias_input_l0": (8,)}
    np.testing.assert_array_equal(
        node.constants["bias_input_l0"].values, [0, 1, 100, 101, 200, 201, 300, 301]
    )
    assert node.constants["weight_input_l0"].stored_bytes == 4 * 2 * 3 * 4


def test_an_lstm_may_count_time_first() -> None:
    node = only(read(recurrent(True), [0], [1]))
    assert (node.shape, node.attributes["steps"], node.attributes["time_axis"]) == ((9, 1, 2), 9, 0)


def test_a_simple_recurrent_layer() -> None:
    build = TfliteBuilder()
    source, target = build.tensor("x", (1, 9, 3)), build.tensor("y", (1, 9, 2))
    given = [build.constant("w", ramp(2, 3)), build.constant("r", ramp(2, 2)), build.constant("b", ramp(2))]
    state = build.tensor("s", (1, 2), variable=True)
    build.operator("UNIDIRECTIONAL_SEQUENCE_RNN", [source, *given, state], target, "SequenceRNNOptions",
                   FusedActivationFunction=1)  # fmt: skip
    node = only(read(build, [source], [target]))
    assert (node.operation, node.shape, node.attributes["activation"]) == ("rnn", (9, 2), "relu")
    assert set(node.constants) == {"weight_input_l0", "weight_recurrent_l0", "bias_input_l0"}


# --- elements ---


@pytest.mark.parametrize(("kind", "word", "attributes"), [
    ("RELU", "relu", {}), ("RELU6", "relu6", {}), ("RELU_N1_TO_1", "clip", {"low": -1, "high": 1}),
    ("RELU_0_TO_1", "clip", {"low": 0, "high": 1}), ("LOGISTIC", "sigmoid", {}), ("TANH", "tanh", {}),
    ("HARD_SWISH", "hard_swish", {}), ("ELU", "elu", {"alpha": 1}), ("EXP", "exp", {}), ("ABS", "abs", {}),
    ("NEG", "negate", {}), ("RSQRT", "power", {"exponent": -0.5}), ("SQUARE", "power", {"exponent": 2}),
])  # fmt: skip
def test_operators_of_one_tensor(kind: str, word: str, attributes: dict[str, float]) -> None:
    node = only(sole(kind, (1, 3, 4), (1, 3, 4)))
    assert (node.operation, node.shape, node.attributes) == (word, (3, 4), attributes)


def test_activations_with_a_slope() -> None:
    node = only(sole("LEAKY_RELU", (1, 4), (1, 4), "LeakyReluOptions", Alpha=0.25))
    assert (node.operation, node.attributes) == ("leaky_relu", {"alpha": 0.25})
    node = only(sole("GELU", (1, 4), (1, 4), "GeluOptions", Approximate=True))
    assert (node.operation, node.attributes) == ("gelu", {"approximate": True})
    node = only(sole("PRELU", (1, 2, 2, 3), (1, 2, 2, 3), "", [ramp(1, 1, 3)]))
    assert (node.operation, node.constants["alpha"].shape) == ("prelu", (1, 1, 3))


@pytest.mark.parametrize(("kind", "word", "options"), [
    ("ADD", "add", "AddOptions"), ("MUL", "multiply", "MulOptions"), ("SUB", "subtract", "SubOptions"),
    ("DIV", "divide", "DivOptions"), ("MINIMUM", "minimum", "MaximumMinimumOptions"),
])  # fmt: skip
def test_operators_of_two_tensors(kind: str, word: str, options: str) -> None:
    build = TfliteBuilder()
    left, right, target = (build.tensor(name, (1, *shape)) for name, shape in
                           (("a", (4, 4, 3)), ("b", (1, 1, 3)), ("y", (4, 4, 3))))  # fmt: skip
    build.operator(kind, [left, right], target, options)
    node = only(read(build, [left, right], [target]))
    assert (node.operation, node.inputs, node.shape) == (word, ("input:a", "input:b"), (4, 4, 3))
    node = only(sole(kind, (1, 4, 4, 3), (1, 4, 4, 3), options, [ramp(1, 1, 1, 3)]))
    assert (node.inputs, node.constants["operand"].shape, dict(node.attributes)) == (
        ("input:x",),
        (1, 1, 3),
        {},
    )
    node = only(sole(kind, (1, 4, 4, 3), (1, 4, 4, 3), options, [ramp(3)], before=1))
    first = {"constant_first": True} if kind in ("SUB", "DIV") else {}
    assert (node.constants["operand"].shape, node.attributes) == ((3,), first)


def test_softmax() -> None:
    node = only(sole("SOFTMAX", (1, 5, 7), (1, 5, 7), "SoftmaxOptions", Beta=1.0))
    assert (node.operation, node.attributes) == ("softmax", {"axis": 1})
    node = only(sole("SOFTMAX", (1, 7), (1, 7), "SoftmaxOptions", Beta=2.0))
    assert node.attributes == {"axis": 0, "beta": 2.0}


# --- what is not known ---


def test_an_unknown_operator_keeps_its_name_and_constants() -> None:
    node = only(sole("L2_NORMALIZATION", (1, 4), (1, 4), "L2NormOptions", [ramp(2, 3)]))
    assert (node.operation, node.source_operation, node.shape) == ("unknown", "L2_NORMALIZATION", (4,))
    assert {name: constant.stored_bytes for name, constant in node.constants.items()} == {"input_1": 24}


def test_a_custom_operator_is_named_by_its_code() -> None:
    node = only(sole("CUSTOM:Fancy\x1b[2JOp", (1, 4), (1, 6)))
    assert (node.operation, node.source_operation, node.shape) == ("unknown", "CUSTOM:Fancy_[2JOp", (6,))


def test_an_unknown_operator_may_have_several_outputs() -> None:
    build = TfliteBuilder()
    source = build.tensor("x", (1, 9))
    outs = [build.tensor("values", (1, 3)), build.tensor("places", (1, 3), "int32")]
    build.operator("TOPK_V2", [source, build.ints("k", (3,))], outs, "TopKV2Options")
    model = read(build, [source], outs)
    assert [(node.name, node.source_operation, node.shape) for node in model.nodes] == [
        ("values", "TOPK_V2", (3,)), ("places", "TOPK_V2", (3,)),
    ]  # fmt: skip
    assert model.outputs == ("values", "places")
    assert [len(node.constants) for node in model.nodes] == [1, 0]  # counted once


@pytest.mark.parametrize(("kind", "shape", "options", "constants", "fields", "reason"), [
    ("CONV_2D", (1, 4, 4, 3), "", [ramp(2, 1, 1, 3)], {}, "no options"),
    ("CONV_2D", (1, 4, 4, 3), "Conv2DOptions", [ramp(2, 1, 1, 2)], CONV, "do not fit"),
    ("CONV_2D", (1, 4, 4, 3), "Conv2DOptions", [ramp(2, 1, 1, 3)], CONV | {"StrideW": 0}, "at least 1"),
    ("CONV_2D", (1, 4, 4, 3), "Conv2DOptions", [ramp(2, 5, 5, 3)], CONV | {"Padding": 1}, "larger than"),
    ("CONV_2D", (1, 4, 4, 3), "Conv2DOptions", [ramp(2, 1, 1, 3)], CONV | {"Padding": 7}, "neither SAME"),
    ("CONV_2D", (1, 4, 4, 3), "Conv2DOptions", [ramp(2, 1, 1, 3), ramp(3)], CONV, "3 biases for 2"),
    ("CONV_2D", (1, 4, 4), "Conv2DOptions", [ramp(2, 1, 1, 3)], CONV, "needs 4 axes"),
    ("CONV_2D", (1, 4, 4, 3), "Conv2DOptions", [], CONV, "input 1 is missing"),
    ("CONV_2D", (1, 4, 4, 3), "Conv2DOptions", [ramp(2, 1, 1, 3)], CONV | SIGN_BIT, "activation 5"),
    ("FULLY_CONNECTED", (1, 5), "FullyConnectedOptions", [ramp(2, 3)], {}, "no rows of 3"),
    ("RESHAPE", (1, 6), "", [ints(4, 2)], {}, "cannot become"),
    ("TRANSPOSE", (1, 2, 3), "", [ints(0, 1, 1)], {}, "no order"),
    ("ADD", (1, 4), "AddOptions", [ramp(3)], {}, "do not fit"),
])  # fmt: skip
def test_what_contradicts_itself_is_an_unknown_operator_and_a_fault(
    kind: str, shape: Sequence[int], options: str, constants: list[Any], fields: dict[str, Any], reason: str
) -> None:
    model = sole(kind, shape, (1, 4), options, constants, **fields)
    (node,) = model.nodes
    assert (node.operation, node.source_operation) == ("unknown", kind)
    (fault,) = model.faults
    assert fault.startswith(f"y: {kind}: ")
    assert reason in fault


def test_the_shape_of_the_operator_counts_where_the_file_says_otherwise() -> None:
    model = sole("RELU", (1, 3, 4), (1, 3, 5))
    assert by_name(model)["y"].shape == (3, 4)
    assert any("shape in the file" in note for note in model.notes)

"""Groups of operators that together are one operation, in the forms in which converters write them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dse.workload.model import Model
from tests.workload.exporters.tflite_builder import Scheme, TfliteBuilder
from tests.workload.tflite_files.samples import CONV, POOL, by_name, ints, ramp, read

IMAGE = (1, 4, 4, 3)


class Graph(TfliteBuilder):
    """A graph of images of one size."""

    def step(
        self, kind: str, inputs: list[int], name: str, full: tuple[int, ...] = IMAGE, **fields: Any
    ) -> int:
        options = {"ADD": "AddOptions", "MUL": "MulOptions", "DIV": "DivOptions", "SUB": "SubOptions",
                   "MEAN": "ReducerOptions"}.get(kind, "")  # fmt: skip
        return self.operator(kind, inputs, self.tensor(name, full), options, **fields)

    def number(self, value: float) -> int:
        return self.constant(f"n{len(self.tensors)}", np.array(value, dtype=np.float32))


def shifted(graph: Graph, source: int, *, fused: bool) -> int:
    """relu6(x + 3), the clamp fused into the addition or not."""
    if fused:
        return graph.step("ADD", [source, graph.number(3)], "shift", FusedActivationFunction=3)
    return graph.step("RELU6", [graph.step("ADD", [source, graph.number(3)], "shift")], "clamp")


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("form", ["sixth last", "sixth first", "divided last", "gate divided"])
def test_hard_swish_is_recognised(form: str, fused: bool) -> None:
    graph = Graph()
    source = graph.tensor("x", IMAGE)
    clamp = shifted(graph, source, fused=fused)
    if form == "sixth last":
        out = graph.step("MUL", [graph.step("MUL", [source, clamp], "p"), graph.number(1 / 6)], "y")
    elif form == "sixth first":
        out = graph.step("MUL", [graph.step("MUL", [clamp, graph.number(1 / 6)], "p"), source], "y")
    elif form == "divided last":
        out = graph.step("DIV", [graph.step("MUL", [source, clamp], "p"), graph.number(6)], "y")
    else:
        out = graph.step("MUL", [source, graph.step("DIV", [clamp, graph.number(6)], "p")], "y")
    model = read(graph, [source], [out])
    (node,) = model.nodes
    assert (node.name, node.operation, node.inputs, node.shape) == (
        "y",
        "hard_swish",
        ("input:x",),
        (4, 4, 3),
    )
    assert not node.constants


def test_a_gate_that_others_read_stays_what_it_is() -> None:
    graph = Graph()
    source = graph.tensor("x", IMAGE)
    gate = graph.step("LOGISTIC", [source], "gate")
    out = graph.step("MUL", [source, gate], "y")
    assert [node.operation for node in read(graph, [source], [out]).nodes] == ["swish"]
    assert [node.operation for node in read(graph, [source], [out, gate]).nodes] == ["sigmoid", "multiply"]


def test_a_gate_of_something_else_is_no_swish() -> None:
    graph = Graph()
    source, other = graph.tensor("x", IMAGE), graph.tensor("z", IMAGE)
    out = graph.step("MUL", [source, graph.step("LOGISTIC", [other], "gate")], "y")
    assert [node.operation for node in read(graph, [source, other], [out]).nodes] == ["sigmoid", "multiply"]


def test_other_numbers_make_no_hard_swish() -> None:
    graph = Graph()
    source = graph.tensor("x", IMAGE)
    clamp = graph.step("ADD", [source, graph.number(2.9)], "shift", FusedActivationFunction=3)
    out = graph.step("MUL", [clamp, graph.number(1 / 6)], "y")
    assert [node.operation for node in read(graph, [source], [out]).nodes] == ["add", "relu6", "multiply"]


def test_clamps_out_of_minimum_and_maximum() -> None:
    graph = Graph()
    source = graph.tensor("x", IMAGE)
    low = graph.step("MAXIMUM", [source, graph.number(0)], "low")
    out = graph.step("MINIMUM", [low, graph.number(6)], "y")
    (node,) = read(graph, [source], [out]).nodes
    assert (node.name, node.operation, node.inputs) == ("y", "relu6", ("input:x",))


def normal(graph: Graph, form: str, full: tuple[int, ...] = (1, 5, 8)) -> tuple[int, int]:
    """Layer norm over the last axis as two converters write it."""
    source, rows = graph.tensor("x", full), (*full[:-1], 1)
    axis, gamma, beta = (
        graph.ints("axis", (len(full) - 1,)),
        graph.constant("g", ramp(8)),
        graph.constant("b", ramp(8) + 1),
    )
    mean = graph.step("MEAN", [source, axis], "mean", rows, KeepDims=True)
    square = graph.step("SQUARED_DIFFERENCE", [source, mean], "square", full)
    variance = graph.step("MEAN", [square, axis], "variance", rows, KeepDims=True)
    root = graph.step(
        "RSQRT", [graph.step("ADD", [variance, graph.number(1e-3)], "shifted", rows)], "root", rows
    )
    if form == "scaled first":
        gain = graph.step("MUL", [root, gamma], "gain", full)
        product = graph.step("MUL", [source, gain], "product", full)
        rest = graph.step("SUB", [beta, graph.step("MUL", [mean, gain], "offset", full)], "rest", full)
        return source, graph.step("ADD", [product, rest], "y", full)
    product = graph.step("MUL", [graph.step("SUB", [source, mean], "centred", full), root], "product", full)
    return source, graph.step("ADD", [graph.step("MUL", [product, gamma], "gain", full), beta], "y", full)


@pytest.mark.parametrize("form", ["scaled first", "shifted first"])
def test_layer_norm_is_recognised(form: str) -> None:
    graph = Graph()
    source, out = normal(graph, form)
    (node,) = read(graph, [source], [out]).nodes
    assert (node.name, node.operation, node.inputs, node.shape) == ("y", "layer_norm", ("input:x",), (5, 8))
    assert node.attributes["axis"] == 1
    assert node.attributes["epsilon"] == pytest.approx(1e-3)
    np.testing.assert_array_equal(node.constants["gamma"].values, ramp(8))
    np.testing.assert_array_equal(node.constants["beta"].values, ramp(8) + 1)


def test_a_layer_norm_whose_mean_is_given_out_stays_apart() -> None:
    graph = Graph()
    source, out = normal(graph, "scaled first")
    mean = next(i for i, tensor in enumerate(graph.tensors) if tensor.name == "mean")
    model = read(graph, [source], [out, mean])
    assert "layer_norm" not in {node.operation for node in model.nodes}
    assert not model.faults


# --- pads ---


def padded(
    kind: str, scheme: Scheme | None = None, *, twice: bool = False, value: int | None = None
) -> Model:
    """A window behind a PAD of 1 above, 2 below, 3 left, 4 right."""
    build = TfliteBuilder()
    type_ = "float32" if scheme is None else "int8"
    source = build.tensor("x", (1, 6, 6, 3), type_, scheme=scheme)
    clamped = build.operator("RELU", [source], build.tensor("clamped", (1, 6, 6, 3), type_, scheme=scheme))
    amounts = build.constant("pads", ints(0, 0, 1, 2, 3, 4, 0, 0).reshape(4, 2))
    middle = build.tensor("pad", (1, 9, 13, 3), type_, scheme=scheme)
    extra = [] if value is None else [build.constant("value", np.array(value, dtype=np.int8), scheme)]
    build.operator("PAD" if value is None else "PADV2", [clamped, amounts, *extra], middle)
    if kind == "conv":
        weight = build.constant("w", ramp(2, 5, 5, 3))
        target = build.tensor("y", (1, 5, 9, 2), type_, scheme=scheme)
        build.operator("CONV_2D", [middle, weight], target, "Conv2DOptions", **CONV | {"Padding": 1})
    else:
        target = build.tensor("y", (1, 5, 9, 3), type_, scheme=scheme)
        build.operator(
            kind,
            [middle],
            target,
            "Pool2DOptions",
            **POOL | {"StrideH": 1, "StrideW": 1, "FilterHeight": 5, "FilterWidth": 5},
        )
    return read(build, [source], [target, middle] if twice else [target])


def test_zeros_before_a_convolution_are_its_own_pads() -> None:
    nodes = by_name(padded("conv"))
    assert set(nodes) == {"clamped", "y"}
    assert (nodes["y"].inputs, nodes["y"].attributes["pads"]) == (("clamped",), ((1, 2), (3, 4)))
    assert nodes["y"].shape == (5, 9, 2)


def test_pads_that_others_read_stay() -> None:
    nodes = by_name(padded("conv", twice=True))
    assert nodes["y"].inputs == ("pad",)
    assert nodes["y"].attributes["pads"] == ((0, 0), (0, 0))


def test_quantised_pads_are_zeros_where_they_are_the_zero_point() -> None:
    scheme = Scheme((0.5,), (-7,))
    assert set(by_name(padded("conv", scheme))) == {"clamped", "y"}  # PAD fills with the zero point
    assert set(by_name(padded("conv", scheme, value=-7))) == {"clamped", "y"}
    nodes = by_name(padded("conv", scheme, value=0))
    assert nodes["pad"].attributes["value"] == pytest.approx(3.5)  # 0.5 (0 + 7)
    assert nodes["y"].inputs == ("pad",)


def test_zeros_before_a_maximum_of_clamped_numbers_are_pads() -> None:
    assert by_name(padded("MAX_POOL_2D"))["y"].attributes["pads"] == ((1, 2), (3, 4))
    assert set(by_name(padded("AVERAGE_POOL_2D"))) == {
        "clamped",
        "pad",
        "y",
    }  # pads do not count in an average


# --- series ---


def series(*, causal: bool = False, bias: bool = False) -> Model:
    """Two convolutions and a pool over time as Keras writes them: height 1 in between."""
    build = TfliteBuilder()
    here = source = build.tensor("x", (1, 32, 6))
    length, channels = 32, 6
    for i in range(2):
        if causal:
            amounts = build.constant(f"pads{i}", ints(0, 0, 2, 0, 0, 0).reshape(3, 2))
            here = build.operator("PAD", [here, amounts], build.tensor(f"pad{i}", (1, length + 2, channels)))
        given = length + 2 if causal else length
        wide = build.operator("EXPAND_DIMS", [here, build.ints(f"axis{i}", (1,))],
                              build.tensor(f"wide{i}", (1, 1, given, channels)))  # fmt: skip
        weight = build.constant(f"w{i}", ramp(8, 1, 3, channels))
        conv = build.tensor(f"conv{i}", (1, 1, length, 8))
        build.operator(
            "CONV_2D",
            [wide, weight, -1],
            conv,
            "Conv2DOptions",
            **CONV | {"Padding": int(causal)},
            FusedActivationFunction=0 if bias else 1,
        )
        here, channels = build.tensor(f"slim{i}", (1, length, 8)), 8
        build.operator("SQUEEZE", [conv], here, "SqueezeOptions", SqueezeDims=(-3,))
        if bias:
            added = build.tensor(f"biased{i}", (1, length, 8))
            here = build.operator("ADD", [here, build.constant(f"b{i}", ramp(8))], added, "AddOptions")
    tall = build.operator(
        "RESHAPE", [here, build.ints("tall", (1, length, 1, 8))], build.tensor("tall", (1, length, 1, 8))
    )
    pooled = build.operator("MAX_POOL_2D", [tall], build.tensor("pooled", (1, 16, 1, 8)), "Pool2DOptions",
                            **POOL | {"StrideW": 1, "FilterWidth": 1})  # fmt: skip
    flat = build.operator("RESHAPE", [pooled, build.ints("flat", (-1, 128))], build.tensor("flat", (1, 128)))
    return read(build, [source], [flat])


def test_convolutions_over_time_are_read_as_what_they_are() -> None:
    model = series()
    assert [(node.name, node.operation, node.shape, node.inputs) for node in model.nodes] == [
        ("conv0", "conv", (32, 8), ("input:x",)), ("conv0.relu", "relu", (32, 8), ("conv0",)),
        ("conv1", "conv", (32, 8), ("conv0.relu",)), ("conv1.relu", "relu", (32, 8), ("conv1",)),
        ("pooled", "max_pool", (16, 8), ("conv1.relu",)), ("flat", "reshape", (128,), ("pooled",)),
    ]  # fmt: skip
    first = model.nodes[0]
    assert first.attributes == {
        "kernel": (3,),
        "stride": (1,),
        "dilation": (1,),
        "pads": ((1, 1),),
        "groups": 1,
    }
    assert (first.constants["weight"].shape, first.channel_axis) == ((8, 6, 3), 1)
    assert first.constants["weight"].values is not None
    assert first.constants["weight"].values[7, 5, 2] == 8 * 3 * 6 - 1
    assert model.nodes[4].attributes["kernel"] == (2,)
    assert (model.inputs[0].shape, model.inputs[0].channel_axis) == ((32, 6), 1)


def test_causal_pads_are_folded_through_the_height() -> None:
    nodes = by_name(series(causal=True))
    assert nodes["conv1"].attributes["pads"] == ((2, 0),)
    assert nodes["conv1"].inputs == ("conv0.relu",)


def test_a_bias_behind_the_squeeze_reads_the_series() -> None:
    nodes = by_name(series(bias=True))
    assert nodes["biased0"].inputs == ("conv0",)
    assert nodes["conv1"].inputs == ("biased0",)


def test_an_image_of_height_one_stays_an_image() -> None:
    build = TfliteBuilder()
    source, target = build.tensor("x", (1, 1, 9, 3)), build.tensor("y", (1, 1, 9, 2))
    build.operator(
        "CONV_2D", [source, build.constant("w", ramp(2, 1, 3, 3))], target, "Conv2DOptions", **CONV
    )
    (node,) = read(build, [source], [target]).nodes
    assert (node.shape, node.attributes["kernel"]) == ((1, 9, 2), (1, 3))


def test_a_reader_that_needs_the_height_gets_it_back() -> None:
    build = TfliteBuilder()
    source = build.tensor("x", (1, 9, 3))
    wide = build.operator(
        "EXPAND_DIMS", [source, build.ints("axis", (1,))], build.tensor("wide", (1, 1, 9, 3))
    )
    conv = build.operator(
        "CONV_2D",
        [wide, build.constant("w", ramp(2, 1, 3, 3))],
        build.tensor("conv", (1, 1, 9, 2)),
        "Conv2DOptions",
        **CONV,
    )
    big = build.operator(
        "RESIZE_NEAREST_NEIGHBOR", [conv, build.ints("size", (4, 9))], build.tensor("big", (1, 4, 9, 2))
    )
    nodes = by_name(read(build, [source], [big]))
    assert nodes["conv"].shape == (9, 2)
    (back,) = nodes["big"].inputs
    assert (nodes[back].operation, nodes[back].shape, nodes[back].inputs) == ("reshape", (1, 9, 2), ("conv",))

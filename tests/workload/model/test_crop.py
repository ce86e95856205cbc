"""Slices that undo padding: temporal convolutional networks as Bai et al. write them, in three formats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn

import dse
from dse.workload.convolutions import Conv1d, Conv2d
from dse.workload.graph import Workload
from dse.workload.model.counts import node_rows
from dse.workload.model.lower import lower
from dse.workload.model.options import Lowered
from tests.workload.exporters.tflite_builder import TfliteBuilder
from tests.workload.model.building import Builder
from tests.workload.model.naive import evaluate
from tests.workload.model.running import check, run, series
from tests.workload.onnx_files.graphs import Array, node, proto
from tests.workload.onnx_files.graphs import read as read_onnx_proto
from tests.workload.tflite_files.samples import CONV, ints
from tests.workload.tflite_files.samples import read as read_tflite_graph


def ahead(network: Workload) -> list[str]:
    """Operations of the layers that run forward only."""
    return [getattr(network.layers[index], "operation", "") for index in network.forward_only]


def paddings(network: Workload) -> list[Any]:
    """Padding of the convolutions that slide."""
    return [layer.padding for layer in network.layers if isinstance(layer, Conv1d | Conv2d)]


# --- torch ---


class Chomp1d(nn.Module):
    """Leaves out the positions at the end that padding adds."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, : -self.size].contiguous()


class Block(nn.Module):
    """Two causal convolutions and a shortcut."""

    def __init__(self, before: int, after: int, dilation: int, *, normed: bool) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for inputs in (before, after):
            parts.append(nn.Conv1d(inputs, after, 3, padding=2 * dilation, dilation=dilation))
            parts += [nn.BatchNorm1d(after)] if normed else []
            parts += [Chomp1d(2 * dilation), nn.ReLU(), nn.Dropout(0.2)]
        self.net = nn.Sequential(*parts)
        self.shortcut = nn.Conv1d(before, after, 1) if before != after else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.net(x) + self.shortcut(x))


class Chomped(nn.Module):
    """Three blocks of dilation 1, 2, 4 and a classifier over the mean."""

    def __init__(self, *, normed: bool) -> None:
        super().__init__()
        widths = ((4, 8, 1), (8, 8, 2), (8, 8, 4))
        self.blocks = nn.Sequential(*(Block(*width, normed=normed) for width in widths))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.blocks(x).mean(-1))
        return out


@pytest.mark.parametrize("normed", [False, True])
def test_a_network_of_torch_that_chomps(normed: bool) -> None:
    torch.manual_seed(5)
    module, x = Chomped(normed=normed).eval(), torch.randn(4, 20)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d):
            nn.init.uniform_(part.bias, -1, 1)
            nn.init.uniform_(part.running_mean, -1, 1)  # type: ignore[arg-type]
    found = dse.import_model(module, input_shape=(4, 20))
    network = found.workload
    assert ahead(network) == []
    assert paddings(network) == [((2, 0),)] * 2 + [((4, 0),)] * 2 + [((8, 0),)] * 2
    with torch.no_grad():
        wanted = module.double()(x.double()[None])[0].numpy()
    ours = run(Lowered(network, dict(network.numbers), {}, ()), x.numpy())
    np.testing.assert_allclose(ours, wanted, rtol=1e-5, atol=1e-5)
    assert network.legal_cuts == (
        2,
        4,
        6,
        7,
    )  # the ends of the blocks, whose shortcuts none cuts off, and the head


# --- ONNX and TFLite ---


def numbers(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_a_graph_of_onnx_that_slices(tmp_path: Path) -> None:
    nodes = [
        node("Conv", ["x", "w", "b"], ["conv"], "conv", pads=[4, 4], dilations=[2], kernel_shape=[3]),
        node("BatchNormalization", ["conv", "gain", "shift", "mean", "variance"], ["norm"], "norm"),
        node("Relu", ["norm"], ["relu"], "act"),
        node("Slice", ["relu", "starts", "ends", "axes"], ["part"], "chomp"),
        node("GlobalAveragePool", ["part"], ["pool"], "pool"),
        node("Flatten", ["pool"], ["flat"], "flat"),
        node("Gemm", ["flat", "head"], ["y"], "fc", transB=1),
    ]
    held = {"w": numbers(5, 3, 3), "head": numbers(2, 5), "starts": np.array([0]), "ends": np.array([-4]),
            "axes": np.array([2]), "variance": np.full(5, 0.7, np.float32)}  # fmt: skip
    held |= {name: numbers(5, seed=seed) for seed, name in enumerate(("b", "gain", "shift", "mean"))}
    model, x = proto(nodes, {"x": [1, 3, 12]}, ["y"], held), numbers(3, 12, seed=9)
    lowered = lower(read_onnx_proto(model, tmp_path))
    assert ahead(lowered.workload) == []
    assert paddings(lowered.workload) == [((4, 0),)]
    wanted: Any
    (wanted,) = ReferenceEvaluator(model).run(None, {"x": x[None]})
    np.testing.assert_allclose(run(lowered, x.astype(np.float64)), wanted[0], rtol=1e-5, atol=1e-5)


def test_a_graph_of_tflite_that_slices() -> None:
    """The padding stands apart there, and axes of one come and go around the convolution."""
    build = TfliteBuilder()
    x, weight = build.tensor("x", (1, 12, 3)), numbers(5, 1, 3, 3)
    wide, padded, conv = (build.tensor(f"t{length}", (1, 1, length, depth)) for length, depth in
                          ((12, 3), (20, 3), (16, 5)))  # fmt: skip
    build.operator("EXPAND_DIMS", [x, build.ints("axis", (1,))], wide, "ExpandDimsOptions")
    around = build.constant("pads", ints(0, 0, 0, 0, 4, 4, 0, 0).reshape(4, 2))
    build.operator("PAD", [wide, around], padded, "PadOptions")
    held = [build.constant("w", weight), build.constant("b", numbers(5, seed=1))]
    build.operator("CONV_2D", [padded, *held], conv, "Conv2DOptions",
                   **CONV | {"Padding": 1, "DilationWFactor": 2}, FusedActivationFunction=1)  # fmt: skip
    short = build.operator(
        "SQUEEZE", [conv], build.tensor("s", (1, 16, 5)), "SqueezeOptions", SqueezeDims=(1,)
    )
    limits = [build.ints("begin", (0, 0, 0)), build.ints("end", (0, -4, 0)), build.ints("step", (1, 1, 1))]
    part = build.tensor("part", (1, 12, 5))
    build.operator("STRIDED_SLICE", [short, *limits], part, "StridedSliceOptions", BeginMask=7, EndMask=5)
    mean = build.tensor("mean", (1, 5))
    build.operator("MEAN", [part, build.ints("over", (1,))], mean, "ReducerOptions")
    y = build.tensor("y", (1, 2))
    build.operator(
        "FULLY_CONNECTED", [mean, build.constant("head", numbers(2, 5))], y, "FullyConnectedOptions"
    )
    model = read_tflite_graph(build, [x], [y])
    lowered, given = lower(model), numbers(12, 3, seed=9).astype(np.float64)
    assert ahead(lowered.workload) == []
    assert paddings(lowered.workload) == [((4, 0),)]
    wanted = evaluate(model, given)["y"]
    np.testing.assert_allclose(run(lowered, given.T), wanted, rtol=1e-5, atol=1e-5)


# --- what goes, and what stays ---


def cut(builder: Builder, *, first: int = 0, last: int = 0, axis: int | None = None, step: int = 1) -> str:
    """Add a slice without so many positions at the ends of the only axis of positions, or of ``axis``."""
    axis = 1 - builder.axis if axis is None else axis
    begin, shape = [0] * len(builder.shape), list(builder.shape)
    begin[axis], shape[axis] = first, len(range(first, shape[axis] - last, step))
    steps = tuple(step if place == axis else 1 for place in range(len(shape)))
    return builder.node("slice", shape=tuple(shape), begin=tuple(begin), steps=steps)


def ended(builder: Builder, *, learns: bool = True) -> list[Any]:
    """Close the network, compare its outputs with the file's; return paddings, and what is forward only."""
    builder.global_pool()
    builder.linear(2)
    network = (check(builder) if learns else lower(builder.model())).workload
    return [*paddings(network), *(word for word in ahead(network) if word != "view")]


BETWEEN: Any = [(), ("batch_norm", "relu"), ("relu6", "hard_swish"), ("scale", "relu")]
ENDS: Any = [(0, 4, ((4, 0),)), (3, 0, ((1, 4),)), (1, 4, ((3, 0),))]


@pytest.mark.parametrize("order", ["NCHW", "NHWC"])
@pytest.mark.parametrize("between", BETWEEN)
@pytest.mark.parametrize(("first", "last", "pads"), ENDS)
def test_positions_at_either_end_are_padding_that_goes(
    order: str, between: tuple[str, ...], first: int, last: int, pads: Any
) -> None:
    builder = series(order, 3, 11)
    builder.conv(6, (3,), pads=[(4, 4)], dilation=(2,))
    for word in between:
        if word == "batch_norm":
            builder.batch_norm()
        elif word == "scale":
            wide = (6, 1) if order == "NCHW" else (1, 6)
            builder.scale("multiply", builder.random.uniform(0.5, 2, wide))
        else:
            builder.node(word)
    cut(builder, first=first, last=last)
    assert ended(builder) == [pads]


def test_one_slice_behind_another_and_two_axes() -> None:
    builder = Builder((3, 7, 6))
    builder.conv(4, (3, 3), pads=[(2, 2), (1, 2)])
    builder.node("slice", shape=(4, 8, 7), begin=(0, 1, 0), steps=(1, 1, 1))
    builder.node("relu")
    builder.node("slice", shape=(4, 7, 5), begin=(0, 0, 1), steps=(1, 1, 1))
    assert ended(builder) == [(1, (0, 1))]


def test_rows_say_what_is_computed() -> None:
    builder = series("NCHW", 3, 11)
    builder.conv(6, (3,), pads=[(2, 2)])
    cut(builder, last=2)
    builder.global_pool()
    builder.linear(2)
    first, second, *_ = node_rows(builder.model())
    assert (first.shape, first.macs, first.becomes) == ((6, 11), 6 * 3 * 3 * 11, "conv1d")
    assert (second.macs, second.becomes) == (0, "folded")


STAYS: dict[str, Any] = {
    "more than the padding": ({}, {"last": 3}, ()),
    "more than the padding before": ({}, {"first": 3}, ()),
    "stride 2": ({"stride": (2,)}, {"last": 1}, ()),
    "every second": ({}, {"step": 2}, ()),
    "channels": ({}, {"last": 2, "axis": 0}, ()),
    "a number for each position": ({}, {"last": 2}, ("add",)),
    "a pool between": ({}, {"last": 1}, ("max_pool",)),
}


@pytest.mark.parametrize("case", STAYS)
def test_what_is_no_padding_stays_a_copy(case: str) -> None:
    conv, part, between = STAYS[case]
    builder = series("NCHW", 3, 11)
    builder.conv(6, (3,), pads=[(2, 2)], **conv)
    for word in between:
        if word == "add":
            builder.scale("add", builder.random.standard_normal((1, builder.shape[1])))
        else:
            builder.pool(word, (2,), stride=(1,))
    cut(builder, **part)
    found = ended(builder, learns=False)
    assert (found[0], found[-1]) == ((2,), "copy")


def test_a_convolution_that_another_reads_too_stays_as_it_is() -> None:
    builder = series("NCHW", 3, 11)
    conv = builder.conv(6, (3,), pads=[(2, 2)])
    later = cut(builder, last=2)
    builder.last = conv
    earlier = cut(builder, first=2)
    builder.node("add", later, earlier)
    assert ended(builder, learns=False) == [(2,), "copy", "copy"]


def test_several_may_read_what_is_left() -> None:
    builder = series("NCHW", 3, 11)
    builder.conv(6, (3,), pads=[(2, 2)])
    part = cut(builder, last=2)
    act = builder.node("relu")
    builder.node("add", part, act)
    assert ended(builder) == [((2, 0),)]

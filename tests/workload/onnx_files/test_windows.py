"""Convolutions and pools: every way of writing one, against sizes worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.workload.onnx_files.graphs import Array, node, proto, read, reals, single, words

CONVS = {
    # attributes, input, weight -> output shape, pads
    "plain": ({}, [1, 3, 8, 8], (4, 3, 3, 3), (4, 6, 6), ((0, 0), (0, 0))),
    "padded": ({"pads": [1, 1, 1, 1]}, [1, 3, 8, 8], (4, 3, 3, 3), (4, 8, 8), ((1, 1), (1, 1))),
    "asymmetric": (
        {"pads": [0, 0, 1, 1], "strides": [2, 2]},
        [1, 3, 8, 8],
        (4, 3, 3, 3),
        (4, 4, 4),
        ((0, 1), (0, 1)),
    ),
    "same upper": (
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        [1, 3, 8, 8],
        (4, 3, 3, 3),
        (4, 4, 4),
        ((0, 1),) * 2,
    ),
    "same lower": (
        {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
        [1, 3, 8, 8],
        (4, 3, 3, 3),
        (4, 4, 4),
        ((1, 0),) * 2,
    ),
    "valid": ({"auto_pad": "VALID"}, [1, 3, 8, 8], (4, 3, 3, 3), (4, 6, 6), ((0, 0), (0, 0))),
    "dilated": ({"dilations": [2, 3]}, [1, 1, 9, 9], (1, 1, 3, 3), (1, 5, 3), ((0, 0), (0, 0))),
    "grouped": ({"group": 2}, [1, 4, 5, 5], (6, 2, 1, 1), (6, 5, 5), ((0, 0), (0, 0))),
    "depthwise": (
        {"group": 4, "kernel_shape": [3, 3]},
        [1, 4, 5, 5],
        (4, 1, 3, 3),
        (4, 3, 3),
        ((0, 0), (0, 0)),
    ),
    "over time": ({"strides": [2], "pads": [2, 2]}, [1, 6, 128], (8, 6, 5), (8, 64), ((2, 2),)),
    "causal": ({"dilations": [4], "pads": [8, 0]}, [1, 6, 50], (8, 6, 3), (8, 50), ((8, 0),)),
    "three axes": ({}, [1, 1, 4, 5, 6], (2, 1, 2, 2, 2), (2, 3, 4, 5), ((0, 0),) * 3),
}


@pytest.mark.parametrize("case", CONVS)
def test_convolution(case: str, tmp_path: Path) -> None:
    attributes, x, weight, shape, pads = CONVS[case]
    held = reals(*weight)
    found = single(tmp_path, "Conv", x, held, reals(weight[0]), **attributes)
    assert (found.operation, found.shape, found.attributes["pads"]) == ("conv", shape, pads)
    assert found.attributes["kernel"] == weight[2:]
    assert found.attributes["groups"] == attributes.get("group", 1)
    assert found.channel_axis == 0
    np.testing.assert_array_equal(found.constants["weight"].values, held)
    assert found.constants["bias"].shape == (weight[0],)


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"group": 3}, "groups"),
        ({"group": 0}, "groups"),
        ({"strides": [0, 1]}, "stride"),
        ({"strides": [1]}, "stride"),
        ({"pads": [-1, 0, 0, 0]}, "padding"),
        ({"pads": [1]}, "padding"),
        ({"kernel_shape": [5, 5]}, "kernel_shape"),
        ({"dilations": [9, 9]}, "larger than the padded input"),
        ({"auto_pad": "SOMEHOW"}, "SOMEHOW"),
    ],
)
def test_convolutions_that_do_not_fit_are_named(attributes: dict, said: str, tmp_path: Path) -> None:
    model = proto(
        [node("Conv", ["x", "w"], ["y"], "bad", **attributes)],
        {"x": [1, 4, 8, 8]},
        ["y"],
        {"w": reals(6, 4, 3, 3)},
    )
    found = read(model, tmp_path)
    assert found.nodes[0].operation == "unknown"
    assert found.nodes[0].shape is None
    assert "Conv 'bad'" in found.faults[0]
    assert said in found.faults[0]


TRANSPOSED = {
    # stride (in - 1) + extra + extent - pads, by hand
    "plain": ({}, (4, 3, 3, 3), (3, 10, 10)),
    "doubled": (
        {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]},
        (4, 3, 3, 3),
        (3, 16, 16),
    ),
    "same": ({"strides": [2, 2], "auto_pad": "SAME_UPPER"}, (4, 3, 3, 3), (3, 16, 16)),
    "to a size": ({"strides": [2, 2], "output_shape": [15, 17]}, (4, 3, 3, 3), (3, 15, 17)),
    "grouped": ({"group": 2}, (4, 3, 2, 2), (6, 9, 9)),
    "dilated": ({"dilations": [2, 2]}, (4, 3, 3, 3), (3, 12, 12)),
}


@pytest.mark.parametrize("case", TRANSPOSED)
def test_transposed_convolution(case: str, tmp_path: Path) -> None:
    attributes, weight, shape = TRANSPOSED[case]
    found = single(tmp_path, "ConvTranspose", [1, 4, 8, 8], reals(*weight), **attributes)
    assert (found.operation, found.shape) == ("conv_transpose", shape)
    assert found.constants["weight"].shape == weight


POOLS = {
    "plain": ("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2]}, (3, 3, 3), ((0, 0),) * 2),
    "stride one": ("MaxPool", {"kernel_shape": [2, 2]}, (3, 6, 6), ((0, 0),) * 2),
    "rounded up": (
        "MaxPool",
        {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1},
        (3, 4, 4),
        ((0, 1),) * 2,
    ),
    "rounded up, nothing left": (
        "AveragePool",
        {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
        (3, 3, 3),
        ((0, 0),) * 2,
    ),
    "no window begins behind": (  # padded by hand: 9 wide, windows at 0, 3, 6; one at 9 would begin behind
        "AveragePool",
        {"kernel_shape": [2, 2], "strides": [3, 3], "pads": [1] * 4, "ceil_mode": 1},
        (3, 3, 3),
        ((1, 1),) * 2,
    ),
    "same": (
        "AveragePool",
        {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
        (3, 4, 4),
        ((1, 1),) * 2,
    ),
    "same, not rounded up as well": (  # windows at 0 and 4; one at 8 would begin behind
        "MaxPool",
        {"kernel_shape": [1, 1], "strides": [4, 4], "auto_pad": "SAME_UPPER", "ceil_mode": 1},
        (3, 2, 2),
        ((0, 0),) * 2,
    ),
}


@pytest.mark.parametrize("case", POOLS)
def test_pool(case: str, tmp_path: Path) -> None:
    op, attributes, shape, pads = POOLS[case]
    found = single(tmp_path, op, [1, 3, 7, 7], **attributes)
    assert (found.operation, found.shape) == ("max_pool" if op == "MaxPool" else "avg_pool", shape)
    assert found.attributes["pads"] == pads


@pytest.mark.parametrize("counts", [0, 1])
def test_padding_in_the_average_is_kept(counts: int, tmp_path: Path) -> None:
    found = single(tmp_path, "AveragePool", [1, 1, 4, 4], kernel_shape=[3, 3], count_include_pad=counts)
    assert found.attributes["count_include_pad"] is bool(counts)


def test_indices_of_winners_are_a_node_of_their_own(tmp_path: Path) -> None:
    pool = node("MaxPool", ["x"], ["y", "where"], "pool", kernel_shape=[2, 2])
    found = read(proto([pool], {"x": [1, 1, 4, 4]}, ["y", "where"]), tmp_path)
    assert words(found) == ["max_pool", "unknown"]
    assert found.outputs == ("pool", "where")


MEANS = {
    "operator": ("GlobalAveragePool", [1, 8, 4, 5], None, {}, (8, 1, 1), 0),
    "kept axes": ("ReduceMean", [1, 8, 4, 5], [2, 3], {}, (8, 1, 1), 0),
    "gone axes": ("ReduceMean", [1, 8, 4, 5], [-1, -2], {"keepdims": 0}, (8,), 0),
    "over time": ("ReduceMean", ["N", 8, 20], [2], {"keepdims": 0}, (8,), 0),
    "channels last": ("ReduceMean", [1, 4, 5, 8], [1, 2], {"keepdims": 0}, (8,), 2),
}


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("case", MEANS)
def test_mean_over_all_positions(case: str, opset: int, tmp_path: Path) -> None:
    op, x, axes, attributes, shape, channels = MEANS[case]
    held: list[Array] = []
    if axes is not None and opset < 18:
        attributes = attributes | {"axes": axes}
    elif axes is not None:
        held = [np.array(axes)]
    found = single(tmp_path, op, x, *held, opset=opset, **attributes)
    assert (found.operation, found.shape) == ("global_avg_pool", shape)
    assert found.attributes["input_channel_axis"] == channels


def test_mean_over_one_of_two_positions_is_a_reduction(tmp_path: Path) -> None:
    found = single(tmp_path, "ReduceMean", [1, 8, 4, 5], axes=[3], keepdims=0)
    assert (found.operation, found.shape) == ("reduce", (8, 4))
    assert (found.attributes["kind"], found.attributes["axes"]) == ("mean", (2,))


def test_a_convolution_with_its_activation(tmp_path: Path) -> None:
    fused = node("FusedConv", ["x", "w"], ["y"], "conv", domain="com.microsoft", activation="Relu")
    found = read(
        proto([fused], {"x": [1, 3, 8, 8]}, ["y"], {"w": reals(4, 3, 3, 3)}, domains={"com.microsoft": 1}),
        tmp_path,
    )
    assert [(one.name, one.operation, one.inputs) for one in found.nodes] == [
        ("conv", "conv", ("input:x",)),
        ("conv.relu", "relu", ("conv",)),
    ]
    assert found.outputs == ("conv.relu",)

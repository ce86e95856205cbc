"""What no layer that learns is: it runs forward only, counted, and nothing is cut before it."""

from __future__ import annotations

import numpy as np
import pytest

from dse.errors import UserError
from dse.workload.base import Shape
from dse.workload.forward_only import ForwardOnly
from dse.workload.model.counts import node_rows
from dse.workload.model.graph import Constant
from dse.workload.model.lower import lower
from dse.workload.model.options import Lowered
from tests.workload.model.building import Builder


def ahead(lowered: Lowered) -> dict[str, ForwardOnly]:
    return {layer.name: layer for layer in lowered.workload.layers if isinstance(layer, ForwardOnly)}


def operations(lowered: Lowered) -> list[str]:
    return [layer.operation for layer in ahead(lowered).values()]


def numbers(name: str, *shape: int) -> Constant:
    return Constant(name, shape, "float32", 4 * int(np.prod(shape)))


def classifier(builder: Builder) -> Lowered:
    builder.flatten()
    builder.linear(3)
    return lower(builder.model())


@pytest.mark.parametrize("order", ["NCHW", "NHWC"])
def test_squeeze_and_excitation(order: str) -> None:
    builder = Builder((4, 6, 5) if order == "NCHW" else (6, 5, 4), order)
    wide = builder.conv(8, (3, 3))
    builder.global_pool(keep=True)
    builder.conv(2, (1, 1))
    builder.node("relu")
    builder.conv(8, (1, 1))
    gate = builder.node("sigmoid")
    builder.node("multiply", wide, gate)
    builder.conv(4, (1, 1))
    builder.global_pool()
    builder.linear(3)
    found = lower(builder.model())
    assert operations(found) == ["sigmoid", "multiply"]
    assert [layer.shape for layer in ahead(found).values()] == [(8,), (8, 4, 3)]
    assert [unit.operator for unit in found.workload.units] == [
        "conv2d",
        "linear",
        "linear",
        "pointwise",
        "linear",
    ]
    assert found.workload.legal_cuts == (2, 3, 4)  # behind the product, which belongs to the last gate


def attention(builder: Builder, heads: int) -> None:
    """Self-attention over (T, F) as exporters write it."""
    length, features = builder.shape
    x, parts = builder.last, []
    for _ in "qkv":
        builder.last = x
        builder.linear(features)
        builder.reshape(length, heads, features // heads)
        parts.append(builder.transpose(1, 0, 2))
    inner = features // heads
    turned = builder.raw("transpose", (heads, inner, length), parts[1], attributes={"permutation": (0, 2, 1)})
    builder.raw("matmul", (heads, length, length), parts[0], turned)
    builder.raw("softmax", (heads, length, length), attributes={"axis": 2})
    builder.raw("matmul", (heads, length, inner), builder.last, parts[2])
    builder.transpose(1, 0, 2)
    builder.reshape(length, features)
    builder.linear(features)


def test_attention() -> None:
    builder = Builder((10, 8), "NHWC")
    builder.linear(8)
    attention(builder, 2)
    builder.raw("layer_norm", (10, 8), constants={"gamma": numbers("g", 8), "beta": numbers("b", 8)})
    builder.global_pool()
    builder.linear(3)
    found = lower(builder.model())
    macs = [layer.forward_macs for layer in ahead(found).values() if layer.operation == "matmul"]
    assert macs == [2 * 10 * 10 * 4, 2 * 10 * 4 * 10]
    assert [unit.operator for unit in found.workload.units] == ["pointwise"] * 4 + ["matmul"] * 2 + [
        "pointwise",
        "linear",
    ]
    norm = list(ahead(found).values())[-1]
    assert (norm.operation, norm.weights, norm.biases) == ("layer_norm", 8, 8)
    assert (
        operations(found).count("copy") == 3
    )  # q, v and the way back; k, turned, lies as its layer gives it
    assert found.workload.legal_cuts == (6, 7)  # the norm belongs to the last linear layer over time


def test_recurrent_layer_and_its_last_step() -> None:
    builder = Builder((12, 6), "NHWC")
    held = {"weight_input_l0": numbers("wi", 32, 6), "weight_recurrent_l0": numbers("wr", 32, 8)}
    held |= {"bias_input_l0": numbers("bi", 32)}
    said = {"hidden_size": 8, "steps": 12, "directions": 1, "layers": 1, "time_axis": 0}
    builder.raw("lstm", (12, 8), constants=held, attributes=said)
    builder.raw("slice", (1, 8))
    builder.reshape(8)
    builder.linear(3)
    found = lower(builder.model())
    cell = next(iter(ahead(found).values()))
    assert (cell.operation, cell.forward_macs) == ("lstm", 12 * 4 * 8 * (6 + 8))
    assert (cell.weights, cell.biases) == (32 * 14, 32)
    assert operations(found) == ["lstm", "copy"]
    assert found.workload.input_shape == (6, 12)


def test_unknown_operations_keep_their_weights_and_have_no_macs() -> None:
    builder = Builder((4, 6, 6))
    builder.conv(4, (3, 3))
    builder.raw(
        "unknown", (4, 4, 4), constants={"k": numbers("k", 7, 3)}, source_operation="com.example.Fancy"
    )
    builder.conv(4, (1, 1))
    builder.global_pool()
    found = classifier(builder)
    layer = next(iter(ahead(found).values()))
    assert (layer.operation, layer.weights, layer.forward_macs) == ("custom:com.example.Fancy", 21, 0)
    row = next(row for row in node_rows(builder.model()) if row.operation == "unknown")
    assert (row.macs, row.parameters, row.becomes) == (None, 21, "unknown")
    assert row.source_operation == "com.example.Fancy"


def test_transposed_convolution_and_resize() -> None:
    builder = Builder((5, 5, 3), "NHWC")
    builder.conv(6, (1, 1))
    kernel = {"weight": numbers("w", 6, 4, 3, 3), "bias": numbers("b", 4)}
    builder.raw(
        "conv_transpose", (10, 10, 4), constants=kernel, channel_axis=2, attributes={"kernel": (3, 3)}
    )
    builder.raw("resize", (5, 5, 4))
    builder.conv(4, (3, 3))
    builder.global_pool()
    found = classifier(builder)
    first, second = ahead(found).values()
    assert (first.operation, first.forward_macs, first.shape) == ("conv_transpose", 216 * 25, (4, 10, 10))
    assert (second.operation, second.shape, second.forward_macs) == ("resize", (4, 5, 5), 0)


POOLS = {
    "pads that are not counted": ("avg_pool", {"pads": ((1, 1), (1, 1)), "count_include_pad": False}),
    "taps that stand apart": ("max_pool", {"dilation": (2, 2)}),
}


@pytest.mark.parametrize("name", POOLS)
def test_pools_that_are_no_layer(name: str) -> None:
    operation, said = POOLS[name]
    builder = Builder((3, 8, 8))
    builder.conv(4, (1, 1))
    builder.pool(operation, (3, 3), stride=(2, 2), **said)  # type: ignore[arg-type]
    found = classifier(builder)
    assert operations(found) == [operation]
    assert ahead(found)[builder.nodes[1].name].shape == builder.nodes[1].shape


CASES: dict[str, tuple[Shape, str]] = {
    "before a convolution": ((4, 5, 5), "affine"),
    "a row of constants": ((4, 5, 5), "add"),
}


@pytest.mark.parametrize("name", CASES)
def test_scales_with_nothing_to_go_into(name: str) -> None:
    shape, operation = CASES[name]
    builder = Builder(shape)
    if operation == "affine":
        builder.batch_norm()
    else:
        builder.conv(4, (1, 1))
        builder.scale("add", np.ones((1, 1, 5)))
    builder.conv(4, (3, 3))
    builder.global_pool()
    found = classifier(builder)
    assert operations(found) == [operation]
    assert next(iter(ahead(found).values())).weights == (4 if operation == "affine" else 5)


def test_a_tensor_added_to_itself() -> None:
    builder = Builder((3, 5, 5))
    first = builder.conv(4, (1, 1))
    builder.node("add", first, first)
    builder.global_pool()
    assert operations(classifier(builder)) == ["add"]


def test_shuffled_channels_are_copied() -> None:
    """ShuffleNet's shuffle: channels as (2, 3), turned to (3, 2)."""
    builder = Builder((6, 4, 4))
    builder.conv(6, (3, 3), groups=2, same=True)
    builder.reshape(2, 3, 4, 4)
    builder.transpose(1, 0, 2, 3)
    builder.reshape(6, 4, 4)
    builder.conv(6, (3, 3), groups=2, same=True)
    builder.global_pool()
    found = classifier(builder)
    assert operations(found) == ["copy"]
    assert ahead(found)["reshape3"].shape == (6, 4, 4)


def test_a_function_of_the_outputs_is_left_out() -> None:
    builder = Builder((3, 5, 5))
    builder.conv(4, (3, 3))
    builder.flatten()
    last = builder.linear(1)
    builder.node("sigmoid")
    builder.raw("unknown", (), source_operation="ArgMax")
    found = lower(builder.model())
    assert found.workload.layers[-1].name == last
    assert any("ArgMax" in note and "SIGMOID" in note for note in found.notes)


def test_nothing_that_learns_behind_the_last_operation_is_refused() -> None:
    builder = Builder((3, 5, 5))
    builder.conv(4, (3, 3))
    builder.flatten()
    builder.linear(3)
    builder.raw("unknown", (3,), source_operation="Vote")
    with pytest.raises(UserError, match=r"Vote.*forward only"):
        lower(builder.model())

"""A lowered network computes what the file's own operations compute, in the file's own order, naively."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

pytest.importorskip("torch", exc_type=ImportError)

from tests.workload.model.building import Builder
from tests.workload.model.running import BATCH_NORM, ORDERS, check, image, kinds, series

# --- one operation after the other ---

Step = Callable[[Builder], object]
IMAGES: dict[str, tuple[Step, list[str]]] = {
    "conv": (lambda b: b.conv(5, (3, 3), pads=((1, 1), (1, 1))), ["conv2d"]),
    "strided": (lambda b: b.conv(5, (3, 3), same=True, stride=(2, 2)), ["conv2d"]),
    "one-sided": (lambda b: b.conv(5, (3, 3), pads=((0, 1), (1, 0)), stride=(2, 2)), ["conv2d"]),
    "dilated": (lambda b: b.conv(5, (3, 2), pads=((2, 2), (1, 0)), dilation=(2, 1)), ["conv2d"]),
    "tall": (lambda b: b.conv(3, (4, 1), bias=False), ["conv2d"]),
    "point": (lambda b: b.conv(7, (1, 1)), ["pointwise"]),
    "strided point": (lambda b: b.conv(7, (1, 1), stride=(2, 2)), ["conv2d"]),
    "grouped": (lambda b: b.conv(6, (3, 3), groups=2, same=True), ["conv2d"]),
    "depthwise": (lambda b: b.depthwise((3, 3), same=True, stride=(2, 1)), ["depthwise"]),
    "multiplied": (lambda b: b.depthwise((3, 3), multiplier=3), ["conv2d"]),
    "max pool": (lambda b: b.pool("max_pool", (2, 2)), ["max_pool"]),
    "padded max pool": (
        lambda b: b.pool("max_pool", (3, 3), stride=(2, 2), pads=((1, 1), (0, 1))),
        ["max_pool"],
    ),
    "avg pool": (lambda b: b.pool("avg_pool", (3, 2)), ["avg_pool"]),
    "avg pool that counts": (
        lambda b: b.pool("avg_pool", (3, 3), stride=(2, 2), pads=((1, 1), (1, 1)), count_include_pad=True),
        ["avg_pool"],
    ),
    "avg pool same": (
        lambda b: b.pool("avg_pool", (3, 3), stride=(1, 1), pads=((1, 1), (1, 1)), count_include_pad=False),
        ["avg_pool"],
    ),
    "relu": (lambda b: [b.conv(4, (1, 1)), b.node("relu")], ["pointwise", "relu"]),
    "relu6": (lambda b: [b.conv(4, (1, 1)), b.node("relu6")], ["pointwise", "relu6"]),
    "hard swish": (lambda b: [b.conv(4, (1, 1)), b.node("hard_swish")], ["pointwise", "hard_swish"]),
}  # fmt: skip


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", IMAGES)
def test_operation_on_images(name: str, order: str) -> None:
    step, wanted = IMAGES[name]
    builder = image(order, 4, 7, 6)
    step(builder)
    builder.flatten()
    builder.linear(3)
    found = check(builder)
    assert kinds(found) == [*wanted, "flatten", "linear"]


SERIES: dict[str, tuple[Step, list[str]]] = {
    "conv": (lambda b: b.conv(5, (3,), same=True, stride=(2,)), ["conv1d"]),
    "causal": (lambda b: b.conv(5, (3,), pads=((4, 0),), dilation=(2,)), ["conv1d"]),
    "point": (lambda b: b.conv(5, (1,)), ["pointwise"]),
    "depthwise": (lambda b: b.depthwise((5,), pads=((2, 2),)), ["depthwise1d"]),
    "pool": (lambda b: b.pool("max_pool", (2,)), ["max_pool"]),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", SERIES)
def test_operation_on_series(name: str, order: str) -> None:
    step, wanted = SERIES[name]
    builder = series(order, 4, 9)
    step(builder)
    builder.node("relu")
    builder.global_pool()
    builder.linear(3)
    builder.node("softmax", axis=0)
    assert kinds(check(builder)) == [*wanted, "relu", "global_avg_pool", "linear", "softmax"]


@pytest.mark.parametrize("order", ORDERS)
def test_flatten_with_relu_between(order: str) -> None:
    builder = image(order, 3, 4, 5)
    builder.conv(6, (3, 3))
    builder.flatten()
    builder.node("relu")
    builder.linear(8)
    builder.batch_norm(axis=0)
    builder.node("relu")
    builder.linear(4)
    check(builder)
    check(builder, "fold")


def test_series_as_images_of_height_one() -> None:
    builder = Builder((1, 20, 3), "NHWC")
    builder.conv(4, (1, 5), same=True, stride=(1, 2))
    builder.batch_norm()
    builder.node("relu")
    builder.depthwise((1, 3), same=True)
    builder.pool("max_pool", (1, 2))
    builder.global_pool()
    builder.linear(2)
    found = check(builder)
    assert found.workload.input_shape == (3, 20)
    assert kinds(found)[0] == "conv1d"


def test_series_that_become_images_for_their_convolution() -> None:
    builder = series("NHWC", 3, 16)
    builder.reshape(1, 16, 3)
    builder.conv(4, (1, 3), same=True)
    builder.reshape(16, 4)
    builder.node("relu")
    builder.reshape(1, 16, 4)
    builder.conv(2, (1, 3), stride=(1, 2))
    builder.reshape(7, 2)
    builder.flatten()
    builder.linear(3)
    assert kinds(check(builder)) == ["conv1d", "relu", "conv1d", "flatten", "linear"]


def test_vector_that_becomes_an_image() -> None:
    builder = Builder((60,), "NHWC")
    builder.reshape(10, 6, 1)
    builder.conv(4, (3, 3), same=True)
    builder.flatten()
    builder.linear(3)
    found = check(builder, x=builder.x.reshape(1, 10, 6))
    assert found.workload.input_shape == (1, 10, 6)


def test_transposes_that_only_move_the_channels() -> None:
    builder = image("NHWC", 3, 6, 5)
    builder.transpose(2, 0, 1)
    builder.order = "NCHW"
    builder.conv(4, (3, 3), pads=((1, 1), (1, 1)))
    builder.batch_norm()
    builder.transpose(1, 2, 0)
    builder.node("relu")
    builder.transpose(2, 0, 1)
    builder.conv(5, (3, 3), stride=(2, 2))
    builder.transpose(1, 2, 0)
    builder.flatten()
    builder.linear(4)
    found = check(builder, x=np.moveaxis(builder.x, -1, 0))
    assert kinds(found) == ["conv2d", "batch_norm", "relu", "conv2d", "flatten", "linear"]
    check(builder, "fold", x=np.moveaxis(builder.x, -1, 0))


def test_linear_over_series() -> None:
    builder = series("NHWC", 6, 5)
    builder.linear(8)
    builder.node("relu")
    builder.transpose(1, 0)
    builder.order = "NCHW"
    builder.conv(3, (3,))
    builder.transpose(1, 0)
    builder.linear(4)
    builder.flatten()
    builder.linear(2)
    found = check(builder, x=builder.x.T)
    assert kinds(found) == ["pointwise", "relu", "conv1d", "pointwise", "flatten", "linear"]


def test_linear_over_images() -> None:
    builder = image("NHWC", 3, 4, 5)
    builder.linear(6)
    builder.conv(4, (3, 3))
    builder.global_pool()
    builder.linear(2)
    assert kinds(check(builder))[0] == "pointwise"


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("batch_norm", BATCH_NORM)
def test_residual_and_concatenation(order: str, batch_norm: str) -> None:
    builder = image(order, 3, 6, 6)
    first = builder.conv(4, (3, 3), same=True)
    builder.batch_norm()
    first = builder.node("relu6")
    builder.conv(4, (3, 3), same=True, bias=False)
    second = builder.batch_norm(epsilon=0.0, low=0.5)
    added = builder.node("add", first, second)
    builder.node("hard_swish")
    left = builder.conv(2, (1, 1))
    right = builder.conv(5, (3, 3), added, same=True)
    builder.node("concat", left, right, axis=builder.axis)
    builder.flatten()
    builder.linear(4)
    found = check(builder, batch_norm)
    assert ("batch_norm" in kinds(found)) == (batch_norm == "keep")


# --- ends ---


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("keep", [False, True])
def test_convolution_as_classifier(order: str, keep: bool) -> None:
    builder = image(order, 3, 5, 4)
    builder.conv(6, (3, 3))
    builder.global_pool(keep=True)
    builder.conv(4, (1, 1))
    if not keep:
        builder.reshape(4)
    found = check(builder)
    assert kinds(found) == ["conv2d", "global_avg_pool", "linear"]
    assert found.workload.units[-1].macs == 24


@pytest.mark.parametrize("order", ORDERS)
def test_gates_by_squeezed_convolutions_keep_vectors(order: str) -> None:
    builder = image(order, 3, 4, 4)
    builder.conv(5, (3, 3))
    builder.pool("avg_pool", (2, 2))
    builder.conv(4, (1, 1))
    builder.reshape(4)
    builder.node("softmax", axis=0)
    check(builder)


def test_zeros_in_front_of_a_convolution_are_its_padding() -> None:
    builder = image("NHWC", 3, 6, 6)
    builder.node("pad", pads=((0, 1), (0, 1), (0, 0)), value=0.0)
    builder.conv(4, (3, 3), stride=(2, 2))
    builder.node("relu6")
    builder.node("pad", pads=((2, 1), (1, 1), (0, 0)), value=0.0)
    builder.conv(4, (3, 3), pads=((0, 0), (1, 0)))
    builder.global_pool()
    builder.linear(2)
    found = check(builder)
    assert "forward_only" not in kinds(found)

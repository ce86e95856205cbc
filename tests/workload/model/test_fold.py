"""Batch norms and constants per channel, kept or folded, compute what they did; random networks do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch", exc_type=ImportError)

from dse.training.parameters import EPSILON
from dse.workload.model import fold
from dse.workload.model.lower import lower
from dse.workload.model.options import ImportOptions
from tests.workload.model.building import Builder
from tests.workload.model.running import BATCH_NORM, ORDERS, check, image, kinds, run


def test_training_has_the_epsilon_that_is_assumed() -> None:
    assert fold.EPSILON == EPSILON


@pytest.mark.parametrize("batch_norm", BATCH_NORM)
@pytest.mark.parametrize("epsilon", [0.0, 1e-9, 1e-5, 1e-3, 0.1])
def test_epsilon_is_exact_down_to_variances_of_nothing(epsilon: float, batch_norm: str) -> None:
    builder = image("NCHW", 2, 3, 3)
    builder.conv(64, (2, 2), bias=False)
    tiny = np.float32([1e-12, 3e-6, 9e-6, 1e-5, 2e-5, 1e-3, 1.0, 4.0] * 8)
    values = {"gamma": np.ones(64), "beta": np.zeros(64), "mean": np.zeros(64), "variance": tiny}
    builder.node("batch_norm", constants=values, channel_axis=0, epsilon=epsilon)
    builder.flatten()
    lowered = lower(builder.model(), ImportOptions(batch_norm=batch_norm))  # type: ignore[arg-type]
    found, wanted = run(lowered, builder.x), builder.values[builder.last]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("batch_norm", BATCH_NORM)
def test_constants_per_channel_behind_a_convolution(order: str, batch_norm: str) -> None:
    builder = image(order, 3, 5, 5)
    wide = (lambda n: (n, 1, 1)) if order == "NCHW" else (lambda n: (n,))
    builder.conv(4, (3, 3), bias=False)
    builder.scale("add", np.arange(1.0, 5).reshape(wide(4)))
    builder.batch_norm()
    builder.scale("multiply", np.arange(2.0, 6).reshape(wide(4)))
    builder.scale("subtract", 0.25)
    builder.node("relu")
    builder.conv(5, (1, 1))
    builder.scale("divide", np.arange(1.0, 6).reshape(wide(5)))
    builder.scale("add", np.float32([3.0]))
    builder.flatten()
    builder.linear(2, bias=False)
    builder.scale("add", [1.0, -1.0])
    found = check(builder, batch_norm)
    assert {"forward_only", "add"}.isdisjoint(kinds(found))


def test_a_tensor_that_others_read_is_not_scaled() -> None:
    builder = image("NCHW", 3, 5, 5)
    first = builder.conv(4, (3, 3), same=True)
    normed = builder.batch_norm()
    builder.node("add", first, normed)
    builder.flatten()
    builder.linear(2)
    layers = lower(builder.model()).workload.layers
    assert [layer.operation for layer in layers if layer.kind == "forward_only"] == ["affine"]  # type: ignore[attr-defined]


# --- networks at random ---


def random_model(seed: int) -> Builder:
    """A chain of a few layers with branches, in one order or the other, with transposes to the other."""
    draw = np.random.default_rng([seed, 77])
    order = ORDERS[seed % 2]
    builder = image(order, int(draw.integers(1, 5)), int(draw.integers(5, 9)), int(draw.integers(5, 9)), seed)
    for _ in range(int(draw.integers(2, 6))):
        STEPS[int(draw.integers(len(STEPS)))](builder, draw)
    if draw.random() < 0.5:
        builder.global_pool(keep=bool(draw.random() < 0.5))
    builder.flatten()
    if draw.random() < 0.5:
        builder.linear(6)
        builder.batch_norm(axis=0)
        builder.node("relu")
    builder.linear(3)
    return builder


def _turn(builder: Builder, draw: np.random.Generator) -> None:
    builder.transpose(*((1, 2, 0) if builder.order == "NCHW" else (2, 0, 1)))
    builder.order = "NHWC" if builder.order == "NCHW" else "NCHW"


def _block(builder: Builder, draw: np.random.Generator) -> None:
    out = int(draw.integers(1, 7))
    kernel = tuple(int(size) for size in draw.integers(1, 4, 2))
    pads = tuple((int(a), int(b)) for a, b in draw.integers(1, 3, (2, 2)))
    builder.conv(
        out, kernel, pads=pads, stride=tuple(draw.integers(1, 3, 2).tolist()), bias=bool(draw.random() < 0.5)
    )
    if draw.random() < 0.7:
        builder.batch_norm(epsilon=float(draw.choice([0.0, 1e-5, 1e-3])), low=0.1)
    builder.node(str(draw.choice(["relu", "relu6", "hard_swish"])))


def _residual(builder: Builder, draw: np.random.Generator) -> None:
    before = builder.last
    builder.depthwise((3, 3), same=True, dilation=(int(draw.integers(1, 3)),) * 2)
    builder.batch_norm()
    builder.node("add", before, builder.last)


def _branches(builder: Builder, draw: np.random.Generator) -> None:
    before = builder.last
    left = builder.conv(2, (3, 3), same=True)
    right = builder.conv(3, (1, 1), before)
    builder.node("concat", left, right, axis=builder.axis)


def _pool(builder: Builder, draw: np.random.Generator) -> None:
    if min(builder.positions()) >= 2:
        counting = bool(draw.random() < 0.5)
        pads = ((1, 0), (1, 1)) if counting else ((0, 0), (0, 0))
        builder.pool("avg_pool", (2, 2), pads=pads, count_include_pad=counting)


STEPS = (_block, _block, _residual, _branches, _turn, _pool)


MANY = [pytest.param(seed, marks=pytest.mark.slow) for seed in range(24, 200)]


@pytest.mark.parametrize("seed", [*range(24), *MANY])
def test_random_networks(seed: int) -> None:
    builder = random_model(seed)
    first = np.moveaxis(builder.x, -1, 0) if ORDERS[seed % 2] == "NHWC" else builder.x
    for batch_norm in BATCH_NORM:
        check(builder, batch_norm, x=first)


@pytest.mark.parametrize("operation", ["minimum", "maximum", "power"])
def test_what_is_no_factor_and_no_shift_is_not_folded(operation: str) -> None:
    builder = image("NCHW", 3, 5, 5)
    first = builder.conv(4, (3, 3))
    builder.scale(operation, 2.0)
    builder.conv(2, (3, 3))
    builder.flatten()
    model = builder.model()
    found = lower(model)
    assert "forward_only" in kinds(found)
    for part in ("weight", "bias"):
        values = model.nodes[0].constants[part].values
        np.testing.assert_array_equal(found.parameters[f"{first}.{part}"], values)


@pytest.mark.parametrize("order", ORDERS)
def test_a_batch_norm_that_runs_forward_only_takes_scale_and_shift(order: str) -> None:
    """Caffe has them as layers of their own; a device does all three at once."""
    builder = image(order, 4, 6, 6)
    wide = (4, 1, 1) if order == "NCHW" else (4,)
    builder.pool("max_pool", (2, 2))
    normed = builder.batch_norm()
    builder.scale("multiply", np.arange(1.0, 5).reshape(wide))
    builder.scale("add", np.arange(1.0, 5).reshape(wide))
    builder.conv(3, (3, 3))
    builder.flatten()
    found = lower(builder.model())
    assert [layer.name for layer in found.workload.layers if layer.kind == "forward_only"] == [normed]
    builder.nodes[-2] = replace(builder.nodes[-2], inputs=(normed,))  # what it scaled is read elsewhere
    assert "multiply2" not in [layer.name for layer in lower(builder.model()).workload.layers]


@pytest.mark.parametrize("order", ORDERS)
def test_a_padded_pool_over_everything_is_a_mean(order: str) -> None:
    builder = image(order, 3, 6, 5)
    builder.conv(4, (1, 1))
    builder.pool("avg_pool", (7, 6), stride=(1, 1), pads=((0, 1), (1, 0)), count_include_pad=False)
    builder.conv(2, (1, 1))
    builder.flatten()
    assert "global_avg_pool" in kinds(check(builder))


@pytest.mark.parametrize(("pads", "counts"), [(((0, 1), (1, 0)), True), (((0, 1), (0, 2)), False)])
def test_other_padded_pools_are_no_means(pads: object, counts: bool) -> None:
    builder = image("NCHW", 3, 6, 5)
    builder.conv(4, (1, 1))
    builder.pool("avg_pool", (7, 6), stride=(1, 1), pads=pads, count_include_pad=counts)
    builder.flatten()
    builder.linear(2)
    assert "global_avg_pool" not in kinds(lower(builder.model()))

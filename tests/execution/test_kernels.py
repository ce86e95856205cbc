"""Every layer kind in numpy against autograd on PyTorch's own operations, in double precision."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dse.errors import UserError
from dse.execution.fp32 import Fp32
from dse.plan.operations import Holds
from dse.workload import LAYER_KINDS, Workload

torch = pytest.importorskip("torch", reason="autograd is the oracle of the kernels")
operators = pytest.importorskip("dse.training.operators", reason="needs PyTorch")
geometry = pytest.importorskip("dse.training.geometry", reason="needs PyTorch")

torch.set_num_threads(1)
BATCH = 3


def around(layer, shapes, bn_mode="folded"):
    """Arithmetic of a network of one layer that reads ``shapes``: all that kernels ask of a network."""
    output = layer.output_shape(*shapes)
    inputs = tuple(range(len(shapes)))
    network = Workload(
        name="one", title="", source="", input_shape=shapes[0], classes=1, units=(),
        layers=(*(None,) * len(shapes), layer), shapes=(*shapes, output),
        inputs=(*((-1,),) * len(shapes), inputs), legal_cuts=(),
    )  # fmt: skip
    return Fp32(network, bn_mode), len(shapes)


def drawn(shape, seed):
    return np.random.default_rng(seed).standard_normal(shape)


def by_torch(layer, shapes, arrays, own, norm_by_batch=None):
    """Output of PyTorch's operation, and gradients of inputs and of its numbers for a drawn error."""
    xs = [torch.tensor(x, requires_grad=True) for x in arrays]
    parts = {
        key: torch.tensor(value, requires_grad=key not in ("mean", "variance")) for key, value in own.items()
    }
    lifted = {key: part.reshape(geometry.lifted_weight(tuple(part.shape))) for key, part in parts.items()}
    operation = operators.OPERATORS[layer.kind](layer, shapes[0], lifted)
    if norm_by_batch is not None:
        operation.by_batch = norm_by_batch
    output = operation(*(x.reshape(len(x), *geometry.lifted(x.shape[1:])) for x in xs))
    output = output.reshape(len(xs[0]), *layer.output_shape(*shapes))
    error = drawn(output.shape, 77)
    asked = [*xs, *(part for part in parts.values() if part.requires_grad)]
    found = torch.autograd.grad(output, asked, torch.tensor(error))
    names = [key for key, part in parts.items() if part.requires_grad]
    gradients = dict(zip(names, (each.numpy() for each in found[len(xs) :]), strict=True))
    statistics = {key: parts[key].numpy() for key in parts if not parts[key].requires_grad}
    return output.detach().numpy(), [each.numpy() for each in found[: len(xs)]], gradients, error, statistics


def close(mine, theirs):
    np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-9)


@st.composite
def convolutions(draw):
    """A convolution of any kind with an input that it fits."""
    kind = draw(st.sampled_from(["conv2d", "conv1d", "depthwise", "depthwise1d", "pointwise", "linear"]))
    rank = 1 if kind.endswith("1d") else 2
    groups = draw(st.integers(1, 3)) if kind in ("conv2d", "conv1d") else 1
    shape = (groups * draw(st.integers(1, 3)), *(draw(st.integers(3, 7)) for _ in range(rank)))
    options = {"bias": draw(st.booleans())}
    if kind == "linear":
        return LAYER_KINDS[kind](name="x", inputs=("a",), out_features=4, **options), (shape[0],)
    if kind != "pointwise":
        options["kernel"] = tuple(draw(st.integers(1, 3)) for _ in range(rank))
        options["stride"] = tuple(draw(st.integers(1, 3)) for _ in range(rank))
        options["dilation"] = tuple(draw(st.integers(1, 3)) for _ in range(rank))
        reach = [(k - 1) * d for k, d in zip(options["kernel"], options["dilation"], strict=True)]
        ends = st.tuples(st.integers(0, 2), st.integers(0, 3))
        pads = tuple(draw(st.one_of(st.integers(0, 1), ends)) for _ in range(rank))
        fits = all(far < size for far, size in zip(reach, shape[1:], strict=True))
        options["padding"] = draw(st.sampled_from(["same", (0,) * rank, pads] if fits else ["same"]))
    if kind in ("conv2d", "conv1d"):
        options |= {"out_channels": groups * draw(st.integers(1, 3)), "groups": groups}
    if kind == "pointwise":
        options["out_channels"] = draw(st.integers(1, 4))
    return LAYER_KINDS[kind](name="x", inputs=("a",), **options), shape


def weights_of(layer, shape, seed):
    if layer.kind == "linear":
        size = (layer.out_features, shape[0])
    else:
        out, groups, kernel = layer.geometry(shape)
        size = (out, shape[0] // groups, *kernel)
    own = {"weight": drawn(size, seed)}
    return own | ({"bias": drawn(size[:1], seed + 1)} if layer.bias else {})


@given(convolutions(), st.integers(0, 99))
def test_layers_with_weights(case, seed):
    layer, shape = case
    arithmetic, place = around(layer, [shape])
    x, own = drawn((BATCH, *shape), seed), weights_of(layer, shape, seed + 5)
    output, (error_in,), gradients, error, _ = by_torch(layer, [shape], [x], own)
    close(arithmetic.forward(place, [x], own, keep=True).output, output)
    close(arithmetic.input_errors(place, error, own, {})[0], error_in)
    found = arithmetic.weight_gradient(place, error, x, None)
    close(found.reshape(own["weight"].shape), gradients["weight"])
    if layer.bias:
        close(arithmetic.affine_gradient(place, error, own, {})["bias"], gradients["bias"])


@given(convolutions(), st.integers(0, 99), st.sets(st.integers(0, 8), min_size=1))
def test_gradients_of_chosen_channels(case, seed, chosen):
    """They are those of autograd, picked weight by weight; and weights fall apart and together again."""
    layer, shape = case
    channels = np.array(sorted({channel % shape[0] for channel in chosen}))
    arithmetic, place = around(layer, [shape])
    x, own = drawn((BATCH, *shape), seed), weights_of(layer, shape, seed + 5)
    _, _, gradients, error, _ = by_torch(layer, [shape], [x], own)
    groups = 1 if layer.kind == "linear" else layer.geometry(shape)[1]
    inside, outside = shape[0] // groups, len(own["weight"]) // groups
    whole = gradients["weight"].reshape(groups, outside, inside, -1)
    picked = np.stack([whole[channel // inside, :, channel % inside] for channel in channels])
    close(arithmetic.weight_gradient(place, error, x[:, channels], channels), picked)
    weighted = arithmetic.weighted[place]
    rest = np.setdiff1d(np.arange(shape[0]), channels)
    parts = [weighted.chosen(own["weight"], some) for some in (channels, rest)]
    assert np.array_equal(weighted.joined(*parts, channels, own["weight"].shape), own["weight"])


@st.composite
def pools(draw):
    kind = draw(st.sampled_from(["avg_pool", "max_pool"]))
    rank = draw(st.integers(1, 2))
    kernel = tuple(draw(st.integers(2, 3)) for _ in range(rank))
    stride = draw(st.sampled_from([(), (1,) * rank, (2,) * rank, (3,) * rank]))
    padding = draw(st.sampled_from(["same", (0,), (1,), ((1, 0),), ((0, 1),) * rank]))
    layer = LAYER_KINDS[kind](name="x", inputs=("a",), kernel=kernel, stride=stride, padding=padding)
    return layer, (draw(st.integers(1, 3)), *(draw(st.integers(3, 8)) for _ in range(rank)))


@given(pools(), st.integers(0, 99))
def test_pools(case, seed):
    layer, shape = case
    arithmetic, place = around(layer, [shape])
    x = drawn((BATCH, *shape), seed)
    output, (error_in,), _, error, _ = by_torch(layer, [shape], [x], {})
    forward = arithmetic.forward(place, [x], {}, keep=True)
    close(forward.output, output)
    close(arithmetic.input_errors(place, error, {}, forward.kept)[0], error_in)
    if layer.kind == "max_pool":
        assert forward.kept[Holds.INDEX, place].dtype == np.uint8


def test_an_index_that_does_not_fit_a_byte_is_refused():
    layer = LAYER_KINDS["max_pool"](name="x", inputs=("a",), kernel=(17, 17))
    arithmetic, place = around(layer, [(1, 34, 34)])
    with pytest.raises(UserError, match="289 elements, whose index is saved in one byte"):
        arithmetic.forward(place, [drawn((1, 1, 34, 34), 0)], {}, keep=True)


@pytest.mark.parametrize("shape", [(4,), (4, 5), (4, 5, 3)], ids=str)
@pytest.mark.parametrize("kind", ["relu", "relu6", "hard_swish", "flatten", "global_avg_pool"])
def test_layers_without_weights(kind, shape):
    if len(shape) == 1 and kind == "global_avg_pool":
        pytest.skip("a vector has no positions")
    layer = LAYER_KINDS[kind](name="x", inputs=("a",))
    arithmetic, place = around(layer, [shape])
    x = 5 * drawn((BATCH, *shape), 4)
    x.ravel()[:5] = (-3, 0, 3, 6, -6)  # where slopes change
    output, (error_in,), _, error, _ = by_torch(layer, [shape], [x], {})
    forward = arithmetic.forward(place, [x], {}, keep=True)
    close(forward.output, output)
    close(arithmetic.input_errors(place, error, {}, forward.kept)[0], error_in)


@pytest.mark.parametrize("kind", ["add", "concat"])
def test_layers_with_several_inputs(kind):
    shapes = [(4, 5, 3)] * 3 if kind == "add" else [(4, 5, 3), (1, 5, 3), (2, 5, 3)]
    layer = LAYER_KINDS[kind](name="x", inputs=("a", "b", "c"))
    arithmetic, place = around(layer, shapes)
    arrays = [drawn((BATCH, *shape), number) for number, shape in enumerate(shapes)]
    output, errors, _, error, _ = by_torch(layer, shapes, arrays, {})
    close(arithmetic.forward(place, arrays, {}, keep=True).output, output)
    for mine, theirs in zip(arithmetic.input_errors(place, error, {}, {}), errors, strict=True):
        close(mine, theirs)


@pytest.mark.parametrize("shape", [(6,), (6, 5), (6, 5, 3)], ids=str)
@pytest.mark.parametrize("mode", ["frozen_stats", "batch_stats"])
def test_batch_norms(mode, shape):
    layer = LAYER_KINDS["batch_norm"](name="x", inputs=("a",))
    arithmetic, place = around(layer, [shape], mode)
    x = 2 + drawn((BATCH, *shape), 3)
    own = {key: drawn(shape[:1], seed) for seed, key in enumerate(("gamma", "beta", "mean"))}
    own["variance"] = 1 + drawn(shape[:1], 9) ** 2
    result = by_torch(layer, [shape], [x], own, norm_by_batch=mode == "batch_stats")
    output, (error_in,), gradients, error, statistics = result
    forward = arithmetic.forward(place, [x], own, keep=True)
    close(forward.output, output)
    close(arithmetic.input_errors(place, error, own, forward.kept)[0], error_in)
    mine = arithmetic.affine_gradient(place, error, own, forward.kept)
    for part in ("gamma", "beta"):
        close(mine[part], gradients[part])
    for part, value in forward.statistics.items():
        close(value, statistics[part])
    assert set(forward.statistics) == ({"mean", "variance"} if mode == "batch_stats" else set())
    assert forward.kept[Holds.NORM, place].size == x.size + (12 if mode == "batch_stats" else 0)


@pytest.mark.parametrize("shape", [(6, 5), (64, 3, 2)], ids=str)
def test_group_norm(shape):
    layer = LAYER_KINDS["batch_norm"](name="x", inputs=("a",))
    arithmetic, place = around(layer, [shape], "group")
    own = {"gamma": drawn(shape[:1], 1), "beta": drawn(shape[:1], 2)}
    array, error = 1 + drawn((BATCH, *shape), 3), drawn((BATCH, *shape), 4)
    x, gamma, beta = (torch.tensor(each, requires_grad=True) for each in (array, *own.values()))
    output = torch.nn.functional.group_norm(x, min(32, shape[0]), gamma, beta)
    forward = arithmetic.forward(place, [array], own, keep=True)
    close(forward.output, output.detach().numpy())
    theirs = [each.numpy() for each in torch.autograd.grad(output, [x, gamma, beta], torch.tensor(error))]
    close(arithmetic.input_errors(place, error, own, forward.kept)[0], theirs[0])
    mine = arithmetic.affine_gradient(place, error, own, forward.kept)
    close(mine["gamma"], theirs[1])
    close(mine["beta"], theirs[2])


def test_groups_that_do_not_divide_the_channels_are_refused():
    layer = LAYER_KINDS["batch_norm"](name="x", inputs=("a",))
    arithmetic, place = around(layer, [(40, 2)], "group")
    own = {"gamma": np.ones(40), "beta": np.ones(40)}
    with pytest.raises(UserError, match="40 channels in 32 groups"):
        arithmetic.forward(place, [drawn((1, 40, 2), 1)], own, keep=True)


def test_loss_over_the_classes_seen():
    logits, labels, seen = 3 * drawn((4, 6), 5), np.array([5, 0, 3, 3]), (0, 3, 5)
    arithmetic, _ = around(LAYER_KINDS["relu"](name="x", inputs=("a",)), [(6,)])
    mine = arithmetic.loss(logits, labels, seen, 8)
    x = torch.tensor(logits, requires_grad=True)
    penalty = torch.full((6,), -torch.inf, dtype=torch.float64)
    penalty[list(seen)] = 0.0
    loss = torch.nn.functional.cross_entropy(x + penalty, torch.tensor(labels), reduction="sum") / 8
    loss.backward()
    assert mine.value == pytest.approx(loss.item(), rel=1e-12)
    close(mine.error, x.grad.numpy())


def test_an_error_does_not_pass_a_layer_that_keeps_nothing_for_it():
    layer = LAYER_KINDS["softmax"](name="x", inputs=("a",))
    arithmetic, place = around(layer, [(4,)])
    network = replace(
        arithmetic.workload, layers=(None, layer, layer), shapes=((4,),) * 3, inputs=((-1,), (0,), (1,))
    )
    inside = Fp32(network)
    with pytest.raises(UserError, match="an error through a softmax"):
        inside.input_errors(place, drawn((2, 4), 1), {}, {})

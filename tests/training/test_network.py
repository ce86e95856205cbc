"""Networks in PyTorch: layer kinds against loops and plain torch.nn, graphs, parameters, repeatability."""

from __future__ import annotations

import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dse.errors import UserError
from dse.training.depthwise import depthwise_by_links, links_of
from dse.training.geometry import Window
from dse.training.network import build_module, infer
from dse.training.operators import OPERATORS
from dse.training.parameters import fold, initial_parameters, parameter_shapes
from dse.workload import LAYER_KINDS, list_networks, load_network
from tests.plan.strategies import BRANCHES
from tests.training.reference_networks import REFERENCES, lively, named, reference

torch.set_num_threads(1)
ROOT = Path(__file__).resolve().parents[2]


def samples(shape, count=4, seed=1):
    return np.random.default_rng(seed).standard_normal((count, *shape)).astype(np.float32)


# --- single layers ---


def test_every_layer_kind_has_an_operation():
    assert set(OPERATORS) == {kind for kind, cls in LAYER_KINDS.items() if not cls.forward_only}


def loops(x, weight, bias, groups, kernel, stride, dilation, before, positions):
    """Convolve one sample (C, H, W) number by number; positions outside the input are zero."""
    out = np.zeros((len(weight), *positions))
    inside, outside = weight.shape[1], len(weight) // groups
    for o, r, c in np.ndindex(*out.shape):
        for i, kr, kc in product(range(inside), range(kernel[0]), range(kernel[1])):
            row = r * stride[0] + kr * dilation[0] - before[0]
            column = c * stride[1] + kc * dilation[1] - before[1]
            if 0 <= row < x.shape[1] and 0 <= column < x.shape[2]:
                out[o, r, c] += weight[o, i, kr, kc] * x[(o // outside) * inside + i, row, column]
        out[o, r, c] += bias[o]
    return out


def same_padding(size, kernel, stride):
    """Zeros in front, by trying: what TensorFlow's documentation calls SAME."""
    count = -(-size // stride)
    needed = max((count - 1) * stride + kernel - size, 0)
    return needed // 2, count


def ends(pad):
    return pad if isinstance(pad, tuple) else (pad, pad)


@st.composite
def convolutions(draw):
    kind = draw(st.sampled_from(("conv2d", "conv1d", "depthwise", "depthwise1d", "pointwise")))
    rank = 1 if kind.endswith("1d") else 2
    groups = draw(st.sampled_from((1, 2)))
    shape = (groups * draw(st.integers(1, 2)), *(draw(st.integers(1, 6)) for _ in range(rank)))
    kernel = tuple(draw(st.integers(1, 4)) for _ in range(rank))
    stride = tuple(draw(st.integers(1, 3)) for _ in range(rank))
    dilation = tuple(draw(st.sampled_from((1, 1, 2, 3))) for _ in range(rank))
    pads = st.one_of(st.integers(0, 2), st.tuples(st.integers(0, 3), st.integers(0, 3)))
    padding = draw(st.one_of(st.just("same"), st.tuples(*[pads] * rank)))
    extents = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    if padding != "same" and any(
        reach > n + sum(ends(p)) for reach, n, p in zip(extents, shape[1:], padding, strict=True)
    ):
        padding = "same"
    layer = {"name": "a", "inputs": ("input",)}
    if kind != "pointwise":
        layer |= {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
    if kind in ("conv2d", "conv1d"):
        layer |= {"out_channels": groups * draw(st.integers(1, 2)), "groups": groups}
    if kind == "pointwise":
        layer |= {"out_channels": draw(st.integers(1, 3))}
    return LAYER_KINDS[kind](**layer), shape


@given(convolutions(), st.integers(0, 99))
def test_convolutions_equal_loops(case, seed):
    layer, shape = case
    out, groups, kernel = layer.geometry(shape)
    draw = np.random.default_rng(seed)
    x = draw.standard_normal((2, *shape)).astype(np.float32)
    weight = draw.standard_normal((out, shape[0] // groups, *kernel)).astype(np.float32)
    bias = draw.standard_normal(out).astype(np.float32)
    flat = len(shape) == 2  # a series is an image of height 1
    size, kernel = ((1, *shape[1:]), (1, *kernel)) if flat else (shape[1:], kernel)
    one = (1,) * (len(shape) - 1)
    stride, dilation = getattr(layer, "stride", one), getattr(layer, "dilation", one)
    padding = getattr(layer, "padding", (0,) * len(one))
    stride, dilation = ((1, *stride), (1, *dilation)) if flat else (stride, dilation)
    extents = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    if padding == "same":
        pairs = [same_padding(*axis) for axis in zip(size, extents, stride, strict=True)]
    else:
        padding = (0, *padding) if flat else padding
        pairs = [
            (ends(pad)[0], (length + sum(ends(pad)) - reach) // step + 1)
            for pad, length, reach, step in zip(padding, size, extents, stride, strict=True)
        ]
    before, positions = zip(*pairs, strict=True)
    weight, images = weight.reshape(*weight.shape[:2], *kernel), x.reshape(2, shape[0], *size)
    where = (groups, kernel, stride, dilation, before, positions)
    expected = [loops(image, weight, bias, *where) for image in images]
    tensors = {"weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias)}
    found = OPERATORS[layer.kind](layer, shape, tensors)(torch.from_numpy(images))
    assert found.shape[1:] == ((out, *positions))
    assert layer.output_shape(shape) == ((out, positions[1]) if flat else (out, *positions))
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-5)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "dilation", "padding"),
    [
        (1, 3, 1, 1, "same"), (2, 3, 1, 1, "same"), (2, 3, 2, 1, "same"), (2, 5, 1, 1, "same"),
        (1, 2, 2, 1, "same"), (2, 3, 1, 2, "same"), (2, 2, 1, 3, ((3, 1), (1, 2))), (2, 3, 2, 1, ((0, 1), 2)),
    ],
)  # fmt: skip
def test_depthwise_over_few_positions_has_the_gradients_of_the_general_one(
    size, kernel, stride, dilation, padding
):
    layer = LAYER_KINDS["depthwise"](
        name="a", inputs=("input",), kernel=(kernel,) * 2, stride=(stride,) * 2, padding=padding,
        dilation=(dilation,) * 2,
    )  # fmt: skip
    window = Window.of(layer, (3, size, size))
    draw = torch.Generator().manual_seed(0)
    x, weight, bias = (
        torch.randn(shape, generator=draw, dtype=torch.float64, requires_grad=True)
        for shape in ((5, 3, size, size), (3, 1, kernel, kernel), (3,))
    )
    left, right, top, bottom = window.sides
    general = torch.nn.functional.conv2d(
        torch.nn.functional.pad(x, (left, right, top, bottom)), weight, bias, stride, 0, dilation, groups=3
    )
    few = depthwise_by_links(x, weight, bias, links_of(window).double(), window)
    error = torch.randn(general.shape, generator=draw, dtype=torch.float64)
    torch.testing.assert_close(few, general)
    wanted = torch.autograd.grad(general, (x, weight, bias), error)
    torch.testing.assert_close(torch.autograd.grad(few, (x, weight, bias), error), wanted)


def operation(kind, shape, **keys):
    layer = LAYER_KINDS[kind](name="a", inputs=("input",), **keys)
    return OPERATORS[kind](layer, shape, {})


def test_padding_by_same_does_not_enter_an_average():
    run = operation("avg_pool", (1, 3, 3), kernel=(2, 2), padding="same")
    x = torch.tensor([[[[1.0, 2, 3], [4, 5, 6], [7, 8, 9]]]])
    assert run(x).tolist() == [[[[3.0, 4.5], [7.5, 9.0]]]]


def test_padding_by_numbers_enters_an_average():
    run = operation("avg_pool", (1, 2, 2), kernel=(2, 2), padding=(1, 1))
    assert run(torch.full((1, 1, 2, 2), 4.0)).tolist() == [[[[1.0, 1.0], [1.0, 1.0]]]]


def test_padding_by_a_pair_enters_an_average():
    """Also where it stands at one end alone: PyTorch's rule for zeros that a layer in front adds."""
    run = operation("avg_pool", (1, 2, 2), kernel=(2, 2), padding=((1, 1), (0, 1)))
    assert run(torch.full((1, 1, 2, 2), 4.0)).tolist() == [[[[2.0], [2.0]]]]


def test_padding_never_wins_a_maximum():
    run = operation("max_pool", (1, 3, 3), kernel=(2, 2), stride=(2, 2), padding="same")
    assert run(torch.full((1, 1, 3, 3), -2.0)).tolist() == [[[[-2.0, -2.0], [-2.0, -2.0]]]]


def test_pools_of_series_slide_along_time():
    x = torch.arange(6.0).view(1, 1, 1, 6)
    assert operation("avg_pool", (1, 6), kernel=(3,))(x).flatten().tolist() == [1.0, 4.0]
    assert operation("max_pool", (1, 6), kernel=(4,), stride=(2,))(x).flatten().tolist() == [3.0, 5.0]


def test_a_window_that_may_hold_no_data_is_refused():
    with pytest.raises(UserError, match=r"layers\.a\.padding: padding \(2, 2\) makes windows"):
        operation("max_pool", (1, 6, 6), kernel=(2, 2), padding=(2, 2))


# --- whole networks ---


@pytest.mark.parametrize("name", REFERENCES)
def test_outputs_equal_those_of_the_network_by_hand(name):
    workload = load_network(name)
    parameters = lively(workload, initial_parameters(workload, 3))
    by_hand = reference(name, workload, parameters).eval()
    x = samples(workload.input_shape)
    with torch.inference_mode():
        expected = by_hand.after(torch.from_numpy(x), -1).numpy()
    for given_ in (parameters, fold(workload, parameters)):
        found = infer(build_module(workload, given_), x)
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", REFERENCES)
def test_batch_statistics_and_their_running_values_equal_those_of_the_network_by_hand(name):
    workload = load_network(name)
    parameters = lively(workload, initial_parameters(workload, 4))
    by_hand = reference(name, workload, parameters).train()
    module = build_module(workload, parameters, bn_mode="batch_stats")
    x = torch.from_numpy(samples(workload.input_shape, 8))
    expected, found = by_hand.after(x, -1), module(x)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    after = module.parameters_out()
    assert after.keys() == parameters.keys()
    for key, tensor in named(by_hand, workload).items():
        np.testing.assert_allclose(after[key], tensor.detach().numpy(), rtol=1e-4, atol=1e-5, err_msg=key)


def test_branches_equal_the_network_by_hand():
    """Residuals, a projected shortcut, a concatenation, hard swish, pooling (branches.toml)."""
    workload = load_network(BRANCHES)
    p = lively(workload, initial_parameters(workload, 0))
    t = {key: torch.from_numpy(value) for key, value in p.items()}
    x = torch.from_numpy(samples(workload.input_shape))
    f = torch.nn.functional

    def norm(y, name):
        name = f"{name}.batch_norm."
        parts = [t[name + part] for part in ("mean", "variance", "gamma", "beta")]
        return f.batch_norm(y, *parts, training=False)

    def point(y, name, stride=1):
        weight = t[f"{name}.weight"]
        return f.conv2d(y, weight.view(*weight.shape[:2], 1, 1), t.get(f"{name}.bias"), stride)

    stem = f.hardswish(norm(f.conv2d(x, t["stem.weight"], padding=1), "stem"))
    a1 = f.relu6(norm(f.conv2d(stem, t["a1.weight"], padding=1, groups=8), "a1"))
    a = torch.relu(norm(point(a1, "a2"), "a2") + stem)
    b1 = torch.relu(f.conv2d(f.pad(a, (0, 1, 0, 1)), t["b1.weight"], t["b1.bias"], 2))
    b = torch.relu(f.conv2d(b1, t["b2.weight"], t["b2.bias"], padding=1) + point(a, "bs", 2))
    mid = torch.relu(point(f.max_pool2d(b, 2), "mid"))
    cat = torch.cat([torch.relu(point(mid, "c1")), point(mid, "c2")], 1)
    expected = cat.mean((2, 3)) @ t["fc.weight"].T + t["fc.bias"]
    np.testing.assert_allclose(infer(build_module(workload, p), x.numpy()), expected, atol=1e-5)


@pytest.mark.parametrize("name", [*list_networks(), BRANCHES])
def test_every_network_runs_in_two_parts_at_every_cut_as_it_runs_whole(name):
    small = {"mobilenet-v1": "@width=0.25,resolution=32", "mobilenet-v1-0.25": "@resolution=32",
             "mobilenet-v1-0.25-vww": "@resolution=32", "mobilenet-v2-w0.35": "@resolution=32",
             "mcunet-5fps": "@resolution=32", "proxylessnas-w0.3": "@resolution=32"}  # fmt: skip
    workload = load_network(name + small.get(name, ""))
    parameters = lively(workload, initial_parameters(workload, 0))
    x = samples(workload.input_shape, 2)
    whole = infer(build_module(workload, parameters), x)
    assert whole.shape == (2, workload.classes)
    assert np.ptp(whole) > 0
    cuts = workload.legal_cuts[:: max(1, len(workload.legal_cuts) // 6)]
    for cut in (*cuts, len(workload.units) - 1):
        edge = workload.cut_layer(cut)
        latents = infer(build_module(workload, parameters, last_layer=edge), x)
        assert latents.shape == (2, *workload.cut_shape(cut))
        upper = infer(build_module(workload, parameters, first_layer=edge + 1), latents)
        np.testing.assert_allclose(upper, whole, rtol=1e-4, atol=1e-5 * np.abs(whole).max())


def test_where_two_tensors_cross_nothing_is_built():
    workload = load_network("resnet8")
    with pytest.raises(UserError, match=r"2 tensors cross before layer 6: conv1\.relu, stack1/conv1\.relu"):
        build_module(workload, initial_parameters(workload, 0), first_layer=6)


def test_outputs_do_not_depend_on_the_size_of_the_batch_they_run_in():
    workload = load_network("mobilenet-v1-0.25", resolution=32)
    module = build_module(workload, initial_parameters(workload, 0))
    x = samples(workload.input_shape, 70)
    x.flags.writeable = False
    together = infer(module, x)
    np.testing.assert_allclose(infer(module, x[64:]), together[64:], rtol=1e-4, atol=1e-6)
    assert infer(module, x[:0]).shape == (0, 50)


# --- training as a whole ---


def few_steps(seed=0):
    """Train a small residual network for some steps; return losses and parameters."""
    workload = load_network("resnet8", width=0.5, classes=3)
    module = build_module(workload, initial_parameters(workload, seed), bn_mode="batch_stats")
    optimiser = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)
    y = torch.arange(24) % 3
    x = torch.from_numpy(samples(workload.input_shape, 24)) + y.view(-1, 1, 1, 1)
    losses = []
    for _ in range(12):
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(module(x), y)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses, module.parameters_out()


def test_a_network_learns_from_its_initial_parameters_and_repeats_itself_bit_for_bit():
    losses, parameters = few_steps()
    again, same = few_steps()
    assert losses[-1] < 0.3 * losses[0]
    assert losses == again
    assert all(np.array_equal(parameters[key], same[key]) for key in parameters)
    assert not np.array_equal(parameters["conv1.weight"], few_steps(1)[1]["conv1.weight"])


def test_what_batch_norms_use_follows_the_mode_and_evaluation():
    workload = load_network("har-cnn-1d")
    module = build_module(workload, lively(workload, initial_parameters(workload, 0)))
    x = torch.from_numpy(samples(workload.input_shape))
    still = module(x)
    assert torch.equal(module.train_mode("frozen_stats")(x), still)
    moving = module.train_mode("batch_stats")(x)
    assert not torch.allclose(moving, still, atol=1e-3)
    evaluated = module.eval()(x)
    assert not torch.allclose(evaluated, still, atol=1e-4)  # the running statistics moved
    assert not torch.allclose(evaluated, moving, atol=1e-3)
    assert torch.equal(module.eval()(x), evaluated)
    with pytest.raises(UserError, match="bn_mode: 'group'; one of frozen_stats, batch_stats"):
        module.train_mode("group")


# --- parameters ---


def test_initial_weights_have_the_variance_of_he_and_the_last_unit_half_of_it():
    workload = load_network("mobilenet-v1")
    found = initial_parameters(workload, 0)
    assert found["conv5_1/sep.weight"].std() == pytest.approx(np.sqrt(2 / 512), rel=0.01)
    assert found["classifier.weight"].std() == pytest.approx(np.sqrt(1 / 1024), rel=0.01)
    assert found["conv5_1/dw.weight"].std() == pytest.approx(np.sqrt(2 / 9), rel=0.05)
    shapes = {key: value.shape for key, value in found.items()}
    assert shapes == parameter_shapes(workload)
    assert all(value.dtype == np.float32 for value in found.values())


def test_the_number_of_classes_leaves_other_layers_as_they_are():
    ten, three = (initial_parameters(load_network("resnet8", classes=n), 7) for n in (10, 3))
    assert ten["classifier.weight"].shape != three["classifier.weight"].shape
    assert all(np.array_equal(ten[key], three[key]) for key in ten if not key.startswith("classifier"))


def test_parameters_of_units_are_those_that_the_workload_counts():
    for name in list_networks():
        workload = load_network(name)
        folded = fold(workload, initial_parameters(workload, 0))
        for unit in workload.units:
            assert folded[f"{unit.name}.weight"].size == unit.weight_params
            assert folded.get(f"{unit.name}.bias", np.zeros(0)).size == unit.bias_params
        assert len(folded) == sum(1 + (unit.bias_params > 0) for unit in workload.units)


def test_folding_twice_changes_nothing():
    workload = load_network("resnet8")
    once = fold(workload, lively(workload, initial_parameters(workload, 0)))
    twice = fold(workload, once)
    assert once.keys() == twice.keys()
    assert all(np.array_equal(once[key], twice[key]) for key in once)


def test_every_mistake_in_the_parameters_is_reported():
    workload = load_network("har-cnn-1d")
    parameters = initial_parameters(workload, 0)
    del parameters["conv1.weight"], parameters["conv2.batch_norm.mean"]
    parameters["conv9.weight"] = np.zeros(1, dtype=np.float32)
    parameters["conv3.weight"] = parameters["conv3.weight"][:1]
    parameters["classifier.bias"][0] = np.nan
    with pytest.raises(UserError) as refused:
        build_module(workload, parameters)
    assert [str(problem) for problem in refused.value.problems] == [
        "parameters of har-cnn-1d: conv1.weight: missing; an array of shape (32, 6, 5)",
        "parameters of har-cnn-1d: conv2.batch_norm.mean: missing; an array of shape (32,)",
        "parameters of har-cnn-1d: conv3.weight: shape (1, 32, 3); must be (64, 32, 3)",
        "parameters of har-cnn-1d: classifier.bias: NaN or infinite values; must be finite",
        "parameters of har-cnn-1d: conv9.weight: unknown; a layer of the network and one of its numbers",
    ]


def test_parameters_and_refusals_need_no_pytorch():
    code = (
        "import sys, dse.training.parameters, dse.training.executable, dse.training.geometry; "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)

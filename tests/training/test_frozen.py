"""The frozen stage: fp32 against plain PyTorch, 8 bits against integer kernels, ranges, signs, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dse.errors import IllegalPlan, UserError
from dse.training.frozen import FrozenStage, frozen_features
from dse.training.integer_stage import IntegerStage, groups
from dse.training.network import build_module, infer
from dse.training.parameters import fold, initial_parameters
from dse.training.quantise import EXACT_IN_FP32, Grid, IntegerWeights
from dse.workload import list_networks, load_network
from tests.plan.strategies import BRANCHES, network
from tests.training import integer_kernels as kernels
from tests.training.reference_networks import REFERENCES, lively, reference

torch.set_num_threads(1)

RESIDUAL = """
name = "residual"
title = "t"
source = "s"
input = { channels = 2, height = 6, width = 6 }
classes = 3
legal_cuts = [0, 1, 2, 3, 4]
layers = [
  { kind = "conv2d", name = "stem", out_channels = 4, kernel = 3, then = ["batch_norm", "relu"] },
  { kind = "depthwise", name = "dw", kernel = 3, stride = 2, padding = 1, then = ["batch_norm", "relu6"] },
  { kind = "pointwise", name = "pw", out_channels = 4, then = ["batch_norm"] },
  { kind = "conv2d", name = "mix", inputs = ["pw"], out_channels = 4, kernel = 3, padding = 1, groups = 2 },
  { kind = "add", name = "sum", inputs = ["pw", "mix"] },
  { kind = "global_avg_pool", name = "pool" },
  { kind = "linear", name = "fc", out_features = "classes" },
]
"""


@pytest.fixture(scope="module")
def residual(tmp_path_factory):
    path = tmp_path_factory.mktemp("frozen") / "residual.toml"
    path.write_text(RESIDUAL, encoding="utf-8")
    workload = load_network(path)
    return workload, lively(workload, initial_parameters(workload, 0))


def samples(workload, count=16, seed=3):
    return np.random.default_rng(seed).standard_normal((count, *workload.input_shape)).astype(np.float32)


# --- fp32 ---


@pytest.mark.parametrize("name", REFERENCES)
def test_32_bits_are_the_lower_layers_of_the_network_by_hand(name):
    workload = network(name)
    parameters = lively(workload, initial_parameters(workload, 3))
    by_hand = reference(name, workload, parameters).eval()
    x = samples(workload, 4)
    with torch.inference_mode():
        whole = by_hand.after(torch.from_numpy(x), -1).numpy()
        for cut in (0, 2, 8 if len(workload.units) > 8 else 3):
            latents = frozen_features(workload, parameters, x, cut, 32)
            assert latents.dtype == np.float32
            assert latents.shape == (4, *workload.cut_shape(cut))
            found = by_hand.after(torch.from_numpy(latents), cut).numpy()
            np.testing.assert_allclose(found, whole, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("bits", [8, 32])
def test_at_the_input_the_latent_is_the_sample(residual, bits):
    workload, parameters = residual
    x = samples(workload)
    assert frozen_features(workload, parameters, x, -1, bits) is x


@pytest.mark.parametrize("bits", [8, 32])
def test_at_the_last_cut_the_latent_is_the_vector_that_enters_the_last_unit(residual, bits):
    workload, parameters = residual
    x = samples(workload)
    latents = frozen_features(workload, parameters, x, 4, bits, x)
    assert latents.shape == (16, 4)
    before = frozen_features(workload, parameters, x, 4, 32)
    np.testing.assert_allclose(latents, before, atol=0.1 * np.abs(before).max())


@pytest.mark.parametrize("bits", [8, 32])
def test_the_vector_that_enters_the_only_unit_can_be_the_input(tmp_path, bits):
    path = tmp_path / "one.toml"
    path.write_text(
        'name = "o"\ntitle = "t"\nsource = "s"\ninput = { features = 3 }\nclasses = 2\nlegal_cuts = [0]\n'
        'layers = [{ kind = "linear", name = "a", out_features = "classes" }]\n',
        encoding="utf-8",
    )
    workload = load_network(path)
    x = samples(workload, 5)
    stage = FrozenStage(workload, initial_parameters(workload, 0), 0, bits, x)
    assert stage.features(x) is x
    assert stage.latents_signed
    assert stage.grid is None


# --- 8 bits ---


def unsigned(grid):
    """A grid as integer kernels hold it: scale and zero point."""
    return grid.scale, -grid.low


def test_8_bits_are_those_of_integer_kernels_bit_for_bit(residual):
    """Convolution, depthwise, pointwise, grouped convolution, addition and pooling, with and without ReLU."""
    workload, parameters = residual
    folded, x = fold(workload, parameters), samples(workload, 6)
    known = samples(workload, 40)
    stages = {cut: FrozenStage(workload, parameters, cut, 8, known) for cut in range(5)}
    module = build_module(workload, folded, last_layer=workload.cut_layer(4))
    grids = IntegerStage(module, folded, known).grids
    on = {workload.layers[index].name: unsigned(grid) for index, grid in grids.items() if index >= 0}
    start = unsigned(grids[-1])

    def conv(image, name, source, target, stride, groups_, clamp):
        size = -(-image.shape[1] // stride)
        weight = folded[f"{name}.weight"]
        pad = 1 if weight.ndim == 4 and weight.shape[2] == 3 else 0
        return kernels.convolve(
            image, weight, folded[f"{name}.bias"], source, target, stride, pad, (size, size), groups_, clamp
        )

    for number, image in enumerate(x):
        real = image.astype(np.float64) / start[0]
        u = np.clip(np.floor(real + 0.5) + start[1], 0, 255).astype(np.uint8)
        stem = conv(u, "stem", start, on["stem"], 1, 1, True)
        dw = conv(stem, "dw", on["stem"], on["dw"], 2, 4, True)
        pw = conv(dw, "pw", on["dw"], on["pw"], 1, 1, False)
        mix = conv(pw, "mix", on["pw"], on["mix"], 1, 2, False)
        total = kernels.add([pw, mix], [on["pw"], on["mix"]], on["sum"])
        pooled = kernels.mean(total, on["sum"][1])
        for cut, tensor, name in (
            (0, stem, "stem"),
            (1, dw, "dw"),
            (2, pw, "pw"),
            (3, total, "sum"),
            (4, pooled, "sum"),
        ):
            scale, zero = on[name]
            found = stages[cut].features(x[number : number + 1])[0]
            expected = ((tensor.astype(np.int64) - zero) * scale).astype(np.float32)
            assert len(np.unique(tensor)) > 3
            np.testing.assert_array_equal(found, expected, err_msg=f"cut {cut}, sample {number}")


@pytest.mark.parametrize("name", [*list_networks(), BRANCHES])
def test_8_bits_stay_near_32_and_on_256_levels(name):
    images = ("mobilenet", "mcunet", "proxyless")
    workload = network(f"{name}@resolution=32" if name.startswith(images) else name)
    parameters = lively(workload, initial_parameters(workload, 0))
    x = samples(workload, 8)
    for cut in (workload.legal_cuts[0], workload.legal_cuts[len(workload.legal_cuts) // 2]):
        exact = frozen_features(workload, parameters, x, cut, 32)
        stage = FrozenStage(workload, parameters, cut, 8, x)
        found = stage.features(x)
        q = found / stage.grid.scale
        np.testing.assert_allclose(q, np.rint(q), atol=1e-3)
        assert q.min() >= stage.grid.low - 0.5
        assert q.max() <= stage.grid.high + 0.5
        assert stage.grid.high - stage.grid.low == 255
        noise = np.sqrt(np.mean((found - exact) ** 2) / np.mean(exact**2))
        assert 0 < noise < 0.2


def test_ranges_are_those_of_the_calibration_samples(residual):
    workload, parameters = residual
    x = samples(workload, 30)
    latents = frozen_features(workload, parameters, x, 2, 32)
    grid = FrozenStage(workload, parameters, 2, 8, x).grid
    assert grid.scale == pytest.approx((latents.max() - latents.min()) / 255, rel=1e-3)
    assert grid.low * grid.scale == pytest.approx(latents.min(), abs=grid.scale)
    stage = FrozenStage(workload, parameters, 2, 8, 0.1 * x)
    assert stage.features(x).max() == pytest.approx(stage.grid.high * stage.grid.scale)  # beyond: clipped
    assert stage.grid.scale < grid.scale


def test_nothing_is_rounded_between_a_convolution_its_norm_and_its_rectifier():
    workload = network("resnet8")
    found = groups(workload, range(len(workload.layers)))
    names = {
        workload.layers[head].name: [workload.layers[i].name for i in own] for head, own in found.items()
    }
    assert names["conv1"] == ["conv1", "conv1.batch_norm", "conv1.relu"]
    assert names["stack1/conv2"] == ["stack1/conv2", "stack1/conv2.batch_norm"]
    assert names["stack1/add"] == ["stack1/add", "stack1/add.relu"]
    assert names["pool"] == ["pool"]
    assert sum(map(len, names.values())) == len(workload.layers)


def test_a_rectifier_that_is_not_the_only_reader_stands_alone(tmp_path):
    path = tmp_path / "n.toml"
    path.write_text(
        'name = "n"\ntitle = "t"\nsource = "s"\ninput = { features = 3 }\nclasses = 2\nlegal_cuts = [0, 1]\n'
        'layers = [\n  { kind = "linear", name = "a", out_features = 4 },\n'
        '  { kind = "relu6", name = "r", inputs = ["a"] },\n'
        '  { kind = "add", name = "s", inputs = ["a", "r"] },\n'
        '  { kind = "linear", name = "b", out_features = "classes" },\n]\n',
        encoding="utf-8",
    )
    workload = load_network(path)
    parameters = initial_parameters(workload, 0)
    assert groups(workload, range(3)) == {0: [0], 1: [1], 2: [2]}
    x = 4 * samples(workload, 200)
    exact = x @ parameters["a.weight"].T + parameters["a.bias"]
    exact = exact + np.clip(exact, 0, 6)
    found = frozen_features(workload, parameters, x, 1, 8, x)
    assert np.abs(found - exact).max() < 4 * np.ptp(exact) / 255


def test_wide_layers_sum_exactly_as_well(tmp_path):
    """3000 products of up to 127 x 255 exceed what fp32 counts exactly."""
    path = tmp_path / "wide.toml"
    path.write_text(
        'name = "w"\ntitle = "t"\nsource = "s"\ninput = { features = 3000 }\nclasses = 2\nlegal_cuts = [0]\n'
        'layers = [\n  { kind = "linear", name = "a", out_features = 3 },\n'
        '  { kind = "linear", name = "b", out_features = "classes" },\n]\n',
        encoding="utf-8",
    )
    workload = load_network(path)
    weight, bias = np.full((3, 3000), 0.5, np.float32), np.array([0.1, 0.2, -0.3], np.float32)
    weight[:, ::7] = 0.123
    parameters = initial_parameters(workload, 0) | {"a.weight": weight, "a.bias": bias}
    x = np.random.default_rng(0).uniform(0, 1, (5, 3000)).astype(np.float32)
    source = Grid.over(0, float(x.max()))
    stage = FrozenStage(workload, parameters, 0, 8, x)
    assert 500 * 127 * 255 < EXACT_IN_FP32 < 2500 * 127 * 255
    assert IntegerWeights.of(weight[:, :500], bias, source, stage.grid).dtype == torch.float32
    assert IntegerWeights.of(weight, bias, source, stage.grid).dtype == torch.float64
    images = np.floor(x / source.scale + 0.5).clip(0, 255).astype(np.uint8).reshape(5, 3000, 1, 1)
    filters, target = weight.reshape(3, 3000, 1, 1), unsigned(stage.grid)
    expected = [
        kernels.convolve(image, filters, bias, (source.scale, 0), target, 1, 0, (1, 1), 1, False).ravel()
        for image in images
    ]
    found = stage.features(x) / target[0] + target[1]
    np.testing.assert_array_equal(np.rint(found), expected)


@given(st.floats(-100, 100), st.floats(0.001, 100), st.integers(0, 999))
def test_a_grid_spans_its_range_and_holds_zero(least, span, seed):
    grid = Grid.over(least, least + span)
    low, high = min(least, 0.0), max(least + span, 0.0)
    assert grid.low <= 0 <= grid.high == grid.low + 255
    assert grid.low * grid.scale <= low + grid.scale
    assert grid.high * grid.scale >= high - grid.scale
    x = torch.from_numpy(np.random.default_rng(seed).uniform(low, high, 50))
    assert float((grid.values(grid.integers(x)) - x).abs().max()) <= 1.001 * grid.scale
    assert torch.equal(grid.integers(grid.values(grid.integers(x))), grid.integers(x))


def test_halves_are_rounded_upwards():
    grid = Grid(0.5, -128, 127)
    assert grid.integers(torch.tensor([0.25, -0.25, 0.75, 99.0, -99.0])).tolist() == [
        1.0,
        0.0,
        2.0,
        127.0,
        -128.0,
    ]


def test_channels_without_weights_keep_their_bias():
    weight, bias = np.zeros((2, 4), dtype=np.float32), np.array([0.3, -2.0], dtype=np.float32)
    weight[1] = 1e-12
    source, target = Grid.over(0, 1), Grid.over(-2, 1)
    numbers = IntegerWeights.of(weight, bias, source, target)
    found = numbers.bias * numbers.factor * target.scale
    np.testing.assert_allclose(found, bias, rtol=1e-5)
    assert np.abs(numbers.bias).max() <= 2**28


def test_the_same_samples_give_the_same_bits(residual):
    workload, parameters = residual
    x = samples(workload, 20)
    for bits in (8, 32):
        first, again = (frozen_features(workload, parameters, x, 4, bits, x) for _ in range(2))
        assert np.array_equal(first, again)
    whole = frozen_features(workload, parameters, x, 4, 8, x)
    assert np.array_equal(frozen_features(workload, parameters, x[7:9], 4, 8, x), whole[7:9])


# --- signs ---


def test_latents_are_signed_unless_a_rectifier_stands_before_them(residual):
    workload, parameters = residual
    x = samples(workload)
    signs = {cut: FrozenStage(workload, parameters, cut, 32).latents_signed for cut in range(5)}
    assert signs == {0: False, 1: False, 2: True, 3: True, 4: True}
    for cut, signed in signs.items():
        assert (frozen_features(workload, parameters, x, cut, 32).min() < 0) == signed
    assert FrozenStage(workload, parameters, -1, 32).latents_signed
    assert FrozenStage(workload, parameters, -1, 32, x).latents_signed
    assert not FrozenStage(workload, parameters, -1, 32, np.abs(x)).latents_signed


def test_pools_and_residuals_of_rectified_tensors_are_not_signed():
    workload = network("resnet8")
    parameters = initial_parameters(workload, 0)
    assert not any(FrozenStage(workload, parameters, cut, 32).latents_signed for cut in workload.legal_cuts)
    workload = network("mobilenet-v2-w0.35@resolution=32")
    parameters = initial_parameters(workload, 0)
    x = samples(workload, 4)
    for cut in workload.legal_cuts[:8]:
        stage = FrozenStage(workload, parameters, cut, 32)
        assert stage.latents_signed == (stage.features(x).min() < 0)


# --- refusals ---


@pytest.mark.parametrize(
    ("calibration", "found"),
    [
        (None, "no samples"),
        (np.zeros((0, 2, 6, 6), np.float32), "no samples"),
        (np.zeros((3, 2, 6, 7), np.float32), r"shape \(2, 6, 7\)"),
        (np.full((3, 2, 6, 6), np.nan, np.float32), "NaN or infinite values"),
    ],
)
def test_calibration_samples_that_say_nothing_are_refused(residual, calibration, found):
    workload, parameters = residual
    with pytest.raises(UserError, match=rf"calibration: {found}; one sample or more of shape \(2, 6, 6\)"):
        FrozenStage(workload, parameters, 0, 8, calibration)


def test_bits_and_cuts_that_do_not_exist_are_refused(residual):
    workload, parameters = residual
    with pytest.raises(UserError, match="plan: frozen_bits: 4; 8 or 32"):
        FrozenStage(workload, parameters, 0, 4, samples(workload))
    workload = network("resnet8")
    with pytest.raises(IllegalPlan, match="2 tensors cross at unit 1"):
        FrozenStage(workload, initial_parameters(workload, 0), 1, 32)


def test_calibration_that_never_varies_gives_zeros_that_stay_finite(residual):
    workload, parameters = residual
    x = np.zeros((4, *workload.input_shape), dtype=np.float32)
    latents = FrozenStage(workload, parameters, 0, 8, x).features(x)
    assert np.all(np.isfinite(latents))
    exact = infer(build_module(workload, parameters, last_layer=workload.cut_layer(0)), x)
    np.testing.assert_allclose(latents, exact, atol=0.01 * np.abs(exact).max())

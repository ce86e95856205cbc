"""One layer at a time: hand-computed cases, and sums written out product by product in Python's integers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dse.errors import UserError
from dse.execution.int8.constants import Constants, Steps
from dse.execution.int8.forward import NO_LOGITS, IntegerForward
from dse.execution.int8.grid import Grid, multiplier
from dse.execution.int8.groups import Groups
from dse.execution.int8.learning import Int8, learning
from dse.execution.int8.prepare import prepared_learning
from dse.execution.optimisers import Optimiser
from dse.execution.weighted import Weighted
from dse.plan.decisions import TrainingPlan
from dse.plan.operations import Holds
from tests.execution.int8.small import channels_of, folded_parameters, links, network_of, shifted

PLAN = TrainingPlan(
    cut=-1, replay="raw", learning_dtype="int8", weight_rounding="nearest", gradient_scaling="none"
)
LINEAR = (
    '{ kind = "global_avg_pool", name = "gap" }, { kind = "linear", name = "fc", out_features = "classes" }'
)


def layer_network(entry: str, channels=2, size=5):
    """A network whose first layer is ``entry``, named ``x``."""
    return network_of(f"{entry},\n{LINEAR}", channels, size)


def one_layer(workload, source, target, plan=PLAN, seed=0):
    """Arithmetic of ``workload`` whose first layer goes from ``source`` to ``target``, and its integers."""
    draw = np.random.default_rng(seed)
    known = draw.standard_normal((4, *workload.input_shape)).astype(np.float32)
    ready = prepared_learning(workload, plan, folded_parameters(workload, seed), known)
    grids = {**ready.constants.grids, -1: source, 0: target}
    steps = dict(ready.constants.steps)
    if 0 in steps:
        own = steps[0]
        sums = source.scale * own.weight
        steps[0] = Steps(own.weight, sums, multiplier(sums / target.scale), multiplier(sums / target.scale))
    numbers = {key.rsplit(".", 1)[1]: q for key, q in ready.numbers.items() if key.startswith("x.")}
    return learning(workload, plan, Constants(grids, steps), Optimiser(rate=0.1)), numbers, steps.get(0)


# --- by hand ---


TWO = """
{ kind = "flatten", name = "flat" },
{ kind = "linear", name = "a", out_features = 2 },
{ kind = "linear", name = "fc", out_features = "classes" }"""


def linear_arithmetic(plan=PLAN):
    """Two linear layers behind an image of one position; sums of the first count half in its output."""
    workload, half = network_of(TWO, 2, 1), np.full(2, 0.5)
    ones = np.ones(3)
    steps = {
        1: Steps(np.array([0.5, 0.25]), np.array([0.05, 0.025]), half, half),
        2: Steps(ones, ones, ones, ones),
    }
    source = Grid(0.1, -10, 245)
    grids = {-1: source, 0: source, 1: Grid(0.2, -3, 252)}
    return Int8(workload, plan, Constants(grids, steps), range(3), 2, Optimiser(rate=1.0))


WEIGHT = np.array([[3, -2], [1, 4]], np.int8)
BIAS = np.array([5, -7], np.int32)


def test_a_linear_layer_by_hand():
    own = {"weight": WEIGHT, "bias": BIAS}
    held = np.array([[12, 9], [10, 0]], np.uint8)  # q = (2, -1), (0, -10)
    done = linear_arithmetic().forward(1, [held], own, keep=True)
    # sums 3*2+2+5 = 13, 2-4-7 = -9; 20+5 = 25, -40-7 = -47; halved, halves upwards: 7, -4; 13, -23
    assert (done.output.astype(int) - 3).tolist() == [[7, -3], [13, -3]]
    assert done.kept[Holds.CLAMP, 1].tolist() == [[True, False], [True, False]]


def test_logits_are_real_values_of_32_bits():
    x = np.array([[4, 3]], np.uint8)  # on the grid of layer 1: q = (1, 0)
    own = {
        "weight": np.array([[100, 1], [-100, 1], [0, 1]], np.int8),
        "bias": np.array([10**6, 0, 1], np.int32),
    }
    done = linear_arithmetic().forward(2, [x], own, keep=True)
    assert done.output.dtype == np.float32
    assert done.output.tolist() == [[1000100.0, -100.0, 1.0]]
    assert done.kept == {}


def test_gradients_of_a_linear_layer_by_hand():
    arithmetic = linear_arithmetic()
    error, held = np.array([[1.0, -2.0], [0.5, 0.0]], np.float32), np.array([[12, 9], [10, 0]], np.uint8)
    operand = arithmetic.operand(1, held)
    assert operand.dtype == np.float32
    assert operand.tolist() == [[2, -1], [0, -10]]
    found = arithmetic.weight_gradient(1, error, operand, None)
    # q times error, summed, times the step 0.1 of the input
    np.testing.assert_allclose(found.reshape(2, 2), [[0.2, -0.6], [-0.4, 0.2]], rtol=1e-6)
    assert arithmetic.affine_gradient(1, error, {}, {})["bias"].tolist() == [1.5, -2.0]
    (passed,) = arithmetic.input_errors(1, error, {"weight": WEIGHT}, {})
    # real weights (1.5, -1), (0.25, 1)
    np.testing.assert_allclose(passed, [[1.0, -3.0], [0.75, -0.5]], rtol=1e-6)


def test_the_scales_of_int8_errors_end_with_their_micro_batch():
    arithmetic = linear_arithmetic(replace(PLAN, backward_dtype="int8"))
    first = arithmetic.error_written(1, None, np.array([[1.27, 0.64]]))
    half = arithmetic.error_read(1, first) * np.array([0, 1])
    assert arithmetic.error_written(1, None, half).tolist() == [[0, 64]]
    arithmetic.loss(np.zeros((1, 3), np.float32), np.array([0]), (0, 1, 2), 1)
    assert arithmetic.error_written(1, None, half).tolist() == [[0, 127]]


def test_a_kernel_takes_one_rectifier_along():
    entry = '{ kind = "conv2d", name = "x", out_channels = 2, kernel = 3, then = ["relu", "relu6"] }'
    workload = layer_network(entry)
    assert Groups.of(workload, range(4)).members == {0: [0, 1], 2: [2], 3: [3]}


def test_integers_move_by_their_own_gradient_or_by_that_of_real_weights():
    gradient = np.array([[1.0, -1.0], [8.0, 600.0]], np.float32)
    found = linear_arithmetic().update("a.weight", WEIGHT, gradient, [])
    assert found.tolist() == [[3, -1], [-1, -127]]  # 2.5 -> 3, -1.5 -> -1; steps of 0.5 and 0.25
    scaled = linear_arithmetic(replace(PLAN, gradient_scaling="qas")).update("a.weight", WEIGHT, gradient, [])
    assert scaled.tolist() == [[1, 0], [-31, -127]]
    bias = linear_arithmetic().update("a.bias", BIAS, np.array([20.0, 400.0], np.float32), [])
    assert bias.dtype == np.int32
    assert bias.tolist() == [4, -17]


def test_gradients_that_are_not_finite_are_refused():
    with pytest.raises(UserError, match="not finite"):
        linear_arithmetic().update("a.bias", BIAS, np.array([np.nan, 0], np.float32), [])


def test_sums_that_could_leave_int32_are_refused():
    workload = network_of('{ kind = "flatten", name = "flat" },\n'
                          '{ kind = "linear", name = "fc", out_features = "classes" }', 8, 128)  # fmt: skip
    ones = np.ones(3)
    constants = Constants({-1: Grid(1, 0, 255), 0: Grid(1, 0, 255)}, {1: Steps(ones, ones, ones, ones)})
    with pytest.raises(UserError, match="sums of 131072 products"):
        IntegerForward(workload, constants, range(2), 1)


def test_what_lacks_constants_is_named():
    workload = network_of(f'{{ kind = "conv2d", name = "x", out_channels = 2, kernel = 3 }},\n{LINEAR}')
    with pytest.raises(UserError) as caught:
        IntegerForward(workload, Constants({-1: Grid(1, 0, 255)}, {}), range(3), NO_LOGITS)
    text = str(caught.value)
    assert all(part in text for part in ("layers.x: no steps", "layers.fc: no steps", "layers.gap: no grid"))


# --- convolutions of any shape ---


@st.composite
def convolutions(draw):
    """Draw an entry of a convolution, its input channels and size."""
    groups = draw(st.sampled_from((1, 1, 2, 4)))
    channels, out = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    kernel, stride = draw(st.sampled_from((1, 2, 3))), draw(st.integers(1, 2))
    padding = draw(st.sampled_from(('"same"', "0", "1", "[[0, 1], [0, 1]]", "[[2, 0], 1]")))
    dilation = draw(st.sampled_from((1, 1, 2))) if kernel < 3 or padding == '"same"' else 1
    size = draw(st.integers(3, 6))
    clamp = draw(st.sampled_from(("", ', then = ["relu"]', ', then = ["relu6"]')))
    entry = (
        f'{{ kind = "conv2d", name = "x", out_channels = {out}, kernel = {kernel}, stride = {stride}, '
        f"padding = {padding}, dilation = {dilation}, groups = {groups}{clamp} }}"
    )
    return entry, channels, size


@settings(max_examples=40, deadline=None)
@given(convolutions(), st.integers(0, 2**31))
def test_sums_of_a_convolution_are_those_of_single_products(case, seed):
    entry, channels, size = case
    workload = layer_network(entry, channels, size)
    source, target = Grid(0.03, -100, 155), Grid(0.05, -90, 165)
    arithmetic, own, steps = one_layer(workload, source, target, seed=seed)
    draw = np.random.default_rng(seed)
    held = draw.integers(0, 256, (2, *workload.input_shape)).astype(np.uint8)
    geometry = Weighted.of(workload.layers[0], workload.input_shape)
    rectifier = workload.layers[1].kind if workload.layers[1].kind.startswith("relu") else ""
    low, high = target.limits(rectifier)
    done = arithmetic.forward(0, [held], own, keep=True)
    sums = np.zeros((2, *workload.shapes[0]), dtype=object)
    for out, into, inside in channels_of(geometry):
        for row, column, up, left, y, x in links(geometry):
            for sample in range(2):
                q = int(held[sample, into, y, x]) + source.low
                sums[sample, out, row, column] += q * int(own["weight"][out, inside, up, left])
    for place in np.ndindex(*sums.shape):
        whole = shifted(sums[place] + int(own["bias"][place[1]]), steps.sums[place[1]])
        assert int(done.output[place]) + target.low == min(max(whole, low), high)
        assert done.kept[Holds.CLAMP, 0][place] == (low <= whole <= high)
    if rectifier:
        assert np.array_equal(done.kept[Holds.MASK, 1], done.kept[Holds.CLAMP, 0])
        after = arithmetic.forward(1, [done.output], {}, keep=True)
        assert np.array_equal(after.output, done.output)
        assert after.kept == {}


@settings(max_examples=40, deadline=None)
@given(convolutions(), st.integers(0, 2**31), st.booleans())
def test_gradients_of_a_convolution_are_sums_of_single_products(case, seed, narrow):
    entry, channels, size = case
    workload = layer_network(entry, channels, size)
    source = Grid(0.03, -100, 155)
    plan = replace(PLAN, backward_dtype="int8") if narrow else PLAN
    arithmetic, own, steps = one_layer(workload, source, Grid(0.05, -90, 165), plan, seed)
    draw = np.random.default_rng(seed)
    held = draw.integers(0, 256, (2, *workload.input_shape)).astype(np.uint8)
    error = draw.normal(0, 1, (2, *workload.shapes[0])).astype(np.float32)
    chosen = np.flatnonzero(draw.random(channels) < 0.6)
    if narrow:
        error = arithmetic.error_read(0, arithmetic.error_written(0, None, error))
    geometry = Weighted.of(workload.layers[0], workload.input_shape)
    weights, into_errors = np.zeros(own["weight"].shape), np.zeros(held.shape)
    for out, into, inside in channels_of(geometry):
        for row, column, up, left, y, x in links(geometry):
            q = (held[:, into, y, x].astype(float) + source.low) * source.scale
            weights[out, inside, up, left] += (error[:, out, row, column] * q).sum()
            real = float(own["weight"][out, inside, up, left]) * steps.weight[out]
            into_errors[:, into, y, x] += error[:, out, row, column] * real
    operand = arithmetic.operand(0, held)
    assert operand.dtype == (np.uint8 if narrow else np.float32)
    found = arithmetic.weight_gradient(0, error, operand, None)
    np.testing.assert_allclose(found.reshape(weights.shape), weights, rtol=1e-6, atol=1e-6)
    (passed,) = arithmetic.input_errors(0, error, own, {})
    np.testing.assert_allclose(passed, into_errors, rtol=1e-6, atol=1e-6)
    if len(chosen):
        part = arithmetic.weight_gradient(0, error, operand[:, chosen], chosen)
        np.testing.assert_array_equal(part, geometry.chosen(found, chosen))


# --- layers without weights ---


def closed(kind, inputs, sources, target, extra=""):
    """Run a layer of ``kind`` on inputs that a stage of its own holds on ``sources``."""
    entries = [
        f'{{ kind = "pointwise", name = "p{k}", inputs = ["input"], out_channels = {x.shape[1]} }}'
        for k, x in enumerate(inputs)
    ]
    names = ", ".join(f'"p{k}"' for k in range(len(inputs)))
    entries += [f'{{ kind = "{kind}", name = "x", inputs = [{names}]{extra} }}', LINEAR]
    if kind == "global_avg_pool":
        entries[-1] = '{ kind = "linear", name = "fc", out_features = "classes" }'
    workload = network_of(",\n".join(entries), 1, inputs[0].shape[2])
    known = np.random.default_rng(0).standard_normal((3, *workload.input_shape)).astype(np.float32)
    ready = prepared_learning(workload, PLAN, folded_parameters(workload), known)
    layer = len(inputs)
    grids = {**ready.constants.grids, **dict(enumerate(sources)), layer: target}
    arithmetic = learning(workload, PLAN, replace(ready.constants, grids=grids), Optimiser())
    return arithmetic, layer, arithmetic.forward(layer, list(inputs), {}, keep=True)


def test_an_addition_moves_both_inputs_to_its_grid():
    a, b = (np.array([[[[0, 10], [200, 255]]]], np.uint8), np.array([[[[5, 5], [255, 255]]]], np.uint8))
    sources, target = (Grid(0.5, -10, 245), Grid(0.25, -5, 250)), Grid(0.5, -20, 235)
    _, layer, done = closed("add", (a, b), sources, target)
    # q of a: -10, 0, 190, 245; of b: 0, 0, 250, 250, half of which counts: -10, 0, 315, 370
    assert (done.output.astype(int) - 20).tolist() == [[[[-10, 0], [235, 235]]]]
    assert done.kept[Holds.CLAMP, layer].tolist() == [[[[True, True], [False, False]]]]


def test_tensors_are_moved_by_a_mantissa_of_24_bits():
    x = np.array([[[[5]]]], np.uint8)
    _, _, done = closed("concat", (x, x), (Grid(0.7, 0, 255), Grid(0.5, 0, 255)), Grid(1.0, 0, 255))
    assert done.output.ravel().tolist() == [3, 3]  # 3.5 less a hair, and 2.5


def test_a_concatenation_keeps_no_mask():
    a, b = (np.full((1, 1, 1, 1), 255, np.uint8), np.full((1, 2, 1, 1), 12, np.uint8))
    sources, target = (Grid(1.0, 0, 255), Grid(0.5, -10, 245)), Grid(0.5, -10, 245)
    _, _, done = closed("concat", (a, b), sources, target)
    assert done.output.ravel().tolist() == [255, 12, 12]
    assert done.kept == {}


@pytest.mark.parametrize(
    ("kind", "expected"), [("avg_pool", [[4, 5], [3, 7]]), ("max_pool", [[6, 9], [6, 7]])]
)
def test_pools_stay_on_their_grid(kind, expected):
    x = np.array([[[[6, 2, 1, 9], [3, 3, 5, 4], [0, 6, 7, 7], [6, 0, 7, 7]]]], np.uint8)
    grid = Grid(0.1, -4, 251)
    _, layer, done = closed(kind, (x,), (grid,), grid, ", kernel = 2, stride = 2")
    # means of bytes 3.5, 4.75, 3, 7, halves upwards
    assert done.output[0, 0].tolist() == expected
    if kind == "max_pool":
        assert done.kept[Holds.INDEX, layer][0, 0].tolist() == [[0, 1], [1, 0]]


def test_padding_never_wins_against_the_lowest_level():
    x = np.zeros((1, 1, 3, 3), np.uint8)
    grid = Grid(0.1, -4, 251)
    arithmetic, layer, done = closed("max_pool", (x,), (grid,), grid, ", kernel = 3, stride = 2, padding = 1")
    assert not done.output.any()
    (passed,) = arithmetic.input_errors(layer, np.ones((1, 1, 2, 2), np.float32), {}, done.kept)
    assert passed.sum() == 4


def test_hard_swish_is_a_table_that_keeps_its_input():
    x = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    source, target = Grid(0.0625, -128, 127), Grid(0.02, -19, 236)  # both bends are on the grid
    arithmetic, layer, done = closed("hard_swish", (x,), (source,), target)
    real = (np.arange(256) - 128) * 0.0625
    wanted = np.clip(np.floor(real * np.clip(real + 3, 0, 6) / 6 / 0.02 + 0.5), -19, 236)
    assert np.array_equal(done.output.ravel() - 19.0, wanted)
    assert np.array_equal(done.kept[Holds.SAVED_INPUT, layer], x)
    (passed,) = arithmetic.input_errors(layer, np.full(x.shape, 2.0, np.float32), {}, done.kept)
    slope = np.where(real <= -3, 0, np.where(real >= 3, 1, real / 3 + 0.5))
    np.testing.assert_allclose(passed.ravel(), 2 * slope, atol=1e-6)


def test_a_global_average_rounds_halves_upwards():
    x = np.array([[[[1, 2], [2, 2]], [[1, 1], [2, 2]]]], np.uint8)
    grid = Grid(0.1, -2, 253)
    _, _, done = closed("global_avg_pool", (x,), (grid,), grid)
    assert done.output.tolist() == [[2, 2]]
